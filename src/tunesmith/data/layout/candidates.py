"""What columns look like: for a message to who has not named them, and where there are no more than two of them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.layout.labels import BITS
from tunesmith.data.records import RawTable
from tunesmith.data.table import TEXT
from tunesmith.text import counted, name_list

MAX_LENGTH = 80
MAX_VALUES = 200
SHOWN = 8
SAMPLE = 200
MIN_TEXTS = 5
SEVERAL_WORDS = re.compile(r"\S+(\s+\S+){3,}|\S*[\u2e80-\ud7ff]{8,}")
DATE = re.compile(r"\s*\d{1,4}([-/.:])\d{1,2}(\1\d{1,4})?([T ].*)?")


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
        both = f"data.text={shlex.quote(long)} and data.label={shlex.quote(short)}"
        return f" (if {long!r}, with the longer values, holds the texts: {both})"
    if text is not None and len(columns) == 1:
        return f" ({columns[0]!r} is the only column beside {text!r}: data.label={shlex.quote(columns[0])})"
    values = {name: _few_values(raw.table[name]) for name in columns}
    found = {name: count for name, count in values.items() if count}
    if not found:
        return ""
    shown = ", ".join(f"{name!r} with {counted(count, 'value')}" for name, count in list(found.items())[:SHOWN])
    return f" (columns that look like labels: {shown}; as in data.label={next(iter(found))})"


def text_hint(raw: RawTable, columns: Sequence[str]) -> str:
    """The flags for those columns that look like texts, in brackets."""
    texts = [name for name in columns if name not in raw.unread and looks_like_text(raw, name)]
    if not texts:
        return ""
    second = f", and for pairs data.text_pair={shlex.quote(texts[1])}" if len(texts) > 1 else ""
    return f" (with several words in most rows: {name_list(texts)}; as in data.text={shlex.quote(texts[0])}{second})"


def looks_like_text(raw: RawTable, column: str) -> bool:
    """Whether most cells at the beginning have several words, nearly all of letters, and few stand there again."""
    cells = [str(cell).strip() for cell in raw.table[column].slice(0, SAMPLE).to_pylist() if cell and cell.strip()]
    if len(cells) < MIN_TEXTS or any(cell[0] in "[{" for cell in cells[:MIN_TEXTS]):
        return False
    characters = "".join("".join(cells).split())
    lettered = sum(map(str.isalpha, characters)) >= 0.7 * len(characters)
    return (
        lettered
        and 10 * len(set(cells)) >= 7 * len(cells)
        and 2 * len(list(filter(SEVERAL_WORDS.match, cells))) > len(cells)
    )


def looks_like_labels(raw: RawTable, column: str) -> bool:
    """Whether a column has few short values, each but a few in several rows, and these are no dates."""
    if column in raw.unread or not _few_values(raw.table[column]):
        return False
    return not all(DATE.fullmatch(str(cell)) for cell in raw.table[column].slice(0, SAMPLE).drop_null().to_pylist())


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
