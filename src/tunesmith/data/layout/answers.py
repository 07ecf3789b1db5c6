"""Answers in the cells of a table, checked against their contexts."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tunesmith.data.jsontext import parse
from tunesmith.data.layout.cells import CellError, Mended, each_row, is_of_python, offset, relocated
from tunesmith.data.records import RawTable
from tunesmith.data.table import TEXT

ANSWER_LISTS = pa.large_list(pa.struct([("start", pa.int64()), ("text", TEXT)]))
START = "answer_start"
"""Also the column beside the answers that has their places, where they have none of their own."""
START_NAMES = START, "start"

Quote = tuple[str, int | None]
"""Text of an answer and its start, where one is given."""


def answer_column(raw: RawTable, context: str, answers: str) -> tuple[pa.Array, list[str]]:
    """The cells of an answer column checked against their contexts, and notes; no answer is an empty list.

    Each cell is a JSON list of ``{"text", "answer_start"}``, or ``{"text": […], "answer_start": […]}``, or a list of
    texts, or one text. Texts alone may have their places in a column ``answer_start`` beside them.

    Raises:
        DataError: an answer is not in its context, or its place cannot be told; with the rows. A cell that is null
            stays null.
    """

    def make(text: str | None, beside: str | None, cell: str | None, mended: Mended) -> list[dict[str, Any]] | None:
        return None if cell is None else _placed(text or "", _with_starts(_quotes(cell), beside), mended)

    made, notes = each_row(raw, (context, START if START in raw.table.column_names else None, answers), make)
    return pa.array(made, ANSWER_LISTS), notes


def _placed(context: str, given: list[Quote], mended: Mended) -> list[dict[str, Any]]:
    found = []
    for quoted, start in given:
        if not quoted.strip():
            raise CellError("has an empty answer; write [] where there is none")
        if quoted != quoted.strip():
            mended("white space at the edge of an answer was left out of it")
            start = None if start is None else start + len(quoted) - len(quoted.lstrip())
            quoted = quoted.strip()
        if start is None or start < 0 or not context.startswith(quoted, start):
            told = start is not None
            if not told and context.find(quoted) != context.rfind(quoted):
                raise CellError("has no offset and stands in its context several times; write its answer_start")
            start, what = relocated(context, -1 if start is None else start, quoted)
            mended(what if told else "an answer without an offset was put where its text stands, its only place")
        found.append({"start": start, "text": quoted})
    return found


def _with_starts(answers: list[Quote], beside: str | None) -> list[Quote]:
    """Answers of which none has a start, with those of the cell beside them."""
    if not answers or not (beside or "").strip() or any(start is not None for _, start in answers):
        return answers
    try:
        value = parse(beside or "")
    except ValueError:
        value = None
    starts = [offset(one) for one in (value if isinstance(value, list) else [value])]
    if len(starts) != len(answers) or None in starts:
        raise CellError(f"has another number of answers than of offsets in column {START!r}; write one for each")
    return [(text, start) for (text, _), start in zip(answers, starts, strict=True)]


def _quotes(cell: str) -> list[Quote]:
    """The answers of a cell."""
    text = cell.strip()
    try:
        value = parse(text) if text.startswith(("[", "{")) else [text] if text else []
    except ValueError:
        if is_of_python(text):
            raise CellError('is written as Python shows it; write JSON: [{"text": "…", "answer_start": 17}]') from None
        value = [text]  # an answer that begins with a bracket
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        texts = value["text"]
        starts = next((value[name] for name in START_NAMES if value.get(name)), [None] * len(texts))
        if not isinstance(starts, list) or len(starts) != len(texts):
            raise CellError("has not as many starts as texts; give every answer one, or none at all")
        value = [{"text": one, "answer_start": start} for one, start in zip(texts, starts, strict=True)]
    found: list[Quote] = []
    for one in value if isinstance(value, list) else [value]:
        given = one if isinstance(one, dict) else {"text": one}
        start = next((given[name] for name in START_NAMES if given.get(name) is not None), None)
        if type(given.get("text")) is not str or (start is not None and offset(start) is None):
            raise CellError('is not a list of answers; write [{"text": "…", "answer_start": 17}]')
        found.append((given["text"], offset(start)))
    return found
