"""The folder of a run: the lock that keeps a second process out, what may be replaced, and the record kept true."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tunesmith import signals
from tunesmith.config.loading import dump
from tunesmith.config.schema import Config, OutputSettings
from tunesmith.disk import private, remove_leftovers, write_text
from tunesmith.errors import Interrupted, ResourceError, UsageError, is_disk_full
from tunesmith.run import gate
from tunesmith.run.record import AdaptRecord, RunRecord, Timing

LOCK = ".lock"
NOT_PART_OF_THE_RESULT = (
    "output",
    "training.threads",
    "training.save_minutes",
    "training.tracker",
    "model.local",
    "engine.cache_gigabytes",
)


@contextmanager
def locked(folder: Path, record: str = RunRecord.FILE) -> Iterator[None]:
    """Hold a run folder for this process; what is written meanwhile is the user's alone.

    Args:
        record: name of the run's record.

    Raises:
        UsageError: another process holds it.
        ModelError: it is not the user's own, or leads elsewhere; see `tunesmith.run.gate`.
    """
    gate.require_own(folder, LOCK)
    made, path = not folder.exists(), folder / LOCK
    lock = FileLock(path, timeout=0, mode=0o600)  # refuses a link
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire()
        path.write_text(str(os.getpid()), encoding="utf-8")
    except Timeout:
        holder = path.read_text(encoding="utf-8", errors="replace")[:20].strip()
        raise UsageError(
            f"{folder}: process {holder} is writing this run; wait for it, or give another output.out"
        ) from None
    except OSError as error:
        raise UsageError(
            f"output.out={folder}: cannot be a run folder ({error.strerror}); give another output.out"
        ) from None
    try:
        with private():
            if os.path.lexists(folder / record):
                gate.admit(folder)
            remove_leftovers(folder)
            yield
    finally:
        if not (folder / record).exists():  # nothing came of it
            path.unlink(missing_ok=True)
            if made and not _content(folder):
                folder.rmdir()
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether a process is writing the run in a folder."""
    lock = FileLock(folder / LOCK, timeout=0, mode=0o600)
    try:
        if (folder / LOCK).is_file():
            lock.acquire()
            lock.release()
    except Timeout:
        return True
    except OSError:  # not ours to write: nothing is known of it
        pass
    return False


def check_folder(
    folder: Path, overwrite: bool, resume: bool, inputs: Iterable[str | None], record: str = RunRecord.FILE
) -> None:
    """Whether the settings allow a run in the folder; nothing is changed yet.

    Args:
        inputs: what the run reads; none of it may lie in a folder that is replaced.
        record: name of the run's record.

    Raises:
        UsageError: it holds something that may not be touched.
    """
    others, has_run = _content(folder), (folder / record).exists()
    if resume or not others:
        return
    if not has_run:
        found = f"the folder is not empty and holds no run ({others[0].name}, …)"
        raise UsageError(f"output.out={folder}: {found}; give another output.out")
    own = folder.resolve()  # and the folder of a model may begin with ~
    inside = [name for name in inputs if name and Path(os.path.expanduser(name)).resolve().is_relative_to(own)]
    if inside:
        raise UsageError(
            f"output.out={folder}: the run would replace {inside[0]}, which it reads; give another output.out"
        )
    if not overwrite:
        remedy = "add output.overwrite to replace it or output.resume to continue it"
        raise UsageError(f"output.out={folder}: a run is there already; {remedy}")


def _content(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != LOCK) if folder.exists() else []


@contextmanager
def kept(folder: Path, record: RunRecord | AdaptRecord, resume: bool) -> Iterator[None]:
    """Keep the record on disk while the run lasts, and its status true however it ends.

    An earlier run is replaced, its record, which names it as one, last.

    Raises:
        UsageError: a resumed run differs from the one in the folder; the differences are named.
        ResourceError: the disk is full.
    """
    if resume:
        _refuse_changes(type(record).load(folder), record)
    else:
        for path in sorted(_content(folder), key=lambda path: path.name == record.FILE):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        (folder / "metrics.jsonl").write_text("", encoding="utf-8")
    record.save(folder)
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        raise
    except BaseException as error:
        if signals.current().arrived is not None:
            raise
        record.status, record.error = "failed", str(error)
        with suppress(OSError):
            record.save(folder)
        if is_disk_full(error):
            free = shutil.disk_usage(folder).free
            raise ResourceError(
                f"{folder}: the disk is full ({free:,} bytes are free); free some and try again"
            ) from error
        raise
    finally:
        shutil.rmtree(folder / ".work", ignore_errors=True)


def _refuse_changes(old: RunRecord | AdaptRecord, new: RunRecord | AdaptRecord) -> None:
    before, after = (_flat(record.requested.model_dump(mode="json")) for record in (old, new))
    changed = [
        f"output.resume: {key} was {before[key]!r} and is now {after[key]!r}; use the old value, or start a new run"
        for key in sorted(before)
        if before[key] != after[key] and not key.startswith(NOT_PART_OF_THE_RESULT)
    ]
    for part, what in {"data": "the data", "augmentation": "the lexicon or the masked model"}.items():
        if old.identity.get(part) != new.identity.get(part):
            changed.append(f"output.resume: {what} changed since the run began; restore the files, or start a new run")
    if changed:
        raise UsageError(changed)


def identity(requested: Mapping[str, Any], **facts: Any) -> dict[str, str]:
    """What checkpoints of a run belong to: hashes of the settings that decide its result, and of `facts` by name."""
    deciding = {k: v for k, v in _flat(requested).items() if not k.startswith(NOT_PART_OF_THE_RESULT)}
    parts = {"config": deciding, **facts}
    return {k: hashlib.sha256(json.dumps(v, sort_keys=True).encode()).hexdigest() for k, v in parts.items()}


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{section}.{name}": value for section, values in tree.items() for name, value in values.items()}


def save_config(folder: Path, config: Config) -> None:
    """Write the resolved configuration, without what only concerns this run's folder."""
    settings = config.model_copy(update={"output": OutputSettings()})
    write_text(folder / "config.yaml", dump(settings))


class Clock:
    """Seconds of a run, in total and by stage."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = round(time.perf_counter() - begin, 3)

    def timing(self, tokens: int, seconds: float) -> Timing:
        """So far.

        Args:
            tokens: that were learned from, in `seconds`.
        """
        total = round(time.perf_counter() - self.start, 3)
        return Timing(seconds=total, stages=self.stages, tokens_per_second=round(tokens / seconds, 1))
