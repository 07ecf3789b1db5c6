from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tunesmith.errors import Interrupted
from tunesmith.progress import Progress
from tunesmith.signals import TOGETHER_SECONDS, StopRequest

HEAD = """
import sys, time
from tunesmith import signals
stop = signals.answer()
stop.saved = "step 3 is saved"
def ready(): print("ready", file=sys.stderr, flush=True)
"""
WAITING = "ready()\ntime.sleep(20)"
SWALLOWED = "while True:\n    try: ready(); time.sleep(20)\n    except BaseException: pass"
IN_STEPS = "with stop:\n    ready()\n    while stop.signum is None: time.sleep(0.02)\n    time.sleep(0.5)"
ENDLESS_STEP = "with stop:\n    ready()\n    while True: time.sleep(0.02)"
LEFTOVER = "open('half', 'w').close()\nsignals.leftovers.add('half')\n" + SWALLOWED
OVER = "stop.over()\n" + WAITING
CATCHING = """
try:
{body}
except signals.Stopped:
    stop.tell(); sys.exit(stop.exit_code)
except Exception as error:
    stop.tell(str(error)); sys.exit(error.exit_code)
"""


def run(body: str, folder: Path, *numbers: int, apart: float = 0.0, flags: str = "", **options: Any) -> tuple[int, str]:
    """Exit code and standard error of a small command that gets signals when it is ready."""
    body = CATCHING.format(body="".join(f"    {line}\n" for line in body.splitlines()))
    command = [sys.executable, "-c", HEAD + body, *flags.split()]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    assert process.stderr and process.stderr.readline() == "ready\n"
    for number in numbers:
        process.send_signal(number)
        time.sleep(apart)
    out, err = process.communicate(timeout=15)
    return process.returncode, err + out


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
@pytest.mark.parametrize("body", [WAITING, IN_STEPS, OVER], ids=["waiting", "in steps", "over"])
def test_one_signal_is_answered_by_one_line(body: str, number: int, code: int, tmp_path: Path) -> None:
    name = signal.Signals(number).name
    assert run(body, tmp_path, number) == (code, f"tunesmith: stopped by {name}; step 3 is saved\n")


def test_a_signal_whose_exception_is_swallowed_ends_the_command_all_the_same(tmp_path: Path) -> None:
    said = "ready\ntunesmith: stopped by SIGTERM; step 3 is saved\n"
    assert run(LEFTOVER, tmp_path, signal.SIGTERM) == (143, said)
    assert not (tmp_path / "half").exists()


def test_a_signal_before_all_is_ready_waits_for_it(tmp_path: Path) -> None:
    program = """
import os, signal, threading
from tunesmith import __main__
start = threading.Thread.start
threading.Thread.start = lambda self: (os.kill(os.getpid(), signal.SIGTERM), start(self))
__main__.main()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (143, "tunesmith: stopped by SIGTERM; nothing was changed\n")


def test_a_line_between_the_steps_names_flags_too(tmp_path: Path) -> None:
    program = """
import os, signal, sys, time
from tunesmith import cli, commandline, signals
stop = signals.answer()
def work():
    stop.saved = "step 3 is saved (output.resume=true)"
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(9)
commandline._run = work
cli.main()
"""
    command = [sys.executable, "-c", program, "train", "x.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (143, "tunesmith: stopped by SIGTERM; step 3 is saved (--resume)\n")


def test_a_second_signal_leaves_at_once_and_one_that_comes_twice_does_not(tmp_path: Path) -> None:
    left = (143, "tunesmith: left at once; step 3 is saved\n")
    assert run(ENDLESS_STEP, tmp_path, signal.SIGTERM, signal.SIGINT, apart=2 * TOGETHER_SECONDS) == left
    stopped = (143, "tunesmith: stopped by SIGTERM; step 3 is saved\n")
    assert run(IN_STEPS, tmp_path, signal.SIGTERM, signal.SIGTERM) == stopped


def test_a_script_gets_an_object(tmp_path: Path) -> None:
    code, said = run(WAITING, tmp_path, signal.SIGTERM, flags="--json")
    said, found = said.splitlines()
    assert json.loads(found) == {"error": [said.removeprefix("tunesmith: ")], "exit_code": code}


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    def ignoring() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does

    said = run("ready()\ntime.sleep(0.3)", tmp_path, signal.SIGHUP, preexec_fn=ignoring)
    assert said == (0, "")


@pytest.fixture
def handlers() -> Any:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_program_of_somebody_else_keeps_its_own_handlers(handlers: dict[int, Callable[..., Any]]) -> None:
    came = []
    signal.signal(signal.SIGTERM, lambda *_: came.append("host"))
    with pytest.raises(Interrupted, match="nothing is saved") as told, StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.signum == signal.SIGTERM and not came
    assert told.value.exit_code == 143
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.arrived is not None
        stop.arrived -= 1
        signal.raise_signal(signal.SIGTERM)
        assert came == ["host"]
        stop.arrived = None
    signal.raise_signal(signal.SIGTERM)
    assert came == ["host", "host"] and signal.getsignal(signal.SIGINT) == handlers[signal.SIGINT]


def test_lines_that_nobody_reads_do_not_end_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    closed = os.fdopen(writing, "w")
    progress = Progress()
    monkeypatch.setattr(progress.console, "file", closed)
    progress.line("one")
    progress.line("two")
    assert progress.console.quiet
    with suppress(BrokenPipeError):
        closed.close()


def python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tunesmith", *arguments], stderr=subprocess.PIPE, text=True, timeout=60, **options
    )


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        result = python("init", stdout=full)
    said = "tunesmith: standard output: no space left on the disk; free some\n"
    assert (result.returncode, result.stderr) == (5, said)
    result = python("init", preexec_fn=lambda: os.close(1))
    assert (result.returncode, result.stderr) == (0, "")
    reading, writing = os.pipe()
    os.close(reading)
    result = python("init", stdout=writing)
    os.close(writing)
    assert (result.returncode, result.stderr) == (0, "")
