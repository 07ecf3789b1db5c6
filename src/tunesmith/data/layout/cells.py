"""Annotations in the cells of a table: what was put right is noted with its rows, what cannot be used is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from tunesmith.data.jsontext import Number, parse
from tunesmith.data.records import RawTable
from tunesmith.errors import DataError
from tunesmith.text import row_list

Mended = Callable[[str], None]
"""Takes note of what was put right in a row."""


class CellError(ValueError):
    """What is wrong with a cell."""


class CellReader:
    """Reads the cells of a column, with notes for the rows that were put right."""

    def __init__(self, raw: RawTable, column: str) -> None:
        self.raw, self.column, self._mended = raw, column, dict[str, list[int]]()

    def each(self, cells: Iterable[Any], make: Callable[[Any, Mended], Any]) -> list[Any]:
        """`make` of each cell (or of what belongs together in a row).

        Raises:
            DataError: `make` raised `CellError` for some rows; one line for each kind of fault.
        """
        made: list[Any] = []
        wrong: dict[str, list[int]] = {}
        for number, cell in zip(self.raw.rows.tolist(), cells, strict=True):
            try:
                made.append(make(cell, partial(self._mend, number)))
            except ValueError as error:
                wrong.setdefault(str(error), []).append(number)
        if wrong:
            place = f"column {self.column!r}"
            raise DataError(f"{self.raw.path}: {row_list(rows)}: {place}: {what}" for what, rows in wrong.items())
        return made

    def _mend(self, number: int, what: str) -> None:
        rows = self._mended.setdefault(what, [])
        if number not in rows[-1:]:  # a row is listed once, however many of its spans were mended
            rows.append(number)

    @property
    def notes(self) -> list[str]:
        return [f"{row_list(rows)}: {what}" for what, rows in self._mended.items()]


def json_value(cell: str | None) -> Any:
    try:
        return parse(cell or "null")
    except ValueError as error:
        raise CellError(f"is not JSON ({error}); write it again") from None


def json_list(cell: str | None) -> list[Any]:
    value = json_value(cell) if cell else []
    if not isinstance(value, list):
        raise CellError("is not a JSON list; write [] where there is nothing")
    return value


def offset(value: Any) -> int | None:
    """A JSON number as an offset; None for what is no whole number. Tables with gaps write 3 as 3.0."""
    whole = value.removesuffix(".0") if isinstance(value, Number) else ""
    return int(whole) if whole.removeprefix("-").isdecimal() else None


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
