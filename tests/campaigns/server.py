"""What the campaigns of the server share: a run, the answers that `predict` gives, the command, and its clients."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

import tunesmith.serve  # before cases are forked, so that none pays for it
from tests import tiny
from tests.campaigns import common
from tests.campaigns.processes import Child, Ended
from tests.campaigns.processes import tunesmith as run_command
from tests.campaigns.signals import program

CLIENTS, TEXTS, PATIENCE = 32, 400, 60.0
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Made once, for it takes a client as long as some requests."""
UNIT = 1.001e-3
"""Two scores of four digits are as good as equal where they differ by no more of themselves: one in the last digit, of
which 1,000 is the least. The server pads a text beside others, and sums in float32 depend on that."""
PAGES = Path(tunesmith.serve.__file__).with_name("pages.py")


def trained(kind: str = "classification") -> Path:
    """A run whose answers differ from text to text."""

    def make(folder: Path) -> None:
        model, rows = common.model(), common.rows(kind, 90)
        given = ["--model", model, "--epochs", "20", "--lr", "0.005", "--method", "full", "--out", folder / "run"]
        for setting in ("training.threads=1", "training.precision=float32", "evaluation.resamples=100"):
            given += ["--set", setting]
        ended = run_command("train", rows, *given, folder=folder, seconds=300)
        if ended.code:
            raise RuntimeError(f"no run to serve: {ended}")

    return common.once(f"served-{kind}", make) / "run"


@dataclass(frozen=True)
class Known:
    """Texts, and what the command `predict` prints of each."""

    texts: list[str]
    answers: list[dict[str, Any]]

    @classmethod
    def of(cls, run: Path) -> Known:
        def make(folder: Path) -> None:
            texts = [row["text"] for row in tiny.make_records("classification", TEXTS, seed=7).table.to_pylist()]
            lines = "".join(f"{json.dumps({'text': text})}\n" for text in texts)
            (folder / "texts.jsonl").write_text(lines)
            ended = run_command("predict", run, folder / "texts.jsonl", folder=folder, seconds=120)
            (folder / "answers.jsonl").write_text(ended.out)

        folder = common.once("known", make)
        texts, answers = (
            [json.loads(line) for line in (folder / name).read_text().splitlines()]
            for name in ("texts.jsonl", "answers.jsonl")
        )
        return cls([one["text"] for one in texts], answers)

    def differs(self, number: int, answer: dict[str, Any]) -> str:
        """Nothing for an answer that is the same, ``"digit"`` for one that is as good, else why it is neither."""
        wanted = {name: value for name, value in self.answers[number].items() if name != "id"}
        found = {name: value for name, value in answer.items() if name != "id"}
        if found == wanted:
            return ""
        if found.keys() != wanted.keys() or found["label"] != wanted["label"]:
            return f"{found} in place of {wanted}"
        pairs = [(found["score"], wanted["score"])]
        pairs += [(found["scores"].get(name, -1.0), score) for name, score in wanted["scores"].items()]
        return "digit" if all(abs(a - b) <= UNIT * abs(b) for a, b in pairs) else f"{found} in place of {wanted}"


class Server:
    """The command ``tunesmith serve`` at work, in a child of this process or, if `fresh`, in a process of its own."""

    def __init__(self, folder: Path, run: Path, *options: object, fresh: bool = False) -> None:
        arguments = ["serve", str(run), "--port", "0", "--json", *map(str, options)]
        self._child: Child | None = None
        self._ended: Ended | None = None
        self._process: subprocess.Popen[bytes] | None = None
        if fresh:
            out, err = (folder / name for name in ("server.out", "server.err"))
            with out.open("wb") as output, err.open("wb") as errors:
                command = [sys.executable, "-m", "tunesmith", *arguments]
                self._process = subprocess.Popen(command, stdout=output, stderr=errors)
            self.pid = self._process.pid
        else:
            self._child = Child(program(arguments, folder), folder / "server")
            self.pid, out = self._child.pid, folder / "server" / ".child-0.out"
        deadline = time.monotonic() + PATIENCE
        while not (said := out.read_text()).endswith("\n"):
            if time.monotonic() > deadline or (self._child and self._child.poll(0)):
                raise RuntimeError(f"no server: {self.wait(0.0)}")
            time.sleep(0.02)
        self.address: str = json.loads(said)["address"]

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = PATIENCE) -> Ended:
        """How it ended; after so many seconds it is killed."""
        self._ended = self._ended or self._end(seconds)
        return self._ended

    def _end(self, seconds: float) -> Ended:
        begin = time.perf_counter()
        if self._child:
            return self._child.wait(begin - self._child.begin + seconds)
        assert self._process
        try:
            code: int | None = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            code = None
        return Ended(code, None, "", "", time.perf_counter() - begin)

    @property
    def memory(self) -> int:
        """Bytes of it that are in memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def threads(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.pid}/task").iterdir())

    @property
    def files(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())


@contextmanager
def serving(folder: Path, run: Path, *options: object, fresh: bool = False) -> Iterator[Server]:
    """A server, which is ended with the context where it has not ended before."""
    server = Server(folder, run, *options, fresh=fresh)
    try:
        yield server
    finally:
        server.wait(0.0)


@dataclass
class Tally:
    """What clients met.

    Attributes:
        answered: requests that were answered rightly.
        digits: of them, those with another last digit.
        wrong: what other answers were, and what was lost.
        refused: clients whose connection was refused.
        seconds: of each answer.
    """

    answered: int = 0
    digits: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def ask(client: httpx.AsyncClient, known: Known, number: int, size: int, tally: Tally) -> bool:
    """Ask for one text (`size` 0) or several, and compare; False where the server does not listen any more."""
    numbers = [(number + one) % len(known.texts) for one in range(max(size, 1))]
    texts = [known.texts[one] for one in numbers]
    begin = time.perf_counter()
    try:
        reply = await client.post("/predict", json={"inputs": texts} if size else {"input": texts[0]})
    except httpx.ConnectError:
        tally.refused += 1
        return False
    except httpx.HTTPError as error:
        tally.wrong.append(f"lost: {error!r}")
        return True
    tally.seconds.append(time.perf_counter() - begin)
    if reply.status_code != 200:
        tally.wrong.append(f"status {reply.status_code}")
        return True
    found: Sequence[dict[str, Any]] = reply.json()["predictions"] if size else [reply.json()]
    said = {known.differs(*pair) for pair in zip(numbers, found, strict=True)}
    if strange := said - {"", "digit"}:
        tally.wrong.append(f"another answer: {strange.pop()}")
    else:
        tally.answered += 1
        tally.digits += "digit" in said
    return True


@asynccontextmanager
async def client(address: str, keep: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_keepalive_connections=None if keep else 0)
    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE, limits=limits, verify=NO_TLS) as made:
        yield made
