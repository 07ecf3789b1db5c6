"""The folder of a run: the lock that keeps a second process out, what may be replaced, and the record kept true."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from tunesmith import signals
from tunesmith.config.loading import dump
from tunesmith.config.schema import Config, OutputSettings
from tunesmith.disk import make_folder, private, remove_leftovers, sync, write_json_lines, write_text
from tunesmith.errors import Interrupted, ModelError, ResourceError, UsageError, is_disk_full, is_shortage
from tunesmith.manifest import members, require_outside
from tunesmith.models.sealed import PREVIOUS, is_finished
from tunesmith.resources import disk_words
from tunesmith.run import gate
from tunesmith.run.record import AdaptRecord, Record, RunRecord, Timing

LOCK, WORK, CHECKPOINTS = ".lock", ".work", "checkpoints"
AnyRecord = TypeVar("AnyRecord", bound=Record)


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
    try:
        require_outside(folder)
    except ValueError as error:
        raise UsageError(f"output.out={folder}: {error}; give another output.out") from None
    made, path = not folder.exists(), folder / LOCK
    lock = FileLock(path, timeout=0, mode=0o600)  # refuses a link
    try:
        make_folder(folder)
        lock.acquire()
        path.write_text(str(os.getpid()), encoding="utf-8")
    except Timeout:
        holder = path.read_text(encoding="utf-8", errors="replace")[:20].strip()
        raise UsageError(
            f"{folder}: process {holder} is writing this run; wait for it, or give another output.out"
        ) from None
    except OSError as error:
        with suppress(OSError):  # only where it is empty
            if made:
                folder.rmdir()
        if is_shortage(error):
            raise
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


def open_folder(kind: type[AnyRecord], folder: Path, output: OutputSettings, read: Iterable[str]) -> AnyRecord | None:
    """The record of the run in the folder that goes on, None for a new run there; nothing is changed yet.

    Args:
        kind: of the record.
        read: what the run reads; none of it may lie in a folder that is replaced.

    Raises:
        UsageError: the folder holds something that may not be touched.
        ModelError: the record of the run there cannot be read.
    """
    others, has_run = _content(folder), (folder / kind.FILE).exists()
    if not others:
        return None
    if not has_run:
        found = f"the folder is not empty and holds no run ({others[0].name}, …)"
        raise UsageError(f"output.out={folder}: {found}; give another output.out")
    if output.overwrite and not output.resume:
        own = folder.resolve()  # and the folder of a model may begin with ~
        inside = [name for name in read if Path(os.path.expanduser(name)).resolve().is_relative_to(own)]
        if inside:
            raise UsageError(
                f"output.out={folder}: the run would replace {inside[0]}, which it reads; give another output.out"
            )
        if kind is RunRecord and (foreign := [path.name for path in others if path.name not in gate.KNOWN]):
            found = f"it holds what is no part of a run ({', '.join(foreign[:3])})"
            raise UsageError(f"output.out={folder}: {found}; move that elsewhere, or give another output.out")
        return _interrupted_replacement(kind, folder)
    record = kind.load(folder)
    if record.status == "done":
        # It may have been killed before it removed them.
        for leftover in (WORK, PREVIOUS, *([] if output.keep_checkpoints else [CHECKPOINTS])):
            shutil.rmtree(folder / leftover, ignore_errors=True)
        remedy = "add output.overwrite to replace it, or give another output.out"
        raise UsageError(f"output.out={folder}: a finished run is there already; {remedy}")
    return record if record.identity else None


def _interrupted_replacement(kind: type[AnyRecord], folder: Path) -> AnyRecord | None:
    """The unfinished run that was to replace a finished one: the same command goes on with it."""
    if not (folder / PREVIOUS).is_dir():
        return None
    try:
        record = kind.load(folder)
    except ModelError:
        return None
    return record if record.status != "done" and record.identity else None


def _content(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != LOCK) if folder.exists() else []


@contextmanager
def kept(folder: Path, record: RunRecord | AdaptRecord, goes_on: bool, output: OutputSettings) -> Iterator[str]:
    """Keep the record on disk while the run lasts, and its status true however it ends.

    The record comes before all else in the folder, and where an earlier run is replaced it says first that nothing in
    the folder counts: a run that is killed here begins again by the same command. A finished one that is replaced stays
    in a folder of its own, `PREVIOUS`, until this one is done.

    Args:
        goes_on: the run in the folder does; else what is there is replaced.
        output: as the user asked.

    Yields:
        what goes on with the run when it was stopped, in words.

    Raises:
        ResourceError: the disk is full.
    """
    if not goes_on and is_finished(folder):
        _set_aside(folder)  # the record there is as yet that of the finished run
    try:
        if not goes_on:
            _clear(folder, record)
        shutil.rmtree(folder / WORK, ignore_errors=True)
        record.save(folder)
        write_json_lines(folder / "metrics.jsonl", [])  # a run that goes on has its lines in its checkpoints
        anew = output.overwrite and not output.resume and not (folder / PREVIOUS).is_dir()
        yield "the same command without output.overwrite" if anew else "the same command"
    except (Interrupted, KeyboardInterrupt):
        raise
    except BaseException as error:
        if signals.current().arrived is not None:
            raise
        full = f"{disk_words(error, folder)}, and the same command goes on" if is_disk_full(error) else ""
        record.status, record.error = "failed", str(error)
        with suppress(OSError):
            record.save(folder)
        if full:
            raise ResourceError(full) from error
        raise
    finally:
        shutil.rmtree(folder / WORK, ignore_errors=True)


def _set_aside(folder: Path) -> None:
    """Give the finished run in a folder a second place, `PREVIOUS`; whenever this ends, it is whole at the first."""
    aside = folder / WORK / PREVIOUS
    for leftover in (WORK, PREVIOUS):
        shutil.rmtree(folder / leftover, ignore_errors=True)
    there = list(members(folder))
    aside.mkdir(parents=True)
    for path, facts in there:
        name = path.relative_to(folder)
        if stat.S_ISDIR(facts.st_mode):
            (aside / name).mkdir()
        elif name != Path(LOCK):
            _link(path, aside / name)
    for path in (*aside.rglob("*"), aside):
        sync(path)
    aside.rename(folder / PREVIOUS)
    sync(folder)


def _link(path: Path, other: Path) -> None:
    """A second name of a file, or a copy on a file system without such names."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)


def _clear(folder: Path, record: RunRecord | AdaptRecord) -> None:
    """Make room for a new run, once the record says that nothing there counts."""
    record.model_copy(update={"identity": {}}).save(folder)
    for path in _content(folder):
        if path.name == PREVIOUS:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != record.FILE:
            path.unlink()


def close(folder: Path, record: RunRecord | AdaptRecord, keep_checkpoints: bool) -> None:
    """Say that a run is done once all else of it is on disk, and remove what only a run that is killed needs."""
    shutil.rmtree(folder / WORK, ignore_errors=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        if not {CHECKPOINTS, PREVIOUS}.intersection(path.relative_to(folder).parts):
            sync(path)
    record.status = "done"
    record.save(folder)
    signals.current().saved = f"{folder} is done"
    shutil.rmtree(folder / PREVIOUS, ignore_errors=True)
    if not keep_checkpoints:
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    sync(folder)


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
