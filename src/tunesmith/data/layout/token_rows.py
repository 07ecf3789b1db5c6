"""Tables with one token a row: the rows of a sentence become one, with lists of its tokens and tags."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.config.schema import DataSettings
from tunesmith.data.jsontext import as_text
from tunesmith.data.records import RawTable
from tunesmith.data.table import TEXT, is_empty
from tunesmith.text import counted

WORD_NAMES = ("word", "words", "token", "tokens")
TAG_NAMES = ("tag", "tags", "label", "labels", "ner", "ner_tag", "ner_tags", "iob", "bio", "entity")
SENTENCE_NAMES = (
    "sentence_id", "sentence_#", "sent_id", "sentence_no", "sentence_number", "sentence_idx", "sentence_index",
    "sentenceid", "sentence", "sent", "sentence_num", "sent_no",
)  # fmt: skip
TAG = r"^\s*(O|[BIESLUM][-_]\S+)\s*$"
_NUMBERED = r"^\s*((?i:sent(ence)?\.?)?\s*[:#-]?\s*\d+(\.0)?)?\s*$"
_ID = r"^\S*$"


def are_tags(column: pa.ChunkedArray) -> bool:
    """Whether the cells are tags of tokens such as ``O`` and ``B-LOC``, more than one kind of them."""
    filled = column.filter(pc.invert(is_empty(column)))
    if not len(filled) or not pc.all(pc.match_substring_regex(filled, TAG)).as_py():
        return False
    marked = pc.match_substring_regex(filled, r"^\s*[BIESLUM][-_]")
    return bool(pc.any(marked).as_py()) and bool(pc.any(pc.equal(pc.utf8_trim_whitespace(filled), "O")).as_py())


def sentence_table(raw: RawTable, settings: DataSettings) -> RawTable | None:
    """The sentences of a table with a token and its tag a row, or None for any other table.

    The rows of one number are a sentence; rows without one belong to the sentence before them. The columns keep their
    names. A sentence has the row of its first token; of other columns it has what stands there.
    """
    by_name = {re.sub(r"[\s-]+", "_", name.strip().lower()): name for name in reversed(raw.table.column_names)}
    word = settings.text or next((by_name[name] for name in WORD_NAMES if name in by_name), None)
    names = (settings.label,) if settings.label else [by_name[name] for name in TAG_NAMES if name in by_name]
    there = raw.table.column_names
    tag = next((name for name in names if name in there and name != word and are_tags(raw.table[name])), None)
    sentence = next((by_name[name] for name in SENTENCE_NAMES if name in by_name and by_name[name] != word), None)
    if word not in there or sentence is None or not _numbers(raw.table[sentence], sentence, tag is not None):
        return None
    if tag is None and (settings.text or not pc.all(pc.match_substring_regex(_filled(raw.table[word]), _ID)).as_py()):
        return None
    starts = _starts(raw.table[sentence])
    if tag is None and len(starts) == len(raw.rows):
        return None
    ends = [*starts[1:].tolist(), len(raw.rows)]
    table = raw.table.take(pa.array(starts))
    for name in filter(None, (word, tag)):
        cells = ["" if cell is None else cell.strip() for cell in raw.table[name].to_pylist()]
        lists = [as_text(cells[start:end]) for start, end in zip(starts.tolist(), ends, strict=True)]
        table = table.set_column(table.column_names.index(name), name, pa.array(lists, TEXT))
    note = f"one token a row in {word!r}: {counted(len(starts), 'sentence')} by {sentence!r}"
    return replace(raw, table=table, rows=raw.rows[starts], notes=(*raw.notes, note))


def _filled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.filter(pc.invert(is_empty(column)))


def _numbers(column: pa.ChunkedArray, name: str, tagged: bool) -> bool:
    """Whether the cells number sentences, and are no sentences themselves."""
    pattern = _ID if tagged and name.strip().lower() != "sentence" else _NUMBERED
    filled = pc.fill_null(column, "")
    return bool(pc.any(pc.not_equal(filled, "")).as_py()) and bool(
        pc.all(pc.or_(pc.match_substring_regex(filled, pattern), pc.match_substring_regex(filled, _NUMBERED))).as_py()
    )


def _starts(column: pa.ChunkedArray) -> np.ndarray:
    """Positions of the rows that begin a sentence: int64 (sentences,)."""
    codes = pc.fill_null(pc.utf8_trim_whitespace(column), "").combine_chunks().dictionary_encode()
    values, empty = np.asarray(codes.indices, dtype=np.int64), codes.dictionary.index("").as_py()
    blank = values == empty if empty >= 0 else np.zeros(len(values), dtype=bool)
    at = np.maximum.accumulate(np.where(blank, 0, np.arange(len(values))))
    values = values[at]
    return np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
