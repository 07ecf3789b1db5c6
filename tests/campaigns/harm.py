"""Ways to damage a file: bytes lost or flipped, something else in its place, valid JSON with odd values."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ODD: list[Any] = [None, True, -1, 0, 10**30, 1e308, "", "x", "../../x", [], [[]], {}, {"a": {}}, [1, "a", None]]
"""Valid JSON that hardly any key should have."""


def _missing(path: Path, chance: random.Random) -> str:
    path.unlink()
    return "missing"


def _empty(path: Path, chance: random.Random) -> str:
    os.truncate(path, 0)
    return "empty"


def _cut(path: Path, chance: random.Random) -> str:
    size = chance.randrange(path.stat().st_size)
    os.truncate(path, size)
    return f"cut at {size}"


def _flip(path: Path, chance: random.Random) -> str:
    content = bytearray(path.read_bytes())
    place, bit = chance.randrange(len(content)), chance.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {place} flipped"


def _zeros(path: Path, chance: random.Random) -> str:
    content = bytearray(path.read_bytes())
    begin = chance.randrange(len(content))
    content[begin : begin + 4096] = bytes(len(content[begin : begin + 4096]))
    path.write_bytes(content)
    return f"zeros from byte {begin}"


def _longer(path: Path, chance: random.Random) -> str:
    path.write_bytes(path.read_bytes() + b"\0" * chance.choice([1, 8, 4096]))
    return "longer"


def _instead(make: Callable[[Path], Any], said: str) -> Callable[[Path, random.Random], str]:
    def damage(path: Path, chance: random.Random) -> str:
        path.rename(path.parent.parent / f"{path.name}.elsewhere")
        make(path)
        return said

    return damage


BYTES: dict[str, Callable[[Path, random.Random], str]] = {
    "missing": _missing,
    "empty": _empty,
    "cut": _cut,
    "flip": _flip,
    "zeros": _zeros,
    "longer": _longer,
    "link": _instead(lambda path: path.symlink_to(path.parent.parent / f"{path.name}.elsewhere"), "a link to itself"),
    "device": _instead(lambda path: path.symlink_to("/dev/zero"), "a link to /dev/zero"),
    "pipe": _instead(os.mkfifo, "a pipe"),
    "folder": _instead(Path.mkdir, "a folder"),
}
"""By name: what is done to a file; returns what it was."""


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def leaves(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to every value of a tree, inner ones too."""
    if at:
        yield at
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inside:
        yield from leaves(value, (*at, key))


def odd_json(path: Path, chance: random.Random) -> str:
    """Another value, or another name, at some key of a JSON file."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    return write(path, *oddly(tree, chance))


def write(path: Path, tree: Any, said: str) -> str:
    path.write_text(json.dumps(tree), encoding="utf-8")
    return said


def oddly(tree: Any, chance: random.Random) -> tuple[Any, str]:
    """The tree with something odd in it, and what that is."""
    ways = list(leaves(tree))
    # A list of a hundred numbers should not be all that is tried.
    by_depth: dict[int, list[tuple[Any, ...]]] = {}
    for way in ways:
        by_depth.setdefault(len(way), []).append(way)
    way = chance.choice(by_depth[chance.choice(sorted(by_depth))]) if ways else ()
    where = ".".join(map(str, way)) or "all of it"
    what = chance.choice(["value", "value", "value", "value", "gone", "more"])
    if not way:
        value = chance.choice(ODD)
        return value, f"{where} = {value!r}"
    part = tree
    for key in way[:-1]:
        part = part[key]
    if what == "gone":
        del part[way[-1]]
        return tree, f"{where} gone"
    if what == "more" and isinstance(part, dict):
        part["surprise"] = chance.choice(ODD)
        return tree, f"{where} beside a surprise"
    value = chance.choice([one for one in ODD if one != part[way[-1]]])
    part[way[-1]] = value
    return tree, f"{where} = {value!r}"


def replace(path: Path, other: Path) -> str:
    """The same file of another checkpoint or run."""
    shutil.copyfile(other, path)
    return f"that of {other.parent.name}"
