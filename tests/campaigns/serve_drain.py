"""A server is told to stop while 32 clients ask it: nobody who was accepted is left without an answer."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.campaigns import common, server
from tests.campaigns.common import Outcome
from tests.campaigns.server import CLIENTS, Known, Server, Tally

TITLE = "SIGTERM or SIGINT to a server under 32 clients, every eighth of which connects anew each time; 10 twice"
GOAL = "not ready at once, every accepted request answered rightly, exit 0 within 30 s; a second signal: 1 s"
COUNT, SAMPLE, SECONDS = 110, 1, 180.0
TWICE = 11
READY_SECONDS, DRAIN_SECONDS, AT_ONCE = 0.1, 30.0, 1.0
PATIENCE = 1.0
"""Seconds beyond, for a machine that does other things, too."""


@dataclass(frozen=True)
class Case:
    number: signal.Signals
    after: float
    twice: bool

    def __repr__(self) -> str:
        return f"{self.number.name} after {self.after:.2f} s" + " twice" * self.twice


@dataclass(frozen=True)
class Figures:
    answered: int
    digits: int
    not_ready: float
    seconds: float
    twice: bool


def cases(count: int, seed: int) -> list[Case]:
    draw, numbers = random.Random(seed), (signal.SIGTERM, signal.SIGTERM, signal.SIGINT)
    return [Case(draw.choice(numbers), draw.uniform(0.3, 1.5), number % TWICE == TWICE - 1) for number in range(count)]


def run(case: Case, folder: Path) -> Outcome:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    trained = server.trained()
    known = Known.of(trained)
    with server.serving(folder, trained) as found:
        tally, not_ready, sent = asyncio.run(_disturbed(case, found, known))
        ended = found.wait(DRAIN_SECONDS + PATIENCE)
        seconds = time.perf_counter() - sent
    facts = Figures(tally.answered, tally.digits, not_ready, seconds, case.twice)
    if case.twice:
        good = ended.code == 128 + case.number and seconds < AT_ONCE + PATIENCE
        return Outcome("", good, "left at once" if good else "wrong end", f"{ended}, {seconds:.1f} s", facts)
    if tally.wrong:
        return Outcome("", False, "not answered", f"{len(tally.wrong)}: {tally.wrong[0]}", facts)
    if ended.code or seconds > DRAIN_SECONDS:
        return Outcome("", False, "wrong end", f"{ended}, {seconds:.1f} s", facts)
    good = not_ready < READY_SECONDS + PATIENCE and tally.answered > CLIENTS
    return Outcome("", good, "drained" if good else "still ready", f"after {not_ready:.2f} s", facts)


async def _disturbed(case: Case, found: Server, known: Known) -> tuple[Tally, float, float]:
    """What clients met, seconds until the server said that it is not ready, and when its last signal was sent."""
    tally = Tally()

    async def asking(number: int) -> None:
        async with server.client(found.address, keep=number % 8 > 0) as client:
            while await server.ask(client, known, number, number % 4, tally):
                number += CLIENTS
                if case.twice and tally.wrong:
                    return

    async def stopping() -> tuple[float, float]:
        async with server.client(found.address) as client:
            await client.get("/readyz")
            await asyncio.sleep(case.after)
            sent = time.perf_counter()
            found.signal(case.number)
            while not case.twice and (await client.get("/readyz")).status_code != httpx.codes.SERVICE_UNAVAILABLE:
                pass
            not_ready = time.perf_counter() - sent
            if case.twice:
                await asyncio.sleep(0.5)
                sent = time.perf_counter()
                found.signal(case.number)
            return not_ready, sent

    told = asyncio.create_task(stopping())
    await asyncio.gather(*map(asking, range(CLIENTS)))
    return tally, *await told


def facts(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    found: list[Figures] = [outcome.facts for outcome in outcomes if outcome.facts]
    once, twice = ([one for one in found if one.twice is which] for which in (False, True))
    if not once:
        return {}
    return {
        "requests answered": sum(one.answered for one in once),
        "seconds until not ready, at most": round(max(one.not_ready for one in once), 3),
        "seconds to the exit, at most": round(max(one.seconds for one in once), 1),
        "after a second signal, at most": round(max((one.seconds for one in twice), default=0.0), 1),
    }


if __name__ == "__main__":
    common.main(__name__)
