"""Runs that are ended at every call by which they change a file: before it, and after half of what it writes.

Calls are those of a run from its first to its last: the start, checkpoints with the removal of older ones, the end.
What lies between two calls is the state before the second, so "after" needs no case of its own.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.campaigns import common, tracing
from tests.campaigns.common import Outcome
from tests.campaigns.processes import Child, fork
from tests.campaigns.runs import GOOD, Recipe

TITLE = "a run is ended at each call that changes a file (native code included), and halfway through each write"
GOAL = "the same command makes the model, predictions, metrics and logs of an undisturbed run, bit for bit"
COUNT, SAMPLE, SECONDS = 2000, 2, 300.0


@dataclass(frozen=True)
class Replacing(Recipe):
    """A run that replaces a finished one, which stays whole until this one is done."""

    def __str__(self) -> str:
        return f"{super().__str__()} that replaces a run"

    def arguments(self) -> list[str]:
        return [*super().arguments(), "--overwrite"]

    def start(self, folder: Path, *more: str, before: Iterable[Callable[[], Any]] = ()) -> Child:
        if not (folder / "run").exists():
            shutil.copytree(self.replaced(), folder / "run")
        return super().start(folder, *more, before=before)

    def replaced(self) -> Path:
        """Folder of a finished run of other settings."""
        return Recipe(self.task, self.method, rows=self.rows, epochs=self.epochs + 1).reference() / "run"

    def is_kept(self, folder: Path) -> bool:
        """Whether one of the two runs is there, and whole."""
        wanted = {path.relative_to(self.replaced()): path.read_bytes() for path in _files(self.replaced())}
        for place in (folder / "run", folder / "run" / ".previous"):
            if {name: (place / name).read_bytes() for name in wanted if (place / name).is_file()} == wanted:
                return True
        return bool(json.loads((folder / "run" / "run.json").read_bytes())["status"] == "done")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


RECIPES: tuple[Recipe, ...] = (
    Recipe("classification", "lora", rows=16, epochs=2),
    Recipe("adapt", "", rows=16, epochs=2),
    Replacing("classification", "features", rows=16, epochs=2),
)

unavailable = tracing.unavailable


@dataclass(frozen=True)
class Point:
    """A call of a run.

    Attributes:
        number: of the call.
        call: what it did in the run that was recorded; others give their temporary files other names.
        half: whether half of the write is done.
    """

    recipe: Recipe
    number: int
    call: str
    half: bool

    def __repr__(self) -> str:
        return f"{self.recipe}, call {self.number}, {'half of' if self.half else 'before'} {self.call}"


def cases(count: int, seed: int) -> list[Point]:
    """All calls, or so many of them, in an order of chance; what encodes texts for this run alone counts once."""
    draw, points = random.Random(seed), list[Point]()
    recipes = RECIPES if count >= len(RECIPES) else draw.sample(RECIPES, count)  # what they do is recorded first
    for recipe in recipes:
        for number, call in enumerate(calls := recorded(recipe)):
            encodes = call.name == "write" and call.path == calls[number - 1].path and call.path.endswith(".arrow")
            if not encodes:
                points.append(Point(recipe, number, str(call), False))
                if call.name in tracing.WRITES.values() and call.size > 1:
                    points.append(Point(recipe, number, str(call), True))
    return draw.sample(points, min(count, len(points)))


def recorded(recipe: Recipe) -> list[tracing.Call]:
    """The calls of a run that nothing disturbs."""

    def work() -> list[tracing.Call]:
        calls: list[tracing.Call] = []

        def entering(call: tracing.Call) -> tracing.Action:
            calls.append(call)
            return "go"

        tracing.watch(recipe.start(folder, before=[tracing.traced]), folder / "run", entering)
        return calls

    folder = common.once(f"recorded {recipe}", lambda folder: None)
    ended = fork(work, folder / "recorder", SECONDS)  # a process without other children
    if not ended.value:
        raise RuntimeError(f"{recipe}: {ended}")
    found: list[tracing.Call] = ended.value
    return found


def run(point: Point, folder: Path) -> Outcome:
    seen = -1

    def entering(call: tracing.Call) -> tracing.Action:
        nonlocal seen
        seen += 1
        return "go" if seen != point.number else "half" if point.half else "kill"

    child = point.recipe.start(folder, before=[tracing.traced])
    ended = tracing.watch(child, folder / "run", entering)
    if ended.code != -signal.SIGKILL:
        return Outcome("", False, "no such call", str(ended))
    if isinstance(point.recipe, Replacing) and not point.recipe.is_kept(folder):
        return Outcome("", False, "neither run is whole")
    verdict, note = point.recipe.go_on(folder)
    return Outcome("", verdict in GOOD, verdict, note)


def facts(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {"halves of writes": sum("half of" in outcome.name for outcome in outcomes)}


if __name__ == "__main__":
    common.main(__name__)
