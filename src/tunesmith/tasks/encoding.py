"""Tokenised texts: made once, in batches by the tokenizer's own threads, kept in a memory-mapped Arrow file.

A text is one row and is cut where it is longer than the model reads, or it is read through several windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.config.schema import LongName
from tunesmith.data.records import Records, TextRecord
from tunesmith.errors import ModelError, UsageError
from tunesmith.tasks.encoded import LEARNED, READ, Encoded, Lists

CHUNK = 2_000
"""Texts tokenised at once: enough for every thread, little enough to bound memory."""
CHUNK_CHARACTERS = 2_000_000
MAX_CHARACTERS_PER_TOKEN = 40
"""Characters beyond max_length times this are cut before tokenising, whose cost does not stop at the truncation."""
AUTO_QUANTILE = 0.99
AUTO_SAMPLE = 20_000
AUTO_LEAST = 128
"""Tokens that are read at least where the model can: texts to come may be longer, and padding is left out."""
OVERLAP = 3
"""Neighbouring windows share one in so many of their tokens."""
NOTHING = -1
"""Where a token stands for no character that counts."""
IGNORED = -100
"""Targets with this value are not learned, as in transformers' own heads."""


@dataclass(frozen=True)
class Truncation:
    """How much of a text the model reads.

    Attributes:
        max_tokens: of one input, special tokens included.
        long: what becomes of longer texts: ``keep-start``, ``keep-ends`` (a quarter from the start and the rest from
            the end, as Sun et al. 2019 found best), or ``windows``.
    """

    max_tokens: int
    long: LongName = "keep-start"


@dataclass(frozen=True)
class EncodedTexts(Encoded):
    """Encoded records in their order.

    Attributes:
        table: memory-mapped columns ``input_ids`` (list<int32>) and, where the model reads them, ``token_type_ids``.
        lengths: (n,) int32, tokens of each row after truncation.
        targets: (n,) or (n, labels), what is learned of each; None without labels, and where ``labels`` are a column.
        truncated: number of texts that lost tokens.
        lost_tokens: number of tokens lost; of texts that are too long to be tokenised whole it is estimated.
        estimated: whether there are such texts.
        gold: what the records are scored against, as the task makes it.
        records: what was encoded, where one may have several windows.
        record_of: (n,) int64, the record of each window; None where every record is one row.
    """

    table: pa.Table
    lengths: np.ndarray
    targets: np.ndarray | None
    truncated: int = 0
    lost_tokens: int = 0
    estimated: bool = False
    gold: Any = None
    records: Records | None = None
    record_of: np.ndarray | None = None

    def token_ids(self) -> np.ndarray:
        """Every token id that occurs, once."""
        return np.sort(pc.list_flatten(self.table["input_ids"]).unique().to_numpy())

    def fit_text(self) -> str:
        """How the texts fit into the model's length, for the user."""
        if self.records is not None:
            return f"{len(self.records)} training texts make {len(self)} windows"
        about, total = "about " if self.estimated else "", int(self.lengths.sum()) + self.lost_tokens
        lost = f"{about}{self.lost_tokens} of {total} tokens"
        return f"{self.truncated} of {len(self)} training texts are cut and lose {lost}"

    def flat(self, column: str) -> np.ndarray:
        """The values of a column of all rows, one after the other."""
        return np.asarray(pc.list_flatten(self.table[column]).to_numpy())

    def __getitem__(self, index: int) -> dict[str, Any]:
        item: dict[str, Any] = {name: column[index] for name, column in self._columns.items()}
        if self.targets is not None:
            item["labels"] = self.targets[index]
        return item

    def joined(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        return {name: column.joined(rows) for name, column in self._columns.items() if name in READ}

    @cached_property
    def _columns(self) -> dict[str, Lists]:
        return {name: Lists(self.table[name]) for name in self.table.column_names if name in LEARNED}


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


Describe = Callable[[TextRecord, list[Window]], Iterable[dict[str, np.ndarray]]]
"""What is kept of each window of a record besides its tokens: int arrays by name; ``labels`` are what is learned."""


@dataclass(frozen=True)
class Encoder:
    """How records are tokenised.

    Attributes:
        truncation: how much of a text is read.
        file: where what comes of it is kept; None for memory.
        progress: called with the number of records done since the last call.
    """

    tokenizer: Any
    truncation: Truncation
    file: Path | None
    progress: Callable[[int], None] | None = None

    def texts(self, records: Records, targets: np.ndarray | None) -> EncodedTexts:
        """One row each; longer ones are cut, as `truncation` says.

        Raises:
            UsageError: it says that they are to be read in windows.
        """
        max_tokens = self.truncation.max_tokens
        if self.truncation.long == "windows":
            raise UsageError("training.long=windows: this task reads no text in windows; use keep-start or keep-ends")
        lost: list[int] = []
        estimated = False

        def cut(chunk: Records) -> dict[str, list[Any]]:
            nonlocal estimated
            encoded = _tokenise(chunk, self.tokenizer, max_tokens)
            columns = {name: list(encoded[name]) for name in ("input_ids", "token_type_ids") if name in encoded}
            lengths = np.array([len(ids) for ids in columns["input_ids"]])
            too_long = np.flatnonzero(lengths > max_tokens).tolist()
            whole, read = _characters(chunk), _characters(chunk, max_tokens)
            estimated = estimated or bool((read < whole).any())
            # what was not tokenised is taken to have as many tokens a character as what was
            less = np.rint(lengths * whole / np.maximum(read, 1)).astype(np.int64) - np.minimum(lengths, max_tokens)
            lost.extend(less[less > 0].tolist())
            if too_long and self.truncation.long == "keep-ends":
                start = max_tokens // 4
                for rows in columns.values():  # the special tokens stand at both ends, so they stay
                    for i in too_long:
                        rows[i] = rows[i][:start] + rows[i][start - max_tokens :]
            elif too_long:
                short = _tokenise(chunk.select(too_long), self.tokenizer, max_tokens, truncation=True)
                for name, rows in columns.items():
                    for i, ids in zip(too_long, short[name], strict=True):
                        rows[i] = ids
            return columns

        table, lengths = self._stored(records, cut)
        return EncodedTexts(table, lengths, targets, len(lost), sum(lost), estimated, targets)

    def windows(self, records: Records, describe: Describe | None, gold: Any) -> EncodedTexts:
        """Windows of at most `max_tokens` tokens.

        Args:
            describe: None for nothing; windows then do not overlap.
            gold: what the records' answers are scored against; None without labels.

        Raises:
            ModelError: the tokenizer does not know which characters its pieces stand for.
            UsageError: special tokens leave no room for the text.
        """
        require_offsets(self.tokenizer, self.tokenizer.name_or_path)
        counts: list[int] = []

        def opened(chunk: Records) -> dict[str, list[Any]]:
            columns: dict[str, list[Any]] = {}
            windows_of = _tokenised_windows(chunk, self.tokenizer, self.truncation.max_tokens, describe is not None)
            for record, windows in zip(chunk, windows_of, strict=True):
                described = describe(record, windows) if describe else [{}] * len(windows)
                for window, more in zip(windows, described, strict=True):
                    row = {"input_ids": window.input_ids, "token_type_ids": window.token_type_ids, **more}
                    for name, values in row.items():
                        if values is not None:
                            columns.setdefault(name, []).append(values)
                counts.append(len(windows))
            return columns

        table, lengths = self._stored(records, opened)
        record_of = np.repeat(np.arange(len(counts)), counts)
        return EncodedTexts(table, lengths, None, gold=gold, records=records, record_of=record_of)

    def _stored(
        self, records: Records, columns: Callable[[Records], dict[str, list[Any]]]
    ) -> tuple[pa.Table, np.ndarray]:
        """Lists of integers, made chunk by chunk, and the number of tokens of each row; a file is memory-mapped."""
        characters = _characters(records)
        writer: pa.RecordBatchFileWriter | None = None
        with pa.OSFile(str(self.file), "wb") if self.file else pa.BufferOutputStream() as sink:
            for part in chunks(characters):
                rows = columns(records[part])
                batch = pa.record_batch({name: pa.array(rows[name], pa.list_(pa.int32())) for name in rows})
                writer = writer or pa.ipc.new_file(sink, batch.schema)
                writer.write_batch(batch)
                if self.progress:
                    self.progress(part.stop - part.start)
            if writer is None:  # no records
                return pa.table({"input_ids": pa.array([], pa.list_(pa.int32()))}), np.empty(0, dtype=np.int32)
            writer.close()
            kept = None if self.file else sink.getvalue()
        table = pa.ipc.open_file(pa.memory_map(str(self.file)) if kept is None else kept).read_all()
        return table, pc.list_value_length(table["input_ids"]).to_numpy()


def require_offsets(tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer that does not know which characters its pieces stand for.

    Args:
        name: of its model, for the error.

    Raises:
        ModelError: it is such a one.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            f"model {name}: its tokenizer does not say where in the text its pieces stand; give a model with a fast one"
        )


def choose_max_length(records: Records, tokenizer: Any, limit: int, wanted: int | str) -> int:
    """Tokens per text: what was asked for, or the 99th percentile of the data but no less than `AUTO_LEAST`, within the
    model's limit."""
    if wanted != "auto":
        return min(int(wanted), limit)
    sample = records[:: max(1, len(records) // AUTO_SAMPLE)]
    lengths = [len(ids) for ids in _tokenise(sample, tokenizer, limit)["input_ids"]]
    return int(min(limit, max(AUTO_LEAST, np.quantile(lengths, AUTO_QUANTILE, method="higher"))))


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


def _characters(records: Records, max_tokens: int | None = None) -> np.ndarray:
    """(n,) characters of each record: all of them, or those that `_tokenise` reads."""
    characters = pc.utf8_length(records.table["text"]).to_numpy().astype(np.int64)
    second = pc.utf8_length(records.table["text_pair"]).to_numpy() if records.has("text_pair") else 0
    if max_tokens is not None:
        keep = max_tokens * MAX_CHARACTERS_PER_TOKEN
        characters, second = np.minimum(characters, 2 * keep), np.minimum(second, keep)
    return np.asarray(characters + second)


def _tokenise(chunk: Records, tokenizer: Any, max_length: int, truncation: bool = False) -> Any:
    keep = max_length * MAX_CHARACTERS_PER_TOKEN
    texts = [text if len(text) <= 2 * keep else text[:keep] + text[-keep:] for text in chunk.texts]
    pairs = [pair[:keep] for pair in chunk.table["text_pair"].to_pylist()] if chunk.has("text_pair") else None
    return tokenizer(texts, pairs, truncation=truncation, max_length=max_length if truncation else None, verbose=False)


def _tokenised_windows(chunk: Records, tokenizer: Any, max_length: int, overlap: bool) -> list[list[Window]]:
    texts = chunk.texts
    pairs = chunk.table["text_pair"].to_pylist() if chunk.has("text_pair") else None
    first = 0 if pairs is None else max_length // 2  # where both do not fit, so much is for the first of two texts
    room = max_length - tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    if room - first < 1:
        raise UsageError(
            f"training.max_length={max_length}: special tokens leave no room for the text; give a larger one"
        )
    encoded = tokenizer(
        texts if pairs is None else _shortened(texts, pairs, tokenizer, first, room),
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
    for at, (record, ids) in enumerate(zip(encoded["overflow_to_sample_mapping"], encoded["input_ids"], strict=True)):
        part = np.array([NOTHING if one is None else one for one in encoded.sequence_ids(at)], dtype=np.int64)
        offsets = np.array(encoded["offset_mapping"][at], dtype=np.int64).reshape(-1, 2)
        windows[record].append(Window(ids, None if kinds is None else kinds[at], offsets, part))
    return windows


def _shortened(texts: list[str], beside: list[str], tokenizer: Any, share: int, room: int) -> list[str]:
    """The first texts of pairs, each cut to the room that the second leaves, but never to fewer tokens than `share`."""

    def pieces(some: list[str]) -> list[list[tuple[int, int]]]:
        encoded = tokenizer(some, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return list(encoded["offset_mapping"])

    shortened = list(texts)
    for row, bounds in enumerate(pieces(texts)):
        if len(bounds) > share:
            limit = max(share, room - len(pieces([beside[row]])[0]))
            while len(bounds) > limit:
                shortened[row] = shortened[row][: min(bounds[limit - 1][1], len(shortened[row]) - 1)]
                bounds = pieces([shortened[row]])[0]  # what is left may come in other pieces than before
    return shortened
