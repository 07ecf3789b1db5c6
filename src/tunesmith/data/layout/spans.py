"""Character spans in the cells of a table: every annotation layout becomes the same two columns.

A span is half-open, in characters of exactly the text beside it. What a cell says is checked against that text: white
space at a span's edges is left out of it and a word that it cuts is taken in whole, both with a note; offsets that are
off are repaired where the quoted text shows the one place they can mean; and empty, overlapping or misplaced spans are
refused with their rows.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.jsontext import Number, parse
from tunesmith.data.layout import tags as tagging
from tunesmith.data.records import RawTable
from tunesmith.data.table import TEXT
from tunesmith.data.words import whole_words, word_bounds
from tunesmith.errors import DataError
from tunesmith.text import counted, row_list

SPANS = pa.large_list(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", TEXT)]))
OFFSET_NAMES = ("start", "start_offset", "begin"), ("end", "end_offset", "stop")
TYPE_NAMES = ("label", "labels", "entity", "type", "entity_group", "tag")

NOT_STUDIO = "is not a list of annotations with results; export from Label Studio as JSON"

Span = dict[str, Any]


class Fault(ValueError):
    """What is wrong with a cell."""


@dataclass
class Found:
    """Rows that were put right, by what was done, and rows that were not."""

    raw: RawTable
    column: str
    mended: dict[str, list[int]] = field(default_factory=dict)
    faults: dict[str, list[int]] = field(default_factory=dict)

    def each(self, rows: Iterable[Any], make: Callable[[Any, Callable[[str], None]], Any]) -> list[Any]:
        """`make` of each row; it is given a function to say what it mended.

        Raises:
            DataError: `make` raised `Fault` for some rows; one line for each kind of fault.
        """
        made = []
        for number, row in zip(self.raw.rows.tolist(), rows, strict=True):
            try:
                made.append(make(row, partial(self._mend, number)))
            except ValueError as error:
                self.faults.setdefault(str(error), []).append(number)
                made.append(None)
        if self.faults:
            raise DataError(
                f"{self.raw.path}: {row_list(rows)}: column {self.column!r}: {what}"
                for what, rows in self.faults.items()
            )
        return made

    def _mend(self, number: int, what: str) -> None:
        rows = self.mended.setdefault(what, [])
        if number not in rows[-1:]:  # a row is listed once, however many of its spans were mended
            rows.append(number)

    def notes(self) -> list[str]:
        return [f"{row_list(rows)}: {what}" for what, rows in self.mended.items()]


def tagged_columns(raw: RawTable, tokens: str, tags: str | None) -> tuple[pa.Array, pa.Array, list[str]]:
    """Lists of tokens and tags as texts (the tokens joined by spaces), spans and notes.

    Raises:
        DataError: a cell is not a list of texts; a row has not as many tags as tokens; tags are numbers without names.
    """
    seen: Counter[str] = Counter()
    found = Found(raw, tags or tokens)

    def make(row: tuple[str, str | None], mended: Callable[[str], None]) -> tuple[str, list[Span] | None]:
        words = [word or "_" for word in _texts(row[0], "tokens")]
        starts = np.concatenate([[0], np.cumsum([len(word) + 1 for word in words])]).tolist()
        text = " ".join(words)
        if row[1] is None:
            return text, None
        names = _texts(row[1], "tags")
        if len(names) != len(words):
            raise Fault("has not as many tags as tokens; give every token one tag")
        if any(name.removeprefix("-").isdecimal() for name in names):
            raise Fault("has class numbers instead of tags; write names such as B-LOC, or keep the file's own metadata")
        entities, situations = tagging.entities(names)
        seen.update(situations)
        spans = [{"start": starts[first], "end": starts[after] - 1, "label": type_} for first, after, type_ in entities]
        return text, [span for span in spans if text[span["start"] : span["end"]].strip()]

    cells = zip(
        raw.table[tokens].to_pylist(), raw.table[tags].to_pylist() if tags else [None] * len(raw.rows), strict=True
    )
    made = found.each(cells, make)
    notes = []
    if tags:
        name, broken = tagging.scheme(seen)
        mended = f", {counted(broken, 'tag')} against its rules read as the CoNLL script does" if broken else ""
        notes.append(f"tags read as {name}{mended}")
    return pa.array([text for text, _ in made], TEXT), pa.array([spans for _, spans in made], SPANS), notes


def span_columns(raw: RawTable, text: str, spans: str) -> tuple[pa.Array, list[str]]:
    """The cells of a span column checked against the texts beside them, and notes.

    Each cell is a JSON list of objects with ``start``, ``end`` and ``label`` (or ``labels`` with one name, and
    perhaps the quoted ``text``), or of ``[start, end, label]``.

    Raises:
        DataError: spans that cannot be used, with their rows.
    """
    found = Found(raw, spans)
    rows = zip(raw.table[text].to_pylist(), raw.table[spans].to_pylist(), strict=True)
    made = found.each(rows, lambda row, mended: _spans(row[0] or "", _list(row[1]), mended))
    return pa.array(made, SPANS), found.notes()


def studio_columns(
    raw: RawTable, data: str, annotations: str | None, key: str | None
) -> tuple[pa.Array, pa.Array, list[str]]:
    """Texts, spans and notes from a Label Studio export: ``data`` with the text, ``annotations`` with results.

    Of several annotations of a text that were not cancelled the one marked as ground truth counts, else the first.

    Args:
        key: name of the text inside `data`, or None for ``text``, or the only text there.
    """
    found = Found(raw, annotations or data)

    def make(row: tuple[str | None, str | None], mended: Callable[[str], None]) -> tuple[str, list[Span] | None]:
        values = _parsed(row[0])
        texts = {name: value for name, value in values.items() if type(value) is str} if type(values) is dict else {}
        name = key or ("text" if "text" in texts else next(iter(texts)) if len(texts) == 1 else None)
        if name not in texts:
            raise Fault("its data have no text, or several; name one with --text")
        return texts[name], _spans(texts[name], _results(row[1], mended), mended) if annotations else None

    cells = raw.table[annotations].to_pylist() if annotations else [None] * len(raw.rows)
    made = found.each(zip(raw.table[data].to_pylist(), cells, strict=True), make)
    texts, spans = [text for text, _ in made], [spans for _, spans in made]
    return pa.array(texts, TEXT), pa.array(spans, SPANS), found.notes()


def not_annotated(raw: RawTable, annotations: str) -> list[bool]:
    """Which tasks of Label Studio have no annotation but cancelled ones."""
    found = Found(raw, annotations)
    return found.each(raw.table[annotations].to_pylist(), lambda cell, mended: not _annotations(cell))


def looks_like(cell: str, tokens: bool) -> bool:
    """Whether a cell is a JSON list of tokens, or one of spans."""
    try:
        items = parse(cell) if cell.lstrip().startswith("[") else [None]
    except ValueError:
        return False
    return all(isinstance(item, str) if tokens else _offsets(item) is not None for item in items)


def _spans(text: str, items: list[Any], mended: Callable[[str], None]) -> list[Span]:
    spans, bounds = [], word_bounds(text if items else "")
    for item in items:
        offsets = _offsets(item)
        if offsets is None:
            raise Fault('is not a list of spans of one label each; write {"start": 0, "end": 4, "label": "NAME"}')
        start, end, label, quoted = offsets
        if quoted is not None and text[start:end].split() != quoted.split():  # a browser joins spaces and line ends
            start, what = found_again(text, start, quoted)
            end = start + len(quoted)
            mended(what)
        if not 0 <= start <= end <= len(text):
            raise Fault("has a span that does not lie in its text; offsets count characters from 0, the end excluded")
        inside = text[start:end]
        if not inside.strip():
            raise Fault("has an empty span; remove it, or write its end as the position after its last character")
        if inside != inside.strip():
            mended("white space at the edge of a span was left out of it")
            start, end = start + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip())
        whole = whole_words(*bounds, start, end)
        if whole != (start, end):
            mended("a span that began or ended inside a word was widened to the whole word")
        spans.append((*whole, label))
    ordered = sorted(set(spans))
    if len(ordered) < len(spans):
        mended("a span that stands twice counts once")
    if any(one[1] > other[0] for one, other in itertools.pairwise(ordered)):
        raise Fault("has spans that overlap; keep one of them (nested entities cannot be learned)")
    return [{"start": start, "end": end, "label": label} for start, end, label in ordered]


def _offsets(item: Any) -> tuple[int, int, str, str | None] | None:
    """Start, end, label and the quoted text of a span; None for anything else."""
    if isinstance(item, list) and len(item) == 3:
        start, end, label, quoted = *item, None
    elif isinstance(item, dict):
        start, end = (next((item[name] for name in names if name in item), None) for names in OFFSET_NAMES)
        label = next((item[name] for name in TYPE_NAMES if name in item), None)
        if isinstance(label, list):
            label = label[0] if len(label) == 1 else None
        quoted = item.get("text")
    else:
        return None
    if not (isinstance(label, str) and label.strip()):
        return None
    places = position(start), position(end)
    if places[0] is None or places[1] is None:
        return None
    return places[0], places[1], label.strip(), quoted if isinstance(quoted, str) else None


def position(value: Any) -> int | None:
    """A JSON number as an offset; None for what is no whole number. Tables with gaps write 3 as 3.0."""
    whole = value.removesuffix(".0") if isinstance(value, Number) else ""
    return int(whole) if whole.removeprefix("-").isdecimal() else None


def found_again(text: str, start: int, quoted: str) -> tuple[int, str]:
    """Where a quoted text stands that is not at its offset, and what was done.

    Raises:
        Fault: it is not in the text, or in several places.
    """
    before = text.encode("utf-16-le")[: 2 * max(0, start)].decode("utf-16-le", errors="replace")
    if start >= 0 and quoted and text.startswith(quoted, len(before)):
        units = "offsets that count UTF-16 units were turned into characters"
        return len(before), units if len(before) < start else "an end was wrong and was put where the quoted text ends"
    if not quoted or text.count(quoted) == 0:
        raise Fault("quotes a text that does not stand beside it; correct the text or the quote")
    if text.count(quoted) > 1 or quoted in text[text.find(quoted) + 1 :]:
        raise Fault("has an offset that does not match the quoted text, which stands there several times; correct it")
    return text.find(quoted), "an offset was wrong and was put where the quoted text stands, its only place"


def _results(cell: str | None, mended: Callable[[str], None]) -> list[Any]:
    """The labelled spans of a Label Studio task."""
    kept = sorted(_annotations(cell), key=lambda one: not one.get("ground_truth"))
    if len(kept) > 1:
        which = "one marked as ground truth" if kept[0].get("ground_truth") else "first"
        mended(f"several annotations; the {which} was read")
    try:
        results = (kept[0].get("result") or []) if kept else []
        if any(one.get("type") == "hypertextlabels" for one in results):
            raise Fault("has labels of HTML, whose offsets count no characters; label plain text instead")
        return [one["value"] for one in results if one.get("type") == "labels"]
    except (AttributeError, KeyError, TypeError):
        raise Fault(NOT_STUDIO) from None


def _annotations(cell: str | None) -> list[dict[str, Any]]:
    """Those of a Label Studio task that were not cancelled."""
    found = _list(cell)
    if not all(isinstance(one, dict) for one in found):
        raise Fault(NOT_STUDIO)
    return [one for one in found if not one.get("was_cancelled")]


def _parsed(cell: str | None) -> Any:
    try:
        return parse(cell or "null")
    except ValueError as error:
        raise Fault(f"is not JSON ({error}); write it again") from None


def _list(cell: str | None) -> list[Any]:
    value = _parsed(cell) if cell else []
    if not isinstance(value, list):
        raise Fault("is not a JSON list; write [] where there is nothing")
    return value


def _texts(cell: str | None, what: str) -> list[str]:
    values = _list(cell)
    if not all(isinstance(value, str) for value in values):
        raise Fault(f'the {what} are not a list of texts; write a JSON list such as ["one", "two"]')
    return [" ".join(str(value).split()) for value in values]
