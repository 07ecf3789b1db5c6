"""How a fit goes, from a model and encoded texts to a plain model in its best state: solved for, or by steps."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from peft import PeftModel
from torch import nn
from torch.utils.data import Subset
from transformers import EarlyStoppingCallback, EvalPrediction, PrinterCallback

from tunesmith.engine import Engine, attached
from tunesmith.engine.cache import Budget
from tunesmith.engine.vectors import Vectors
from tunesmith.errors import ModelError, UsageError
from tunesmith.methods.lora import save_adapter
from tunesmith.models.heads import final_linear, quiet_library
from tunesmith.tasks.base import LabelSpace
from tunesmith.tasks.batching import PaddingCollator
from tunesmith.tasks.encoding import EncodedTexts
from tunesmith.text import counted
from tunesmith.training.arguments import TrainingArguments
from tunesmith.training.callbacks import ProgressCallback
from tunesmith.training.fitting import Fitting
from tunesmith.training.inference import pooled_vectors, predict_logits, tokens_in_order
from tunesmith.training.needs import require_steps
from tunesmith.training.precision import choose_device
from tunesmith.training.resuming import newest
from tunesmith.training.task_trainer import TaskTrainer

LOGS_PER_EPOCH = 20


def fit(fitting: Fitting) -> Fitting:
    """Train the model in place, and fill in what came of it.

    Raises:
        UsageError: the metric is not defined on the validation texts.
        ModelError, DivergedError, Interrupted: see `Trainer.train`.
    """
    task, space, valid, settings = fitting.task, fitting.space, fitting.valid, fitting.settings
    if valid is not None and not task.on_tokens:  # every metric of the others is always defined
        defined = fitting.quick_scores(np.zeros((len(valid), len(space.names)), dtype=np.float32))
        if settings.metric not in defined:
            remedy = f"use one of {', '.join(defined)}"
            raise UsageError(f"training.metric={settings.metric}: not defined on the validation rows; {remedy}")
    start = time.perf_counter()
    torch.set_rng_state(fitting.random_state)
    model = fitting.model = fitting.method.apply(fitting.model).to(choose_device())
    sizes = {"parameters": model.parameters(), "trainable": (p for p in model.parameters() if p.requires_grad)}
    fitting.parameters = {name: sum(p.numel() for p in counted) for name, counted in sizes.items()}
    with attached(model, lambda model: _engine(fitting)) as engine:
        if fitting.solves:
            _solve(fitting, engine)
        else:
            _take_steps(fitting)
    if space != space.in_users_units:
        _restore_scale(model, space)
    if isinstance(model, PeftModel):
        fitting.adapter = fitting.folder / ".work" / "adapter"
        shutil.rmtree(fitting.adapter, ignore_errors=True)
        save_adapter(model, fitting.adapter, fitting.source.public, task.head)
    fitting.model = fitting.method.finish(model).requires_grad_(True).eval()
    fitting.report |= engine.report()
    fitting.seconds = time.perf_counter() - start
    if best := fitting.best:
        found = f"{fitting.method.name}: valid {best['metric']} {best['value']:.4f}"
        fitting.progress.line(f"{found} after {fitting.seconds:.0f} s")
    return fitting


def _engine(fitting: Fitting) -> Engine:
    settings, valid = fitting.engine, fitting.valid
    texts = [part for part in (fitting.train, valid) if isinstance(part, EncodedTexts)]
    token_ids = None
    if settings.uses("vocabulary"):
        special = np.asarray(fitting.tokenizer.all_special_ids, dtype=np.int32)
        token_ids = np.concatenate([*(part.token_ids() for part in texts), special])
    budget = 0 if fitting.solves else settings.cache_bytes  # one vector a text is kept there, see `_solve`
    lengths = np.concatenate([part.lengths for part in texts])
    expected = (len(lengths), int(lengths.sum()))
    return Engine(fitting.model, settings.uses("packing"), token_ids, budget, expected, "engine.cache_gigabytes")


def _solve(fitting: Fitting, engine: Engine) -> None:
    """The last layer from the vectors of all texts, which go through the frozen body once."""
    train, valid, model, settings = cast(EncodedTexts, fitting.train), fitting.valid, fitting.model, fitting.settings
    assert train.targets is not None and valid is not None
    budget = Budget(fitting.engine.cache_bytes, "engine.cache_gigabytes")
    kept = Vectors(model, final_linear(model), settings.precision, budget)
    engine.add(kept)
    with fitting.progress.bar("features", len(train)) as bar:
        collate = PaddingCollator.of(fitting.tokenizer)
        vectors = pooled_vectors(model, train, collate, settings.precision, bar.advance, kept)
    order: Any = slice(None)  # no copy of the vectors
    originals = fitting.rows
    if train.record_of is not None:
        # One window of each text chooses the regularisation: the others resemble it, and would be held out from it.
        first = np.unique(train.record_of[: np.searchsorted(train.record_of, fitting.rows)], return_index=True)[1]
        order, originals = np.concatenate([first, np.setdiff1d(np.arange(len(train)), first)]), len(first)
    fitting.details = fitting.method.solve(model, vectors[order], train.targets[order], settings, originals)
    scores = fitting.quick_scores(predict_logits(model, valid, fitting.tokenizer, fitting.task))
    fitting.best = {"step": 1, "metric": settings.metric, "value": scores[str(settings.metric)]}
    fitting.tokens = int(train.lengths.sum())


def _take_steps(fitting: Fitting) -> None:
    """Train by steps with a checkpoint an epoch; a resumed run goes on from the newest one that can be used.

    Raises:
        ModelError, DivergedError, Interrupted: see `Trainer.train`.
    """
    task, train, valid, settings = fitting.task, fitting.train, fitting.valid, fitting.settings
    name = fitting.method.name if valid is not None else fitting.phase
    metric, watched = str(settings.metric), dict[str, Any]()
    if valid is not None:
        by_length = np.argsort(valid.lengths)  # less padding

        def metrics(found: EvalPrediction) -> dict[str, float]:
            logits: Any = found.predictions
            if task.on_tokens:
                return fitting.quick_scores(tokens_in_order(logits, valid.lengths, by_length))
            return fitting.quick_scores(logits[by_length.argsort()])

        watched = {"eval_dataset": Subset[Any](cast(Any, valid), by_length.tolist()), "compute_metrics": metrics}
    arguments = _arguments(fitting)
    require_steps(fitting.model, arguments, fitting.phase, fitting.answers)
    steps = fitting.steps_per_epoch * (settings.epochs or 1)
    if valid is not None:
        passes = f"{counted(fitting.rows, 'example')}, {counted(settings.epochs or 1, 'epoch')}"
        fitting.progress.line(f"{name}: {passes}, {counted(steps, 'step')} of {settings.batch_size}")
    with fitting.progress.bar(name, steps) as bar:
        progress = ProgressCallback(bar, fitting.progress, fitting.folder / "metrics.jsonl", metric, name)
        collate = PaddingCollator.of(fitting.tokenizer, task.head)
        trainer = TaskTrainer(fitting, arguments, collate, train_dataset=train, callbacks=[progress], **watched)
        trainer.remove_callback(PrinterCallback)
        if settings.early_stopping:
            trainer.add_callback(EarlyStoppingCallback(settings.early_stopping))
        checkpoint = _resume_point(trainer, fitting) if fitting.resume else None
        with fitting.stop, quiet_library():
            trainer.train(None if checkpoint is None else str(checkpoint))
    state = trainer.state
    fitting.report = trainer.parts.report(arguments.per_device_train_batch_size)
    if valid is not None:
        fitting.curve = [row[f"eval_{metric}"] for row in state.log_history if f"eval_{metric}" in row]
        step, value = state.global_step, fitting.curve[-1]
        if fitting.chooses_state:
            if state.best_global_step is None:
                raise ModelError(f"no evaluation gave a usable {metric}; choose another training.metric")
            step, value = state.best_global_step, cast(float, state.best_metric)
        fitting.best = {"step": step, "metric": metric, "value": value}
    fitting.details = {"steps": state.global_step}
    epochs = (state.global_step - progress.first_step) * (settings.batch_size or 1) / max(1, len(train))
    fitting.tokens = int(train.lengths.sum() * min(epochs, settings.epochs or 1))


def _resume_point(trainer: TaskTrainer, fitting: Fitting) -> Path | None:
    """Where the run goes on, and a line that says so."""
    found = newest(trainer)
    for problem in found.passed_over:
        fitting.progress.line(f"warning: {problem}")
    start = (
        f"resuming from {found.folder}" if found.folder else "no checkpoint to go on from: starting at the first step"
    )
    fitting.progress.line(start)
    if parts := trainer.parts.words():
        fitting.progress.line(f"note: steps are taken {parts}")
    return found.folder


def _arguments(fitting: Fitting) -> TrainingArguments:
    settings, steps_per_epoch = fitting.settings, fitting.steps_per_epoch
    assert settings.batch_size and settings.epochs and settings.metric
    if settings.batch_size % settings.accumulation:
        raise UsageError(
            f"training.accumulation={settings.accumulation} does not divide training.batch_size={settings.batch_size}"
        )
    watched: dict[str, Any] = {"eval_strategy": "epoch", "per_device_eval_batch_size": 64}
    if fitting.chooses_state:
        higher = fitting.task.metrics[settings.metric].higher_is_better
        best = {"metric_for_best_model": settings.metric, "greater_is_better": higher}
        watched |= {"load_best_model_at_end": True, **best}
    return TrainingArguments(
        output_dir=str(fitting.folder / "checkpoints"),
        per_device_train_batch_size=settings.batch_size // settings.accumulation,
        gradient_accumulation_steps=settings.accumulation,
        num_train_epochs=settings.epochs,
        learning_rate=settings.lr,
        warmup_steps=math.ceil(settings.warmup * steps_per_epoch * settings.epochs),
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        # Where the last state is kept, a run takes minutes; `save_minutes` and requests to stop save it all the same.
        save_strategy="epoch" if fitting.valid is None or fitting.chooses_state else "no",
        save_total_limit=1,
        logging_steps=max(1, steps_per_epoch // LOGS_PER_EPOCH),
        seed=settings.seed,
        bf16=settings.precision == "bfloat16",
        fp16=settings.precision == "float16",
        use_cpu=choose_device().type == "cpu",
        report_to=settings.tracker,
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        **(watched if fitting.valid is not None else {}),
    )


def _restore_scale(model: nn.Module, space: LabelSpace) -> None:
    """Fold the standardisation of regression targets into the last layer, so that its outputs are the user's values."""
    if isinstance(model, PeftModel):  # the trained copy of the head is the last linear layer that has a gradient
        linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m.weight.requires_grad][-1]
    else:
        linear = final_linear(model)
    with torch.no_grad():
        linear.weight.mul_(space.scale)
        if linear.bias is not None:  # without one the mean is zero
            linear.bias.mul_(space.scale).add_(space.mean)
