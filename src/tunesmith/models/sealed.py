"""Models that were written here vouch for their files: a manifest lies in the folder, and the record of the run has it.

`seal` is the last step of writing a model; `require_intact` comes before anything of one is read. A folder that was
copied out of its run is checked by its manifest alone. Notes for people are not listed: they may be edited or added;
``seen.txt``, which is, may be removed before a model is given away.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tunesmith import manifest
from tunesmith.disk import LINK, read_json
from tunesmith.errors import OTHER_VERSION, ModelError
from tunesmith.manifest import FileFacts, Manifest
from tunesmith.models.seen import FILE as SEEN_FILE

RUN_FILE, ADAPTED_FILE = "run.json", "adapt.json"
TRAINED_FILE = "tunesmith.json"
"""Beside a model that was trained here."""
ARTEFACT_FILE = "artefact.json"
"""In an exported model; see `tunesmith.artefact.folder`."""
MODEL = "model"
"""Folder of a run that holds its model."""
PREVIOUS = ".previous"
"""Folder of a run that holds the finished run which it replaces, until it is done itself."""
MOST_RECORD_BYTES = 256 * 2**20
OF_ADAPTATION = (ADAPTED_FILE, "metrics.jsonl", "checkpoints")
"""What lies beside the files of an adapted model."""


def seal(folder: Path, within: str = "") -> dict[str, FileFacts]:
    """List the files of a model in its manifest.

    Args:
        within: where the folder lies in its run, with a slash at the end.

    Returns:
        The same list for the record of the run.
    """
    listed = manifest.write(folder, {}, lambda name: not _is_beside(name)).files
    return {within + name: facts for name, facts in listed.items()}


def model_folder(path: Path) -> Path:
    """The folder of a run's model; the folder itself where it is one of a model.

    Raises:
        ModelError: the run leads to a model elsewhere, or has yet to replace a finished one; its files are links.
    """
    if (path / MODEL).is_symlink():
        raise ModelError(f"{path}: {MODEL} is a link; give the folder that it leads to")
    refuse_replacing(path)
    folder = path / MODEL if (path / MODEL).is_dir() else path
    if (folder / TRAINED_FILE).is_symlink():
        raise ModelError(f"{folder}: {TRAINED_FILE} is {LINK}")
    return folder


def refuse_replacing(path: Path) -> None:
    """Refuse a run that is to replace a finished one and is not done, and say where that one is.

    Raises:
        ModelError: it is one.
    """
    if (path / PREVIOUS).is_dir() and not is_finished(path):
        raise ModelError(
            f"{path}: the run is not finished; continue it by its command, or give {path / PREVIOUS}, "
            "the finished run that it replaces"
        )


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a run, of whatever version, whose record says that it is done."""
    for name in (RUN_FILE, ADAPTED_FILE):
        with suppress(OSError, ValueError, LookupError, TypeError):
            if read_json(folder / name, MOST_RECORD_BYTES)["status"] == "done":
                return True
    return False


def is_artefact(folder: Path) -> bool:
    """Whether a folder says of itself that it is an exported model."""
    return os.path.lexists(folder / ARTEFACT_FILE)


def require_intact(folder: Path) -> None:
    """Refuse a model that was written here and is not what was written; of others nothing is known.

    Raises:
        ModelError: what differs, by its file.
    """
    try:
        recorded = _recorded(folder)
        ours = recorded is not None or os.path.lexists(folder / TRAINED_FILE)
        if not ours and not _is_manifest(folder):
            return
        listed = Manifest.load(folder)
        if problem := manifest.refusal(folder, listed, optional=lambda name: name == SEEN_FILE, besides=_is_beside):
            raise ValueError(problem)
    except ValueError as error:
        raise ModelError(f"{folder}: {error}; restore the folder, or train again") from None
    if recorded is not None and recorded != listed.model_dump()["files"]:
        names = sorted(name for name in recorded | listed.files if recorded.get(name) != _plain(listed.files.get(name)))
        said = f"{names[0]} is not what the record of the run says"
        raise ModelError(f"{folder}: {said}; restore the folder, or train again")


def _recorded(folder: Path) -> dict[str, object] | None:
    """What the record of its run says of the files of a model; None where it does not lie in a run."""
    in_run = folder.name == MODEL and os.path.lexists(folder.parent / RUN_FILE)
    file, prefix = (folder.parent / RUN_FILE, f"{MODEL}/") if in_run else (folder / ADAPTED_FILE, "")
    if not os.path.lexists(file):
        return None
    try:
        tree = read_json(file, MOST_RECORD_BYTES)
        found = tree["files"] if tree["status"] == "done" else None
        recorded = None if found is None else {name.removeprefix(prefix): facts for name, facts in found.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        said = OTHER_VERSION if isinstance(error, KeyError) else f"damaged ({error}); restore the file, or train again"
        raise ModelError(f"{file}: {said}") from None
    if recorded is None:
        raise ModelError(f"{file}: the run is not finished; continue it, or give another model")
    return recorded


def _plain(facts: FileFacts | None) -> object:
    return None if facts is None else facts.model_dump()


def _is_manifest(folder: Path) -> bool:
    """Whether a manifest in a folder is one of ours, and not another tool's of the same name."""
    try:
        return bool(Manifest.load(folder))
    except ValueError:
        return False


def _is_beside(name: str) -> bool:
    """Whether a file is no part of a model, and read by no library."""
    first, *_ = parts = name.split("/")
    notes = name.endswith(".md") or first.startswith(("LICENSE", "NOTICE"))
    return notes or first in OF_ADAPTATION or any(part.startswith(".") for part in parts)
