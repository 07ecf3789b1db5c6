"""Power cuts: what a run wrote and did not sync is dropped, at every moment at which it synced something.

The calls of a run are recorded with their bytes, and replayed onto a disk that keeps for certain only what was synced.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import random
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import get_args

from tests.campaigns import common, tracing
from tests.campaigns.common import Outcome
from tests.campaigns.disk_model import Disk, Keeps
from tests.campaigns.processes import fork
from tests.campaigns.runs import GOOD, Recipe

TITLE = "power cuts at every sync and rename of a run: what was not synced is lost, names before or after contents"
GOAL = "no checkpoint and no result that was called saved is lost; the same command then makes the undisturbed run's"
COUNT, SAMPLE, SECONDS = 2000, 2, 300.0
OFTEN = ("training.save_minutes=0.00001",)
RECIPES = (
    Recipe("classification", "lora", rows=16, epochs=2),
    Recipe("adapt", "", rows=16, epochs=2),
    Recipe("ner", "full", OFTEN, rows=16, epochs=2),
    Recipe("qa", "full", OFTEN, rows=16, epochs=2),
    Recipe("classification", "features", rows=16, epochs=2),
    Recipe("classification", "gradual", rows=16, epochs=2),
)
BOUNDARIES = {*tracing.SYNCS.values(), *tracing.RENAMES}

unavailable = tracing.unavailable


@dataclass(frozen=True)
class Cut:
    """A power cut after so many calls of a run."""

    recipe: Recipe
    calls: int
    after: str
    keeps: Keeps

    def __repr__(self) -> str:
        return f"{self.recipe}, cut after call {self.calls} ({self.after}), kept: {self.keeps}"


def cases(count: int, seed: int) -> list[Cut]:
    """So many cuts, or all, as many of each recipe as there are; in an order of chance."""
    draw = random.Random(seed)
    cuts = [_cuts(recipe) for recipe in draw.sample(RECIPES, min(count, len(RECIPES)))]
    for of_one in cuts:
        draw.shuffle(of_one)
    return [cut for cut in chain.from_iterable(zip_longest(*cuts)) if cut][:count]


def _cuts(recipe: Recipe) -> list[Cut]:
    calls = recorded(recipe)
    at = [n for n, call in enumerate(calls, 1) if call.name in BOUNDARIES or n == len(calls)]
    return [Cut(recipe, number, str(calls[number - 1]), keeps) for number in at for keeps in get_args(Keeps)]


def recorded(recipe: Recipe) -> list[tracing.Call]:
    """The calls of a run that nothing disturbs, with what they write; paths begin at ``/``, the folder around it."""

    def made(folder: Path) -> None:
        def work() -> list[tracing.Call]:
            calls: list[tracing.Call] = []

            def entering(call: tracing.Call) -> tracing.Action:
                if call.path == str(folder) or call.path.startswith(str(folder / "run")):  # not of its cache
                    calls.append(call)
                return "go"

            child = recipe.start(folder, before=[tracing.traced])
            ended = tracing.watch(child, folder, entering, keep_data=True)
            if ended.code:
                raise RuntimeError(str(ended))
            return calls

        ended = fork(work, folder / "recorder", SECONDS)  # a process without other children
        if not ended.value:
            raise RuntimeError(f"{recipe}: {ended}")
        for call in ended.value:
            call.path = call.path.removeprefix(str(aside)) or "/"
            call.other = call.other.removeprefix(str(aside))
        (folder / "calls.pickle").write_bytes(pickle.dumps(ended.value))

    name = f"recorded {recipe}"
    aside = common.shared(f"{name}.part")
    calls: list[tracing.Call] = pickle.loads((common.once(name, made) / "calls.pickle").read_bytes())
    return calls


def run(cut: Cut, folder: Path) -> Outcome:
    calls = recorded(cut.recipe)
    disk = Disk(Path("/"))
    disk.apply(calls[: cut.calls])
    disk.leave(folder, cut.keeps, random.Random(repr(cut)))
    finished = cut.calls == len(calls)
    if finished and (lost := cut.recipe.difference(folder)):
        return Outcome("", False, "lost after it was called done", lost)
    if lost := _lost_checkpoint(calls[: cut.calls], folder / "run" / "checkpoints"):
        return Outcome("", False, "lost after it was called saved", lost)
    if finished:
        return Outcome("", True, "kept")
    verdict, note = cut.recipe.go_on(folder)
    return Outcome("", verdict in GOOD, verdict, note)


def _lost_checkpoint(calls: list[tracing.Call], folder: Path) -> str:
    """The checkpoint that was saved last, by the calls, and is not whole on the disk; empty where there is none."""
    saved = ""
    for number, call in enumerate(calls):
        names = Path(call.path), Path(call.other)
        committed = call.name in tracing.RENAMES and names[1].parent.name == "checkpoints"
        if committed and any(later.name == "fsync" and later.path == str(names[1].parent) for later in calls[number:]):
            saved = names[1].name
        if call.name in ("rmdir", "unlinkat", "unlink") and names[0].name == "checkpoints":
            saved = ""
        if call.name.startswith("unlink") and saved in names[0].parts:
            saved = ""  # it is being removed: the run is done with it
    return "" if not saved or _is_whole(folder / saved) else f"{saved} is not whole"


def _is_whole(checkpoint: Path) -> bool:
    try:
        files = json.loads((checkpoint / "manifest.json").read_bytes())["files"]
        found = {name: hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() for name in files}
    except (OSError, ValueError):
        return False
    return all(facts["sha256"] == found[name] for name, facts in files.items())


if __name__ == "__main__":
    common.main(__name__)
