"""A column that says of each row whether it is for training, validation or test."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.config.schema import DataSettings
from tunesmith.data.parts import NAMES, Sources
from tunesmith.data.records import RawTable
from tunesmith.data.table import TEXT
from tunesmith.errors import DataError, UsageError
from tunesmith.text import counted, name_list, row_list

COLUMNS = ("split", "data_split", "dataset_split", "fold", "set", "partition", "subset")
VALUES = {"train": ("train", "training"), **NAMES}
VALUES = VALUES | {"valid": (*NAMES["valid"], "development"), "test": (*NAMES["test"], "testing")}
ROLES = {value: role for role, values in VALUES.items() for value in values}
NO_COLUMN = "none"
OFF = f"data.split={NO_COLUMN} takes no notice of the column"


@dataclass(frozen=True)
class _Divided:
    """The rows of a table by such a column.

    Attributes:
        parts: role → its rows.
        told: how many rows of which value are read as what, and which are not read.
    """

    column: str
    parts: Mapping[str, RawTable]
    told: str


def with_split_column(given: Sources, settings: DataSettings) -> Sources:
    """The sources, of a table for ``"train"`` its rows for training, and those for validation and test, with a note.

    Raises:
        DataError: a row belongs to no split, or none is for training.
        UsageError: ``"valid"`` or ``"test"`` is given as well.
    """
    raw = given.splits["train"]
    if not isinstance(raw, RawTable):
        return given
    divided = _divided(raw, settings)
    if divided is None:
        return given._replace(notes=(*given.notes, *_about_folds(raw, settings)))
    parts, column = divided.parts, divided.column
    if "train" not in parts:
        raise DataError(f"{raw.path}: column {column!r} has no rows for training ({divided.told}); {OFF}")
    if named := [name for name in given.splits if name != "train"]:
        both = " and ".join(f"data.{name}" for name in named)
        what = f"{both} given, and column {column!r} divides the rows, too ({divided.told})"
        raise UsageError(f"{raw.path}: {what}; leave out {both}, or give data.split={NO_COLUMN} to train on all rows")
    splits: dict[str, object] = {role: parts[role] for role in ("train", *NAMES) if role in parts}
    note = f"{raw.path}: column {column!r} divides the rows: {divided.told} ({OFF})"
    return Sources(splits, frozenset(splits) - {"train"}, (*given.notes, note))


def rows_for(role: str, raw: RawTable, settings: DataSettings) -> RawTable:
    """The rows for validation or test of a table that has several splits in a column, with a note; of others all rows.

    Raises:
        DataError: it has several, and none is for that.
    """
    divided = _divided(raw, settings)
    if divided is None or len(divided.parts) < 2:
        return raw
    if role not in divided.parts:
        what = f"column {divided.column!r} has no rows for {role} ({divided.told})"
        raise DataError(f"{raw.path}: {what}; give data.split={NO_COLUMN} to take all rows")
    note = f"{raw.path}: scored are the rows for {role} of column {divided.column!r}: {divided.told} ({OFF})"
    part = divided.parts[role]
    return replace(part, notes=(*part.notes, note))


def _divided(raw: RawTable, settings: DataSettings) -> _Divided | None:
    """None where there is no such column, or it says of all rows the same, that they are for training."""
    column = _column(raw, settings)
    if column is None:
        return None
    values = _normal(raw, column)
    counts = {one["values"]: one["counts"] for one in pc.value_counts(values).to_pylist()}
    known = {value: ROLES[value] for value in counts if value in ROLES}
    if settings.split is None and set(known.values()) <= {"train"}:
        return None
    expected = f"expected {', '.join(VALUES)}"
    if not known:
        raise DataError(f"{raw.path}: data.split={column}: its values are {name_list(counts)}; {expected}")
    if empty := counts.pop("", 0):
        rows = raw.rows[np.asarray(pc.equal(values, ""))].tolist()
        where = f"{row_list(rows)}: column {column!r} is empty in {counted(empty, 'row')}"
        raise DataError(f"{raw.path}: {where}; {expected}; {OFF}")
    parts, order = {}, {role: at for at, role in enumerate(VALUES)}
    for role in VALUES:
        wanted = [value for value, its in known.items() if its == role]
        if wanted:
            mask = pc.is_in(values, pa.array(wanted, TEXT))
            parts[role] = replace(raw, table=raw.table.filter(mask), rows=raw.rows[np.asarray(mask)])
    told = [
        f"{counted(count, 'row')} {value!r} {f'as {known[value]}' if value in known else 'not read'}"
        for value, count in sorted(
            counts.items(), key=lambda one: (order.get(known.get(one[0], ""), len(order)), one[0])
        )
    ]
    return _Divided(column, parts, ", ".join(told))


def _column(raw: RawTable, settings: DataSettings) -> str | None:
    """The column that a setting names, else one with a usual name and at least one row for validation or test.

    Raises:
        DataError: there is no column of the name that is set.
    """
    there = raw.table.column_names
    if settings.split is not None:
        if settings.split in there:
            return settings.split
        if settings.split != NO_COLUMN:
            raise DataError(f"{raw.path}: data.split: no column {settings.split!r}; columns there: {name_list(there)}")
        return None
    for column in _free(raw, settings):
        if re.sub(r"[\s-]+", "_", column.strip().lower()) in COLUMNS:
            values = set(pc.unique(_normal(raw, column)).to_pylist())
            if {ROLES[value] for value in values if value in ROLES} - {"train"}:
                return column
    return None


def _free(raw: RawTable, settings: DataSettings) -> list[str]:
    """The columns that no setting names."""
    named = {settings.text, settings.text_pair, settings.group, settings.id, *(settings.label or "").split(",")}
    return [name for name in map(str, raw.table.column_names) if name not in named and name not in raw.unread]


def _normal(raw: RawTable, column: str) -> pa.ChunkedArray:
    return pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(raw.table[column], "")))


def _about_folds(raw: RawTable, settings: DataSettings) -> tuple[str, ...]:
    """A note of a column with numbers of folds, of which nobody can tell which is for test."""
    for column in _free(raw, settings):
        if column.strip().lower() in ("fold", "split") and settings.split is None:
            values = pc.unique(raw.table[column]).to_pylist()
            if 1 < len(values) <= 100 and all((value or "").strip().isdecimal() for value in values):
                return (f"{raw.path}: column {column!r} has numbers, which do not tell the test rows; it is not read",)
    return ()
