"""A disk that forgets: what lies on it after a power cut, by the calls that a run made and what it had synced."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.campaigns.tracing import OPENS, RENAMES, SYNCS, Call

Keeps = Literal["synced", "names", "some"]
"""What a power cut leaves: what was synced; all names, but of the contents only what was synced; a part of both."""


@dataclass
class File:
    """A file: what a program reads, and what is on the disk for certain."""

    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


@dataclass
class Folder:
    """A folder: the names that a program sees, and those that are on the disk for certain."""

    names: dict[str, File | Folder] = field(default_factory=dict)
    synced: dict[str, File | Folder] = field(default_factory=dict)


class Disk:
    """The folder of a run on a disk that keeps for certain only what was synced: a file's bytes, a folder's names."""

    def __init__(self, root: Path) -> None:
        self._root, self._top = root, Folder()

    def apply(self, calls: Iterable[Call]) -> None:
        """Do what the calls of a recording did."""
        for call in calls:
            self._apply(call)

    def _apply(self, call: Call) -> None:
        folder, name = self._place(call.path)
        found = self._top if not name else folder.names.get(name) if folder else None
        if call.name in SYNCS.values():
            if isinstance(found, File):
                found.synced = bytes(found.data)
            elif found is not None:
                found.synced = dict(found.names)
        elif folder is None:
            return  # of another folder
        elif call.name in OPENS:
            self._open(folder, name, call)
        elif call.name.startswith("mkdir"):
            folder.names.setdefault(name, Folder())
        elif call.name in RENAMES:
            target, new = self._place(call.other)
            if found is not None and target is not None:
                del folder.names[name]
                target.names[new] = found
        elif call.name in ("unlink", "unlinkat", "rmdir"):
            folder.names.pop(name, None)
        elif isinstance(found, File):
            _write(found, call)

    def _open(self, folder: Folder, name: str, call: Call) -> None:
        found = folder.names.get(name)
        if found is None and call.flags & os.O_CREAT:
            folder.names[name] = File()
        elif isinstance(found, File) and call.flags & os.O_TRUNC:
            found.data.clear()

    def _place(self, path: str) -> tuple[Folder | None, str]:
        """The folder that a path lies in, and its name there; an empty name: the top itself."""
        if not path.startswith(str(self._root)):
            return None, "?"
        folder: File | Folder | None = self._top
        *parents, name = Path(path).relative_to(self._root).parts or ("",)
        for parent in parents:
            folder = folder.names.get(parent) if isinstance(folder, Folder) else None
        return (folder if isinstance(folder, Folder) else None), name

    def leave(self, folder: Path, keeps: Keeps, draw: random.Random) -> None:
        """Write what a power cut leaves into a folder."""
        _leave(self._top, folder, keeps, draw)


def _write(file: File, call: Call) -> None:
    if call.name == "ftruncate":
        del file.data[call.offset :]
        file.data.extend(bytes(call.offset - len(file.data)))
        return
    if call.size and not call.data:
        raise NotImplementedError(f"{call}: its bytes are not known")
    file.data.extend(bytes(max(0, call.offset - len(file.data))))
    file.data[call.offset : call.offset + len(call.data)] = call.data


def _leave(top: Folder, folder: Path, keeps: Keeps, draw: random.Random) -> None:
    names = top.synced if keeps == "synced" or (keeps == "some" and draw.random() < 0.5) else top.names
    for name, found in sorted(names.items()):
        path = folder / name
        if isinstance(found, Folder):
            path.mkdir(0o700)
            _leave(found, path, keeps, draw)
        else:
            whole = keeps == "some" and draw.random() < 0.5
            kept = bytes(found.data) if whole else found.synced
            path.write_bytes(kept[: len(kept) // 2] if whole and draw.random() < 0.5 and kept != found.synced else kept)
            path.chmod(0o600)
