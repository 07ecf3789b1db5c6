"""What the server says besides predictions: an error is one JSON object, which repeats nothing of what was sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from tunesmith.text import json_text

CODES = {
    400: "malformed",
    401: "key",
    404: "not_found",
    405: "method",
    408: "slow",
    413: "too_large",
    415: "type",
    421: "host",
    422: "content",
    429: "busy",
    431: "headers",
    500: "internal",
    503: "unavailable",
}
"""A word for programs, by the status; `Refused` may have another."""
QUIET = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Headers of every answer that does not say otherwise: nothing is kept, guessed, or run by a browser."""


class Refused(Exception):
    """A request that gets no prediction.

    Args:
        status: of HTTP.
        message: what was wanted, and what to do; nothing of the request is in it.
        code: a word for programs; by default that of the status.
        headers: of the answer.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code or CODES.get(status, "refused")
        self.headers = dict(headers or {})

    @property
    def reply(self) -> Response:
        return json_reply({"error": self.message, "code": self.code}, self.status, self.headers)


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as one line of JSON."""
    return Response(json_text(value) + "\n", status, dict(headers or {}), "application/json")


def require_type(headers: Mapping[str, str], *wanted: str) -> str:
    """The media type that the headers of a request name, one of those `wanted`.

    Raises:
        Refused: it is another one.
    """
    found = headers.get("content-type", "").partition(";")[0].strip().lower()
    if found not in wanted:
        raise Refused(415, f"expected Content-Type: {' or '.join(wanted)}")
    return found
