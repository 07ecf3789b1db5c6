"""Parquet, Arrow, and data sets saved to disk: typed columns become text, class numbers their names.

Arrow trusts what it decodes, and damage there ends the process. So every part is validated in full before it is touched
otherwise, and what it expands to is counted before it is decoded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith.config.schema import DataSettings
from tunesmith.data.expansion import Budget
from tunesmith.data.readers.headers import MALFORMED, spend_messages, spend_pages
from tunesmith.data.readers.typed import CELL_BYTES, TooMany, as_text, repeated_bytes, text_sizes
from tunesmith.data.records import RawTable
from tunesmith.data.table import BATCH_CHARACTERS, BATCH_ROWS, FIELD_LIMIT, TEXT, TableBuilder
from tunesmith.disk import read_json
from tunesmith.errors import DataError
from tunesmith.text import name_list

Features = dict[str, Any]
MOST_VALUES = 2**25
"""Of a column, nested ones included, that are laid out together."""
BUFFER_BYTES = 2**20
"""Of each column of a Parquet file, which is else read by row groups, however large they are."""
FILE_MARK = b"ARROW1"
FILE_HEAD = 8
"""Bytes before the stream that an Arrow file holds."""


def read_parquet(path: str, settings: DataSettings) -> RawTable:
    """A Parquet file. See `tunesmith.data.read`."""
    with _damage_explained(path, "Parquet"):
        largest = spend_pages(path, Budget(path, settings))  # first, since Arrow ends the process over some footers
    with _damage_explained(path, "Parquet"), pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False) as file:
        groups = map(file.metadata.row_group, range(file.num_row_groups))
        usual = sum(group.total_byte_size for group in groups) // max(1, file.metadata.num_rows)
        together = BATCH_CHARACTERS // max(1, largest, usual)
        batches = _joined(file.iter_batches(batch_size=max(1, min(BATCH_ROWS, together))))
        return from_batches(path, "parquet", file.schema_arrow, batches, budget=Budget(path, settings))


def read_arrow(path: str, settings: DataSettings) -> RawTable:
    """An Arrow file or stream. See `tunesmith.data.read`."""
    with _damage_explained(path, "Arrow"), _arrow_batches(Path(path), Budget(path, settings)) as (schema, batches):
        return from_batches(path, "arrow", schema, batches, budget=Budget(path, settings))


def read_saved(path: str, settings: DataSettings) -> RawTable:
    """A folder made by ``Dataset.save_to_disk``. See `tunesmith.data.read`."""
    folder = Path(path)
    with _damage_explained(path, "saved data set"):
        state, info = (read_json(folder / name) for name in ("state.json", "dataset_info.json"))
        files = [folder / Path(entry["filename"]).name for entry in state["_data_files"]]
        if len(set(files)) < len(files):
            raise DataError(f"{path}: state.json names a file twice; save it again")
        if any(file.name != entry["filename"] for file, entry in zip(files, state["_data_files"], strict=True)):
            raise DataError(f"{path}: state.json names files outside the folder; refused")
        if any(file.is_symlink() or not file.is_file() for file in files):
            raise DataError(f"{path}: state.json names what is no file; expected files, without links")
        size = sum(file.stat().st_size for file in files)
        with ExitStack() as opened:
            decoded = Budget(path, settings, size)
            parts = [opened.enter_context(_arrow_batches(file, decoded)) for file in files]
            schema = pa.unify_schemas([schema for schema, _ in parts])
            if any(not schema.equals(one) for one, _ in parts):
                raise DataError(f"{path}: its files have different columns; save it again")
            batches = chain.from_iterable(batches for _, batches in parts)
            return from_batches(
                path, "datasets", schema, batches, info.get("features"), budget=Budget(path, settings, size)
            )


def from_batches(
    path: str,
    format: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    features: Features | None = None,
    notes: Iterable[str] = (),
    unread: Mapping[str, str] = MappingProxyType({}),
    budget: Budget | None = None,
) -> RawTable:
    """Typed batches as a table of text.

    Args:
        features: descriptions of the columns as the `datasets` library writes them (else from the schema's metadata);
            columns of class numbers become the names of the classes.
        unread: more columns, which have no text, and what is wrong with each.
        budget: of a file, what its rows may come to as text.

    Raises:
        ArrowInvalid: a batch is not valid.
        DataError: two columns of one name; more than the budget.
    """
    if len(set(schema.names)) < len(schema.names):
        raise DataError(f"{path}: two columns have the same name among {name_list(schema.names)}; rename one")
    features = features if isinstance(features, dict) else _features(schema)
    start = 1
    with TableBuilder(path) as builder:
        for name, why in unread.items():
            builder.leave_out(name, why)
        for whole in batches:
            whole.validate(full=True)
            if budget is not None:
                budget.spend(CELL_BYTES * whole.num_rows * max(1, whole.num_columns))
            for batch in list(_parts(whole, budget, start, builder)):  # all is counted before any is decoded
                columns = {name: pa.nulls(batch.num_rows, TEXT) for name in (*schema.names, *unread)}
                for name, column in zip(batch.schema.names, batch.columns, strict=True):
                    try:
                        columns[name] = as_text(path, name, column, features.get(name), start)
                    except DataError as error:
                        builder.leave_out(name, str(error))
                builder.extend(columns, range(start, start + batch.num_rows))
                start += batch.num_rows
        return builder.finish(format, notes)


def _parts(batch: pa.RecordBatch, budget: Budget | None, start: int, builder: TableBuilder) -> Iterator[pa.RecordBatch]:
    """The rows of a batch, as many at a time as memory holds as text, without columns that have too large a value."""
    rows = batch.num_rows
    if rows > BATCH_ROWS:
        for at in range(0, rows, BATCH_ROWS):
            yield from _parts(batch.slice(at, BATCH_ROWS), budget, start + at, builder)
        return
    if budget is None:
        yield batch
        return
    sizes, kept = np.zeros(rows, dtype=np.int64), list[str]()
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            found = text_sizes(column, MOST_VALUES)
        except TooMany:
            if rows > 1:
                yield from _parts(batch.slice(0, rows // 2), budget, start, builder)
                yield from _parts(batch.slice(rows // 2), budget, start + rows // 2, builder)
                return
            found = np.array([MOST_VALUES])
        if found.max(initial=0) > FIELD_LIMIT:
            builder.leave_out_large(name, start + int(found.argmax()), int(found.max()))
        else:
            sizes += found
            kept.append(name)
    ends, at = np.cumsum(sizes), 0
    budget.spend(int(sizes.sum()))
    while at < rows:
        full = int(np.searchsorted(ends, (ends[at - 1] if at else 0) + BATCH_CHARACTERS))
        yield batch.select(kept).slice(at, max(1, full - at))
        at += max(1, full - at)


def _joined(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Small batches together."""
    waiting, rows, size = list[pa.RecordBatch](), 0, 0
    for batch in batches:
        waiting.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= BATCH_ROWS or size > BATCH_CHARACTERS:
            yield pa.concat_batches(waiting)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.concat_batches(waiting)


@contextmanager
def _arrow_batches(path: Path, budget: Budget) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """The batches of an Arrow file or stream; of a file by the stream that is in it, not by where its end says they
    are.

    Nothing is mapped into memory: what was found valid stays so, whatever becomes of the file.
    """
    with pa.OSFile(str(path)) as source:
        whole = source.read(len(FILE_MARK)) == FILE_MARK
        wanted = pa.ipc.open_file(source).num_record_batches if whole else None
        source.seek(FILE_HEAD if whole else 0)
        spend_messages(path, source.tell(), budget)
        reader = pa.ipc.open_stream(source)
        yield reader.schema, _all(path, reader, wanted, budget)


def _all(path: Path, reader: Iterable[pa.RecordBatch], wanted: int | None, budget: Budget) -> Iterator[pa.RecordBatch]:
    found = 0
    for batch in reader:
        found += 1
        batch.validate()
        budget.spend(repeated_bytes(batch))  # before it is validated in full, which reads all that
        yield batch
    if wanted not in (None, found):
        raise DataError(f"{path}: not a complete Arrow file ({found} of {wanted} parts); write it again")


@contextmanager
def _damage_explained(path: str, kind: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, *MALFORMED) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not a readable {kind} ({reason}); write it again") from None


def _features(schema: pa.Schema) -> Features:
    try:
        found = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
