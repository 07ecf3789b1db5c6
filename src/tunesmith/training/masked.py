"""Masked-language-model training: a fresh head alone first, then all of the model; perplexity in between."""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PrinterCallback

from tunesmith.config.schema import AdaptationSettings, EngineSettings
from tunesmith.engine import Engine, attached
from tunesmith.errors import DivergedError
from tunesmith.evaluation.intervals import Score, bootstrap
from tunesmith.evaluation.metrics import PERPLEXITY
from tunesmith.methods.base import optimizer_groups, parameter_summary, train_only
from tunesmith.models.heads import head_parameter_names
from tunesmith.models.masked import PREDICTED, head_at_predicted
from tunesmith.tasks.batching import PaddingCollator
from tunesmith.tasks.losses import IGNORED, MaskedCrossEntropy
from tunesmith.tasks.masked_words import Blocks
from tunesmith.training.arguments import TrainingArguments
from tunesmith.training.callbacks import ProgressCallback
from tunesmith.training.plan import Plan
from tunesmith.training.stepping import Workplace, planned_steps, resume_from, step_arguments
from tunesmith.training.trainer import Trainer

RESAMPLES = 1_000
BLOCKS_AT_ONCE = 16
"""Held-out blocks that go through the model together, unless fewer do in training."""


@dataclass(frozen=True)
class MaskedCollator:
    """Pads blocks, and says at which tokens the head is wanted."""

    pad: PaddingCollator

    def __call__(self, items: Any) -> dict[str, torch.Tensor]:
        batch = self.pad(items)
        return batch | {PREDICTED: batch["labels"] != IGNORED}


@dataclass(frozen=True)
class Adaptation:
    """What is to be adapted to what.

    Attributes:
        fresh: the model's head starts fresh.
        train, held_out: blocks to learn from, and those whose masks never change.
        settings: with every value resolved.
    """

    model: Any
    fresh: bool
    train: Blocks
    held_out: Blocks
    settings: AdaptationSettings
    engine: EngineSettings
    place: Workplace


@dataclass(frozen=True)
class Adapted:
    """What came of it.

    Attributes:
        perplexity: ``before``, ``after_warmup`` (None without a fresh head) and ``after``, on the held-out blocks.
        steps: of each phase that took place.
        tokens: read in the steps of this process.
        seconds: of these steps.
        engine: what the engine did, by part.
        spared: the head was computed at the predicted tokens alone.
    """

    perplexity: dict[str, Score | None]
    steps: dict[str, int]
    tokens: int
    seconds: float
    summary: dict[str, int]
    engine: dict[str, Any]
    spared: bool


def adapt_model(job: Adaptation) -> Adapted:
    """Train `job.model` in place.

    Raises:
        ModelError, DivergedError, Interrupted: see `Trainer.train`.
    """
    model, place = job.model, job.place
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    collate = MaskedCollator(replace(PaddingCollator.of(place.tokenizer, "token"), token_labels=True))
    measure = functools.partial(perplexity, model, job.held_out, collate, job.settings)
    perplexities: dict[str, Score | None] = {"before": None, "after_warmup": None, "after": None}
    engine_of = functools.partial(Engine, packing=job.engine.uses("packing"))
    phases: dict[str, Phase] = {}
    with attached(model, engine_of) as engine, head_at_predicted(model) as spared:
        perplexities["before"] = measure()
        if job.fresh:
            phases["head"] = _phase(job, "head", collate)
            perplexities["after_warmup"] = measure()
        phases["step"] = _phase(job, "step", collate)
        perplexities["after"] = measure()
    summary = parameter_summary(model)
    taken = sum(phase.steps - phase.first for phase in phases.values())
    seconds = sum(phase.seconds for phase in phases.values())
    tokens = taken * (job.settings.batch_size or 1) * job.train.length
    steps = {name: phase.steps for name, phase in phases.items()}
    model.eval()
    return Adapted(perplexities, steps, tokens, seconds, summary, engine.report(), spared)


@dataclass(frozen=True)
class Phase:
    """Steps of a phase: all of them, those before this process began, and the seconds of the others."""

    steps: int
    first: int
    seconds: float


def _phase(job: Adaptation, name: str, collate: MaskedCollator) -> Phase:
    """Train the head alone (``head``) or everything (``step``); checkpoints are called by the phase."""
    model, place, settings, train = job.model, job.place, job.settings, job.train
    head = head_parameter_names(model)
    if name == "head":
        steps_per_epoch = math.ceil(len(train) / (settings.batch_size or 1))
        settings = settings.model_copy(update={"epochs": math.ceil(settings.head_steps / steps_per_epoch)})
    train_only(model, head if name == "head" else (parameter for parameter, _ in model.named_parameters()))
    assert settings.lr is not None and settings.head_lr is not None
    head_rate = settings.head_lr if name == "head" else settings.lr
    rates = {n: head_rate if n in head else settings.lr for n, p in model.named_parameters() if p.requires_grad}
    plan = Plan(
        loss=MaskedCrossEntropy(),
        parameter_groups=lambda m: optimizer_groups(m, rates, settings.weight_decay),
        begin_epoch=lambda m, epoch, epochs: train.begin(name, epoch),
        stop=place.stop,
        prefix=name,
        identity=place.identity,
        save_minutes=settings.save_minutes,
        resume_hint="run the same command with --resume to continue",
    )
    folder = place.folder / "checkpoints"
    start = time.perf_counter()
    with place.progress.bar(name, planned_steps(settings, len(train))) as bar:
        progress = ProgressCallback(bar, place.folder / "metrics.jsonl", "perplexity", name)
        trainer = Trainer(
            model,
            TrainingArguments(**step_arguments(settings, len(train), folder)),
            collate,
            train_dataset=train,
            plan=plan,
            callbacks=[progress],
        )
        trainer.remove_callback(PrinterCallback)
        with place.stop:
            trainer.train(resume_from(folder, name, place))
    model.requires_grad_(True)
    return Phase(int(trainer.state.global_step), progress.first_step, time.perf_counter() - start)


def perplexity(model: nn.Module, blocks: Blocks, collate: MaskedCollator, settings: AdaptationSettings) -> Score:
    """Exponential of the mean loss of the predicted tokens, with an interval over blocks; always the same masks.

    Raises:
        DivergedError: it is not finite.
    """
    blocks.begin("held out", 0)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    sums, counts = [], []
    kind = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(settings.precision)
    size = min(BLOCKS_AT_ONCE, max(1, (settings.batch_size or 1) // settings.accumulation))
    for start in range(0, len(blocks), size):
        batch = collate([blocks[row] for row in range(start, min(start + size, len(blocks)))])
        labels = batch.pop("labels")
        predicted = batch[PREDICTED]
        with torch.no_grad(), torch.autocast(device.type, kind, enabled=kind is not None):
            logits = model(**{name: value.to(device) for name, value in batch.items()}).logits
        if logits.shape[:2] == labels.shape:
            logits = logits[predicted]
        losses = functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]).float().cpu(), labels[predicted], reduction="none"
        )
        rows = predicted.nonzero()[:, 0].numpy()
        sums.append(np.bincount(rows, weights=losses.numpy(), minlength=len(labels)))
        counts.append(np.bincount(rows, minlength=len(labels)))
    model.train(was_training)
    arrays = (np.concatenate(sums), np.concatenate(counts))
    found = bootstrap(_perplexity, arrays, {"perplexity": PERPLEXITY}, RESAMPLES, settings.seed)
    if "perplexity" not in found:
        raise DivergedError("the perplexity is not finite; lower the learning rate (--lr) and adapt again")
    return found["perplexity"]


def _perplexity(sums: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return {"perplexity": np.exp((sums @ weights) / (counts @ weights))}
