"""What a run folder must show before it is resumed or written: its own files, and nothing that leads elsewhere.

What is read back of a run has its own gate where it is read: records are bounded and typed (`tunesmith.run.record`),
models and checkpoints are exactly what their manifests list (`tunesmith.manifest`). Anyone's run may be read; one that
is written must be the user's own, for its owner could exchange the files meanwhile. The path that the user names may
be, or go through, a link, since it is his word; below it no link is followed.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tunesmith.errors import ModelError
from tunesmith.manifest import members
from tunesmith.models.sealed import PREVIOUS

RECORDS = ("run.json", "adapt.json", "config.yaml", "metrics.jsonl", "findings.jsonl", "augmented.jsonl")
FILES = frozenset({*RECORDS, "report.html", "README.md", "seen.txt"})
FOLDERS = frozenset({"checkpoints", "model", "predictions", ".work", PREVIOUS})
KNOWN = FILES | FOLDERS
"""What a run has in its folder."""


def require_own(folder: Path, lock: str) -> None:
    """Refuse a folder of another user, and one whose lock is no file of this one.

    Raises:
        ModelError: it is.
    """
    if folder.is_dir():
        _require_owner(folder, folder.stat(), "")
    if os.path.lexists(folder / lock):
        facts = (folder / lock).lstat()
        if not stat.S_ISREG(facts.st_mode):
            raise ModelError(f"{folder}: {lock} is no file; remove it, or give another output.out")
        _require_owner(folder, facts, lock)


def admit(folder: Path) -> None:
    """Let a run be continued, or not: everything in its folder is a file or folder as it should be, and the user's own.

    Raises:
        ModelError: the first thing that is not.
    """
    try:
        for path, facts in members(folder):
            name, is_folder = str(path.relative_to(folder)), stat.S_ISDIR(facts.st_mode)
            if name in (FILES if is_folder else FOLDERS):
                raise ValueError(f"{name} is a {'folder' if is_folder else 'file'}; remove it")
            _require_owner(folder, facts, name)
    except ValueError as error:
        raise ModelError(f"{folder}: {error}, or start a new run") from None
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read ({error.strerror}); start a new run") from None


def _require_owner(folder: Path, facts: os.stat_result, name: str) -> None:
    if facts.st_uid != os.geteuid():
        raise ModelError(
            f"{folder}: {name or 'it'} belongs to another user, who could change it meanwhile; "
            "copy the folder, or give another output.out"
        )
