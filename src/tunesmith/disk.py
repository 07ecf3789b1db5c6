"""What files hold, and making sure that they stay."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from tunesmith.text import json_text

MOST_BYTES = 16 * 2**20
"""Of a file of settings; labels by the hundred thousand fit."""
MOST_LINES_BYTES = 2**33
"""Of a file of rows."""
INFINITE = frozenset({"Infinity", "-Infinity"})
NOT_FINITE = INFINITE | {"NaN"}
"""Numbers that Python writes and JSON has not."""
LEFTOVER = ".tmp"
LINK = "a link, expected the file itself; cp -rL makes a copy of a folder without links"
"""What is said of a link where somebody else may have put one."""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def path_sha256(name: str) -> str | None:
    """SHA-256 of a file; of a folder, over the names and contents of its files; None for what is no local path."""
    root = Path(name)
    if root.is_file():
        return file_sha256(root)
    digest = hashlib.sha256()
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(root)}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest() if root.exists() else None


def read_plain(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file that is no link and has at most `most` bytes; a pipe or a device is not opened.

    Raises:
        OSError: it cannot be read.
        ValueError: it is something else, or too large.
    """
    if stat.S_ISLNK(os.lstat(path).st_mode):
        raise ValueError(LINK)
    # What took its place since then is not followed either, and a pipe without a writer does not block.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"more than {most:,} bytes")
    return content


def read_json(path: Path, most: int = MOST_BYTES, depth: int = 64, constants: Collection[str] = ()) -> Any:
    """The value of a JSON file that somebody else may have written; see also `parse_json`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, too large, or no such JSON.
    """
    return parse_json(read_plain(path, most), depth, constants)


def parse_json(content: str | bytes, depth: int = 64, constants: Collection[str] = ()) -> Any:
    """The value of a JSON text in UTF-8, without a key that stands twice, or more than `depth` levels.

    Args:
        constants: those of `NOT_FINITE` that are let through.

    Raises:
        ValueError: what is wrong.
    """

    def constant(name: str) -> float:
        if name not in constants:
            raise ValueError(f"{name} is not JSON")
        return float(name)

    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [value]
    for _ in range(depth):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, dict | list)]
        if not level:
            return value
    raise ValueError(f"nested more than {depth} levels deep")


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key[:100]!r} stands twice in one object")
        found[key] = value
    return found


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of another in one step, on disk before it does; nothing stays of half a file.

    It is the user's alone (0600), and has a name that cannot be guessed until then; a link in its place is replaced,
    not followed.
    """
    descriptor, name = tempfile.mkstemp(LEFTOVER, f".{path.name}.", path.parent)
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
        sync(path.parent)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def remove_leftovers(folder: Path) -> None:
    """What `replacing`, and the writer of safetensors, left in a folder and in those below when they were killed."""
    for path in [*folder.rglob(f".*.*{LEFTOVER}"), *folder.rglob(".tmp??????")]:
        with suppress(OSError):
            path.unlink()


@contextmanager
def private() -> Iterator[None]:
    """Files and folders that are made meanwhile, by whatever library, are the user's alone (0600, 0700)."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def make_folder(path: Path) -> None:
    """Make a folder that is the user's alone (0700), and those above it that are missing; their names are on disk."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step; a lone surrogate, which UTF-8 cannot hold, becomes a question mark."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", errors="replace"))


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line; the file is replaced in one step."""
    make_folder(path.parent)
    with replacing(path) as file:
        for row in rows:
            file.write(f"{json_text(row)}\n".encode())


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """What `write_json_lines` wrote, or a process line by line; half a line at the end, of a killed one, is dropped.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, or a line, which is named, is no object.
    """
    *lines, _ = read_plain(path, MOST_LINES_BYTES).split(b"\n")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = parse_json(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number}: expected an object, found {type(row).__name__}")
        rows.append(row)
    return rows


def sync(path: str | Path) -> None:
    """Let a file, or the names in a folder, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
