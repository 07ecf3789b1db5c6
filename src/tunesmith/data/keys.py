"""Short keys of texts and labels, so that equal ones are found by comparing integers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.records import Records
from tunesmith.data.table import TEXT, in_turn
from tunesmith.text import normal_form

KEY_BYTES = 8  # two of a million different texts share a key with probability 3e-8


def column_keys(column: pa.ChunkedArray) -> np.ndarray:
    """A key per value of a string column: uint64 (n,); null counts as empty. The same on every machine."""
    return _keys(_values(column))


def repeated(column: pa.ChunkedArray) -> np.ndarray:
    """Bool (n,): values of a string column that stand in another row, too; null counts as empty."""
    keys = column_keys(column)
    in_order = np.sort(keys)
    again = np.isin(keys, in_order[1:][np.diff(in_order) == 0])
    few = pc.fill_null(column.filter(pa.array(again)), "").combine_chunks()
    codes = np.asarray(few.dictionary_encode().indices)
    again[again] = np.bincount(codes)[codes] > 1  # different values may have one key
    return again


def alike_keys(column: pa.ChunkedArray) -> np.ndarray:
    """As `column_keys`, but texts that have the same `tunesmith.text.normal_form` share a key."""
    return _keys(normal_form(str(value, "utf-8")).encode() for value in _values(column))


def _keys(values: Iterable[bytes | memoryview]) -> np.ndarray:
    digests = bytearray()
    for value in values:
        digests += blake2b(value, digest_size=KEY_BYTES).digest()
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _values(column: pa.ChunkedArray) -> Iterator[memoryview]:
    """The UTF-8 of each value, where it lies in memory."""
    for chunk in in_turn(column.chunks):
        if not len(chunk):
            continue
        text = pc.cast(pc.fill_null(chunk, ""), TEXT)
        _, offsets, data = text.buffers()
        bounds = np.frombuffer(offsets, dtype=np.int64)[text.offset : text.offset + len(text) + 1].tolist()
        view = memoryview(data) if data is not None else memoryview(b"")
        yield from (view[start:end] for start, end in pairwise(bounds))


def mixed(keys: np.ndarray, salt: int = 0) -> np.ndarray:
    """Adds `salt` and scatters the bits, one to one: uint64 (n,) (finaliser of SplitMix64, Steele et al. 2014)."""
    bits = keys + np.uint64((salt + 1) * 0x9E3779B97F4A7C15 % 2**64)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits ^ (bits >> np.uint64(31)))


def text_keys(records: Records, exact: bool = False) -> np.ndarray:
    """A key per text, or per pair of texts: uint64 (n,); apart from case and spaces (`alike_keys`), unless `exact`."""
    keys_of = column_keys if exact else alike_keys
    keys = keys_of(records.table["text"])
    if records.has("text_pair"):
        keys = mixed(keys) ^ keys_of(records.table["text_pair"])
    return keys


def group_numbers(records: Records) -> np.ndarray:
    """The number of each row's group, from 0 and none left out: int64 (n,). Without groups each row is one.

    So it is where all rows are of one group, which alone says nothing of how groups differ.
    """
    numbers = np.unique(column_keys(records.table["group"]), return_inverse=True)[1] if records.has("group") else None
    return numbers if numbers is not None and numbers.any() else np.arange(len(records))


def label_keys(records: Records) -> np.ndarray:
    """A key per label; several labels make the same key in any order: uint64 (n,)."""
    column = records.table["label"]
    if is_list(column):
        joined = ["\x1f".join(sorted(map(str, labels))) if labels else "" for labels in column.to_pylist()]
        column = pa.chunked_array([pa.array(joined, TEXT)])
    return column_keys(column)


def is_list(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_list(column.type) or pa.types.is_large_list(column.type))


class LabelCodes(NamedTuple):
    """Every label of every row.

    Attributes:
        names: the distinct labels in their sort order (C).
        rows, codes: for each occurrence its row, and the position of its label in that order (int64).
    """

    names: list[str]
    rows: np.ndarray
    codes: np.ndarray

    @property
    def counts(self) -> dict[str, int]:
        """Occurrences of each label, in their order."""
        return dict(zip(self.names, np.bincount(self.codes, minlength=len(self.names)).tolist(), strict=True))


def label_codes(records: Records) -> LabelCodes:
    """Every label of every row; rows without a label have none.

    Of spans the labels are their types; rows with answers have the one label ``"answered"``.
    """
    column = records.table["label"]
    if is_list(column):
        column = column.combine_chunks()
        values, rows = column.flatten(), np.asarray(pc.list_parent_indices(column), dtype=np.int64)
        if pa.types.is_struct(values.type):
            if values.type.get_field_index("label") >= 0:
                values = values.field("label")
            else:
                rows = np.unique(rows)
                values = pa.array(["answered"] * len(rows), TEXT)
    else:
        values, rows = column.drop_null().cast(TEXT).combine_chunks(), np.flatnonzero(column.is_valid())
    encoded = values.cast(TEXT).dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    return LabelCodes(encoded.dictionary.take(order).to_pylist(), rows, np.argsort(order)[encoded.indices])
