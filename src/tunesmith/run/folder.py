"""A run on disk: its folder, its one machine-readable record, and the lock that keeps a second process out."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunesmith.errors import ModelError, UsageError
from tunesmith.evaluation.intervals import Score

RECORD, LOCK = "run.json", ".lock"
VERSION = 1
LIBRARIES = ("tunesmith", "torch", "transformers", "peft", "datasets", "accelerate", "scikit-learn", "numpy", "pyarrow")


@dataclass(frozen=True)
class Run:
    """A finished (or interrupted) run.

    Attributes:
        folder: where it is.
        record: the content of ``run.json``.
    """

    folder: Path
    record: Mapping[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """Read a run folder.

        Raises:
            ModelError: there is no readable ``run.json`` in it.
        """
        return cls(Path(folder), read_record(Path(folder)))

    @property
    def metrics(self) -> dict[str, dict[str, Score]]:
        """Split → metric name → value with its 95 % interval."""
        return {
            split: {name: Score(**score) for name, score in scores.items()}
            for split, scores in self.record["metrics"].items()
        }

    @property
    def model_folder(self) -> Path:
        return self.folder / "model"

    def __str__(self) -> str:
        return str(self.folder)


def read_record(folder: Path, name: str = RECORD) -> dict[str, Any]:
    """The record of a run.

    Raises:
        ModelError: there is no readable one in the folder.
    """
    try:
        record = json.loads((folder / name).read_text(encoding="utf-8"))
    except OSError as error:
        where = f"{folder}: not a run ({name}: {error.strerror})"
        raise ModelError(f"{where}; give the folder that train printed") from None
    except ValueError as error:
        raise ModelError(f"{folder / name}: damaged ({error})") from None
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise ModelError(f"{folder / name}: not a record of version {VERSION}; train again, or use an older Tunesmith")
    return record


@contextmanager
def locked(folder: Path, record: str = RECORD) -> Iterator[None]:
    """Hold a run folder for this process.

    Args:
        record: name of the run's record.

    Raises:
        UsageError: another process holds it.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UsageError(f"--out {folder}: cannot be a run folder ({error.strerror}); give another --out") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 20).decode(errors="replace").strip()
        os.close(descriptor)
        raise UsageError(
            f"{folder}: process {holder} is writing this run; wait for it, or give another --out"
        ) from None
    try:
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        if not (folder / record).exists():  # nothing came of it
            (folder / LOCK).unlink(missing_ok=True)
            if made and not _content(folder):
                folder.rmdir()
        os.close(descriptor)


def check_folder(
    folder: Path, overwrite: bool, resume: bool, inputs: Iterable[str | None], record: str = RECORD
) -> None:
    """Whether the flags allow a run in the folder; nothing is changed yet.

    Args:
        inputs: what the run reads; none of it may lie in a folder that is replaced.
        record: name of the run's record.

    Raises:
        UsageError: it holds something that the flags do not allow to touch, or not the run that is to be resumed.
    """
    has_run = (folder / record).exists()
    if resume:
        if not has_run:
            raise UsageError(f"--resume: {folder} holds no run; start it without --resume")
        return
    others = _content(folder)
    if others and not has_run:
        raise UsageError(
            f"--out {folder}: the folder is not empty and holds no run ({others[0].name}, …); give another --out"
        )
    own = folder.resolve()  # and the folder of a model may begin with ~
    inside = [name for name in inputs if name and Path(os.path.expanduser(name)).resolve().is_relative_to(own)]
    if others and inside:
        raise UsageError(f"--out {folder}: the run would replace {inside[0]}, which it reads; give another --out")
    if others and not overwrite:
        raise UsageError(
            f"--out {folder}: a run is there already; add --overwrite to replace it or --resume to continue it"
        )


def clear_folder(folder: Path, record: str = RECORD) -> None:
    """Remove an earlier run, once it is known that a new one can begin; its record, which names it as one, last."""
    for path in sorted(_content(folder), key=lambda path: path.name == record):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _content(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != LOCK) if folder.exists() else []


def write_record(folder: Path, record: Mapping[str, Any], name: str = RECORD) -> None:
    """Replace the record in one step, so that a reader never sees half of it."""
    write_text(folder / name, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file by way of a temporary one beside it."""
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide results."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def machine(threads: int) -> dict[str, Any]:
    """What the run was computed on."""
    return {
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
    }
