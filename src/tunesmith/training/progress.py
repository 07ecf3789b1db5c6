"""What a person sees and what a program reads while a run goes on: a progress bar, and one JSON line per event."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

from tunesmith.errors import UsageError


def require_tracker(name: str) -> None:
    """Make sure, before slow work, that a tracker, which is called like its package, can be used.

    Raises:
        UsageError: its package is not installed.
    """
    if name != "none" and find_spec(name) is None:
        raise UsageError(f"--tracker {name}: its package is not installed; run `pip install {name}`")


class Stages:
    """Progress bars of a command, on standard error; silent when `quiet`.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)

    def say(self, text: str) -> None:
        """One line for the user."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Bar]:
        """A bar that disappears when its work is done."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        shown = self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=not shown) as progress:
            yield Bar(progress, progress.add_task(title, total=total, note=""))


class Bar:
    """One running bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, amount: int = 1) -> None:
        self._progress.advance(self._task, amount)

    def update(self, completed: int, note: str) -> None:
        self._progress.update(self._task, completed=completed, note=note)


class ProgressCallback(TrainerCallback):
    """Moves a bar with loss and metric, and appends every logged step and evaluation to ``metrics.jsonl``.

    Args:
        bar: the bar to move, one unit a step.
        file: the run's ``metrics.jsonl``.
        metric: name of the metric shown, without ``eval_``.
        method: that the lines belong to.

    Attributes:
        first_step: steps that were taken before this process.
    """

    def __init__(self, bar: Bar, file: Path, metric: str, method: str) -> None:
        self.bar, self.file, self.metric, self.method = bar, file, metric, method
        self.notes: dict[str, str] = {}
        self.first_step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Forget the lines of steps that a resumed run takes again."""
        self.first_step = int(state.global_step)
        if self.file.exists():
            lines = self.file.read_text(encoding="utf-8").splitlines(keepends=True)
            rows = [json.loads(line) for line in lines]
            kept = [i for i, row in enumerate(rows) if row["method"] != self.method or row["step"] <= state.global_step]
            self.file.write_text("".join(lines[i] for i in kept), encoding="utf-8")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(state.global_step, "  ".join(self.notes.values()))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        logs = logs or {}
        if "loss" in logs:
            self.notes["loss"] = f"loss {logs['loss']:.3f}"
        if f"eval_{self.metric}" in logs:
            self.notes["metric"] = f"{self.metric} {logs[f'eval_{self.metric}']:.4f}"
        line = {"step": state.global_step, **logs, "method": self.method}
        with self.file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
