"""A task of another package: how many stars a text gives, scored by how far the answer is off."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from scipy.special import softmax

from tunesmith.data.records import Records
from tunesmith.data.shapes import RecordShape
from tunesmith.evaluation.baselines import Baseline
from tunesmith.evaluation.metrics import Metric, Metrics, Statistics
from tunesmith.tasks.base import LabelSpace, Task
from tunesmith.tasks.encoding import EncodedTexts, Encoder
from tunesmith.tasks.losses import CrossEntropy, Loss
from tunesmith.tasks.predictions import Prediction


class Stars(Task):
    name = "stars"
    title = "star rating"
    shape = RecordShape("stars", "one", "rating")
    head = "sequence"
    metrics: ClassVar[Metrics] = {
        "within_one": Metric(
            "Within one star",
            "ratings at most one star off",
            sentence="Of {n} {split} ratings, {value} are at most one star off.",
        ),
        "stars_off": Metric("Stars off", "mean distance in stars; lower is better", False, False),
    }
    primary_metric = "stars_off"
    kinds_noun = "ratings"

    def labels(self, train: Records) -> LabelSpace:
        return LabelSpace(tuple(sorted({str(label) for label in train.labels}, key=int)))

    def targets(self, records: Records, space: LabelSpace) -> np.ndarray:
        return np.array([space.names.index(str(label)) for label in records.labels], dtype=np.int64)

    def encode(self, records: Records, space: LabelSpace, encoder: Encoder, labelled: bool) -> EncodedTexts:
        return encoder.texts(records, self.targets(records, space) if labelled else None)

    def loss(self, label_smoothing: float, class_weights: torch.Tensor | None) -> Loss:
        return CrossEntropy(label_smoothing, class_weights)

    def outputs(self, logits: np.ndarray, encoded: EncodedTexts, space: LabelSpace) -> dict[str, np.ndarray]:
        return {"probabilities": softmax(logits.astype(np.float64), axis=1)}

    def decode(self, outputs: dict[str, np.ndarray], space: LabelSpace) -> list[Prediction]:
        return [
            Prediction(space.names[row.argmax()], float(row.max()), dict(zip(space.names, row.tolist(), strict=True)))
            for row in outputs["probabilities"]
        ]

    def statistics(self, space: LabelSpace) -> Statistics:
        def off(distance: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
            total = weights.sum(axis=0)
            return {"within_one": (distance <= 1) @ weights / total, "stars_off": distance @ weights / total}

        return off

    def arrays(self, outputs: dict[str, np.ndarray], targets: np.ndarray, space: LabelSpace) -> tuple[np.ndarray, ...]:
        stars = np.array([int(name) for name in space.names])
        return (np.abs(stars[outputs["probabilities"].argmax(axis=1)] - stars[targets]).astype(np.float64),)

    def right(self, outputs: dict[str, np.ndarray], targets: np.ndarray, space: LabelSpace) -> np.ndarray:
        return np.asarray(outputs["probabilities"].argmax(axis=1) == targets)

    def baselines(self, train: Records, test: Records, space: LabelSpace, seed: int) -> list[Baseline]:
        shares = np.bincount(self.targets(train, space), minlength=len(space.names)) / len(train)
        return [Baseline("the commonest rating", {"probabilities": np.repeat(shares[None], len(test), axis=0)}, 0.0)]
