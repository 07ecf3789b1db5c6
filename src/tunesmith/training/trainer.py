"""The Trainer: transformers' own, with five things taken over that stock code gets wrong or cannot know.

Loss: a sum, divided once by the weight of the targets in the whole optimizer step. Sampling and randomness: functions
of (seed, epoch, step). Checkpoints: committed, verified and chosen here. Best model: evaluated again before it is
called best. Signals: end a run in order. Everything else (callbacks, trackers, launchers, precision, schedules) is the
library's.
"""

from __future__ import annotations

import functools
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import transformers
from torch import nn
from torch.utils.data import SequentialSampler
from transformers import EarlyStoppingCallback
from transformers.trainer_callback import ExportableState

from tunesmith.engine import Engine, attached
from tunesmith.errors import DivergedError, Interrupted, ModelError, UsageError
from tunesmith.tasks.losses import BinaryCrossEntropy, CrossEntropy
from tunesmith.training import checkpoint, stock_defaults
from tunesmith.training.arguments import TrainingArguments
from tunesmith.training.sampling import EpochSampler, split_by_length, trim_padding
from tunesmith.training.signals import StopRequest

if TYPE_CHECKING:
    from tunesmith.training.fitting import Fitting


class Trainer(transformers.Trainer):
    """`transformers.Trainer` with the corrections above; takes everything that it takes.

    A sequence classifier gets ``eval_accuracy`` and ``eval_macro_f1`` (regression: its own metrics) without a
    `compute_metrics`. Inputs padded to a fixed length lose their padding before they reach the model, and frozen
    modules stay in eval mode, so that no dropout disturbs what cannot adapt to it. Where the tokens of training are
    known beforehand, only their embeddings are trained; the optimizer is then gone when `train` returns.

    Args:
        fitting: the run that it takes the steps of: its loss, parameter groups, checkpoints and requests to stop.
        tokenizer: older name of `processing_class`.
        engine: ``"off"`` computes everything, padding inside the longest text of a batch and all embedding rows, too.
        engine_cache_gigabytes: disk space for the states of frozen layers in the cache of this user (`docs/engine.md`),
            where later epochs and runs find them. 0 writes nothing; frozen layers then run at every step.
    """

    args: TrainingArguments
    model: Any
    optimizer: Any

    def __init__(
        self,
        model: Any = None,
        args: Any = None,
        *positional: Any,
        fitting: Fitting | None = None,
        tokenizer: Any = None,
        engine: Literal["auto", "off"] = "auto",
        engine_cache_gigabytes: float = 0.0,
        **options: Any,
    ) -> None:
        if tokenizer is not None:
            options.setdefault("processing_class", tokenizer)
        if engine not in ("auto", "off") or not engine_cache_gigabytes >= 0:
            raise UsageError(
                'expected engine="auto" or "off" and engine_cache_gigabytes of 0 or more, '
                f"found {engine!r} and {engine_cache_gigabytes!r}"
            )
        args = TrainingArguments("trainer_output") if args is None else args
        super().__init__(model, args, *positional, **options)
        self.fitting = fitting
        self.stop, self.save_minutes = StopRequest(), math.inf
        self.prefix, self.identity = "checkpoint", dict[str, Any]()
        self.task_loss = None
        if fitting is not None:
            self.stop, self.save_minutes = fitting.stop, fitting.settings.save_minutes
            self.prefix, self.identity = fitting.phase, fitting.identity
            self.task_loss = fitting.loss()
        self._resuming = "output.resume=true" if fitting else "train(resume_from_checkpoint=True)"
        self._use_engine, self._cache_bytes = engine == "auto", round(engine_cache_gigabytes * 2**30)
        own_loss = self.compute_loss_func is not None or type(self).compute_loss is not Trainer.compute_loss
        if self.task_loss is None and not own_loss:
            self.task_loss = stock_defaults.head_loss(self.model, self.args)
        if self.compute_loss_func is None:
            # A mean per micro-batch (the model's own loss) is divided by their number, our sum is complete already.
            self.model_accepts_loss_kwargs = False
            self.loss_is_scaled_for_ga = self.task_loss is not None
        if self.compute_metrics is None and stock_defaults.is_sequence_classifier(self.model):
            self.compute_metrics = lambda evaluation: stock_defaults.head_metrics(self.task_loss, evaluation)
        stock_defaults.warn_of_frozen_new_head(self.model)
        self._engine: Engine | None = None
        self.engine_report: dict[str, Any] = {}
        self._step_before: int | None = None
        self._last_save = time.monotonic()
        self._evaluating_modules: tuple[tuple[bool, ...], list[nn.Module]] = ((), [])

    # ---- loss -------------------------------------------------------------------------------------------------------

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        if self.task_loss is None or not batch_samples or "labels" not in batch_samples[0]:
            return super()._get_num_items_in_batch(batch_samples, device)
        if isinstance(self.task_loss, CrossEntropy) and batch_samples[0]["labels"].is_floating_point():
            # One 0/1 target a label: transformers' heads read the kind of problem off the labels, too.
            self.task_loss = BinaryCrossEntropy(self.task_loss.label_smoothing)
        return torch.stack([self.task_loss.weight(batch["labels"]) for batch in batch_samples]).sum().to(device)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if model.training:
            self._keep_frozen_in_eval(model)
        if self.task_loss is None or "labels" not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        weight = self.task_loss.weight(labels) if num_items_in_batch is None else num_items_in_batch
        if self.fitting is not None:
            outputs = {"logits": self.fitting.task.model_logits(outputs, inputs["attention_mask"])}
        loss = self.task_loss.total(outputs["logits"], labels) / weight
        if model.training:
            loss = loss * self.args.world_size  # gradients are averaged over processes; the weight counts all of them
        return (loss, outputs) if return_outputs else loss

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return trim_padding(super()._prepare_inputs(inputs))

    def _keep_frozen_in_eval(self, model: nn.Module) -> None:
        trained = tuple(parameter.requires_grad for parameter in model.parameters())
        if self._evaluating_modules[0] != trained:
            frozen = [m for m in model.modules() if (p := list(m.parameters())) and not any(q.requires_grad for q in p)]
            self._evaluating_modules = (trained, frozen)
        for module in self._evaluating_modules[1]:
            module.eval()

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        # Under a distributed wrapper every backward pass would synchronise, so there the batch stays whole.
        packed = self._engine is not None and self._engine.packed
        whole = packed or not self._use_engine or model is not self.model
        whole |= self.task_loss is None or num_items_in_batch is None
        losses = []
        for part in [inputs] if whole else split_by_length(inputs):
            losses.append(super().training_step(model, part, num_items_in_batch))
            if not torch.isfinite(losses[-1]):
                raise self._diverged(f"the loss is {losses[-1].item()}")
        return torch.stack(losses).sum()

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]
        # Under float16 loss scaling an infinite gradient is part of the search for the scale: that step is skipped.
        if self.accelerator.scaler is None and not math.isfinite(float(norm)):
            raise self._diverged(f"the gradient norm is {float(norm)}")
        return norm

    def _diverged(self, what: str) -> DivergedError:
        saved = checkpoint.checkpoints(self._folder, self.prefix)
        state = f"the last good state is {saved[0]}" if saved else "no checkpoint was written yet"
        return DivergedError(
            f"training diverged at step {self.state.global_step + 1}: {what}, so the step was not taken; {state}. "
            f"Lower {'training.lr' if self.fitting else 'learning_rate'}, or look for damaged texts"
        )

    # ---- randomness and order ---------------------------------------------------------------------------------------

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        batches, weight = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.task_loss is not None and weight is not None and self.args.world_size > 1:
            weight = self.accelerator.gather(weight).sum()  # of the step in all processes; evaluation counts its own
        seed = np.random.SeedSequence((self.args.seed, self.state.global_step)).generate_state(1)
        torch.manual_seed(int(seed[0]))  # dropout depends on the step alone, so a resumed step equals the first try
        return batches, weight

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        data: Any = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "random" or not hasattr(data, "__len__"):
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return EpochSampler(data, seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        # Stock code sorts evaluation rows by length with the training rows, and returns predictions in that order.
        one_process = self.args.world_size <= 1
        return SequentialSampler(eval_dataset) if one_process and hasattr(eval_dataset, "__len__") else None

    # ---- optimizer --------------------------------------------------------------------------------------------------

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None and self.fitting is not None:
            target = self.model if model is None else model
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, target)
            self.optimizer = kind(self.fitting.method.parameter_groups(target, self.fitting.settings), **options)
        optimizer = super().create_optimizer(model)
        if self._engine is not None:
            self._engine.follow(optimizer)
        return optimizer

    # ---- checkpoints ------------------------------------------------------------------------------------------------

    @property
    def _folder(self) -> Path:
        return Path(str(self.args.output_dir))

    def train(self, resume_from_checkpoint: str | bool | None = None, *positional: Any, **options: Any) -> Any:
        """Train; see `transformers.Trainer.train`.

        Args:
            resume_from_checkpoint: a checkpoint folder, or True for the newest one that verifies.

        Raises:
            ModelError: the checkpoint is damaged, or belongs to another run.
            Interrupted: a signal came; the state was saved.
            DivergedError: a loss or gradient was not finite.
        """
        if resume_from_checkpoint is True:
            found, problems = checkpoint.last_valid(self._folder, self.prefix, self.identity)
            if found is None:
                problems.append(f"{self._folder}: no checkpoint that can be resumed; train from the start")
                raise ModelError(problems)
            for problem in problems:
                transformers.logging.get_logger(__name__).warning(problem)
            resume_from_checkpoint = str(found)
        elif resume_from_checkpoint and (refusal := checkpoint.verify(Path(resume_from_checkpoint), self.identity)):
            raise ModelError(f"{resume_from_checkpoint}: {refusal}; it cannot be resumed")
        with ExitStack() as self._while_training:
            return super().train(resume_from_checkpoint or None, *positional, **options)

    def _hp_search_setup(self, trial: Any) -> None:
        super()._hp_search_setup(trial)
        # Not before: `train` may have made the model anew (`model_init`). Not later: a checkpoint is loaded next.
        self._while_training.enter_context(self._with_engine(training=True))

    def evaluation_loop(self, *positional: Any, **options: Any) -> Any:
        with self._with_engine():
            return super().evaluation_loop(*positional, **options)

    @contextmanager
    def _with_engine(self, training: bool = False) -> Iterator[None]:
        """The engine on the model; `engine_report` tells afterwards what it did."""
        with attached(self.model, functools.partial(self._make_engine, training)) as self._engine:
            try:
                yield
                self.engine_report = self._engine.report()
            finally:
                if training and self._engine.vocabulary.why_not() is None:
                    self.optimizer = None  # it knows rows that the model is about to lose

    def _make_engine(self, training: bool, model: nn.Module) -> Engine:
        if not self._use_engine or self.neftune_noise_alpha is not None:
            return Engine(model, packing=False)  # NEFTune's noise depends on how long the padded batch is
        replaced = any(getattr(type(self), name) is not getattr(Trainer, name) for name in stock_defaults.BRING_TOKENS)
        token_ids = stock_defaults.training_tokens(self) if training and not replaced else None
        return Engine(model, token_ids=token_ids, prefix_bytes=self._cache_bytes, budget_name="engine_cache_gigabytes")

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = self._folder / f"{self.prefix}-{self.state.global_step}"
        self.store_flos()
        best = self._folder / f"{self.prefix}-{self.state.best_global_step}"
        if self.state.best_global_step and (best == folder or best.is_dir()):
            self.state.best_model_checkpoint = str(best)
        callbacks = [c for c in [*self.callback_handler.callbacks, self.control] if isinstance(c, ExportableState)]
        self.state.stateful_callbacks = {type(c).__name__: c.state() for c in callbacks}  # type: ignore[assignment]
        if self.args.should_save:
            identity = {**self.identity, "step": self.state.global_step}
            with checkpoint.commit(folder, identity, self._resuming) as aside:
                self.save_model(str(aside), _internal_call=True)
                checkpoint.save_optimizer(aside, self.optimizer, self.lr_scheduler, self.accelerator.scaler)
                self.state.save_to_json(str(aside / "trainer_state.json"))
                if self._engine is not None:
                    self._engine.save(aside)
            if self.args.save_total_limit:
                for older in checkpoint.checkpoints(self._folder, self.prefix)[self.args.save_total_limit :]:
                    if older not in (folder, best):
                        shutil.rmtree(older)
        self._last_save = time.monotonic()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self._engine is not None:
            self._engine.load(Path(resume_from_checkpoint))
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        Path(output_dir or self._folder, "training_args.bin").unlink(missing_ok=True)  # a pickle

    def _load_optimizer_and_scheduler(self, folder: str | None) -> None:
        if folder is not None:
            checkpoint.load_optimizer(Path(folder), self.optimizer, self.lr_scheduler, self.accelerator.scaler)

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Restored with the optimizer."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Every step seeds itself; there is no state to restore."""

    def _load_best_model(self) -> None:
        best = Path(str(self.state.best_model_checkpoint))
        if problem := checkpoint.verify(best, self.identity):
            raise ModelError(f"{best}: {problem}; the best model cannot be returned")
        if self._engine is not None:
            self._engine.load(best)
        super()._load_best_model()
        if self.eval_dataset is None or isinstance(self.eval_dataset, dict):
            return
        name = "eval_" + str(self.args.metric_for_best_model).removeprefix("eval_")
        found = float((self.evaluation_loop(self.get_eval_dataloader(), "Best checkpoint").metrics or {})[name])
        recorded = float(self.state.best_metric or 0.0)
        # On a CPU the same batches give the same bits; other devices may sum in another order.
        if not math.isclose(found, recorded, abs_tol=1e-6 if self.args.device.type == "cpu" else 1e-3):
            raise ModelError(f"{best}: {name} is {found:.6f} when evaluated again, {recorded:.6f} was recorded")

    # ---- the end of an epoch, and of a step --------------------------------------------------------------------------

    def _run_epoch(self, *positional: Any, **options: Any) -> None:
        self._step_before = None
        if self.fitting is not None:
            self.fitting.begin_epoch(int(self.state.epoch or 0), int(self.state.num_train_epochs))
        stopping = (c for c in self.callback_handler.callbacks if isinstance(c, EarlyStoppingCallback))
        if any(c.early_stopping_patience_counter >= c.early_stopping_patience for c in stopping):
            self.control.should_training_stop = True  # the run that is resumed had stopped already
        else:
            super()._run_epoch(*positional, **options)  # type: ignore[no-untyped-call]

    def _maybe_log_save_evaluate(self, *positional: Any, **options: Any) -> None:
        # The last step of an epoch is followed by the epoch's own evaluation and save, which must not be lost: this is
        # called for the step, and then again for the epoch.
        step, epoch = self.state.global_step, self.state.epoch or 0.0
        epoch_ends_next = epoch == math.floor(epoch) and step != self._step_before
        self._step_before = step
        stopping = self.stop.signum is not None and not epoch_ends_next
        overdue = time.monotonic() - self._last_save > 60 * self.save_minutes
        self.control.should_save |= (stopping or overdue) and not epoch_ends_next
        super()._maybe_log_save_evaluate(*positional, **options)
        if stopping:
            raise Interrupted(
                f"stopped at step {step} of {self.state.max_steps}, everything is saved; "
                f"continue with {self._resuming}",
                self.stop.exit_code,
            )
