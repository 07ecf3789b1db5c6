"""Token states by content, on disk, so that frozen layers run once per text: for all epochs, seeds, methods and runs.

states/<sha256 of the facts>.sqlite   one store: rows of states by key, and what determines them (the facts)

It is a cache in the strict sense: whatever goes wrong with it (damage, a full disk, a folder that cannot be used), rows
are absent, the reason can be read, and the caller computes them. Every row has a checksum over the facts, its key and
its states, so nothing that is returned is ever wrong. Rows wait in memory and are written some 32 MB at a time, in one
short transaction, so that several processes can write to one store. Loads no torch unless states are read or written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import stat
import weakref
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.filesize import decimal

from tunesmith.errors import is_disk_full

if TYPE_CHECKING:
    import torch

STORE_NAME = re.compile(r"[0-9a-f]{64}\.sqlite")
TABLE = """CREATE TABLE IF NOT EXISTS rows
(key BLOB PRIMARY KEY, tokens INTEGER NOT NULL, checksum INTEGER NOT NULL, states BLOB NOT NULL)"""
FACTS = b""
"""The key of the row that holds what determines the states."""
PAGE_BYTES, ROW_BYTES, FILE_BYTES = 4096, 100, 8 * 4096
"""Of a page of the file; of what a row takes beside its states (its key twice, the index, the heading); of what a file
takes beside its rows (the facts, and pages that are not full)."""
BLOCK_BYTES = 32 * 2**20
"""How much waits in memory until it is written; the disk and the folder are measured again each time."""
DAMAGE = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT)
"""What SQLite says of a file whose content is not what was written."""
WAIT_SECONDS = 5
"""For another process that writes; then rows are absent, or are not kept."""
FREE_BYTES, FREE_SHARE = 2**30, 0.05
"""The smaller of these two is left free on the disk."""


def cache_folder() -> Path:
    """``states`` in ``$TUNESMITH_CACHE``, else in ``$XDG_CACHE_HOME/tunesmith``, else in ``~/.cache/tunesmith``."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    base = os.environ.get("TUNESMITH_CACHE") or os.path.join(caches, "tunesmith")
    return Path(os.path.expanduser(base)).absolute() / "states"


def objection(path: Path, is_store: bool = False) -> str | None:
    """Why the cache folder, or the file of a store in it, must not be used; None when it may be (or may be made)."""
    if "~" in path.parts:
        return f"{path}: the home folder is not known; name a folder in TUNESMITH_CACHE"
    try:  # what the user named may be a link, what is made in it is none; its owner could exchange that
        owner, facts = path.parent.stat().st_uid, path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{path}: cannot be used ({error.strerror}); name another folder in TUNESMITH_CACHE"
    kind, is_kind, mode = ("file", stat.S_ISREG, 600) if is_store else ("folder", stat.S_ISDIR, 700)
    if not is_kind(facts.st_mode):
        return f"{path}: is not a {kind}; remove it, or name another folder in TUNESMITH_CACHE"
    foreign = owner not in (os.geteuid(), 0) or facts.st_uid != os.geteuid()
    if foreign or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = "belongs to another user, or others may write to it"
        return f"{path}: {problem}; chmod {mode} it, or name another folder in TUNESMITH_CACHE"
    return None


@dataclass(frozen=True)
class Stored:
    """One store on disk; `last_used` in seconds since the epoch."""

    path: Path
    bytes: int
    last_used: float

    def to_dict(self) -> dict[str, Any]:
        """Facts for the user; ``identity``, ``width`` and ``dtype`` are None where they cannot be read."""
        facts, rows = {}, 0
        with suppress(sqlite3.Error), closing(_connect(self.path)) as connection:
            query = "SELECT states, (SELECT COUNT(*) - 1 FROM rows) FROM rows WHERE key = ?"
            # A store that another process has just made has no rows yet.
            content, rows = connection.execute(query, [FACTS]).fetchone() or (b"", 0)
            if hashlib.sha256(content).hexdigest() == self.path.stem:
                facts = json.loads(content)
        used = datetime.fromtimestamp(self.last_used, UTC).isoformat(timespec="seconds")
        known = {key: facts.get(key) for key in ("identity", "width", "dtype")}
        return {"id": self.path.stem, **known, "rows": rows, "bytes": self.bytes, "last_used": used}


def stores(root: Path) -> list[Stored]:
    """What the cache folder holds, least recently used first."""
    found = []
    for path in root.glob("*.sqlite"):
        with suppress(OSError):  # another process removed it meanwhile
            facts = path.lstat()
            if STORE_NAME.fullmatch(path.name) and stat.S_ISREG(facts.st_mode):
                found.append(Stored(path, facts.st_size, facts.st_mtime))
    return sorted(found, key=lambda store: store.last_used)


def _remove(store: Path) -> None:
    for name in (store.name, store.name + "-journal"):  # the second is SQLite's own while it writes
        with suppress(OSError):
            store.with_name(name).unlink()


def clear(root: Path) -> dict[str, Any]:
    """Remove all stores, and the folder if nothing else is in it; their number, their bytes, names of what is left."""
    before = stores(root)
    for store in before:
        _remove(store.path)
    after, left = stores(root), []
    with suppress(OSError):
        left = sorted(os.listdir(root))
        root.rmdir()
    freed = sum(store.bytes for store in before) - sum(store.bytes for store in after)
    return {"removed": len(before) - len(after), "bytes": freed, "left": left}


def estimate(rows: int, tokens: int, width: int, dtype: torch.dtype) -> int:
    """Bytes on disk of `rows` rows of equal size with `tokens` tokens in all."""
    return FILE_BYTES + rows * _row_bytes(tokens * width * dtype.itemsize // max(1, rows))


def _row_bytes(size: int) -> int:
    """What a row with `size` bytes of states takes: its share of a page, or pages of its own and a share of another."""
    size += ROW_BYTES
    return size + 4 * ROW_BYTES if size > PAGE_BYTES else PAGE_BYTES // (PAGE_BYTES // size)


@dataclass(frozen=True)
class Budget:
    """Disk space for states.

    Attributes:
        bytes: of all stores together; 0 keeps nothing.
        name: what the user calls it.
        expected: texts and tokens that will come by in all, None where that is not known. If they, kept ones included,
            would not all fit, none are stored: a batch is spared only when all its texts are known.
    """

    bytes: int
    name: str = "prefix_bytes"
    expected: tuple[int, int] | None = None


class StateStore:
    """Token states by key. Not for several threads at once; any number of processes may share the folder.

    Args:
        identity: what determines the states besides the text; values that JSON can hold.
        width: values per token.
        budget: for its sake other stores are evicted, the least recently used first.
        folder: of all stores, by default `cache_folder()`. It is made when something is written.
        still_true: asked before rows are written; where it says no, those that wait are dropped.

    Attributes:
        reason: why nothing is stored (any more), or None.
    """

    def __init__(
        self,
        identity: Mapping[str, Any],
        width: int,
        dtype: torch.dtype,
        budget: Budget,
        folder: Path | None = None,
        still_true: Callable[[], bool] = lambda: True,
    ) -> None:
        self.width, self.dtype, self.budget, self._still_true = width, dtype, budget, still_true
        facts = {"identity": dict(identity), "width": width, "dtype": str(dtype).removeprefix("torch.")}
        self._facts = json.dumps(facts, sort_keys=True).encode()
        self._root = (folder or cache_folder()).absolute()
        self.path = self._root / (hashlib.sha256(self._facts).hexdigest() + ".sqlite")
        self._waiting: dict[bytes, tuple[int, int, bytes]] = {}
        self._waiting_bytes = 0
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self.reason = objection(self._root) or objection(self.path, is_store=True)
        self._usable = self.reason is None
        with suppress(OSError):
            os.utime(self.path, follow_symlinks=False)
        if budget.expected is not None:
            missing = estimate(*budget.expected, width, dtype) - self.size
            self.reason = self.refuses(missing) if missing > 0 else self.reason

    @property
    def size(self) -> int:
        """Bytes of the states of all rows."""
        written = next((int(row[0]) for row in self._select("TOTAL(tokens) FROM rows")), 0)
        return (written + sum(row[0] for row in self._waiting.values())) * self.width * self.dtype.itemsize

    def keys(self) -> set[bytes]:
        """Of all rows on disk."""
        return {key for (key,) in self._select("key FROM rows")} - {FACTS}

    def get(self, keys: Sequence[bytes]) -> torch.Tensor | None:
        """States of all `keys` end to end, in their order; a key may occur several times.

        Returns:
            (total tokens, width) in the store's dtype; None when a row is absent or damaged.
        """
        import torch

        different = list(dict.fromkeys(keys))
        places = ", ".join("?" * len(different))
        found = self._select(f"key, tokens, checksum, states FROM rows WHERE key IN ({places})", different)
        rows = self._waiting | {key: row for key, *row in found}
        if any(key not in rows for key in different):
            return None
        states = torch.empty((sum(rows[key][0] for key in keys), self.width), dtype=self.dtype)
        buffer, start = _as_bytes(states), 0
        for key in keys:
            tokens, checksum, content = rows[key]
            end = start + tokens * self.width * self.dtype.itemsize
            if len(content) != end - start or self._checksum(key, content) != checksum:
                with suppress(OSError, sqlite3.Error):  # damaged
                    self._connect().execute("DELETE FROM rows WHERE key = ?", [key])
                return None
            buffer[start:end] = content
            start = end
        return states

    def put(self, keys: Sequence[bytes], lengths: Sequence[int], states: torch.Tensor) -> None:
        """Store the rows that are not there yet: `states` (total tokens, width) end to end, `lengths` tokens of each.

        They can be read at once, by other processes after `commit`.
        """
        assert states.shape == (sum(lengths), self.width) and len(keys) == len(lengths)
        if self.reason is not None:
            return
        data, start = _as_bytes(states.detach().to("cpu", self.dtype).contiguous()), 0
        for key, length in zip(keys, lengths, strict=True):
            end = start + length * self.width * self.dtype.itemsize
            if key not in self._waiting:
                content = bytes(data[start:end])
                self._waiting[key] = (length, self._checksum(key, content), content)
                self._waiting_bytes += _row_bytes(end - start)
            start = end
        if self._waiting_bytes >= BLOCK_BYTES:
            self.commit()

    def commit(self) -> None:
        """Make what was put visible to other processes, now and after a crash."""
        waiting, self._waiting = self._waiting, {}
        needed, self._waiting_bytes = self._waiting_bytes + FILE_BYTES, 0
        if not waiting or not self._still_true():
            return
        self.reason = self.refuses(needed)
        if self.reason is None:
            for store in stores(self._root):
                if store.path != self.path and min(self._rooms()) < needed:
                    _remove(store.path)
            self._write(waiting)

    def refuses(self, size: int) -> str | None:
        """Why `size` more bytes (see `estimate`) would not be stored, whatever is evicted, or None when they would."""
        if self.reason is not None:
            return self.reason
        evictable = sum(store.bytes for store in stores(self._root) if store.path != self.path)
        budget = f"budget of {decimal(self.budget.bytes)}", f"raise {self.budget.name}"
        disk = "disk", "free some, or name another folder in TUNESMITH_CACHE"
        for room, (place, advice) in zip(self._rooms(), (budget, disk), strict=True):
            if size > room + evictable:
                left = f"{decimal(max(0, room + evictable))} of the {place} can be used"
                return f"{self._root}: {decimal(size)} of states do not fit, {left}; {advice}"
        return None

    def _rooms(self) -> tuple[int, int]:
        """Bytes that may still be written: within the budget, and on the disk."""
        disk = shutil.disk_usage(next(path for path in (self._root, *self._root.parents) if os.path.exists(path)))
        to_leave = min(FREE_BYTES, int(disk.total * FREE_SHARE))
        return self.budget.bytes - sum(store.bytes for store in stores(self._root)), disk.free - to_leave

    def _write(self, waiting: dict[bytes, tuple[int, int, bytes]], once_more: bool = True) -> None:
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.path.exists():
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
            connection = self._connect()
            pages = (self.path.stat().st_size + max(0, min(self._rooms()))) // PAGE_BYTES
            connection.execute(f"PRAGMA max_page_count = {pages}")  # what a row takes is an estimate, this is a limit
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(TABLE)
                rows = [(FACTS, 0, 0, self._facts), *((key, *row) for key, row in waiting.items())]
                connection.executemany("INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?)", rows)
        except (OSError, sqlite3.Error) as error:
            if _code(error) in DAMAGE and once_more:
                self._disconnect()
                _remove(self.path)
                return self._write(waiting, once_more=False)
            full = is_disk_full(error) or _code(error) == sqlite3.SQLITE_FULL
            problem = "the disk or the budget is full" if full else error
            self.reason = f"{self.path}: states cannot be written ({problem}); they are computed where needed"

    def _select(self, query: str, values: Sequence[bytes] = ()) -> list[tuple[Any, ...]]:
        """What a query finds; nothing where the file is absent or cannot be read. A damaged file is removed."""
        try:
            return self._connect().execute(f"SELECT {query}", values).fetchall() if self._usable else []
        except (OSError, sqlite3.Error) as error:
            if _code(error) in DAMAGE and "no such table" not in str(error):  # another process is just making them
                self._disconnect()
                _remove(self.path)
            return []

    def _connect(self) -> sqlite3.Connection:
        """To the file that has the store's name now; where it is gone, to the one that had it."""
        if self._connection is None or self.path.exists():
            inode = self.path.stat().st_ino
            if inode != self._inode:  # SQLite finds its journal by name, so the old one must not be used any more
                self._disconnect()
                self._connection, self._inode = _connect(self.path), inode
                weakref.finalize(self, self._connection.close)
        return cast(sqlite3.Connection, self._connection)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._inode = None, 0

    def _checksum(self, key: bytes, content: bytes) -> int:
        return zlib.crc32(content, zlib.crc32(key, zlib.crc32(self._facts)))


def _connect(path: Path) -> sqlite3.Connection:
    name = f"{path.as_uri()}?mode=rw"  # waits for another process that writes
    connection = sqlite3.connect(name, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False, uri=True)
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _code(error: Exception) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _as_bytes(states: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor; numpy has no bfloat16, so it goes by way of bytes."""
    import torch

    return states.view(torch.uint8).numpy().reshape(-1).data
