"""How campaigns run: each case in a forked child with a time limit, the outcomes counted, the result written.

A campaign is a module of this package with

- ``TITLE`` and ``GOAL``: words for the table in ``docs/reliability.md``: what is tried, and what is good;
- ``cases(count, seed)``: a list of cases (anything that has a readable ``repr``), the same for the same arguments;
- ``run(case, folder)``: tries one in a child and in an empty folder of its own, and returns an `Outcome`;
- optionally ``COUNT`` (cases of a full run, else 100), ``SAMPLE`` (of the tests' sample, else 4), ``SECONDS`` (limit of
  a case, else 60), ``facts(outcomes)``: more figures for the table, by name; and ``unavailable()``: why it cannot be
  done on this machine, or None.

It ends in ``if __name__ == "__main__": common.main(__name__)``; ``python -m tests.campaigns.NAME`` runs it. A child
that dies, hangs or raises is an outcome that is not good, so `run` has nothing to catch. What several cases share (a
pretrained model, the result of a run that nothing disturbed) is made by `once`; `processes` forks further children.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# The same before any library is imported, in every campaign: no network, one thread.
os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}
os.environ |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1"}

import torch
from filelock import FileLock
from rich import progress as bars
from rich.console import Console

from tests import tiny
from tests.campaigns.processes import Child, Ended
from tunesmith.run.record import versions

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
MOST_BAD = 50
"""Bad cases that a result lists."""


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        name: of the case; empty: its ``repr``.
        good: whether it is what the campaign's goal asks for.
        verdict: one of few words by which outcomes are counted ("exact", "refused", "accepted silently").
        note: what a person needs to understand one that is not good.
        facts: what the campaign's ``facts`` reads.
    """

    name: str
    good: bool
    verdict: str
    note: str = ""
    facts: Any = None


class Campaign:
    """A module, with what it leaves out."""

    def __init__(self, module: Any) -> None:
        self.module, self.name = module, module.__name__.rpartition(".")[2]
        self.title, self.goal = str(module.TITLE), str(module.GOAL)
        self.count, self.sample = getattr(module, "COUNT", 100), getattr(module, "SAMPLE", 4)
        self.seconds: float = getattr(module, "SECONDS", 60.0)
        self.unavailable: Callable[[], str | None] = getattr(module, "unavailable", lambda: None)

    def run(self, count: int, seed: int = 0, workers: int = 1) -> list[Outcome]:
        """Outcomes of `count` cases, in their order; Ctrl-C leaves it at those that have ended."""
        _warm_up()
        with _place() as place:
            cases = list(self.module.cases(count, seed))
            with _bar(self.name, len(cases)) as tick:
                return self._outcomes(cases, place, workers, tick)

    def _outcomes(self, cases: list[Any], place: Path, workers: int, tick: Callable[[Outcome], None]) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        waiting, running = list(enumerate(cases)), dict[int, Child]()
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    index, case = waiting.pop(0)
                    running[index] = self._start(case, place / f"{index:05d}")
                for index, child in list(running.items()):
                    hung = time.perf_counter() - child.begin > self.seconds
                    if child.poll(0.2 / len(running)) or hung:
                        del running[index]
                        outcomes[index] = _outcome(cases[index], child.ended(hung))
                        shutil.rmtree(place / f"{index:05d}", ignore_errors=True)
                        tick(outcomes[index])
        except KeyboardInterrupt:  # what was tried so far counts
            for child in running.values():
                child.ended(hung=True)
        return [outcomes[index] for index in sorted(outcomes)]

    def _start(self, case: Any, folder: Path) -> Child:
        within = {"TMPDIR": str(folder / "tmp"), "TUNESMITH_CACHE": str(folder / "cache")}
        (folder / "tmp").mkdir(parents=True)
        (folder / "case").mkdir()

        def work() -> Outcome:
            tempfile.tempdir = None  # the parent's
            torch.set_num_threads(1)
            found: Outcome = self.module.run(case, folder / "case")
            return found

        return Child(work, folder / "output", within)


def _warm_up() -> None:
    """Import here what every child would import, and keep it from being looked through for garbage there."""
    for name in ("cli", "pipeline", "adapting", "predicting", "evaluating"):
        importlib.import_module(f"tunesmith.{name}")
    gc.freeze()


def campaigns() -> list[str]:
    """Names of the modules here that are campaigns."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [file.stem for file in files if "\ndef cases(" in file.read_text(encoding="utf-8")]


def load(name: str) -> Campaign:
    return Campaign(importlib.import_module(f"tests.campaigns.{name}"))


def _outcome(case: Any, ended: Ended) -> Outcome:
    if ended.code == 0 and isinstance(ended.value, Outcome):
        found = ended.value
        return found if found.name else Outcome(**{**vars(found), "name": repr(case)})
    verdict = "hung" if ended.code is None else "died" if ended.code < 0 else "failed"
    return Outcome(repr(case), False, verdict, str(ended))


_shared: list[Path] = []


@contextmanager
def _place() -> Iterator[Path]:
    """A folder for all cases, in which `once` finds what they share."""
    with tempfile.TemporaryDirectory(prefix="campaign-") as name:
        _shared.append(Path(name) / "shared")
        _shared[-1].mkdir()
        try:
            yield Path(name)
        finally:
            _shared.pop()


def shared(name: str) -> Path:
    """A path in the folder that all cases share."""
    return _shared[-1] / name


def once(name: str, make: Callable[[Path], Any]) -> Path:
    """Folder that `make` filled, by the first case that asks for this name; the others wait and must not change it."""
    folder = shared(name)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            aside = folder.with_name(f"{name}.part")
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            make(aside)
            aside.rename(folder)
    return folder


def model(family: str = "bert") -> Path:
    """Folder of a tiny pretrained model, shared by all cases."""
    return once(f"model-{family}", lambda folder: tiny.save_model(family, folder))


def rows(kind: str, number: int = 60) -> Path:
    """File of small examples (``"adapt"``: texts) of a task, shared by all cases."""
    name = "rows.txt" if kind == "adapt" else "rows.jsonl"
    return once(f"{kind}-{number}", lambda folder: tiny.write_rows(kind, folder / name, number)) / name


@contextmanager
def _bar(name: str, total: int) -> Iterator[Callable[[Outcome], None]]:
    console, bad = Console(stderr=True, highlight=False), 0
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn())
    with bars.Progress(*columns, bars.TimeRemainingColumn(), console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task(name, total=total)

        def tick(outcome: Outcome) -> None:
            nonlocal bad
            bad += not outcome.good
            shown.update(task, advance=1, description=f"{name}, {bad} not good" if bad else name)
            if not outcome.good:
                console.print(
                    f"{name}: {outcome.name}: {outcome.verdict}: {outcome.note}", markup=False, soft_wrap=True
                )

        yield tick


def result(campaign: Campaign, outcomes: Sequence[Outcome], seed: int, seconds: float) -> dict[str, Any]:
    """What the table is made from; nothing in it names this machine or its folders."""
    bad = [outcome for outcome in outcomes if not outcome.good]
    facts: Callable[[Sequence[Outcome]], dict[str, Any]] = getattr(campaign.module, "facts", lambda outcomes: {})
    return {
        "title": campaign.title,
        "goal": campaign.goal,
        "total": len(outcomes),
        "good": len(outcomes) - len(bad),
        "verdicts": dict(sorted(Counter(outcome.verdict for outcome in outcomes).items())),
        "facts": facts(outcomes),
        "bad": [{key: asdict(outcome)[key] for key in ("name", "verdict", "note")} for outcome in bad[:MOST_BAD]],
        "seed": seed,
        "seconds": round(seconds, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": machine(),
    }


def write_result(name: str, found: dict[str, Any]) -> None:
    """Write ``results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8", errors="replace")


def commit() -> str:
    """The commit that is tried, with a ``+`` where files differ from it."""

    def git(*arguments: str) -> str:
        found = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        return found.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + "+" * bool(git("status", "--porcelain", "src"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> dict[str, Any]:
    """System, processors, memory and versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    facts = {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()}
    return {**facts, "memory_gib": round(memory / 2**30, 1), "versions": versions()}


def main(name: str) -> None:
    """Run a campaign by its command line, write its result, and exit with 1 where a case is not good.

    Args:
        name: ``__name__`` of the module.
    """
    campaign = Campaign(sys.modules[name])
    if name == "__main__":
        spec = sys.modules[name].__spec__
        campaign.name = spec.name.rpartition(".")[2] if spec else Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(description=campaign.title)
    parser.add_argument("--count", type=int, default=campaign.count, help=f"cases (else {campaign.count})")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of cases (else 0)")
    parser.add_argument("--workers", type=int, default=1, help="cases at a time (else 1)")
    parser.add_argument("--dry", action="store_true", help="leave the result file as it is")
    given = parser.parse_args()
    if reason := campaign.unavailable():
        sys.exit(f"{campaign.name}: {reason}")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also in the background of a shell
    begin = time.perf_counter()
    outcomes = campaign.run(given.count, given.seed, given.workers)
    found = result(campaign, outcomes, given.seed, time.perf_counter() - begin)
    if not given.dry:
        write_result(campaign.name, found)
    shown = ", ".join(f"{key} {value}" for key, value in {**found["verdicts"], **found["facts"]}.items())
    sys.stdout.write(f"{campaign.name}: {found['good']} of {found['total']} good in {found['seconds']} s ({shown})\n")
    sys.exit(found["good"] < found["total"])
