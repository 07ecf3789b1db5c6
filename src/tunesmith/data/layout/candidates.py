"""Which columns may hold the labels, for a message to who has not named one; nothing is decided here."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.layout.labels import BITS
from tunesmith.data.records import RawTable
from tunesmith.data.table import TEXT
from tunesmith.text import counted

MAX_LENGTH = 80
MAX_VALUES = 200
SHOWN = 8


def label_hint(raw: RawTable, columns: Sequence[str], text: str | None) -> str:
    """The flags to give, in brackets; empty where no column looks like one of labels.

    Args:
        columns: that may hold labels; where no text is known, one of them may hold the texts.
        text: column of the texts, if it is known.
    """
    columns = [name for name in columns if name not in raw.unread]
    bits = [name for name in columns if _says_yes_or_no(raw.table[name])]
    if len(bits) > 1:
        return f" (a column for each label: data.label={','.join(bits[:20])})"
    if text is None and len(columns) == 2:
        short, long = sorted(columns, key=lambda name: _mean_length(raw.table[name]))
        return f" (if {long!r}, with the longer values, holds the texts: data.text={long} and data.label={short})"
    if text is not None and len(columns) == 1:
        return f" ({columns[0]!r} is the only column beside {text!r}: data.label={columns[0]})"
    values = {name: _few_values(raw.table[name]) for name in columns}
    found = {name: count for name, count in values.items() if count}
    if not found:
        return ""
    shown = ", ".join(f"{name!r} with {counted(count, 'value')}" for name, count in list(found.items())[:SHOWN])
    return f" (columns that look like labels: {shown}; as in data.label={next(iter(found))})"


def _says_yes_or_no(column: pa.ChunkedArray) -> bool:
    words = pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(column, "")))
    yes = pa.array([word for word, bit in BITS.items() if bit], TEXT)
    return bool(pc.all(pc.is_in(words, pa.array(list(BITS), TEXT))).as_py() and pc.any(pc.is_in(words, yes)).as_py())


def _mean_length(column: pa.ChunkedArray) -> float:
    return float(pc.mean(pc.utf8_length(column)).as_py() or 0)


def _few_values(column: pa.ChunkedArray) -> int:
    """How many different values a column has, if these are short, few and repeated; else 0."""
    count = int(pc.count_distinct(column, mode="only_valid").as_py())
    short = (pc.max(pc.utf8_length(column)).as_py() or 0) <= MAX_LENGTH
    return count if short and 1 < count <= MAX_VALUES and 2 * count <= len(column) else 0
