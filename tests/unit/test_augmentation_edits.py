"""Edits of texts: whatever they are, every span and answer still quotes the same characters."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.augmentation import TECHNIQUES
from tunesmith.augmentation.edits import Edit, Passage, apply, edges_inside_words, moved, moved_label, passages
from tunesmith.augmentation.techniques import (
    Delete,
    Entity,
    Insert,
    Materials,
    Punctuation,
    Swap,
    Technique,
    mistyped,
    written_like,
)
from tunesmith.config.loading import resolve
from tunesmith.data.layout.spans import SPAN_LISTS
from tunesmith.data.records import Answer, Records, Span, TextRecord
from tunesmith.data.words import written_words
from tunesmith.registry import lookup

TEXTS = st.text(st.sampled_from("abcdeABÉß .,'-!?\n\t東京ก\u0301\u200d😀12"), max_size=60)
EDITING = [lookup(TECHNIQUES, "augmentations", name) for name in TECHNIQUES if name != "masked"]  # needs a model


@st.composite
def texts_with_ranges(draw: st.DrawFn) -> tuple[str, list[tuple[int, int]]]:
    """A text and half-open ranges of it that do not overlap (they may touch)."""
    text = draw(TEXTS)
    edges = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    return text, [pair for pair in pairwise(edges) if draw(st.booleans())]


def edits_by(technique: type[Technique], one: Passage) -> list[Edit]:
    (edits,) = technique(materials()).edits([one])
    return edits


class Everything:
    """A lexicon that knows every word."""

    def synonyms(self, word: str) -> tuple[str, ...]:
        return ("something else", "other")


def materials(share: float = 0.3) -> Materials:
    names = ["Rome", "New York", "東京"]
    spans = pa.array([[{"start": 0, "end": len(name), "label": "place"}] for name in names], SPAN_LISTS)
    table = pa.table({"id": ["1", "2", "3"], "text": names, "label": spans, "row": pa.array([1, 2, 3], pa.int64())})
    return Materials(resolve(sets=(f"augmentation.share={share}",)), Records(table, "made.jsonl"), Everything())


def passage(text: str, seed: int = 0, spans: tuple[Span, ...] = ()) -> Passage:
    return Passage(text, spans, np.random.default_rng(seed))


@pytest.mark.parametrize("technique", EDITING)
@given(texts_with_ranges(), st.integers(0, 1000))
def test_entities_stay_what_and_where_they_are(
    technique: type[Technique], made: tuple[str, list[tuple[int, int]]], seed: int
) -> None:
    text, ranges = made
    spans = tuple(Span(start, end, "place") for start, end in ranges)
    edits = edits_by(technique, passage(text, seed, spans))
    new, label = apply(text, edits), moved_label(spans, [edits])
    assert isinstance(label, tuple) and len(label) == len(spans)
    for before, after in zip(spans, label, strict=True):
        assert isinstance(after, Span) and after.label == before.label
        here = new[after.start : after.end]
        known = {"Rome", "New York", "東京"} if technique is Entity else set()
        assert here == text[before.start : before.end] or here in known


@pytest.mark.parametrize("technique", [each for each in EDITING if not each.needs_entity])
@given(texts_with_ranges(), st.integers(0, 1000))
def test_answers_stay_what_and_where_they_are(
    technique: type[Technique], made: tuple[str, list[tuple[int, int]]], seed: int
) -> None:
    context, ranges = made
    answers = tuple(Answer(start, context[start:end]) for start, end in ranges)
    record = TextRecord("1", "who was it ?", context, answers, 1)
    both = passages(record, [np.random.default_rng([seed, part]) for part in (0, 1)])
    assert [each.text for each in both] == ["who was it ?", context] and both[0].protected == ([], [])
    edits = [edits_by(technique, each) for each in both]
    new, label = apply(context, edits[1]), moved_label(answers, edits)
    assert isinstance(label, tuple)
    for before, after in zip(answers, label, strict=True):
        assert isinstance(after, Answer) and after.text == before.text
        assert new[after.start : after.start + len(after.text)] == before.text


@given(TEXTS, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), TEXTS), max_size=5))
def test_what_no_edit_touches_is_as_it_was(text: str, wanted: list[tuple[int, int, str]]) -> None:
    edits: list[Edit] = []
    for start, length, replacement in sorted(wanted):
        at = edits[-1].end if edits else 0
        if at <= start <= len(text):
            edits.append(Edit(start, min(len(text), start + length), replacement))
    new = apply(text, reversed(edits))
    assert len(new) - len(text) == sum(len(edit.replacement) - edit.end + edit.start for edit in edits)
    edges = [0, *(edge for edit in edits for edge in edit[:2]), len(text)]
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if start < end:
            ((first, after),) = moved([(start, end)], edits)
            assert new[first:after] == text[start:end]


def test_edits_that_overlap_or_touch_what_is_protected_are_refused() -> None:
    with pytest.raises(ValueError, match="inside another"):
        apply("abcdef", [Edit(0, 3, ""), Edit(2, 4, "x")])
    for edit in (Edit(1, 3, ""), Edit(3, 3, "x"), Edit(2, 5, ""), Edit(3, 9, "")):
        with pytest.raises(ValueError, match="touches the protected 2 to 4"):
            moved([(2, 4)], [edit])
    assert moved([(2, 4)], [Edit(2, 2, "ab"), Edit(4, 4, "ab")]) == [(4, 6)]
    assert moved([(2, 4), (5, 7)], [Edit(0, 1, ""), Edit(2, 4, "abc")]) == [(1, 4), (5, 7)]


def test_words_as_a_writer_counts_them() -> None:
    text = "I can't pay $3.50 (e-mail: a_b@c.org)... 東京 no! ok👨‍👩‍👧 cafe\u0301s caf\u0301"
    words = [text[start:end] for start, end in written_words(text)]
    wanted = ["I", "can't", "pay", "3.50", "e-mail", "a_b@c.org", "東", "京", "no"]
    assert words == [*wanted, "ok", "cafe\u0301s", "caf\u0301"]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), max_size=6), st.integers(0, 20), st.integers(1, 9))
def test_what_overlaps_nothing_protected_is_free(ranges: list[tuple[int, int]], start: int, length: int) -> None:
    answers = tuple(Answer(first, "x" * size) for first, size in ranges)  # which may overlap
    one = Passage("x" * 30, answers, np.random.default_rng(0))
    taken = {at for first, size in ranges for at in range(first, first + size)}
    assert one.is_free(start, start + length) == taken.isdisjoint(range(start, start + length))


def test_protected_words_are_not_drawn() -> None:
    one = passage("see New-York today", spans=(Span(4, 7, "place"),))
    assert [one.text[start:end] for start, end in one.words] == ["see", "today"]  # half of a word is protected


def test_deletion_leaves_single_spaces_and_a_word() -> None:
    for seed in range(30):
        found = apply("one two three", Delete(materials(0.5)).edit(passage("one two three", seed)))
        assert found in ("one", "two", "three", "one two", "one three", "two three")
    spans = (Span(0, 4, "place"),)  # with the space after it, which stays
    for seed in range(10):
        edits = Delete(materials(0.5)).edit(passage("one two three", seed, spans))
        assert apply("one two three", edits) in ("one three", "one two")
        assert moved_label(spans, [edits]) == spans
    assert Delete(materials()).edit(passage("alone")) == [] == Delete(materials()).edit(passage(""))


def test_swap_keeps_the_words() -> None:
    text = "one, two three; four"
    for seed in range(30):
        found = apply(text, Swap(materials(0.5)).edit(passage(text, seed)))
        assert sorted(found[a:b] for a, b in written_words(found)) == ["four", "one", "three", "two"]
        assert found != text and [c for c in found if c in ",; "] == [c for c in text if c in ",; "]


def test_insertion_without_a_lexicon_repeats_a_word_of_the_text() -> None:
    plain = Materials(resolve(), materials().train)
    for seed in range(20):
        words = apply("one two three", Insert(plain).edit(passage("one two three", seed))).split()
        assert len(words) == 4 and set(words) == {"one", "two", "three"}
    found = {apply("one", Insert(materials()).edit(passage("one", seed))) for seed in range(20)}
    assert found == {"one other", "one something else"}


def test_punctuation_marks_stand_before_words() -> None:
    text, seen = "one two three four five six", set()
    for seed in range(60):
        pieces = apply(text, Punctuation(materials()).edit(passage(text, seed))).split()
        marks = [piece for piece in pieces if not piece.isalpha()]
        assert 1 <= len(marks) <= 2 and [piece for piece in pieces if piece.isalpha()] == text.split()
        assert pieces[-1].isalpha()
        seen.update(marks)
    assert seen == {".", ";", "?", ":", "!", ","}


@given(st.text(st.sampled_from("abzÉß東a"), min_size=3, max_size=8), st.integers(0, 1000))
def test_a_slip_changes_one_place(word: str, seed: int) -> None:
    found = mistyped(word, np.random.default_rng(seed))
    assert abs(len(found) - len(word)) <= 1
    if len(set(word)) == len(word):
        assert found != word


def test_marks_stay_on_their_letters() -> None:
    found = {mistyped("e\u0301a\u0308b", np.random.default_rng(seed)) for seed in range(100)}
    assert {"a\u0308b", "a\u0308e\u0301b", "e\u0301e\u0301a\u0308b", "e\u0301a\u0308v"} <= found
    left = {word.replace("e\u0301", "").replace("a\u0308", "") for word in found}
    assert left <= {"", "b", "bb", *"vnfgh"}


def test_slips_are_of_every_kind() -> None:
    found = {mistyped("card", np.random.default_rng(seed)) for seed in range(300)}
    assert {"crad", "cadr", "crd", "caard", "vard", "csrd", "carf"} <= found and "card" not in found
    assert {mistyped("CARD", np.random.default_rng(seed)) for seed in range(300)} == {word.upper() for word in found}


def test_replacements_are_written_like_what_they_replace() -> None:
    assert [written_like(pattern, "two words") for pattern in ("CARD", "Card", "card", "I")] == [
        "TWO WORDS", "Two words", "two words", "Two words",
    ]  # fmt: skip


def test_entities_give_way_to_others_of_their_type() -> None:
    text = "from Rome to Oslo"
    spans = (Span(5, 9, "place"), Span(13, 17, "unseen"))
    technique = Entity(materials())
    technique.known["unseen"] = ["Oslo"]
    found = {apply(text, technique.edit(passage(text, seed, spans))) for seed in range(40)}
    assert found == {"from New York to Oslo", "from 東京 to Oslo", text}  # nothing else is known of the second
    assert technique.edit(passage("nothing here")) == []


def test_edges_inside_words_are_counted() -> None:
    spans = (Span(0, 4, "a"), Span(5, 8, "a"))
    for coarse in (False, True):
        assert edges_inside_words("Rome New York", spans, coarse) == 0 == edges_inside_words("Rome", ("label",), coarse)
        assert edges_inside_words("Romes Newer", spans, coarse) == 2
        assert edges_inside_words("Romes", spans[:1], coarse) == 1 and edges_inside_words("Romes", None, coarse) == 0
    assert [edges_inside_words("Rome New-York", spans, coarse) for coarse in (False, True)] == [0, 1]
