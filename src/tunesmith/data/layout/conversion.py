"""From a table as it was read to `Records`, by its layout."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.config.schema import DataSettings
from tunesmith.data.keys import repeated
from tunesmith.data.layout.answers import ANSWER_LISTS, answer_column
from tunesmith.data.layout.base import Layout
from tunesmith.data.layout.exports import as_asked
from tunesmith.data.layout.labels import label_column, refuse_rows, trimmed, without_label
from tunesmith.data.layout.spans import SPAN_LISTS, span_column, tagged_columns
from tunesmith.data.records import RawTable, Records
from tunesmith.data.table import TEXT, filled, is_empty
from tunesmith.errors import DataError
from tunesmith.text import counted, name_list, row_list


def to_records(raw: RawTable, layout: Layout, settings: DataSettings | None = None) -> Records:
    """The rows as records; the labels of a regression stay text, but each is a finite number as Python writes it.

    Rows that an annotator rejected or skipped are left out (of labelled records), with a note.

    Args:
        settings: whether labels are trimmed, and rows without one left out, too.

    Raises:
        DataError: columns of the layout are missing; labels are empty, hold NUL, or do not fit the layout; identifiers
            are empty or repeated. The rows are listed.
    """
    wanted = [layout.text, layout.text_pair, *layout.labels, layout.group, layout.id]
    missing = [name for name in wanted if name is not None and name not in raw.table.column_names]
    if missing:
        there = name_list(raw.table.column_names)
        raise DataError(f"{raw.path}: no column {name_list(missing)}; columns there: {there}")
    label = layout.labels[0] if layout.labels else None
    raw, notes = judged(raw) if layout.labels else (raw, [])
    raw = as_asked(raw, layout)
    if settings is not None and settings.strip and layout.form == "plain":
        raw = trimmed(raw, layout)
    if settings is not None and settings.unlabelled == "skip" and layout.labels:
        raw, skipped = _left_out(raw, without_label(raw, layout), "without a label")
        notes += skipped
    columns: dict[str, pa.Array | pa.ChunkedArray] = {}
    found: list[str] = []
    if layout.form == "tags":
        columns["text"], columns["label"], found = tagged_columns(raw, layout.text, label)
    else:
        columns["text"] = filled(raw.table[layout.text])
        if layout.text_pair:
            columns["text_pair"] = filled(raw.table[layout.text_pair])
        if layout.form in ("spans", "answers") and label is None:
            columns["label"] = pa.nulls(len(raw.rows), SPAN_LISTS if layout.form == "spans" else ANSWER_LISTS)
        elif layout.form == "spans":
            columns["label"], found = span_column(raw, layout.text, str(label))
        elif layout.form == "answers":
            columns["label"], found = answer_column(raw, str(layout.text_pair), str(label))
        else:
            columns["label"], found = label_column(raw, layout)
    if layout.group:
        columns["group"] = filled(raw.table[layout.group])
    if layout.group and layout.group != layout.text_pair:  # an empty context is for the checks to report
        refuse_rows(raw, layout.group, is_empty(columns["group"]), "is empty; every row needs a group")
    rows = pa.array(raw.rows)
    columns["id"] = pc.cast(rows, TEXT)
    if layout.id:
        columns["id"] = ids = raw.table[layout.id]
        without = "identifiers must be there and unique (or leave out data.id)"
        refuse_rows(raw, layout.id, is_empty(ids), f"is empty; {without}")
        refuse_rows(raw, layout.id, repeated(ids), f"repeats an identifier; {without}")
    columns["row"] = rows
    return Records(pa.table(columns), raw.path, (*raw.notes, *layout.notes, *notes, *found), raw.sha256, raw.origin)


def judged(raw: RawTable) -> tuple[RawTable, list[str]]:
    """The rows that an annotator did not reject or skip, and a note.

    Raises:
        DataError: no row is left.
    """
    if not raw.unjudged:
        return raw, []
    return _left_out(raw, np.isin(raw.rows, list(raw.unjudged)), next(iter(raw.unjudged.values())))


def _left_out(raw: RawTable, mask: Iterable[bool] | pa.ChunkedArray, which: str) -> tuple[RawTable, list[str]]:
    """The rows where `mask` (n,) is not true, and a note of the others.

    Raises:
        DataError: no row is left.
    """
    out = np.asarray(mask, dtype=bool)
    if not out.any():
        return raw, []
    note = f"{counted(int(out.sum()), 'row')} {which} left out ({row_list(raw.rows[out])})"
    if out.all():
        raise DataError(f"{raw.path}: no rows: {note}; annotate some, or name another file")
    return replace(raw, table=raw.table.filter(pa.array(~out)), rows=raw.rows[~out]), [note]
