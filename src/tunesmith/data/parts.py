"""Sources that hold splits of their own: a `datasets.DatasetDict`, in memory, saved to a folder, or on the Hub."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tunesmith.data.readers import hub
from tunesmith.data.readers.memory import source_name
from tunesmith.errors import DataError
from tunesmith.text import name_list

SAVED = "dataset_dict.json"  # marks a folder made by ``DatasetDict.save_to_disk``
NAMES = {"valid": ("validation", "valid", "dev", "val"), "test": ("test",)}


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
    return {}


def one_part(source: object, wanted: str | None) -> tuple[object, tuple[str, ...]]:
    """The split called `wanted` of a source, or the only one, and a note; the source itself if it holds no splits.

    Raises:
        DataError: it holds several, and none is wanted, or none of that name; they are named.
    """
    parts = parts_of(source)
    if len(parts) < 2:
        return next(iter(parts.values()), source), ()
    if wanted in parts:
        return parts[str(wanted)], (f"the split {wanted!r} of {name_list(parts)}",)
    advice = f"give one of them, as in {_example(source, next(iter(parts)))}"
    raise DataError(f"{source_name(source)}: holds the splits {name_list(parts)}; {advice}")


def with_own_parts(sources: Mapping[str, object]) -> Sources:
    """The sources, of a set of splits given for ``"train"`` its own train, validation and test split, with a note.

    What is given for ``"valid"`` and ``"test"`` takes the place of the set's own.
    """
    parts = parts_of(sources["train"])
    if len(parts) < 2 or "train" not in parts:
        return Sources(dict(sources))
    found = {role: name for role, names in NAMES.items() for name in names[::-1] if name in parts}
    own = {role: name for role, name in found.items() if role not in sources}
    splits = {**sources, "train": parts["train"], **{role: parts[name] for role, name in own.items()}}
    told = [f"{name!r} is read as data.{role}" for role, name in own.items()]
    told += [f"{name!r} is not read" for name in parts if name not in ("train", *own.values())]
    example = _example(sources["train"], "NAME")
    advice = f"valid={example}" if example.startswith("data[") else f"data.valid={example}"
    note = f"the split 'train' of {name_list(parts)}; {', '.join(told)} ({advice} takes another)"
    return Sources({role: splits[role] for role in ("train", *NAMES) if role in splits}, frozenset(own), (note,))


def set_name(path: str) -> str:
    """What the data read from a path is called: the name of its file or folder; of a split, that of the set."""
    if path.startswith("hub:"):
        return path.rsplit("/", 1)[-1].removeprefix("hub:").partition(":")[0]
    place = Path(path)
    return place.parent.name if os.path.isfile(place.parent / SAVED) else place.name


def _example(source: object, name: str) -> str:
    if isinstance(source, str) and source.startswith("hub:"):
        return f"{source}:{name}"
    return str(Path(source, name)) if isinstance(source, str | Path) else f"data[{name!r}]"
