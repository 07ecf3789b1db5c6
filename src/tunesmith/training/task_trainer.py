"""The Trainer of a run: its task's loss, its method's parameter groups, its checkpoints, and signals."""

from __future__ import annotations

import functools
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.trainer_pt_utils import nested_concat

from tunesmith.errors import Interrupted, ModelError, is_out_of_memory
from tunesmith.text import counted
from tunesmith.training.parts import Parts, cut, fitting_memory, free_memory
from tunesmith.training.resuming import take_up_loss
from tunesmith.training.sampling import trim_padding
from tunesmith.training.trainer import Trainer

if TYPE_CHECKING:
    from tunesmith.training.fitting import Fitting


class TaskTrainer(Trainer):
    """Takes the steps of a `Fitting`.

    Args:
        fitting: the run: its loss, parameter groups, checkpoints and requests to stop.
        given: as of `Trainer`, by position or by name.
    """

    _tunesmith_agreed = True

    def __init__(self, fitting: Fitting, *positional: Any, **given: Any) -> None:
        super().__init__(fitting.model, *positional, **given)
        self.fitting = fitting
        self._tunesmith_prefix, self._tunesmith_identity = fitting.phase, fitting.identity
        self._tunesmith_resuming = fitting.again
        self._tunesmith_head = fitting.loss()
        self._step_before: int | None = None
        self._last_save = time.monotonic()
        self.parts = Parts.of(Path(str(self.args.output_dir)) / f"{fitting.phase}-parts.json", fitting.resume)
        self._loss_before: Any = 0.0
        self._taken: list[dict[str, Any]] = []

    _tunesmith_rate = "training.lr"

    def _tunesmith_outputs(self, model: nn.Module, inputs: dict[str, Any]) -> Any:
        return {"logits": self.fitting.task.model_logits(model(**inputs), inputs["attention_mask"])}

    def _tunesmith_trimmed(self, inputs: dict[str, Any]) -> dict[str, Any]:
        shape = inputs["attention_mask"].shape
        keys = [key for key, value in inputs.items() if isinstance(value, torch.Tensor) and value.shape[:2] == shape]
        return trim_padding(inputs, keys, left=True)

    def _tunesmith_differs(self, problem: str) -> None:
        raise ModelError(problem)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            target = self.model if model is None else model
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, target)
            self.optimizer = kind(self.fitting.method.parameter_groups(target, self.fitting.settings), **options)
        return super().create_optimizer(model)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self._last_save = time.monotonic()
        self.fitting.stop.saved = self._everything_saved()

    def _everything_saved(self) -> str:
        where = f"step {self.state.global_step} of {self.state.max_steps}"
        return f"everything up to {where} is saved, and {self.fitting.again} goes on"

    def get_batch_samples(self, *positional: Any, **named: Any) -> Any:
        """See `Trainer.get_batch_samples`."""
        self._loss_before, self._taken = self._tr_loss.clone(), []
        return super().get_batch_samples(*positional, **named)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """See `Trainer.training_step`; where memory runs out, the optimizer step begins anew in smaller parts.

        Raises:
            ResourceError: not even one row fits.
        """
        self._taken.append(inputs)
        batches, step = [inputs], self.state.global_step
        while True:
            rows = self.parts.at(step)
            try:
                # What is logged is added up as it is for micro-batches, which the caller adds one by one.
                *before, last = (part for batch in batches for part in cut(batch, rows))
                for part in before:
                    self._tr_loss += super().training_step(model, part, num_items_in_batch)
                return super().training_step(model, last, num_items_in_batch)
            except Exception as error:
                if not is_out_of_memory(error) or self.args.world_size > 1:
                    raise
                most = max(len(batch["input_ids"]) for batch in batches)
                rows = self.parts.halve(step, most if rows is None else min(rows, most), error)
            batches = self._taken
            model.zero_grad()
            if self._tunesmith_engine is not None:
                self._tunesmith_engine.free()
            free_memory()
            self._tr_loss.copy_(self._loss_before)
            self._tunesmith_losses.clear()
            self._tunesmith_seed_step()
            self.fitting.progress.line(
                f"note: out of memory in step {step + 1}; taken in parts of {counted(rows, 'row')}"
            )

    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *positional: Any, **named: Any) -> Any:
        """See `Trainer.prediction_step`; a request to stop does not wait for the end of an evaluation."""
        if self.fitting.stop.arrived is not None:
            raise Interrupted(self.fitting.stop.words, self.fitting.stop.exit_code)

        def predicted(rows: int) -> Any:
            parts = cut(inputs, rows)
            found = [super(TaskTrainer, self).prediction_step(model, part, *positional, **named) for part in parts]
            return found[0] if len(found) == 1 else self._joined(parts, found)

        return fitting_memory(predicted, len(inputs["input_ids"]))

    def _joined(self, parts: list[dict[str, Any]], found: list[Any]) -> Any:
        """Loss, outputs and labels of a batch that was predicted in parts."""
        losses, *tensors = zip(*found, strict=True)
        assert self._tunesmith_head is not None
        means = torch.stack(losses)
        weights = torch.stack([self._tunesmith_head.weight(part["labels"]) for part in parts]).to(means.device)
        loss = (means * weights).sum() / weights.sum()
        return loss, *(functools.reduce(nested_concat, one) for one in tensors)

    def _run_epoch(self, *positional: Any, **options: Any) -> None:
        self._evaluate_if_owed(options["trial"], options["start_time"])
        if self.control.should_training_stop:
            return
        self._step_before = None
        self.fitting.begin_epoch(int(self.state.epoch or 0), int(self.state.num_train_epochs))
        super()._run_epoch(*positional, **options)

    def _finalize_training(self, trial: Any, num_train_samples: Any, start_time: Any) -> Any:
        self._evaluate_if_owed(trial, start_time)
        return super()._finalize_training(trial, num_train_samples, start_time)

    def _evaluate_if_owed(self, trial: Any, start_time: Any) -> None:
        """The evaluation at the end of an epoch, where the run that is resumed was stopped in it."""
        take_up_loss(self)
        step, resumed = self.state.global_step, self.state.global_step == self._initial_global_step
        at_end = step and step % self.fitting.steps_per_epoch == 0 and self.args.eval_strategy == "epoch"
        evaluated = any(row["step"] == step and "eval_loss" in row for row in self.state.log_history)
        if resumed and at_end and not evaluated:
            self.control = self.callback_handler.on_epoch_end(self.args, self.state, self.control)
            self._step_before = step
            self._maybe_log_save_evaluate(self._tr_loss, None, self.model, trial, None, None, start_time)

    def _maybe_log_save_evaluate(self, *positional: Any, **options: Any) -> None:
        self.parts.keep()
        # The last step of an epoch is followed by the epoch's own evaluation and save, which must not be lost: this is
        # called for the step, and then again for the epoch.
        step, epoch, stop = self.state.global_step, self.state.epoch or 0.0, self.fitting.stop
        epoch_ends_next = epoch == math.floor(epoch) and step != self._step_before
        self._step_before = step
        stopping = stop.signum is not None and not epoch_ends_next
        overdue = time.monotonic() - self._last_save > 60 * self.fitting.settings.save_minutes
        self.control.should_save |= (stopping or overdue) and not epoch_ends_next
        try:
            super()._maybe_log_save_evaluate(*positional, **options)
        except Interrupted:  # in the evaluation, with which a resumed run begins
            self._save_checkpoint(self.model, None)
            stopping = True
        if stopping:
            raise Interrupted(stop.words, stop.exit_code)
