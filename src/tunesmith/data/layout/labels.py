"""What a column of labels means: classes, several labels a cell, or numbers. Ambiguity is an error, never a guess."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tunesmith.data.jsontext import as_text, parse
from tunesmith.errors import DataError
from tunesmith.text import counted

SEPARATORS = ("|", ";")
JSON, INDICATOR = "json", "indicator"  # cells such as ["a", "b"] and [0, 1, 0]
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
INTEGER = re.compile(r"\s*[+-]?\d+\s*")
WHOLE_DECIMAL = re.compile(r"\s*[+-]?\d+\.0*\s*")
FEW_VALUES = 20  # at most so many distinct whole numbers are read as classes
MAX_CONTIGUOUS = 200  # 0..K-1 or 1..K up to this K is read as class numbers


@dataclass(frozen=True)
class Reading:
    """How the cells of a label column are read.

    Attributes:
        kind: ``"classification"``, ``"multilabel"`` or ``"regression"``.
        separator: multi-label: what stands between labels, ``"json"``, ``"indicator"``, or None for one label a cell.
        note: what the user should know about the choice.
    """

    kind: str
    separator: str | None = None
    note: str | None = None


def infer(cells: Iterable[str], task: str, where: str) -> Reading:
    """The reading of a label column.

    Args:
        cells: the distinct non-empty values of the column.
        task: ``"auto"``, or the kind the user asked for.
        where: file and column, for errors.

    Raises:
        DataError: two readings are equally plausible; the message names both and the flag that decides.
    """
    cells = list(cells)
    if task == "multilabel":
        present = (separator for separator in (*SEPARATORS, ",") if any(separator in cell for cell in cells))
        return Reading(task, list_separator(cells) or next(present, None))
    if task != "auto":
        return Reading(task)
    separator = list_separator(cells)
    if separator:
        return Reading("multilabel", separator, f"{where}: JSON lists; read as several labels a row")
    if cells and all(NUMBER.fullmatch(cell) for cell in cells):
        return _numbers(cells, where)
    for separator in (*SEPARATORS, ","):
        share = _recurring(cells, separator)
        if share >= 0.5 and separator != ",":
            note = f"{where}: read as several labels a row, separated by {separator!r}"
            return Reading("multilabel", separator, note)
        if share > 0 and (separator != "," or share >= 0.5):
            example = next(cell for cell in cells if separator in cell)
            raise DataError(
                f"{where}: {example[:80]!r} may be one label, or several separated by {separator!r}; "
                "give --task classification or --task multilabel"
            )
    return Reading("classification")


def list_separator(cells: list[str]) -> str | None:
    """``"json"`` where every cell is a JSON list, ``"indicator"`` where they are 0/1 lists of one length, else None."""
    if not cells or not all(cell.lstrip().startswith("[") and cell.rstrip().endswith("]") for cell in cells):
        return None
    try:
        lists = [parse(cell) for cell in cells]
    except ValueError:
        return None
    lengths = {len(items) for items in lists}
    zeros_and_ones = all(str(item) in ("0", "1", "0.0", "1.0") for items in lists for item in items)
    if len(lengths) == 1 and max(lengths) > 1 and zeros_and_ones:
        return INDICATOR
    return JSON


def split_cell(cell: str, separator: str | None) -> tuple[str, ...]:
    """The labels of one cell, each once, in their order.

    Raises:
        ValueError: a JSON cell is not a list of texts or numbers.
    """
    if separator == INDICATOR:
        return tuple(str(i) for i, item in enumerate(parse(cell)) if str(item) in ("1", "1.0"))
    if separator == JSON:
        items = parse(cell)
        if not isinstance(items, list) or any(item is None or isinstance(item, list | dict) for item in items):
            raise ValueError("expected a JSON list of labels")
        pieces = [as_text(item) or "" for item in items]
    else:
        pieces = cell.split(separator) if separator else [cell]
    return tuple(dict.fromkeys(piece for piece in map(str.strip, pieces) if piece))


def _recurring(cells: list[str], separator: str) -> float:
    """Of the distinct pieces of cells with the separator, the share that also occurs in another distinct cell."""
    occurs: Counter[str] = Counter()
    pieces: set[str] = set()
    for cell in cells:
        found = set(split_cell(cell, separator))
        occurs.update(found)
        if separator in cell:
            pieces |= found
    return sum(occurs[piece] > 1 for piece in pieces) / len(pieces) if pieces else 0.0


def _numbers(cells: list[str], where: str) -> Reading:
    either = "give --task classification or --task regression"
    if not all(INTEGER.fullmatch(cell) for cell in cells):
        if len(cells) <= FEW_VALUES and all(WHOLE_DECIMAL.fullmatch(cell) for cell in cells):
            raise DataError(f"{where}: whole numbers such as {cells[0]!r} may be class numbers or quantities; {either}")
        return Reading(
            "regression", note=f"{where}: numbers with decimals, read as regression (--task classification for classes)"
        )
    if any(re.match(r"\s*[+-]?0\d", cell) for cell in cells) or len(cells) <= FEW_VALUES:
        return Reading("classification")
    values = sorted(map(int, cells)) if max(map(len, cells)) < 20 else []
    contiguous = bool(values) and values[0] in (0, 1) and values == list(range(values[0], values[0] + len(values)))
    if contiguous and len(values) <= MAX_CONTIGUOUS:
        return Reading("classification")
    found = counted(len(cells), "different whole number")
    raise DataError(f"{where}: {found} may be class numbers or quantities; {either}")
