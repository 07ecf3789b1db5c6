"""Small runs that campaigns disturb, and what tells a run that went on from one that nothing disturbed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.campaigns import common
from tests.campaigns.processes import Child, Ended, command

TASKS = ("classification", "multilabel", "regression", "ner", "qa")
METHODS = ("full", "features", "freeze", "gradual", "lora", "auto")
RECORDS = {"run.json", "adapt.json"}
NOT_COMPARED = {".lock", "report.html"}
"""The number of a process; a page that shows the seconds that the record has."""
OF_THE_CLOCK = re.compile(r"timing|seconds|tokens_per_second|(eval|train)_(runtime|\w+_per_second)")
"""Keys of records and logs."""
CLOCK_ROWS = re.compile(r"^\| (Time|Speed) \| .*$", re.MULTILINE)
"""Of a model card."""
OF_THE_WORK = {"engine"}
"""What the record says of how the work was done: a run that goes on finds the states that it kept before."""


GOOD = ("exact", "was done")
"""Verdicts of a run that went on: it became the undisturbed one, or it was ended after its last result was saved."""


@dataclass(frozen=True)
class Recipe:
    """A run: ``tunesmith train`` (or ``adapt``) with tiny data and a tiny model, the folder of the run always ``run``.

    Attributes:
        task: one of `TASKS`, or ``adapt``.
        settings: further ``--set`` values.
        chooses: whether there are enough validation rows for the best state to be chosen.
        rows: to learn from.
    """

    task: str
    method: str = "full"
    settings: tuple[str, ...] = ()
    chooses: bool = True
    rows: int = 40
    epochs: int = 3
    family: str = "bert"

    def __str__(self) -> str:
        what = self.task if self.task == "adapt" else f"{self.task} {self.method}"
        return " ".join([what, *self.settings])

    def arguments(self) -> list[str]:
        """Of the command; the same for every case of a campaign."""
        precise = () if any("precision" in value for value in self.settings) else ("training.precision=float32",)
        values = ["training.threads=1", *precise, *self.settings]
        given = [word for value in values for word in ("--set", value)]
        train = common.rows(self.task, self.rows)
        given = ["--model", str(common.model(self.family)), "--out", "run", *given]
        if self.task == "adapt":
            given += ["--max-length", "16", "--set", "training.head_steps=8"]
            return ["adapt", str(train), "--epochs", str(self.epochs), "--batch-size", "8", *given]
        valid, test = (common.rows(self.task, n) for n in (52 if self.chooses else 12, 20))
        given += ["--epochs", str(self.epochs), "--batch-size", "8", "--method", self.method, "--lr", "1e-3"]
        given += ["--set", "evaluation.resamples=100"]
        return ["train", str(train), "--valid", str(valid), "--test", str(test), *given]

    def start(self, folder: Path, *more: str, before: Iterable[Callable[[], Any]] = ()) -> Child:
        """Begin the run in a child; its folder is ``run`` in `folder`, which is also where its cache is."""
        cache = {"TUNESMITH_CACHE": str(folder / "cache")}
        return Child(command(*self.arguments(), *more, cwd=folder, before=before), folder / "output", cache)

    def go(self, folder: Path, *more: str, before: Iterable[Callable[[], Any]] = (), seconds: float = 60) -> Ended:
        """The run from beginning to end, or on from where it is."""
        return self.start(folder, *more, before=before).wait(seconds)

    def go_on(self, folder: Path) -> tuple[str, str]:
        """The same command again, after something ended the run: a verdict (good: ``exact``, ``was done``), and why."""
        ended = self.go(folder)
        was_done = ended.code == 2 and "a finished run is there already" in ended.err
        if ended.code and not was_done:
            return "does not go on", str(ended)
        if wrong := self.difference(folder):
            return "differs", wrong
        return ("was done" if was_done else "exact"), ""

    def reference(self) -> Path:
        """Folder of the same run that nothing disturbed, with its seconds in ``seconds``; made once."""

        def make(folder: Path) -> None:
            ended = self.go(folder)
            if ended.code:
                raise RuntimeError(f"{self}: the run that nothing disturbs fails: {ended.err}")
            (folder / "seconds").write_text(str(ended.seconds), encoding="utf-8")

        return common.once(f"reference-{hashlib.sha256(repr(self).encode()).hexdigest()[:16]}", make)

    def seconds(self) -> float:
        """That the run takes when nothing disturbs it."""
        return float((self.reference() / "seconds").read_text(encoding="utf-8"))

    def difference(self, folder: Path) -> str:
        """What differs between a run's folder and that of the run that nothing disturbed; empty where nothing does."""
        return difference(folder / "run", self.reference() / "run")


def difference(found: Path, wanted: Path) -> str:
    """The first difference between two folders of finished runs: names, bytes, records without times; or nothing."""
    names, others = ({str(path.relative_to(root)) for path in root.rglob("*")} for root in (found, wanted))
    if extra := sorted(names ^ others):
        name = extra[0]
        return f"{name} is {'left over' if name in names else 'missing'}"
    for name in sorted(names):
        pair = found / name, wanted / name
        if name in NOT_COMPARED or pair[1].is_dir():
            continue
        one, other = map(_content, pair)
        if where := _first_difference(one, other):
            return f"{name} {where}"
    return ""


def _content(path: Path) -> Any:
    """What is compared of a file: the bytes, or what is in it less the times."""
    if path.name in RECORDS:
        return _without_times(json.loads(path.read_bytes()))
    if path.name == "metrics.jsonl":
        lines = path.read_text(encoding="utf-8").splitlines()
        return {f"line {n}": _without_times(json.loads(line)) for n, line in enumerate(lines, 1)}
    if path.name != "README.md":
        return path.read_bytes()
    lines = CLOCK_ROWS.sub("", path.read_text(encoding="utf-8")).splitlines()
    return {f"line {n}": line for n, line in enumerate(lines, 1)}


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if key not in OF_THE_WORK and not OF_THE_CLOCK.fullmatch(key)}
        return {key: _without_times(one) for key, one in kept.items()}
    return [_without_times(one) for one in value] if isinstance(value, list) else value


def _first_difference(one: Any, other: Any, path: str = "") -> str:
    """Where two trees differ, and how."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted({*one, *other})
        found = (_first_difference(one.get(key), other.get(key), f"{path}.{key}".lstrip(".")) for key in keys)
        return next((where for where in found if where), "")
    if one == other:
        return ""
    return "differs" if isinstance(one, bytes) else f"{path} is {str(one)[:80]}, not {str(other)[:80]}"
