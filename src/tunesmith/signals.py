"""Signals: the first ends the work in order, a second at once; one line says what is saved and how to go on.

A command answers them from its first import to its exit (`Command`): by an exception where it stands, or after the
step while steps are taken. Libraries swallow exceptions, and code that is not Python's does not see them, so a thread
watches that it ends, and ends it. In a program of somebody else (`StopRequest`) they are held back during steps alone,
and are the program's own before and after.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from tunesmith.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TOGETHER_SECONDS = 0.2
"""Signals that follow each other faster are one: `timeout` and some launchers send it to a process and to its group."""
LEAVING_SECONDS = 2.0
"""A command that is not gone so long after it was to end is ended where it stands."""

leftovers: set[str] = set()
"""Temporary files, and folders of files, that are removed also where nothing is unwound."""


class Stopped(BaseException):
    """A signal came to a command. No `KeyboardInterrupt`, for which libraries have answers of their own."""


class StopRequest:
    """Context, of steps, in which signals become a request to stop; a second is the program's own again.

    Attributes:
        signum: the signal that came, or None.
        arrived: when it came, by the monotonic clock.
        saved: what is saved, and how to go on: the end of the line that is told.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.arrived: float | None = None
        self.saved = "nothing is saved yet"
        self._previous: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        """128 + signal number: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + (self.signum or signal.SIGINT)

    def __enter__(self) -> StopRequest:
        # Python delivers signals to the main thread alone; elsewhere the caller's own handling stays in force.
        if threading.current_thread() is threading.main_thread():
            self._take(self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
        self._after_steps(kind)

    def _after_steps(self, error: type[BaseException] | None) -> None:
        if error is None and self.arrived is not None:  # after the last one
            raise Interrupted(self.words, self.exit_code)

    @property
    def words(self) -> str:
        return f"stopped by {signal.Signals(self.signum or signal.SIGINT).name}; {self.saved}"

    def _take(self, handle: Any) -> None:
        """Handle signals by `handle`; not what is ignored (nohup, jobs in the background), or not Python's."""
        for number in SIGNALS:
            previous = signal.getsignal(number)
            if previous not in (signal.SIG_IGN, None):
                self._previous[number] = signal.signal(number, handle)

    def _note(self, signum: int) -> None:
        if self.arrived is None:
            self.signum, self.arrived = signum, time.monotonic()

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        second = self.arrived is not None and time.monotonic() - self.arrived > TOGETHER_SECONDS
        self._note(signum)
        if second and signum in self._previous:
            signal.signal(signum, self._previous.pop(signum))
            signal.raise_signal(signum)


class Command(StopRequest):
    """The signals of a process of our own."""

    def __init__(self) -> None:
        super().__init__()
        self.saved = "nothing was changed"
        self.spelled: Callable[[str], str] = str  # how the command writes the names of settings
        self._in_steps = self._raised = self._told = False
        self._free_since = 0.0
        self._take(self._raise)
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reading,), daemon=True, name="signals").start()
        told = sys.unraisablehook
        sys.unraisablehook = lambda lost: None if lost.exc_type is Stopped else told(lost)

    def __enter__(self) -> Command:
        self._in_steps = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._in_steps, self._free_since = False, time.monotonic()
        self._raised |= self.arrived is not None
        self._after_steps(kind)

    def tell(self, words: str = "") -> None:
        """Say how it ended, once.

        Args:
            words: other than that it was stopped, and what is saved.
        """
        if not self._told:
            self._told = True
            report([self.spelled(words or self.words)], self.exit_code)

    def leave(self, words: str = "") -> None:
        """Say it, and end the process where it stands."""
        self.tell(words)
        for path in list(leftovers):
            with suppress(OSError):
                for name in os.listdir(path) if os.path.isdir(path) else ():
                    os.unlink(os.path.join(path, name))
                os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
        os._exit(self.exit_code)

    def over(self) -> None:
        """The work is done: from here on a signal ends the process, which has nothing left to unwind."""
        self._take(self._leave)

    def _leave(self, signum: int, frame: FrameType | None) -> None:
        self._note(signum)
        self.leave()

    def _raise(self, signum: int, frame: FrameType | None) -> None:
        self._note(signum)
        if not self._in_steps and not self._raised:
            self._raised = True
            raise Stopped

    def _watch(self, reading: int) -> None:
        first: float | None = None
        while True:
            left = None  # seconds that the command still has
            if self.arrived is not None:
                since = max(self.arrived, self._free_since)
                left = 0.2 if self._in_steps else since + LEAVING_SECONDS - time.monotonic()
                if left <= 0:
                    self.leave()
            if not select.select([reading], [], [], left)[0] or (number := os.read(reading, 1)[0]) not in SIGNALS:
                continue
            self._note(number)
            first = first or time.monotonic()
            if time.monotonic() - first > TOGETHER_SECONDS:
                self.leave(f"left at once; {self.saved}")


def report(messages: list[str], exit_code: int) -> None:
    """Messages on standard error, with ``--json`` also an object on standard output, where somebody reads them."""
    from tunesmith.text import harmless, json_text  # not earlier: little is imported before signals are answered

    messages = [harmless(message) for message in messages]
    shown = {2: "".join(f"tunesmith: {message}\n" for message in messages)}
    if "--json" in sys.argv:
        shown[1] = json_text({"error": messages, "exit_code": exit_code}) + "\n"
    for descriptor, text in shown.items():
        with suppress(OSError):  # not by `print`, whose lock the main thread may hold
            if select.select([], [descriptor], [], 0.5)[1]:
                os.write(descriptor, text.encode("utf-8", errors="replace"))


_command: Command | None = None


def answer() -> Command:
    """Answer the signals of this process, from now on."""
    global _command
    _command = _command or Command()
    return _command


def current() -> StopRequest:
    """The signals of this process, where it is a command; else a new request."""
    return _command or StopRequest()
