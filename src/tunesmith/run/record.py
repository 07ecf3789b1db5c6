"""The content of ``run.json``: what is known when a run begins, and what it found when it ends."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from tunesmith.augmentation import NONE
from tunesmith.augmentation.masked import masked_source
from tunesmith.augmentation.rows import chosen_names
from tunesmith.config.loading import dump
from tunesmith.config.schema import Config
from tunesmith.data.checks import Finding
from tunesmith.data.keys import label_codes
from tunesmith.data.records import Records
from tunesmith.data.splits import fingerprint
from tunesmith.disk import file_sha256
from tunesmith.errors import Interrupted, ResourceError, UsageError, is_disk_full
from tunesmith.evaluation.intervals import Score
from tunesmith.evaluation.metrics import Metric
from tunesmith.models.loading import weights_sha256
from tunesmith.predictor import Scored
from tunesmith.run.folder import RECORD, VERSION, clear_folder, machine, read_record, versions, write_record, write_text
from tunesmith.training.candidates import Candidate, StartingPoint
from tunesmith.training.precision import Precision, choose_precision

NOT_PART_OF_THE_RESULT = (
    "output",
    "training.threads",
    "training.save_minutes",
    "training.tracker",
    "model.local",
    "engine.cache_gigabytes",
)


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

    @property
    def seconds(self) -> float:
        return round(time.perf_counter() - self.start, 3)


def precision(folder: Path, wanted: str, resume: bool, name: str = RECORD) -> Precision:
    """The precision of the run; a resumed one goes on with what was measured when it began."""
    if resume:
        return Precision(**read_record(folder, name)["engine"]["precision"])
    return choose_precision(wanted)


def begin(
    config: Config,
    point: StartingPoint,
    splits: Mapping[str, Records],
    files: Sequence[Mapping[str, Any]],
    findings: Sequence[Finding],
) -> dict[str, Any]:
    """The record of a run that has not finished; its status is ``stopped``, which is what a killed run is."""
    requested, task = config.model_dump(mode="json"), point.task
    facts = [
        {
            "name": name,
            "rows": len(part),
            "sha256": fingerprint(part),
            "label_counts": label_codes(part).counts if task.counts_labels else {},
        }
        for name, part in splits.items()
    ]
    sources = _augmentation_sources(config)
    hashes = {"augmentation": [source["sha256"] for source in sources.values()]} if sources else {}
    return {
        "version": VERSION,
        "status": "stopped",
        "task": task.name,
        "method": config.method.name,
        "model": {"name": config.model.name, "revision": config.model.revision},
        "data": {
            "files": list(files),
            "splits": facts,
            "labels": list(point.space.names),
            **({"augmentation": sources} if sources else {}),
        },
        "config": requested,
        "seed": config.training.seed,
        "versions": versions(),
        "machine": machine(torch.get_num_threads()),
        "engine": {"precision": point.precision.to_dict()},
        "timing": {},
        "metrics": {},
        "described": {name: described(metric) for name, metric in task.metrics.items()},
        "baselines": [],
        "best": {},
        "warnings": [finding.message for finding in findings if finding.level == "warning"],
        "requested": requested,
        "identity": identity(requested, data=[facts, [file["sha256"] for file in files]], **hashes),
    }


@contextmanager
def kept(folder: Path, record: dict[str, Any], resume: bool, name: str = RECORD) -> Iterator[None]:
    """Keep the record on disk, as `name`, while the run lasts, and its status true however it ends.

    Raises:
        UsageError: a resumed run differs from the one in the folder; the differences are named.
        ResourceError: the disk is full.
    """
    if resume:
        _refuse_changes(read_record(folder, name), record)
    else:
        clear_folder(folder, name)
        (folder / "metrics.jsonl").write_text("", encoding="utf-8")
    write_record(folder, record, name)
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        raise
    except BaseException as error:
        record |= {"status": "failed", "error": str(error)}
        with suppress(OSError):
            write_record(folder, record, name)
        if is_disk_full(error):
            free = shutil.disk_usage(folder).free
            raise ResourceError(
                f"{folder}: the disk is full ({free:,} bytes are free); free some and try again"
            ) from error
        raise
    finally:
        shutil.rmtree(folder / ".work", ignore_errors=True)


def finish(
    record: dict[str, Any],
    best: Candidate,
    point: StartingPoint,
    scored: Mapping[str, Scored],
    baselines: list[dict[str, Any]],
    clock: Clock,
) -> None:
    """Fill in what a finished run knows."""
    config = point.config.model_copy(
        update={
            "task": point.config.task.model_copy(update={"name": record["task"]}),
            "model": point.config.model.model_copy(update={"pooling": best.pooling}),
            "method": point.config.method.model_copy(update={"name": best.method.name}),
            "training": best.settings,
        }
    )
    fitted = best.fitted
    record |= {
        "status": "done",
        "method": best.method.name,
        "model": {
            "name": point.source.name,
            "revision": point.source.revision,
            "sha256": weights_sha256(point.source),
            **fitted.summary,
        },
        "config": config.model_dump(mode="json"),
        "engine": {**fitted.engine, **record["engine"]},
        "timing": {
            "seconds": clock.seconds,
            "stages": clock.stages,
            "tokens_per_second": round(fitted.tokens / fitted.seconds, 1),
        },
        "metrics": {split: plain_scores(part.metrics) for split, part in scored.items()},
        "by_label": {
            split: {label: plain_scores(scores) for label, scores in part.by_label.items()}
            for split, part in scored.items()
            if part.by_label
        },
        "baselines": baselines,
        "best": {**fitted.best, **fitted.details},
    }


def described(metric: Metric) -> dict[str, Any]:
    """What a metric's name stands for, for whoever reads the record."""
    return {name: value for name, value in metric._asdict().items() if name != "sentence"}


def plain_scores(scores: Mapping[str, Score]) -> dict[str, dict[str, float | int]]:
    """Scores as they stand in run.json."""
    return {name: score.to_dict() for name, score in scores.items()}


def save_config(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the resolved configuration, without what only concerns this run's folder."""
    tree = {key: value for key, value in record["config"].items() if key != "output"}
    write_text(folder / "config.yaml", dump(Config.model_validate(tree), comments=True))


def file_facts(path: str) -> dict[str, Any]:
    """Path and SHA-256 of a file; a folder's hash is over the names and contents of its files."""
    root = Path(path)
    digest = hashlib.sha256()
    for file in [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file()):
        content = file_sha256(file)
        if root.is_file():
            return {"path": path, "sha256": content}
        digest.update(f"{file.relative_to(root)}\0{content}\n".encode())
    return {"path": path, "sha256": digest.hexdigest() if root.exists() else None}


def _augmentation_sources(config: Config) -> dict[str, dict[str, Any]]:
    """Facts of what new rows are made with besides the training rows."""
    settings, found = config.augmentation, {}
    if settings.lexicon is not None and settings.names != NONE:
        found["lexicon"] = file_facts(settings.lexicon)
    if settings.masked_model and "masked" in chosen_names(settings):
        source = masked_source(config)
        found["masked_model"] = {"name": source.name, "sha256": weights_sha256(source)}
    return found


def _refuse_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    before, after = _flat(old["requested"]), _flat(new["requested"])
    changed = [
        f"--resume: {key} was {before.get(key)!r} and is now {after.get(key)!r}; use the old value, or start a new run"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not key.startswith(NOT_PART_OF_THE_RESULT)
    ]
    for part, what in {"data": "the data", "augmentation": "the lexicon or the masked model"}.items():
        if old["identity"].get(part) != new["identity"].get(part):
            changed.append(f"--resume: {what} changed since the run began; restore the files, or start a new run")
    if old["status"] == "done":
        changed.append("--resume: the run is finished; nothing is left to continue")
    if changed:
        raise UsageError(changed)


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{section}.{name}": value for section, values in tree.items() for name, value in values.items()}


def identity(requested: Mapping[str, Any], **facts: Any) -> dict[str, str]:
    """What checkpoints of a run belong to: hashes of the settings that decide its result, and of `facts` by name."""
    deciding = {k: v for k, v in _flat(requested).items() if not k.startswith(NOT_PART_OF_THE_RESULT)}
    return {"config": _hash(deciding), **{name: _hash(value) for name, value in facts.items()}}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
