"""The end of a server: whoever the system let in is heard."""

from __future__ import annotations

import socket
import sys
import threading

import pytest

from tunesmith.serve.server import last_accepted


@pytest.mark.skipif(sys.platform != "linux", reason="needs the filters of Linux")
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
def test_nobody_is_let_in_after_the_last_was_accepted(host: str) -> None:
    made, over = list[socket.socket](), threading.Event()
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        place = "127.0.0.1" if host == "0.0.0.0" else host, listening.getsockname()[1]

        def keep_asking() -> None:
            while not over.is_set():
                try:
                    made.append(socket.create_connection(place, timeout=0.05))
                except OSError:
                    continue

        asking = [threading.Thread(target=keep_asking) for _ in range(4)]
        for one in asking:
            one.start()
        while len(made) < 50:
            over.wait(0.01)
        found = last_accepted(listening)
        over.wait(0.2)  # who asks now is not let in
    over.set()
    for one in asking:
        one.join()
    try:
        assert {one.getsockname() for one in made} <= {one.getpeername() for one in found}
    finally:
        for one in (*made, *found):
            one.close()
