"""Character spans in the cells of a table: every annotation layout becomes the same two columns.

A span is half-open, in characters of exactly the text beside it. What a cell says is checked against that text: white
space at a span's edges is left out of it and a word that it cuts is taken in whole, both with a note; offsets that are
off are repaired where the quoted text shows the one place they can mean; and empty, overlapping or misplaced spans are
refused with their rows.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.jsontext import parse
from tunesmith.data.layout.cells import CellError, Mended, each_row, is_of_python, json_list, offset, relocated
from tunesmith.data.layout.listed import Word, list_items
from tunesmith.data.layout.tags import PREFIXES, entities, scheme
from tunesmith.data.records import RawTable
from tunesmith.data.table import TEXT
from tunesmith.data.words import whole_words, word_bounds
from tunesmith.text import counted

SPAN_LISTS = pa.large_list(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", TEXT)]))
OFFSET_NAMES = ("start", "start_offset", "begin"), ("end", "end_offset", "stop")
TYPE_NAMES = ("label", "labels", "entity", "type", "entity_group", "tag", "entityLabel")
SPACES = re.compile(r"[ \t\r\n]+")
_ESCAPED, _ESCAPES = re.compile(r"\\([nrt])"), {"n": "\n", "r": "\r", "t": "\t"}


def is_token_list(cell: str) -> bool:
    items = list_items(cell)
    return items is not None and all(_is_text(item) for item in items)


def is_span_list(cell: str) -> bool:
    try:
        items = parse(cell) if cell.lstrip().startswith("[") else None
    except ValueError:
        return is_of_python(cell)
    return isinstance(items, list) and all(_span_parts(item) is not None for item in items)


def _is_text(item: Any) -> bool:
    return isinstance(item, str) and not isinstance(item, Word)


def tagged_columns(raw: RawTable, tokens: str, tags: str | None) -> tuple[pa.Array, pa.Array, list[str]]:
    """Lists of tokens and tags as texts (the tokens joined by spaces), spans and notes.

    Raises:
        DataError: a cell is not a list of texts; a row has not as many tags as tokens; tags are numbers
            without names, or in small letters.
    """
    seen: Counter[str] = Counter()

    def make(cell: str | None, beside: str | None, mended: Mended) -> tuple[str, list[dict[str, Any]] | None]:
        words = [word or "_" for word in _text_list(cell, "tokens")]  # a token of spaces alone would have no place
        starts = np.concatenate([[0], np.cumsum([len(word) + 1 for word in words])]).tolist()
        text = " ".join(words)
        if beside is None:
            return text, None
        names = _text_list(beside, "tags")
        if len(names) != len(words):
            raise CellError("has not as many tags as tokens; give every token one tag")
        if any(name.removeprefix("-").isdecimal() for name in names):
            raise CellError(
                "has class numbers instead of tags; write names such as B-LOC, or keep the file's own metadata"
            )
        if "o" in names:
            raise CellError('has the tag "o"; write "O" for tokens outside, and prefixes in capitals, as in "B-LOC"')
        if any(len(name) == 2 and name[0] in PREFIXES and name[1] in "-_" for name in names):
            raise CellError('has a tag without a type; write the type behind the prefix, as in "B-LOC"')
        found, situations = entities(names)
        seen.update(situations)
        spans = [{"start": starts[first], "end": starts[after] - 1, "label": type_} for first, after, type_ in found]
        return text, [span for span in spans if text[span["start"] : span["end"]].strip()]

    made, _ = each_row(raw, (tokens, tags), make)
    notes = []
    if tags:
        name, broken = scheme(seen)
        mended = f", {counted(broken, 'tag')} against its rules read as the CoNLL script does" if broken else ""
        notes.append(f"tags read as {name}{mended}")
    return pa.array([text for text, _ in made], TEXT), pa.array([spans for _, spans in made], SPAN_LISTS), notes


def span_column(raw: RawTable, text: str, spans: str) -> tuple[pa.Array, list[str]]:
    """The cells of a span column checked against the texts beside them, and notes.

    Each cell is a JSON list of objects with ``start``, ``end`` and ``label`` (or ``labels`` with one name, and
    perhaps the quoted ``text``), or of ``[start, end, label]``.

    Raises:
        DataError: spans that cannot be used, with their rows.
    """
    made, notes = each_row(raw, (text, spans), lambda text, cell, mended: _spans(text or "", json_list(cell), mended))
    labels = {span["label"] for row in made for span in row}
    if labels and all(label.isdecimal() for label in labels):
        notes.append(f"the labels in {spans!r} are numbers; for names, export them with the names of the labels")
    return pa.array(made, SPAN_LISTS), notes


def _spans(text: str, items: list[Any], mended: Mended) -> list[dict[str, Any]]:
    spans, bounds = [], word_bounds(text if items else "")
    for item in items:
        parts = _span_parts(item)
        if parts is None:
            raise CellError('is not a list of spans of one label each; write {"start": 0, "end": 4, "label": "NAME"}')
        start, end, label, quoted = parts
        if quoted is not None and _written(text[start:end]) != _written(quoted):
            quoted = quoted if quoted in text else _ESCAPED.sub(lambda found: _ESCAPES[found[1]], quoted)
            start, what = relocated(text, start, quoted)
            end = start + len(quoted)
            mended(what)
        if not 0 <= start <= end <= len(text):
            raise CellError(
                "has a span that does not lie in its text; offsets count characters from 0, the end excluded"
            )
        inside = text[start:end]
        if not inside.strip():
            raise CellError("has an empty span; remove it, or write its end as the position after its last character")
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
        raise CellError("has spans that overlap; keep one of them (nested entities cannot be learned)")
    return [{"start": start, "end": end, "label": label} for start, end, label in ordered]


def _written(text: str) -> list[str]:
    """The words of a text. A browser joins spaces and line ends, and Label Studio writes backslash and n for one."""
    return _ESCAPED.sub(" ", text).split()


def _span_parts(item: Any) -> tuple[int, int, str, str | None] | None:
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
    first, last = offset(start), offset(end)
    if first is None or last is None or not (isinstance(label, str) and label.strip()):
        return None
    return first, last, label.strip(), quoted if isinstance(quoted, str) else None


def _text_list(cell: str | None, what: str) -> list[str]:
    values = list_items(cell or "[]")
    if any(isinstance(value, Word) and value.startswith("...") for value in values or ()):
        raise CellError("was cut by NumPy where ... stands; save whole lists, as with .tolist()")
    if values is None or not all(map(_is_text, values)):
        raise CellError(f'the {what} are not a list of texts; write a JSON list such as ["one", "two"]')
    return [" ".join(SPACES.split(value.strip(" \t\r\n"))) for value in values]
