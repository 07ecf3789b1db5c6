"""What a column of labels means: classes, several labels a cell, or numbers. Ambiguity is an error, never a guess."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.config.schema import DataSettings, Decimal
from tunesmith.data.layout.base import Form, Layout
from tunesmith.data.layout.listed import (
    SEPARATOR_NAMES,
    SEPARATORS,
    find_separator,
    is_empty_list,
    list_form,
    list_items,
    made_of_parts,
    split_cell,
)
from tunesmith.data.layout.numbers import as_numeral, number_style, read_both_ways
from tunesmith.data.records import RawTable
from tunesmith.data.shapes import NUMBER, ONE_LABEL, SEVERAL_LABELS, RecordShape
from tunesmith.data.table import TEXT, is_empty
from tunesmith.errors import DataError
from tunesmith.text import TRIMMED, counted, name_list, row_list

T = TypeVar("T")
INTEGER = re.compile(r"\s*[+-]?\d+\s*")
WHOLE_DECIMAL = re.compile(r"\s*[+-]?\d+\.0*\s*")
FEW_VALUES = 20  # at most so many distinct whole numbers are read as classes
MAX_CONTIGUOUS = 200  # 0..K-1 or 1..K up to this K is read as class numbers
NO = ("0", "0.0", "false", "f", "no", "n", "nein", "non")
YES = ("1", "1.0", "true", "t", "yes", "y", "ja", "oui", "x", "\u2713", "\u2714")
BITS = dict.fromkeys(NO, False) | dict.fromkeys(YES, True) | {"": False}
"""What says in a column of its own whether a row has a label."""
CLASSES_OR = "give task.name=classification or task.name="
SEVERAL_OR = f"{CLASSES_OR}multilabel (data.label_separator=S for another separator)"
SKIP = "or give data.unlabelled=skip to leave these rows out"


def read_alike(raw: RawTable, layout: Layout, first: Layout, settings: DataSettings) -> Layout:
    """The layout of a label column that is read as that of the training file, but for what the settings name.

    Raises:
        DataError: numbers that may be written otherwise than in training; the message has both readings.
    """
    if settings.label_separator is not None and layout.shape.labels == "several":
        return replace(layout, form="separated", separator=_separator(settings.label_separator))
    decimal = settings.decimal if layout.shape.labels == "number" else None
    if decimal is None and first.decimal is not None and layout.labels:
        (column,), apart = layout.labels, "." if first.decimal == "," else ","
        cells = [cell.strip().removesuffix("%").rstrip() for cell in _filled(raw, column)]
        if unsure := read_both_ways(cells, apart):
            what = f"{raw.path}: column {column!r}: {unsure}, and training has {first.decimal!r} before decimals"
            raise DataError(f"{what}; give data.decimal='.' or data.decimal=','")
    return replace(
        layout, form=first.form, separator=first.separator, decimal=decimal or first.decimal, percent=first.percent
    )


def _separator(name: str) -> str:
    return SEPARATOR_NAMES.get(name, name)


def read_label_column(raw: RawTable, layout: Layout, shape: RecordShape | None, settings: DataSettings) -> Layout:
    """The layout with the shape, form, separator and way of writing numbers that the cells of its label column show.

    Args:
        shape: what the user asked for, or None.

    Raises:
        DataError: two readings are equally plausible; the message names both and the setting that decides.
    """
    (column,) = layout.labels
    where = f"{raw.path}: column {column!r}"
    objects = pc.match_substring_regex(raw.table[column].fill_null(""), r'^\s*\{\s*"[^"]*"\s*:')
    refuse_rows(raw, column, objects, 'is a JSON object; write the label itself, as "a" instead of {"name": "a"}')
    cells = _filled(raw, column)
    typed = raw.format not in ("csv", "tsv")
    asked = shape is not None and shape.labels == "several"
    if settings.label_separator is not None and (shape is None or asked):
        separator = _separator(settings.label_separator)
        found = replace(layout, shape=shape or SEVERAL_LABELS, form="separated", separator=separator)
        absent = not any(separator in cell for cell in cells)
        return _noted(found, f"{where}: no cell has data.label_separator={separator!r}" if absent else None)
    if shape is not None and shape.labels == "number":
        numbers = [cell for cell in cells if number_style([cell], where, ".", "")]
        decimal, percent = number_style(numbers, where, settings.decimal, "", typed) or (settings.decimal, False)
        return replace(layout, decimal=decimal, percent=percent)
    if shape is not None and not asked:
        return layout
    if form := list_form(cells, where, asked):
        note = f"{where}: {_about_lists(form, cells)}" if form == "indicator" or not asked else None
        return _noted(replace(layout, shape=shape or SEVERAL_LABELS, form=form), note)
    if not asked and (found_numbers := _numbers(layout, cells, settings.decimal, where, typed)):
        return found_numbers
    filled = [cell for cell in cells if not is_empty_list(cell)]
    found_separator = find_separator(filled, where, SEVERAL_OR, asked)
    if found_separator or asked:
        found = replace(layout, form="separated", separator=found_separator or SEPARATORS[0])
        note = f"{where}: read as several labels a row, separated by {found.separator!r}" if found_separator else None
        return _noted(replace(found, shape=shape or SEVERAL_LABELS), note)
    return _noted(replace(layout, shape=ONE_LABEL), _about_parts(filled, where))


def _filled(raw: RawTable, column: str) -> list[str]:
    """The distinct cells of a column that are not blank."""
    return [value for value in pc.unique(raw.table[column]).to_pylist() if value and not value.isspace()]


def _noted(layout: Layout, note: str | None) -> Layout:
    return replace(layout, notes=(*layout.notes, note)) if note else layout


def _about_lists(form: Form, cells: Sequence[str]) -> str:
    if form != "indicator":
        return "lists; read as several labels a row"
    last = len(list_items(cells[0]) or ()) - 1
    what = f"lists of zeros and ones without names; the labels are called by their place, 0 to {last}"
    return f"{what} (for names, make a 0/1 column of each and give data.label=ONE,TWO)"


def _about_parts(cells: Sequence[str], where: str) -> str | None:
    if (between := made_of_parts(cells)) is None:
        return None
    name = next((name for name, value in SEPARATOR_NAMES.items() if value == between), between)
    what = f"{where}: {counted(len(cells), 'label')} of parts that recur, with {between!r} between them"
    return f"{what}; if these are several labels a row, give data.label_separator={name}"


def _numbers(layout: Layout, cells: Sequence[str], decimal: Decimal | None, where: str, typed: bool) -> Layout | None:
    """The layout of classes that are numbers, or of quantities; None where a cell is no number.

    Raises:
        DataError: either is plausible.
    """
    style = number_style(cells, where, decimal, "; or give task.name=classification", typed)
    if style is None:
        return None
    mark, percent = style
    if mark == "," and decimal is None and (listed := next((cell for cell in cells if "," not in cell), None)):
        pieces = Counter(piece for cell in cells for piece in set(cell.split(",")))
        example = next(cell for cell in cells if "," in cell)
        if 2 * sum(count > 1 for count in pieces.values()) >= len(pieces):
            what = f"beside {listed!r}, {example!r} may be a number with a decimal comma, or several labels, or one"
            raise DataError(f"{where}: {what}; give data.decimal=',' or {SEVERAL_OR.removeprefix('give ')}")
    plain = style == (None, False)
    numerals = [cell if plain else as_numeral(cell, mark, percent) or cell for cell in cells]
    if _are_classes(numerals, where):
        return replace(layout, shape=ONE_LABEL)
    read = next(((cell, one) for cell, one in zip(cells, numerals, strict=True) if cell != one), (cells[0], cells[0]))
    how = " with decimals" if plain else f", {read[0]!r} as {read[1]}"
    note = f"{where}: numbers{how}, read as regression (task.name=classification for classes)"
    return _noted(replace(layout, shape=NUMBER, decimal=mark, percent=percent), note)


def _are_classes(cells: Sequence[str], where: str) -> bool:
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


def without_label(raw: RawTable, layout: Layout) -> np.ndarray:
    """Bool (n,): rows whose label cells are all empty. An empty list says that a row has no label, so it is none."""
    empty = [np.asarray(is_empty(raw.table[name])) for name in layout.labels]
    return np.asarray(np.all(empty, axis=0))


def trimmed(raw: RawTable, layout: Layout) -> RawTable:
    """Without white space and invisible characters around the labels."""
    table = raw.table
    for name in layout.labels:
        at = table.column_names.index(name)
        table = table.set_column(at, name, pc.utf8_trim(table[name], TRIMMED))
    return replace(raw, table=table)


def label_column(raw: RawTable, layout: Layout) -> tuple[pa.Array | pa.ChunkedArray, list[str]]:
    """The labels of a text task: text, numerals, or lists of text for several; null everywhere where the file has none.

    Returns:
        Them, and notes.

    Raises:
        DataError: labels are empty, hold NUL or do not fit the layout; the rows are listed.
    """
    several = pa.large_list(TEXT)
    if not layout.labels:
        return pa.nulls(raw.table.num_rows, several if layout.shape.labels == "several" else TEXT), []
    if layout.form == "columns":
        return _from_columns(raw, layout)
    (name,), column = layout.labels, raw.table[layout.labels[0]]
    empty, notes = np.asarray(is_empty(column)), list[str]()
    if layout.form == "separated" and empty.any():
        what = "an empty cell is read as no label (data.unlabelled=skip leaves these rows out)"
        notes.append(f"{row_list(raw.rows[empty].tolist())}: column {name!r}: {what}")
    elif layout.form != "separated":
        none = "; a row without a label needs task.name=multilabel" if layout.shape.labels == "one" else ""
        write = "[] for no label" if layout.shape.labels == "several" else "a label"
        refuse_rows(raw, name, empty, f"is empty; write {write}, {SKIP}{none}")
    refuse_rows(raw, name, pc.match_substring(column, "\0"), "holds a NUL character; remove it")
    if layout.shape.labels == "number":
        example = f"1{layout.decimal or '.'}5{' %' if layout.percent else ''}"
        wrong = f"is not a finite number; write it as {example}{'' if layout.decimal else ' or 2e-3'}"
        numerals, of_row = _by_value(raw, name, lambda cell: as_numeral(cell, layout.decimal, layout.percent), wrong)
        as_it_stands = layout.decimal is None and not layout.percent
        return (column if as_it_stands else pa.array(numerals, TEXT).take(pa.array(of_row))), notes
    if layout.shape.labels != "several":
        return column, notes
    wrong = 'is not a list of labels; write it as ["one", "two"], or [] for none'
    labels, of_row = _by_value(raw, name, lambda cell: split_cell(cell, layout.form, layout.separator), wrong)
    return pa.array(labels, several).take(pa.array(of_row)), notes


def _from_columns(raw: RawTable, layout: Layout) -> tuple[pa.Array, list[str]]:
    """Labels that have a column each.

    Raises:
        DataError: a cell says neither yes nor no, or all cells of a row are empty in a file that writes no.
    """
    chosen = np.zeros((raw.table.num_rows, len(layout.labels)), dtype=bool)
    wrong = f"is neither 0 nor 1 (nor {', '.join(NO[2:])}, {', '.join(YES[2:])} or empty); write one of these"
    wrong += " (names of labels in several columns: join them in one, as in one|two)"
    for at, name in enumerate(layout.labels):
        bits, of_row = _by_value(raw, name, lambda cell: BITS.get(cell.strip().lower()), wrong)
        chosen[:, at] = np.array(bits, dtype=bool)[of_row]
    empty = np.array([np.asarray(is_empty(raw.table[name])) for name in layout.labels])
    notes = []
    if not (chosen.T | empty).all():  # no is written somewhere
        refuse_rows(raw, ",".join(layout.labels), empty.all(axis=0), f"is empty; write 0 or 1, {SKIP}")
        if empty.any():
            at_rows = row_list(raw.rows[empty.any(axis=0)].tolist())
            notes.append(f"{at_rows}: an empty cell of {name_list(layout.labels)} is read as 0")
    offsets = np.concatenate([[0], np.cumsum(chosen.sum(axis=1))])
    names = pa.array(list(layout.labels), TEXT).take(pa.array(np.nonzero(chosen)[1]))
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), names), notes


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
