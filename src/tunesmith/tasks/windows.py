"""Texts longer than the model as overlapping windows, with the characters that every token stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.records import Records, TextRecord
from tunesmith.errors import ModelError, UsageError
from tunesmith.tasks.encoding import Features, chunks

OVERLAP = 3
"""Neighbouring windows share one in so many of their tokens."""
NOTHING = -1
"""Where a token stands for no character that counts."""


@dataclass(frozen=True)
class Window:
    """A part of an encoded text.

    Attributes:
        offsets: (length, 2) first character of each token and the one after its last.
        part: (length,) 0 for tokens of the text, 1 for those of the second text, `NOTHING` for special tokens.
    """

    input_ids: list[int]
    token_type_ids: list[int] | None
    offsets: np.ndarray
    part: np.ndarray


Columns = dict[str, np.ndarray]


def encode_windows(
    records: Records,
    tokenizer: Any,
    max_length: int,
    file: Path,
    describe: Callable[[TextRecord], Callable[[Window], Columns]] | None,
    gold: Any,
    progress: Callable[[int], None] | None = None,
) -> Features:
    """Tokenise every record into `file`, in windows of at most `max_length` tokens (special tokens included).

    Args:
        describe: record → window → what is kept of it besides its tokens: int arrays by name; ``labels`` are what is
            learned. None for nothing; windows then do not overlap.
        gold: what the records' answers are scored against; None without labels.
        progress: called with the number of records done since the last call.

    Raises:
        ModelError: the tokenizer does not know which characters its pieces stand for.
        UsageError: special tokens leave no room for the text in `max_length`.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            f"model {tokenizer.name_or_path}: its tokenizer does not say where in the text its pieces stand, which "
            "windows need; give a model with a fast one"
        )
    lengths: list[int] = []
    of: list[int] = []
    number = 0
    writer: pa.RecordBatchFileWriter | None = None
    with pa.OSFile(str(file), "wb") as sink:
        for part in chunks(np.array([len(text) for text in records.joined_texts], dtype=np.int64)):
            chunk = records[part]
            columns: dict[str, list[Any]] = {}
            for record, windows in zip(
                chunk, _tokenised(chunk, tokenizer, max_length, describe is not None), strict=True
            ):
                described = describe(record) if describe else _nothing
                for window in windows:
                    row = {"input_ids": window.input_ids, "token_type_ids": window.token_type_ids, **described(window)}
                    for name, values in row.items():
                        if values is not None:
                            columns.setdefault(name, []).append(values)
                    lengths.append(len(window.input_ids))
                    of.append(number)
                number += 1
            arrays = [pa.array(rows, type=pa.list_(pa.int32())) for rows in columns.values()]
            batch = pa.RecordBatch.from_arrays(arrays, names=list(columns))
            writer = writer or pa.ipc.new_file(sink, batch.schema)
            writer.write_batch(batch)
            if progress:
                progress(len(chunk))
        if writer is not None:
            writer.close()
    table = pa.ipc.open_file(pa.memory_map(str(file))).read_all() if writer else pa.table({"input_ids": []})
    sizes = np.array(lengths, dtype=np.int32)
    return Features(table, sizes, None, 0, 0, gold, records, np.array(of, dtype=np.int64))


def _nothing(window: Window) -> Columns:
    return {}


def _tokenised(chunk: Records, tokenizer: Any, max_length: int, overlap: bool) -> list[list[Window]]:
    texts: list[str] = chunk.texts
    pairs = chunk.table["text_pair"].to_pylist() if chunk.has("text_pair") else None
    first = 0 if pairs is None else max_length // 2  # where both do not fit, so much is for the first of two texts
    room = max_length - tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    if room - first < 1:
        raise UsageError(f"--max-length {max_length}: special tokens leave no room for the text; give a larger one")
    if pairs is not None:
        texts = _shortened(texts, pairs, tokenizer, first, room)
    encoded = tokenizer(
        texts,
        pairs,
        truncation=True if pairs is None else "only_second",
        max_length=max_length,
        stride=min(max_length // OVERLAP // (1 if pairs is None else 2), room - first - 1) * overlap,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        verbose=False,
    )
    windows: list[list[Window]] = [[] for _ in range(len(chunk))]
    kinds = encoded.get("token_type_ids")
    for at, (of, ids) in enumerate(zip(encoded["overflow_to_sample_mapping"], encoded["input_ids"], strict=True)):
        part = np.array([NOTHING if one is None else one for one in encoded.sequence_ids(at)], dtype=np.int64)
        offsets = np.array(encoded["offset_mapping"][at], dtype=np.int64).reshape(-1, 2)
        windows[of].append(Window(ids, None if kinds is None else kinds[at], offsets, part))
    return windows


def _shortened(texts: list[str], beside: list[str], tokenizer: Any, share: int, room: int) -> list[str]:
    """The first texts of pairs, each cut to the room that the second leaves, but never to fewer tokens than `share`."""

    def pieces(some: list[str]) -> list[list[tuple[int, int]]]:
        if not some:
            return []
        encoded = tokenizer(some, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return list(encoded["offset_mapping"])

    shortened = list(texts)
    rows = [row for row, bounds in enumerate(pieces(texts)) if len(bounds) > share]
    limits = [max(share, room - len(bounds)) for bounds in pieces([beside[row] for row in rows])]
    for row, limit in zip(rows, limits, strict=True):
        while len(bounds := pieces([shortened[row]])[0]) > limit:  # what is left may come in other pieces than before
            shortened[row] = shortened[row][: min(bounds[limit - 1][1], len(shortened[row]) - 1)]
    return shortened
