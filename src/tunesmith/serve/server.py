"""A server from its first check to its last answer: nothing listens before the model has answered, and whoever was
accepted is answered before it ends."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from tunesmith import signals
from tunesmith.errors import Interrupted, UsageError
from tunesmith.predictor import Predictor
from tunesmith.progress import Progress
from tunesmith.run.record import Run
from tunesmith.serve.app import make_app
from tunesmith.serve.connection import Config, Connection
from tunesmith.serve.corrections import Corrections
from tunesmith.serve.keys import Keys
from tunesmith.serve.service import Service

LAME_SECONDS = 1.0
"""A server that was told to stop says that it is not ready, and still listens, so long."""
BACKLOG = 2_048
SWITCH_SECONDS = 0.0005
"""Threads of Python take turns so often: that of the model gives way at each library call, and is to come back."""


@dataclass(frozen=True)
class Settings:
    """What a server is started with; as of `tunesmith.serve.serve`."""

    run: str
    host: str
    port: int
    keys: str | None
    no_keys: bool
    corrections: str | None
    precision: str
    allow: str | None = None

    @property
    def is_local(self) -> bool:
        """Only this machine reaches it."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def load_keys(self) -> Keys:
        """
        Raises:
            UsageError: they cannot be used, or there should be some.
        """
        if self.keys is not None and self.no_keys:
            raise UsageError("`no_keys`: contradicts `keys`; leave one of them out")
        if self.keys is None and not (self.no_keys or self.is_local):
            wanted = "give `keys`, a file with a key a line, or say `no_keys` where something else keeps strangers out"
            raise UsageError(f"`host`: {self.host} is reached from other machines; {wanted}")
        return Keys.load(self.keys)

    def bound(self) -> socket.socket:
        """The socket, which does not listen yet.

        Raises:
            UsageError: the address is taken, not this machine's, or not allowed.
        """
        if not 0 <= self.port < 2**16:
            raise UsageError(f"`port`: expected a number from 0 (any that is free) to 65535, found {self.port}")
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            made = socket.socket(family, kind, protocol)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
        except OSError as error:
            raise UsageError(f"`host`: {self.host}, `port`: {self.port}: {error.strerror}; give another one") from None
        return made


def address_of(listening: socket.socket) -> str:
    """Where a browser finds it."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


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
            listening.setblocking(False)
            with suppress(OSError):  # no more of them
                while True:
                    found.append(listening.accept()[0])
        for listening in (*own, *sockets):
            listening.close()
        return found

    async def _served(self, accepted: socket.socket) -> None:
        def protocol() -> asyncio.Protocol:
            return Connection(self.config, self.server_state, {})

        accepted.setblocking(False)
        with suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(protocol, accepted)


def serve(
    run: Run | str | Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    progress: Progress | None = None,
    *,
    keys: str | Path | None = None,
    no_keys: bool = False,
    corrections: str | Path | None = None,
    precision: str = "float32",
    allow: str | None = None,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Answer requests until a signal comes; see the command of the same name.

    Args:
        run: a run or its folder, or its model folder.
        host: name or number of the interface.
        port: 0 for one that is free.
        progress: where it is told what happens; by default on standard error.
        keys: a file with a key a line, one of which a request must have.
        no_keys: everybody may ask, from other machines, too.
        corrections: a file to which marked answers are added.
        precision, allow: of the matrix products, and further model types; see `tunesmith.load`.
        ready: called with the address, once requests are answered.

    Raises:
        ModelError: the run has no usable model; nothing listened then.
        UsageError: an option cannot be used.
        Interrupted: requests were cut off at the end, or a second signal came.
    """
    settings = Settings(str(run), host, port, _named(keys), no_keys, _named(corrections), precision, allow)
    serve_one(settings, settings.load_keys(), settings.bound(), progress or Progress(), ready)


def _named(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def serve_one(
    settings: Settings, keys: Keys, listening: socket.socket, progress: Progress, ready: Callable[[str], None]
) -> None:
    """Load the model, and serve it in this process on a socket that is bound."""
    sys.setswitchinterval(SWITCH_SECONDS)
    predictor = Predictor.load(settings.run, settings.precision, settings.allow)
    corrections = None if settings.corrections is None else Corrections(settings.corrections, predictor)
    service = Service(Path(settings.run), predictor, keys, corrections, progress=progress)
    service.local_only = settings.is_local and not keys
    service.warm_up()
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
        h11_max_incomplete_event_size=service.limits.header_bytes,
    )
    address = address_of(listening)
    server = _Server(config, stop, lambda: ready(address))
    try:
        server.run([listening])
    except OSError as error:
        raise UsageError(f"`port`: {address}: {error.strerror}; give another one") from None
    return server.left
