"""A server that listens: what is sent byte by byte, too slowly, wrongly or while it stops."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.serving import listening, service
from tunesmith.serve.service import Service

Train = Callable[[str], Path]
PREDICT = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = '{"input": "good cat"}'


@pytest.fixture(scope="module")
def address(trained: Train) -> Iterator[str]:
    served = service(
        trained("classification"), header_seconds=0.3, body_seconds=0.3, body_bytes_per_second=10**6, connections=20
    )
    with listening(served) as (where, _):
        yield where


@contextmanager
def connected(address: str) -> Iterator[socket.socket]:
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as made:
        yield made


def statuses(address: str, *parts: str | bytes, pause: float = 0.0) -> list[int]:
    """The status of each answer that comes until the server closes."""
    with connected(address) as made:
        for part in parts:
            try:
                made.sendall(part if isinstance(part, bytes) else part.encode())
            except OSError:
                break
            time.sleep(pause)
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", rest(made))]


def rest(made: socket.socket) -> bytes:
    found = b""
    try:
        while part := made.recv(65_536):
            found += part
    except OSError:
        pass
    return found


SAID = f"{PREDICT}Content-Length: {len(BODY)}\r\nConnection: close\r\n\r\n{BODY}"
CHUNKED = f"{PREDICT}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((SAID,), [200]),
        ((f"{CHUNKED}{len(BODY):x}\r\n{BODY}\r\n0\r\n\r\n",), [200]),
        ((SAID.replace("Connection: close\r\n", "") + SAID,), [200, 200]),
        (("GARBAGE\r\n\r\n",), [400]),
        ((f"{PREDICT}Content-Length: -1\r\n\r\n{BODY}",), [400]),
        ((f"{PREDICT}Content-Length: 21\r\nContent-Length: 22\r\n\r\n{BODY}",), [400]),
        ((f"{PREDICT}Content-Length: 21\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",), [400]),
        ((f"{PREDICT}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",), [400]),
        ((f"{CHUNKED}xyz\r\n",), [400]),
        (("GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n",), [400]),
        (("GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + "y" * 70_000,), [431]),
        ((f"{PREDICT}Content-Length: 99999999999\r\n\r\n",), [413]),
        ((f"{CHUNKED}", *[f"{65_536:x}\r\n{'x' * 65_536}\r\n"] * 20), [413]),
        ((f"{PREDICT}Content-Length: 5000000\r\n\r\n", *["x" * 50_000] * 100), [413]),
        ((f"{PREDICT}Content-Length: 30\r\n\r\n{BODY}",), [408]),
        ((f"{PREDICT}Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n",), [413]),
    ],
)
def test_what_is_sent_gets_its_status(address: str, parts: tuple[str, ...], expected: list[int]) -> None:
    assert statuses(address, *parts) == expected
    assert statuses(address, SAID) == [200]


@pytest.mark.parametrize("head", ["", "GET /livez HTTP/1.1\r\nHost: loc", f"{PREDICT}Content-Length: 30\r\n\r\n"])
def test_who_sends_a_byte_now_and_then_is_not_waited_for(address: str, head: str) -> None:
    begin = time.monotonic()
    statuses(address, head, *["x"] * 20, pause=0.1)
    assert time.monotonic() - begin < 3


def test_a_second_request_is_not_waited_for_either(address: str) -> None:
    first = SAID.replace("Connection: close\r\n", "")
    assert statuses(address, first, *PREDICT[:12], pause=0.05) == [200, 408]


@pytest.mark.parametrize("path", ["/", "/info", "/nowhere"])
def test_head_has_the_headers_of_get_and_no_body(address: str, path: str) -> None:
    with connected(address) as made:
        made.sendall(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        head, _, body = rest(made).decode().partition("\r\n\r\n")
    whole = httpx.get(f"{address}{path}")
    assert head.startswith(f"HTTP/1.1 {whole.status_code} ") and body == ""
    assert f"content-length: {len(whole.content)}" in head and whole.headers["content-type"] in head


def test_more_connections_than_allowed_are_closed_at_once(address: str) -> None:
    time.sleep(0.5)
    with connected(address) as kept:
        others = [socket.create_connection(kept.getpeername(), timeout=10) for _ in range(30)]
        kept.sendall(SAID.encode())
        assert b"200 OK" in rest(kept)
        for other in others:
            other.close()


def test_who_was_accepted_is_answered_when_the_server_stops(trained: Train) -> None:
    served = service(trained("classification"))
    answered, refused, lost = [], [], []
    with listening(served) as (address, stop):

        def ask() -> None:
            with httpx.Client(base_url=address, timeout=30) as client:
                while not refused:
                    try:
                        answered.append(client.post("/predict", json={"input": "good cat"}).status_code)
                    except httpx.ConnectError:
                        refused.append(time.monotonic())
                    except httpx.HTTPError as error:
                        lost.append(repr(error))

        clients = [threading.Thread(target=ask) for _ in range(8)]
        for client in clients:
            client.start()
        time.sleep(0.5)
        with httpx.Client(base_url=address) as probe:
            assert probe.get("/readyz").status_code == 200
            told = time.monotonic()
            stop()
            assert probe.get("/readyz").status_code == 503 and probe.get("/livez").status_code == 200
            assert time.monotonic() - told < 0.5
        for client in clients:
            client.join(20)
    assert set(answered) == {200} and lost == [] and len(answered) > 20


def test_a_full_queue_is_told_and_what_was_accepted_is_answered(trained: Train) -> None:
    served = service(trained("classification"), queued_texts=40)
    slow(served, 0.05)
    found: list[httpx.Response] = []
    with listening(served) as (address, _), httpx.Client(base_url=address, timeout=30) as client:
        threads = [
            threading.Thread(target=lambda: found.append(client.post("/predict", json={"inputs": ["good cat"] * 10})))
            for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    counts = {status: [one for one in found if one.status_code == status] for status in (200, 429)}
    assert len(counts[200]) + len(counts[429]) == 20 and counts[429] and len(counts[200]) >= 4
    assert all(int(one.headers["retry-after"]) >= 1 and one.json()["code"] == "busy" for one in counts[429])


def test_an_answer_that_comes_too_late_is_none(trained: Train) -> None:
    served = service(trained("classification"), work_seconds=0.2)
    slow(served, 0.5)
    with listening(served) as (address, _):
        reply = httpx.post(f"{address}/predict", json={"input": "good cat"})
    assert reply.status_code == 503 and reply.json()["code"] == "deadline"


def slow(served: Service, seconds: float) -> None:
    answer = served.predictor.predict_records

    def later(records: object) -> object:
        time.sleep(seconds)
        return answer(records)  # type: ignore[arg-type]

    object.__setattr__(served.predictor, "predict_records", later)


@pytest.mark.parametrize("how", ["raises", "panics", "not finite"])
def test_of_a_batch_the_guilty_request_alone_fails(how: str, trained: Train) -> None:
    served = service(trained("classification"))
    answer, logs = served.predictor.predict_records, list[str]()
    served.progress.line = logs.append  # type: ignore[method-assign]

    class Panic(BaseException):
        pass

    def sometimes(records: object) -> object:
        time.sleep(0.02)
        found, cut = answer(records)  # type: ignore[arg-type]
        for number, text in enumerate(records.texts):  # type: ignore[attr-defined]
            if text == "poison":
                if how != "not finite":
                    raise {"raises": ValueError, "panics": Panic}[how]("poison")
                found[number].scores["alpha"] = float("nan")
        return found, cut

    object.__setattr__(served.predictor, "predict_records", sometimes)
    with listening(served) as (address, _), httpx.Client(base_url=address, timeout=30) as client:
        right = client.post("/predict", json={"input": "good cat"}).json()
        found: dict[int, httpx.Response] = {}

        def ask(number: int) -> None:
            text = "poison" if number == 7 else "good cat"
            found[number] = client.post("/predict", json={"input": text})

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
    failed = found.pop(7)
    assert failed.status_code == 500 and "poison" not in failed.text
    assert all(json.loads(one.text) == right for one in found.values())
    assert len(logs) == 1 and failed.headers["x-request-id"] in logs[0] and "poison" not in logs[0]
