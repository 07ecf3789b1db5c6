"""Several processes that answer on one socket, each with the model; this one starts, watches and ends them."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict

from prometheus_client import multiprocess

from tunesmith import signals
from tunesmith.errors import Interrupted, ModelError, TunesmithError
from tunesmith.progress import Progress
from tunesmith.resources import threads
from tunesmith.serve.limits import Limits
from tunesmith.serve.server import serve_one
from tunesmith.serve.settings import Settings
from tunesmith.serve.watching import SHARED
from tunesmith.text import counted

WATCH_SECONDS, EXTRA_SECONDS = 0.1, 5.0


class Worker:
    """A process that serves; what it says first is whether it is ready.

    Args:
        number: how many of them there are, which share the processors.
    """

    def __init__(self, settings: Settings, listening: socket.socket, figures: str, number: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import {work.__name__}; {work.__name__}()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            env={**os.environ, SHARED: figures, "OMP_NUM_THREADS": str(threads(number))},
            start_new_session=True,  # a signal of the terminal comes to this process, which passes it on once
        )
        assert self.process.stdin
        said = {"settings": asdict(settings), "socket": listening.fileno()}
        self.process.stdin.write(f"{json.dumps(said)}\n".encode())
        self.process.stdin.flush()  # and stays open: the worker ends when this process does
        self.ready = False

    def look(self) -> None:
        """Take notice of what it said.

        Raises:
            ModelError: it cannot serve.
        """
        assert self.process.stdout
        if self.ready or not select.select([self.process.stdout], [], [], 0)[0]:
            return
        said = json.loads(self.process.stdout.readline() or '{"error": ["a worker died while it was starting"]}')
        if "error" in said:
            problem = ModelError(said["error"])
            problem.exit_code = said.get("exit_code", problem.exit_code)
            raise problem
        self.ready = True


def serve_many(
    settings: Settings,
    number: int,
    listening: socket.socket,
    progress: Progress,
    ready: Callable[[], None],
) -> None:
    """Serve in several processes until a signal comes.

    Raises:
        ModelError: the first ones cannot serve.
        Interrupted: requests were cut off at the end.
    """
    workers: list[Worker] = []
    lost = 0
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as figures:
        try:
            with signals.current() as stop:
                stop.saved = "requests that were being answered are lost"
                workers += [Worker(settings, listening, figures, number) for _ in range(number)]
                told = False
                while stop.arrived is None:
                    for worker in workers:
                        worker.look()
                    if not told and all(worker.ready for worker in workers):
                        told = True
                        ready()
                    for place, worker in enumerate(workers):
                        if (code := worker.process.poll()) is not None:
                            progress.line(f"warning: a worker died (exit {code}), another one takes its place")
                            multiprocess.mark_process_dead(worker.process.pid, figures)  # type: ignore[no-untyped-call]
                            workers[place] = Worker(settings, listening, figures, number)
                    time.sleep(WATCH_SECONDS)
                listening.close()
                lost = _end(workers)
        except Interrupted:
            if lost:
                raise Interrupted(f"{counted(lost, 'worker')} did not answer all that was accepted", 143) from None
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.wait()


def _end(workers: list[Worker]) -> int:
    """Tell all of them to stop; how many of them lost requests."""
    for worker in workers:
        worker.process.terminate()
    until = time.monotonic() + Limits().drain_seconds + EXTRA_SECONDS
    while any(worker.process.poll() is None for worker in workers) and time.monotonic() < until:
        time.sleep(WATCH_SECONDS)
    return sum(worker.ready and worker.process.poll() != 0 for worker in workers)


def work() -> None:
    """Be a worker, of the process that holds the other end of standard input."""
    stop = signals.answer()
    said = json.loads(sys.stdin.readline())

    def end_with_parent() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_parent, daemon=True).start()
    settings, listening, code = Settings(**said["settings"]), socket.socket(fileno=said["socket"]), 0
    try:
        serve_one(settings, settings.load_keys(), listening, Progress(), lambda _: _say({"ready": True}))
    except TunesmithError as error:
        code = error.exit_code
        _say({"error": error.problems, "exit_code": code})
    except signals.Stopped:
        code = stop.exit_code
    os._exit(code)


def _say(value: object) -> None:
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()
