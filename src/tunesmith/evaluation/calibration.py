"""How far a model's confidence can be taken at its word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 15


@dataclass(frozen=True)
class ReliabilityBin:
    """The rows whose confidence lies in ``(low, high]``.

    Attributes:
        low, high: limits of the bin, in [0, 1].
        count: rows in the bin; the two means are NaN where it is 0.
        confidence: mean probability of the predicted class.
        accuracy: share of rows predicted correctly.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def binned_confidence(
    probabilities: NDArray[np.floating], gold: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Of each row its equal-width, right-closed bin, its largest probability, and whether that class is right; (n,)."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    return bins, confidence, probabilities.argmax(axis=1) == gold


def reliability_bins(probabilities: NDArray[np.floating], gold: NDArray[np.integer]) -> list[ReliabilityBin]:
    """The equal-width bins of a reliability diagram (Guo et al. 2017, "On Calibration of Modern Neural Networks").

    The expected calibration error `ece` is the mean of ``|accuracy - confidence|`` over the bins, weighted by `count`.

    Args:
        probabilities: float (n, C), rows summing to 1.
        gold: class ids (n,).
    """
    bins, confidence, correct = binned_confidence(probabilities, gold)
    counts = np.bincount(bins, minlength=NUM_BINS)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(bins, confidence, NUM_BINS) / counts
        accuracy = np.bincount(bins, correct, NUM_BINS) / counts
    return [
        ReliabilityBin(i / NUM_BINS, (i + 1) / NUM_BINS, int(counts[i]), float(mean_confidence[i]), float(accuracy[i]))
        for i in range(NUM_BINS)
    ]
