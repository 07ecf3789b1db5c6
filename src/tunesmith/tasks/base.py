"""What every task provides, and the values that pass between a task and the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from tunesmith.data.records import Label, Records
from tunesmith.evaluation.baselines import Baseline, Kind
from tunesmith.evaluation.intervals import Score
from tunesmith.tasks.losses import Loss


@dataclass(frozen=True)
class LabelSpace:
    """What the outputs of a model mean; made from the train split only.

    Attributes:
        names: label names in the order of the logits; for regression the one name of the value.
        mean, scale: of the training targets of a regression, which is trained on standardised targets.
    """

    names: tuple[str, ...]
    mean: float = 0.0
    scale: float = 1.0

    @property
    def in_users_units(self) -> LabelSpace:
        """The same space for a fitted model, whose outputs are no longer standardised."""
        return LabelSpace(self.names)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"names": list(self.names)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LabelSpace:
        return cls(tuple(values["names"]), float(values.get("mean", 0.0)), float(values.get("scale", 1.0)))


@dataclass(frozen=True)
class Prediction:
    """One answer in the user's units.

    Attributes:
        label: the label; a tuple of labels (possibly empty) for multi-label; the value as text for regression.
        score: probability of the label (for multi-label of the least certain one returned), or the value.
        scores: probability of every label; for regression the value under its name.
    """

    label: Label
    score: float
    scores: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        label = list(self.label) if isinstance(self.label, tuple) else self.label
        return {"label": label, "score": self.score, "scores": self.scores}


class Task(Protocol):
    """One kind of learning problem over texts."""

    name: ClassVar[Kind]
    problem_type: ClassVar[str]
    """As transformers writes it into a model's configuration."""
    primary_metric: ClassVar[str]
    counts_labels: ClassVar[bool]
    """Labels are names that can be counted, not numbers."""

    def labels(self, train: Records) -> LabelSpace:
        """The label space, from the train split."""
        ...

    def targets(self, records: Records, space: LabelSpace) -> np.ndarray:
        """Targets in the order of the records: int64 (n,), or float32 (n, labels) or (n,).

        Raises:
            DataError: a label that the train split lacks, with its rows.
        """
        ...

    def loss(self, label_smoothing: float, class_weights: torch.Tensor | None) -> Loss:
        """The loss; a task without classes ignores both arguments.

        Args:
            label_smoothing: share of the target spread over all labels.
            class_weights: what `class_weights` returns, as a tensor, or None.
        """
        ...

    def decode(self, logits: np.ndarray, space: LabelSpace) -> list[Prediction]:
        """Predictions for logits (n, labels) float32."""
        ...

    def score(
        self, logits: np.ndarray, targets: np.ndarray, space: LabelSpace, resamples: int, seed: int
    ) -> dict[str, Score]:
        """Every metric of the task with its 95 % interval."""
        ...

    def quick_score(self, logits: np.ndarray, targets: np.ndarray, space: LabelSpace) -> dict[str, float]:
        """Every metric of the task, without intervals: what is watched during training."""
        ...

    def compare(
        self, first: np.ndarray, second: np.ndarray, targets: np.ndarray, space: LabelSpace, resamples: int, seed: int
    ) -> dict[str, Any]:
        """Paired test of two models' logits on the same rows.

        Returns:
            ``difference``: metric → first minus second with its interval; ``p_value`` of McNemar's exact test where
            rows are right or wrong.
        """
        ...

    def logits_of(self, answer: Baseline) -> np.ndarray:
        """Logits that stand for a baseline's answer: the inverse of what turns logits into probabilities."""
        ...

    def class_weights(self, targets: np.ndarray, space: LabelSpace) -> np.ndarray | None:
        """Weights inversely proportional to the frequency of each label in the targets; None for regression."""
        ...


def shares(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """``n / (labels · count)`` per label, 1.0 on average over the rows (the "balanced" rule of scikit-learn)."""
    counts = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    weights: np.ndarray = counts.sum() / (len(counts) * counts)
    return weights.astype(np.float32)
