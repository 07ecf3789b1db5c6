"""The program ``tunesmith``, also as ``python -m tunesmith``: it answers signals before it imports anything that takes
time."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading

from tunesmith import signals
from tunesmith.startup import uncollected


def main() -> None:
    """Run a command."""
    _open_standard_streams()
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, signals.SIGNALS)  # what comes before all is ready waits for it
    stop = signals.answer()
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        with uncollected():
            from tunesmith.cli import main as run
            from tunesmith.resources import keep_to_processors

        keep_to_processors()
        run()
    except SystemExit as ended:
        _leave(ended.code)
    except BaseException:  # libraries turn one error into another
        if stop.arrived is None:
            raise
        stop.leave()


def _leave(code: int | str | None) -> None:
    """End the process while signals are still answered.

    What Python does after these steps, which takes it a second, would set nothing free that the system does not.
    """
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _open_standard_streams() -> None:
    """Nothing where one of them is closed, so that no file of ours takes its number and its output."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8"))


if __name__ == "__main__":
    main()
