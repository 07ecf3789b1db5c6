"""Exports of Label Studio as plain tables: a column for each key of the data, and one for each control.

Its JSON-MIN and CSV exports are such tables already, but for what a control holds where it is not one text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.jsontext import Number, as_text, parse
from tunesmith.data.layout.cells import CellError, Mended, each_row, json_list, json_value
from tunesmith.data.records import RawTable
from tunesmith.data.shapes import Labels
from tunesmith.data.table import TEXT, by_chunk
from tunesmith.text import counted, name_list

NOT_STUDIO = "is not a list of annotations with results; export from Label Studio as JSON"
NOT_JUDGED = "without an annotation, or skipped by the annotator,"
KINDS: dict[str, Labels] = {"labels": "spans", "choices": "several", "rating": "number", "number": "number"}
"""What the results of a type are."""
OTHER_OFFSETS = ("hypertextlabels", "paragraphlabels", "timeserieslabels")
ADDRESS = re.compile(r"\s*(/data/(upload|local-files)/\S+|/data/local-files\S+|(https?|s3|gs|azure-blob)://\S+)\s*")


@dataclass
class _Task:
    """Data of a task, and what its annotation says by control; None where nobody annotated it."""

    data: dict[str, Any]
    answers: dict[str, list[Any]] | None = None
    predicted: bool = False


@dataclass
class _Seen:
    """What was met in all tasks: the kind of each control, and results that are not read: their control by type."""

    kinds: dict[str, Labels] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)


def studio_table(raw: RawTable) -> RawTable | None:
    """The tasks of Label Studio's JSON export as a plain table; None for any other table.

    Of several annotations of a task that were not cancelled the one marked as ground truth counts, else the first.
    """
    names = raw.table.column_names
    results = next((name for name in ("annotations", "completions") if name in names), None)
    if "data" not in names or not ({"annotations", "completions", "predictions"} & set(names) or len(names) <= 3):
        return None
    cells = [cell for cell in raw.table["data"].drop_null().slice(0, 100).to_pylist() if cell.strip()]
    if not cells or not all(cell.lstrip().startswith(("{", "[") if results else "{") for cell in cells):
        return None
    seen = _Seen()
    predictions = "predictions" if "predictions" in names else None

    def make(cell: str, predicted: str | None, beside: str | None, mended: Mended) -> _Task:
        data = json_value(cell)
        if not isinstance(data, dict):
            raise CellError("stands beside data that are no object with a text; export from Label Studio as JSON")
        return _Task(data, _answers(beside, seen, mended), predicted not in (None, "", "[]"))

    tasks, notes = each_row(raw, ("data", predictions, results), make)
    return _as_table(raw, tasks, seen, notes)


def _answers(cell: str | None, seen: _Seen, mended: Mended) -> dict[str, list[Any]] | None:
    """What one annotation of a task says by control; None where there is none that was not cancelled."""
    annotations = json_list(cell)
    if not all(isinstance(one, dict) for one in annotations):
        raise CellError(NOT_STUDIO)
    kept = [one for one in annotations if not one.get("was_cancelled") and not one.get("skipped")]
    kept.sort(key=lambda one: not one.get("ground_truth"))
    if not kept:
        return None
    if len(kept) > 1:
        which = "one marked as ground truth" if kept[0].get("ground_truth") else "first"
        mended(f"several annotations; the {which} was read")
    answers: dict[str, list[Any]] = {}
    try:
        for one in kept[0].get("result") or []:
            type_, value = one.get("type"), one.get("value")
            if type_ in OTHER_OFFSETS:
                raise CellError(
                    f"has labels of HTML or dialogues ({type_}), whose offsets count no characters of a text; "
                    "label plain text instead"
                )
            if type_ in KINDS and not isinstance(value, dict):
                raise CellError(NOT_STUDIO)
            if type_ not in KINDS or (type_ != "labels" and "start" in value):  # the latter is said of a region
                seen.unread[str(type_)] = str(one.get("from_name") or type_)
                continue
            name, kind = str(one.get("from_name") or type_), KINDS[type_]
            if seen.kinds.setdefault(name, kind) != kind:
                raise CellError(f"has results of two kinds from {name!r}; export from Label Studio as JSON")
            found = [value] if type_ == "labels" else value[type_]
            answers.setdefault(name, []).extend(found if isinstance(found, list) else [found])
    except (AttributeError, KeyError, TypeError):
        raise CellError(NOT_STUDIO) from None
    return answers


def _as_table(raw: RawTable, tasks: list[_Task], seen: _Seen, notes: list[str]) -> RawTable:
    columns: dict[str, pa.Array] = {"id": raw.table["id"]} if "id" in raw.table.column_names else {}
    unread = dict(raw.unread)
    for key in dict.fromkeys(key for task in tasks for key in task.data):
        name = f"data.{key}" if key in columns else key
        columns[name] = values = pa.array([as_text(task.data.get(key)) for task in tasks], TEXT)
        if address := next(_addresses(values), None):
            what = f"column {name!r} has addresses of files instead of texts, such as {address!r:.80}"
            unread[name] = (
                f"{raw.path}: {what}; import the texts themselves into Label Studio, or put them into the export"
            )
    annotated: dict[str, Labels] = dict.fromkeys(seen.unread.values(), "none")
    for control, kind in seen.kinds.items():
        name = f"annotations.{control}" if control in columns else control
        found = [None if task.answers is None else task.answers.get(control, []) for task in tasks]
        columns[name], annotated[name] = _control(found, kind)
    if seen.unread:
        notes.append(f"results of Label Studio that are not read, by type: {name_list(seen.unread)}")
    skipped = [task.answers is None for task in tasks]
    if predicted := sum(task.predicted for task, out in zip(tasks, skipped, strict=True) if out):
        notes.append(f"predictions of {counted(predicted, 'task')} that nobody annotated are not read")
    unjudged = {int(row): NOT_JUDGED for row, out in zip(raw.rows, skipped, strict=True) if out}
    return replace(
        raw, table=pa.table(columns), notes=(*raw.notes, *notes), unread=unread, annotated=annotated, unjudged=unjudged
    )


def _addresses(values: pa.Array) -> Iterator[str]:
    """An address of the column, where it is one of files: any that was uploaded, or nothing but addresses."""
    filled = [value for value in values.to_pylist() if value and not value.isspace()]
    found = [value for value in filled if len(value) < 1000 and ADDRESS.fullmatch(value)]
    if found and (len(found) == len(filled) or any(value.lstrip().startswith("/data/") for value in found)):
        yield found[0]


def _control(found: list[list[Any] | None], kind: Labels) -> tuple[pa.Array, Labels]:
    """The column of a control, null where nobody annotated, and what it holds."""
    if kind != "spans" and max((len(one) for one in found if one), default=0) < 2:
        kind = "one" if kind == "several" else kind
        return pa.array([as_text(one[0]) if one else None for one in found], TEXT), kind
    return pa.array([None if one is None else as_text(one) for one in found], TEXT), kind


IN_CELLS: tuple[tuple[str, Callable[..., str | None], Labels], ...] = (
    (r'^\s*\[?\s*\{\s*"choices"\s*:', lambda cell, mended: _chosen(cell), "several"),
    (r'^\s*\[\s*\{\s*"(rating|number)"\s*:', lambda cell, mended: _rated(cell), "number"),
)


def with_controls(raw: RawTable) -> RawTable:
    """A table with the objects that Label Studio's JSON-MIN and CSV exports have in cells as lists and numbers.

    One choice is a text there, several are ``{"choices": […]}``; a rating is ``[{"rating": 4}]``.
    """
    for name in raw.table.column_names:
        column = raw.table[name]
        for pattern, make, kind in IN_CELLS:
            found = by_chunk(partial(pc.match_substring_regex, pattern=pattern), column, pa.bool_())
            if pc.any(found).as_py():
                cells, _ = each_row(raw, (name,), make)
                table = raw.table.set_column(raw.table.column_names.index(name), name, pa.array(cells, TEXT))
                raw = replace(raw, table=table, annotated={**raw.annotated, name: kind})
    return raw


def _chosen(cell: str | None) -> str | None:
    if not (cell or "").strip():
        return None
    try:
        value = parse(str(cell))
    except ValueError:
        value = cell
    found = []
    for item in value if isinstance(value, list) else [value]:
        choices = item.get("choices") if isinstance(item, dict) else [item]
        if not isinstance(choices, list) or not all(isinstance(one, str) for one in choices):
            raise CellError('is not the choices of Label Studio; write {"choices": ["one", "two"]}')
        found += choices
    return as_text(found)


def _rated(cell: str | None) -> str | None:
    if not (cell or "").strip():
        return None
    value = json_value(cell)
    items = value if isinstance(value, list) else [value]
    found = [one for item in items for one in (item.values() if isinstance(item, dict) else [item])]
    if len(found) != 1 or not isinstance(found[0], Number):
        raise CellError("is not one number; write one rating a row")
    return str(found[0])
