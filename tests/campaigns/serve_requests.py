"""Bad requests of every kind, byte for byte, each to a server that must answer the next good one as ever."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.campaigns import common, server
from tests.campaigns.common import Outcome
from tests.campaigns.server import Known

TITLE = "bad requests: no JSON, other content, sizes, headers, forms of smuggling, slowness, keys, files, corrections"
GOAL = "the status that is promised, never 500; nothing of the request in the answer; then a good request as ever"
COUNT, SAMPLE, SECONDS = 217, 5, 120.0
KEY, MARK = "a-key-of-the-campaign", "Zq7mark"
MOST_READ = 2**22
SLOW = {"slow headers", "slow headers of a second request", "slow body", "half a body"}


@dataclass(frozen=True)
class Case:
    """
    Attributes:
        sent: parts, with a pause after each.
        statuses: of the answers; empty where the connection is just closed.
        keys: the server has keys.
    """

    name: str
    sent: tuple[bytes, ...]
    statuses: tuple[int, ...]
    keys: bool = False
    pause: float = 0.0

    def __repr__(self) -> str:
        return f"{self.name}: {' '.join(map(str, self.statuses))}"


def request(
    body: bytes | str = b"",
    path: str = "/predict",
    method: str = "POST",
    kind: str = "application/json",
    headers: Sequence[str] = (),
    length: int | None = None,
) -> bytes:
    content = body.encode() if isinstance(body, str) else body
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", "Connection: close", *headers]
    if not any(line.lower().startswith("transfer-encoding") for line in headers):
        lines.append(f"Content-Length: {len(content) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


GOOD = '{"input": "good cat"}'
NO_JSON = [
    "", " ", "{", "}", "[", '{"input": "a"', '{"input": a}', "{'input': 'a'}", '{"input": "a",}', '{"input": "a"} x',
    '{"input": "a"}{"input": "b"}', '{"input": NaN}', '{"input": Infinity}', '{"input": -Infinity}', '{"input": 01}',
    '{"input": "\t"}', '{"input": "\\x41"}', '{"input": "\\u12"}', '{"input": +1}', '{"input": .5}', "nul", "True",
    '{"input": "a", "input": "b"}', '{"inputs": ["a"], "top_k": 1, "top_k": 2}', '{"input": {"a": 1, "a": 2}}',
    "[" * 100_000, '{"a":' * 50_000, "[[[[[[[[[[1]]]]]]]]]]", '{"input": ' + "9" * 5_000 + "}", "input=a&top_k=1",
    "\ufeff" + GOOD, "// " + GOOD, "<input>a</input>",
]  # fmt: skip
NO_TEXT = [
    b"\xff", b"\xfe\xff", b'{"input": "\xe9"}', b'{"input": "\xc3"}', b'{"input": "\xed\xa0\x80"}', b"\x00",
    b"\x1f\x8b\x08", GOOD.encode("utf-16"), GOOD.encode("utf-32"), b'{"input": "\xc0\xaf"}',
]  # fmt: skip
OTHER_CONTENT = [
    "null", "true", "1", '"a"', "[]", "{}", '["a"]', '{"text": "a"}', '{"input": null}', '{"input": 1}',
    '{"input": true}', '{"input": []}', '{"input": ["a"]}', '{"input": {}}', '{"input": {"text": "a"}}',
    '{"input": {"text": "a", "text_pair": "b"}}', '{"input": "a", "inputs": ["a"]}', '{"inputs": null}',
    '{"inputs": "a"}', '{"inputs": []}', '{"inputs": {}}', '{"inputs": [null]}', '{"inputs": ["a", 1]}',
    '{"inputs": ["a", ["b"]]}', '{"inputs": ["a", {"text": "b"}]}', '{"input": "\\ud800"}', '{"input": "\\udfff a"}',
    '{"inputs": ["a", "\\ud83d"]}', '{"input": "a", "top_k": 0}', '{"input": "a", "top_k": -1}',
    '{"input": "a", "top_k": 1.5}', '{"input": "a", "top_k": "1"}', '{"input": "a", "top_k": true}',
    '{"input": "a", "top_k": [1]}', '{"input": "a", "threshold": -0.1}', '{"input": "a", "threshold": 1.1}',
    '{"input": "a", "threshold": "0.5"}', '{"input": "a", "threshold": false}', '{"input": "a", "threshold": 1e999}',
    '{"input": "a", "model": "b"}', '{"input": "a", "path": "/etc/passwd"}', '{"input": "a", "": 1}',
    json.dumps({"input": "x" * 100_001}), json.dumps({"inputs": ["a", "x" * 100_001]}),
    json.dumps({"inputs": ["a"] * 257}), json.dumps({"inputs": [""] * 100_000}),
    '{"input": "a", "x": ' + "9" * 400 + "}",
]  # fmt: skip
OTHER_ROUTES = [
    ("/", "POST", 405), ("/predict", "GET", 405), ("/predict", "PUT", 405), ("/predict", "DELETE", 405),
    ("/predict", "PATCH", 405), ("/predict", "OPTIONS", 405), ("/predict", "TRACE", 405), ("/predict", "BREW", 405),
    ("/predict/", "POST", 404), ("/Predict", "POST", 404), ("//predict", "POST", 404), ("/predict/x", "POST", 404),
    ("/..%2f..%2fetc/passwd", "GET", 404), ("/page/../../../etc/passwd", "GET", 404), ("/%00", "GET", 404),
    ("/docs", "GET", 404), ("/redoc", "GET", 404), ("/livez", "POST", 405), ("/metrics", "POST", 405),
    ("/openapi.json", "POST", 405), ("*", "OPTIONS", 404), ("http://other/predict", "POST", 404),
    ("/%ff%fe", "GET", 404), ("/report", "POST", 405),
]  # fmt: skip
ITEM, CORRECT = '"input": "good cat"', '"label": "alpha"'
CORRECTIONS = [
    ("{" + ITEM + "}", 422), ("{" + CORRECT + "}", 422), ("{" + ITEM + ', "label": "delta"}', 422),
    ("{" + ITEM + ', "label": null}', 422), ("{" + ITEM + ', "label": ["alpha"]}', 422),
    ("{" + ITEM + ", " + CORRECT + ', "file": "x"}', 422), ('{"input": "\\ud800", ' + CORRECT + "}", 422),
    ("{" + ITEM, 400), ("{" + ITEM + ", " + CORRECT + ", " + CORRECT + "}", 400), ("[]", 422),
]  # fmt: skip
FILES: list[tuple[bytes | str, str, int]] = [
    ("a,b\n1,2\n", "", 422), ("text\na\n", "?text=other", 422), ("text\na\n", "?format=csv", 422),
    ("text\na\n", "?out=x", 422), ("text\na\n", "?top_k=x", 422), ("text\na\n", "?threshold=nan", 422),
    ("text\na\n", "?threshold=2", 422), ("text\na\n", "?only=1", 422), ("text\na\n", "?encoding=none", 422),
    ("text\na\n", "?delimiter=ab", 422), ('text\n"a\n', "", 422), ("text,b\na\n", "", 422),
    ("text,text\na,b\n", "", 422), (b"text\n\xff\n", "", 422), (b"\x1f\x8b\x08\x00", "", 422),
    ("text\n" + "x" * 100_001, "", 422), (b"PK\x03\x04" + b"\x00" * 99, "", 422),
]  # fmt: skip


def cases(count: int, seed: int) -> list[Case]:
    """The first `count` of them, one of each kind after the other."""
    kinds = [list(kind) for kind in (_bodies(), _routes(), _headers(), _slow(), _keys())]
    order = [kind[number] for number in range(max(map(len, kinds))) for kind in kinds if number < len(kind)]
    quick = [case for case in order if case.name not in SLOW] if count < COUNT else order
    return quick[:count] if count < COUNT else order


def _bodies() -> Iterator[Case]:
    for number, text in enumerate(NO_JSON):
        yield Case(f"no JSON {number}", (request(text),), (400,))
    for number, body in enumerate(NO_TEXT):
        yield Case(f"no UTF-8 {number}", (request(body),), (400,))
    for number, text in enumerate(OTHER_CONTENT):
        yield Case(f"other content {number}", (request(text),), (422,))
    for number, (text, status) in enumerate(CORRECTIONS):
        yield Case(f"correction {number}", (request(text, "/corrections"),), (status,))
    for number, (content, query, status) in enumerate(FILES):
        yield Case(f"file {number}", (request(content, f"/predict/file{query}", kind="text/csv"),), (status,))
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "json"):
        yield Case(f"type {kind!r}", (request(GOOD, kind=kind),), (415,))
        yield Case(f"file of type {kind!r}", (request("text\na\n", "/predict/file", kind=kind),), (415,))


def _routes() -> Iterator[Case]:
    for path, method, status in OTHER_ROUTES:
        page = path == "/"  # which may not be there
        yield Case(f"{method} {path}", (request(b"", path, method),), (404,) if page and not _has_page() else (status,))


def _has_page() -> bool:
    return bool(re.search(r'get\(\s*"/"', server.PAGES.read_text()))


def _headers() -> Iterator[Case]:
    chunked = ["Transfer-Encoding: chunked"]
    large, huge = b"x" * (2**20 + 1), b"x" * 10_000_000
    for name, sent, status in (
        ("one byte too many", request(large), 413),
        ("ten megabytes", request(huge), 413),
        ("ten megabytes in one text", request(json.dumps({"input": "x" * 10_000_000})), 413),
        ("ten megabytes to nowhere", request(huge, "/nowhere"), 413),
        ("length beyond all", request(b"", length=10**15), 413),
        ("length of twenty digits", request(b"", length=10**19), 413),
        ("chunks beyond the limit", request(_chunks(large), headers=chunked), 413),
        ("a chunk that is announced too large", request(b"ffffffff\r\n" + large, headers=chunked), 413),
        ("length of thirty digits", request(b"", length=10**29), 400),
        ("negative length", request(GOOD, length=-1), 400),
        ("two lengths", request(GOOD, headers=["Content-Length: 5"]), 400),
        ("length and chunks", request(b"0\r\n\r\n", headers=[*chunked, "Content-Length: 5"]), 400),
        ("chunked twice", request(b"0\r\n\r\n", headers=["Transfer-Encoding: chunked, chunked"]), 400),
        ("chunked in between", request(b"0\r\n\r\n", headers=["Transfer-Encoding: chunked, identity"]), 400),
        ("encoding of transfer that is none", request(b"", headers=["Transfer-Encoding: xchunked"]), 400),
        ("chunk without a length", request(b"zz\r\n\r\n", headers=chunked), 400),
        ("chunk with a negative length", request(b"-1\r\n\r\n", headers=chunked), 400),
        ("gzip", request(b"\x1f\x8b\x08", headers=["Content-Encoding: gzip"]), 415),
        ("deflate", request(GOOD, headers=["Content-Encoding: deflate"]), 415),
        ("many headers", request(GOOD, headers=[f"X-{number}: y" for number in range(101)]), 431),
        ("long header", request(GOOD, headers=["X-Long: " + "y" * 17_000]), 431),
        ("header without end", b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 90_000, 431),
        ("line without end", b"GET /" + b"y" * 90_000, 431),
        ("no host", b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        ("another host", request(GOOD).replace(b"localhost", b"evil.example"), 421),
        ("another host with our port", request(GOOD).replace(b"localhost", b"evil.example:8000"), 421),
        ("two hosts", request(GOOD, headers=["Host: evil.example"]), 400),
        ("space before a colon", request(GOOD, headers=["X : y"]), 400),
        ("folded header", b"GET /livez HTTP/1.1\r\n X: y\r\nHost: localhost\r\n\r\n", 400),
        ("NUL in a header", request(GOOD, headers=["X: a\x00b"]), 400),
        ("CR in a header", request(GOOD, headers=["X: a\rb"]), 400),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        ("HTTP/3.7", b"GET /livez HTTP/3.7\r\nHost: localhost\r\n\r\n", 400),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n", 400),
        ("no HTTP", b"hello\r\n\r\n", 400),
        ("path with a space", b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("path beyond ASCII", b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ):
        yield Case(name, (sent,), (status,))
    second = request(GOOD).replace(b"Connection: close\r\n", b"")
    yield Case("two in one", (second + request(GOOD),), (200, 200))
    yield Case("a bad one after a good one", (second + request("{"),), (200, 400))
    yield Case("garbage after a good one", (second + b"garbage\r\n\r\n",), (200, 400))
    yield Case("more than its length", (request(GOOD + MARK, length=len(GOOD)),), (200,))
    yield Case("less than its length", (request(GOOD[:-3] + "}", length=len(GOOD) - 2), b""), (400,))


def _chunks(content: bytes) -> bytes:
    parts = [content[start : start + 65_536] for start in range(0, len(content), 65_536)]
    return b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts) + b"0\r\n\r\n"


def _slow() -> Iterator[Case]:
    drip = tuple(bytes([one]) for one in b"GET /livez HTTP/1.1\r\nX: yyyyyyyyy"[:20])
    yield Case("slow headers", drip, (408,), pause=1.0)
    second = request(GOOD).replace(b"Connection: close\r\n", b"")
    yield Case("slow headers of a second request", (second, *drip), (200, 408), pause=1.0)
    yield Case("slow body", (request(b"{", length=99), *(b" " for _ in range(60))), (408,), pause=1.0)
    yield Case("half a body", (request(GOOD, length=99),), (408,))


def _keys() -> Iterator[Case]:
    for number, value in enumerate(
        ["", "Bearer", "Bearer ", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Basic {KEY}", KEY, f"Bearer  {KEY} {KEY}",
         f"Bearer {KEY.upper()}", "Bearer \xff\xfe", "Bearer " + "x" * 9_000, f"Token {KEY}"]
    ):  # fmt: skip
        headers = [f"Authorization: {value}"] if value else []
        yield Case(f"key {number}", (request(GOOD, headers=headers),), (401,), keys=True)
    twice = [f"Authorization: Bearer {KEY}", "Authorization: Bearer other"]
    yield Case("two keys", (request(GOOD, headers=twice),), (401,), keys=True)
    for path in ("/metrics", "/report", "/openapi.json", "/nowhere", "/predict"):
        yield Case(f"no key for {path}", (request(b"", path, "GET"),), (401,), keys=True)
    yield Case("no key for a file", (request("text\na\n", "/predict/file", kind="text/csv"),), (401,), keys=True)
    yield Case("no key for 30 megabytes", (request(b"x" * 30_000_000, "/predict/file"),), (401,), keys=True)


def run(case: Case, folder: Path) -> Outcome:
    trained = server.trained()
    known, options = Known.of(trained), ["--corrections", folder / "corrections.jsonl"]
    if case.keys:
        keys = folder / "keys"
        keys.touch(0o600)
        keys.write_text(KEY)
        options += ["--keys", keys]
    with server.serving(folder, trained, *options) as found:
        before = _ask(found.address, (_good(known, case.keys),))
        begin = time.perf_counter()
        answer = _ask(found.address, case.sent, case.pause)
        seconds = time.perf_counter() - begin
        after = _ask(found.address, (_good(known, case.keys),))
    if (problem := _problem(case, answer)) or _answer_of(before) != _answer_of(after):
        return Outcome("", False, "wrong answer", problem or f"afterwards {after[-200:]!r}")
    return Outcome("", True, str(case.statuses[-1]), facts=seconds if case.name not in SLOW else None)


def _good(known: Known, keys: bool) -> bytes:
    return request(json.dumps({"input": known.texts[0]}), headers=[f"Authorization: Bearer {KEY}"] if keys else [])


def _answer_of(reply: bytes) -> Any:
    head, _, body = reply.partition(b"\r\n\r\n")
    return json.loads(body) if b" 200 " in head.split(b"\r\n")[0] else reply


def _ask(address: str, parts: tuple[bytes, ...], pause: float = 0.0) -> bytes:
    """What comes back until the server closes."""
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as made:
        reply = b""
        try:
            for part in parts:
                made.sendall(part)
                time.sleep(pause)
        except OSError:
            pass
        try:
            while len(reply) < MOST_READ and (more := made.recv(65_536)):
                reply += more
        except OSError:
            pass
    return reply


def _problem(case: Case, reply: bytes) -> str:
    found = tuple(int(status) for status in re.findall(rb"(?:^|\n)HTTP/1\.1 (\d{3})", reply))
    if found != case.statuses:
        return f"statuses {found}, wanted {case.statuses}"
    *_, last = reply.split(b"\r\n\r\n")
    if case.statuses[-1] >= 400:
        said = json.loads(last)
        if said.keys() != {"error", "code"}:
            return f"an answer of other form: {last[:200]!r}"
    shown = reply.decode("latin-1")
    signs = (MARK, "Traceback", "/tmp", ".py", "xxxxxxxx", "passwd", KEY)
    return next((f"{sign!r} is in the answer" for sign in signs if sign in shown), "")


def facts(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    seconds = sorted(outcome.facts for outcome in outcomes if isinstance(outcome.facts, float))
    if not seconds:
        return {}
    middle, most = seconds[len(seconds) // 2], seconds[-1]
    return {"milliseconds to the answer, median": round(1e3 * middle), "at most": round(1e3 * most)}


if __name__ == "__main__":
    common.main(__name__)
