"""A server at work: for long, with more than it can do, with clients that never end, with texts that break it."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from tests import serving
from tests.campaigns import common, server
from tests.campaigns.common import Outcome
from tests.campaigns.serve_requests import GOOD, request
from tests.campaigns.server import CLIENTS, Known, Server, Tally

TITLE = (
    "10,000 requests of 32 clients; for a minute ten times as many requests as it can answer, with one text and with "
    "32; 440 connections that send a byte a second, nothing, or do not read; 300 batches with a text that breaks them"
)
GOAL = (
    "every answer that of predict, 5 MiB at most after request 1,000, threads and files constant; only 200 and 429, at "
    "once; each slow connection closed after 10 s (headers) or 30 s (body); only the guilty request fails"
)
COUNT, SAMPLE, SECONDS = 5, 2, 900.0
WARM, MOST_GROWTH = 0.1, 5 * 2**20
"""Share of the requests after which memory is counted, and how much it may grow."""
WORDS = 300
"""Of a text of the overload."""
HEADERS, BODY, GRACE = 10.0, 30.0, 2.0
KINDS = ("soak", "faults", "overload by one", "slow clients", "overload by 32")


@dataclass(frozen=True)
class Case:
    kind: str
    full: bool

    def __repr__(self) -> str:
        return self.kind


def cases(count: int, seed: int) -> list[Case]:
    """All of them, as large as they are promised; fewer are small ones."""
    return [Case(kind, count >= COUNT) for kind in KINDS[:count]]


def run(case: Case, folder: Path) -> Outcome:
    tried: dict[str, Callable[[bool, Path], Outcome]] = {
        "soak": _soak,
        "overload by one": lambda full, place: _overload(full, place, 1),
        "overload by 32": lambda full, place: _overload(full, place, 32),
        "slow clients": _slow_clients,
        "faults": _faults,
    }
    return tried[case.kind](case.full, folder)


def _soak(full: bool, folder: Path) -> Outcome:
    count = 10_000 if full else 320
    run = server.trained()
    known, tally, marks = Known.of(run), Tally(), list[tuple[int, int, int]]()

    async def work(found: Server) -> None:
        numbers = iter(range(count))

        async def asking() -> None:
            async with server.client(found.address) as client:
                for number in numbers:
                    if number in (int(WARM * count), count - CLIENTS):
                        marks.append((found.memory, found.threads, found.files))
                    await server.ask(client, known, number, number % 9 if number % 3 == 0 else 0, tally)

        await asyncio.gather(*(asking() for _ in range(CLIENTS)))

    with server.serving(folder, run, fresh=True) as found:
        begin = time.perf_counter()
        asyncio.run(work(found))
        seconds = time.perf_counter() - begin
        found.signal(signal.SIGTERM)
        ended = found.wait()
    (memory, threads, files), (memory_after, threads_after, files_after) = marks
    facts = {
        "soak, requests": tally.answered,
        "of them with another last digit": tally.digits,
        "requests a second": round(count / seconds),
        "milliseconds, median": round(1e3 * tally.percentile(0.5)),
        "99 %": round(1e3 * tally.percentile(0.99)),
        "growth after the first tenth, MiB": round((memory_after - memory) / 2**20, 2),
        "threads": threads_after,
        "files": files_after,
    }
    if tally.wrong:
        return Outcome("", False, "wrong answers", f"{len(tally.wrong)}: {tally.wrong[0]}", facts)
    if full and memory_after - memory > MOST_GROWTH:
        return Outcome("", False, "memory grows", str(facts), facts)
    good = (threads, files) == (threads_after, files_after) and ended.code == 0
    return Outcome("", good, "as ever" if good else "not as ever", f"{marks}, {ended}", facts)


def _overload(full: bool, folder: Path, texts: int) -> Outcome:
    seconds = 60.0 if full else 3.0
    draw = random.Random(0)
    words = " ".join(draw.choice(["good", "bad", "card", "money", "film"]) for _ in range(WORDS))
    body = json.dumps({"input": words} if texts == 1 else {"inputs": [words] * texts}).encode()
    # Not made anew each time: who asks shares the processors with who answers.
    asked = request(body).replace(b"Connection: close", b"Connection: keep-alive", 1)

    async def work(address: str, clients: int, last: float, pace: float = 0.0) -> list[tuple[int, float, bool]]:
        """(status, seconds, whether ``Retry-After`` is there) of each answer.

        Args:
            pace: seconds from one request of a client to its next at least.
        """
        found, until = list[tuple[int, float, bool]](), time.perf_counter() + last
        host, _, port = address.removeprefix("http://").partition(":")

        async def asking() -> None:
            reader, writer = await asyncio.open_connection(host, int(port))
            while time.perf_counter() < until:
                begin = time.perf_counter()
                writer.write(asked)
                async with asyncio.timeout(server.PATIENCE):
                    head = (await reader.readuntil(b"\r\n\r\n")).lower()
                    length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
                    await reader.readexactly(int(length.partition(b":")[2]))
                found.append((int(head.split()[1]), time.perf_counter() - begin, b"\nretry-after:" in head))
                await asyncio.sleep(max(0.0, begin + pace - time.perf_counter()))
            writer.close()

        await asyncio.gather(*(asking() for _ in range(clients)))
        return found

    with server.serving(folder, server.trained()) as found:
        busy = asyncio.run(work(found.address, CLIENTS, seconds / 3))
        peak = sum(status == 200 for status, *_ in busy) / (seconds / 3)
        over = asyncio.run(work(found.address, (10 if full else 3) * CLIENTS, seconds, CLIENTS / peak))
        after = httpx.post(f"{found.address}/predict", json={"input": "good"}).status_code
    rate = sum(status == 200 for status, *_ in over) / seconds
    took, refused = (sorted(one for status, one, _ in over if status == wanted) for wanted in (200, 429))
    statuses = Counter(status for status, *_ in over)
    name = f"overload by {texts}"
    facts = {
        f"{name}: answered": statuses[200],
        f"{name}: refused": statuses[429],
        f"{name}: share of the peak": round(rate / peak, 2),
        f"{name}: seconds to an answer, 99 %": round(took[int(0.99 * (len(took) - 1))], 1),
        **({f"{name}: milliseconds to a refusal, median": round(1e3 * median(refused))} if refused else {}),
    }
    promised = all(told for status, _, told in over if status == 429)
    good = set(statuses) <= {200, 429} and promised and after == 200 and (rate > 0.9 * peak or not full)
    return Outcome("", good and took[-1] < server.PATIENCE, "bounded" if good else "unbounded", f"{statuses}", facts)


async def _closed_after(address: str, first: bytes, drip: bytes, most: float, half: bool = False) -> float:
    """Seconds until the server closes a connection on which `first` is sent, and then `drip` byte by byte."""
    host, _, port = address.removeprefix("http://").partition(":")
    begin = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(first)
        if half:
            writer.write_eof()
        ending = asyncio.create_task(reader.read())
        for number in range(int(most)):
            if drip:
                writer.write(drip[number % len(drip) :][:1])
            done, _ = await asyncio.wait([ending], timeout=1.0)
            if done:
                break
        await asyncio.wait_for(ending, 1.0)
    except (OSError, TimeoutError):
        pass
    finally:
        writer.close()
    return time.perf_counter() - begin


def _slow_clients(full: bool, folder: Path) -> Outcome:
    share = 1.0 if full else 0.1

    async def work(found: Server) -> tuple[dict[str, list[float]], list[float], list[float], int]:
        body = request(GOOD, length=999)
        kinds: dict[str, tuple[int, Callable[[], Coroutine[Any, Any, float]]]] = {
            "headers": (100, lambda: _closed_after(found.address, b"GET /livez HTTP/1.1\r\n", b"X: y", HEADERS + 5)),
            "idle": (200, lambda: _closed_after(found.address, b"", b"", HEADERS + 5)),
            "half closed": (20, lambda: _closed_after(found.address, b"GET /li", b"", HEADERS + 5, half=True)),
            "not reading": (20, lambda: _closed_after(found.address, request(GOOD) * 20, b"", BODY + 5)),
            "body": (100, lambda: _closed_after(found.address, body, b" ", BODY + 5)),
        }
        if not full:
            del kinds["body"]
        quiet, busy = Tally(), Tally()
        known, files = Known.of(server.trained()), 0

        async def probing(tally: Tally, until: Callable[[], bool]) -> None:
            nonlocal files
            async with server.client(found.address) as client:
                while not until():
                    await server.ask(client, known, len(tally.seconds), 0, tally)
                    files = max(files, found.files)
                    await asyncio.sleep(0.05)

        end = time.perf_counter() + (10 if full else 2)
        await probing(quiet, lambda: time.perf_counter() > end)
        tasks = {
            name: [asyncio.create_task(make()) for _ in range(max(1, int(share * number)))]
            for name, (number, make) in kinds.items()
        }
        every = [task for group in tasks.values() for task in group]
        await probing(busy, lambda: all(task.done() for task in every))
        wrong = quiet.wrong + busy.wrong
        if wrong:
            raise RuntimeError(wrong[0])
        closed = {name: [task.result() for task in group] for name, group in tasks.items()}
        return closed, sorted(quiet.seconds), sorted(busy.seconds), files

    with server.serving(folder, server.trained()) as found:
        closed, quiet, busy, files = asyncio.run(work(found))
    late = {
        name: max(seconds)
        for name, seconds in closed.items()
        if max(seconds) > (BODY if name in ("body", "not reading") else HEADERS) + GRACE
    }
    p99 = [found[int(0.99 * (len(found) - 1))] for found in (quiet, busy)]
    facts = {
        "slow connections": sum(map(len, closed.values())),
        "closed after seconds, headers": round(max(closed["headers"]), 1),
        "body": round(max(closed.get("body", [0.0])), 1),
        "milliseconds of others, 99 %, quiet": round(1e3 * p99[0]),
        "beside them": round(1e3 * p99[1]),
        "files at most": files,
    }
    return Outcome("", not late, "closed" if not late else "kept open", str(late), facts)


class Panic(BaseException):
    """As those of Rust are."""


def _faults(full: bool, folder: Path) -> Outcome:
    repeats, draw = (300 if full else 20), random.Random(0)
    run = server.trained()
    known, served = Known.of(run), serving.service(run)
    answer = served.predictor.predict_records

    def sometimes(records: Any) -> Any:
        found, cut = answer(records)
        for number, text in enumerate(records.texts):
            if text == "panic":
                raise Panic
            if text in ("raise", "memory"):
                raise {"raise": ValueError, "memory": MemoryError}[text]
            if text == "nan":
                found[number].scores["alpha"] = float("nan")
        return found, cut

    object.__setattr__(served.predictor, "predict_records", sometimes)
    wrong = list[str]()
    for number in range(repeats):
        guilty = draw.randrange(32)
        texts = [known.texts[(number + one) % len(known.texts)] for one in range(32)]
        texts[guilty] = draw.choice(["panic", "raise", "memory", "nan"])
        waiting = [served.batcher.submit([text]) for text in texts]
        for one, future in enumerate(waiting):
            error = future.exception(60)
            if (error is not None) != (one == guilty):
                wrong.append(f"text {one} of {texts[guilty]}: {error!r}")
            elif error is None:
                (found,) = served.shown(future.result(), None, None)
                if said := known.differs((number + one) % len(known.texts), found):
                    wrong += [] if said == "digit" else [said]
    ready = served.ready
    served.close()
    good = not wrong and ready
    facts = {"batches with a guilty text": repeats}
    return Outcome("", good, "alone" if good else "not alone", f"{len(wrong)}: {wrong[:1]}, ready {ready}", facts)


def facts(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {name: value for outcome in outcomes if outcome.facts for name, value in outcome.facts.items()}


if __name__ == "__main__":
    common.main(__name__)
