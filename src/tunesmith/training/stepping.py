"""How steps are taken, whatever is learned: arguments made from settings, and where a resumed run goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tunesmith.config.schema import OptimisationSettings
from tunesmith.errors import UsageError
from tunesmith.progress import Progress
from tunesmith.training import checkpoint as checkpoints
from tunesmith.training.signals import StopRequest

LOGS_PER_EPOCH = 20


@dataclass(frozen=True)
class Workplace:
    """What a fit works with besides its data.

    Attributes:
        folder: the run folder.
        tokenizer: for its padding.
        progress: progress for the user.
        stop: request to end in order.
        identity: of the run, stored in checkpoints.
        resume: continue from the newest valid checkpoint, if there is one.
    """

    folder: Path
    tokenizer: Any
    progress: Progress
    stop: StopRequest
    identity: dict[str, Any]
    resume: bool


def planned_steps(settings: OptimisationSettings, rows: int) -> int:
    """Optimizer steps of all epochs."""
    assert settings.batch_size and settings.epochs
    return math.ceil(rows / settings.batch_size) * settings.epochs


def step_arguments(settings: OptimisationSettings, rows: int, folder: Path) -> dict[str, Any]:
    """The training arguments that do not depend on what is learned; one checkpoint an epoch, the newest is kept.

    Args:
        settings: with every value resolved.
        folder: of the checkpoints.

    Raises:
        UsageError: the batches cannot be cut into the wanted number of parts.
    """
    assert settings.batch_size and settings.epochs
    if settings.batch_size % settings.accumulation:
        raise UsageError(
            f"training.accumulation {settings.accumulation} does not divide --batch-size {settings.batch_size}"
        )
    steps = planned_steps(settings, rows)
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": settings.batch_size // settings.accumulation,
        "gradient_accumulation_steps": settings.accumulation,
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.lr,
        "warmup_steps": math.ceil(settings.warmup * steps),
        "lr_scheduler_type": "constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "logging_steps": max(1, steps // settings.epochs // LOGS_PER_EPOCH),
        "seed": settings.seed,
        "bf16": settings.precision == "bfloat16",
        "fp16": settings.precision == "float16",
        "use_cpu": not torch.cuda.is_available(),
        "report_to": settings.tracker,
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "label_names": ["labels"],
    }


def resume_from(folder: Path, prefix: str, place: Workplace) -> str | None:
    """For a run that is resumed, the newest checkpoint that can be used, if there is one; the user is told."""
    if not place.resume:
        return None
    found, problems = checkpoints.last_valid(folder, prefix, place.identity)
    for problem in problems:
        place.progress.line(f"warning: {problem}")
    place.progress.line(f"resuming from {found}" if found else "no checkpoint yet: starting from the first step")
    return None if found is None else str(found)
