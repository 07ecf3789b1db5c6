"""Token states by content, on disk, so that frozen layers run once per text: for all epochs, seeds, methods and runs.

The store is a cache in the strict sense: whatever goes wrong with it (damage, a full disk, a folder that cannot be
used), rows are absent, the reason can be read, and the caller computes them. Nothing that it returns is ever wrong.
"""

from __future__ import annotations

import hashlib
import os
import weakref
import zlib
from collections.abc import Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tunesmith.engine import cachedir
from tunesmith.engine.segment import ENTRY, KEY_BYTES, Files, Unusable, Writer, overhead_bytes, read_index
from tunesmith.errors import is_disk_full

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
GRANT_BYTES = 64 * 2**20
"""How much is written before the folder and the disk are measured again: other processes write too."""


def estimate(rows: int, tokens: int, width: int, dtype: torch.dtype) -> int:
    """Bytes on disk of `rows` rows with `tokens` tokens in all, in one segment."""
    return tokens * width * dtype.itemsize + overhead_bytes(rows)


class Row(NamedTuple):
    """Where a row lies; `offset` in bytes, `length` in tokens, `checksum` None once it was found to be right."""

    path: str
    offset: int
    length: int
    checksum: int | None


class StateStore:
    """Token states by content key. Not for several threads at once; any number of processes may share the folder.

    Args:
        identity: what determines the states besides the text (hash of the prefix's weights, boundary, precision, code
            version): values that JSON can hold. States of another identity are never seen.
        width: values per token.
        dtype: float32, bfloat16 or float16.
        budget_bytes: limit on the whole cache folder, all identities together; others are evicted to stay below it.
        folder: of all identities, by default `cachedir.cache_folder()`. It is made when something is stored.

    Attributes:
        folder: of this identity.
        refused: how many rows were put and not kept.
        damaged: name of a file → what is wrong with it; none of its rows, or not all, are used.
        reason: why nothing is stored (any more), or None.

    Raises:
        ValueError: width or dtype is not one that can be stored.
    """

    def __init__(
        self, identity: Mapping[str, Any], width: int, dtype: torch.dtype, budget_bytes: int, folder: Path | None = None
    ) -> None:
        if width < 1 or dtype not in DTYPES:
            raise ValueError(f"wanted a width of at least 1 and one of {DTYPES}, found {width} and {dtype}")
        self.width, self.dtype, self.budget_bytes = width, dtype, budget_bytes
        self._token_bytes = width * dtype.itemsize
        self._facts = cachedir.encode_facts(identity, width, str(dtype).removeprefix("torch."))
        self._identity = hashlib.sha256(self._facts).digest()
        self._root = folder or cachedir.cache_folder()
        self.folder = self._root / self._identity.hex()
        self.refused = 0
        self.damaged: dict[str, str] = {}
        self._rows: dict[bytes, Row] = {}
        self._writer: Writer | None = None
        self._granted = 0
        self._files = Files()
        weakref.finalize(self, self._files.close)
        self.reason = cachedir.objection(self._root) or cachedir.objection(self.folder, follow_symlinks=False)
        if self.reason is None:
            self._open_segments()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def size(self) -> int:
        """Bytes of the states of all rows that can be read."""
        return sum(row.length for row in self._rows.values()) * self._token_bytes

    def get(self, keys: Sequence[bytes]) -> torch.Tensor | None:
        """States of all `keys` end to end, in their order; a key may occur several times.

        Returns:
            (total tokens, width) in the store's dtype; None when a row is absent or damaged.
        """
        rows = [row for key in keys if (row := self._rows.get(key)) is not None]
        if len(rows) < len(keys):
            return None
        states = torch.empty((sum(row.length for row in rows), self.width), dtype=self.dtype)
        buffer, start, whole = _as_bytes(states), 0, True
        for key, row in zip(keys, rows, strict=True):
            end = start + row.length * self._token_bytes
            whole &= self._read(key, row, buffer[start:end])
            start = end
        return states if whole else None

    def put(self, keys: Sequence[bytes], lengths: Sequence[int], states: torch.Tensor) -> None:
        """Store the rows that are not there yet. They can be read at once, by other processes after `commit`.

        Beyond the budget, or once writing has failed, rows are only counted as refused; `reason` says why.

        Args:
            keys: 16 bytes each.
            lengths: tokens of each row, at least 1.
            states: (total tokens, width), the rows end to end; kept in the store's dtype.

        Raises:
            ValueError: the arguments do not fit together.
        """
        if min(lengths, default=1) < 1 or states.shape != (sum(lengths), self.width):
            raise ValueError(
                f"wanted ({sum(lengths)}, {self.width}) with rows of 1 or more, found {tuple(states.shape)}"
            )
        data = _as_bytes(states.detach().to("cpu", self.dtype).contiguous())
        start = 0
        for key, length in zip(keys, lengths, strict=True):
            end = start + length * self._token_bytes
            if len(key) != KEY_BYTES:
                raise ValueError(f"wanted a key of {KEY_BYTES} bytes, found {len(key)}")
            if key not in self._rows:
                self._append(key, length, data[start:end])
            start = end

    def commit(self) -> None:
        """Make what was put visible to other processes, now and after a crash."""
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        try:
            writer.commit()
        except OSError as error:
            writer.discard()
            self._rows = {key: row for key, row in self._rows.items() if row.path != writer.path}
            self._give_up(error)
        else:
            self._files.adopt(writer.path, writer.descriptor)

    def expect(self, rows: int, tokens: int) -> None:
        """Store nothing (`reason` says why) unless `rows` rows with `tokens` tokens in all fit, kept ones included.

        A batch is spared only when all its rows are known, so a part of them would cost time and help little.
        """
        missing = estimate(rows, tokens, self.width, self.dtype) - self.size
        if missing > 0:
            self.reason = self.refuses(missing)

    def refuses(self, size: int) -> str | None:
        """Why `size` more bytes (see `estimate`) would not be stored, or None when they would."""
        return self.reason or cachedir.shortage(self._root, size, self.budget_bytes, self.folder)

    def _open_segments(self) -> None:
        cachedir.touch(self.folder)
        for path in map(str, cachedir.segments(self.folder)):
            try:
                index = read_index(self._files.descriptor(path), self._identity, self._token_bytes)
            except (OSError, Unusable) as error:
                self._note_damage(path, str(error))
                continue
            columns = (index[name].tolist() for name in ("offset", "length", "checksum"))
            # Later segments win: a row that was damaged has been written again there.
            self._rows.update(zip(index["key"].tolist(), map(Row, repeat(path), *columns), strict=True))

    def _read(self, key: bytes, row: Row, buffer: memoryview) -> bool:
        """Fill the buffer with a row; False, and the row is forgotten, where that fails."""
        try:
            if os.preadv(self._descriptor(row.path), [buffer], row.offset) == len(buffer):
                if row.checksum is None:
                    return True
                if row.checksum == zlib.crc32(buffer):
                    self._rows[key] = row._replace(checksum=None)
                    return True
            problem = "rows do not match their checksums"
        except OSError as error:
            problem = str(error.strerror)
        self._rows.pop(key, None)
        self._note_damage(row.path, problem)
        return False

    def _descriptor(self, path: str) -> int:
        if self._writer is not None and path == self._writer.path:
            return self._writer.descriptor
        return self._files.descriptor(path)

    def _append(self, key: bytes, length: int, data: memoryview) -> None:
        try:
            if not self._admits(len(data) + ENTRY.itemsize):
                self.refused += 1
                return
            if self._writer is None:
                cachedir.prepare(self.folder, self._facts)
                self._writer = Writer(self.folder, self._identity)
            offset, checksum = self._writer.append(key, length, data)
        except OSError as error:
            self._give_up(error)
            self.refused += 1
        else:
            self._rows[key] = Row(self._writer.path, offset, length, checksum)

    def _admits(self, size: int) -> bool:
        """Whether that many bytes may be written; evicts other identities where it must."""
        if self.reason is not None:
            return False
        if self._writer is None:
            size += overhead_bytes(0) + len(self._facts)
        if size > self._granted:
            promised = self._writer.unwritten_bytes if self._writer else 0
            self.reason = self.refuses(size + promised)
            if self.reason is not None:
                return False
            room = cachedir.make_room(self._root, size + promised, self.budget_bytes, self.folder) - promised
            if room < size:
                self.reason = f"{self._root}: no room could be made; `tunesmith cache --clear` frees space"
                return False
            self._granted = min(room, max(size, GRANT_BYTES))
        self._granted -= size
        return True

    def _give_up(self, error: OSError) -> None:
        problem = "the disk is full" if is_disk_full(error) else str(error.strerror)
        self.reason = f"{self.folder}: states cannot be written ({problem}); they are computed where they are needed"

    def _note_damage(self, path: str, problem: str) -> None:
        self.damaged[os.path.basename(path)] = problem


def _as_bytes(states: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor; numpy has no bfloat16, so it goes by way of bytes."""
    return states.view(torch.uint8).numpy().reshape(-1).data
