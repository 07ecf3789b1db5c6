"""Edits of a text, and where its spans and answers are afterwards.

An edit replaces the characters from `start` up to `end`. It lies wholly outside a protected range, or is exactly that
range; so every span and answer either quotes the same characters as before, or the replacement as a whole.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from tunesmith.data.records import Answer, Label, Span, TextRecord
from tunesmith.data.words import word_bounds, written_words


class Edit(NamedTuple):
    """The characters from `start` up to `end` become `replacement`; with `start == end` it is inserted there."""

    start: int
    end: int
    replacement: str


@dataclass(frozen=True)
class Passage:
    """A text to be edited.

    Attributes:
        marked: its entities, or answers in it; their characters are protected.
        draw: the generator that decides about this text and no other.
    """

    text: str
    marked: tuple[Span | Answer, ...]
    draw: np.random.Generator

    @cached_property
    def protected(self) -> tuple[list[int], list[int]]:
        """Where ranges begin that no edit may touch, in order, and how far those up to each of them reach."""
        ranges = sorted((item.start, item.end) for item in self.marked)
        return [start for start, _ in ranges], list(accumulate((end for _, end in ranges), max))

    def is_free(self, start: int, end: int) -> bool:
        """Whether no character from `start` up to `end` is protected."""
        starts, reach = self.protected
        begun = bisect_left(starts, end)
        return begun == 0 or reach[begun - 1] <= start

    @cached_property
    def words(self) -> list[tuple[int, int]]:
        """Bounds of the words that may be changed."""
        return [bounds for bounds in written_words(self.text) if self.is_free(*bounds)]

    def some(self, count: int, of: Sequence[tuple[int, int]] | None = None) -> list[tuple[int, int]]:
        """`count` different words drawn from `of` (else from all that may be changed), in the order of the text."""
        words = self.words if of is None else of
        if not words:
            return []
        chosen = self.draw.choice(len(words), min(count, len(words)), replace=False)
        return [words[i] for i in sorted(chosen.tolist())]


def passages(record: TextRecord, draws: Iterable[np.random.Generator]) -> list[Passage]:
    """The text, or both texts of a pair, of a record; answers lie in the second text, spans in the first."""
    marked = [item for item in record.label or () if isinstance(item, Span | Answer)]
    parts = [(record.text, Span)] if record.text_pair is None else [(record.text, Span), (record.text_pair, Answer)]
    return [
        Passage(text, tuple(item for item in marked if isinstance(item, kind)), draw)
        for (text, kind), draw in zip(parts, draws, strict=False)
    ]


def apply(text: str, edits: Iterable[Edit]) -> str:
    """The text after all edits, each given in characters of the text before them.

    Raises:
        ValueError: two edits overlap.
    """
    pieces, at = [], 0
    for start, end, replacement in sorted(edits, key=lambda edit: edit[:2]):
        if start < at:
            raise ValueError(f"an edit begins at {start}, inside another that ends at {at}")
        pieces += [text[at:start], replacement]
        at = end
    return "".join([*pieces, text[at:]])


def moved(ranges: Iterable[tuple[int, int]], edits: Iterable[Edit]) -> list[tuple[int, int]]:
    """Where the characters of each half-open range, not an empty one, are after the edits.

    Raises:
        ValueError: an edit touches a part of a range.
    """
    ordered = sorted(edits, key=lambda edit: edit[:2])
    ends = [edit.end for edit in ordered]
    growth = [0, *accumulate(len(edit.replacement) - (edit.end - edit.start) for edit in ordered)]
    found = []
    for start, end in ranges:
        first = after = bisect_right(ends, start)  # edits before it
        if first < len(ordered) and ordered[first].start < end:
            if ordered[first][:2] != (start, end):
                raise ValueError(f"{ordered[first]} touches the protected {start} to {end}")
            after += 1
        found.append((start + growth[first], end + growth[after]))
    return found


def moved_label(label: Label | None, edits: Sequence[Iterable[Edit]]) -> Label | None:
    """The label of a record whose text (and second text) were edited."""
    if not (isinstance(label, tuple) and label and isinstance(label[0], Span | Answer)):
        return label
    marked: tuple[Any, ...] = label
    in_pair = isinstance(label[0], Answer)
    placed = zip(moved(((item.start, item.end) for item in marked), edits[in_pair]), marked, strict=True)
    if in_pair:
        return tuple(Answer(start, item.text) for (start, _), item in placed)
    return tuple(Span(start, end, item.label) for (start, end), item in placed)


def edges_inside_words(text: str, label: Label | None, coarse: bool) -> int:
    """How many edges of spans lie inside a (fine or `coarse`) word, where no tag of words can mark them."""
    spans = [item for item in label if isinstance(item, Span)] if isinstance(label, tuple) else []
    if not spans:
        return 0
    starts, ends = word_bounds(text, coarse)
    edges = np.array([edge for span in spans for edge in (span.start, span.end)])
    word = np.searchsorted(starts, edges, side="left") - 1  # the last word that begins before the edge
    return int(((word >= 0) & (ends[word] > edges)).sum())
