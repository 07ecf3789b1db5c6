"""Tables in memory: of `datasets`, with the Arrow stream protocol, lists of dicts, dicts of columns."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from io import IOBase
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.readers.columnar import from_batches
from tunesmith.data.records import RawTable
from tunesmith.data.table import BATCH_ROWS, TableBuilder
from tunesmith.errors import DataError
from tunesmith.text import name_list

INDEX_COLUMN = "__index_level_"  # pandas' row numbers, which are no data
WANTED = (
    "give a path, a table (pandas, polars, pyarrow, datasets), a list of dicts [{'text': …}], or a dict of columns "
    "{'text': […]}"
)


def source_name(source: object) -> str:
    """What errors and the record of a run call a source: its path, or ``"DataFrame in memory"``."""
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        return str(source)
    kind = {"list": "list of dicts", "dict": "dict of columns"}.get(type(source).__name__, type(source).__name__)
    return f"{kind} in memory"


def read_memory(source: Any) -> RawTable:
    """The rows of a table in memory, numbered from 1; every value becomes text as from a Parquet file.

    Columns with values that have no text are `RawTable.unread`.

    Raises:
        DataError: it is of a type that is not read, has no rows, or two columns of one name.
    """
    name, library = source_name(source), sys.modules.get("datasets")
    if library is not None and isinstance(source, library.Dataset):
        # by rows, since the table behind a data set that was shuffled or filtered is in its old order
        tables = source.with_format("arrow").iter(batch_size=BATCH_ROWS)
        batches = (batch for table in tables for batch in table.to_batches())
        return from_batches(name, "memory", source.data.table.schema, batches, source.features.to_dict())
    if hasattr(source, "__arrow_c_stream__"):
        source, unread = _without_unreadable(source, name)
        try:
            reader = pa.RecordBatchReader.from_stream(source)
            # by position: names may repeat, which `from_batches` refuses
            columns = [at for at, name in enumerate(reader.schema.names) if not name.startswith(INDEX_COLUMN)]
            batches = (batch.select(columns) for batch in reader)
            schema = pa.schema([reader.schema.field(at) for at in columns], reader.schema.metadata)
            return from_batches(name, "memory", schema, batches, unread=unread)
        except (pa.ArrowException, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{name}: cannot be read as a table with named columns ({reason}); {WANTED}") from None
    if isinstance(source, Mapping):
        return _from_columns(name, source)
    if isinstance(source, list | tuple) and all(isinstance(row, Mapping) for row in source):
        return _from_rows(name, source)
    found, advice = _kind(source), WANTED
    if isinstance(source, list | tuple):
        found += f" of {_kind(next(item for item in source if not isinstance(item, Mapping)))}"
        advice = "give a list of dicts, one a row: [{'text': …}]"
    elif isinstance(source, IOBase):
        advice = "give its path"
    elif isinstance(source, set | frozenset | np.ndarray | Iterator):
        advice = "give a list of dicts, one a row, or a dict of columns: {'text': list(…)}"
    raise DataError(f"examples cannot be read from {found}; {advice}")


def _without_unreadable(frame: Any, name: str) -> tuple[Any, dict[str, str]]:
    """A table of pandas without the columns that have no Arrow type, and what is wrong with each of them."""
    library, unread = sys.modules.get("pandas"), dict[str, str]()
    if library is None or not isinstance(frame, library.DataFrame) or not frame.columns.is_unique:
        return frame, unread
    good = []
    for at, column in enumerate(frame.columns):
        try:
            pa.Table.from_pandas(frame.iloc[:, [at]], preserve_index=False)
            good.append(at)
        except (pa.ArrowException, ValueError, TypeError, NotImplementedError) as error:
            reason = " ".join(str(error).split())[:200]
            unread[str(column)] = f"{name}: column {str(column)!r} is not text ({reason}); store it as strings"
    return (frame.iloc[:, good] if unread and good else frame), unread if good else {}


def _from_rows(name: str, rows: Sequence[Mapping[Any, Any]]) -> RawTable:
    with TableBuilder(name) as builder:
        for number, row in enumerate(rows, 1):
            cells: dict[str, str | None] = {}
            if len(set(map(str, row))) < len(row):
                raise DataError(
                    f"{name}: row {number}: two columns have the same name among {name_list(map(str, row))}"
                )
            for key, value in row.items():
                try:
                    cells[str(key)] = cell_text(value)
                except (TypeError, UnicodeDecodeError):
                    what = f"column {key!r}: a value of type {type(value).__name__} is not text"
                    builder.leave_out(str(key), f"{name}: row {number}: {what}")
                    cells[str(key)] = None
            builder.append(number, cells, sum(len(cell or "") for cell in cells.values()))
        return builder.finish("memory")


def _from_columns(name: str, columns: Mapping[Any, Any]) -> RawTable:
    values = {}
    for key, column in columns.items():
        listed = getattr(column, "to_pylist", None) or getattr(column, "tolist", None)
        if listed is not None:
            column = listed()
        if not isinstance(column, list | tuple | range):
            advice = "a single row goes into a list: [{…}]" if isinstance(column, str) else "list its values"
            found = f"column {str(key)!r} is {_kind(column)}, expected a list of values"
            raise DataError(f"{name}: {found}; {advice}")
        values[str(key)] = list(column)
    if len(values) < len(columns):
        raise DataError(f"{name}: two columns have the same name among {name_list(map(str, columns))}; rename one")
    sizes = {key: len(column) for key, column in values.items()}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{key!r} has {size:,}" for key, size in sizes.items())
        raise DataError(f"{name}: columns of different lengths: {shown}; give each a value per row")
    return _from_rows(name, [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)])


def cell_text(value: Any) -> str | None:
    """A Python value as the text that a Parquet file of it has; None where it is missing.

    Raises:
        TypeError: it has no text.
        UnicodeDecodeError: nor have bytes that are not UTF-8.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or type(value).__name__ in ("NAType", "NaTType") or (type(value) is float and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float | Decimal | date | time | timedelta):
        return str(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list | tuple | Mapping):
        return json.dumps(value, ensure_ascii=False, default=_inside)
    raise TypeError(type(value).__name__)


def _inside(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)


def _kind(source: object) -> str:
    kind = type(source)
    package = kind.__module__.partition(".")[0]
    return kind.__name__ if package in ("builtins", "_io") else f"{package}.{kind.__name__}"
