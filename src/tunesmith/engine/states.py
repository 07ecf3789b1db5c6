"""Token states on disk by content: written once, read by later epochs, evaluations, seeds, methods and runs.

A store is a folder named by the hash of what determines the states besides the text. It holds segments, each written by
one process and renamed into place when complete. A segment is the states of its rows end to end, then an index (key,
offset, number of tokens and checksum of each row), then a footer (magic, version, number of rows, checksum of the
index, hash of the identity). Whatever does not fit together is not used, and the rows are computed again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import struct
import uuid
import weakref
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from tunesmith.errors import is_disk_full

MAGIC, VERSION = b"TSSTATES", 1
KEY_BYTES = 16
FOOTER = struct.Struct("<8sIQI32s")
ROW = np.dtype([("key", f"S{KEY_BYTES}"), ("offset", "<u8"), ("tokens", "<u4"), ("checksum", "<u4")])
FREE_BYTES = 2**30
"""What is left free on the disk at least."""
DESCRIPTION = "identity.json"


def cache_folder() -> Path:
    """Where states are kept: ``$TUNESMITH_CACHE``, else ``tunesmith`` in the user's cache folder."""
    chosen = os.environ.get("TUNESMITH_CACHE")
    if chosen:
        return Path(chosen) / "states"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunesmith" / "states"


class StateStore:
    """States of rows of tokens, by key.

    Args:
        identity: what determines the states besides the key; values that JSON can hold.
        width: numbers of one token's state.
        dtype: float32, bfloat16 or float16.
        budget_bytes: of all stores together; what does not fit is not kept.
        folder: of all stores.

    Attributes:
        hits, misses, damaged, refused: rows read, absent, present but unusable, and not kept.
        reason: why rows were not kept, once some were not.
    """

    def __init__(
        self,
        identity: Mapping[str, Any],
        width: int,
        dtype: torch.dtype,
        budget_bytes: int,
        folder: Path | None = None,
    ) -> None:
        described = json.dumps({**identity, "width": width, "dtype": str(dtype)}, sort_keys=True)
        self._identity = hashlib.sha256(described.encode()).digest()
        self._described = described
        self._root = folder or cache_folder()
        self.folder = self._root / self._identity.hex()[:32]
        self.width, self.dtype, self._token_bytes = width, dtype, width * dtype.itemsize
        self._rows: dict[bytes, _Row] = {}
        self._verified: set[bytes] = set()
        self._files: list[BinaryIO] = []
        weakref.finalize(self, _close, self._files)
        self._file: BinaryIO | None = None
        self._written: list[tuple[bytes, int, int, int]] = []
        self.hits = self.misses = self.damaged = self.refused = 0
        self.reason: str | None = None
        self._left = max(0, budget_bytes - _size(self._root))
        for path in sorted(self.folder.glob("*.seg")):
            self._open(path)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def size(self) -> int:
        """Bytes of the rows that can be read."""
        return sum(row.tokens for row in self._rows.values()) * self._token_bytes

    def get(self, keys: Sequence[bytes]) -> torch.Tensor | None:
        """States of all `keys` end to end, (tokens, width) in the store's dtype; None when one is absent or damaged."""
        found = [self._read(key) for key in keys]
        present = [row for row in found if row is not None]
        self.hits, self.misses = self.hits + len(present), self.misses + len(found) - len(present)
        if not present or len(present) < len(found):
            return None
        joined = torch.frombuffer(bytearray(b"".join(present)), dtype=self.dtype)
        return joined.view(-1, self.width)

    def put(self, keys: Sequence[bytes], lengths: Sequence[int], states: torch.Tensor) -> None:
        """Keep the states of `keys`, (tokens, width) end to end; those that are there already are left as they are."""
        values = states.detach().to("cpu", self.dtype).contiguous().view(torch.uint8).numpy().reshape(-1)
        start = 0
        try:
            for key, length in zip(keys, lengths, strict=True):
                end = start + int(length) * self._token_bytes
                if key not in self._rows:
                    self._write(key, values[start:end].tobytes())
                start = end
            if self._file is not None:
                self._file.flush()
        except OSError as error:
            self._give_up(error)

    def commit(self) -> None:
        """Let other processes, and later ones, read what was put."""
        if self._file is None:
            return
        index = np.array(self._written, dtype=ROW).tobytes()
        temporary = Path(self._file.name)
        try:
            self._file.write(index)
            self._file.write(FOOTER.pack(MAGIC, VERSION, len(self._written), zlib.crc32(index), self._identity))
            self._file.flush()
            os.fsync(self._file.fileno())
            temporary.rename(temporary.with_suffix(".seg"))
        except OSError as error:
            self._give_up(error)
        self._file, self._written = None, []  # the rows keep the file open for reading

    def _read(self, key: bytes) -> bytes | None:
        row = self._rows.get(key)
        if row is None:
            return None
        size = row.tokens * self._token_bytes
        content = os.pread(row.file.fileno(), size, row.offset)
        if key not in self._verified:
            if len(content) != size or zlib.crc32(content) != row.checksum:
                self.damaged += 1
                del self._rows[key]
                return None
            self._verified.add(key)
        return content

    def _write(self, key: bytes, content: bytes) -> None:
        cost = len(content) + ROW.itemsize
        if cost > self._left:
            self.refused += 1
            self.reason = self.reason or "the budget for kept states is used up"
            return
        file = self._file or self._begin()
        row = _Row(file, file.tell(), len(content) // self._token_bytes, zlib.crc32(content))
        file.write(content)
        self._left -= cost
        self._written.append((key, row.offset, row.tokens, row.checksum))
        self._rows[key] = row

    def _begin(self) -> BinaryIO:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if shutil.disk_usage(self.folder).free < FREE_BYTES:
            raise OSError(errno.ENOSPC, "little space is left")
        _remove_abandoned(self.folder)
        (self.folder / DESCRIPTION).write_text(self._described, encoding="utf-8")
        self._file = (self.folder / f"{os.getpid()}-{uuid.uuid4().hex}.tmp").open("x+b")
        self._files.append(self._file)
        return self._file

    def _give_up(self, error: OSError) -> None:
        """Keep nothing more; what this process wrote and cannot commit is removed."""
        self.reason = "the disk is full" if is_disk_full(error) else f"cannot write to the cache ({error.strerror})"
        self._left = 0
        if self._file is not None:
            for key, *_ in self._written:
                self._rows.pop(key, None)
            with suppress(OSError):
                Path(self._file.name).unlink(missing_ok=True)
        self._file, self._written = None, []

    def _open(self, path: Path) -> None:
        """Take up the rows of a segment, if it is whole and of this identity."""
        try:
            file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
            self._files.append(file)
            rows = self._index(file)
        except (OSError, ValueError, struct.error):
            self.damaged += 1
            return
        for key, offset, tokens, checksum in rows.tolist():
            self._rows.setdefault(key.ljust(KEY_BYTES, b"\0"), _Row(file, offset, tokens, checksum))

    def _index(self, file: BinaryIO) -> np.ndarray:
        """The index of a segment.

        Raises:
            ValueError, struct.error: it is not what a segment of this store ends with.
        """
        size = os.fstat(file.fileno()).st_size
        magic, version, count, checksum, identity = FOOTER.unpack(
            os.pread(file.fileno(), FOOTER.size, max(0, size - FOOTER.size))
        )
        begin = size - FOOTER.size - count * ROW.itemsize
        if (magic, version, identity) != (MAGIC, VERSION, self._identity) or begin < 0:
            raise ValueError("of another kind")
        content = os.pread(file.fileno(), count * ROW.itemsize, begin)
        rows = np.frombuffer(content, dtype=ROW)
        ends = rows["offset"] + rows["tokens"].astype(np.uint64) * self._token_bytes
        if zlib.crc32(content) != checksum or (ends > begin).any() or (rows["offset"] > begin).any():
            raise ValueError("damaged")
        return rows


@dataclass(frozen=True)
class _Row:
    """Where the states of one key are: a file, the offset in bytes, the number of tokens, the CRC-32 of the bytes."""

    file: BinaryIO
    offset: int
    tokens: int
    checksum: int


def stores(folder: Path | None = None) -> list[dict[str, Any]]:
    """Every store in the cache: ``folder``, ``bytes``, and what its states were made with."""
    root = folder or cache_folder()
    found = []
    for path in sorted(root.glob("*/" + DESCRIPTION)):
        try:
            made_with = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            made_with = {}
        found.append({"folder": str(path.parent), "bytes": _size(path.parent), "made_with": made_with})
    return found


def clear(folder: Path | None = None) -> int:
    """Remove every store of the cache, and nothing else; the number of bytes freed."""
    freed = 0
    for store in stores(folder):
        freed += store["bytes"]
        shutil.rmtree(store["folder"])
    return freed


def _close(files: list[BinaryIO]) -> None:
    for file in files:
        with suppress(OSError):
            file.close()


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _remove_abandoned(folder: Path) -> None:
    """Files of processes that ended without committing them."""
    for path in folder.glob("*.tmp"):
        with suppress(OSError, ValueError):
            if not _lives(int(path.name.partition("-")[0])):
                path.unlink()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
