"""What was read: rows, columns and what each is, the task and why, labels with their counts, lengths of the texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.keys import label_codes
from tunesmith.data.layout import Layout
from tunesmith.data.parts import set_name
from tunesmith.data.records import Origin, Records
from tunesmith.text import counted, name_list

WHY = {
    "plain": "one label a row",
    "json": "a list of labels a row",
    "indicator": "a list of zeros and ones a row",
    "columns": "a 0/1 column a label",
    "spans": "spans of the text",
    "tags": "tokens with tags",
    "answers": "answers in a context",
}
"""What shows the task, by the form of the labels."""


class Length(NamedTuple):
    """Of the texts of a column, in characters or in words: the median, what 95 % do not pass, the longest."""

    median: int
    percentile_95: int
    longest: int


@dataclass(frozen=True)
class Part:
    """The rows of one split.

    Attributes:
        path: what they were read from.
        format: of the file.
        rows: their number.
        numbered: what the numbers of rows in findings and errors count, a ``line`` of the file or a ``row``.
        lines_differ: some rows have several lines, so that a spreadsheet numbers it otherwise.
    """

    path: str
    format: str
    rows: int
    numbered: str
    lines_differ: bool


@dataclass(frozen=True)
class Summary:
    """What was read.

    Attributes:
        splits: name → its rows.
        columns: ``text``, ``text_pair``, ``label``, ``group``, ``id`` → the columns that are read as such.
        ignored: the other columns of the first file.
        task: what the rows are for.
        why: what says so.
        labels: label (or type of entity) → its rows in each split; empty for numbers and answers.
        values: of numbers the lowest, the median and the highest; of questions how many have an answer; else empty.
        lengths: ``text`` and perhaps ``text_pair`` → their `Length` in ``characters`` and in ``words``, of all splits.
    """

    splits: dict[str, Part]
    columns: dict[str, tuple[str, ...]]
    ignored: tuple[str, ...]
    task: str
    why: str
    labels: dict[str, dict[str, int]]
    values: dict[str, float]
    lengths: dict[str, dict[str, Length]]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "splits": {name: vars(part) for name, part in self.splits.items()},
            "columns": {role: list(names) for role, names in self.columns.items()},
            "ignored": list(self.ignored),
            "task": self.task,
            "why": self.why,
            "labels": self.labels,
            "values": self.values,
            "lengths": {
                name: {unit: length._asdict() for unit, length in units.items()} for name, units in self.lengths.items()
            },
        }


def summarise(splits: Mapping[str, Records], layout: Layout, asked: bool) -> Summary:
    """What was read.

    Args:
        splits: as they were read, ``"train"`` first.
        asked: the task was said, not read off the labels.
    """
    columns, ignored = _columns(splits, layout)
    labels: dict[str, dict[str, int]] = {}
    if layout.shape.counted:
        for split, records in splits.items():
            for name, count in label_codes(records).counts.items():
                labels.setdefault(name, {})[split] = count
    return Summary(
        {name: _part(records) for name, records in splits.items()},
        columns,
        ignored,
        layout.shape.task,
        "as asked for" if asked else _why(layout),
        labels,
        _values(splits, layout),
        {name: _lengths(splits, name) for name in ("text", "text_pair") if next(iter(splits.values())).has(name)},
    )


def summary_line(splits: Mapping[str, Records], layout: Layout) -> str:
    """The same in one line, for who trains on it."""
    columns, ignored = _columns(splits, layout)
    total, first = sum(map(len, splits.values())), next(iter(splits.values()))
    parts = ", ".join(f"{name} {len(records):,}" for name, records in splits.items())
    roles = [f"{role.replace('_', ' ')} {name_list(names)}" for role, names in columns.items()]
    roles += [f"ignored {name_list(ignored)}"] if ignored else []
    labels = (
        {name for records in splits.values() for name in label_codes(records).names} if layout.shape.counted else ()
    )
    kinds = f", {counted(len(labels), 'label')}" if labels else ""
    what = f"{set_name(first.path) or first.path}: {counted(total, 'row')} ({parts}); {', '.join(roles)}"
    return f"read {what}; {layout.shape.task}{kinds}"


def _part(records: Records) -> Part:
    origin = records.origin or Origin("", "row", ())
    return Part(records.path, origin.format, len(records), origin.unit, origin.several_lines)


def _columns(splits: Mapping[str, Records], layout: Layout) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Role → columns, and the columns of the first split that have none."""
    roles = {"text": (layout.text,), "text_pair": (layout.text_pair,), "label": layout.labels}
    roles |= {"group": (layout.group,), "id": (layout.id,)}
    columns = {role: found for role, names in roles.items() if (found := tuple(name for name in names if name))}
    origin, used = next(iter(splits.values())).origin, {name for names in columns.values() for name in names}
    return columns, tuple(name for name in origin.columns if name not in used) if origin else ()


def _why(layout: Layout) -> str:
    if layout.shape.labels == "number":
        return "numbers as labels"
    if layout.form == "separated":
        return f"labels separated by {layout.separator!r}" if layout.separator else "several labels a row"
    return WHY.get(layout.form, layout.form)


def _values(splits: Mapping[str, Records], layout: Layout) -> dict[str, float]:
    columns = [records.table["label"] for records in splits.values()]
    if layout.shape.labels == "number":
        values = np.array([float(value) for column in columns for value in column.drop_null().to_pylist()])
        low, middle, high = np.quantile(values, [0, 0.5, 1]).tolist() if len(values) else (0.0, 0.0, 0.0)
        return {"lowest": low, "median": middle, "highest": high}
    if layout.shape.labels == "answers":
        answered = [pc.sum(pc.greater(pc.list_value_length(column), 0)).as_py() or 0 for column in columns]
        return {"questions": sum(map(len, columns)), "answered": sum(answered)}
    return {}


def _lengths(splits: Mapping[str, Records], name: str) -> dict[str, Length]:
    chunks = [chunk for records in splits.values() for chunk in records.table[name].chunks if len(chunk)]
    return {
        "characters": _length([pc.utf8_length(chunk) for chunk in chunks]),
        "words": _length([pc.count_substring_regex(chunk, r"\S+") for chunk in chunks]),
    }


def _length(counts: list[pa.Array]) -> Length:
    numbers = np.concatenate([np.zeros(0, np.int64), *(np.asarray(pc.fill_null(one, 0)) for one in counts)])
    return (
        Length(*np.quantile(numbers, [0.5, 0.95, 1], method="higher").astype(int).tolist())
        if len(numbers)
        else Length(0, 0, 0)
    )
