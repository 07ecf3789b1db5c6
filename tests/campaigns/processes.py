"""Children forked from this process, which has paid for the imports: whatever happens in one is seen from outside."""

from __future__ import annotations

import ctypes
import os
import pickle
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

UNEXPECTED = 70
"""Exit status of a child whose work raised an exception."""
PR_SET_PDEATHSIG = 1
_inherited: int | None = None
"""The pipe by which this process answers, if it is itself a child."""


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        code: its exit status; negative: the signal that killed it; None: it hung, and was killed.
        value: what its work returned; None where it did not get so far.
        out, err: what it wrote to standard output and standard error.
    """

    code: int | None
    value: Any
    out: str
    err: str
    seconds: float

    def __str__(self) -> str:
        how = "hung" if self.code is None else f"exit {self.code}" if self.code >= 0 else f"signal {-self.code}"
        lines = self.err.strip().splitlines()
        return f"{how}: {lines[-1][:300]}" if lines else how


class Child:
    """A forked child, leader of a process group of its own, whose standard output and error go to files in `folder`.

    Args:
        work: what it does; what that returns, if it can be pickled, comes back.
        environment: variables that are set in it beforehand.
    """

    def __init__(self, work: Callable[[], Any], folder: Path, environment: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = sum(1 for _ in folder.glob(".child-*.out"))
        self._files = [folder / f".child-{number}.{stream}" for stream in ("out", "err")]
        for file in self._files:
            file.touch(0o600)  # however early it is killed
        self.begin = time.perf_counter()
        self.pipe, write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads that a host (pytest) has and the child does not need
            self.pid = os.fork()
        if not self.pid:
            os.close(self.pipe)
            _be_child(work, write, self._files, environment or {})
        os.close(write)
        self._answer = b""

    def wait(self, seconds: float) -> Ended:
        """Wait until it ends; after `seconds` it is killed."""
        deadline = self.begin + seconds
        while not self.poll(max(0.0, deadline - time.perf_counter())):
            if time.perf_counter() >= deadline:
                return self.ended(hung=True)
        return self.ended()

    def poll(self, seconds: float = 0.0) -> bool:
        """Whether it closed its pipe, which it does when it ends; waits no longer than `seconds`."""
        if select.select([self.pipe], [], [], seconds)[0]:
            part = os.read(self.pipe, 1 << 16)
            self._answer += part
            return not part
        return False

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Send a signal to it alone, if it still lives."""
        os.kill(self.pid, signum)  # it is our own and was not waited for, so the number is still its

    def ended(self, hung: bool = False) -> Ended:
        """Collect it, and kill whatever it left behind."""
        patience = time.perf_counter() + 10.0  # it may close its pipe and live on
        while not hung and os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            hung = time.perf_counter() > patience
            time.sleep(0.005)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # its number is its own until it is collected
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pipe)
        seconds = time.perf_counter() - self.begin
        out, err = (file.read_text(encoding="utf-8", errors="replace") for file in self._files)
        code = None if hung else os.waitstatus_to_exitcode(status)
        value = pickle.loads(self._answer) if code == 0 and self._answer else None
        return Ended(code, value, out, err, seconds)


def _be_child(work: Callable[[], Any], pipe: int, files: list[Path], environment: Mapping[str, str]) -> NoReturn:
    """Do the work, answer and leave, without a way back into the parent's code."""
    global _inherited
    code = UNEXPECTED
    try:
        os.setsid()
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # no orphans where the parent is killed
        if _inherited is not None:
            os.close(_inherited)
        _inherited = pipe
        for number, name in zip((1, 2), files, strict=True):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        # Not those of the parent, which pytest may have replaced.
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, m, closefd=False) for n, m in enumerate("rww"))
        os.environ.update(environment)
        warnings.resetwarnings()  # those of the parent, which pytest may have made errors
        signal.signal(signal.SIGINT, signal.default_int_handler)
        answer = pickle.dumps(work())
        while answer:
            answer = answer[os.write(pipe, answer) :]
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def fork(
    work: Callable[[], Any], folder: Path, seconds: float = 60.0, environment: Mapping[str, str] | None = None
) -> Ended:
    """Do something in a child and wait for it, `seconds` at most."""
    return Child(work, folder, environment).wait(seconds)


def command(*arguments: object, cwd: Path | None = None, before: Iterable[Callable[[], Any]] = ()) -> Callable[[], Any]:
    """The work of a child that is the command ``tunesmith`` with these arguments.

    Args:
        cwd: folder that it runs in.
        before: what is done in the child first: patches, limits, signals to come.
    """

    def work() -> None:
        from tunesmith.cli import main

        sys.argv = ["tunesmith", *map(str, arguments)]
        if cwd is not None:
            os.chdir(cwd)
        for step in before:
            step()
        main()

    return work


def tunesmith(
    *arguments: object,
    folder: Path,
    seconds: float = 60.0,
    cwd: Path | None = None,
    before: Iterable[Callable[[], Any]] = (),
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run the command in a child, as a user would, and wait for it."""
    return fork(command(*arguments, cwd=cwd, before=before), folder, seconds, environment)
