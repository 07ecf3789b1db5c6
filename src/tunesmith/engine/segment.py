"""The file that token states are kept in: written aside, sealed, renamed into place, and never changed again.

A segment holds, one after the other and in little-endian order:

    header   magic ``TSSTATES``, version (uint32), identity (32 bytes: sha256 of what determines the states)
    rows     the bytes of each row, (length, width) in the dtype of the store, end to end
    index    per row: key (16 bytes), offset (uint64, from the start of the file), length (uint32, tokens),
             checksum (uint32, crc32 of the row's bytes)
    footer   offset of the index (uint64), number of rows (uint64), seal (8 bytes: blake2b of the header, the index and
             these two numbers), magic ``TSSEALED``

The seal is verified when a segment is opened, the checksum of a row when it is first read; so every byte is covered.
Until it is sealed, a segment has a hidden name and its writer holds a lock on it, which the system releases when the
writer dies: that tells what a killed process left behind from what another process is writing now.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import struct
import time
import weakref
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from tunesmith.disk import sync

MAGIC, SEALED, VERSION = b"TSSTATES", b"TSSEALED", 1
HEADER = struct.Struct("<8sI32s")
FOOTER = struct.Struct("<QQ8s8s")
KEY_BYTES = 16
ENTRY = np.dtype([("key", f"V{KEY_BYTES}"), ("offset", "<u8"), ("length", "<u4"), ("checksum", "<u4")])
SUFFIX, UNSEALED_SUFFIX = ".states", ".unsealed"
ABANDONED_SECONDS = 24 * 3600
"""Age at which an unsealed segment is given up where the file system has no locks."""
OPEN_FILES = 64


class Unusable(Exception):
    """A segment that must be ignored; the message says why."""


def overhead_bytes(rows: int) -> int:
    """Bytes of a segment beyond the states themselves."""
    return HEADER.size + rows * ENTRY.itemsize + FOOTER.size


def read_footer(descriptor: int) -> tuple[int, int, bytes]:
    """Offset of the index, number of rows, seal.

    Raises:
        Unusable: the file is cut short, or is no segment.
        OSError: it cannot be read.
    """
    size = os.fstat(descriptor).st_size
    footer = os.pread(descriptor, FOOTER.size, max(0, size - FOOTER.size))
    if size < overhead_bytes(0) or not footer.endswith(SEALED):
        raise Unusable("it is cut short or damaged (its end is missing)")
    offset, rows, seal, _ = FOOTER.unpack(footer)
    if offset < HEADER.size or offset + rows * ENTRY.itemsize + FOOTER.size != size:
        raise Unusable("it is damaged (its footer does not fit its size)")
    return offset, rows, seal


def read_index(descriptor: int, identity: bytes, token_bytes: int) -> np.ndarray:
    """The index of a segment.

    Args:
        identity: the 32 bytes that the segment must be of.
        token_bytes: bytes of one token's state.

    Returns:
        (rows,) of dtype `ENTRY`; every row lies inside the file.

    Raises:
        Unusable: it is cut short, damaged, of another version or of another identity.
        OSError: it cannot be read.
    """
    header = os.pread(descriptor, HEADER.size, 0)
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise Unusable("it is not a file of states")
    _, version, found = HEADER.unpack(header)
    if version != VERSION:
        raise Unusable(f"it is of version {version}, this Tunesmith reads version {VERSION}")
    if found != identity:
        raise Unusable("it holds the states of another model")
    end, rows, seal = read_footer(descriptor)
    content = os.pread(descriptor, rows * ENTRY.itemsize, end)
    if _seal(header, content, end, rows) != seal:
        raise Unusable("it is damaged (its index does not match its seal)")
    index = np.frombuffer(content, ENTRY)
    # The order of the conditions keeps the unsigned difference from wrapping around.
    inside = (index["offset"] >= HEADER.size) & (index["offset"] <= end) & (index["length"] >= 1)
    if not inside.all() or (index["length"] > (end - index["offset"]) // token_bytes).any():
        raise Unusable("it is damaged (its index points outside the rows)")
    return index


class Writer:
    """A segment in the making.

    Args:
        folder: an existing folder.
        identity: the 32 bytes of the header.

    Attributes:
        path: the name that `commit` gives it.
        descriptor: open for reading as well; `commit` leaves it open, `discard` closes it. A writer that is given up
            without either is discarded.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, folder: Path, identity: bytes) -> None:
        # Names sort by time, so that of two copies of a row the newer one can win.
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        self.path = str(folder / f"{name}{SUFFIX}")
        self._unsealed = str(folder / f".{name}{UNSEALED_SUFFIX}")
        self._entries: list[tuple[bytes, int, int, int]] = []
        self._header = HEADER.pack(MAGIC, VERSION, identity)
        self._end = 0
        self.descriptor = _create_locked(self._unsealed)
        self.discard = weakref.finalize(self, _remove, self._unsealed, self.descriptor)
        self.discard.atexit = False  # in a forked process it would remove the parent's file
        self._write(self._header)

    @property
    def unwritten_bytes(self) -> int:
        """What `commit` will still add."""
        return overhead_bytes(len(self._entries)) - HEADER.size

    def append(self, key: bytes, length: int, data: memoryview) -> tuple[int, int]:
        """Write a row; returns its offset and checksum.

        Raises:
            OSError: it cannot be written; the rows before it are intact.
        """
        offset, checksum = self._end, zlib.crc32(data)
        self._write(data)
        self._entries.append((key, offset, length, checksum))
        return offset, checksum

    def commit(self) -> None:
        """Seal the segment and give it its name, in one step for any reader.

        Raises:
            OSError: it cannot be written; `discard` it.
        """
        os.ftruncate(self.descriptor, self._end)  # a row that could not be written may have left a part
        content, end, rows = np.array(self._entries, ENTRY).tobytes(), self._end, len(self._entries)
        self._write(content)
        self._write(FOOTER.pack(end, rows, _seal(self._header, content, end, rows), SEALED))
        os.fsync(self.descriptor)
        os.rename(self._unsealed, self.path)
        self.discard.detach()
        with suppress(OSError):  # it has its name; only whether that outlives a power cut is open
            sync(os.path.dirname(self.path))

    def _write(self, data: bytes | memoryview) -> None:
        view, written = memoryview(data), 0
        while written < len(view):
            written += os.pwrite(self.descriptor, view[written:], self._end + written)
        self._end += written


class Files:
    """Descriptors of segments by path; the `OPEN_FILES` that were used last stay open.

    Rows are read through descriptors rather than through memory maps: a failing disk or a file that somebody cuts is
    then an error that can be handled, where a map would end the process.
    """

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}

    def descriptor(self, path: str) -> int:
        """Raises: OSError: the file is gone, is a link, or cannot be opened."""
        descriptor = self._descriptors.pop(path, None)
        if descriptor is None:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        self.adopt(path, descriptor)
        return descriptor

    def adopt(self, path: str, descriptor: int) -> None:
        """Keep a descriptor that is open already."""
        self._descriptors[path] = descriptor
        if len(self._descriptors) > OPEN_FILES:
            os.close(self._descriptors.pop(next(iter(self._descriptors))))

    def close(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()


def is_abandoned(path: str | Path) -> bool:
    """Whether the writer of an unsealed segment is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return time.time() - os.fstat(descriptor).st_mtime > ABANDONED_SECONDS
    finally:
        os.close(descriptor)


def _create_locked(path: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # another process took it for abandoned before it was locked


def _remove(path: str, descriptor: int) -> None:
    with suppress(OSError):
        os.unlink(path)
    os.close(descriptor)


def _seal(header: bytes, index: bytes, end: int, rows: int) -> bytes:
    return hashlib.blake2b(header + index + struct.pack("<QQ", end, rows), digest_size=8).digest()
