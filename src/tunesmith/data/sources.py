"""Where rows came from, as a run records it: name, number of rows, hash of the content."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.records import Records
from tunesmith.data.table import TEXT
from tunesmith.disk import path_sha256


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
