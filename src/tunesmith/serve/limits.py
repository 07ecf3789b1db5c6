"""What a request may take: bytes, headers and time; counted while it is received, before anything looks at it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith.serve.replies import Refused

LOCAL_NAMES = {"localhost", "127.0.0.1", "[::1]"}


@dataclass(frozen=True)
class Limits:
    """What is accepted; also told by ``/info``.

    Attributes:
        body_bytes: of a request, but for files.
        file_bytes: of a file.
        items: of a request.
        characters: of a text.
        headers, header_bytes: of a request.
        header_seconds: until its headers are there, from its first byte or the connection's beginning.
        idle_seconds: from an answer to the next request of a connection: longer than clients keep one, who then end it.
        body_seconds: until its body is there; of a large one longer, by `body_bytes_per_second`.
        work_seconds: until it is answered.
        drain_seconds: for requests that are being answered when the server is told to stop.
        connections: at a time.
        queued_texts, queued_characters: that wait for the model.
    """

    body_bytes: int = 2**20
    file_bytes: int = 64 * 2**20
    items: int = 256
    characters: int = 100_000
    headers: int = 100
    header_bytes: int = 2**14
    header_seconds: float = 10.0
    idle_seconds: int = 15
    body_seconds: float = 30.0
    body_bytes_per_second: int = 2**16
    work_seconds: float = 30.0
    drain_seconds: float = 30.0
    connections: int = 512
    queued_texts: int = 2_048
    queued_characters: int = 4_000_000

    def shown(self) -> dict[str, Any]:
        """What who asks must keep to."""
        names = ("body_bytes", "file_bytes", "items", "characters", "work_seconds")
        return {name: getattr(self, name) for name in names}


class Limited:
    """An application behind the limits: it gets a body as a whole, but files as they come.

    Args:
        is_file: whether the body of a path is a file.
        local_only: refuse requests for another name than this machine's, which a page elsewhere may have pointed here.
    """

    def __init__(self, app: ASGIApp, limits: Limits, is_file: Callable[[str], bool], local_only: bool) -> None:
        self.app, self.limits, self.is_file, self.local_only = app, limits, is_file, local_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
        if scope["http_version"] not in ("1.0", "1.1"):
            raise Refused(400, "expected HTTP/1.1", headers={"connection": "close"})
        self._refuse_headers(headers)
        whole = not self.is_file(scope["path"])
        most = self.limits.body_bytes if whole else self.limits.file_bytes
        body = _Body(receive, most, self.limits)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and not body.over:
                await body.discard(headers)
                message["headers"] = [*message["headers"], *([] if body.over else [(b"connection", b"close")])]
            await send(message)

        try:
            body.refuse_said(headers)
            if whole:
                await self.app(scope, _replay(await body.whole(), receive), send)
            else:
                await self.app(scope, body.receive, answer)
        except Refused as error:
            await body.discard(headers)
            if not body.over:
                error.headers["connection"] = "close"
            raise

    def _refuse_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        names = [name for name, _ in headers]
        size = sum(len(name) + len(value) + 4 for name, value in headers)
        if len(headers) > self.limits.headers or size > self.limits.header_bytes:
            most = f"{self.limits.headers} headers of {self.limits.header_bytes:,} bytes"
            raise Refused(431, f"expected at most {most}", headers={"connection": "close"})
        if b"content-length" in names and b"transfer-encoding" in names:
            raise Refused(400, "expected one length of the body, found two", headers={"connection": "close"})
        host = dict(headers).get(b"host", b"").decode("latin-1")
        if self.local_only and host and _without_port(host).lower() not in LOCAL_NAMES:
            what = "this server answers to this machine's own names alone"
            raise Refused(421, f"{what}; send Host: localhost, or start it with keys", headers={"connection": "close"})


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _replay(content: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


class Gone(Exception):
    """Who asked is not there any more."""


class _Body:
    """The body of a request as it arrives.

    Attributes:
        over: it is there as a whole, or who sent it is gone.
    """

    def __init__(self, receive: Receive, most: int, limits: Limits) -> None:
        self._receive, self._most, self._limits = receive, most, limits
        self._begin = asyncio.get_running_loop().time()
        self._got, self.over, self._slow = 0, False, False

    def refuse_said(self, headers: list[tuple[bytes, bytes]]) -> None:
        """
        Raises:
            Refused: by what its headers say.
        """
        said = dict(headers)
        if int(said.get(b"content-length", b"0")) > self._most:
            raise self._too_large()
        if said.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            raise Refused(415, "expected a body without Content-Encoding")

    def _too_large(self) -> Refused:
        return Refused(413, f"expected a body of at most {self._most:,} bytes")

    async def receive(self) -> Message:
        """The next part.

        Raises:
            Refused: there is too much, or it comes too slowly.
        """
        if self.over:
            return await self._receive()
        allowed = self._limits.body_seconds + self._got / self._limits.body_bytes_per_second
        try:
            async with asyncio.timeout_at(self._begin + allowed):
                message = await self._receive()
        except TimeoutError:
            self._slow = True
            raise Refused(408, f"the body was not there after {allowed:.0f} s; send it faster") from None
        self._got += len(message.get("body", b""))
        self.over = not message.get("more_body", False)
        if self._got > self._most:
            raise self._too_large()
        return message

    async def whole(self) -> bytes:
        parts = []
        while not self.over:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Gone
            parts.append(message.get("body", b""))
        return b"".join(parts)

    async def discard(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Read what is still sent, within bounds, so that who sends it comes to read the answer."""
        if self._slow or ((b"expect", b"100-continue") in headers and not self._got):
            return
        until = asyncio.get_running_loop().time() + DISCARD_SECONDS
        try:
            while not self.over and self._got < DISCARD_BYTES:
                async with asyncio.timeout(PAUSE_SECONDS), asyncio.timeout_at(until):
                    message = await self._receive()
                self._got += len(message.get("body", b""))
                self.over = not message.get("more_body", False)
        except TimeoutError:
            return


DISCARD_BYTES, DISCARD_SECONDS, PAUSE_SECONDS = 32 * 2**20, 5.0, 0.1
"""Of a body that is refused: what is read at most, how long, and how long without a byte."""
