"""From a table as it was read to `Records`: which column is what, and what the labels mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.config.schema import DataSettings
from tunesmith.data import read
from tunesmith.data.layout.annotations import GROUPS, annotated_columns, find_place
from tunesmith.data.layout.finder import Finder, is_empty
from tunesmith.data.layout.labels import NUMBER, infer, split_cell
from tunesmith.data.records import RawTable, Records
from tunesmith.data.table import TEXT
from tunesmith.errors import DataError, UsageError
from tunesmith.text import name_list, row_list

ZERO_ONE = {"0": False, "1": True, "false": False, "true": True}


@dataclass(frozen=True)
class Layout:
    """Which column of a file is what. A layout found in the training file is reused for the other files of a run.

    Attributes:
        kind: ``"classification"``, ``"multilabel"``, ``"regression"``, ``"ner"`` or ``"qa"``.
        text: column of the text (for ner perhaps its tokens, for qa the question).
        text_pair: column of the second text (for qa the context), or None.
        labels: columns of the label: none, one, or several 0/1 columns (multi-label).
        separator: multi-label in one column: what stands between labels, or ``"json"``, ``"indicator"``; ner and qa:
            the form of the annotation (``"spans"``, ``"tags"``, ``"studio"``, ``"answers"``).
        group: column whose equal values never straddle splits, or None.
        id: column of unique identifiers, or None.
        key: of the text inside the tasks of Label Studio, or None.
        notes: what the user should know about the choice.
    """

    kind: str
    text: str
    text_pair: str | None = None
    labels: tuple[str, ...] = ()
    separator: str | None = None
    group: str | None = None
    id: str | None = None
    key: str | None = None
    notes: tuple[str, ...] = ()


def load_records(path: str, settings: DataSettings, task: str, need_label: bool = True) -> tuple[Records, Layout]:
    """Reads a file and finds its layout: `read`, `find_layout` and `to_records` in one call.

    Raises:
        DataError, UsageError: as those three.
    """
    raw = read(path, settings)
    layout = find_layout(raw, settings, task, need_label)
    return to_records(raw, layout), layout


def load_splits(path: str, settings: DataSettings, task: str, local: bool = False) -> tuple[dict[str, Records], Layout]:
    """``"train"`` from a file, and ``"valid"`` and ``"test"`` where the settings name files.

    All are read in the layout of the first, though identifiers that no flag names may be missing; files of entities
    or questions are read each in its own.

    Args:
        local: refuse names that need the network.

    Raises:
        DataError, UsageError: as `load_records`.
    """
    remote = [name for name in (path, settings.valid, settings.test) if local and name and name.startswith("hub:")]
    if remote:
        raise UsageError(f"{name}: --local refuses the Hub; give a local file, or leave --local out" for name in remote)
    records, layout = load_records(path, settings, task)
    splits = {"train": records}
    for name, given in (("valid", settings.valid), ("test", settings.test)):
        if given is not None:
            raw = read(given, settings)
            splits[name] = to_records(raw, _layout_of_other(raw, layout, settings))
    return splits, layout


def _layout_of_other(raw: RawTable, first: Layout, settings: DataSettings) -> Layout:
    """The layout of a validation or test file, given that of the training file."""
    if first.kind in ("ner", "qa"):
        return find_layout(raw, settings, first.kind)
    if settings.id is not None or first.id is None:
        return first
    taken = {first.text, first.text_pair, first.group, *first.labels}
    return replace(first, id=Finder(raw).identifier(taken))  # no flag asks for identifiers


def find_layout(raw: RawTable, settings: DataSettings, task: str, need_label: bool = True) -> Layout:
    """The columns by the flags, else by their common names, and the task read off the labels.

    Args:
        task: ``"auto"`` or a kind, which then decides.
        need_label: whether a missing label column is an error.

    Raises:
        DataError: all columns that cannot be found, at once; or labels that can be read in two ways.
    """
    finder = Finder(raw)
    if place := find_place(raw, settings, task, finder, need_label):
        kind, first, second, label, form = place
        return _annotated_layout(settings, finder, kind, first, second, label if need_label else None, form)
    labels = finder.labels(settings.label, need_label)
    text, pair = finder.texts(settings, set(labels))
    if not need_label:
        labels = ()  # they may be missing or wrong
    group = finder.flagged(settings.group, "--group")
    identifier = finder.flagged(settings.id, "--id") or finder.identifier({text, pair, group, *labels})
    if finder.problems:
        raise DataError(finder.problems)
    assert text is not None
    if len(labels) > 1:
        if task not in ("auto", "multilabel"):
            raise DataError(f"{raw.path}: --task {task} needs one label column, found {name_list(labels)} in --label")
        return Layout("multilabel", text, pair, labels, None, group, identifier, notes=tuple(finder.notes))
    if not labels:
        kind = "classification" if task == "auto" else task
        return Layout(kind, text, pair, (), None, group, identifier, notes=tuple(finder.notes))
    values = [value for value in pc.unique(raw.table[labels[0]]).to_pylist() if value and not value.isspace()]
    reading = infer(values, task, f"{raw.path}: column {labels[0]!r}")
    if reading.note:
        finder.notes.append(reading.note)
    return Layout(reading.kind, text, pair, labels, reading.separator, group, identifier, notes=tuple(finder.notes))


def _annotated_layout(
    settings: DataSettings, finder: Finder, kind: str, text: str, pair: str | None, label: str | None, form: str
) -> Layout:
    """The layout of entities or questions; questions on one text, or article, form a group."""
    group = finder.flagged(settings.group, "--group") or finder.filled(GROUPS) or (pair if kind == "qa" else None)
    taken = {text, pair, group, label}
    identifier = finder.flagged(settings.id, "--id") or finder.identifier(taken)
    if finder.problems:
        raise DataError(finder.problems)
    key = settings.text if form == "studio" else None
    labels = (label,) if label else ()
    return Layout(kind, text, pair, labels, form, group, identifier, key, tuple(finder.notes))


def to_records(raw: RawTable, layout: Layout) -> Records:
    """The rows as records; the labels of a regression stay text, but each is a finite number.

    Raises:
        DataError: columns of the layout are missing; labels are empty, hold NUL, or do not fit the kind; identifiers
            are empty or repeated. The rows are listed.
    """
    wanted = [layout.text, layout.text_pair, *layout.labels, layout.group, layout.id]
    missing = [name for name in wanted if name is not None and name not in raw.table.column_names]
    if missing:
        there = name_list(raw.table.column_names)
        raise DataError(f"{raw.path}: no column {name_list(missing)}; columns there: {there}")
    notes: list[str] = []
    columns: dict[str, pa.Array | pa.ChunkedArray]
    if layout.kind in ("ner", "qa"):
        raw, (columns, notes) = annotated_columns(raw, layout)
    else:
        columns = {"text": pc.fill_null(raw.table[layout.text], "")}
        if layout.text_pair:
            columns["text_pair"] = pc.fill_null(raw.table[layout.text_pair], "")
        columns["label"] = _labels(raw, layout)
    rows = pa.array(raw.rows)
    if layout.group:
        columns["group"] = pc.fill_null(raw.table[layout.group], "")
    if layout.group and layout.group != layout.text_pair:  # an empty context is for the checks to report
        _refuse(raw, layout.group, is_empty(columns["group"]), "is empty; every row needs a group")
    columns["id"] = _identifiers(raw, layout.id) if layout.id else pc.cast(rows, TEXT)
    columns["row"] = rows
    return Records(pa.table(columns), raw.path, (*raw.notes, *layout.notes, *notes))


def _refuse(raw: RawTable, column: str, mask: pa.ChunkedArray | np.ndarray, what: str) -> None:
    bad = raw.rows[np.asarray(mask, dtype=bool)]
    if len(bad):
        raise DataError(f"{raw.path}: {row_list(bad)}: column {column!r} {what}")


def _identifiers(raw: RawTable, name: str) -> pa.ChunkedArray:
    column = raw.table[name]
    _refuse(raw, name, is_empty(column), "is empty; identifiers must be there and unique (or leave out --id)")
    codes = np.asarray(column.combine_chunks().dictionary_encode().indices)
    counts = np.bincount(codes)
    _refuse(raw, name, counts[codes] > 1, "repeats an identifier; identifiers must be unique (or leave out --id)")
    return column


def _labels(raw: RawTable, layout: Layout) -> pa.Array | pa.ChunkedArray:
    """The label column: text, or lists of text for multi-label; null everywhere where the file has none."""
    if not layout.labels:
        return pa.nulls(raw.table.num_rows, pa.large_list(TEXT) if layout.kind == "multilabel" else TEXT)
    if len(layout.labels) > 1:
        return _indicators(raw, layout.labels)
    name = layout.labels[0]
    column = raw.table[name]
    _refuse(raw, name, is_empty(column), "is empty; write a label or remove the row (no labels at all: a JSON list [])")
    _refuse(raw, name, pc.match_substring(column, "\0"), "holds a NUL character; remove it")
    if layout.kind == "regression":
        _refuse(raw, name, _per_value(column, _not_finite), "is not a finite number; write it as 1.5 or 2e-3")
    if layout.kind != "multilabel":
        return column
    return _split(raw, name, column, layout.separator)


def _not_finite(value: str) -> bool:
    return NUMBER.fullmatch(value) is None or not np.isfinite(float(value))


def _per_value(column: pa.ChunkedArray, test: Callable[[str], bool]) -> np.ndarray:
    """`test` of each row (bool array (n,)), computed once per distinct value."""
    encoded = column.combine_chunks().dictionary_encode()
    results = np.array([test(value) for value in encoded.dictionary.to_pylist()], dtype=bool)
    return np.take(results, np.asarray(encoded.indices))


def _split(raw: RawTable, name: str, column: pa.ChunkedArray, separator: str | None) -> pa.Array:
    encoded = column.combine_chunks().dictionary_encode()
    cells = encoded.dictionary.to_pylist()
    labels: list[tuple[str, ...] | None] = []
    for cell in cells:
        try:
            labels.append(split_cell(cell, separator))
        except ValueError:
            labels.append(None)
    bad = np.array([found is None for found in labels], dtype=bool)[np.asarray(encoded.indices)]
    _refuse(raw, name, bad, 'is not a list of labels; write it as ["one", "two"]')
    return pa.array(labels, pa.large_list(TEXT)).take(encoded.indices)


def _indicators(raw: RawTable, names: tuple[str, ...]) -> pa.Array:
    """One 0/1 column per label as lists of the names whose column has 1."""
    chosen = np.zeros((raw.table.num_rows, len(names)), dtype=bool)
    for at, name in enumerate(names):
        encoded = pc.fill_null(raw.table[name], "").combine_chunks().dictionary_encode()
        values = [ZERO_ONE.get(value.strip().lower()) for value in encoded.dictionary.to_pylist()]
        indices = np.asarray(encoded.indices)
        _refuse(raw, name, np.array([value is None for value in values], dtype=bool)[indices], "is neither 0 nor 1")
        chosen[:, at] = np.array([bool(value) for value in values], dtype=bool)[indices]
    offsets = np.concatenate([[0], np.cumsum(chosen.sum(axis=1))])
    labels = pa.array(list(names), TEXT).take(pa.array(np.nonzero(chosen)[1]))
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), labels)
