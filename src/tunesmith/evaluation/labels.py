"""How each label fares on its own: precision, recall and F1 with intervals, and how many rows have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tunesmith.evaluation.entity_scores import SPAN_METRICS, Counts, Ints, span_statistics
from tunesmith.evaluation.intervals import Score, bootstrap, exact_limits
from tunesmith.evaluation.metrics import Metric, Metrics

LABEL_METRICS: Metrics = {
    "precision": Metric("Precision", "of the answers with this label, those that are right"),
    "recall": Metric("Recall", "of what has this label, what is found"),
    "f1": Metric("F1", "harmonic mean of precision and recall"),
}
LabelMetrics = dict[str, Score | None]


@dataclass(frozen=True)
class LabelScores:
    """Scores of one label.

    Attributes:
        support: how many rows (entities, questions) have it.
        predicted: how many were given it.
        metrics: name → value with its interval: `LABEL_METRICS`, and perhaps others of the task; None for what is not
            defined: everything where no row has the label, precision where none was given it.
    """

    support: int
    predicted: int
    metrics: LabelMetrics


ByLabel = dict[str, LabelScores]


def of_rows(names: Sequence[str], right: Ints, claimed: Ints, actual: Ints) -> ByLabel:
    """Scores of labels (C) whose rows are independent, with exact intervals; see `exact_limits`.

    F1 has one, too: with J = right / (claimed or actual) it is 2J / (1 + J), which grows with the share J.

    Args:
        right, claimed, actual: (C,), how many rows have the label rightly, in the answers, and in truth.
    """
    parts = {"precision": claimed, "recall": actual, "f1": claimed + actual - right}
    columns = {name: (right, total, *exact_limits(right, total)) for name, total in parts.items()}
    found = {}
    for at, label in enumerate(names):
        metrics: LabelMetrics = {}
        for name, column in columns.items():
            hits, total, low, high = (values[at].item() for values in column)
            share = Score(hits / total, low, high, total) if actual[at] and total else None
            metrics[name] = _f1(share) if name == "f1" and share else share
        found[label] = LabelScores(int(actual[at]), int(claimed[at]), metrics)
    return found


def _f1(share: Score) -> Score:
    value, low, high = (2 * j / (1 + j) for j in (share.value, share.low, share.high))
    return replace(share, value=value, low=low, high=high)


def of_documents(names: Sequence[str], counts: Counts, resamples: int, seed: int) -> ByLabel:
    """Scores of labels (C) that stand together in documents, with intervals over the documents that have them.

    Args:
        counts: right, claimed and actual, (documents, C) each.
    """
    found = {}
    for at, label in enumerate(names):
        own = _, claimed, actual = [part[:, at] for part in counts]
        metrics: LabelMetrics = {}
        for name, total in {"precision": claimed, "recall": actual, "f1": claimed + actual}.items():
            rows = total > 0  # other documents say nothing about it
            arrays = tuple(part[rows] for part in own)
            defined = actual.any() and rows.any()
            found_there = bootstrap(span_statistics, arrays, SPAN_METRICS, resamples, seed) if defined else {}
            metrics[name] = found_there.get(f"span_{name}")
        found[label] = LabelScores(int(actual.sum()), int(claimed.sum()), metrics)
    return found


def weakest_first(by_label: ByLabel, metric: str) -> list[tuple[str, LabelScores]]:
    """The labels by their value of a metric, or F1 where that is of no single label; those without rows come last."""

    def place(item: tuple[str, LabelScores]) -> tuple[bool, float, int]:
        score = item[1].metrics.get(metric if metric in item[1].metrics else "f1")
        return score is None, score.value if score else 0.0, -item[1].support

    return sorted(by_label.items(), key=place)


def label_titles(by_label: ByLabel, described: Mapping[str, Metric]) -> dict[str, Metric]:
    """What the metrics of the labels stand for, in the order of tables.

    Args:
        described: what those of the task stand for.
    """
    known = {**described, **LABEL_METRICS}
    return {name: known[name] for name in next(iter(by_label.values())).metrics} if by_label else {}
