"""One target of `fuzz`, in a process of its own: makes inputs, tries them, and writes down what they find.

Inputs are made by libFuzzer through atheris, which keeps those that reach new code, where it is installed (``pip
install atheris``); else by changes to those that gave new messages. What is tried lies in a file that is shared with
the parent, so that it is known when the process dies of it.

    python -m tests.campaigns.fuzz_worker TARGET COUNT SEED FOLDER
"""

from __future__ import annotations

import base64
import json
import mmap
import os
import random
import re
import resource
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MAX_INPUT = 4096
MAX_SECONDS = 2.0  # of processor time, for inputs of at most `MAX_INPUT` bytes
MAX_GROWTH = 200 * 2**20  # of the process, over one input
MAX_MESSAGE = 20_000
HEAD = struct.Struct("<QI")
STATE, FOUND = "state", "found.jsonl"
GUIDED = find_spec("atheris") is not None
POOL = 2_000


class State:
    """How many inputs were tried, and the one that is being tried, in a file that outlives the process."""

    def __init__(self, folder: Path) -> None:
        with open(folder / STATE, "a+b") as file:
            file.truncate(HEAD.size + MAX_INPUT)
            self._map = mmap.mmap(file.fileno(), HEAD.size + MAX_INPUT)

    @property
    def count(self) -> int:
        return int(HEAD.unpack_from(self._map)[0])

    @property
    def data(self) -> bytes:
        return self._map[HEAD.size : HEAD.size + HEAD.unpack_from(self._map)[1]]

    def begin(self, data: bytes) -> None:
        HEAD.pack_into(self._map, 0, self.count + 1, len(data))
        self._map[HEAD.size : HEAD.size + len(data)] = data


def outcome(call: Callable[[bytes, Path], object], data: bytes, folder: Path) -> tuple[str, str]:
    """What one input comes to: "read", "refused", or what is wrong, and the words for it."""
    from tunesmith.errors import TunesmithError

    began, before = time.process_time(), _peak()
    try:
        call(data, folder)
        found = "read", ""
    except TunesmithError as error:
        bug = type(error) is TunesmithError or not str(error).strip() or len(str(error)) > MAX_MESSAGE
        found = f"{'message' if bug else 'refused'} {type(error).__name__}", str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        ours = [one for one in traceback.extract_tb(error.__traceback__) if "tunesmith" in one.filename]
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
        found = f"error {type(error).__name__} {place}", f"{type(error).__name__}: {error}"
    if found[0].startswith(("read", "refused")):
        if (seconds := time.process_time() - began) > MAX_SECONDS:
            return "slow", f"{seconds:.1f} s"
        if (growth := _peak() - before) > MAX_GROWTH:
            return "memory", f"{growth >> 20} MB"
    return found


def is_good(found: str) -> bool:
    return found.startswith(("read", "refused"))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def smallest(call: Callable[[bytes, Path], object], data: bytes, folder: Path, wanted: str, tries: int = 400) -> bytes:
    """A shorter input with the same outcome: pieces are left out as long as that goes."""
    size = len(data) // 2
    while size and tries:
        at = 0
        while at < len(data) and tries:
            shorter, tries = data[:at] + data[at + size :], tries - 1
            if outcome(call, shorter, folder)[0] == wanted:
                data = shorter
            else:
                at += size
        size //= 2
    return data


class Judge:
    """Tries inputs, counts what they come to, and writes each kind of fault down once, as small as it goes."""

    def __init__(self, target: Any, folder: Path) -> None:
        self.target, self.folder, self.state = target, folder, State(folder)
        self.place = folder / "input"
        self.place.mkdir(exist_ok=True)
        self._known = set[str]()

    def __call__(self, data: bytes) -> str:
        """The kind of outcome, apart from numbers and names: new ones show the way to more."""
        data = data[:MAX_INPUT]
        self.state.begin(data)
        found, words = outcome(self.target.call, data, self.place)
        if not is_good(found) and found not in self._known:
            self._known.add(found)
            if found not in ("slow", "memory"):
                data = smallest(self.target.call, data, self.place, found)
            self.write(found, words, data)
        return found + re.sub(r"'[^']*'|\"[^\"]*\"|[\d,]+", "", words)[:200]

    def write(self, found: str, words: str, data: bytes) -> None:
        line = {"found": found, "words": words[:500], "input": base64.b64encode(data).decode()}
        with (self.folder / FOUND).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def changed(random: random.Random, pool: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """A new input: one of the pool with a few changes."""
    data = bytearray(random.choice(pool))
    for _ in range(random.choice((1, 1, 2, 3, 5))):
        at, length = random.randint(0, len(data)), random.choice((1, 1, 2, 4, 16, 64))
        kind = random.randrange(7)
        if kind == 0:
            del data[at : at + length]
        elif kind == 1:
            data[at:at] = data[at : at + length] * random.choice((1, 1, 2, 20))
        elif kind == 2 and data:
            data[min(at, len(data) - 1)] ^= 1 << random.randrange(8)
        elif kind == 3 and data:
            data[min(at, len(data) - 1)] = random.choice(b"\0\t\n\r \"',:;[]{}\\0129azNO\x7f\x80\xc3\xe2\xff")
        elif kind == 4:
            data[at:at] = random.choice(tokens)
        elif kind == 5:
            data[at : at + length] = random.choice(tokens)
        else:
            other = random.choice(pool)
            start = random.randint(0, len(other))
            data[at : at + length] = other[start : start + random.choice((4, 16, 64, 256))]
    return bytes(data[:MAX_INPUT])


def blind(judge: Judge, count: int, seed: int) -> None:
    """Changes to inputs, of which those that gave a new message are changed further."""
    chance, target, seen = random.Random(seed), judge.target, set[str]()
    pool = list(target.seeds)
    for number in range(count):
        data = pool[number] if number < len(target.seeds) else changed(chance, pool, target.tokens)
        kind = judge(data)
        if kind not in seen and number >= len(target.seeds):
            seen.add(kind)
            if len(pool) < POOL:
                pool.append(data)


def guided(judge: Judge, count: int, seed: int) -> None:
    """Inputs by libFuzzer; does not return."""
    atheris, last = import_module("atheris"), judge.state.count + count
    corpus, words = judge.folder / "reached", judge.folder / "tokens"
    corpus.mkdir(exist_ok=True)
    for number, data in enumerate(judge.target.seeds):
        (corpus / f"seed-{number}").write_bytes(data)
    escaped = ["".join(f"\\x{byte:02x}" for byte in token) for token in judge.target.tokens]
    words.write_text("".join(f'"{token}"\n' for token in escaped))
    options = [f"-runs={count}", f"-seed={seed + 1}", f"-max_len={MAX_INPUT}", f"-dict={words}", "-timeout=3600"]
    options += [
        "-rss_limit_mb=0",
        "-len_control=20",
        "-print_final_stats=0",
        "-reload=0",
        f"-artifact_prefix={judge.folder}/",
    ]

    def one(data: bytes) -> None:
        if judge.state.count >= last:
            os._exit(0)  # libFuzzer counts some inputs twice
        judge(data)

    atheris.Setup(["fuzz", *options, str(corpus)], one, enable_python_coverage=True)
    atheris.Fuzz()


def find(name: str) -> Any:
    """A target by its name. What those of folders import takes seconds, so the others are tried without it."""
    from tests.campaigns.fuzz_targets import TARGETS

    return TARGETS[name] if name in TARGETS else import_module("tests.campaigns.fuzz_folders").TARGETS[name]


def main(name: str, count: int, seed: int, folder: Path) -> None:
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
    with import_module("atheris").instrument_imports(include=["tunesmith"]) if GUIDED else nullcontext():
        target = find(name)
    (guided if GUIDED else blind)(Judge(target, folder), count, seed)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
