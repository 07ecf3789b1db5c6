"""Everything that reads what others wrote is given a million odd inputs; only our own errors may come of it.

The inputs that found something lie in ``corpus/TARGET/``, as small as they go; every ``make test`` tries them again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.campaigns import common
from tests.campaigns.common import Outcome
from tests.campaigns.fuzz_worker import FOUND, GUIDED, State

TITLE = "Fuzzing every reader"
GOAL = "nothing but an error of ours, or what was read; at most 2 s and 200 MB each; no death of the process"
COUNT, SAMPLE, SECONDS = 1_020_000, 300, 4 * 3600.0
CORPUS = Path(__file__).parent / "corpus"
LEAST = 300  # inputs of a target; with fewer in all, some targets are left out
HANG, BLOCKED = 60.0, 900.0  # seconds of processor time, and of time, without a new input
MAX_DEATHS = 20


class Case(NamedTuple):
    """A number of inputs to a target of `fuzz_targets`."""

    target: str
    inputs: int
    seed: int


def cases(count: int, seed: int) -> list[Case]:
    """All targets, each with its share of `count` inputs; as many as get `LEAST` where there are few."""
    from tests.campaigns import fuzz_folders, fuzz_targets

    TARGETS = {**fuzz_targets.TARGETS, **fuzz_folders.TARGETS}
    names = list(TARGETS)[: max(1, count // LEAST)]
    shares = sum(TARGETS[name].share for name in names)
    return [Case(name, max(LEAST, -(-count * TARGETS[name].share // shares)), seed) for name in names]


def run(case: Case, folder: Path) -> Outcome:
    """Starts a worker, and another one where it dies, until the inputs are used up."""
    begin, state, deaths = time.perf_counter(), State(folder), 0
    while state.count < case.inputs and deaths < MAX_DEATHS:
        code, said = _work(case, folder, state, case.seed + deaths)
        if state.count < case.inputs or code:
            deaths += 1
            _write(folder, "hang" if code is None else _name(code), said)
    lines = (folder / FOUND).read_text("utf-8").splitlines() if (folder / FOUND).exists() else []
    found = {one["found"]: one for one in map(json.loads, lines)}
    kept = [f"{one['found']} ({_keep(case.target, one)}): {one['words']}" for one in found.values()]
    rate = state.count / (time.perf_counter() - begin)
    whole = state.count >= case.inputs
    note = "; ".join(kept) or ("" if whole else f"only {state.count:,} inputs")
    verdict = "only errors of ours" if not note else "other errors"
    facts = {"target": case.target, "inputs": state.count, "per second": round(rate)}
    return Outcome(case.target, not note, verdict, note, facts)


def facts(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Inputs in all, and of each target."""
    found = [outcome.facts for outcome in outcomes if outcome.facts]
    by_target = {one["target"]: one["inputs"] for one in found}
    guide = "coverage, by atheris" if GUIDED else "new messages"
    return {"inputs": sum(by_target.values()), "guided by": guide, **by_target}


def _work(case: Case, folder: Path, state: State, seed: int) -> tuple[int | None, str]:
    """Exit code (None: it hung) and last words of a worker."""
    command = [sys.executable, "-m", "tests.campaigns.fuzz_worker", case.target, str(case.inputs - state.count)]
    with (folder / "said").open("wb+") as said:
        worker = subprocess.Popen(
            [*command, str(seed), str(folder)], stdout=said, stderr=said, stdin=subprocess.DEVNULL, cwd=common.ROOT
        )
        count, since, used = state.count, time.perf_counter(), 0.0
        try:
            while worker.poll() is None:
                time.sleep(0.2)
                if state.count != count:
                    count, since, used = state.count, time.perf_counter(), _used(worker.pid)
                elif _used(worker.pid) - used > HANG or time.perf_counter() - since > BLOCKED:
                    return None, "no new input for a minute of processor time, or for a quarter of an hour"
        finally:
            worker.kill()
            worker.wait()
        said.seek(0)
        return worker.returncode, said.read().decode("utf-8", "replace")[-300:]


def _used(process: int) -> float:
    """Seconds of processor time of a process; 0 of one that is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _name(code: int) -> str:
    return f"death {signal.Signals(-code).name}" if code < 0 else f"exit {code}"


def _write(folder: Path, found: str, words: str) -> None:
    data = base64.b64encode(State(folder).data).decode()
    with (folder / FOUND).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"found": found, "words": words, "input": data}) + "\n")


def _keep(target: str, found: dict[str, str]) -> str:
    """Adds an input to the corpus; the name of its file."""
    data = base64.b64decode(found["input"])
    file = CORPUS / target / hashlib.sha256(data).hexdigest()[:12]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return f"corpus/{target}/{file.name}"


if __name__ == "__main__":
    common.main(__name__)
