"""Typed values of Arrow as text: numbers as Python writes them, nested values as JSON, class numbers as their names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.table import TEXT
from tunesmith.errors import DataError

CELL_BYTES = 8
"""What any value takes in a table of text, its characters apart."""
VIEW_TYPES = (pa.string_view(), pa.binary_view())


class TooMany(Exception):
    """An array has more values than can be laid out."""


def text_sizes(array: pa.Array, most: float) -> np.ndarray:
    """About how many bytes the text of each value has: int64 (n,), by lengths alone, without making any text.

    So it shows what is written once and stands in many rows: values of dictionaries, runs, views and lists.

    Raises:
        TooMany: there are more values, nested ones included, than `most`.
    """
    kind, count = array.type, len(array)
    if count > most:
        raise TooMany
    if isinstance(array, pa.ExtensionArray):
        return text_sizes(array.storage, most)
    if pa.types.is_dictionary(kind):
        return _of_indices(text_sizes(array.dictionary, most), array.indices)
    if pa.types.is_run_end_encoded(kind):
        return np.asarray(text_sizes(array.values, most)[_runs(array)])
    if kind in VIEW_TYPES:
        return np.where(array.is_null(), 0, _views(array)[:, 0].astype(np.int64))
    if pa.types.is_string(kind) or pa.types.is_binary(kind) or _is_large(kind):
        return np.asarray(pc.fill_null(pc.binary_length(array), 0)).astype(np.int64)
    if pa.types.is_struct(kind):
        sizes = np.full(count, CELL_BYTES)
        for at in range(kind.num_fields):
            sizes += text_sizes(array.field(at), most) + len(kind.field(at).name)
        return sizes
    if pa.types.is_fixed_size_list(kind):
        width = kind.list_size
        if width * count > most:
            raise TooMany
        values = array.values[array.offset * width : (array.offset + count) * width]
        return np.asarray(CELL_BYTES + text_sizes(values, most).reshape(count, width).sum(axis=1))
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):  # lists, their views, and maps
        starts = np.asarray(pc.fill_null(array.offsets, 0)).astype(np.int64)
        ends = starts[1:] if len(starts) > count else starts + np.asarray(pc.fill_null(array.sizes, 0))
        starts = np.where(array.is_null(), ends, starts[:count])
        first, last = min(starts, default=0), max(ends, default=0)
        values = array.values if not pa.types.is_map(kind) else _entries(array)
        before = np.concatenate([[0], np.cumsum(text_sizes(values[first:last], most))])
        return np.asarray(CELL_BYTES + before[ends - first] - before[starts - first])
    return np.full(count, 4 if kind in (pa.bool_(), pa.null()) else CELL_BYTES)


def repeated_bytes(batch: pa.RecordBatch) -> int:
    """How much more than its own bytes is read when a batch is validated in full: each view by itself, though many show
    the same, and a dictionary again for every batch that uses it (which costs a sixteenth of what decoding it would).

    Args:
        batch: valid as far as ``validate()`` without ``full`` tells.
    """
    shown = again = 0
    for array in chain.from_iterable(map(_within, batch.columns)):
        if array.type in VIEW_TYPES:
            shown += int(np.where(array.is_null(), 0, _views(array)[:, 0]).clip(0).sum(dtype=np.int64))
        elif pa.types.is_dictionary(array.type):
            again += max(len(array.dictionary), array.dictionary.nbytes // 16)
    return max(0, shown - int(batch.get_total_buffer_size())) + again


def _within(array: pa.Array) -> Iterator[pa.Array]:
    """An array, and those that it is made of."""
    yield array
    kind, parts = array.type, list[pa.Array]()
    if isinstance(array, pa.ExtensionArray):
        parts = [array.storage]
    elif pa.types.is_dictionary(kind):
        parts = [array.dictionary]
    elif pa.types.is_map(kind):
        parts = [array.keys, array.items]
    elif pa.types.is_struct(kind) or pa.types.is_union(kind):
        parts = [array.field(at) for at in range(kind.num_fields)]
    elif pa.types.is_nested(kind) or pa.types.is_run_end_encoded(kind):
        parts = [array.values]
    for part in parts:
        yield from _within(part)


def as_text(path: str, name: str, array: pa.Array, feature: Any, start: int) -> pa.Array:
    """One column as text.

    Args:
        array: valid in full, and of a size that memory holds as text.
        feature: what the `datasets` library says of the column, or None.
        start: the number of its first row.

    Raises:
        DataError: it has no text.
    """
    try:
        return _as_text(path, name, _decoded(array), feature, start)
    except (pa.ArrowException, ValueError, ArithmeticError, TypeError, KeyError):
        rows = f"rows {start} to {start + len(array) - 1}"
        what = f"values of type {str(array.type)[:80]} are not text; store the column as strings"
        raise DataError(f"{path}: {rows}, column {name!r}: {what}") from None


def _as_text(path: str, name: str, array: pa.Array, feature: Any, start: int) -> pa.Array:
    if isinstance(feature, dict):
        array = _class_names(path, name, array, feature, start)
    kind = array.type
    if pa.types.is_floating(kind):
        # not Arrow's cast, which writes 1.0 as "1"
        numbers = array.to_numpy(zero_copy_only=False)
        missing = array.is_null().to_numpy(zero_copy_only=False)
        return pa.array([None if gone else str(number) for number, gone in zip(numbers, missing, strict=True)], TEXT)
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):
        dump = json.JSONEncoder(ensure_ascii=False, default=str).encode
        return pa.array((None if cell is None else dump(cell) for cell in array.to_pylist()), TEXT)
    text = pc.cast(array, TEXT)
    text.validate(full=True)
    return text


def _decoded(array: pa.Array) -> pa.Array:
    """The values of an array of which each stands in it once for many."""
    if isinstance(array, pa.ExtensionArray):
        return _decoded(array.storage)
    if pa.types.is_run_end_encoded(array.type):
        return _decoded(array.values.take(pa.array(_runs(array))))
    if pa.types.is_dictionary(array.type):
        return _decoded(array.dictionary.take(array.indices))
    if array.type in VIEW_TYPES:  # where there is no value, its view may lead anywhere, and Arrow's cast follows it
        views = np.where(np.asarray(array.is_null())[:, None], 0, _views(array))
        valid, _, *data = array.buffers()
        made = pa.py_buffer(np.ascontiguousarray(views))
        mask = array.is_valid()
        del valid
        array = pa.Array.from_buffers(array.type, len(array), [mask.buffers()[1], made, *data], offset=0)
    return array


def _views(array: pa.Array) -> np.ndarray:
    """Int32 (n, 4), of which the first of each is the length of the value."""
    return np.frombuffer(array.buffers()[1], np.int32, 4 * len(array), 16 * array.offset).reshape(-1, 4)


def _runs(array: pa.Array) -> np.ndarray:
    """Of each row of a run-end-encoded array the position of its value: int64 (n,)."""
    rows = np.arange(array.offset, array.offset + len(array))
    return np.searchsorted(np.asarray(array.run_ends), rows, side="right")


def _of_indices(sizes: np.ndarray, indices: pa.Array) -> np.ndarray:
    found = np.zeros(len(indices), dtype=np.int64)
    valid = np.asarray(indices.is_valid())
    found[valid] = sizes[np.asarray(indices.drop_null()).astype(np.int64)]
    return found


def _is_large(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))


def _entries(array: pa.MapArray) -> pa.Array:
    return pa.StructArray.from_arrays([array.keys, array.items], names=["key", "value"])


def _class_names(path: str, name: str, array: pa.Array, feature: dict[str, Any], start: int) -> pa.Array:
    """Class numbers as names; -1 (no label) as null. Lists of class numbers as lists of names."""
    inner = feature.get("feature")
    if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" and pa.types.is_nested(array.type):
        names = inner["names"]
        named = dict(enumerate(names))  # -1 and other numbers without a name become null
        return pa.array([None if cell is None else [named.get(i) for i in cell] for cell in array.to_pylist()])
    if feature.get("_type") != "ClassLabel" or not pa.types.is_integer(array.type):
        return array
    names = pa.array(feature["names"], TEXT)
    numbers = pc.if_else(pc.less(array, 0), None, array)
    if (pc.max(numbers).as_py() or 0) >= len(names):
        at = start + int(np.argmax(numbers.fill_null(0).to_numpy(zero_copy_only=False)))
        raise DataError(f"{path}: row {at}, column {name!r}: no name for this class number (of {len(names)})")
    return names.take(numbers)
