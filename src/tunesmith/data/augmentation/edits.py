"""Edits of a text, and where its spans and answers are afterwards.

An edit replaces the characters from `start` up to `end`. It lies wholly outside a protected range, or is exactly that
range; so every span and answer either quotes the same characters as before, or the replacement as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

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
        spans: its entities; their characters are protected.
        answers: answers in it; their characters are protected.
        draw: the generator that decides about this text and no other.
    """

    text: str
    spans: tuple[Span, ...]
    answers: tuple[Answer, ...]
    draw: np.random.Generator

    @cached_property
    def protected(self) -> list[tuple[int, int]]:
        """Half-open ranges of characters, none of which an edit may touch."""
        answers = [(answer.start, answer.start + len(answer.text)) for answer in self.answers]
        return [(span.start, span.end) for span in self.spans] + answers

    def is_free(self, start: int, end: int) -> bool:
        """Whether no character from `start` up to `end` is protected."""
        return all(end <= first or start >= after for first, after in self.protected)

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
    label = record.label if isinstance(record.label, tuple) else ()
    spans = tuple(item for item in label if isinstance(item, Span))
    answers = tuple(item for item in label if isinstance(item, Answer))
    parts: list[tuple[str, tuple[Span, ...], tuple[Answer, ...]]] = [(record.text, spans, ())]
    if record.text_pair is not None:
        parts.append((record.text_pair, (), answers))
    return [Passage(*part, draw) for part, draw in zip(parts, draws, strict=False)]


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


def moved(start: int, end: int, edits: Iterable[Edit]) -> tuple[int, int]:
    """Where the characters from `start` up to `end` are after the edits.

    Raises:
        ValueError: an edit touches a part of them.
    """
    before, inside = 0, 0
    for edit in edits:
        growth = len(edit.replacement) - (edit.end - edit.start)
        if edit.end <= start:
            before += growth
        elif (edit.start, edit.end) == (start, end):
            inside = growth
        elif edit.start < end:
            raise ValueError(f"an edit of {edit.start} to {edit.end} touches the protected {start} to {end}")
    return start + before, end + before + inside


def moved_label(label: Label | None, edits: Sequence[Iterable[Edit]]) -> Label | None:
    """The label of a record whose text (and second text) were edited."""
    if not isinstance(label, tuple):
        return label
    if label and isinstance(label[0], Span):
        spans = [item for item in label if isinstance(item, Span)]
        return tuple(Span(*moved(span.start, span.end, edits[0]), span.label) for span in spans)
    if label and isinstance(label[0], Answer):
        answers = [item for item in label if isinstance(item, Answer)]
        return tuple(Answer(moved(a.start, a.start + len(a.text), edits[1])[0], a.text) for a in answers)
    return label


def edges_inside_words(text: str, label: Label | None, coarse: bool) -> int:
    """How many edges of spans lie inside a (fine or `coarse`) word, where no tag of words can mark them."""
    spans = [item for item in label if isinstance(item, Span)] if isinstance(label, tuple) else []
    if not spans:
        return 0
    starts, ends = word_bounds(text, coarse)
    edges = np.array([edge for span in spans for edge in (span.start, span.end)])
    word = np.searchsorted(starts, edges, side="left") - 1  # the last word that begins before the edge
    return int(((word >= 0) & (ends[word] > edges)).sum())
