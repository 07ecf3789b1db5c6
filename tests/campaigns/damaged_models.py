"""A finished run, or its model alone, is damaged and asked for predictions: it refuses, or answers as before."""

from __future__ import annotations

import gc
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.campaigns import common, harm
from tests.campaigns.common import Outcome
from tests.campaigns.processes import Ended, tunesmith
from tests.campaigns.runs import Recipe
from tunesmith import manifest, predicting  # noqa: F401  # what children need not import again
from tunesmith.models import sealed

gc.freeze()

TITLE = "Damaged run and model folders, from which texts are predicted"
GOAL = "one line names the file (exit 4), or the predictions are those of before; no internal error whatever it is"
COUNT, SAMPLE, SECONDS = 300, 5, 60.0

QUICK = ("evaluation.resamples=100", "evaluation.baseline=false")
RUNS = {
    "pooled": Recipe("classification", "features", QUICK),
    "head": Recipe("multilabel", "full", QUICK),
    "LoRA": Recipe("classification", "lora", QUICK),
    "entities": Recipe("ner", "full", QUICK),
}


@dataclass(frozen=True)
class Case:
    """A damage.

    Attributes:
        run: one of `RUNS`.
        whole: the folder of the run is damaged and asked; else a copy of its model alone.
        kind: of damage.
        seed: of what is drawn.
    """

    run: str
    whole: bool
    kind: str
    seed: int

    def __str__(self) -> str:
        return f"{self.run}, {'run' if self.whole else 'model alone'}"


def cases(count: int, seed: int) -> list[Case]:
    """Every run, place and kind in turn, each time with other files, bytes and keys."""
    order = [(run, whole, kind) for run in RUNS for whole in (True, False) for kind in (*harm.BYTES, *KINDS)]
    order += [(run, True, kind) for run in RUNS for kind in RECORD]
    random.Random(seed).shuffle(order)
    return [Case(*order[number % len(order)], seed * count + number) for number in range(count)]


def finished(name: str) -> Path:
    """Folder of a finished run, and beside it what it predicts."""

    def make(folder: Path) -> None:
        ended = RUNS[name].go(folder)
        ended = predicted(folder / "run", folder) if ended.code == 0 else ended
        if ended.code or not ended.out:
            raise RuntimeError(f"{name}: {ended}")
        (folder / "said").write_text(ended.out, encoding="utf-8")

    return common.once(f"finished {name}", make)


def predicted(model: Path, folder: Path) -> Ended:
    """What ``tunesmith predict`` says of the rows that the run was tested on."""
    rows = common.rows("classification", 20)
    return tunesmith("predict", model, rows, folder=folder / "output", seconds=SECONDS - 10)


def run(case: Case, folder: Path) -> Outcome:
    """Damage a copy, and predict."""
    base, chance = finished(case.run), random.Random(case.seed)
    asked = folder / "copy"
    shutil.copytree(base / "run" if case.whole else base / "run" / "model", asked)
    model = asked / "model" if case.whole else asked
    path, said = damaged(case, asked, model, chance)
    ended = predicted(asked, folder)
    if ended.code == 0:
        same = ended.out == (base / "said").read_text(encoding="utf-8")
        verdict, note = "same answers" if same else "other answers", ""
    else:
        named = ended.code == 4 and path in ended.err
        verdict, note = "refused" if named else f"exit {ended.code}", str(ended)
    if case.kind == "made again" and verdict in ("other answers", "exit 4"):  # who edits a model has another model
        verdict = "as it was made again"
    good = verdict in ("same answers", "refused", "as it was made again")
    return Outcome(f"{case}, {path}: {said}", good, verdict, note)


def damaged(case: Case, asked: Path, model: Path, chance: random.Random) -> tuple[str, str]:
    """Damage what the case says; the name of the file, and what was done to it."""
    if case.kind in RECORD:
        return "run.json", RECORD[case.kind](asked / "run.json", chance)
    if case.kind in KINDS:
        return KINDS[case.kind](case, model, chance)
    # In the run's own folder only two are read: where predictions come from, and how its data were read.
    files = [*harm.files(model), *([asked / "run.json"] if case.whole else [])]
    path = chance.choice(files)
    return path.name, harm.BYTES[case.kind](path, chance)


Made = Callable[[Case, Path, random.Random], tuple[str, str]]


def _odd(case: Case, model: Path, chance: random.Random) -> tuple[str, str]:
    path = chance.choice([path for path in harm.files(model) if path.suffix == ".json"])
    return path.name, harm.odd_json(path, chance)


def _swapped(case: Case, model: Path, chance: random.Random) -> tuple[str, str]:
    other = finished(chance.choice([name for name in RUNS if name != case.run])) / "run" / "model"
    pairs = [(path, other / path.relative_to(model)) for path in harm.files(model) if path.suffix != ".md"]
    path, theirs = chance.choice([pair for pair in pairs if pair[1].is_file()])
    return path.name, harm.replace(path, theirs) + " of another run"


def _whole(case: Case, model: Path, chance: random.Random) -> tuple[str, str]:
    """Another run's model; a copy of one alone is simply that model, so there its description is missing."""
    if case.whole:
        other = finished(chance.choice([name for name in RUNS if name != case.run])) / "run" / "model"
        shutil.rmtree(model)
        if chance.random() < 0.5:
            model.symlink_to(other)
            return "model", "a link to another run's"
        shutil.copytree(other, model)
        return "model", "another run's"
    (model / "tunesmith.json").unlink()
    return "tunesmith.json", "missing"


ADDED = ("pytorch_model.bin", "adapter_config.json", "config.json", "tokenizer.model", "x.py", "1_Pooling/x", "new/x")


def _added(case: Case, model: Path, chance: random.Random) -> tuple[str, str]:
    path = model / chance.choice([name for name in ADDED if not (model / name).exists()])
    path.parent.mkdir(exist_ok=True)
    path.write_text(chance.choice(["", "{}", '{"a": 1}']), encoding="utf-8")
    return path.name, "added"


def _note(case: Case, model: Path, chance: random.Random) -> tuple[str, str]:
    name = chance.choice(["README.md", "NOTES.md", "LICENSE", ".gitattributes"])
    (model / name).write_text("a note", encoding="utf-8")
    return name, "written"


CONTRADICTIONS: dict[str, list[Any]] = {
    "task": ["regression", "qa", "masked_words", 5, None, "nothing"],
    "max_length": [-5, 0, 10**9, "12", None, 1.5],
    "labels.names": [[], ["alpha"], ["alpha", "alpha", "alpha"], ["gamma", "beta", "alpha"], "alpha", None, {}],
    "labels.mean": [2.5, None, "x"],
    "labels.scale": [0, -1, 3],
    "layout": [None, {}, [], {"text": 5}],
    "long": ["middle", None, 3],
}


def _contradicting(case: Case, model: Path, chance: random.Random) -> tuple[str, str]:
    """A description that is not of the model, with lists of hashes that were made again to fit."""
    path = model / "tunesmith.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    key = chance.choice(sorted(CONTRADICTIONS))
    *inside, last = key.split(".")
    part = tree
    for name in inside:
        part = part[name]
    part[last] = chance.choice([value for value in CONTRADICTIONS[key] if value != part[last]])
    harm.write(path, tree, "")
    _resealed(case, model)
    return path.name, f"{key} = {part[last]!r}, hashes made again"


def _odd_resealed(case: Case, model: Path, chance: random.Random) -> tuple[str, str]:
    """Odd JSON, with lists of hashes that were made again to fit."""
    path = chance.choice([path for path in harm.files(model) if path.suffix == ".json" and path.name != manifest.FILE])
    said = harm.odd_json(path, chance)
    _resealed(case, model)
    return path.name, f"{said}, hashes made again"


def _resealed(case: Case, model: Path) -> None:
    files = {name: facts.model_dump() for name, facts in sealed.seal(model, "model/").items()}
    if case.whole:
        record = json.loads((model.parent / "run.json").read_text(encoding="utf-8"))
        harm.write(model.parent / "run.json", record | {"files": files}, "")


KINDS: dict[str, Made] = {
    "odd JSON": _odd,
    "more odd JSON": _odd,
    "swapped": _swapped,
    "whole": _whole,
    "added": _added,
    "note": _note,
    "contradicting": _contradicting,
    "more contradicting": _contradicting,
    "made again": _odd_resealed,
}
RECORD: dict[str, Callable[[Path, random.Random], str]] = {
    **{f"record {kind}": harm.BYTES[kind] for kind in ("missing", "cut", "flip", "pipe", "device")},
    "record odd": harm.odd_json,
    "record more odd": harm.odd_json,
    "record still more odd": harm.odd_json,
}


if __name__ == "__main__":
    common.main(__name__)
