"""A step whose rows do not fit into memory together is taken in smaller parts: the same rows, the same sum.

The step begins anew from the state before it. How it was taken is kept beside the checkpoints, for the rounding of a
sum and the noise of dropout depend on the parts: a run that goes on after it was killed takes each step as it was
taken. What was tried in a step that was never taken is not kept: where there is enough memory, it is taken whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tunesmith.disk import read_json, write_text
from tunesmith.errors import ModelError, ResourceError, is_out_of_memory
from tunesmith.text import counted
from tunesmith.training.precision import choose_device


@dataclass
class Parts:
    """How many rows go through the model together.

    Attributes:
        file: where it is kept.
        rows: {step: number of rows from that step on}, in the order of the steps.
        tried: whether some of them are of a step that has not been taken yet, and so not in the file.
    """

    file: Path
    rows: dict[int, int]
    tried: bool = False

    @classmethod
    def of(cls, file: Path, resumed: bool) -> Parts:
        """Those of the run that is resumed, or none.

        Raises:
            ModelError: the file is damaged.
        """
        if not resumed:
            file.unlink(missing_ok=True)
        if not file.exists():
            return cls(file, {})
        try:
            rows = {int(step): max(1, int(rows)) for step, rows in read_json(file).items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"{file}: damaged ({error}); train again") from None
        return cls(file, dict(sorted(rows.items())))

    def at(self, step: int) -> int | None:
        """Rows that go through the model together in the step after `step`; None for all."""
        return next((rows for first, rows in reversed(self.rows.items()) if first <= step), None)

    def halve(self, step: int, rows: int, error: BaseException) -> int:
        """Try half of `rows`, which did not fit, from `step` on.

        Raises:
            ResourceError: there was only one.
        """
        if rows < 2:
            raise ResourceError(
                "out of memory with a single text; continue with output.resume=true where there is more, lower "
                "training.max_length, or give a smaller model"
            ) from error
        half = -(-rows // 2)
        self.rows, self.tried = dict(sorted({**self.rows, step: half}.items())), True
        return half

    def keep(self) -> None:
        """Write what was tried: the step has been taken so."""
        if self.tried:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.file, json.dumps(self.rows))
            self.tried = False

    def words(self) -> str:
        """How the steps were cut, for the user of a run that goes on; empty where they were not."""
        parts = (f"{counted(rows, 'row')} from step {step + 1} on" for step, rows in self.rows.items())
        return f"in parts of {', '.join(parts)}, as before, when memory ran out" if self.rows else ""

    def report(self, rows: int) -> dict[str, Any]:
        """For the record of a run, whose steps have `rows` together at first."""
        if not self.rows:
            return {}
        reason = f"{rows} rows did not fit into memory together"
        from_step = {str(step + 1): rows for step, rows in self.rows.items()}
        return {"memory": {"state": "smaller parts", "reason": reason, "rows_from_step": from_step}}


def cut(batch: dict[str, Any], rows: int | None) -> list[dict[str, Any]]:
    """A batch as parts of so many rows; None for the whole."""
    count = len(next(iter(batch.values())))
    if rows is None or rows >= count:
        return [batch]
    return [{key: value[first : first + rows] for key, value in batch.items()} for first in range(0, count, rows)]


def fitting_memory(compute: Callable[[int], Any], rows: int) -> Any:
    """What `compute` returns for so many rows at a time: half as many each time that memory runs out, down to one."""
    while True:
        try:
            return compute(rows)
        except Exception as error:
            if rows < 2 or not is_out_of_memory(error):
                raise
        rows = -(-rows // 2)
        free_memory()


def free_memory() -> None:
    """Give back what a device keeps for later; it may lie in pieces that are too small."""
    if choose_device().type == "cuda":
        torch.cuda.empty_cache()
