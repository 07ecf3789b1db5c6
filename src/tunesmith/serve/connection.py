"""A connection of uvicorn that ends: slow headers, answers that nobody reads, and too many at a time."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from tunesmith.serve.limits import Limits
from tunesmith.serve.replies import CODES, QUIET

LEAVING_SECONDS = 1.0
"""For a connection without a request, once the server has stopped to listen."""


class Config(uvicorn.Config):
    """uvicorn's settings, and the limits of a connection."""

    def __init__(self, limits: Limits, app: ASGIApp, **settings: Any) -> None:
        super().__init__(app, http=Connection, **settings)
        self.limits = limits


class Connection(H11Protocol):
    """The protocol of a connection; its settings are `Config`."""

    config: Config

    @property
    def limits(self) -> Limits:
        return self.config.limits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._receipt: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self.draining = False
        if len(self.connections) > self.limits.connections:
            transport.abort()
        else:
            self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._receipt, self._stuck):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.conn.their_state is not h11.IDLE:
            self._headers_are_there()
        elif self._receipt is None and self.conn.our_state is h11.IDLE:
            self._await_headers()

    def _await_headers(self) -> None:
        self._receipt = self.loop.call_later(self.limits.header_seconds, self._slow)

    def _headers_are_there(self) -> None:
        if self._receipt:
            self._receipt.cancel()
            self._receipt = None

    def _slow(self) -> None:
        self._receipt = None
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            return
        if self.conn.trailing_data[0]:
            self._refuse(408, f"the headers were not there after {self.limits.header_seconds:.0f} s; send them faster")
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        self._headers_are_there()
        super().on_response_complete()

    def handle_events(self) -> None:
        super().handle_events()
        if self.draining and self.cycle and not self.cycle.response_started:
            self._close_after()

    def send_400_response(self, msg: str) -> None:
        error = sys.exc_info()[1]  # called where it is caught
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        self._refuse(*((431, "the headers are too long") if status == 431 else (400, "expected HTTP/1.1")))

    def _refuse(self, status: int, message: str) -> None:
        body = (json.dumps({"error": message, "code": CODES[status]}) + "\n").encode()
        said = {**QUIET, "content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        headers = [(name.encode(), value.encode()) for name, value in said.items()]
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # else an answer has begun
            events: list[Any] = [
                h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status]),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ]
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def shutdown(self) -> None:
        """The server listens no more: what is asked is answered, and then this ends."""
        if self.draining:
            return
        self.draining = True
        if self.cycle is None or self.cycle.response_complete:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(LEAVING_SECONDS, self.timeout_keep_alive_handler)
        else:
            self._close_after()

    def _close_after(self) -> None:
        self.cycle.keep_alive = False
        if not self.cycle.response_started and CLOSE_HEADER not in self.cycle.default_headers:
            self.cycle.default_headers = [*self.cycle.default_headers, CLOSE_HEADER]

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(self.limits.work_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck:
            self._stuck.cancel()
            self._stuck = None

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():  # nobody reads it
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()
