"""Runs with combinations of settings that cover every pair, stopped after a random step and continued.

What cannot be continued exactly must refuse to start; such cells are listed by their reason.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from tests.campaigns import common
from tests.campaigns.common import Outcome
from tests.campaigns.runs import GOOD, METHODS, TASKS, Recipe

TITLE = "combinations of settings that cover every pair of values; stopped after a random step, then the same command"
GOAL = "the model, predictions, metrics and logs of an undisturbed run, bit for bit, or a refusal that says why"
COUNT, SAMPLE, SECONDS = 80, 2, 300.0

LEXICON = "good, great\nbad, poor, awful\nfilm, book\ncard, bank, money\nlate, lost\nnew, old, fast\n"
AXES: dict[str, tuple[str, ...]] = {
    "task": TASKS,
    "method": METHODS,
    "schedule": ("linear", "cosine", "constant"),
    "augmentation": ("none", "eda", "masked"),
    "long": ("keep-start", "keep-ends", "windows"),
    "precision": ("float32", "bfloat16"),
    "accumulation": ("1", "2", "4"),
    "early stopping": ("none", "1"),
    "engine": ("auto", "off"),
    "class weights": ("none", "balanced"),
    "pooling": ("auto", "first", "mean"),
    "validation": ("many", "few"),
}
NAMES = tuple(AXES)


@dataclass(frozen=True)
class Cell:
    values: tuple[str, ...]
    at: float
    """Where in the run it is stopped, 0 to 1."""

    def __repr__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in zip(AXES, self.values, strict=True))

    @property
    def recipe(self) -> Recipe:
        chosen = dict(zip(AXES, self.values, strict=True))
        settings = [
            f"training.schedule={chosen['schedule']}",
            f"training.precision={chosen['precision']}",
            f"training.accumulation={chosen['accumulation']}",
            f"engine.use={chosen['engine']}",
            f"augmentation.names={chosen['augmentation']}",
            "training.max_length=8",  # so that most texts are longer
        ]
        task, optional = chosen["task"], []
        if chosen["long"] != "keep-start":
            optional.append(f"training.long={chosen['long']}")
        if chosen["early stopping"] != "none":
            optional.append(f"training.early_stopping={chosen['early stopping']}")
        if chosen["class weights"] != "none":
            optional.append(f"training.class_weights={chosen['class weights']}")
        if chosen["pooling"] != "auto":
            optional.append(f"model.pooling={chosen['pooling']}")
        if chosen["augmentation"] == "eda":
            optional.append(f"augmentation.lexicon={common.once('lexicon', _write_lexicon) / 'lexicon.txt'}")
        if chosen["augmentation"] == "masked":
            optional.append(f"augmentation.masked_model={common.once('masked', _write_masked)}")
        return Recipe(task, chosen["method"], (*settings, *optional), chosen["validation"] == "many")


def _write_lexicon(folder: Path) -> None:
    (folder / "lexicon.txt").write_text(LEXICON, encoding="utf-8")


def _write_masked(folder: Path) -> None:
    library: Any = transformers
    library.AutoModelForMaskedLM.from_pretrained(common.model()).save_pretrained(folder)
    library.AutoTokenizer.from_pretrained(common.model()).save_pretrained(folder)


def cases(count: int, seed: int) -> list[Cell]:
    """Cells of which every pair of values that go together is in one; of the others, and then at random, as many again.

    A tenth of the cells hold a pair that does not go together, and must be refused.
    """
    draw = random.Random(seed)
    pairs = {
        ((one, a), (other, b))
        for (one, first), (other, second) in itertools.combinations(enumerate(AXES.values()), 2)
        for a, b in itertools.product(first, second)
        if _fits({NAMES[one]: a, NAMES[other]: b})
    }
    cells: list[Cell] = []
    while len(cells) < count:
        wanted = len(cells) % 10 != 9
        drawn = [tuple(draw.choice(values) for values in AXES.values()) for _ in range(2000)]
        drawn = [cell for cell in drawn if _fits(dict(zip(NAMES, cell, strict=True))) == wanted][:200]
        best = max(drawn, key=lambda cell: len(_pairs(cell) & pairs)) if wanted else drawn[0]
        pairs -= _pairs(best) if wanted else set()
        cells.append(Cell(best, draw.random()))
    return cells


def _fits(chosen: dict[str, str]) -> bool:
    """Whether a run with these values is offered at all."""
    task = chosen.get("task")
    on_tokens = {"class weights": "none", "pooling": "auto", "long": "keep-start"}
    return not (
        (task in ("ner", "qa") and any(chosen.get(name, value) != value for name, value in on_tokens.items()))
        or (task == "regression" and chosen.get("class weights") == "balanced")
        or (task == "multilabel" and chosen.get("class weights") == "balanced")
    )


def _pairs(cell: tuple[str, ...]) -> set[tuple[tuple[int, str], tuple[int, str]]]:
    return set(itertools.combinations(enumerate(cell), 2))


class Stop:
    """Ends the process after a step, as the work of a child's `before`."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self) -> None:
        from tunesmith.training.task_trainer import TaskTrainer

        after_step = TaskTrainer._maybe_log_save_evaluate
        left = self.step

        def counted(trainer: Any, *positional: Any, **named: Any) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGTERM)  # saved in order, then it leaves
            after_step(trainer, *positional, **named)

        TaskTrainer._maybe_log_save_evaluate = counted  # type: ignore[assignment, method-assign]


def run(cell: Cell, folder: Path) -> Outcome:
    recipe = cell.recipe
    first = recipe.go(folder, before=[Stop(1 + int(cell.at * 15))])
    if first.code == 2 and not (folder / "run" / "run.json").exists():
        return Outcome("", True, "refused", first.err.strip().splitlines()[-1], first.err.strip().splitlines()[-1])
    if first.code not in (0, 143):
        return Outcome("", False, "failed", str(first))
    verdict, note = recipe.go_on(folder)
    return Outcome("", verdict in GOOD, "ended before that step" if verdict == "was done" else verdict, note)


def facts(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    reasons = Counter(str(outcome.facts).partition(":")[2].strip() for outcome in outcomes if outcome.facts)
    return {f"refused ({reason})": number for reason, number in sorted(reasons.items())}


if __name__ == "__main__":
    common.main(__name__)
