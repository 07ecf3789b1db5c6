"""What the files beside run.json show: predictions looked at closely, the log of training, the findings."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.errors import ModelError
from tunesmith.evaluation.answer_scores import answer_scores
from tunesmith.evaluation.calibration import ReliabilityBin, reliability_bins
from tunesmith.evaluation.entity_scores import span_counts
from tunesmith.evaluation.metrics import LabelScores, confusion_matrix, label_scores, one_hot
from tunesmith.report.text import SHOWN_CHARACTERS, visible

MAX_MISTAKES = 20
MAX_PAIRS = 15


@dataclass(frozen=True)
class Mistake:
    """A wrong answer; `score` is the model's confidence in it, or the distance from the target for regression."""

    id: str
    text: str
    gold: str
    prediction: str
    score: float


@dataclass(frozen=True)
class Confusion:
    """`count` rows of label `gold` were taken for `prediction`; `share` is that count over the rows of `gold`."""

    gold: str
    prediction: str
    count: int
    share: float


@dataclass(frozen=True)
class Evidence:
    """The predictions of one split.

    Attributes:
        split: its name.
        rows: number of predictions.
        labels: names of the classes, those met only in gold last; empty for regression.
        per_label: scores of each label.
        confusion: counts (C, C) of gold by predicted class; None unless every row has one label.
        bins: reliability of the confidence; empty unless every row has one label and its scores.
        mistakes: the worst ones, most confident (or farthest from the target) first.
        mistake_count: number of rows that are not exactly right.
    """

    split: str
    rows: int
    labels: list[str]
    per_label: list[LabelScores]
    confusion: NDArray[np.int64] | None
    bins: list[ReliabilityBin]
    mistakes: list[Mistake]
    mistake_count: int

    def most_confused(self) -> list[Confusion]:
        """The pairs of classes confused most often, at most 15."""
        if self.confusion is None:
            return []
        counts, support = self.confusion.copy(), self.confusion.sum(axis=1)
        np.fill_diagonal(counts, 0)
        order = np.argsort(-counts, axis=None, kind="stable")[:MAX_PAIRS]
        pairs = (divmod(int(index), len(self.labels)) for index in order)
        return [
            Confusion(self.labels[i], self.labels[j], int(counts[i, j]), float(counts[i, j] / support[i]))
            for i, j in pairs
            if counts[i, j]
        ]


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file of the run; none where there is no such file.

    Raises:
        ModelError: a line is not a JSON object.
    """
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise ModelError(
                    f"{path}, line {number}: expected a JSON object; the run is damaged, evaluate it again"
                )
            yield row


def label_counts(folder: Path, run: Mapping[str, Any]) -> dict[str, Counter[str]]:
    """Split → label → rows, for the splits whose labels are known (from ``label_counts``, else from predictions).

    Answers to questions are no labels; of entities each counts.
    """
    found: dict[str, Counter[str]] = {}
    if run["task"] == "qa":
        return found
    for split in run.get("data", {}).get("splits", []):
        counts = Counter(split.get("label_counts") or {})
        if not counts:
            for row in read_lines(folder / "predictions" / f"{split['name']}.jsonl"):
                counts.update(_names(row.get("gold")))
        if counts:
            found[split["name"]] = counts
    return found


def gather(folder: Path, run: Mapping[str, Any], split: str) -> Evidence | None:
    """The evidence of a split, or None where it has no predictions."""
    rows = read_lines(folder / "predictions" / f"{split}.jsonl")
    if run["task"] == "regression":
        return _numbers(rows, split)
    if run["task"] in ("classification", "multilabel"):
        return _labels(
            rows, split, [str(label) for label in run["data"].get("labels", [])], run["task"] == "multilabel"
        )
    if run["task"] == "ner":
        return _spans(rows, split)
    return _answers(rows, split) if run["task"] == "qa" else None


def _spans(rows: Iterator[dict[str, Any]], split: str) -> Evidence | None:
    gold, predicted, worst = [], [], _Worst()
    for row in rows:
        sides = [[(span["start"], span["end"], span["label"]) for span in row[key]] for key in ("gold", "prediction")]
        gold.append(sides[0])
        predicted.append(sides[1])
        if set(sides[0]) != set(sides[1]):
            text = row["text"]
            words = [", ".join(f"{text[start:end]} ({label})" for start, end, label in side) or "–" for side in sides]
            worst.add(row | {"gold": words[0], "prediction": words[1]}, float(row["score"]))
    if not gold:
        return None
    types = sorted({label for spans in (*gold, *predicted) for _, _, label in spans})
    per_type = label_scores(*span_counts(gold, predicted, types))
    return Evidence(split, len(gold), types, per_type, None, [], worst.ordered(), worst.count)


def _answers(rows: Iterator[dict[str, Any]], split: str) -> Evidence | None:
    count, worst = 0, _Worst()
    for row in rows:
        count += 1
        if not answer_scores([row["prediction"]], [row["gold"]])[0][0]:
            words = {"gold": " / ".join(dict.fromkeys(row["gold"])) or "–", "prediction": row["prediction"] or "–"}
            worst.add(row | words, float(row["score"]))
    return Evidence(split, count, [], [], None, [], worst.ordered(), worst.count) if count else None


def _labels(rows: Iterator[dict[str, Any]], split: str, labels: list[str], several: bool) -> Evidence | None:
    index = {label: i for i, label in enumerate(labels)}
    gold, predicted, scores, worst = [], [], [], _Worst()
    for row in rows:
        right, answer = _names(row["gold"]), _names(row["prediction"])
        gold.append([index.setdefault(name, len(index)) for name in right])
        predicted.append([index.setdefault(name, len(index)) for name in answer])
        known = row.get("scores") or {}
        scores.append([float(known.get(label, 0.0)) for label in labels])
        if set(right) != set(answer):
            worst.add(row, float(row.get("score", min((known.get(name, 0.0) for name in answer), default=0.0))))
    if not gold:
        return None
    names, confusion, bins = list(index), None, []
    if several:
        actual, claimed = _sets(gold, len(names)), _sets(predicted, len(names))
    else:
        ids, answers = (np.array([row[0] for row in rows]) for rows in (gold, predicted))
        actual, claimed = one_hot(ids, len(names)), one_hot(answers, len(names))
        confusion = confusion_matrix(ids, answers, len(names))
        probabilities = np.array(scores)
        bins = reliability_bins(probabilities, ids) if probabilities.any() else []
    per_label = label_scores(actual & claimed, claimed, actual)
    return Evidence(split, len(gold), names, per_label, confusion, bins, worst.ordered(), worst.count)


def _numbers(rows: Iterator[dict[str, Any]], split: str) -> Evidence | None:
    count, worst = 0, _Worst()
    for row in rows:
        count += 1
        distance = abs(float(row["prediction"]) - float(row["gold"]))
        if distance:
            worst.add(row, distance)
    return Evidence(split, count, [], [], None, [], worst.ordered(), worst.count) if count else None


def _names(labels: Any) -> list[str]:
    return [str(label) for label in labels] if isinstance(labels, list) else [] if labels is None else [str(labels)]


def _sets(rows: list[list[int]], num_labels: int) -> NDArray[np.bool_]:
    matrix = np.zeros((len(rows), num_labels), bool)
    for i, ids in enumerate(rows):
        matrix[i, ids] = True
    return matrix


class _Worst:
    """Keeps the mistakes with the highest scores; earlier rows first among equals."""

    def __init__(self) -> None:
        self.count = 0
        self._heap: list[tuple[float, int, Mistake]] = []

    def add(self, row: Mapping[str, Any], score: float) -> None:
        self.count += 1
        text = str(row.get("text", "")) + (f" ‖ {row['text_pair']}" if row.get("text_pair") else "")
        gold, prediction = visible(row["gold"]), visible(row["prediction"])
        mistake = Mistake(visible(row.get("id", "")), visible(text, SHOWN_CHARACTERS), gold, prediction, score)
        heapq.heappush(self._heap, (score, -self.count, mistake))
        if len(self._heap) > MAX_MISTAKES:
            heapq.heappop(self._heap)

    def ordered(self) -> list[Mistake]:
        return [mistake for _, _, mistake in sorted(self._heap, reverse=True)]
