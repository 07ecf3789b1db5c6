"""Runs without room on disks, in memory, for files, in other places; then the same command where there is room."""

from __future__ import annotations

import ctypes
import json
import os
import random
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from tests.campaigns import common
from tests.campaigns.common import Outcome
from tests.campaigns.processes import Child, Ended, command
from tests.campaigns.runs import Recipe, difference

TITLE = "disks of 40 sizes, limits of file size, memory and open files, full and read-only places, two processes"
GOAL = "exit 5 (2 where the folder is at fault) and one line with need, have and place; then exact by the same command"
COUNT, SAMPLE, SECONDS = 90, 2, 150.0
OFTEN = ("training.save_minutes=0.00001",)
RECIPES = [
    Recipe("classification", "full", OFTEN),
    Recipe("ner", "full", OFTEN),
    Recipe("classification", "lora", OFTEN),
    Recipe("classification", "features"),
    Recipe("adapt", "", OFTEN),
]
KINDS = {"disk": 40, "file": 10, "memory": 10, "address space": 8, "open files": 10, "temporary": 4, "read-only": 6}
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
PLENTY = 1 << 30
WITH_SIZE = ("disk", "file")
CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB"


@dataclass(frozen=True)
class Case:
    """
    Attributes:
        kind: of shortage, a key of `KINDS`, or ``"two processes"``.
        at: how much there is, 0 (next to nothing) to 1 (as much as it takes).
    """

    kind: str
    recipe: Recipe
    at: float

    def __repr__(self) -> str:
        return f"{self.kind} {self.at:.3f}: {self.recipe}"


def cases(count: int, seed: int) -> list[Case]:
    draw = random.Random(seed)

    def of(kind: str, number: int) -> Iterator[Case]:
        for index in range(number):
            recipe = RECIPES[index % (2 if kind == "memory" else len(RECIPES))]
            yield Case(kind, recipe, (index + draw.random()) / number)

    kinds = [list(of(kind, number)) for kind, number in {**KINDS, "two processes": 2}.items()]
    for listed in kinds:
        draw.shuffle(listed)
    return [case for case in chain.from_iterable(zip_longest(*kinds)) if case][:count]


def run(case: Case, folder: Path) -> Outcome:
    case.recipe.reference()  # made where there is room
    try:
        return TRIALS[case.kind](case, folder)
    except PermissionError as error:
        return Outcome("", True, "not allowed here", str(error))


def start(case: Case, folder: Path, *before: Callable[[], Any], **environment: Path) -> Child:
    """The command, in `folder`; what it writes besides, elsewhere."""
    beside = folder.parent / "beside"
    told = {"TUNESMITH_CACHE": str(beside / "cache"), **{name: str(path) for name, path in environment.items()}}
    return Child(command(*case.recipe.arguments(), cwd=folder, before=before), beside, told)


def judged(case: Case, folder: Path, ended: Ended, codes: Sequence[int] = (0, 5)) -> Outcome:
    """What came of a command without room, and of the same one with room."""
    lines = [line for line in ended.err.splitlines() if line.startswith("tunesmith: ")]
    if ended.code not in codes or "Traceback" in ended.err or len(lines) != (ended.code != 0):
        return Outcome("", False, "wrong end", f"exit {ended.code}, {len(lines)} lines: {ended.err[-300:]}")
    if case.kind in WITH_SIZE and lines and not any(unit in lines[0] for unit in (" bytes", "kB", "MB", " byte")):
        return Outcome("", False, "no figures", lines[0])
    if case.kind == "disk" and lines and str(folder) not in lines[0] and "run" not in lines[0]:
        return Outcome("", False, "no place", lines[0])
    words = f"refused ({ended.code}), then exact" if ended.code else "had enough"
    if ended.code:
        ended = start(case, folder).wait(60)
        if ended.code:
            return Outcome("", False, "does not go on", f"{lines[0]} | {ended}")
    if parts := parts_of(case, folder):
        return as_told(case, folder, parts, f"{words.partition(',')[0]}, then " if lines else "")
    wrong = case.recipe.difference(folder)
    return Outcome("", not wrong, "differs" if wrong else words, " | ".join([wrong, *lines]))


def parts_of(case: Case, folder: Path) -> dict[int, int]:
    """In how many rows a run took its steps, by its record: {step before: rows}; empty where memory never ran out."""
    record = folder / "run" / ("adapt.json" if case.recipe.task == "adapt" else "run.json")
    told = json.loads(record.read_text())["engine"].get("memory", {"rows_from_step": {}})
    return {int(step) - 1: rows for step, rows in told["rows_from_step"].items()}


def as_told(case: Case, folder: Path, parts: dict[int, int], before: str) -> Outcome:
    """Whether a run is that of a command that takes the same steps in the same parts without being forced to."""
    (told := folder / "told").mkdir()
    ended = start(case, told, partial(_tell_rows, parts)).wait(60)
    wrong = str(ended) if ended.code else difference(folder / "run", told / "run")
    return Outcome("", not wrong, "differs" if wrong else f"{before}equals a run that was told so", wrong)


def needed(recipe: Recipe) -> int:
    """About what a run takes on the disk, checkpoints included."""
    weights = sum(path.stat().st_size for path in (recipe.reference() / "run").rglob("*") if path.is_file())
    return 6 * weights


def _mount(source: str, target: Path, kind: str, flags: int = 0, options: str = "") -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(source.encode(), str(target).encode(), kind.encode(), flags, options.encode()):
        raise PermissionError(ctypes.get_errno(), f"mount: {os.strerror(ctypes.get_errno())}")


def _own_mounts() -> None:
    """A view of the file systems of this process's own."""
    library, root = ctypes.CDLL(None, use_errno=True), os.geteuid() == 0
    user, group = os.geteuid(), os.getegid()
    if library.unshare(CLONE_NEWNS | (0 if root else CLONE_NEWUSER)):
        raise PermissionError(ctypes.get_errno(), "unshare")
    if not root:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _mount("none", Path("/"), "none", MS_REC | MS_PRIVATE)


@contextmanager
def disk(folder: Path, size: int) -> Iterator[Callable[[int], None]]:
    """A disk of so many bytes at `folder`; yields what gives it another size."""
    _own_mounts()
    folder.mkdir(exist_ok=True)
    _mount("tmpfs", folder, "tmpfs", 0, f"size={size}")
    yield lambda size: _mount("tmpfs", folder, "tmpfs", MS_REMOUNT, f"size={size}")


def on_small_disk(case: Case, folder: Path) -> Outcome:
    """From 4 KiB to what is enough, most of them small."""
    most = needed(case.recipe)
    with disk(folder / "disk", max(4096, int(4096 * (most / 4096) ** case.at))) as resize:
        ended = start(case, folder / "disk").wait(60)
        resize(PLENTY)
        return judged(case, folder / "disk", ended)


def with_limit(case: Case, folder: Path, kind: int, value: int) -> Outcome:
    """A limit of the process; where memory is limited, the libraries are there already, and so are their threads."""

    def limit() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = value + (used if kind == resource.RLIMIT_AS else 0)
        resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))

    return judged(case, folder, start(case, folder, limit).wait(60))


def with_small_files(case: Case, folder: Path) -> Outcome:
    sizes = [path.stat().st_size for path in (case.recipe.reference() / "run").rglob("*") if path.is_file()]
    return with_limit(case, folder, resource.RLIMIT_FSIZE, int(1024 * (2 * max(sizes) / 1024) ** case.at))


def out_of_memory(case: Case, folder: Path) -> Outcome:
    """From some step on a few rows fit, or none: then there is enough again."""
    draw = random.Random(repr(case))
    rows, first, deep = draw.choice((0, 1, 2, 3, 4, 5)), draw.choice((0, 0, 1, 4, 7)), draw.random() < 0.5
    fits = {first: rows}
    if not rows and first and draw.random() < 0.5:
        fits[draw.randrange(first)] = 3
    ended = start(case, folder, partial(_limit_rows, fits, deep)).wait(60)
    if not rows and "single text" not in ended.err:
        return Outcome("", False, "wrong end", str(ended))
    found = judged(case, folder, ended, (0,) if rows else (5,))
    wanted = {step: max(half for half in (4, 2, 1) if half <= n) for step, n in fits.items() if n}
    if found.good and (parts := parts_of(case, folder)) != wanted:
        return Outcome("", False, "other parts", f"{parts}, where {fits} rows fit")
    return found


def _limit_rows(fits: dict[int, int], deep: bool) -> None:
    import torch

    from tunesmith.training.task_trainer import TaskTrainer

    compute = TaskTrainer.compute_loss

    def limited(self: Any, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        rows = min([n for step, n in fits.items() if step <= self.state.global_step], default=PLENTY)
        small = len(inputs["input_ids"]) <= rows or not model.training
        if small or not deep:
            if not small:
                raise torch.OutOfMemoryError(CUDA)
            return compute(self, model, inputs, *rest, **named)
        found = compute(self, model, inputs, *rest, **named)
        parameters = [p for p in model.parameters() if p.requires_grad]

        def refuse(gradient: Any) -> Any:
            handle.remove()
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

        handle = parameters[len(parameters) // 2].register_hook(refuse)
        return found

    TaskTrainer.compute_loss = limited  # type: ignore[method-assign]


def _tell_rows(rows: dict[int, int]) -> None:
    from tunesmith.training.parts import Parts

    Parts.of = classmethod(lambda cls, file, resumed: cls(file, dict(rows)))  # type: ignore[assignment,method-assign]


def in_little_memory(case: Case, folder: Path) -> Outcome:
    return with_limit(case, folder, resource.RLIMIT_AS, int((1 << 20) * 300**case.at))


def with_few_files(case: Case, folder: Path) -> Outcome:
    return with_limit(case, folder, resource.RLIMIT_NOFILE, 4 + int(24 * case.at))


def without_temporary(case: Case, folder: Path) -> Outcome:
    """The folder for temporary files is full, and so is what Python would take instead; then it is not."""
    with disk(folder / "full", 4096) as resize:
        (folder / "full" / "more").write_bytes(b"x" * 4096)
        for other in ("/tmp", "/var/tmp", "/usr/tmp"):
            if case.at < 0.5 and Path(other).is_dir() and not folder.is_relative_to(other):
                _mount(str(folder / "full"), Path(other), "none", MS_BIND)
        ended = start(case, folder, TMPDIR=folder / "full").wait(60)
        resize(PLENTY)
        return judged(case, folder, ended)


def read_only(case: Case, folder: Path) -> Outcome:
    """A place that cannot be written: the run folder's, the cache, the one for temporary files, the home."""
    with disk(folder / "fixed", PLENTY):
        place = ("run", "TUNESMITH_CACHE", "TMPDIR", "HOME")[int(4 * case.at)]
        _mount("tmpfs", folder / "fixed", "tmpfs", MS_REMOUNT | MS_RDONLY)
        if place == "run":
            ended = start(case, folder / "fixed").wait(60)
            _mount("tmpfs", folder / "fixed", "tmpfs", MS_REMOUNT)
            return judged(case, folder / "fixed", ended, (2, 5))
        return judged(case, folder, start(case, folder, **{place: folder / "fixed"}).wait(60), (0,))


def two_processes(case: Case, folder: Path) -> Outcome:
    first = start(case, folder)
    while not (folder / "run" / ".lock").exists() and not first.poll():
        time.sleep(0.001)
    time.sleep(0.05)
    second = start(case, folder).wait(60)
    ended = first.wait(60)
    if second.code != 2 or f"process {first.pid} is writing this run" not in second.err:
        return Outcome("", False, "let in", str(second))
    return judged(case, folder, ended, (0,))


TRIALS: dict[str, Callable[[Case, Path], Outcome]] = {
    "disk": on_small_disk,
    "file": with_small_files,
    "memory": out_of_memory,
    "address space": in_little_memory,
    "open files": with_few_files,
    "temporary": without_temporary,
    "read-only": read_only,
    "two processes": two_processes,
}


if __name__ == "__main__":
    common.main(__name__)
