"""What the user sees of a training run: the bar moves, and each event becomes a line of ``metrics.jsonl``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tunesmith.disk import read_json_lines, write_json_lines
from tunesmith.progress import Bar


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
            rows = read_json_lines(self.file)
            kept = [row for row in rows if row["method"] != self.method or row["step"] <= state.global_step]
            write_json_lines(self.file, kept)

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
