"""To how much the parts of Parquet and Arrow files expand, by their own headers, which rule how they are decoded.

The footer of a Parquet file says so, too, but nothing that decodes it believes that.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from pathlib import Path
from struct import error as StructError
from struct import unpack_from
from typing import Any

import pyarrow as pa

from tunesmith.data.expansion import Budget

BYTES_A_VALUE = 8
"""What a decoded value takes at least, though any number of them may be written as one."""
BYTES_A_STRUCTURE = 256
BYTE_ARRAY, DELTA_BYTE_ARRAY = 6, 7
"""A type, and the encoding of values that each begin as the one before."""
MAX_DEPTH = 16
MALFORMED = LookupError, TypeError, AttributeError, RecursionError, StructError, ValueError
"""What contradictions in a file raise, where it is taken apart."""


def spend_pages(path: str, budget: Budget) -> int:
    """Counts what the pages of a Parquet file expand to.

    Returns:
        The most bytes of a value that is written once for many rows.

    Raises:
        DataError: more than the budget.
    """
    largest = 1
    with (
        suppress(*MALFORMED),  # what decodes it says so
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        footer = _Thrift(data, len(data) - 8 - unpack_from("<I", data, len(data) - 8)[0], budget).structure()
        for element in footer[2]:
            largest = max(largest, element.get(2, 0))  # the bytes of each value of a type of fixed length
        for group in footer[4]:
            for column in group[1]:
                largest = max(largest, _spend_column(data, column[3], budget))
    return largest


def _spend_column(data: mmap.mmap, column: dict[int, Any], budget: Budget) -> int:
    at, largest, of_any_size = int(column[9]), 1, column[1] == BYTE_ARRAY
    if 0 < column.get(11, 0) < at:
        at = int(column[11])
    end = at + int(column[7])
    with suppress(*MALFORMED):
        while 0 <= at < end:
            header = _Thrift(data, at, budget)
            page = header.structure()
            expanded, size = max(0, page[2]), max(0, page[3])
            about: dict[int, Any] = next(
                (page[kind] for kind in (5, 7, 8) if kind in page), {}
            )  # data, dictionary, data of version 2
            budget.spend(expanded + BYTES_A_VALUE * max(0, about.get(1, 0)))
            if of_any_size and (7 in page or DELTA_BYTE_ARRAY in (about.get(2), about.get(4))):
                largest = max(largest, expanded)
            at = header.at + size
    return largest


class _Thrift:
    """Values in Thrift's compact protocol, from a position on; texts are passed over."""

    def __init__(self, data: mmap.mmap, at: int, budget: Budget) -> None:
        self.at, self._data, self._budget = at, data, budget

    def structure(self, depth: int = MAX_DEPTH) -> dict[int, Any]:
        """A structure by the numbers of its fields."""
        self._budget.spend(BYTES_A_STRUCTURE)
        found, number = dict[int, Any](), 0
        while kind := self._byte():
            number = number + (kind >> 4) if kind >> 4 else self._integer()
            found[number] = kind & 15 == 1 if kind & 15 in (1, 2) else self._value(kind & 15, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if depth < 0:
            raise RecursionError
        if kind in (1, 2, 3):
            return self._byte()
        if kind in (4, 5, 6):
            return self._integer()
        if kind in (7, 8):
            size = 8 if kind == 7 else self._unsigned()
            self.at += size
            if self.at > len(self._data):
                raise IndexError
            return None
        if kind in (9, 10):
            head = self._byte()
            count = self._unsigned() if head >> 4 == 15 else head >> 4
            return [self._value(head & 15, depth - 1) for _ in range(count)]
        if kind == 12:
            return self.structure(depth - 1)
        raise TypeError

    def _byte(self) -> int:
        if self.at < 0:
            raise IndexError
        self.at += 1
        return self._data[self.at - 1]

    def _unsigned(self) -> int:
        value = shift = 0
        while shift < 64:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
        return value

    def _integer(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)


def spend_messages(path: Path, start: int, budget: Budget) -> None:
    """Counts what the compressed parts of an Arrow stream expand to.

    Args:
        start: position of the stream in the file.

    Raises:
        ArrowInvalid, OSError: the stream is damaged.
        DataError: more than the budget.
    """
    with pa.memory_map(str(path)) as source:
        source.seek(start)
        for message in pa.ipc.MessageReader.open_stream(source):
            budget.spend(_expanded(message.metadata.to_pybytes(), message.body, message.type))


def _expanded(header: bytes, body: pa.Buffer, kind: str) -> int:
    """Of a message; its header was verified by the reader of messages, so that all offsets lie inside."""
    table = _follow(header, _field(header, unpack_from("<I", header)[0], 2))
    if kind == "dictionary":
        table = _follow(header, _field(header, table, 1))
    elif kind != "record batch":
        return 0
    if not _field(header, table, 3):  # the compression
        return 0
    buffers, total = _follow(header, _field(header, table, 2)), 0
    for at in range(unpack_from("<I", header, buffers)[0]):
        offset, length = unpack_from("<qq", header, buffers + 4 + 16 * at)
        if length >= 8 and 0 <= offset <= body.size - 8:
            total += max(length, unpack_from("<q", body, offset)[0])
    return total


def _field(data: bytes, table: int, number: int) -> int:
    """Where a field of a FlatBuffers table stands; 0 where it has none."""
    fields = table - unpack_from("<i", data, table)[0]
    if 4 + 2 * number >= unpack_from("<H", data, fields)[0]:
        return 0
    offset = unpack_from("<H", data, fields + 4 + 2 * number)[0]
    return table + int(offset) if offset else 0


def _follow(data: bytes, at: int) -> int:
    return at + int(unpack_from("<I", data, at)[0])
