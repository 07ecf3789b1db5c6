"""What examples are read from, and what a run records of it: name, number of rows, hash of the content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.records import Records
from tunesmith.data.table import TEXT
from tunesmith.disk import path_sha256


class ArrowTable(Protocol):
    """A table of any library that speaks Arrow: pandas, polars, pyarrow, duckdb."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


class Dataset(Protocol):
    """A `datasets.Dataset`, or a `DatasetDict` of several."""

    @property
    def column_names(self) -> Any: ...


Examples: TypeAlias = str | Path | ArrowTable | Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]] | Dataset
"""A path or ``hub:`` name, or a table in memory: of Arrow, as a list of dicts, or as a dict of columns."""


def source_facts(records: Records) -> dict[str, Any]:
    """``path``, ``sha256`` and ``rows`` of what records were read from; a table in memory has its name as path."""
    content = records.sha256 or path_sha256(records.path)
    return {"path": records.path, "sha256": content, "rows": len(records)}


def content_sha256(table: pa.Table) -> str:
    """SHA-256 over names and values of string columns, the same however the rows lie in batches."""
    digest = sha256()
    for name in table.column_names:
        lengths, values = sha256(), sha256()
        for chunk in table[name].chunks:
            text = pc.cast(chunk, TEXT)
            lengths.update(np.asarray(pc.fill_null(pc.binary_length(text), -1)).astype("<i8").tobytes())
            values.update(b"".join(pc.cast(pc.fill_null(text, ""), pa.large_binary()).to_pylist()))
        digest.update(sha256(name.encode()).digest() + lengths.digest() + values.digest())
    return digest.hexdigest()
