"""What annotation tools write, as plain tables: the one step between reading a file and finding its layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.config.schema import DataSettings
from tunesmith.data.jsontext import as_text, parse
from tunesmith.data.layout.base import Layout
from tunesmith.data.layout.cells import CellError, Mended, each_row, json_value
from tunesmith.data.layout.studio import studio_table, with_controls
from tunesmith.data.layout.token_rows import sentence_table
from tunesmith.data.records import RawTable
from tunesmith.data.shapes import Labels
from tunesmith.data.table import TEXT, is_empty
from tunesmith.errors import DataError
from tunesmith.text import counted, name_list

VERDICTS = ("accept", "reject", "ignore")  # of Prodigy
REJECTED = "rejected or ignored by the annotator"
SCORES = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


def plain_table(raw: RawTable, settings: DataSettings) -> RawTable:
    """A table as tools export it, as one whose cells each hold one thing; any other table as it is.

    Read so are tasks of Label Studio, answers of Prodigy, ``cats`` of spaCy, and tables with one token a row.

    Raises:
        DataError: cells are not as the tool writes them; the rows are listed.
    """
    table = studio_table(raw) or sentence_table(raw, settings)
    return table or _with_categories(_with_verdicts(with_controls(raw)))


def as_asked(raw: RawTable, layout: Layout) -> RawTable:
    """A table whose labels a tool wrote one a row, with lists of them where these are asked for.

    Raises:
        DataError: a tool wrote several, and one is asked for.
    """
    name = layout.labels[0] if len(layout.labels) == 1 else None
    kind = raw.annotated.get(name) if name else None
    if kind == "several" and layout.shape.labels == "one":
        where = f"{raw.path}: column {name!r} has several labels in a row"
        raise DataError(f"{where}, for one label a text; keep one of them, or read them as multilabel")
    if kind != "one" or layout.shape.labels != "several":
        return raw
    cells = [None if cell is None else as_text([cell]) for cell in raw.table[name].to_pylist()]
    return replace(raw, table=raw.table.set_column(raw.table.column_names.index(name), name, pa.array(cells, TEXT)))


def _with_verdicts(raw: RawTable) -> RawTable:
    """Prodigy's answers: what was rejected or ignored is not judged, but for rejected rows of the only label."""
    names = set(raw.table.column_names)
    if "answer" not in names or {"question", "context"} <= names:
        return raw
    verdicts = pc.fill_null(raw.table["answer"], "accept")
    if not pc.all(pc.is_in(verdicts, value_set=pa.array(VERDICTS, TEXT))).as_py():
        return raw
    given = np.array(verdicts.to_pylist(), dtype=object)
    annotated, notes = dict(raw.annotated), list(raw.notes)
    if "accept" in names and _are_lists(raw.table["accept"]):
        raw, annotated["accept"] = _accepted(raw, given == "accept")
    elif "label" in names and "spans" not in names and not _are_lists(raw.table["label"]):
        raw, given, told = _binary(raw, given)
        notes += told
    if "_view_id" in names and "spans" in names and pc.any(pc.equal(raw.table["_view_id"], "ner")).as_py():
        notes.append("yes or no to one entity a row; other entities of these texts are read as none")
    unjudged = {int(row): REJECTED for row in raw.rows[given != "accept"]}
    return replace(raw, annotated=annotated, unjudged=unjudged, notes=tuple(notes))


def _are_lists(column: pa.ChunkedArray) -> bool:
    filled = column.filter(pc.invert(is_empty(column)))
    return bool(len(filled)) and bool(pc.all(pc.starts_with(pc.utf8_ltrim_whitespace(filled), "[")).as_py())


def _accepted(raw: RawTable, judged: np.ndarray) -> tuple[RawTable, Labels]:
    """The options that were chosen: texts where only one may be."""
    cells = [json_value(cell) for cell in raw.table["accept"].to_pylist()]
    several = any(
        isinstance(cell, list) and len(cell) > 1 for cell, counts in zip(cells, judged, strict=True) if counts
    )
    if several or ("config" in raw.table.column_names and _styles(raw.table["config"])["multiple"]):
        return raw, "several"
    chosen = [as_text(cell[0]) if isinstance(cell, list) and cell else None for cell in cells]
    at = raw.table.column_names.index("accept")
    return replace(raw, table=raw.table.set_column(at, "accept", pa.array(chosen, TEXT))), "one"


def _styles(column: pa.ChunkedArray) -> Counter[str]:
    """How often options were chosen one or several at a time."""
    found: Counter[str] = Counter()
    for cell in pc.unique(column.drop_null()).to_pylist():
        try:
            value = parse(cell)
        except ValueError:
            continue
        found[str(value.get("choice_style")) if isinstance(value, Mapping) else ""] += 1
    return found


def _binary(raw: RawTable, given: np.ndarray) -> tuple[RawTable, np.ndarray, list[str]]:
    """Rows with one label each that was accepted or rejected.

    A rejected label says only what the text is not. With a single label that is a class of its own.

    Returns:
        The table, the verdicts, and notes.
    """
    labels = np.array(raw.table["label"].to_pylist(), dtype=object)
    rejected, accepted = given == "reject", set(labels[given == "accept"]) - {None}
    only = next(iter(accepted)) if len(accepted) == 1 else None
    other = rejected & (labels == only) if only is not None else np.zeros(len(labels), dtype=bool)
    if other.any():
        labels[other], name = f"not {only}", raw.table.column_names.index("label")
        table = raw.table.set_column(name, "label", pa.array(labels.tolist(), TEXT))
        found = counted(int(other.sum()), "row")
        notes = [
            f"one label, {only!r}, was accepted or rejected: {found} where it was rejected read as {f'not {only}'!r}"
        ]
        return replace(raw, table=table), np.where(other, "accept", given), notes
    if rejected.any():
        never = sorted(set(labels[rejected]) - accepted - {None})
        notes = ["what was rejected says only which label a text does not have"]
        return raw, given, [*notes, f"never accepted: {name_list(never)}"] if never else notes
    return raw, given, []


def _with_categories(raw: RawTable) -> RawTable:
    """spaCy's categories, ``{"cats": {"good": 1, "bad": 0}}``, as the labels that are true of a text."""
    if "cats" not in raw.table.column_names or pc.all(is_empty(raw.table["cats"])).as_py():
        return raw
    if not pc.any(pc.starts_with(pc.utf8_ltrim_whitespace(raw.table["cats"]), "{")).as_py():
        return raw
    found, _ = each_row(raw, ("cats",), _true_names)
    several = any(len(names) != 1 for names in found if names is not None)
    cells = [None if names is None else as_text(names if several else names[0]) for names in found]
    table = raw.table.set_column(raw.table.column_names.index("cats"), "cats", pa.array(cells, TEXT))
    return replace(raw, table=table, annotated={**raw.annotated, "cats": "several" if several else "one"})


def _true_names(cell: str | None, mended: Mended) -> list[Any] | None:
    value = json_value(cell)
    if value is None:
        return None
    if not isinstance(value, dict) or not value:
        raise CellError('is not an object of labels; write {"good": 1, "bad": 0}')
    bits = {name: SCORES.get(str(score).lower()) for name, score in value.items()}
    if None in bits.values():
        raise CellError("has a score that is neither 0 nor 1; write 1 for each label of the text and 0 for the others")
    return [name for name, bit in bits.items() if bit]
