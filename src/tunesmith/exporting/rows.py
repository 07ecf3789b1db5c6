"""The labelled rows that an artefact is measured on: the run's own validation rows, as it wrote them down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.data.layout.answers import ANSWER_LISTS
from tunesmith.data.layout.spans import SPAN_LISTS
from tunesmith.data.records import Records
from tunesmith.data.shapes import Labels
from tunesmith.data.splits import fingerprint
from tunesmith.disk import read_json_lines
from tunesmith.errors import DataError
from tunesmith.run.record import RunRecord

FILE = "predictions/valid.jsonl"
TYPES: dict[Labels, pa.DataType] = {
    "several": pa.list_(pa.string()),
    "spans": SPAN_LISTS,
    "answers": ANSWER_LISTS,
}
"""Of the label, where it is no text."""


def validation_rows(folder: Path, record: RunRecord) -> Records:
    """The validation rows of a run with their labels.

    Args:
        folder: of the run.

    Raises:
        DataError: they are gone, or are not those of the run.
    """
    file = folder / FILE
    remedy = "give labelled examples with `data`"
    try:
        found = _records(read_json_lines(file), record.data.layout.shape.labels, str(file))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{file}: the validation rows of the run cannot be read ({said}); {remedy}") from None
    split = next((one for one in record.data.splits if one.name == "valid"), None)
    if split is None or (split.rows, split.sha256) != (len(found), fingerprint(found)):
        raise DataError(f"{file}: holds other rows than the run was validated on; restore the file, or {remedy}")
    return found


def _records(rows: list[dict[str, Any]], labels: Labels, path: str) -> Records:
    gold = [row["gold"] for row in rows]
    if labels == "answers":  # of which only the texts are scored
        gold = [[{"start": 0, "text": text} for text in answers] for answers in gold]
    columns = {
        "id": pa.array([row["id"] for row in rows], pa.string()),
        "text": pa.array([row["text"] for row in rows], pa.string()),
        "label": pa.array(gold, TYPES.get(labels, pa.string())),
        "row": pa.array(range(1, len(rows) + 1), pa.int64()),
    }
    if any("text_pair" in row for row in rows):
        columns["text_pair"] = pa.array([row["text_pair"] for row in rows], pa.string())
    return Records(pa.table(columns), path)
