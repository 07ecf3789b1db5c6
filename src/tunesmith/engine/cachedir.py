"""The folder of all stored states: where it is, what is in it, and how it is kept within its budget. Knows no torch.

states/<sha256 of facts.json>/facts.json     what determines the states; its time of change is that of the last use
                             /<name>.states  segments (see `tunesmith.engine.segment`)
                             /.<name>.unsealed   a segment that is being written
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunesmith.engine.segment import SUFFIX, UNSEALED_SUFFIX, Unusable, is_abandoned, read_footer

FACTS = "facts.json"
STORE_NAME = re.compile("[0-9a-f]{64}")
FREE_BYTES, FREE_SHARE = 2**30, 0.05
"""The smaller of these two is left free on the disk."""


def cache_folder() -> Path:
    """``states`` in ``$TUNESMITH_CACHE``, else in ``$XDG_CACHE_HOME/tunesmith``, else in ``~/.cache/tunesmith``."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    base = os.environ.get("TUNESMITH_CACHE") or os.path.join(caches, "tunesmith")
    return Path(os.path.expanduser(base)).absolute() / "states"


def objection(folder: Path, follow_symlinks: bool = True) -> str | None:
    """Why a folder must not be used, or None when it may be (or may be made)."""
    if "~" in folder.parts:
        return f"{folder}: the home folder is not known; name a folder in TUNESMITH_CACHE"
    try:
        facts = folder.stat(follow_symlinks=follow_symlinks)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{folder}: cannot be used ({error.strerror}); name another folder in TUNESMITH_CACHE"
    if not stat.S_ISDIR(facts.st_mode):
        return f"{folder}: is not a folder; remove it, or name another folder in TUNESMITH_CACHE"
    if facts.st_uid != os.geteuid() or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return (
            f"{folder}: belongs to another user, or others may write to it; "
            f"chmod 700 it, or name another folder in TUNESMITH_CACHE"
        )
    return None


@dataclass(frozen=True)
class Stored:
    """The states of one identity, on disk.

    Attributes:
        folder: where they are.
        bytes: of all files, those that are being written among them.
        evictable_bytes: of the committed segments.
        last_used: seconds since the epoch; 0 where it is not known.
    """

    folder: Path
    bytes: int
    evictable_bytes: int
    last_used: float

    def to_dict(self) -> dict[str, Any]:
        """Facts for the user; ``identity``, ``width`` and ``dtype`` are None where they cannot be read."""
        facts = read_facts(self.folder) or {}
        return {
            "id": self.folder.name,
            **{key: facts.get(key) for key in ("identity", "width", "dtype")},
            "rows": sum(_count_rows(path) for path in segments(self.folder)),
            "bytes": self.bytes,
            "last_used": datetime.fromtimestamp(self.last_used, UTC).isoformat(timespec="seconds"),
        }


def stores(root: Path) -> list[Stored]:
    """What the cache folder holds, least recently used first."""
    return sorted(map(_measure, _store_folders(root)), key=lambda store: store.last_used)


def segments(folder: Path) -> list[Path]:
    """Committed segments of one identity, oldest first."""
    return sorted(Path(entry.path) for entry in _files(folder) if entry.name.endswith(SUFFIX))


def encode_facts(identity: Mapping[str, Any], width: int, dtype: str) -> bytes:
    """The content of ``facts.json``, the same for equal facts; its sha256 names the folder."""
    facts = {"identity": dict(identity), "width": width, "dtype": dtype}
    return json.dumps(facts, sort_keys=True, indent=1).encode()


def read_facts(folder: Path) -> dict[str, Any] | None:
    """The facts of an identity, or None where they are missing or are not those that name the folder."""
    with suppress(OSError):
        content = (folder / FACTS).read_bytes()
        if hashlib.sha256(content).hexdigest() == folder.name:
            return dict(json.loads(content))
    return None


def prepare(folder: Path, facts: bytes) -> None:
    """Make the folder of an identity, for this user alone.

    Raises:
        OSError: it cannot be made.
    """
    for path in (folder.parent, folder):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if read_facts(folder) is None:
        descriptor = os.open(folder / FACTS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:
            file.write(facts)


def touch(folder: Path) -> None:
    """Note that an identity is used now."""
    with suppress(OSError):
        os.utime(folder / FACTS, follow_symlinks=False)


def shortage(root: Path, size: int, budget_bytes: int, keep: Path) -> str | None:
    """Why `size` more bytes cannot be stored, whatever is evicted (all identities but `keep`), or None.

    Args:
        budget_bytes: limit on the bytes of the whole folder.
    """
    found = stores(root)
    evictable = sum(store.evictable_bytes for store in found if store.folder != keep)
    try:
        within_budget, on_disk = (room + evictable for room in _rooms(root, budget_bytes, found))
    except OSError as error:
        return f"{root}: cannot be used ({error.strerror}); name another folder in TUNESMITH_CACHE"
    if not os.access(_existing(root), os.W_OK | os.X_OK):
        return f"{root}: cannot be written to; name another folder in TUNESMITH_CACHE"
    if size > within_budget:
        left = f"{size_text(max(0, within_budget))} of the budget of {size_text(budget_bytes)}"
        advice = "raise it with --set engine.cache_gigabytes=GIGABYTES"
    elif size > on_disk:
        left = f"{size_text(max(0, on_disk))} of the disk"
        advice = "free some, or name another folder in TUNESMITH_CACHE"
    else:
        return None
    return f"{root}: {size_text(size)} of states do not fit, {left} can be used; {advice}"


def make_room(root: Path, size: int, budget_bytes: int, keep: Path) -> int:
    """Evict identities, the least recently used first, until `size` bytes may be written or only `keep` is left.

    Returns:
        Bytes that may be written.

    Raises:
        OSError: the disk cannot be looked at.
    """
    for folder in _store_folders(root):
        _remove_abandoned(folder)
    found = stores(root)
    others = [store for store in found if store.folder != keep]
    while (room := min(_rooms(root, budget_bytes, found))) < size and others:
        remove(others.pop(0).folder)
        found = stores(root)
    return room


def remove(folder: Path) -> list[str]:
    """Remove the states of one identity, but not what a live process is writing; returns the names of what is left."""
    _remove_abandoned(folder)
    for path in segments(folder):
        with suppress(OSError):
            path.unlink()
    with suppress(OSError):
        if os.listdir(folder) == [FACTS]:
            (folder / FACTS).unlink()
        folder.rmdir()
        return []
    with suppress(OSError):
        return sorted(set(os.listdir(folder)) - {FACTS}) or [FACTS]
    return []


@dataclass(frozen=True)
class Cleared:
    """What was removed.

    Attributes:
        stores, bytes: number of identities that are gone, and bytes freed.
        left: names of what was left alone: not of the cache, in use by a running process, or not removable.
    """

    stores: int
    bytes: int
    left: list[str]

    def to_dict(self) -> dict[str, Any]:
        return {"removed": self.stores, "bytes": self.bytes, "left": self.left}


def clear(root: Path) -> Cleared:
    """Remove all stored states, and the folder itself if nothing else is in it."""
    before = stores(root)
    left = [f"{store.folder.name}/{name}" for store in before for name in remove(store.folder)]
    after = stores(root)
    with suppress(OSError):
        left += set(os.listdir(root)) - {store.folder.name for store in after}
        root.rmdir()
    freed = sum(store.bytes for store in before) - sum(store.bytes for store in after)
    return Cleared(len(before) - len(after), freed, sorted(left))


def size_text(size: float) -> str:
    """``"1.5 GB"``: powers of 1,000."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


def _rooms(root: Path, budget_bytes: int, found: list[Stored]) -> tuple[int, int]:
    """Bytes that may still be written: within the budget, and on the disk."""
    disk = shutil.disk_usage(_existing(root))
    to_leave = min(FREE_BYTES, int(disk.total * FREE_SHARE))
    return budget_bytes - sum(store.bytes for store in found), disk.free - to_leave


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if os.path.exists(path))


def _store_folders(root: Path) -> list[Path]:
    with suppress(OSError), os.scandir(root) as entries:
        return [Path(e.path) for e in entries if STORE_NAME.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
    return []


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(folder) as entries:
        yield from (entry for entry in entries if entry.is_file(follow_symlinks=False))


def _measure(folder: Path) -> Stored:
    sizes, last_used = {}, 0.0
    for entry in _files(folder):
        with suppress(OSError):  # another process removed it meanwhile
            facts = entry.stat(follow_symlinks=False)
            sizes[entry.name] = facts.st_size
            if entry.name == FACTS:
                last_used = facts.st_mtime
    evictable = sum(size for name, size in sizes.items() if name.endswith(SUFFIX))
    return Stored(folder, sum(sizes.values()), evictable, last_used)


def _count_rows(path: Path) -> int:
    with suppress(OSError, Unusable), path.open("rb") as file:
        return read_footer(file.fileno())[1]
    return 0


def _remove_abandoned(folder: Path) -> None:
    for entry in list(_files(folder)):
        if entry.name.endswith(UNSEALED_SUFFIX) and is_abandoned(entry.path):
            with suppress(OSError):
                os.unlink(entry.path)
