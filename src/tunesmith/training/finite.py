"""Whether what a step computed is finite, found out without waiting for the device.

A GPU works on what was launched long before, and asking it for a number stops everything until it has caught up. So the
step itself is told: torch's fused optimizers, which were made for loss scaling, leave everything as it is where their
``found_inf`` is 1. The host reads the same number when it arrives, a step or two later.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.errors import DivergedError
from tunesmith.training import checkpoint
from tunesmith.training.step_loss import StepLoss


@dataclass(frozen=True)
class Seen:
    """Numbers of a step on their way to the host.

    Attributes:
        step: counted from 1.
        numbers: (2,) float32, its loss and gradient norm.
        arrived: when they are there; None if they are.
    """

    step: int
    numbers: torch.Tensor
    arrived: torch.cuda.Event | None = None


class Finite:
    """Keeps an optimizer from steps whose loss or gradient norm is not finite, and tells of them later."""

    def __init__(self) -> None:
        self._waiting: deque[Seen] = deque()
        self._guarded: Any = None

    def leave(self) -> None:
        """Leave the optimizer as it was: it would skip the steps of whoever uses it next."""
        if self._guarded is not None:
            del self._guarded.found_inf
            self._guarded = None

    @staticmethod
    def can_guard(optimizer: Any) -> bool:
        """Whether the optimizer can be told: it is a fused Adam."""
        own = getattr(optimizer, "optimizer", optimizer)  # inside accelerate's wrapper
        return type(own) in (torch.optim.Adam, torch.optim.AdamW) and all(group["fused"] for group in own.param_groups)

    def guard(self, optimizer: Any, step: int, loss: torch.Tensor, norm: torch.Tensor) -> None:
        """Let the optimizer take its next step only if `loss` and `norm` (scalars) are finite."""
        found = torch.stack([loss.detach().float().reshape(()), norm.detach().float().reshape(())])
        self._guarded = getattr(optimizer, "optimizer", optimizer)
        self._guarded.found_inf = (~torch.isfinite(found)).any().float()
        if not found.is_cuda:
            self._waiting.append(Seen(step, found))
            return
        numbers = torch.empty(2, pin_memory=True).copy_(found, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        self._waiting.append(Seen(step, numbers, arrived))

    def objection(self, wait: bool = False) -> tuple[int, str] | None:
        """The first step that was not taken, and why; None if there is none so far.

        Args:
            wait: until all is known.
        """
        while self._waiting:
            seen: Any = self._waiting[0]
            if seen.arrived is not None and not wait and not seen.arrived.query():
                break
            if seen.arrived is not None:
                seen.arrived.synchronize()
            self._waiting.popleft()
            if not bool(torch.isfinite(seen.numbers).all()):
                return seen.step, words(*seen.numbers.tolist())
        return None


def words(loss: float, norm: float = 0.0) -> str:
    """What is not finite."""
    return f"the gradient norm is {norm}" if abs(loss) < float("inf") else f"the loss is {loss}"


class FiniteSteps(StepLoss):
    """The part of `Trainer` that ends a run at the first step that is not finite. Its names meet none of a subclass."""

    optimizer: Any
    accelerator: Any
    _tunesmith_finite: Finite
    _tunesmith_losses: list[torch.Tensor]
    _tunesmith_prefix: str
    _tunesmith_rate: str

    def __init__(self, *positional: Any, **options: Any) -> None:
        self._tunesmith_finite, self._tunesmith_losses = Finite(), []
        super().__init__(*positional, **options)

    def _tunesmith_folder(self, trial: Any = None) -> Path:
        return Path(str(self._get_output_dir(trial)))

    @property
    def _tunesmith_watched(self) -> bool:
        """Whether a step that is not finite ends the run."""
        # Under float16 loss scaling an infinite gradient is part of the search for the scale: that step is skipped.
        return self.accelerator.scaler is None and not self.args.logging_nan_inf_filter

    @property
    def _tunesmith_later(self) -> bool:
        """Whether that is found out without waiting for the device."""
        alone = self.args.device.type == "cuda" and self.args.world_size == 1 and self.args.max_grad_norm > 0
        return self._tunesmith_watched and alone and Finite.can_guard(self.optimizer)

    def _tunesmith_look_at(self, loss: torch.Tensor) -> None:
        """See to it that a loss is finite.

        Raises:
            DivergedError: it is not, and that is known already.
        """
        if self._tunesmith_later:
            self._tunesmith_losses.append(loss)
        elif not self.args.logging_nan_inf_filter and not torch.isfinite(loss).all():
            raise self._tunesmith_diverged(self.state.global_step + 1, words(loss.item()))

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]
        step, losses = self.state.global_step + 1, self._tunesmith_losses
        self._tunesmith_losses = []
        if isinstance(norm, torch.Tensor) and losses and self._tunesmith_later:
            self._tunesmith_finite.guard(self.optimizer, step, torch.stack(losses).sum(), norm)
        elif self._tunesmith_watched and norm is not None and not math.isfinite(float(norm)):
            raise self._tunesmith_diverged(step, words(0.0, float(norm)))
        return norm

    def _tunesmith_require_finite(self, wait: bool) -> None:
        if (objection := self._tunesmith_finite.objection(wait)) is not None:
            raise self._tunesmith_diverged(*objection)

    def _tunesmith_diverged(self, step: int, what: str) -> DivergedError:
        saved = checkpoint.checkpoints(self._tunesmith_folder(), self._tunesmith_prefix)
        state = f"the last good state is {saved[0]}" if saved else "no checkpoint was written yet"
        return DivergedError(
            f"training diverged at step {step}: {what}, so the step was not taken; {state}. "
            f"Lower {self._tunesmith_rate}, or look for damaged texts"
        )

    def _maybe_log_save_evaluate(self, *positional: Any, **options: Any) -> None:
        control = self.control
        self._tunesmith_require_finite(control.should_log or control.should_evaluate or control.should_save)
        super()._maybe_log_save_evaluate(*positional, **options)
