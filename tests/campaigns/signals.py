"""Every command is sent signals at random moments of its life, its imports among them; then the same command again."""

from __future__ import annotations

import atexit
import os
import random
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.campaigns import common
from tests.campaigns.common import Outcome
from tests.campaigns.processes import Child, Ended
from tests.campaigns.runs import METHODS, TASKS, Recipe
from tunesmith.signals import LEAVING_SECONDS

TITLE = (
    "SIGINT, SIGTERM or SIGHUP at a random moment of train, adapt, predict, evaluate and check; every fifth time twice"
)
GOAL = "one line that says what is saved; exit 130, 143, 129; then the same command gives the undisturbed result"
COUNT, SAMPLE, SECONDS = 120, 2, 150.0
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
READING = ("predict", "evaluate", "check")
AT_ONCE = 1.0
PATIENCE = 3.0
"""Seconds beyond those that are promised, for a machine that does other things, too."""
OFTEN = ("training.save_minutes=0.00001",)
START = 0.1
"""Seconds that a process of its own has until Python has begun with our code; a signal before that is Python's."""


@dataclass(frozen=True)
class Case:
    """
    Attributes:
        command: one of `READING`, or ``train``.
        recipe: the run that is trained, or read.
        fresh: in a process of its own that has to import everything; else the libraries are there.
        at: where the signal comes in the time of the command, 0 to 1.
        twice: a second one comes half a second later.
    """

    command: str
    recipe: Recipe
    number: signal.Signals
    at: float
    fresh: bool
    twice: bool

    def __repr__(self) -> str:
        what = self.recipe if self.command == "train" else self.command
        more = " twice" * self.twice + " from its start" * self.fresh
        return f"{what}: {self.number.name} at {self.at:.3f}{more}"

    @property
    def arguments(self) -> list[str]:
        if self.command == "train":
            return self.recipe.arguments()
        run, rows = self.recipe.reference() / "run", common.rows("classification", 3_000)
        return {
            "predict": ["predict", str(run), str(rows), "--out", "out.jsonl"],
            "evaluate": ["evaluate", str(run), str(rows), "--json"],
            "check": ["check", str(rows), "--json"],
        }[self.command]

    def start(self, folder: Path) -> Child | Process:
        environment = {"TUNESMITH_CACHE": str(folder / "cache"), "TMPDIR": str(folder / "tmp")}
        (folder / "tmp").mkdir(exist_ok=True)
        if self.fresh:
            return Process(self.arguments, folder, environment)
        return Child(program(self.arguments, folder), folder / "output", environment)

    def reference(self) -> Path:
        """Folder of the same command that nothing disturbed."""

        def make(folder: Path) -> None:
            ended = self.start(folder).wait(SECONDS)
            if ended.code:
                raise RuntimeError(f"{self}: fails undisturbed: {ended}")
            (folder / "seconds").write_text(str(ended.seconds))
            (folder / "answer").write_text(ended.out)

        name = self.command if self.command != "train" else f"run-{abs(hash(repr(self.recipe)))}"
        return common.once(f"signals-{name}-{self.fresh}", make)

    def difference(self, folder: Path, ended: Ended) -> str:
        """What the command did otherwise than undisturbed."""
        wanted = self.reference()
        if self.command == "train":
            return self.recipe.difference(folder)
        if self.command == "predict":
            return "" if (folder / "out.jsonl").read_bytes() == (wanted / "out.jsonl").read_bytes() else "out.jsonl"
        return "" if ended.out == (wanted / "answer").read_text() else "its answer"


class Process:
    """A command in a process of its own, with what campaigns use of a `Child`."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.begin = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tunesmith", *arguments],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def poll(self, seconds: float = 0.0) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self, signum: int = signal.SIGKILL) -> None:
        self._process.send_signal(signum)

    def wait(self, seconds: float) -> Ended:
        try:
            out, err = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            out, err = self._process.communicate()
            return Ended(None, None, out, err, seconds)
        return Ended(self._process.returncode, None, out, err, time.perf_counter() - self.begin)


def program(arguments: Sequence[str], folder: Path) -> Callable[[], Any]:
    """The work of a child that is the program as it is started, signals and exit included."""

    def work() -> None:
        from tunesmith.__main__ import main

        finalize: Any = weakref.finalize  # the parent's temporary folders are not this process's to remove at its exit
        finalize._registry.clear()
        atexit._clear()
        finalize._registered_with_atexit = False
        sys.argv = ["tunesmith", *arguments]
        os.chdir(folder)
        main()

    return work


def cases(count: int, seed: int) -> list[Case]:
    draw = random.Random(seed)
    recipes = [Recipe(task, method, OFTEN) for task in TASKS for method in METHODS] + [Recipe("adapt", "", OFTEN)] * 4
    read = Recipe("classification", "full", OFTEN)
    found = []
    for number in range(count):
        command = "train" if number % 2 == 0 else READING[number // 2 % len(READING)]
        recipe = draw.choice(recipes) if command == "train" else read
        fresh = number % 4 == 3 or number % 12 == 6
        twice, which = number % 5 == 4, NUMBERS[draw.choice((0, 0, 1, 1, 2))]
        found.append(Case(command, recipe, which, draw.random(), fresh, twice))
    return found


def run(case: Case, folder: Path) -> Outcome:
    for number in NUMBERS:  # nothing is inherited that ignores them, as nohup does
        signal.signal(number, signal.SIG_DFL)
    seconds = float((case.reference() / "seconds").read_text())
    process = case.start(folder)
    moment = max(case.at * seconds, START if case.fresh else 0.02)
    early = process.poll(moment)
    sent = time.perf_counter()
    if not early:
        process.kill(case.number)
        if case.twice and not process.poll(0.5):
            sent = time.perf_counter()
            process.kill(case.number)
    ended = process.wait(60)
    took = time.perf_counter() - sent
    if early:
        wrong = case.difference(folder, ended)
        return Outcome("", not wrong, f"differs: {wrong}" if wrong else "was faster")
    if problem := _problem(case, folder, ended, took):
        return Outcome("", False, "wrong end", f"{problem}: {ended}", took)
    if ended.code == 0:  # it had come to its end
        wrong = case.difference(folder, ended)
        return Outcome("", not wrong, f"differs: {wrong}" if wrong else "was done", facts=took)
    finished = case.command == "train" and _is_done(folder)
    again = ended if finished else replace(case, fresh=False).start(_empty_tmp(folder, case)).wait(60)
    if again.code and not finished:
        return Outcome("", False, "does not go on", str(again), took)
    wrong = case.difference(folder, again)
    verdict = f"differs: {wrong}" if wrong else "was done" if finished else "exact"
    return Outcome("", not wrong, verdict, facts=took)


def _problem(case: Case, folder: Path, ended: Ended, took: float) -> str:
    """What is wrong with how the command ended."""
    lines = [line for line in ended.err.splitlines() if line.startswith("tunesmith: ")]
    if ended.code == 0 and not lines:
        return "" if took < LEAVING_SECONDS + PATIENCE else f"it went on for {took:.1f} s"
    if ended.code != 128 + case.number:
        return f"exit {ended.code}"
    if len(lines) != 1 or not lines[0].startswith(("tunesmith: stopped by SIG", "tunesmith: left at once; ")):
        return f"{len(lines)} lines"
    if any(sign in ended.err for sign in ("Traceback", "Exception ignored", "Error")):
        return "a traceback"
    if took > (AT_ONCE if "left at once" in lines[0] else LEAVING_SECONDS) + PATIENCE:
        return f"it took {took:.1f} s"
    if left := [path for path in [*folder.glob(".*.tmp"), *(folder / "tmp").iterdir()] if path.name != "tmp"]:
        return f"{left[0].name} is left"
    if case.command == "predict" and (folder / "out.jsonl").exists() and "is written" not in lines[0]:
        return "half a file"
    return ""


def _is_done(folder: Path) -> bool:
    return any('"status": "done"' in path.read_text() for path in (folder / "run").glob("*.json"))


def _empty_tmp(folder: Path, case: Case) -> Path:
    if case.command == "predict":
        (folder / "out.jsonl").unlink(missing_ok=True)
    return folder


def facts(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    took = sorted(outcome.facts for outcome in outcomes if outcome.facts is not None)
    return {"seconds to leave, median": round(took[len(took) // 2], 2), "at most": round(took[-1], 2)} if took else {}


if __name__ == "__main__":
    common.main(__name__)
