"""The Trainer of a run: its task's loss, its method's parameter groups, its checkpoints, and signals."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tunesmith.errors import Interrupted, ModelError
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
        self._tunesmith_head = fitting.loss()
        self._step_before: int | None = None
        self._last_save = time.monotonic()

    _tunesmith_resuming, _tunesmith_rate = "output.resume=true", "training.lr"

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
        return f"everything up to {where} is saved, and the same command goes on ({self._tunesmith_resuming})"

    def prediction_step(self, *positional: Any, **named: Any) -> Any:
        """See `Trainer.prediction_step`; a request to stop does not wait for the end of an evaluation."""
        if self.fitting.stop.arrived is not None:
            raise Interrupted(self.fitting.stop.words, self.fitting.stop.exit_code)
        return super().prediction_step(*positional, **named)

    def _run_epoch(self, *positional: Any, **options: Any) -> None:
        self._evaluate_if_owed(options["trial"], options["start_time"])
        if self.control.should_training_stop:
            return
        self._step_before = None
        self.fitting.begin_epoch(int(self.state.epoch or 0), int(self.state.num_train_epochs))
        super()._run_epoch(*positional, **options)

    def _finalize_training(self, trial: Any, num_train_samples: Any, start_time: Any) -> Any:
        self._evaluate_if_owed(trial, start_time)
        return super()._finalize_training(trial, num_train_samples, start_time)  # type: ignore[no-untyped-call]

    def _evaluate_if_owed(self, trial: Any, start_time: Any) -> None:
        """The evaluation at the end of an epoch, where the run that is resumed was stopped in it."""
        step, resumed = self.state.global_step, self.state.global_step == self._initial_global_step
        at_end = step and step % self.fitting.steps_per_epoch == 0 and self.args.eval_strategy == "epoch"
        evaluated = any(row["step"] == step and "eval_loss" in row for row in self.state.log_history)
        if resumed and at_end and not evaluated:
            self.control = self.callback_handler.on_epoch_end(self.args, self.state, self.control)
            self._step_before = step
            self._maybe_log_save_evaluate(self._tr_loss, None, self.model, trial, None, None, start_time)

    def _maybe_log_save_evaluate(self, *positional: Any, **options: Any) -> None:
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
