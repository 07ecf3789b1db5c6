"""Parquet, Arrow, and data sets saved to disk: typed columns become text, class numbers their names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tunesmith.config.schema import DataSettings
from tunesmith.data.records import RawTable
from tunesmith.data.table import BATCH_ROWS, TEXT, TableBuilder
from tunesmith.errors import DataError
from tunesmith.text import name_list

Features = dict[str, Any]


def read_parquet(path: str, settings: DataSettings) -> RawTable:
    """A Parquet file. See `tunesmith.data.read`."""
    with _damage_explained(path, "Parquet"), pq.ParquetFile(path) as file:
        return from_batches(path, "parquet", file.schema_arrow, file.iter_batches(batch_size=BATCH_ROWS))


def read_arrow(path: str, settings: DataSettings) -> RawTable:
    """An Arrow file or stream. See `tunesmith.data.read`."""
    with _damage_explained(path, "Arrow"):
        table = _arrow_table(Path(path))
        return from_batches(path, "arrow", table.schema, table.to_batches(max_chunksize=BATCH_ROWS))


def read_saved(path: str, settings: DataSettings) -> RawTable:
    """A folder made by ``Dataset.save_to_disk``. See `tunesmith.data.read`."""
    folder = Path(path)
    with _damage_explained(path, "saved data set"):
        state = json.loads((folder / "state.json").read_text("utf-8"))
        info = json.loads((folder / "dataset_info.json").read_text("utf-8"))
        files = [entry["filename"] for entry in state["_data_files"]]
        if any(Path(name).name != name for name in files):
            raise DataError(f"{path}: state.json names files outside the folder; refused")
        table = pa.concat_tables([_arrow_table(folder / name) for name in files])
        batches = table.to_batches(max_chunksize=BATCH_ROWS)
        return from_batches(path, "datasets", table.schema, batches, info.get("features"))


def from_batches(
    path: str,
    format: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    features: Features | None = None,
    notes: Iterable[str] = (),
    unread: Mapping[str, str] = MappingProxyType({}),
) -> RawTable:
    """Typed batches as a table of text.

    Args:
        features: descriptions of the columns as the `datasets` library writes them (else from the schema's metadata);
            columns of class numbers become the names of the classes.
        unread: more columns, which have no text, and what is wrong with each.
    """
    if len(set(schema.names)) < len(schema.names):
        raise DataError(f"{path}: two columns have the same name among {name_list(schema.names)}; rename one")
    features = features or _features(schema)
    start = 1
    with TableBuilder(path) as builder:
        for name, why in unread.items():
            builder.leave_out(name, why)
        for batch in batches:
            columns = {name: pa.nulls(batch.num_rows, TEXT) for name in (*schema.names, *unread)}
            for name, column in zip(schema.names, batch.columns, strict=True):
                try:
                    columns[name] = _text(path, name, column, features.get(name), start)
                except DataError as error:
                    builder.leave_out(name, str(error))
            builder.extend(columns, range(start, start + batch.num_rows))
            start += batch.num_rows
        return builder.finish(format, notes)


def _arrow_table(path: Path) -> pa.Table:
    source = pa.memory_map(str(path))
    try:
        return pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source).read_all()


@contextmanager
def _damage_explained(path: str, kind: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not a readable {kind} ({reason}); write it again") from None


def _features(schema: pa.Schema) -> Features:
    try:
        found = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(path: str, name: str, array: pa.Array, feature: Any, start: int) -> pa.Array:
    """One column as text; numbers as Python writes them, nested values as JSON."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if isinstance(feature, dict):
        array = _class_names(path, name, array, feature, start)
    kind = array.type
    if pa.types.is_floating(kind):
        # not Arrow's cast, which writes 1.0 as "1"
        numbers = array.to_numpy(zero_copy_only=False)
        missing = array.is_null().to_numpy(zero_copy_only=False)
        return pa.array([None if gone else str(number) for number, gone in zip(numbers, missing, strict=True)], TEXT)
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):
        dump = json.JSONEncoder(ensure_ascii=False, default=str).encode
        return pa.array((None if cell is None else dump(cell) for cell in array.to_pylist()), TEXT)
    try:
        text = pc.cast(array, TEXT)
        text.validate(full=True)
    except pa.ArrowException:
        raise DataError(
            f"{path}: rows {start} to {start + len(array) - 1}, column {name!r}: values of type {kind} are not text; "
            "store the column as strings"
        ) from None
    return text


def _class_names(path: str, name: str, array: pa.Array, feature: dict[str, Any], start: int) -> pa.Array:
    """Class numbers as names; -1 (no label) as null. Lists of class numbers as lists of names."""
    inner = feature.get("feature")
    if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" and pa.types.is_nested(array.type):
        names = inner["names"]
        named = dict(enumerate(names))  # -1 and other numbers without a name become null
        return pa.array([None if cell is None else [named.get(i) for i in cell] for cell in array.to_pylist()])
    if feature.get("_type") != "ClassLabel" or not pa.types.is_integer(array.type):
        return array
    names = pa.array(feature["names"], TEXT)
    numbers = pc.if_else(pc.less(array, 0), None, array)
    if (pc.max(numbers).as_py() or 0) >= len(names):
        at = start + int(np.argmax(numbers.fill_null(0).to_numpy(zero_copy_only=False)))
        raise DataError(f"{path}: row {at}, column {name!r}: no name for this class number (of {len(names)})")
    return names.take(numbers)
