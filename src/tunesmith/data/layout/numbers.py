"""Numbers as people write them: with a decimal point or comma, thousands apart, or as per cents."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from tunesmith.config.schema import Decimal
from tunesmith.errors import DataError

NUMERAL = re.compile(r"\s*+[+-]?(\d++(\.\d*+)?|\.\d++)([eE][+-]?\d++)?\s*+")
MARKS: tuple[Decimal, Decimal] = (".", ",")
_SPACES = " \u00a0\u2009\u202f'\u2019"
_APART = {mark: _SPACES + other for mark, other in zip(MARKS, MARKS[::-1], strict=True)}  # between groups of three
_WRITTEN = {
    mark: re.compile(rf"[+-]?(?:[1-9]\d{{0,2}}(?:[{apart}]\d{{3}})+|\d+)(?:{re.escape(mark)}\d+)?")
    for mark, apart in _APART.items()
}


def as_numeral(cell: str, decimal: Decimal | None, percent: bool) -> str | None:
    """The number of a cell as Python writes it, in the unit of the cell; None where it is none that is finite.

    Args:
        decimal: what stands before the decimals, where the cells are not all as Python writes them.
        percent: the cells end in a per cent sign.
    """
    text = cell.strip()
    if percent:
        if not text.endswith("%"):
            return None
        text = text[:-1].rstrip()
    if decimal is not None and _WRITTEN[decimal].fullmatch(text):
        text = re.sub(f"[{_APART[decimal]}]", "", text).replace(decimal, ".")
    elif decimal == "," or not NUMERAL.fullmatch(text):
        return None
    return text if math.isfinite(float(text)) else None


def number_style(
    cells: Sequence[str], where: str, decimal: Decimal | None, instead: str, typed: bool = False
) -> tuple[Decimal | None, bool] | None:
    """How numbers are written: `decimal` and `percent` as of `as_numeral`; None where a cell is no number.

    Args:
        decimal: the mark that the user names.
        instead: what else decides, for an error.
        typed: the cells were numbers before they were text, so that a point stands before decimals.

    Raises:
        DataError: no one way fits all of them, or two fit and give different numbers.
    """
    bare = [cell.strip().removesuffix("%").rstrip() for cell in cells]
    if not cells or not all(_is_number(cell) for cell in bare):
        return None
    ends = [cell.rstrip().endswith("%") for cell in cells]
    percent = all(ends)
    if any(ends) and not percent:
        one, other = cells[ends.index(True)], cells[ends.index(False)]
        raise DataError(f"{where}: {one!r} is a per cent and {other!r} is none; write all the same way{instead}")
    if decimal is not None:
        return decimal, percent
    plain = all(NUMERAL.fullmatch(cell) for cell in bare)
    if not (plain and typed) and (unsure := read_both_ways(bare)):
        raise DataError(f"{where}: {unsure}; give data.decimal='.' or data.decimal=','{instead}")
    if plain:
        return None, percent
    read = {mark: [as_numeral(cell, mark, False) for cell in bare] for mark in MARKS}
    fits = [mark for mark in MARKS if None not in read[mark]]
    if not fits:
        at, other = (
            next(cell for cell, value in zip(cells, read[mark], strict=True) if value is None) for mark in MARKS
        )
        raise DataError(f"{where}: {at!r} and {other!r} are not written the same way; write all as 1234.5{instead}")
    return fits[0], percent


def read_both_ways(cells: Sequence[str], apart: str = "") -> str | None:
    """What is told of the first cell that is another number with the other decimal mark, where both fit all cells.

    Args:
        apart: only of those that hold this sign.
    """
    read = [[as_numeral(cell, mark, False) for cell in cells] for mark in MARKS]
    if any(None in numerals for numerals in read):
        return None
    triples = zip(cells, *read, strict=True)
    found = ((cell, point, comma) for cell, point, comma in triples if point != comma and apart in cell)
    return next((f"{cell!r} may be {point} or {comma}" for cell, point, comma in found), None)


def _is_number(cell: str) -> bool:
    return bool(NUMERAL.fullmatch(cell)) or any(written.fullmatch(cell) for written in _WRITTEN.values())
