"""Losses as a sum, beside the weight to divide it by, so that an optimizer step is divided once, by its own targets.

A loss answers two questions: the sum over some targets (micro-batch by micro-batch), and the weight of some targets
(known before the model runs, so that the micro-batches of one step share one divisor).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch.nn import functional

from tunesmith.tasks.encoding import IGNORED


class Loss(ABC):
    """A loss over logits and targets."""

    @abstractmethod
    def total(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Sum over the targets (scalar float32)."""

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        """What the sum over these targets is divided by (scalar float32); if not said otherwise, their number."""
        return torch.tensor(float(targets.numel()), device=targets.device)


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Softmax cross-entropy of logits (..., labels) against int64 targets (...).

    Attributes:
        label_smoothing: share of the target spread evenly over all labels (Szegedy et al. 2016).
        class_weights: (labels,), or None. The divisor is then the sum of the targets' weights, as in torch.
    """

    label_smoothing: float = 0.0
    class_weights: torch.Tensor | None = None

    def total(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]).float(),
            targets.reshape(-1),
            None if self.class_weights is None else self.class_weights.to(logits.device),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        real = targets[targets != IGNORED]
        if self.class_weights is None:
            return torch.tensor(float(real.numel()), device=targets.device)
        return self.class_weights.to(targets.device)[real].sum()


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Sigmoid cross-entropy of logits (n, labels) against targets (n, labels) of 0 and 1; divided by n · labels.

    Attributes:
        label_smoothing: targets move to ``1 - s/2`` and ``s/2``, the two-class form of smoothing over all labels.
        class_weights: (labels,) weight of each label's positive targets, or None.
    """

    label_smoothing: float = 0.0
    class_weights: torch.Tensor | None = None

    def total(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        smooth = targets.float() * (1 - self.label_smoothing) + self.label_smoothing / 2
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        return functional.binary_cross_entropy_with_logits(logits.float(), smooth, pos_weight=weights, reduction="sum")


@dataclass(frozen=True)
class SquaredError(Loss):
    """Squared difference between logits and targets with as many elements; divided by their number."""

    def total(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.mse_loss(logits.float().reshape(-1), targets.float().reshape(-1), reduction="sum")


@dataclass(frozen=True)
class SpanCrossEntropy(Loss):
    """Softmax cross-entropy over the positions of a text, of its answer's first and last token; their mean.

    Logits are (n, length, 2), targets int64 (n, 2); divided by the number of texts.

    Attributes:
        label_smoothing: share of the target spread evenly over the real positions.
    """

    label_smoothing: float = 0.0

    def total(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        scores = functional.log_softmax(logits.float(), dim=1)
        loss = -scores.gather(1, targets.unsqueeze(1)).sum() / 2
        if not self.label_smoothing:
            return loss
        real = logits > torch.finfo(logits.dtype).min / 2
        even = -(scores * real / real.sum(dim=1, keepdim=True)).nan_to_num().sum() / 2
        return loss * (1 - self.label_smoothing) + even * self.label_smoothing

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        return torch.tensor(float(len(targets)), device=targets.device)


@dataclass(frozen=True)
class MaskedCrossEntropy(CrossEntropy):
    """Softmax cross-entropy of the tokens that are predicted, int64 targets (n, length) with `IGNORED` elsewhere.

    Logits are of every token (n, length, vocabulary), or of the predicted ones alone, in their order.
    """

    def total(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        predicted = targets != IGNORED
        return super().total(at_predicted(logits, predicted), targets[predicted])


def at_predicted(logits: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    """Logits (tokens, vocabulary) float32 where `predicted`, bool (n, length), from those of all tokens or of these."""
    some = logits[predicted] if logits.shape[:2] == predicted.shape else logits
    return some.reshape(-1, some.shape[-1]).float()
