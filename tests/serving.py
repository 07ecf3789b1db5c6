"""A server of a tiny model within the process of a test."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import tunesmith
from tunesmith.serve.corrections import Corrections
from tunesmith.serve.keys import Keys
from tunesmith.serve.limits import Limits
from tunesmith.serve.server import start
from tunesmith.serve.service import Service
from tunesmith.signals import StopRequest


def service(run: Path, keys: Keys | None = None, corrections: Path | None = None, **limits: Any) -> Service:
    """A model behind its queue, with some limits of its own."""
    predictor = tunesmith.load(run)
    kept = None if corrections is None else Corrections(str(corrections), predictor)
    made = Service(run, predictor, keys or Keys([]), kept, replace(Limits(), **limits))
    made.warm_up()
    return made


class Stop(StopRequest):
    """A signal that comes when a test says so."""

    def come(self) -> None:
        self._note(signal.SIGTERM)


@contextmanager
def listening(served: Service) -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of a server, and what tells it to stop; at the end it is told so, and awaited."""
    bound, stop, up = socket.socket(), Stop(), threading.Event()
    bound.bind(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{bound.getsockname()[1]}"
    served.draining = lambda: stop.arrived is not None
    thread = threading.Thread(target=start, args=(served, bound, stop, lambda _: up.set()))
    thread.start()
    try:
        assert up.wait(20)
        yield address, stop.come
    finally:
        stop.come()
        thread.join(40)
        served.close()
