"""What the user sees of a training run: a bar and lines that tell how it goes; each event is in ``metrics.jsonl``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tunesmith.progress import Bar, Progress
from tunesmith.text import duration

EVALUATION_SECONDS = 2
"""Evaluations that follow each other faster are not all told."""
STEP_SECONDS = 60
"""So often the loss is told between two evaluations."""


class ProgressCallback(TrainerCallback):
    """Moves a bar with loss and metric, tells how it goes, and appends every logged event to ``metrics.jsonl``.

    Args:
        bar: the bar to move, one unit a step.
        progress: for the lines.
        file: the run's ``metrics.jsonl``.
        metric: name of the metric shown, without ``eval_``.
        method: that the lines belong to.

    Attributes:
        first_step: steps that were taken before this process.
    """

    def __init__(self, bar: Bar, progress: Progress, file: Path, metric: str, method: str) -> None:
        self.bar, self.progress, self.file, self.metric, self.method = bar, progress, file, metric, method
        self.notes: dict[str, str] = {}
        self.first_step = 0
        self.began = self.told = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Of a run that goes on, the lines up to its checkpoint are those that the checkpoint holds."""
        self.first_step = int(state.global_step)
        self.began = self.told = time.monotonic()
        self._write(state.log_history)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(state.global_step, "  ".join(self.notes.values()))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        logs = logs or {}
        if "loss" in logs:
            self.notes["loss"] = f"loss {logs['loss']:.3f}"
        if f"eval_{self.metric}" in logs:
            self.notes["metric"] = f"valid {self.metric} {logs[f'eval_{self.metric}']:.4f}"
        if "loss" in logs or f"eval_{self.metric}" in logs:
            self._tell(state, STEP_SECONDS if "loss" in logs else EVALUATION_SECONDS)
        self._write([{**logs, "step": state.global_step}])

    def _write(self, events: Iterable[Mapping[str, Any]]) -> None:
        with self.file.open("a", encoding="utf-8") as out:
            for event in events:
                out.write(json.dumps({"step": event["step"], **event, "method": self.method}) + "\n")

    def _tell(self, state: Any, every: float) -> None:
        """A line on how far it is, unless one was told less than `every` seconds ago."""
        now = time.monotonic()
        gone = now - self.began
        if now - self.told < max(every, gone / 10):
            return
        self.told = now
        left = gone / max(1, state.global_step - self.first_step) * (state.max_steps - state.global_step)
        epoch, epochs = min(state.epoch or 0, state.num_train_epochs), state.num_train_epochs
        time_left = f"{duration(gone)}, about {duration(left)} to go" if left else duration(gone)
        where = f"epoch {epoch:.3g} of {epochs}"
        self.progress.line("  ".join([f"{self.method}: {where}", *self.notes.values(), time_left]))
