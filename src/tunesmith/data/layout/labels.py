"""What a column of labels means: classes, several labels a cell, or numbers. Ambiguity is an error, never a guess."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.jsontext import as_text, parse
from tunesmith.data.layout.base import Form, Layout
from tunesmith.data.records import RawTable
from tunesmith.data.shapes import NUMBER, ONE_LABEL, SEVERAL_LABELS, RecordShape
from tunesmith.data.table import TEXT, is_empty
from tunesmith.errors import DataError
from tunesmith.text import counted, row_list

T = TypeVar("T")
SEPARATORS = ("|", ";", ",")
NUMERAL = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
INTEGER = re.compile(r"\s*[+-]?\d+\s*")
WHOLE_DECIMAL = re.compile(r"\s*[+-]?\d+\.0*\s*")
FEW_VALUES = 20  # at most so many distinct whole numbers are read as classes
MAX_CONTIGUOUS = 200  # 0..K-1 or 1..K up to this K is read as class numbers
ZERO_ONE = {"0": False, "1": True, "false": False, "true": True}
CLASSES_OR = "give task.name=classification or task.name="


def read_label_column(raw: RawTable, layout: Layout, shape: RecordShape | None) -> Layout:
    """The layout with the shape, form and separator that the cells of its one column of labels show.

    Args:
        shape: what the user asked for, or None.

    Raises:
        DataError: two readings are equally plausible; the message names both and the setting that decides.
    """
    (column,) = layout.labels
    where = f"{raw.path}: column {column!r}"
    cells = [value for value in pc.unique(raw.table[column]).to_pylist() if value and not value.isspace()]
    lists = _list_form(cells)
    if shape is not None and shape.labels == "several":
        separator = next((one for one in SEPARATORS if any(one in cell for cell in cells)), None)
        return replace(layout, form=lists or "separated", separator=None if lists else separator)
    if shape is not None:
        return layout
    if lists:
        note = f"{where}: JSON lists; read as several labels a row"
        return replace(layout, shape=SEVERAL_LABELS, form=lists, notes=(*layout.notes, note))
    if cells and all(NUMERAL.fullmatch(cell) for cell in cells):
        if _are_classes(cells, where):
            return replace(layout, shape=ONE_LABEL)
        note = f"{where}: numbers with decimals, read as regression (task.name=classification for classes)"
        return replace(layout, shape=NUMBER, notes=(*layout.notes, note))
    for separator in SEPARATORS:
        # Of the distinct pieces of cells with the separator, the share that also occurs in another distinct cell.
        pieces = [set(split_cell(cell, "separated", separator) or ()) for cell in cells]
        occurs = Counter(piece for found in pieces for piece in found)
        parted = {piece for cell, found in zip(cells, pieces, strict=True) if separator in cell for piece in found}
        share = sum(occurs[piece] > 1 for piece in parted) / len(parted) if parted else 0.0
        if share >= 0.5 and separator != ",":
            note = f"{where}: read as several labels a row, separated by {separator!r}"
            notes = (*layout.notes, note)
            return replace(layout, shape=SEVERAL_LABELS, form="separated", separator=separator, notes=notes)
        if share > 0 and (separator != "," or share >= 0.5):
            example = next(cell for cell in cells if separator in cell)
            raise DataError(
                f"{where}: {example[:80]!r} may be one label, or several separated by {separator!r}; "
                f"{CLASSES_OR}multilabel"
            )
    return replace(layout, shape=ONE_LABEL)


def _list_form(cells: list[str]) -> Form | None:
    """Whether every cell is a JSON list (of zeros and ones, all of one length: ``"indicator"``)."""
    if not cells or not all(cell.lstrip().startswith("[") and cell.rstrip().endswith("]") for cell in cells):
        return None
    try:
        lists = [parse(cell) for cell in cells]
    except ValueError:
        return None
    lengths = {len(items) for items in lists}
    zeros_and_ones = all(str(item) in ("0", "1", "0.0", "1.0") for items in lists for item in items)
    return "indicator" if len(lengths) == 1 and max(lengths) > 1 and zeros_and_ones else "json"


def _are_classes(cells: list[str], where: str) -> bool:
    """Whether numerals are numbers of classes; quantities otherwise."""
    if not all(INTEGER.fullmatch(cell) for cell in cells):
        if len(cells) <= FEW_VALUES and all(WHOLE_DECIMAL.fullmatch(cell) for cell in cells):
            found = f"whole numbers such as {cells[0]!r}"
            raise DataError(f"{where}: {found} may be class numbers or quantities; {CLASSES_OR}regression")
        return False
    if any(re.match(r"\s*[+-]?0\d", cell) for cell in cells) or len(cells) <= FEW_VALUES:
        return True
    values = sorted(map(int, cells)) if max(map(len, cells)) < 20 else []
    if 0 < len(values) <= MAX_CONTIGUOUS and values in (list(range(len(values))), list(range(1, len(values) + 1))):
        return True
    found = counted(len(cells), "different whole number")
    raise DataError(f"{where}: {found} may be class numbers or quantities; {CLASSES_OR}regression")


def split_cell(cell: str, form: Form, separator: str | None) -> tuple[str, ...] | None:
    """The labels of one cell, each once, in their order; None where it should be a JSON list and is none."""
    if form in ("json", "indicator"):
        try:
            items = parse(cell)
        except ValueError:
            return None
        if not isinstance(items, list) or any(item is None or isinstance(item, list | dict) for item in items):
            return None
        if form == "indicator":
            return tuple(str(i) for i, item in enumerate(items) if str(item) in ("1", "1.0"))
        pieces = [as_text(item) or "" for item in items]
    else:
        pieces = cell.split(separator) if separator else [cell]
    return tuple(dict.fromkeys(piece for piece in map(str.strip, pieces) if piece))


def label_column(raw: RawTable, layout: Layout) -> pa.Array | pa.ChunkedArray:
    """The labels of a text task: text, or lists of text for several; null everywhere where the file has none.

    Raises:
        DataError: labels are empty, hold NUL or do not fit the layout; the rows are listed.
    """
    several = pa.large_list(TEXT)
    if not layout.labels:
        return pa.nulls(raw.table.num_rows, several if layout.shape.labels == "several" else TEXT)
    if layout.form == "columns":
        chosen = np.zeros((raw.table.num_rows, len(layout.labels)), dtype=bool)
        for at, name in enumerate(layout.labels):
            bits, of_row = _by_value(raw, name, lambda cell: ZERO_ONE.get(cell.strip().lower()), "is neither 0 nor 1")
            chosen[:, at] = np.array(bits, dtype=bool)[of_row]
        offsets = np.concatenate([[0], np.cumsum(chosen.sum(axis=1))])
        names = pa.array(list(layout.labels), TEXT).take(pa.array(np.nonzero(chosen)[1]))
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), names)
    (name,), column = layout.labels, raw.table[layout.labels[0]]
    refuse_rows(
        raw, name, is_empty(column), "is empty; write a label or remove the row (no labels at all: a JSON list [])"
    )
    refuse_rows(raw, name, pc.match_substring(column, "\0"), "holds a NUL character; remove it")
    if layout.shape.labels == "number":
        wrong = "is not a finite number; write it as 1.5 or 2e-3"
        _by_value(raw, name, lambda cell: (NUMERAL.fullmatch(cell) and np.isfinite(float(cell))) or None, wrong)
    if layout.shape.labels != "several":
        return column
    wrong = 'is not a list of labels; write it as ["one", "two"]'
    labels, of_row = _by_value(raw, name, lambda cell: split_cell(cell, layout.form, layout.separator), wrong)
    return pa.array(labels, several).take(pa.array(of_row))


def _by_value(
    raw: RawTable, column: str, make: Callable[[str], T | None], wrong: str
) -> tuple[list[T | None], np.ndarray]:
    """`make` of each distinct value, and for each row the position of its own: int64 (n,).

    Raises:
        DataError: it is None for some, so that they are `wrong`; the rows are listed.
    """
    encoded = pc.fill_null(raw.table[column], "").combine_chunks().dictionary_encode()
    made, of_row = [make(value) for value in encoded.dictionary.to_pylist()], np.asarray(encoded.indices)
    refuse_rows(raw, column, np.array([one is None for one in made], dtype=bool)[of_row], wrong)
    return made, of_row


def refuse_rows(raw: RawTable, column: str, mask: Iterable[bool] | pa.ChunkedArray, what: str) -> None:
    """
    Raises:
        DataError: `mask` (n,) is true for some rows, which are listed.
    """
    bad = raw.rows[np.asarray(mask, dtype=bool)]
    if len(bad):
        raise DataError(f"{raw.path}: {row_list(bad)}: column {column!r} {what}")
