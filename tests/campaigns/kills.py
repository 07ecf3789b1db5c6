"""Runs that are killed at random moments (SIGKILL), then continued by the same command.

A quarter of the moments lie inside the writing of a checkpoint. Every fifth case is a chain of five kills.
"""

from __future__ import annotations

import mmap
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.campaigns import common
from tests.campaigns.common import Outcome
from tests.campaigns.processes import Child
from tests.campaigns.runs import GOOD, METHODS, TASKS, Recipe

TITLE = "SIGKILL at random moments, in every fifth case five times in a row; then the same command again"
GOAL = "the model, predictions, metrics and logs of an undisturbed run, bit for bit; no step by hand"
COUNT, SAMPLE, SECONDS = 250, 3, 300.0
OFTEN = ("training.save_minutes=0.00001",)
"""A checkpoint after every step, so that many moments lie in one."""
CHAIN = 5


@dataclass(frozen=True)
class Case:
    recipe: Recipe
    moments: tuple[tuple[bool, float], ...]
    """For each kill: whether it waits for a save, and where in the time of the run (or of saves) it falls, 0 to 1."""

    def __repr__(self) -> str:
        where = ", ".join(f"{'save ' if save else ''}{at:.3f}" for save, at in self.moments)
        return f"{self.recipe} at {where}"


def cases(count: int, seed: int) -> list[Case]:
    draw = random.Random(seed)
    recipes = [Recipe(task, method, OFTEN) for task in TASKS for method in METHODS] + [Recipe("adapt", "", OFTEN)] * 3
    draw.shuffle(recipes)

    def moment(recipe: Recipe) -> tuple[bool, float]:
        saves = recipe.method != "features" or recipe.task in ("ner", "qa")  # else it is solved for, not stepped to
        return draw.random() < 0.5 and saves, draw.random()

    found = []
    for number in range(count):
        recipe, kills = recipes[number % len(recipes)], CHAIN if number % 5 == 4 else 1
        found.append(Case(recipe, tuple(moment(recipe) for _ in range(kills))))
    return found


class Watch:
    """What a run tells the process that will kill it: how many saves have begun, and whether it is inside one."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 2)

    def patch(self) -> None:
        """In the child: tell of every save."""
        from tunesmith.training import checkpoint

        commit: Callable[..., AbstractContextManager[Path]] = checkpoint.commit

        @contextmanager
        def watched(*positional: Any, **named: Any) -> Iterator[Path]:
            self._memory[0] = min(255, self._memory[0] + 1)
            self._memory[1] = 1
            with ExitStack() as stack:
                stack.callback(self._memory.__setitem__, 1, 0)
                yield stack.enter_context(commit(*positional, **named))

        checkpoint.commit = watched

    @property
    def saves(self) -> int:
        return self._memory[0]

    @property
    def inside(self) -> bool:
        return bool(self._memory[1])


def run(case: Case, folder: Path) -> Outcome:
    wanted, inside, dead = case.recipe.seconds(), 0, 0
    draw = random.Random(repr(case))
    for save, at in case.moments:
        watch = Watch()
        child = case.recipe.start(folder, before=[watch.patch])
        _wait(child, watch, draw, save, at, wanted)
        within = watch.inside
        child.kill()
        if child.ended().code != -signal.SIGKILL:
            break  # it was faster, which the next start tells, or does not go on
        dead, inside = dead + 1, inside + within
    verdict, note = case.recipe.go_on(folder)
    told = {"kills": dead, "inside": inside}
    return Outcome("", verdict in GOOD, verdict, note, told)


def _wait(child: Child, watch: Watch, draw: random.Random, save: bool, at: float, seconds: float) -> None:
    """Until the moment of a kill, or the end of the run."""
    wanted = 1 + int(at * 20)
    while not child.poll() and time.perf_counter() - child.begin < (10 * seconds if save else at * seconds):
        if save and watch.saves >= wanted and watch.inside:
            time.sleep(draw.random() * 0.01)
            return
        time.sleep(0.0003)


def facts(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    told = [outcome.facts for outcome in outcomes if outcome.facts]
    kills, inside = (sum(one[key] for one in told) for key in ("kills", "inside"))
    return {"kills": kills, "inside a save": f"{inside} ({inside / max(1, kills):.0%})"}


if __name__ == "__main__":
    common.main(__name__)
