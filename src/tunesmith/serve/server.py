"""A server from its first check to its last answer: nothing listens before the model has answered, and whoever was
accepted is answered before it ends."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import uvicorn

from tunesmith import signals
from tunesmith.errors import Interrupted, UsageError
from tunesmith.predictor import Predictor
from tunesmith.progress import Progress
from tunesmith.serve.app import make_app
from tunesmith.serve.connection import Config, Connection
from tunesmith.serve.corrections import Corrections
from tunesmith.serve.keys import Keys
from tunesmith.serve.service import Service
from tunesmith.serve.settings import Settings, address_of

LAME_SECONDS = 1.0
"""A server that was told to stop says that it is not ready, and still listens, so long."""
BACKLOG = 2_048
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
"""Of Linux: which packets for a socket are dropped; `man 7 socket`."""
NOTHING = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
"""A filter, in the code of Berkeley's, that lets no packet through: return 0."""
KEPT_PRIMITIVES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
"""Of torch, which else keeps 1,024 of them, one for each shape of a batch: ten megabytes that come late."""
SWITCH_SECONDS = 0.0005
"""Threads of Python take turns so often: that of the model gives way at each library call, and is to come back."""


class _Server(uvicorn.Server):
    """uvicorn's, whose signals are ours, and which ends without losing a request.

    Attributes:
        left: how many connections were cut off at the end.
    """

    def __init__(self, config: Config, stop: signals.StopRequest, up: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop, self._drain_seconds, self._up, self.left = stop, config.limits.drain_seconds, up, 0

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        for listening in sockets or []:
            with suppress(OSError):  # a worker that ended alone has left its filter on the socket that all share
                listening.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        await super().startup(sockets)
        self._up()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._stop.arrived is not None

    async def main_loop(self) -> None:
        await super().main_loop()
        await asyncio.sleep(LAME_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._drain_seconds - LAME_SECONDS
        await asyncio.gather(*map(self._served, self._last_accepted(sockets or [])))
        connections: set[Connection] = self.server_state.connections  # type: ignore[assignment]
        while connections and loop.time() < until:
            for connection in list(connections):
                connection.shutdown()
            await asyncio.sleep(0.02)
        self.left = len(connections)
        for connection in list(connections):
            connection.transport.abort()

    def _last_accepted(self, sockets: list[socket.socket]) -> list[socket.socket]:
        """Stop listening; the connections that the system has made meanwhile."""
        found, own = list[socket.socket](), [one.dup() for one in sockets]
        for server in self.servers:
            server.close()
        for listening in own:
            found += last_accepted(listening)
        for listening in (*own, *sockets):
            listening.close()
        return found

    async def _served(self, accepted: socket.socket) -> None:
        def protocol() -> asyncio.Protocol:
            return Connection(self.config, self.server_state, {})

        accepted.setblocking(False)
        with suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(protocol, accepted)


def last_accepted(listening: socket.socket) -> list[socket.socket]:
    """The connections that wait to be accepted, before nobody listens any more.

    One that the system makes after the last was accepted, and before the socket is closed, would be lost. So it is told
    first to make no more of them, where it can be told: who asks then is refused once nobody listens.
    """
    with suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(NOTHING)))
    listening.setblocking(False)
    found = list[socket.socket]()
    with suppress(OSError):  # no more of them
        while True:
            found.append(listening.accept()[0])
    return found


def serve_one(
    settings: Settings, keys: Keys, listening: socket.socket, progress: Progress, ready: Callable[[str], None]
) -> None:
    """Load the model, and serve it in this process on a socket that is bound."""
    os.environ.setdefault(*KEPT_PRIMITIVES)
    sys.setswitchinterval(SWITCH_SECONDS)
    predictor = Predictor.load(settings.run, settings.precision, settings.allow)
    corrections = None if settings.corrections is None else Corrections(settings.corrections, predictor)
    service = Service(Path(settings.run), predictor, keys, corrections, progress=progress)
    service.local_only = settings.is_local and not keys
    service.warm_up()
    gc.collect()
    gc.freeze()  # else garbage of requests waits until it is a quarter of all that the libraries hold
    left = 0
    try:
        with signals.current() as stop:
            service.draining = lambda: stop.arrived is not None
            stop.saved = "requests that were being answered are lost"
            left = start(service, listening, stop, ready)
    except Interrupted:
        if left:
            raise
    finally:
        service.close()


def start(service: Service, listening: socket.socket, stop: signals.StopRequest, ready: Callable[[str], None]) -> int:
    """Answer requests until `stop` has a signal, and then what was accepted.

    Returns:
        How many connections were cut off at the end.
    """
    config = Config(
        service.limits,
        make_app(service),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",  # what is to be told is told by us, and never what was sent
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=service.limits.idle_seconds,
        h11_max_incomplete_event_size=service.limits.header_bytes,
    )
    address = address_of(listening)
    server = _Server(config, stop, lambda: ready(address))
    try:
        server.run([listening])
    except OSError as error:
        raise UsageError(f"`port`: {address}: {error.strerror}; give another one") from None
    return server.left
