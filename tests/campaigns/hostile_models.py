"""Model folders that mean harm, given to everything that loads a model, under watch.

Watched are: sockets and look-ups of names, which fail and are counted; code of the folder that is compiled or run;
pickles that are read; files outside the folder that are opened by Python, and by native code as far as they lie beside
it; bytes that are read of standard input, where "y" stands without end; time of the processor (what waits without end
is hung after two minutes); memory above that of the libraries.
"""

from __future__ import annotations

import ctypes
import functools
import io
import os
import random
import resource
import shutil
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import tunesmith.pipeline  # noqa: F401  (each child by the command line would import it)
from tests import tiny
from tests.campaigns import common, hostile_folders, hostile_pickles, hostile_settings, hostile_tokenizers
from tests.campaigns.common import Outcome
from tunesmith.cli import main
from tunesmith.config.schema import ModelSettings
from tunesmith.errors import ModelError
from tunesmith.models.heads import PooledClassifier, save_model
from tunesmith.models.loading import load_classifier, load_tokenizer, load_trained
from tunesmith.models.seen import seen_keys
from tunesmith.models.source import Source, find_source

TITLE = "hostile model folders"
GOAL = "refused with exit 4: no code, network or file outside; at most 10 s and 1 GB; honest folders load"
SAMPLE, SECONDS = 10, 120.0
MOST_SECONDS, MOST_BYTES = 10.0, 2**30
FAMILIES = [*tiny.FAMILIES, *tiny.UNUSUAL]
NO_HEAD = {"bros"}
IN_OPEN = 0x20


@dataclass(frozen=True)
class Case:
    """A folder: the honest one of a family, with a change; `number` makes the change again in a child."""

    number: int
    name: str

    def __repr__(self) -> str:
        return self.name


@dataclass
class Watched:
    """What was seen while a folder was loaded."""

    network: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    seconds: float = 0.0
    bytes: int = 0

    def verdict(self) -> tuple[str, str] | None:
        """What is wrong, in a word and in full."""
        for name in ("code", "network", "outside"):
            if seen := getattr(self, name):
                return name, "; ".join(dict.fromkeys(seen))[:300]
        if self.seconds > MOST_SECONDS:
            return "slow", f"{self.seconds:.1f} s"
        return ("memory", f"{self.bytes:,} bytes") if self.bytes > MOST_BYTES else None


Made = tuple[str, str, Callable[[Path, Path, str], None]]


@functools.cache
def every() -> tuple[Made, ...]:
    """Kind of folder, words and change of each case; changes that need other files are told where these are."""
    here, mark = Path("/outside"), "/mark"
    found: list[Made] = []

    def add(kind: str, make: Callable[[Path, str], Iterator[tuple[str, Any]]]) -> None:
        for number, (name, _) in enumerate(make(here, mark)):
            found.append((kind, name, _nth(make, number)))

    add("bert", lambda outside, mark: hostile_pickles.pickles(mark))
    add("bert", lambda outside, mark: hostile_folders.indices(outside))
    add("bert", lambda outside, mark: hostile_folders.places(outside))
    add("bert", lambda outside, mark: hostile_folders.headers())
    add("bert", lambda outside, mark: hostile_settings.keys(mark, outside))
    add("bert", lambda outside, mark: hostile_tokenizers.tokenizers())
    add("bert", lambda outside, mark: ((f"honest: {name}", change) for name, change in hostile_settings.honest()))
    add("pooled", lambda outside, mark: hostile_settings.pooled())
    add("adapter", lambda outside, mark: hostile_tokenizers.adapters())
    for family in dict.fromkeys(family for family, *_ in hostile_settings.bombs()):
        add(family, functools.partial(_bombs, family))
    for kind in (*FAMILIES, "pooled", "adapter", "snapshot", "shards"):
        add(kind, functools.partial(_unchanged, kind))
    return tuple(found)


def _nth(make: Callable[[Path, str], Iterator[tuple[str, Any]]], number: int) -> Callable[[Path, Path, str], None]:
    """The change of the nth case that is made, where it is needed."""

    def change(folder: Path, outside: Path, mark: str) -> None:
        next(islice(make(outside, mark), number, None))[1](folder)

    return change


def _bombs(family: str, outside: Path, mark: str) -> Iterator[tuple[str, Any]]:
    for own, name, change in hostile_settings.bombs():
        if own == family:
            yield name if name.startswith("left alone") else f"{family}: {name}", change


def _unchanged(kind: str, outside: Path, mark: str) -> Iterator[tuple[str, Any]]:
    yield f"honest: {kind}", lambda folder: None


COUNT = len(every())


def cases(count: int, seed: int) -> list[Case]:
    whole = [Case(number, name) for number, (_, name, _) in enumerate(every())]
    chosen = random.Random(seed).sample(range(len(whole)), min(count, len(whole)))
    return [whole[number] for number in sorted(chosen)]


def run(case: Case, folder: Path) -> Outcome:
    kind, name, change = every()[case.number]
    model, outside, mark = folder / "model", folder / "outside", folder / "mark"
    shutil.copytree(common.once(f"folder-{kind}", functools.partial(_make, kind)), model, symlinks=True)
    if kind == "snapshot":
        model = next((model / "models--x--y" / "snapshots").iterdir())
    shutil.copytree(common.model(), outside)
    for file, content in {"w.safetensors": "model.safetensors", "merges.txt": "vocab.txt"}.items():
        (outside / file).write_bytes((outside / content).read_bytes() if (outside / content).exists() else b"a b\n")
    os.chdir(folder)
    change(model, outside, str(mark))
    rows = common.rows("classification")
    seen, error = _failure(lambda: _load(case, kind, model, rows), folder, outside)
    if mark.exists():
        seen.code.append("the mark is there")
    if wrong := seen.verdict():
        return Outcome(case.name, False, *wrong)
    expected = name.startswith(("honest", "left alone"))
    if error is None:
        return Outcome(case.name, expected, "loaded" if expected else "accepted", facts=seen)
    if isinstance(error, ModelError):
        return Outcome(case.name, not expected and _names_a_file(error), "refused", str(error)[:400], seen)
    return Outcome(case.name, False, "another error", f"{type(error).__name__}: {error}"[:400])


def _names_a_file(error: ModelError) -> bool:
    return all(part in str(error) for part in ("model", ": "))


def _load(case: Case, kind: str, model: Path, rows: Path) -> None:
    """As `train` and `predict` load it; a share by the command line."""
    if case.number % 5 == 0 and kind in FAMILIES and not case.name.startswith(("honest", "left alone")):
        sys.argv = ["tunesmith", "train", str(rows), "--model", str(model), "--local", "--out", "out", "--quiet"]
        told = io.StringIO()
        try:
            with redirect_stderr(told):
                main()
        except SystemExit as stop:
            kind_of = ModelError if stop.code == ModelError.exit_code else RuntimeError
            raise kind_of(f"exit {stop.code}: {told.getvalue()}") from None
        return
    seen_keys(model)
    if kind in ("pooled", "adapter"):
        load_trained(Source.of_folder(str(model), model), "sequence")
        return
    source = find_source(ModelSettings(name=str(model), local=True))
    tokenizer = load_tokenizer(source)
    pooling = "mean" if kind in NO_HEAD else "head"
    loaded = load_classifier(source, tokenizer, ("a", "b"), "single_label_classification", pooling, 1)
    tokenizer(["a" * 10**5, " " * 10**5, "\n" * 10**5, "a b " * 10**4], truncation=True, max_length=64)
    assert all(weight.device.type != "meta" for weight in loaded.parameters())


def _make(kind: str, folder: Path) -> None:
    """An honest folder."""
    if kind in FAMILIES:
        tiny.save_model(kind, folder)
        return
    base = common.model()
    if kind in ("pooled", "adapter"):
        source = find_source(ModelSettings(name=str(base)))
        tokenizer = load_tokenizer(source)
        pooling = {"pooled": "mean", "adapter": "head"}[kind]
        model = load_classifier(source, tokenizer, ("a", "b"), "single_label_classification", pooling, 1)
        assert isinstance(model, PooledClassifier) == (kind == "pooled")
        save_model(model, tokenizer, folder, 32)
        if kind == "adapter":
            _adapter(folder)
    elif kind == "shards":
        AutoModelForSequenceClassification.from_pretrained(base).save_pretrained(folder, max_shard_size="20KB")
        AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    else:  # of the Hub's cache, which consists of links
        place = folder / "models--x--y"
        (place / "blobs").mkdir(parents=True)
        (place / "snapshots" / "0a").mkdir(parents=True)
        for number, file in enumerate(sorted(base.iterdir())):
            shutil.copy(file, place / "blobs" / f"{number:040x}")
            (place / "snapshots" / "0a" / file.name).symlink_to(f"../../blobs/{number:040x}")


def _adapter(folder: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from tunesmith.methods.lora import save_adapter

    model = AutoModelForSequenceClassification.from_pretrained(folder)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=["classifier"]))
    save_adapter(adapted, folder / "adapter", "x/y", "sequence")


def _failure(work: Callable[[], None], folder: Path, outside: Path) -> tuple[Watched, BaseException | None]:
    """What was seen while something was done, and the error it ended with."""
    seen, error = Watched(), None
    Path("answers").write_text("y\n" * 10**5)
    answers = os.open("answers", os.O_RDONLY)
    os.dup2(answers, 0)
    sys.stdin = os.fdopen(0, closefd=False)
    soft = _memory("VmSize") + 4 * 2**30  # so that what is missed does not take the machine along
    resource.setrlimit(resource.RLIMIT_AS, (soft, soft))
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    with _opened_in(outside) as opened:
        _audit(seen, folder)
        begin = time.process_time()
        try:
            work()
        except BaseException as caught:
            error = caught
        seen.seconds, seen.bytes = time.process_time() - begin, _memory("VmHWM") - before
        _audited.clear()
    seen.outside += [f"native: {name}" for name in opened]
    if os.lseek(0, 0, os.SEEK_CUR):
        seen.outside.append("standard input")
    return seen, error


def _memory(name: str) -> int:
    """Bytes of this process, as the kernel counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


_audited: list[tuple[Watched, str]] = []
OWN = (None, "uname")
"""The program itself, and what is asked for the record of a run."""
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.bind")
PROGRAMS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "subprocess.Popen",
    "pty.spawn",
    "pickle.find_class",
    "ctypes.dlopen",
)


def _audit(seen: Watched, folder: Path) -> None:
    """Watch from now on; hooks cannot be taken back, but they end with the child."""
    if not _audited:
        sys.addaudithook(_hook)
    _audited[:] = [(seen, os.path.realpath(folder))]


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    for seen, folder in _audited:
        if event in NETWORK:
            seen.network.append(f"{event} {arguments[1:]}")
            raise OSError("no network in this campaign")
        if event in PROGRAMS and arguments[0] not in OWN and not str(arguments[0]).startswith(sys.prefix):
            seen.code.append(f"{event} {str(arguments)[:100]}")
        elif event == "exec" and getattr(arguments[0], "co_filename", "").startswith(folder):
            seen.code.append(f"exec {arguments[0].co_filename}")
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            name, _, flags = arguments
            path = os.path.abspath(os.fsdecode(name))
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            own = path.startswith((folder, os.path.realpath(os.environ["TMPDIR"]), os.environ["TUNESMITH_CACHE"]))
            secret = path.startswith(("/etc", f"{folder}/outside", "/dev/zero")) and "/etc/" not in _SYSTEM(path)
            if secret or (writes and not own and path != "/dev/null"):
                seen.outside.append(f"{'written' if writes else 'read'}: {path}")


def _SYSTEM(path: str) -> str:
    """Files of the system that libraries read by themselves."""
    return path if path.startswith(("/etc/ld", "/etc/local", "/etc/mime", "/etc/nsswitch", "/etc/os-release")) else ""


@contextmanager
def _opened_in(folder: Path) -> Iterator[list[str]]:
    """Names of files that anything opens in a folder meanwhile, native code as well."""
    library = ctypes.CDLL(None, use_errno=True)
    watch = library.inotify_init1(os.O_NONBLOCK)
    library.inotify_add_watch(watch, os.fsencode(folder), IN_OPEN)
    names: list[str] = []
    yield names
    with suppress(BlockingIOError):
        raw = os.read(watch, 2**16)
        while raw:
            *_, length = struct.unpack("iIII", raw[:16])
            names.append(raw[16 : 16 + length].rstrip(b"\0").decode() or ".")
            raw = raw[16 + length :]
    os.close(watch)


def facts(outcomes: list[Outcome]) -> dict[str, Any]:
    """The most that a folder took."""
    seen = [outcome.facts for outcome in outcomes if isinstance(outcome.facts, Watched)]
    return {
        "slowest (s)": round(max((one.seconds for one in seen), default=0.0), 1),
        "most memory (MB)": round(max((one.bytes for one in seen), default=0) / 2**20),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    common.main(__name__)
