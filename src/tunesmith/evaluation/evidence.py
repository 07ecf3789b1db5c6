"""What lies behind the scores of a split: which labels are confused, how far confidence holds, the worst mistakes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunesmith.evaluation.calibration import ReliabilityBin

MAX_MISTAKES = 20
MAX_PAIRS = 15
SHOWN_CHARACTERS = 300
BETWEEN = " ‖ "
"""Stands between the texts of a pair."""


MISSED, WRONG = "missed", "wrong"


class Mark(NamedTuple):
    """Characters of a text from `start` up to, not including, `end`: `MISSED`, or `WRONG` where they were named."""

    start: int
    end: int
    kind: str


class Excerpt(NamedTuple):
    """The part of a text that shows a mistake, with the marks in it."""

    text: str
    marks: tuple[Mark, ...] = ()

    @property
    def pieces(self) -> list[tuple[str, str]]:
        """The text in pieces, each with the kinds of its marks, separated by spaces."""
        edges = sorted({0, len(self.text), *(edge for mark in self.marks for edge in mark[:2])})
        return [
            (self.text[a:b], " ".join(sorted({kind for start, end, kind in self.marks if start <= a and b <= end})))
            for a, b in pairwise(edges)
        ]


@dataclass(frozen=True)
class Mistake:
    """A wrong answer, in the characters of the data.

    Attributes:
        id: of the record.
        excerpt: the part of it that shows the mistake, at most about 300 characters of each text.
        gold, prediction: what is true and what was said, where they differ; ``–`` for nothing.
        score: the model's confidence in its answer, or the distance from the target for numbers.
    """

    id: str
    excerpt: Excerpt
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
    """The answers on one split, looked at closely.

    Attributes:
        rows: number of records.
        mistakes: the worst ones, most confident (or farthest from the target) first.
        mistake_count: number of records that are not answered entirely right.
        labels: names of the rows and columns of `confusion`.
        confusion: counts (C, C) of true by predicted label; None unless every record has one label.
        bins: reliability of the confidence; empty unless every record has one label.
        values: true and predicted numbers, (n,) float64 each; None where answers are no numbers.
    """

    rows: int
    mistakes: list[Mistake]
    mistake_count: int
    labels: list[str] = field(default_factory=list)
    confusion: NDArray[np.int64] | None = None
    bins: list[ReliabilityBin] = field(default_factory=list)
    values: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    def most_confused(self) -> list[Confusion]:
        """The pairs of labels confused most often, at most 15."""
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


def worst(wrong: NDArray[np.bool_], scores: NDArray[np.floating]) -> list[int]:
    """The wrong rows (n,) with the largest scores (n,), earlier ones first among equals; at most 20."""
    rows = np.flatnonzero(wrong)
    order: list[int] = rows[np.argsort(-scores[rows], kind="stable")[:MAX_MISTAKES]].tolist()
    return order


def shown(
    text: str, second: str | None, at: int = 0, at_second: int = 0, marks: Iterable[Mark] = (), in_second: bool = False
) -> Excerpt:
    """Of a text, or of both of a pair, at most about 300 characters, with the one at `at` (`at_second`) among them.

    Args:
        marks: in the text, or in the second one.
    """
    first, shift = _excerpt(text, at)
    if second:
        other, shift_second = _excerpt(second, at_second)
        shift = len(first) + len(BETWEEN) + shift_second if in_second else shift
        lowest, first = (len(first) + len(BETWEEN)) * in_second, f"{first}{BETWEEN}{other}"
    else:
        lowest = 0
    moved = [(max(lowest, start + shift), min(len(first), end + shift), kind) for start, end, kind in marks]
    return Excerpt(first, tuple(Mark(*mark) for mark in moved if mark[0] < mark[1]))


def _excerpt(text: str, at: int) -> tuple[str, int]:
    """Part of a text, and what is to be added to places in the text for places in the part."""
    start = max(0, min(at - SHOWN_CHARACTERS // 3, len(text) - SHOWN_CHARACTERS))
    end = start + SHOWN_CHARACTERS
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else ""), bool(start) - start
