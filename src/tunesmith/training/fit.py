"""Fitting one model by one method: from encoded texts to a plain model whose best state was evaluated again."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import nn
from torch.utils.data import Subset
from transformers import EarlyStoppingCallback, PrinterCallback

from tunesmith.config.schema import EngineSettings, TrainingSettings
from tunesmith.engine import Engine, attached
from tunesmith.engine.vectors import VectorCache
from tunesmith.errors import ModelError, UsageError
from tunesmith.methods.base import Method, parameter_summary
from tunesmith.models.heads import final_linear, quiet_library
from tunesmith.tasks.base import LabelSpace, Task
from tunesmith.tasks.batching import PaddingCollator
from tunesmith.tasks.encoding import EncodedTexts
from tunesmith.training.arguments import TrainingArguments
from tunesmith.training.callbacks import ProgressCallback
from tunesmith.training.inference import pooled_vectors, predict_outputs, tokens_in_order
from tunesmith.training.plan import Plan
from tunesmith.training.stepping import Workplace, planned_steps, resume_from, step_arguments
from tunesmith.training.trainer import Trainer

CHECKPOINT_PREFIX = "step"


@dataclass(frozen=True)
class Fit:
    """A fitted model.

    Attributes:
        model: plain, adapters merged, in eval mode.
        adapter: folder with the adapter as it was before it was merged, or None.
        best: step, metric and value of the state that was kept.
        summary: total and trainable parameters.
        seconds: time of the fit.
        tokens: real tokens that were learned from, over all epochs.
        details: what the method chose by itself.
        engine: what the engine did, by part.
    """

    model: nn.Module
    adapter: Path | None
    best: dict[str, Any]
    summary: dict[str, int]
    seconds: float
    tokens: int
    details: dict[str, Any]
    engine: dict[str, Any]


@dataclass(frozen=True)
class Assignment:
    """What is to be fitted to what.

    Attributes:
        train, valid: encoded texts with targets.
        settings: with every value resolved.
        originals: the first of `train`, that were not made from others; None for all.
    """

    method: Method
    task: Task
    space: LabelSpace
    train: EncodedTexts
    valid: EncodedTexts
    settings: TrainingSettings
    engine: EngineSettings
    place: Workplace
    originals: int | None = None

    @property
    def solves(self) -> bool:
        """The head is solved for; where it has many outputs a text, a frozen backbone is trained on instead."""
        return self.method.solves_head and self.task.head == "sequence"


def fit(model: nn.Module, job: Assignment) -> Fit:
    """Adapt `model`, and return it plain, in its best state.

    Raises:
        ModelError, DivergedError, Interrupted: see `Trainer.train`.
    """
    _require_metric(job)
    start = time.perf_counter()
    model = job.method.apply(model).to("cuda" if torch.cuda.is_available() else "cpu")
    summary = parameter_summary(model)
    with attached(model, functools.partial(_engine, job)) as engine:
        best, details, tokens = _solve(model, job, engine) if job.solves else _train(model, job)
    if job.space != job.space.in_users_units:
        _restore_scale(model, job.space)
    adapter = _save_adapter(model, job.place.folder / ".work" / "adapter")
    plain = job.method.finish(model)
    plain.requires_grad_(True).eval()
    return Fit(plain, adapter, best, summary, time.perf_counter() - start, tokens, details, engine.report())


def _engine(job: Assignment, model: nn.Module) -> Engine:
    token_ids = None
    if job.engine.uses("vocabulary"):
        special = np.asarray(job.place.tokenizer.all_special_ids, dtype=np.int32)
        token_ids = np.concatenate([job.train.token_ids(), job.valid.token_ids(), special])
    budget = 0 if job.solves else job.engine.cache_bytes  # one vector a text is kept there, see `_solve`
    lengths = np.concatenate([job.train.lengths, job.valid.lengths])
    expected = (len(lengths), int(lengths.sum()))
    return Engine(model, job.engine.uses("packing"), token_ids, budget, expected, "engine.cache_gigabytes")


def resolve_training(
    settings: TrainingSettings, method: Method, model: nn.Module, rows: int, metric: str
) -> TrainingSettings:
    """The settings with every ``None`` replaced by the method's default for this model and number of rows."""
    chosen = method.defaults(model, rows).missing_in(settings)
    return settings.model_copy(update={**chosen, "metric": settings.metric or metric})


def _require_metric(job: Assignment) -> None:
    """Refuse a metric that cannot be computed on the validation rows (ROC AUC with one class) before training."""
    if job.task.head != "sequence":  # every metric of the others is always defined
        return
    nothing = np.zeros((len(job.valid), len(job.space.names)), dtype=np.float32)
    found = job.task.quick_score(job.task.outputs(nothing, job.valid, job.space), job.valid.gold, job.space)
    if job.settings.metric not in found:
        raise UsageError(
            f"--metric {job.settings.metric}: not defined on the validation rows; use one of {', '.join(found)}"
        )


def _solve(model: nn.Module, job: Assignment, engine: Engine) -> tuple[dict[str, Any], dict[str, Any], int]:
    train, valid, method = job.train, job.valid, job.method
    assert train.targets is not None
    collate = PaddingCollator.of(job.place.tokenizer)
    precision = job.settings.precision
    if budget := job.engine.cache_bytes:
        engine.vectors = VectorCache(model, final_linear(model), precision, budget)
    with job.place.progress.bar("features", len(train)) as bar:
        vectors = pooled_vectors(model, train, collate, precision, bar.advance, engine.vectors)
    order, originals = _one_window_first(train, job.originals)
    details = method.solve(model, vectors[order], train.targets[order], job.settings, originals)
    outputs = predict_outputs(model, valid, job.place.tokenizer, job.task, job.space)
    metrics = job.task.quick_score(outputs, valid.gold, job.space)
    best = {"step": 1, "metric": job.settings.metric, "value": metrics[str(job.settings.metric)]}
    return best, dict(details), int(train.lengths.sum())


def _one_window_first(train: EncodedTexts, originals: int | None) -> tuple[np.ndarray | slice, int | None]:
    """An order of the rows, and how many of its first ones may choose the regularisation: a window of each text.

    The others resemble the windows of their text that would be held out.
    """
    if train.record_of is None:
        return slice(None), originals  # no copy of the vectors
    first = np.unique(train.record_of[:originals], return_index=True)[1]
    return np.concatenate([first, np.setdiff1d(np.arange(len(train)), first)]), len(first)


def _train(model: nn.Module, job: Assignment) -> tuple[dict[str, Any], dict[str, Any], int]:
    settings, place, method, train = job.settings, job.place, job.method, job.train
    assert settings.metric is not None and settings.epochs is not None
    weights = job.task.class_weights(train.gold, job.space) if settings.class_weights == "balanced" else None
    plan = Plan(
        loss=job.task.loss(settings.label_smoothing, None if weights is None else torch.from_numpy(weights)),
        logits=job.task.model_logits,
        parameter_groups=lambda m: method.parameter_groups(m, settings),
        begin_epoch=method.begin_epoch,
        stop=place.stop,
        prefix=CHECKPOINT_PREFIX,
        identity=place.identity,
        save_minutes=settings.save_minutes,
        resume_hint="run the same command with --resume to continue",
    )
    folder = place.folder / "checkpoints"
    by_length = np.argsort(job.valid.lengths)  # less padding
    with place.progress.bar(method.name, planned_steps(settings, len(train))) as bar:
        trainer = Trainer(
            model,
            _arguments(settings, job.task, len(train), folder),
            PaddingCollator.of(place.tokenizer, job.task.head),
            train_dataset=train,
            eval_dataset=Subset(job.valid, by_length.tolist()),
            plan=plan,
            compute_metrics=lambda evaluation: _metrics(job, evaluation.predictions, by_length),
            callbacks=[ProgressCallback(bar, place.folder / "metrics.jsonl", settings.metric, method.name)],
        )
        trainer.remove_callback(PrinterCallback)
        if settings.early_stopping:
            trainer.add_callback(EarlyStoppingCallback(settings.early_stopping))
        with place.stop:
            trainer.train(resume_from(folder, CHECKPOINT_PREFIX, place))
    if trainer.state.best_global_step is None:
        raise ModelError(f"no evaluation gave a usable {settings.metric}; choose another --metric")
    best = {"step": trainer.state.best_global_step, "metric": settings.metric, "value": trainer.state.best_metric}
    epochs_done = trainer.state.global_step * (settings.batch_size or 1) / max(1, len(train))
    return best, {"steps": trainer.state.global_step}, int(train.lengths.sum() * min(epochs_done, settings.epochs))


def _metrics(job: Assignment, predicted: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    """Scores on the validation rows, from logits of the texts in the order `rows`."""
    if job.task.head == "sequence":
        logits = predicted[np.argsort(rows)]
    else:
        logits = tokens_in_order(predicted, job.valid.lengths, rows)
    return job.task.quick_score(job.task.outputs(logits, job.valid, job.space), job.valid.gold, job.space)


def _arguments(settings: TrainingSettings, task: Task, rows: int, folder: Path) -> TrainingArguments:
    assert settings.metric
    return TrainingArguments(
        **step_arguments(settings, rows, folder),
        per_device_eval_batch_size=64,
        eval_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model=settings.metric,
        greater_is_better=task.metrics[settings.metric].higher_is_better,
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


def _save_adapter(model: nn.Module, folder: Path) -> Path | None:
    """Keep an adapter before merging takes it apart; None for a model without one."""
    if not isinstance(model, PeftModel):
        return None
    with quiet_library():
        model.save_pretrained(str(folder))
    return folder
