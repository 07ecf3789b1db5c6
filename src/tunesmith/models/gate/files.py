"""Which files a folder may hold, and how they are read: plain ones, bounded, inside the folder."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from tunesmith.disk import INFINITE, LINK, parse_json

CONFIG = "config.json"
MOST_ENTRIES = 10_000
MOST_BYTES = 64 * 2**20
"""Of a file that is read whole: above the largest tokenizer that is published (35 MB)."""
MOST_SETTINGS = 16 * 2**20
"""Of a configuration; labels by the hundred thousand fit."""
READ_WHOLE = frozenset({"", ".bpe", ".jinja", ".json", ".model", ".tiktoken", ".txt", ".vocab"})
"""Endings of what a library reads into memory. Others (``.md``, ``.onnx``, ``.bin`` beside safetensors) it leaves
alone, and so they are no harm: an honest model may come with them."""
UNREAD = frozenset({"seen.txt", "LICENSE", "LICENCE", "NOTICE", "README", "USE_POLICY", ".gitattributes"})
"""Files with such an ending that no library reads; `tunesmith.models.seen` has limits of its own."""
REFUSED = {
    "adapter_config.json": "an adapter in the folder of a model, which libraries load without a word, with the model "
    "that it names; move it into a folder of its own",
    ".metadata": "the index of a training checkpoint, which is read as code; give the exported model",
}
DISTRIBUTED = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
HUB_CACHE = re.compile(r"(models|datasets|spaces)--.+")


@dataclass(frozen=True)
class Inside:
    """The entries of a folder by name, each with the file that is read for it.

    Attributes:
        folder: where they are.
        prefix: of names in messages, for a folder inside that of the model.
        paths: name → file, for regular files that may be read.
        folders: names of folders.
        problems: what is neither.
        stamp: changes when any of them does.
    """

    folder: Path
    prefix: str
    paths: Mapping[str, Path]
    folders: frozenset[str]
    problems: tuple[str, ...]
    stamp: tuple[Any, ...]

    def shown(self, name: str) -> str:
        return f"{self.prefix}{name}"

    def json(self, name: str, most: int = MOST_SETTINGS) -> Any:
        """The value of a JSON file of it; None if there is none.

        Raises:
            ValueError: it is none, with the name in the message.
        """
        if name not in self.paths:
            return None
        try:
            # Those of Mamba-2 write "time_step_limit": [0.0, Infinity]; where a size is infinite, `settings` says so.
            return parse_json(self.read(name, most), constants=INFINITE if name == CONFIG else ())
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{self.shown(name)}: {' '.join(str(error).split())[:200]}; save the model again"
            ) from None

    def read(self, name: str, most: int) -> bytes:
        """The content of a file, at most so many bytes.

        Raises:
            OSError, ValueError: it cannot be read, or is too large.
        """
        with open(self.paths[name], "rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise ValueError(f"more than {most:,} bytes")
        return content


def look(folder: Path, prefix: str = "") -> Inside:
    """What is in a folder, without reading or following anything.

    A snapshot in the Hub's cache is made of links into its repository's own folder, which are followed; no others are.
    """
    paths: dict[str, Path] = {}
    folders, problems, stamps = set(), [], []
    try:
        entries = _entries(folder)
    except OSError as error:
        return Inside(folder, prefix, {}, frozenset(), (f"{prefix or folder}: cannot be read ({error.strerror})",), ())
    if len(entries) > MOST_ENTRIES:
        problems.append(f"{prefix}: more than {MOST_ENTRIES:,} files; give a folder with nothing but the model")
    for entry in entries[:MOST_ENTRIES]:
        facts = entry.stat(follow_symlinks=False)
        path = Path(entry.path)
        if stat.S_ISLNK(facts.st_mode) and (blob := _in_hub_cache(path)) is not None:
            path, facts = blob, blob.stat()
        if stat.S_ISDIR(facts.st_mode) and path.suffix not in (".json", ".safetensors"):
            folders.add(entry.name)
        elif stat.S_ISREG(facts.st_mode):
            paths[entry.name] = path
            stamps.append((entry.name, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns))
            if facts.st_size > MOST_BYTES and _is_read_whole(entry.name):
                problems.append(f"{prefix}{entry.name}: {facts.st_size:,} bytes, expected at most {MOST_BYTES:,}")
        else:
            problems.append(f"{prefix}{entry.name}: {_instead(facts.st_mode)}")
    return Inside(folder, prefix, paths, frozenset(folders), tuple(problems), tuple(sorted(stamps)))


def check_names(inside: Inside) -> Iterator[str]:
    """Problems of a folder that transformers loads: files by which it would load something else than the model."""
    for name, why in REFUSED.items():
        if name in inside.paths or name in inside.folders:
            yield f"{inside.shown(name)}: {why}"
    if shards := sorted(filter(DISTRIBUTED.fullmatch, inside.paths)):
        yield f"{inside.shown(shards[0])}: part of a training checkpoint; give the exported model"


def is_plain(name: Any) -> bool:
    """Whether it is the name of a file in the same folder."""
    return isinstance(name, str) and PurePath(name).parts == (name,) and name not in ("..", "/") and "\\" not in name


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return sorted((entry for entry, _ in zip(found, range(MOST_ENTRIES + 1), strict=False)), key=lambda e: e.name)


def _is_read_whole(name: str) -> bool:
    return PurePath(name).suffix in READ_WHOLE and name not in UNREAD


def _in_hub_cache(link: Path) -> Path | None:
    """The blob that a link of a snapshot stands for: ``models--x--y/snapshots/0a1b/…`` → ``models--x--y/blobs/…``."""
    above = Path(os.path.abspath(link)).parents
    places = [one for one in above if HUB_CACHE.fullmatch(one.name)]
    if not places or "snapshots" not in link.absolute().relative_to(places[0]).parts[:1]:
        return None
    try:
        blob, blobs = Path(os.path.realpath(link, strict=True)), Path(os.path.realpath(places[0])) / "blobs"
        return blob if blob.parent == blobs and stat.S_ISREG(blob.lstat().st_mode) else None
    except OSError:
        return None


def _instead(mode: int) -> str:
    """What stands in the place of a file, and what to do."""
    if stat.S_ISLNK(mode):
        return LINK
    kind = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}.get(
        stat.S_IFMT(mode), "a device"
    )
    return f"{kind}, expected a regular file; put the file itself there"
