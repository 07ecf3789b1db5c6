"""The runs of a folder: what came of them, at a glance, and the one that is to be continued."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from tunesmith.config.schema import AdaptConfig, Config
from tunesmith.data.readers.memory import source_name
from tunesmith.data.sources import Examples
from tunesmith.disk import path_sha256
from tunesmith.errors import ModelError, UsageError
from tunesmith.run.changes import ANEW, changed_settings
from tunesmith.run.folder import CHECKPOINTS, is_held
from tunesmith.run.record import AdaptRecord, RunRecord

RUNS = "runs"
"""Where runs go that no one named a folder for."""
Tree = TypeVar("Tree", Config, AdaptConfig)


@dataclass(frozen=True)
class RunFacts:
    """A run of a folder.

    Attributes:
        folder: of the run.
        record: its ``run.json`` or ``adapt.json``; None where it cannot be read.
        problem: why not.
        running: a process is writing it.
        changed: when its record was written last.
        bytes: that its files take on the disk.
    """

    folder: Path
    record: RunRecord | AdaptRecord | None
    problem: str | None
    running: bool
    changed: datetime
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        facts = {"run": str(self.folder), "changed": self.changed.isoformat(timespec="seconds"), "bytes": self.bytes}
        if self.record is None:
            return facts | {"status": "unreadable", "problem": self.problem}
        files, model = self.record.data.files, self.record.model.name
        status = "running" if self.running else self.record.status
        facts |= {"status": status, "data": [file.path for file in files], "model": model}
        if isinstance(self.record, AdaptRecord):
            after = self.record.perplexity_after
            score = {"metric": "perplexity", **after.to_dict()} if after else None
            return facts | {"task": "adapt", "method": "adapt", "rows": self.record.data.texts, "score": score}
        rows = {split.name: split.rows for split in self.record.data.splits}
        facts |= {"task": self.record.task, "method": self.record.method, "rows": rows, "score": None}
        if self.record.status == "done":
            name = self.record.main_metric
            facts["score"] = {"metric": name, **self.record.metrics["test"][name].to_dict()}
        return facts


def runs_in(folder: str | Path) -> list[RunFacts]:
    """The runs in a folder, the latest first; the folder may itself be a run.

    Raises:
        UsageError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; name the one that holds the runs (train makes them in {RUNS})")
    found = list(_runs(root)) or [run for path in root.iterdir() if path.is_dir() for run in _runs(path)]
    return sorted(found, key=lambda run: run.changed, reverse=True)


def _runs(folder: Path) -> Iterator[RunFacts]:
    for kind in (RunRecord, AdaptRecord):
        file = folder / kind.FILE
        if file.is_file():
            record, problem = None, None
            try:
                record = kind.load(folder)
            except ModelError as error:
                problem = str(error)
            changed = datetime.fromtimestamp(file.stat().st_mtime)
            size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
            running = record is not None and record.status != "done" and is_held(folder)
            yield RunFacts(folder, record, problem, running, changed, size)


def progress_of(folder: Path) -> str:
    """How far an unfinished run is, read off the names of its checkpoints."""
    names = [path.parent.name for path in (folder / CHECKPOINTS).glob("[!.]*-*/manifest.json")]
    steps = [int(step) for name in names if re.fullmatch("[0-9]{1,15}", step := name.rpartition("-")[2])]
    return f"saved at step {max(steps)}" if steps else "stopped before its first checkpoint"


def continued(config: Tree, source: Examples | None, default: Path | None) -> tuple[Tree, Examples | None]:
    """Settings and examples of the run that is to be continued: its own, where no others were asked for.

    Where there is none yet they are what was asked for: the same command begins a run and continues it.

    Args:
        config: as it was asked for.
        source: of the training examples, if it was named.
        default: folder that a run with these settings would have.

    Raises:
        ModelError: the record of the run cannot be read.
        UsageError: no folder and no examples were named, and not exactly one run can be meant.
    """
    kind = RunRecord if isinstance(config, Config) else AdaptRecord
    folder = Path(config.output.out) if config.output.out else default
    if folder is None or not (config.output.out or (folder / kind.FILE).exists()):
        folder = _only_unfinished(kind, source) or folder
    if folder is None or not (folder / kind.FILE).exists():
        return config, source
    record = kind.load(folder)
    then: Tree = record.requested
    parts = {
        name: part.model_copy(update={key: getattr(asked, key) for key in asked.model_fields_set})
        for (name, part), (_, asked) in zip(then, config, strict=True)
    }
    begun = record.data.files[0].path
    if source is None and record.status != "done" and not _is_there(begun):
        raise UsageError(
            f"output.resume: the run in {folder} reads {begun}, which is not there as seen from here; "
            "name the file where it lies now"
        )
    parts["output"] = config.output.model_copy(update={"out": str(folder)})
    return then.model_copy(update=parts), begun if source is None else source


def _is_there(path: str) -> bool:
    return path.startswith("hub:") or Path(path).exists()


def finished(config: Config | AdaptConfig, sources: Mapping[str, Examples]) -> RunRecord | AdaptRecord | None:
    """Record of the run that is to be continued, where it is done already.

    Args:
        config, sources: of the run, as of `continued`.

    Raises:
        UsageError: it was made with other settings, or of other files.
    """
    kind = RunRecord if isinstance(config, Config) else AdaptRecord
    folder = Path(config.output.out or "")
    if not config.output.resume or not config.output.out or not (folder / kind.FILE).exists():
        return None
    record = kind.load(folder)
    if record.status != "done":
        return None
    problems = [*changed_settings(record.requested, config).values()]
    files = {file.path: file.sha256 for file in record.data.files if file.sha256}
    changed = [path for path, sha256 in files.items() if path_sha256(path) not in (None, sha256)]
    problems += [f"{path} changed; restore it" for path in changed]
    named = [name for name in map(source_name, sources.values()) if Path(name).exists()]
    others = [name for name in named if not any(_lies_in(path, name) for path in files)]
    problems += [f"{name} is not what it read; name that" for name in others if path_sha256(name) not in files.values()]
    if problems:
        done = f"output.resume: the run in {folder} is finished, but"
        raise UsageError(f"{done} {problem}, {ANEW}" for problem in problems)
    return record


def _lies_in(path: str, name: str) -> bool:
    return Path(path).absolute().is_relative_to(Path(name).absolute())


def _only_unfinished(kind: type[RunRecord | AdaptRecord], source: Examples | None) -> Path | None:
    """Folder of the only run in `RUNS` that has not finished; of `source`, if that is given, there may be none."""
    runs = runs_in(RUNS) if Path(RUNS).is_dir() else []
    of = "" if source is None else f" of {source_name(source)}"
    found = [
        str(run.folder)
        for run in runs
        if isinstance(run.record, kind)
        and run.record.status != "done"
        and not run.running
        and (source is None or run.record.data.files[0].path == source_name(source))
    ]
    if len(found) == 1:
        return Path(found[0])
    if not found and source is not None:
        return None
    several = f"{len(found)} unfinished runs{of} ({', '.join(found)})"
    what = several if found else f"{RUNS} holds no unfinished run"
    raise UsageError(f"output.resume: {what}; say which with output.out=FOLDER, or name the examples to begin one")
