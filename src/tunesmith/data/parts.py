"""Sources that hold splits of their own: a `datasets.DatasetDict`, in memory, saved or on the Hub, and folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tunesmith.data.files import has_known_ending
from tunesmith.data.readers import hub
from tunesmith.data.readers.folder import has_classes
from tunesmith.data.readers.memory import source_name
from tunesmith.errors import DataError
from tunesmith.text import name_list

SAVED = "dataset_dict.json"  # marks a folder made by ``DatasetDict.save_to_disk``
NAMES = {
    "train": ("train", "training"),
    "valid": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing"),
}


class Sources(NamedTuple):
    """What is read for ``"train"`` and perhaps for ``"valid"`` and ``"test"``.

    Attributes:
        own: those of the splits that no one named, but that came with the train rows.
        notes: what the user should know.
    """

    splits: dict[str, object]
    own: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def parts_of(source: object) -> dict[str, object]:
    """What to read for each split that a source holds, by its own names; empty where it is no set of splits."""
    library = sys.modules.get("datasets")
    if library is not None and isinstance(source, library.DatasetDict):
        return {str(name): source[name] for name in sorted(source, key=str)}
    if isinstance(source, str) and source.startswith("hub:"):
        return {name: f"{source}:{name}" for name in hub.split_names(source)}
    if isinstance(source, str | Path) and os.path.isfile(Path(source, SAVED)):
        folders = [entry for entry in sorted(Path(source).iterdir()) if (entry / "state.json").is_file()]
        return {entry.name: str(entry) for entry in folders}
    if isinstance(source, str | Path) and os.path.isdir(source):
        return _parts_of_folder(Path(source))
    return {}


def _parts_of_folder(folder: Path) -> dict[str, object]:
    """The files of a folder that are called as splits, or its subfolders that are and have a subfolder per class.

    Raises:
        DataError: two files are called as one split.
    """
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    called = {entry: entry.name.partition(".")[0] for entry in entries if role_of(entry.name.partition(".")[0])}
    files = {entry: name for entry, name in called.items() if entry.is_file() and has_known_ending(entry)}
    folders = {entry: entry.name for entry in called if entry.is_dir() and has_classes(entry)}
    for found in (files, folders):
        if len(set(found.values())) < len(found):
            twice = f"more than one file for a split: {name_list(entry.name for entry in found)}"
            raise DataError(f"{folder}: {twice}; name the files, as in data.test=FILE")
        if len(found) > 1 and "train" in map(role_of, found.values()):
            return {name: str(entry) for entry, name in found.items()}
    return {}


def role_of(name: str) -> str | None:
    """What a split of this name is read for: ``"train"``, ``"valid"`` or ``"test"``; None where the name is no such."""
    return next((role for role, names in NAMES.items() if name.lower() in names), None)


def _by_role(parts: Mapping[str, object]) -> dict[str, str]:
    """For each role the split that has its best name."""
    names = sorted(parts, key=lambda name: name.lower() not in ("train", "validation", "test"))
    return {role: name for name in reversed(names) if (role := role_of(name))}


def _beside(source: object, parts: Mapping[str, object]) -> list[str]:
    """What else lies in a folder of splits."""
    if not isinstance(source, str | Path) or str(source).startswith("hub:") or Path(source, SAVED).is_file():
        return []
    entries = sorted(entry for entry in Path(source).iterdir() if not entry.name.startswith("."))
    return [entry.name for entry in entries if str(entry) not in parts.values()]


def one_part(source: object, wanted: str | None) -> tuple[object, tuple[str, ...]]:
    """The split called `wanted` of a source, or the only one, and a note; the source itself if it holds no splits.

    Raises:
        DataError: it holds several, and none is wanted, or none of that name; they are named.
    """
    parts = parts_of(source)
    if len(parts) < 2:
        return next(iter(parts.values()), source), ()
    name = wanted if wanted in parts else _by_role(parts).get(str(wanted))
    if name is not None:
        return parts[name], (f"the split {name!r} of {name_list(parts)}",)
    advice = f"give one of them, as in {_example(source, next(iter(parts)))}"
    raise DataError(f"{source_name(source)}: holds the splits {name_list(parts)}; {advice}")


def with_own_parts(sources: Mapping[str, object]) -> Sources:
    """The sources, of a set of splits given for ``"train"`` its own train, validation and test split, with a note.

    What is given for ``"valid"`` and ``"test"`` takes the place of the set's own.
    """
    parts = parts_of(sources["train"])
    found = _by_role(parts)
    if len(parts) < 2 or "train" not in found:
        return Sources(dict(sources))
    train, own = found["train"], {role: name for role, name in found.items() if role not in sources}
    splits = {**sources, "train": parts[train], **{role: parts[name] for role, name in own.items()}}
    told = [f"{name!r} is read as data.{role}" for role, name in own.items()]
    told += [f"{name!r} is not read" for name in parts if name not in (train, *own.values())]
    example = _example(sources["train"], "NAME")
    advice = f"valid={example}" if example.startswith("data[") else f"data.valid={example}"
    notes = [f"the split {train!r} of {name_list(parts)}; {', '.join(told)} ({advice} takes another)"]
    if others := _beside(sources["train"], parts):
        notes.append(f"not read, since they are called as no split: {name_list(others)}")
    return Sources({role: splits[role] for role in NAMES if role in splits}, frozenset(own), tuple(notes))


def set_name(path: str) -> str:
    """What the data read from a path is called: the name of its file or folder; of a split, that of the set."""
    if path.startswith("hub:"):
        return path.rsplit("/", 1)[-1].removeprefix("hub:").partition(":")[0]
    place = Path(path)
    return place.parent.name if path in parts_of(str(place.parent)).values() else place.name


def _example(source: object, name: str) -> str:
    if isinstance(source, str) and source.startswith("hub:"):
        return f"{source}:{name}"
    return str(Path(source, name)) if isinstance(source, str | Path) else f"data[{name!r}]"
