"""Annotations in the cells of a table: what was put right is noted with its rows, what cannot be used is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tunesmith.data.jsontext import Number, parse
from tunesmith.data.records import RawTable
from tunesmith.data.table import each_cell
from tunesmith.errors import DataError
from tunesmith.text import row_list

MOST_DIGITS = 18
"""Of an offset."""
Made = TypeVar("Made")
Mended = Callable[[str], None]
"""Takes note of what was put right in a row."""


class CellError(ValueError):
    """What is wrong with a cell."""


def each_row(raw: RawTable, columns: Sequence[str | None], make: Callable[..., Made]) -> tuple[list[Made], list[str]]:
    """`make` of the cells of each row, and notes for the rows that were put right.

    Args:
        columns: whose cells `make` is given, None for no column; faults are told of the last that there is.
        make: takes the cells and a `Mended`.

    Raises:
        DataError: `make` raised `CellError` for some rows; one line for each kind of fault.
    """
    made: list[Made] = []
    wrong: dict[str, list[int]] = {}
    mended: dict[str, dict[int, None]] = {}  # a row is listed once, however many of its spans were mended
    number = 0

    def mend(what: str) -> None:
        mended.setdefault(what, {})[number] = None

    cells = [each_cell(raw.table[name]) if name else [None] * len(raw.rows) for name in columns]
    for number, *row in zip(raw.rows.tolist(), *cells, strict=True):
        try:
            made.append(make(*row, mend))
        except ValueError as error:
            wrong.setdefault(str(error), []).append(number)
    if wrong:
        place = f"column {next(filter(None, reversed(columns)))!r}"
        raise DataError(f"{raw.path}: {row_list(rows)}: {place}: {what}" for what, rows in wrong.items())
    return made, [f"{row_list(list(rows))}: {what}" for what, rows in mended.items()]


def json_value(cell: str | None) -> Any:
    try:
        return parse(cell or "null")
    except ValueError as error:
        if is_of_python(str(cell)):
            raise CellError("is written as Python shows it; write JSON, as with json.dumps") from None
        raise CellError(f"is not JSON ({error}); write it again") from None


def is_of_python(cell: str) -> bool:
    """Whether a cell that is no JSON is a list or a dictionary as Python shows it."""
    return re.match(r"\s*(\{\s*'|\[\s*(\(|\{\s*'|\[\s*(\d+\s*,\s*){0,2}'))", cell) is not None


def json_list(cell: str | None) -> list[Any]:
    value = json_value(cell) if cell else []
    if not isinstance(value, list):
        raise CellError("is not a JSON list; write [] where there is nothing")
    return value


def offset(value: Any) -> int | None:
    """A JSON number as an offset; None for what is no whole number. Tables with gaps write 3 as 3.0."""
    whole = value.removesuffix(".0") if isinstance(value, Number) else ""
    return int(whole) if len(whole) <= MOST_DIGITS and whole.removeprefix("-").isdecimal() else None


def relocated(text: str, start: int, quoted: str) -> tuple[int, str]:
    """Where a quoted text stands that is not at its offset, and what was done.

    Raises:
        CellError: it is not in the text, or in several places.
    """
    before = text.encode("utf-16-le")[: 2 * max(0, start)].decode("utf-16-le", errors="replace")
    if start >= 0 and quoted and text.startswith(quoted, len(before)):
        units = "offsets that count UTF-16 units were turned into characters"
        return len(before), units if len(before) < start else "an end was wrong and was put where the quoted text ends"
    if not quoted or text.count(quoted) == 0:
        raise CellError("quotes a text that does not stand beside it; correct the text or the quote")
    if text.count(quoted) > 1 or quoted in text[text.find(quoted) + 1 :]:
        raise CellError(
            "has an offset that does not match the quoted text, which stands there several times; correct it"
        )
    return text.find(quoted), "an offset was wrong and was put where the quoted text stands, its only place"
