"""Metrics as functions of row weights.

Every metric here is computed from a matrix of weights (n, B): how often each of the n rows counts in each of B
resamples. The score itself is the case of one column of ones, a bootstrap resample is a column of draws, and both come
from the same lines of code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.errors import DataError, DivergedError
from tunesmith.evaluation.calibration import NUM_BINS, binned_confidence

Floats = NDArray[np.float64]
Scores = dict[str, Floats]
Statistics = Callable[..., Scores]
Arrays = tuple[NDArray[Any] | None, ...]


@dataclass(frozen=True)
class Metric:
    """What a metric's name stands for.

    Attributes:
        title: its name for people.
        meaning: what it says, in a few words.
        is_proportion: a share of something, shown in percent.
        higher_is_better: direction.
        sentence: what a value of it says, a pattern of ``n``, ``split``, ``title`` and ``value``.
    """

    title: str
    meaning: str
    is_proportion: bool = True
    higher_is_better: bool = True
    sentence: str = "Over {n} {split} rows, the {title} is {value}."

    def value_text(self, value: float) -> str:
        """A value alone: ``93.8 %`` or ``0.871``."""
        return (f"{100 * value:.1f} %" if self.is_proportion else f"{value:.3f}").replace("-", "−")


Metrics = Mapping[str, Metric]
"""By name, in the order in which they are shown."""

MULTILABEL_METRICS: Metrics = {
    "accuracy": Metric(
        "Accuracy", "rows answered entirely right", sentence="Of {n} {split} rows, {value} are answered entirely right."
    ),
    "macro_f1": Metric(
        "Macro F1",
        "mean F1 over labels, each counting the same",
        sentence="Over {n} {split} rows, the mean F1 of the labels, rare ones counting as common ones, is {value}.",
    ),
    "micro_f1": Metric("Micro F1", "F1 over all decisions, each counting the same"),
    "weighted_f1": Metric("Weighted F1", "mean F1 over labels, by their frequency"),
    "roc_auc": Metric("ROC AUC", "chance that a right label outranks a wrong one", is_proportion=False),
}
CLASSIFICATION_METRICS: Metrics = {
    **{name: metric for name, metric in MULTILABEL_METRICS.items() if name != "roc_auc"},
    "mcc": Metric("Matthews correlation", "agreement beyond chance, from −1 to 1", is_proportion=False),
    "roc_auc": MULTILABEL_METRICS["roc_auc"],
    "ece": Metric(
        "Calibration error", "mean gap between confidence and accuracy; lower is better", higher_is_better=False
    ),
}
REGRESSION_METRICS: Metrics = {
    "mae": Metric(
        "Mean absolute error",
        "mean distance from the target, in its unit; lower is better",
        False,
        False,
        "Over {n} {split} rows, the prediction is {value} from the target on average.",
    ),
    "rmse": Metric(
        "Root mean squared error",
        "as the error above, large misses counting more; lower is better",
        False,
        False,
        "Over {n} {split} rows, the root mean squared distance from the target is {value}.",
    ),
    "pearson": Metric(
        "Pearson correlation",
        "linear agreement with the target",
        False,
        sentence="Over {n} {split} rows, predictions and targets have a linear correlation of {value}.",
    ),
    "spearman": Metric(
        "Spearman correlation",
        "agreement in order with the target",
        False,
        sentence="Over {n} {split} rows, the order of predictions and targets has a correlation of {value}.",
    ),
}
OF_PROBABILITIES = ("roc_auc", "ece")
"""Metrics that need more than the answers, and much more work."""
PERPLEXITY = Metric("Perplexity", "as uncertain as a choice among so many words; lower is better", False, False)


def one_hot(ids: NDArray[np.integer], num_labels: int) -> NDArray[np.bool_]:
    """Class ids (n,) as a bool matrix (n, num_labels)."""
    matrix: NDArray[np.bool_] = np.equal.outer(ids, np.arange(num_labels))
    return matrix


def unweighted(statistics: Statistics, arrays: Arrays) -> dict[str, float]:
    """Every score on the rows as they are.

    Args:
        statistics: ``(*arrays, weights) -> {name: (B,)}``, as the functions below.
        arrays: what is scored, with equal first axis; None is passed through.
    """
    weights = np.ones((num_rows(arrays), 1))
    return {name: float(value[0]) for name, value in statistics(*arrays, weights).items()}


def num_rows(arrays: Arrays) -> int:
    """The first axis that all arrays have."""
    lengths = {len(array) for array in arrays if array is not None}
    if len(lengths) != 1:
        raise ValueError(f"arrays must have equal first axes, found lengths {sorted(lengths)}")
    return lengths.pop()


def classification_statistics(
    gold: NDArray[np.integer],
    predicted: NDArray[np.integer],
    probabilities: NDArray[np.floating] | None,
    weights: Floats,
    *,
    num_labels: int,
) -> Scores:
    """Scores of single-label classification, for each column of `weights` (n, B): (B,), NaN where undefined.

    Args:
        gold: class ids (n,) in [0, num_labels).
        predicted: class ids (n,).
        probabilities: float (n, num_labels), rows summing to 1; without them `roc_auc` and `ece` are left out.
        num_labels: number of classes C.

    Returns:
        `accuracy`; `macro_f1` and `weighted_f1` over the classes that occur in gold or predicted; `micro_f1` (equal to
        accuracy here); `mcc` (the multi-class R_K of Gorodkin 2004; 0 where one side is constant); `roc_auc` (of class
        1 for two classes, else the mean over one-vs-rest; left out unless gold has every class); `ece` (15 bins).

    Raises:
        DataError: there are no rows.
        DivergedError: a probability is not finite.
        ValueError: a class id is out of range.
    """
    _refuse_unscorable(gold, probabilities)
    if min(gold.min(), predicted.min()) < 0 or max(gold.max(), predicted.max()) >= num_labels:
        raise ValueError(f"class ids must lie in [0, {num_labels})")
    correct = gold == predicted
    actual, claimed = (_sums(ids, num_labels, weights) for ids in (gold, predicted))
    hits = _sums(gold[correct], num_labels, weights[correct])
    total = weights.sum(axis=0)
    scores = {"accuracy": hits.sum(axis=0) / total, **_f1_scores(hits, actual, claimed)}
    numerator = hits.sum(axis=0) * total - (actual * claimed).sum(axis=0)
    spread = (total**2 - (actual**2).sum(axis=0)) * (total**2 - (claimed**2).sum(axis=0))
    scores["mcc"] = ratio(numerator, np.sqrt(spread))
    if probabilities is not None:
        if num_labels > 1 and np.unique(gold).size == num_labels:
            scores["roc_auc"] = _mean_auc(one_hot(gold, num_labels), probabilities, weights)
        bins, confidence, right = binned_confidence(probabilities, gold)
        gaps = _sums(bins, NUM_BINS, weights * (right - confidence)[:, None])
        scores["ece"] = np.abs(gaps).sum(axis=0) / total
    return scores


def multilabel_statistics(
    gold: NDArray[np.bool_], predicted: NDArray[np.bool_], probabilities: NDArray[np.floating] | None, weights: Floats
) -> Scores:
    """Scores of multi-label classification, for each column of `weights` (n, B): (B,), NaN where undefined.

    Args:
        gold: bool (n, C), whether row i has label c.
        predicted: bool (n, C).
        probabilities: float (n, C), each in [0, 1]; without them `roc_auc` is left out.

    Returns:
        `accuracy` (the whole set is right); `macro_f1` and `weighted_f1` over the labels that occur in gold or
        predicted; `micro_f1`; all F1 scores are 0 where nothing occurs; `roc_auc`, the mean over labels that some
        rows have and some have not, left out where there is none.

    Raises:
        DataError, DivergedError: as `classification_statistics`.
    """
    _refuse_unscorable(gold, probabilities)
    exact = (gold == predicted).all(axis=1)
    own = [matrix.nonzero() for matrix in (gold & predicted, gold, predicted)]
    counts = [_sums(labels, gold.shape[1], weights[rows]) for rows, labels in own]
    scores = {"accuracy": exact @ weights / weights.sum(axis=0), **_f1_scores(*counts)}
    varies = gold.any(axis=0) & ~gold.all(axis=0)
    if probabilities is not None and varies.any():
        scores["roc_auc"] = _mean_auc(gold[:, varies], probabilities[:, varies], weights)
    return scores


def regression_statistics(gold: NDArray[np.floating], predicted: NDArray[np.floating], weights: Floats) -> Scores:
    """Scores of regression on floats (n,), for each column of `weights` (n, B): (B,).

    `mae` and `rmse` in the unit of the target, `pearson`, `spearman`; a correlation with a constant is undefined and
    reported as 0.

    Raises:
        DataError, DivergedError: as `classification_statistics`.
    """
    _refuse_unscorable(gold, predicted)
    error, total = predicted - gold, weights.sum(axis=0)
    return {
        "mae": np.abs(error) @ weights / total,
        "rmse": np.sqrt(error**2 @ weights / total),
        "pearson": _correlation(gold[:, None].astype(np.float64), predicted[:, None].astype(np.float64), weights),
        "spearman": _correlation(_midranks(gold, weights), _midranks(predicted, weights), weights),
    }


def _refuse_unscorable(gold: NDArray[Any], scores: NDArray[Any] | None) -> None:
    if not len(gold):
        raise DataError("nothing to score: the split has no labelled rows; give it at least one")
    if scores is not None and not np.isfinite(scores).all():
        raise DivergedError("the model's scores are not finite; lower training.lr and train again")


def _sums(ids: NDArray[np.integer], size: int, weights: Floats) -> Floats:
    """The rows of `weights` (n, B) added up by their `ids` (n,): (size, B)."""
    columns = weights.shape[1]
    places = ids[:, None] * columns + np.arange(columns)
    sums = np.bincount(places.ravel(), weights.ravel(), size * columns)
    return np.asarray(sums.reshape(size, columns), np.float64)


def ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """Quotient, 0 where the denominator is 0."""
    quotient: Floats = np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=denominator > 0)
    return quotient


def _f1_scores(hits: Floats, actual: Floats, claimed: Floats) -> Scores:
    """F1 averages over labels from counts (C, B): right, in gold, in predicted."""
    f1 = ratio(2 * hits, actual + claimed)
    return {
        "macro_f1": ratio(f1.sum(axis=0), (actual + claimed > 0).sum(axis=0)),
        "micro_f1": ratio(2 * hits.sum(axis=0), (actual + claimed).sum(axis=0)),
        "weighted_f1": ratio((f1 * actual).sum(axis=0), actual.sum(axis=0)),
    }


def _midranks(values: NDArray[Any], weights: Floats, rows: NDArray[np.bool_] | None = None) -> Floats:
    """Ranks from 1 in each resample, of all rows (n, B) or of some; ties stand at the middle of their ranks."""
    order = np.argsort(values)
    below = np.zeros((len(values) + 1, weights.shape[1]))
    np.cumsum(weights[order], axis=0, out=below[1:])
    wanted = values if rows is None else values[rows]
    first, last = (np.searchsorted(values[order], wanted, side) for side in ("left", "right"))
    ranks: Floats = (below[first] + below[last] + 1) / 2
    return ranks


def _mean_auc(gold: NDArray[np.bool_], probabilities: NDArray[np.floating], weights: Floats) -> Floats:
    """Mean area under the ROC curve over labels (one-vs-rest), from rank sums (Mann & Whitney 1947).

    A label that is absent from a resample, or that all its rows have, is left out of that resample's mean. With two
    classes the areas of both are equal, so only class 1 is computed. Work: rows · labels · resamples.
    """
    num_labels = gold.shape[1]
    if num_labels == 2 and (gold[:, 0] ^ gold[:, 1]).all():
        gold, probabilities, num_labels = gold[:, 1:], probabilities[:, 1:], 1
    total, areas, defined = weights.sum(axis=0), np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    for label in range(num_labels):
        rows = gold[:, label]
        positives = weights[rows].sum(axis=0)
        rank_sum = (_midranks(probabilities[:, label], weights, rows) * weights[rows]).sum(axis=0)
        pairs = positives * (total - positives)
        areas += ratio(rank_sum - positives * (positives + 1) / 2, pairs)
        defined += pairs > 0
    mean: Floats = np.divide(areas, defined, out=np.full(areas.shape, np.nan), where=defined > 0)
    return mean


def _correlation(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Pearson's r of x and y ((n, B) or (n, 1)) in each resample; 0 where one of them does not vary."""
    total = weights.sum(axis=0)
    x, y = (v - (v * weights).sum(axis=0) / total for v in (x, y))
    deviations = [np.sqrt((v**2 * weights).sum(axis=0) / total) for v in (x, y)]
    covariance = (x * y * weights).sum(axis=0) / total
    return np.clip(ratio(covariance, deviations[0] * deviations[1]), -1, 1)
