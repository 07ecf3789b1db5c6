"""The Trainer: transformers' own, with five things taken over that stock code gets wrong or cannot know.

Loss: a sum, divided once by the weight of the targets in the whole optimizer step (`step_loss`). Order and dropout:
functions of (seed, epoch, step). Checkpoints: committed, verified and chosen here. Best model: evaluated again. Work
that cannot change the result: left out by the engine. Everything else (callbacks, trackers, launchers, precision,
schedules) is the library's. What is not known (a model, a loss, a collator, a method of a subclass) is left alone, as
in stock code; docs/trainer.md lists what differs, why, and how to switch it off.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers
from torch import nn
from torch.utils.data import IterableDataset, SequentialSampler
from transformers import EarlyStoppingCallback
from transformers.trainer_utils import has_length

from tunesmith.engine import Engine, attached
from tunesmith.errors import ModelError, UsageError
from tunesmith.training import checkpoint, resuming, stock_defaults, weights
from tunesmith.training.arguments import TrainingArguments
from tunesmith.training.finite import Finite
from tunesmith.training.resuming import Resumable
from tunesmith.training.sampling import EpochSampler, split_by_length, trim_padding
from tunesmith.training.transfer import left_on_host, to_device

logger = transformers.logging.get_logger(__name__)


class Trainer(Resumable):
    """`transformers.Trainer` with the corrections above; takes everything that it takes.

    A sequence classifier gets ``eval_accuracy`` and ``eval_macro_f1`` (regression: its own metrics) without a
    `compute_metrics`. Inputs padded to a fixed length lose their padding before they reach the model, and frozen
    modules stay in eval mode, so that no dropout disturbs what cannot adapt to it. Where the tokens of training are
    known beforehand, only their embeddings are trained; the optimizer is then gone when `train` returns.

    Args:
        tokenizer: older name of `processing_class`.
        engine: ``"off"`` computes everything, padding inside the longest text of a batch and all embedding rows, too.
        engine_cache_gigabytes: disk space for the states of frozen layers in the cache of this user (`docs/engine.md`),
            where later epochs and runs find them. 0 writes nothing; frozen layers then run at every step.

    Attributes:
        engine_report: state and figures of each part of the engine in the last `train` or evaluation.
    """

    args: TrainingArguments
    optimizer: Any
    _tunesmith_prefix = "checkpoint"
    _tunesmith_resuming, _tunesmith_rate = "train(resume_from_checkpoint=True)", "learning_rate"

    def __init__(
        self,
        model: Any = None,
        args: Any = None,
        *positional: Any,
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
        self._tunesmith_identity: dict[str, Any] = {}
        self._tunesmith_use_engine = engine == "auto"
        self._tunesmith_cache_bytes = round(engine_cache_gigabytes * 2**30)
        self._tunesmith_engine: Engine | None = None
        self._tunesmith_evaluating: tuple[tuple[bool, ...], list[nn.Module]] = ((), [])
        self._tunesmith_flops: dict[int, float] = {}
        self.engine_report: dict[str, Any] = {}
        args = TrainingArguments("trainer_output") if args is None else args
        if args.n_gpu > 1:  # torch's copies of a model for threads would all be run by the engine of the first
            logger.warning("one process trains on one GPU; start one for each (torchrun) to use all of them")
            args._n_gpu = 1
        super().__init__(model, args, *positional, **options)
        if self.compute_loss_func is None and not stock_defaults.is_replaced(self, "compute_loss"):
            self._tunesmith_head = stock_defaults.head_loss(self)
        if stock_defaults.wants_metrics(self):
            self.compute_metrics = functools.partial(stock_defaults.head_metrics, self.model.config)
        stock_defaults.warn_of_frozen_new_head(self.model)

    __init__.__signature__ = stock_defaults.signature_with_stock(__init__)  # type: ignore[attr-defined]

    # ---- a step -----------------------------------------------------------------------------------------------------

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """See `StepLoss.compute_loss`; frozen modules of a known model are in eval mode."""
        if model.training and self._tunesmith_engine is not None and self._tunesmith_engine.known:
            self._tunesmith_keep_frozen_in_eval(model)
        with self._tunesmith_padding_kept(inputs):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *positional: Any, **named: Any) -> Any:
        """See `transformers.Trainer.prediction_step`."""
        with self._tunesmith_padding_kept(inputs):
            return super().prediction_step(model, inputs, *positional, **named)

    def _tunesmith_padding_kept(self, inputs: dict[str, Any]) -> AbstractContextManager[None]:
        engine = self._tunesmith_engine
        used = engine is not None and engine.packed and stock_defaults.uses_padding(self.model, inputs)
        return engine.resting() if engine is not None and used else nullcontext()

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        trimmed: Any = self._tunesmith_trimmed(inputs)
        if self.args.device.type == "cuda" and isinstance(trimmed, Mapping):
            kind: Any = type(trimmed)
            trimmed = kind(to_device(trimmed, self.args.device))
        return super()._prepare_inputs(trimmed)

    def _tunesmith_trimmed(self, inputs: dict[str, Any]) -> dict[str, Any]:
        known = self._tunesmith_engine is not None and self._tunesmith_engine.known
        return trim_padding(inputs, stock_defaults.padded_inputs(self.model, inputs)) if known else inputs

    def _tunesmith_keep_frozen_in_eval(self, model: nn.Module) -> None:
        trained = tuple(parameter.requires_grad for parameter in model.parameters())
        if self._tunesmith_evaluating[0] != trained:
            frozen = [m for m in model.modules() if (p := list(m.parameters())) and not any(q.requires_grad for q in p)]
            self._tunesmith_evaluating = (trained, frozen)
        for module in self._tunesmith_evaluating[1]:
            module.eval()

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """See `StepLoss.training_step`.

        Raises:
            DivergedError: the loss is not finite, unless `logging_nan_inf_filter` is on.
        """
        engine = self._tunesmith_engine
        # Under a distributed wrapper every backward pass would synchronise, so there the batch stays whole.
        whole = engine is None or engine.packed or not self._tunesmith_use_engine or model is not self.model
        whole |= self._tunesmith_head is None or not self._tunesmith_agreed or num_items_in_batch is None
        losses = []
        for part in [inputs] if whole else split_by_length(inputs):
            losses.append(super().training_step(model, part, num_items_in_batch))
            self._tunesmith_look_at(losses[-1])
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def floating_point_ops(self, inputs: dict[str, Any]) -> Any:
        """See `transformers.Trainer.floating_point_ops`; counted once for each size of a batch."""
        given = inputs.get(getattr(self.model, "main_input_name", "input_ids"))
        if not isinstance(given, torch.Tensor):
            return super().floating_point_ops(inputs)
        if given.numel() not in self._tunesmith_flops:
            self._tunesmith_flops[given.numel()] = super().floating_point_ops(inputs)
        return self._tunesmith_flops[given.numel()]

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """See `transformers.Trainer.create_optimizer`."""
        optimizer = super().create_optimizer(model)
        if self._tunesmith_engine is not None:
            self._tunesmith_engine.follow(optimizer)
        return optimizer

    # ---- randomness and order ---------------------------------------------------------------------------------------

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The micro-batches of a step, and the weight of their targets in all processes."""
        batches, weight = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self._tunesmith_head is not None and weight is not None and self.args.world_size > 1:
            weight = self.accelerator.gather(weight).sum()  # of the step in all processes; evaluation counts its own
        self._tunesmith_seed_step()
        return batches, weight

    def _tunesmith_seed_step(self) -> None:
        """Dropout depends on the step alone, so that a step that is taken again equals the first try."""
        seed = np.random.SeedSequence((self.args.seed, self.state.global_step)).generate_state(1)
        torch.manual_seed(int(seed[0]))

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        data: Any = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "random" or not has_length(data):
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return EpochSampler(data, seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        # Stock code sorts evaluation rows by length with the training rows, and returns predictions in that order.
        one_process = self.args.world_size <= 1
        return SequentialSampler(eval_dataset) if one_process and has_length(eval_dataset) else None

    def _run_epoch(self, *positional: Any, **options: Any) -> None:
        resuming.take_up_loss(self)
        stopping = (c for c in self.callback_handler.callbacks if isinstance(c, EarlyStoppingCallback))
        resumed = options.get("resume_from_checkpoint") and self.args.restore_callback_states_from_checkpoint
        if resumed and any(c.early_stopping_patience_counter >= c.early_stopping_patience for c in stopping):
            self.control.should_training_stop = True  # the run that is resumed had stopped already
        else:
            with left_on_host(options.get("train_dataloader"), self._tunesmith_moves):
                super()._run_epoch(*positional, **options)  # type: ignore[no-untyped-call]
            self._tunesmith_require_finite(wait=True)

    @property
    def _tunesmith_moves(self) -> bool:
        """Whether all code that sees batches of a loader lets `_prepare_inputs` bring them to the GPU."""
        seeing = ("training_step", "prediction_step", "evaluation_loop", "get_batch_samples")
        own = any(stock_defaults.is_replaced(self, method) for method in seeing)
        return self.args.device.type == "cuda" and self.args.world_size == 1 and not own

    # ---- the engine -------------------------------------------------------------------------------------------------

    def _hp_search_setup(self, trial: Any) -> None:
        super()._hp_search_setup(trial)
        # Not before: `train` may have made the model anew (`model_init`). Not later: a checkpoint is loaded next.
        self._tunesmith_training.enter_context(self._tunesmith_with_engine(training=True))

    def evaluation_loop(self, *positional: Any, **options: Any) -> Any:
        """See `transformers.Trainer.evaluation_loop`."""
        loader = positional[0] if positional else options.get("dataloader")
        with self._tunesmith_with_engine(), left_on_host(loader, self._tunesmith_moves):
            return super().evaluation_loop(*positional, **options)

    @contextmanager
    def _tunesmith_with_engine(self, training: bool = False) -> Iterator[None]:
        """The engine on the model; `engine_report` tells afterwards what it did."""
        outer = self._tunesmith_engine
        with attached(self.model, functools.partial(self._tunesmith_make_engine, training)) as engine:
            self._tunesmith_engine = engine
            try:
                yield
                self.engine_report = engine.report()
            finally:
                self._tunesmith_engine = outer
                if training and engine.trains_some_rows:
                    self.optimizer = None  # it knows rows that the model is about to lose

    def _tunesmith_make_engine(self, training: bool, model: nn.Module) -> Engine:
        if not self._tunesmith_use_engine or self.neftune_noise_alpha is not None:
            return Engine(model, packing=False)  # NEFTune's noise depends on how long the padded batch is
        token_ids = stock_defaults.training_tokens(self) if training else None
        packing, space = not stock_defaults.reads_padding(model), self._tunesmith_cache_bytes
        return Engine(model, packing, token_ids, prefix_bytes=space, budget_name="engine_cache_gigabytes")

    # ---- checkpoints ------------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: Any = None, *positional: Any, **options: Any) -> Any:
        """Train; see `transformers.Trainer.train`.

        Args:
            resume_from_checkpoint: a checkpoint folder, or True for the newest one that verifies.

        Raises:
            ModelError: the checkpoint is damaged, or belongs to another run.
            ValueError: there is none.
            Interrupted: a signal came; the state was saved.
            DivergedError: a loss or gradient was not finite.
        """
        if resume_from_checkpoint:
            resume_from_checkpoint = resuming.chosen(self, resume_from_checkpoint)
        self._tunesmith_finite, self._tunesmith_flops = Finite(), {}
        with ExitStack() as self._tunesmith_training:
            self._tunesmith_training.callback(self._tunesmith_finite.leave)
            return super().train(resume_from_checkpoint or None, *positional, **options)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        run = self._tunesmith_folder(trial)
        steps = self.state.global_step, self.state.best_global_step
        folder, best = (run / f"{self._tunesmith_prefix}-{step}" for step in steps)
        if self.hp_search_backend is None and trial is None:
            self.store_flos()
        resuming.find_best(self, trial, about_to_be=folder)
        callbacks: Any = [*self.callback_handler.callbacks, self.control]
        self.state.stateful_callbacks = checkpoint.states(callbacks)  # type: ignore[assignment]
        resuming.keep_loss(self)
        if self.args.should_save:
            identity = resuming.circumstances(self) | {"step": self.state.global_step}
            need = checkpoint.expected_bytes(self.model)
            committed = checkpoint.commit(folder, identity, self._tunesmith_resuming, need)
            with committed as aside, weights.own_names(self.model):
                self.save_model(str(aside), _internal_call=True)
                if not self.args.save_only_model:
                    checkpoint.save_optimizer(aside, self.optimizer, self.lr_scheduler, self.accelerator.scaler)
                self.state.save_to_json(str(aside / "trainer_state.json"))
                if self._tunesmith_engine is not None:
                    self._tunesmith_engine.save(aside)
            if self.args.save_total_limit:
                checkpoint.rotate(run, self._tunesmith_prefix, self.args.save_total_limit, (folder, best))
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        weights.require_own_adapters(Path(resume_from_checkpoint), self.model)
        with checkpoint.reading(Path(resume_from_checkpoint)):
            if self._tunesmith_engine is not None:
                self._tunesmith_engine.load(Path(resume_from_checkpoint))
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        weights.require_known(self._tunesmith_folder(), load_result)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        weights.save(self, Path(output_dir or str(self.args.output_dir)), state_dict)

    def _load_optimizer_and_scheduler(self, folder: str | None) -> None:
        if folder is None:
            return
        if checkpoint.has_optimizer(Path(folder)):
            checkpoint.load_optimizer(Path(folder), self.optimizer, self.lr_scheduler, self.accelerator.scaler)
        else:
            logger.warning(f"{folder} was saved with save_only_model: the optimizer and the schedule start anew")

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Restored with the optimizer."""

    _load_rng_state = _load_scaler  # every step seeds itself; there is no state to restore

    def _load_best_model(self) -> None:
        best = Path(str(self.state.best_model_checkpoint))
        if problem := checkpoint.verify_weights(best):
            raise ModelError(
                f"{best}: {problem}; the best model cannot be returned. If you changed it on purpose, "
                f"delete {checkpoint.MANIFEST} there"
            )
        if self._tunesmith_engine is not None:
            self._tunesmith_engine.load(best)
        with checkpoint.reading(best):
            super()._load_best_model()
        known = not stock_defaults.is_subclass(self) and has_length(self.eval_dataset)
        if not known or isinstance(self.eval_dataset, dict | IterableDataset):
            return  # what measured it may draw other rows the next time, or do more than measure
        name = "eval_" + str(self.args.metric_for_best_model).removeprefix("eval_")
        metrics = self.evaluation_loop(self.get_eval_dataloader(), "Best checkpoint").metrics or {}
        found, recorded = float(metrics.get(name, math.nan)), float(self.state.best_metric or 0.0)
        # On a CPU the same batches give the same bits; other devices may sum in another order.
        if not math.isclose(found, recorded, abs_tol=1e-6 if self.args.device.type == "cpu" else 1e-3):
            self._tunesmith_differs(f"{best}: {name} is {found:.6f} when evaluated again, {recorded:.6f} was recorded")

    def _tunesmith_differs(self, problem: str) -> None:
        warnings.warn(f"{problem}; the metric draws random numbers, or the rows changed", UserWarning, stacklevel=2)
