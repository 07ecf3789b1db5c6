"""What a server is started with: where it is reached, by whom, and with which model."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from tunesmith.errors import UsageError
from tunesmith.serve.keys import Keys


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
