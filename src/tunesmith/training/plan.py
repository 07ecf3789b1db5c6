"""What a run decides about its training beyond the arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tunesmith.tasks.losses import Loss
from tunesmith.training.signals import StopRequest


@dataclass(frozen=True)
class Plan:
    """What a run may decide beyond the arguments; the defaults make the Trainer a drop-in for the stock one.

    Attributes:
        loss: of the task, on the model's logits; None takes the one that fits the model's head, or the model's own.
        logits: finds them in what the model returns, given its attention mask; None for its ``logits``.
        parameter_groups: model → optimizer groups; None for the library's two groups.
        begin_epoch: called with (model, epoch, epochs) before each epoch.
        stop: request to end after the current step.
        prefix: of checkpoint folders, ``<prefix>-<step>``.
        identity: what checkpoints belong to; one of another identity is refused.
        save_minutes: longest time between two checkpoints.
        resume_hint: how the user continues an interrupted run.
    """

    loss: Loss | None = None
    logits: Callable[[Any, torch.Tensor], torch.Tensor] | None = None
    parameter_groups: Callable[[nn.Module], list[dict[str, Any]]] | None = None
    begin_epoch: Callable[[nn.Module, int, int], None] | None = None
    stop: StopRequest = field(default_factory=StopRequest)
    prefix: str = "checkpoint"
    identity: dict[str, Any] = field(default_factory=dict)
    save_minutes: float = math.inf
    resume_hint: str = "continue with train(resume_from_checkpoint=True)"
