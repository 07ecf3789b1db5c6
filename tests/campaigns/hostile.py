"""What the cases of hostile data have in common: what one is, and how files for it are made."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Place = Path | str
Make = Callable[[Path], Place]
Content = str | bytes | Callable[[], str | bytes]
GOOD_ROWS = "text,label\n" + "".join(f"this is text {n} of {n % 7},{'ab'[n % 2]}\n" for n in range(60))
MANY = 100_000
BIG = 3 * 2**30
DATA, EITHER, USAGE = (3,), (0, 3), (2,)
"""Exit codes that are right."""
ODD = {
    "an escape": "\x1b]0;owned\x07\x1b[2J",
    "c1": "\x9b31m\x85",
    "bidi": "\u202egnp.\u2066",
    "line separators": "a\u2028\u2029b",
    "what is not seen": "a\u200b\xadb\ufeff",
}


@dataclass(frozen=True)
class Case:
    """Something to read.

    Attributes:
        make: puts it into a folder; its path, or what is given instead of one.
        wanted: exit codes that are right.
        command: ``check``, ``predict``, ``config`` (it is a configuration) or ``set`` (an assignment).
        arguments: of the command, besides.
        stdin: it is given as standard input.
        says: a pattern of what must be said.
    """

    name: str
    make: Make
    wanted: tuple[int, ...] = DATA
    command: str = "check"
    arguments: tuple[str, ...] = ()
    stdin: bool = False
    says: str = ""

    def __repr__(self) -> str:
        return self.name


def of_each(makes: dict[str, Make], wanted: tuple[int, ...] = DATA, kind: str = "", **more: Any) -> list[Case]:
    """A case for each, by its name."""
    return [Case(f"{kind}{name}", make, wanted, **more) for name, make in makes.items()]


def of_odd(title: str, make: Callable[[str], Make], wanted: tuple[int, ...] = EITHER, **more: Any) -> list[Case]:
    """A case for each odd text."""
    return [Case(f"{kind} in {title}", make(odd), wanted, **more) for kind, odd in ODD.items()]


def text(name: str, content: Content) -> Make:
    """A file with this content, which is made when it is needed."""

    def make(folder: Path) -> Path:
        path, made = folder / name, content() if callable(content) else content
        path.write_bytes(made if isinstance(made, bytes) else made.encode("utf-8", "surrogatepass"))
        return path

    return make


def zipped(name: str, content: Callable[[], bytes]) -> Make:
    return text(name, lambda: gzip.compress(content(), 6))


def holes(name: str, head: str) -> Make:
    """A file of one line that is far longer than what the disk holds of it."""

    def make(folder: Path) -> Path:
        path = folder / name
        path.write_text(head)
        os.truncate(path, BIG)
        return path

    return make


def said(words: str) -> Make:
    """Words instead of a path."""
    return lambda folder: words


def link(name: str, target: str) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).symlink_to(target)
        return folder / name

    return make


def fifo(name: str) -> Make:
    def make(folder: Path) -> Path:
        os.mkfifo(folder / name)
        return folder / name

    return make


def csv(label: str, header: str = "text,label") -> str:
    """A table with an odd label in every fourth row."""
    return header + "\n" + "".join(f"this is a text {n},{'ab'[n % 2] if n % 4 else label}\n" for n in range(60))


def lines(**row: object) -> str:
    """JSON lines that are all the same, but for the text."""
    rows = ({"text": f"this is text {n}", "label": "ab"[n % 2]} | row for n in range(60))
    return "".join(json.dumps(one) + "\n" for one in rows)
