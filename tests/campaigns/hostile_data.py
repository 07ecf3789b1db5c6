"""Hostile data, configurations and names, each by a command in a guarded child: what it says, opens, leaves and costs.

The files themselves are made in `hostile_files`, `hostile_names`, `hostile_tables` and `hostile_workbooks`.
"""

from __future__ import annotations

import io
import os
import re
import resource
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import tiny
from tests.campaigns import common
from tests.campaigns.hostile import GOOD_ROWS, Case
from tests.campaigns.hostile_files import CASES as FILES
from tests.campaigns.hostile_names import CASES as NAMES
from tests.campaigns.hostile_tables import CASES as TABLES
from tests.campaigns.hostile_workbooks import CASES as WORKBOOKS
from tests.campaigns.processes import fork

TITLE = "hostile data files, cells, names and configurations"
GOAL = "the right exit code, the file named, nothing run, asked or opened elsewhere; ≤ 10 s and ≤ 1 GiB each"
SECONDS = 300.0
SAMPLE = 12
COUNT = 1000
"""All of them."""
MOST_SECONDS = 10.0
"""Of a processor, since others may work beside."""
MOST_BYTES = 2**30
ADDRESS_SPACE = 6 * 2**30
"""Beyond what the imports take: protects the machine, and is above what may be used."""
UNSAFE = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
"""What a terminal may obey, or nobody sees."""
LONGEST = 10_000
"""Characters of a line for people."""
CANARY = "do-not-read-this"
MACHINE = ("/dev/null", "/dev/urandom", "/proc/", "/sys/", "/usr/", "/lib/", "/etc/localtime", "/etc/mime.types")
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request")
PROGRAMS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn", "subprocess.Popen")


@dataclass
class Seen:
    """What a command did and cost, as its guard saw it."""

    code: int = -1
    out: str = ""
    err: str = ""
    seconds: float = 0.0
    peak: int = 0
    forbidden: tuple[str, ...] = ()


def cases(count: int, seed: int) -> list[Case]:
    """All of them, or as many as are asked for, spread over all kinds."""
    everything = [*FILES, *NAMES, *TABLES, *WORKBOOKS]
    if count >= len(everything):
        return everything
    step = len(everything) / count
    return [everything[int(seed + at * step) % len(everything)] for at in range(count)]


def run(case: Case, folder: Path) -> common.Outcome:
    place, outside, temporary = folder / "here", folder / "outside", Path(os.environ["TMPDIR"])
    place.mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_text(CANARY)
    os.environ["CANARY_FILE"] = str(outside / "run")
    data = case.make(place)
    arguments = _arguments(case, place, data)
    ended = fork(lambda: _guarded(arguments, place, data if case.stdin else None), folder / "output", 240.0)
    if ended.code is None or not isinstance(ended.value, Seen):
        return common.Outcome(case.name, False, "hung" if ended.code is None else "died", str(ended))
    seen = ended.value
    problems = _problems(case, seen, data, outside, temporary)
    verdict = f"exit {seen.code}" if not problems else "not as promised"
    return common.Outcome(
        case.name, not problems, verdict, "; ".join(problems), facts=(seen.seconds, seen.peak, seen.forbidden)
    )


def facts(outcomes: Sequence[common.Outcome]) -> dict[str, Any]:
    """The longest, the largest, and what was not allowed."""
    found = [outcome.facts for outcome in outcomes if outcome.facts]
    return {
        "longest in seconds": round(max(seconds for seconds, _, _ in found), 1),
        "most MiB": max(peak for _, peak, _ in found) // 2**20,
        "sockets, programs, foreign files": sum(len(forbidden) for _, _, forbidden in found),
    }


def _arguments(case: Case, place: Path, data: Path | str) -> list[str]:
    good = place / "good.csv"
    good.write_text(GOOD_ROWS, encoding="utf-8")
    if case.command == "config":
        return ["check", str(good), "--config", str(data)]
    if case.command == "set":
        return ["check", str(good), "--set", str(data)]
    if case.command == "predict":
        return ["predict", str(common.once("run", _train) / "made"), "-" if case.stdin else str(data), *case.arguments]
    return [case.command, str(data), *case.arguments]


def _train(folder: Path) -> None:
    """A small run, for those cases that predict."""
    import tunesmith

    rows = folder / "rows.csv"
    rows.write_text(GOOD_ROWS, encoding="utf-8")
    model = tiny.save_model("bert", folder / "model") or folder / "model"
    tunesmith.train(str(rows), model=str(model), epochs=1, out=str(folder / "made"), method="full")


def _guarded(arguments: list[str], place: Path, stdin: Path | str | None) -> Seen:
    """Run the command under watch."""
    from tunesmith import cli

    seen, forbidden = Seen(), dict[str, None]()
    shared = place.parents[2] / "shared"
    allowed = (
        str(place),
        os.environ["TMPDIR"],
        *map(str, (shared, common.ROOT)),
        sys.prefix,
        sys.base_prefix,
        *MACHINE,
    )

    def watch(event: str, details: tuple[Any, ...]) -> None:
        if event in NETWORK:
            forbidden[f"{event} {details[1:]!r:.80}"] = None
            raise PermissionError("no network here")
        if event in PROGRAMS and not str(details[0]).startswith(sys.prefix):
            forbidden[f"{event} {details!r:.80}"] = None
            raise PermissionError("no programs here")
        if event == "open" and isinstance(details[0], str | bytes):
            path, flags = os.path.realpath(os.fsdecode(details[0])), details[2] or 0
            written = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and not path.startswith(
                ("/dev/null", *allowed[:2])
            )
            if written or not path.startswith(allowed):
                forbidden[f"open {path[-80:]}"] = None

    sys.dont_write_bytecode = True
    sys.argv = ["tunesmith", *arguments]
    os.chdir(place)
    if stdin is not None:
        os.dup2(os.open(stdin, os.O_RDONLY), 0)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    limit = _status("VmSize") + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    before, begin = _status("VmRSS"), time.process_time()
    out, err = io.StringIO(), io.StringIO()
    sys.addaudithook(watch)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as stop:
            seen.code = int(stop.code or 0)
    seen.seconds, seen.peak = time.process_time() - begin, _status("VmHWM") - before
    seen.out, seen.err, seen.forbidden = out.getvalue()[-(10**6) :], err.getvalue()[-(10**6) :], tuple(forbidden)
    return seen


def _status(name: str) -> int:
    """Bytes, of this process."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return 1024 * int(found[1])


def _problems(case: Case, seen: Seen, data: Path | str, outside: Path, temporary: Path) -> list[str]:
    said = f"{seen.out}\n{seen.err}"
    found: list[tuple[Any, str]] = [
        (seen.code not in case.wanted, f"exit {seen.code}, expected {case.wanted}: {seen.err.strip()[-300:]!r}"),
        (seen.seconds > MOST_SECONDS, f"{seen.seconds:.1f} s"),
        (seen.peak > MOST_BYTES, f"{seen.peak / 2**20:.0f} MiB"),
        (seen.forbidden, f"did {', '.join(seen.forbidden)}"),
        (UNSAFE.search(said), f"shows {UNSAFE.search(said)!r:.120}"),
        (max(map(len, seen.err.splitlines()), default=0) > LONGEST, "a line without end"),
        (CANARY in said, "shows what stands in another folder"),
        ((outside / "run").exists() or len(list(outside.iterdir())) > 1, "ran what it read, or wrote elsewhere"),
        (list(temporary.iterdir()), f"left {[file.name for file in temporary.iterdir()][:3]}"),
        (re.search(case.says, said, re.DOTALL) is None, f"does not say {case.says!r}: {said.strip()[-300:]!r}"),
        ("Traceback" in said, "shows a traceback"),
    ]
    name = Path(str(data)).name
    if seen.code == 3 and case.command in ("check", "predict") and not case.stdin and not UNSAFE.search(name):
        name = name[:200]
        found.append((name not in said, f"does not name the file: {seen.err.strip()[-300:]!r}"))
    return [what for wrong, what in found if wrong]


if __name__ == "__main__":
    common.main(__name__)
