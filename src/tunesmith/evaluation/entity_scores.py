"""Scores of named entities, counted as the script of the CoNLL-2003 shared task counts them (Tjong Kim Sang 2003).

An entity is right when its first and last character and its type are those of an annotated one; precision, recall and
F1 are over all entities of all texts (micro averages).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tunesmith.evaluation.metrics import Floats, Metric, Metrics, Scores, ratio

Entity = tuple[int, int, str]
SPAN_METRICS: Metrics = {
    "span_precision": Metric("Span precision", "found spans that are exactly right"),
    "span_recall": Metric("Span recall", "true spans that are found exactly"),
    "span_f1": Metric(
        "Span F1",
        "harmonic mean of span precision and recall",
        sentence="Over {n} {split} texts, the F1 of the entities that are found exactly is {value}.",
    ),
}
Ints = NDArray[np.int64]
Counts = tuple[Ints, Ints, Ints]


def span_counts(
    gold: Sequence[Sequence[Entity]], predicted: Sequence[Sequence[Entity]], types: Sequence[str]
) -> Counts:
    """How many entities of each type are right, predicted and annotated in each text: three int64 (n, types)."""
    index = {name: i for i, name in enumerate(types)}
    right, claimed, actual = (np.zeros((len(gold), len(types)), dtype=np.int64) for _ in range(3))
    for row, (wanted, found) in enumerate(zip(gold, predicted, strict=True)):
        for entity in wanted:
            actual[row, index[entity[2]]] += 1
        for entity in found:
            claimed[row, index[entity[2]]] += 1
        for entity in set(wanted) & set(found):
            right[row, index[entity[2]]] += 1
    return right, claimed, actual


def span_statistics(right: Ints, claimed: Ints, actual: Ints, weights: Floats) -> Scores:
    """`span_precision`, `span_recall`, `span_f1` for each column of `weights` (n, B): (B,); 0 where undefined.

    Args:
        right, claimed, actual: (n,) or (n, types), as `span_counts` makes them.
    """
    hits, found, wanted = (part.reshape(len(part), -1).sum(axis=1) @ weights for part in (right, claimed, actual))
    return {
        "span_precision": ratio(hits, found),
        "span_recall": ratio(hits, wanted),
        "span_f1": ratio(2 * hits, found + wanted),
    }
