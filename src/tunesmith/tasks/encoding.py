"""Tokenised texts: made once, in batches by the tokenizer's own threads, kept in a memory-mapped Arrow file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch.utils.data import Dataset

from tunesmith.data.records import Records

CHUNK = 2_000
"""Texts tokenised at once: enough for every thread, little enough to bound memory."""
CHUNK_CHARACTERS = 2_000_000
MAX_CHARACTERS_PER_TOKEN = 40
"""Characters beyond max_length times this are cut before tokenising, whose cost does not stop at the truncation."""
LEARNED = ("input_ids", "token_type_ids", "labels")
"""Columns that go into batches; others say what the tokens stand for."""
AUTO_QUANTILE = 0.99
AUTO_SAMPLE = 20_000


@dataclass(frozen=True)
class Length:
    """How much of a text the model reads.

    Attributes:
        max_tokens: of one input, special tokens included.
        long: what becomes of longer texts: ``keep-start``, ``keep-ends`` (a quarter from the start and the rest from
            the end, as Sun et al. 2019 found best), or ``windows``.
    """

    max_tokens: int
    long: str = "keep-start"


@dataclass(frozen=True)
class Features(Dataset[dict[str, Any]]):
    """Encoded records in their order.

    Attributes:
        table: memory-mapped columns ``input_ids`` (list<int32>) and, where the model reads them, ``token_type_ids``.
        lengths: (n,) int32, tokens of each text after truncation.
        targets: (n,) or (n, labels), what is learned of each; None without labels, and where ``labels`` are a column.
        truncated: number of texts that lost tokens.
        lost_tokens: number of tokens lost.
        gold: what the records are scored against, as the task makes it.
        source: the records, where one may have several windows.
        of: (n,) int64, the record of each window; None where every record is one.
    """

    table: pa.Table
    lengths: np.ndarray
    targets: np.ndarray | None
    truncated: int
    lost_tokens: int
    gold: Any = None
    source: Records | None = None
    of: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def token_ids(self) -> np.ndarray:
        """Every token id that occurs, once."""
        ids = [pc.list_flatten(chunk).unique().to_numpy() for chunk in self.table["input_ids"].chunks]
        return np.unique(np.concatenate(ids)) if ids else np.empty(0, dtype=np.int32)

    def fit_text(self) -> str:
        """How the texts fit into the model's length, for the user."""
        if self.source is not None:
            return f"{len(self.source)} training texts make {len(self)} windows"
        total = int(self.lengths.sum()) + self.lost_tokens
        return f"{self.truncated} of {len(self)} training texts are cut and lose {self.lost_tokens} of {total} tokens"

    def flat(self, column: str) -> np.ndarray:
        """The values of a column of all rows, one after the other."""
        parts = [pc.list_flatten(chunk).to_numpy() for chunk in self.table[column].chunks]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item: dict[str, Any] = {
            name: self.table[name][int(index)].values.to_numpy() for name in self.table.column_names if name in LEARNED
        }
        if self.targets is not None:
            item["labels"] = self.targets[index]
        return item


def encode(
    records: Records,
    tokenizer: Any,
    length: Length,
    targets: np.ndarray | None,
    file: Path,
    progress: Callable[[int], None] | None = None,
) -> Features:
    """Tokenise every record into `file`, one row each; longer ones are cut.

    Args:
        length: its `long` is ``keep-start`` or ``keep-ends``.
        progress: called with the number of records done since the last call.
    """
    has_pair = records.has("text_pair")
    lengths, truncated, lost = [], 0, 0
    writer: pa.RecordBatchFileWriter | None = None
    with pa.OSFile(str(file), "wb") as sink:
        for start in range(0, max(len(records), 1), CHUNK):
            chunk = records[start : start + CHUNK]
            batch, cut, gone = _encode_chunk(chunk, has_pair, tokenizer, length)
            writer = writer or pa.ipc.new_file(sink, batch.schema)
            writer.write_batch(batch)
            lengths.append(pc.list_value_length(batch["input_ids"]).to_numpy())
            truncated, lost = truncated + cut, lost + gone
            if progress:
                progress(len(chunk))
        assert writer is not None
        writer.close()
    table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    return Features(table, np.concatenate(lengths).astype(np.int32), targets, truncated, lost, targets)


def chunks(characters: np.ndarray) -> Iterator[slice]:
    """Rows that are tokenised at once: at most `CHUNK`, and no more characters than `CHUNK_CHARACTERS` if it can be.

    Args:
        characters: (rows,) length of each.
    """
    start = 0
    while start < len(characters):
        within = int(np.searchsorted(np.cumsum(characters[start : start + CHUNK]), CHUNK_CHARACTERS))
        end = min(len(characters), start + max(1, within))
        yield slice(start, end)
        start = end


def choose_max_length(records: Records, tokenizer: Any, limit: int, wanted: int | str) -> int:
    """Tokens per text: what was asked for, or the 99th percentile of the data, within the model's limit."""
    if wanted != "auto":
        return min(int(wanted), limit)
    step = max(1, len(records) // AUTO_SAMPLE)
    sample = records[::step]
    lengths = [len(ids) for ids in _tokenise(sample, records.has("text_pair"), tokenizer, limit)["input_ids"]]
    return int(min(limit, max(8, np.quantile(lengths, AUTO_QUANTILE, method="higher")))) if lengths else limit


def _tokenise(chunk: Records, has_pair: bool, tokenizer: Any, max_length: int, truncation: bool = False) -> Any:
    keep = max_length * MAX_CHARACTERS_PER_TOKEN
    texts = [text if len(text) <= 2 * keep else text[:keep] + text[-keep:] for text in chunk.texts]
    pairs = [(pair or "")[:keep] for pair in chunk.table["text_pair"].to_pylist()] if has_pair else None
    if not texts:
        return {"input_ids": [], "token_type_ids": []}
    return tokenizer(texts, pairs, truncation=truncation, max_length=max_length if truncation else None, verbose=False)


def _encode_chunk(chunk: Records, has_pair: bool, tokenizer: Any, length: Length) -> tuple[pa.RecordBatch, int, int]:
    """One batch of encoded rows, the number of rows that were cut, and the tokens they lost."""
    max_length = length.max_tokens
    encoded = _tokenise(chunk, has_pair, tokenizer, max_length)
    columns = {name: list(encoded[name]) for name in ("input_ids", "token_type_ids") if name in encoded}
    full = np.array([len(ids) for ids in columns["input_ids"]], dtype=np.int64)
    too_long = np.flatnonzero(full > max_length)
    if len(too_long) and length.long == "keep-ends":
        start = max_length // 4
        for rows in columns.values():  # the special tokens stand at both ends, so they stay
            for i in too_long:
                rows[i] = rows[i][:start] + rows[i][start - max_length :]
    elif len(too_long):
        short = _tokenise(chunk.select(too_long), has_pair, tokenizer, max_length, truncation=True)
        for name, rows in columns.items():
            for i, ids in zip(too_long, short[name], strict=True):
                rows[i] = ids
    arrays = [pa.array(rows, type=pa.list_(pa.int32())) for rows in columns.values()]
    batch = pa.RecordBatch.from_arrays(arrays, names=list(columns))
    return batch, len(too_long), int((full[too_long] - max_length).sum())
