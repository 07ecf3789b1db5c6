"""A killed run is damaged in its folder and continued: the damage is noticed, or makes no difference."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.campaigns import common, harm
from tests.campaigns.common import Outcome
from tests.campaigns.runs import Recipe, difference
from tunesmith import adapting, manifest, pipeline  # noqa: F401  # what children need not import again

gc.freeze()  # nor look through, each time that a training begins

TITLE = "Damaged checkpoints, newest and best; records, logs and manifests of a run that was killed, then continued"
GOAL = "the damage is noticed (an earlier checkpoint is used, or one line names the file), or the model is the same"
COUNT, SAMPLE, SECONDS = 600, 4, 60.0


class Quiet(Recipe):
    """A run that learns nothing: the best state is the first one, and not the newest."""

    def __str__(self) -> str:
        return f"quiet {super().__str__()}"

    def arguments(self) -> list[str]:
        return ["1e-9" if word == "1e-3" else word for word in super().arguments()]


QUICK = ("evaluation.resamples=100", "evaluation.baseline=false")
RUNS = {
    "best is newest": Recipe("classification", settings=QUICK),
    "best is earlier": Quiet("classification", settings=QUICK),
    "LoRA": Quiet("classification", "lora", QUICK),
}
SAVES = 2
"""After so many saves the run is killed, before old ones are removed."""
NEWEST, EARLIER = "step-10", "step-5"


@dataclass(frozen=True)
class Case:
    """A damage.

    Attributes:
        run: one of `RUNS`.
        place: a checkpoint, or a file of the run.
        kind: of damage.
        seed: of what is drawn: the file, the place in it.
    """

    run: str
    place: str
    kind: str
    seed: int

    def __str__(self) -> str:
        return f"{self.run}, {self.place}: {self.kind}"


def cases(count: int, seed: int) -> list[Case]:
    """Every run, place and kind in turn, each time with other files, bytes and keys."""
    kinds = [(place, kind) for place in (NEWEST, EARLIER) for kind in (*harm.BYTES, *CHECKPOINT)]
    kinds += [("run.json", kind) for kind in (*harm.BYTES, "odd JSON", "odd JSON")]
    kinds += [("metrics.jsonl", kind) for kind in (*harm.BYTES, *LOG)]
    kinds += [("the folder", kind) for kind in ("link", "pipe", "folder", "file")]
    order = [(run, *kind) for run in RUNS for kind in kinds]
    random.Random(seed).shuffle(order)
    return [Case(*order[number % len(order)], seed * count + number) for number in range(count)]


def killed(recipe: Recipe, folder: Path) -> None:
    """The run, killed when it had saved `SAVES` checkpoints."""
    saves = 0

    def die(*_: Any) -> None:
        nonlocal saves
        saves += 1
        if saves == SAVES:
            os.kill(os.getpid(), signal.SIGKILL)

    def patch() -> None:
        from tunesmith.training import checkpoint

        checkpoint.rotate = die  # type: ignore[assignment]

    ended = recipe.go(folder, before=[patch])
    if ended.code != -signal.SIGKILL:
        raise RuntimeError(f"the run was to be killed: {ended}")


def run(case: Case, folder: Path) -> Outcome:
    """Damage a copy of the killed run, and go on."""
    recipe, chance = RUNS[case.run], random.Random(case.seed)
    base = common.once(f"killed {case.run}", lambda place: killed(recipe, place))
    shutil.copytree(base / "run", folder / "run")
    shutil.copytree(base / "cache", folder / "cache", dirs_exist_ok=True) if (base / "cache").is_dir() else None
    name, said = damaged(case, folder / "run", chance)
    ended = recipe.go(folder, "--resume", seconds=SECONDS - 10)
    if (folder / "outside").is_dir() and [path.name for path in (folder / "outside").iterdir()] != ["kept"]:
        return Outcome(f"{case}, {name}: {said}", False, "wrote outside", str(ended))
    noticed = name in ended.err or f"{case.place}: " in ended.err
    if ended.code == 0:
        pairs = [(folder / "run" / part, recipe.reference() / "run" / part) for part in ("model", "predictions")]
        note = next((found for pair in pairs if (found := difference(*pair))), "")
        verdict = "silent" if note else "passed over" if noticed else "no difference"
    else:
        # A record with other settings is a run with other settings or data, and without one there is no run.
        named = ended.code in (2, 3) and case.place == "run.json"
        verdict = "refused" if noticed and ended.code == 4 else "named" if named else f"exit {ended.code}"
        note = str(ended)
    good = verdict in ("passed over", "no difference", "refused", "named")
    return Outcome(f"{case}, {name}: {said}", good, verdict, note)


def damaged(case: Case, run: Path, chance: random.Random) -> tuple[str, str]:
    """Damage what the case says; the name of the file, and what was done to it."""
    checkpoints = run / "checkpoints"
    if case.place == "the folder":
        return _in_the_way(run, case.kind, chance)
    if case.place not in (NEWEST, EARLIER):
        path = run / case.place
        kinds = LOG if case.place == "metrics.jsonl" else {"odd JSON": harm.odd_json}
        return path.name, (harm.BYTES | kinds)[case.kind](path, chance)
    folder = checkpoints / case.place
    if case.kind in CHECKPOINT:
        return CHECKPOINT[case.kind](folder, chance)
    path = chance.choice(harm.files(folder))
    return path.name, harm.BYTES[case.kind](path, chance)


OTHERS = (".lock", ".work", "augmented.jsonl", "config.yaml", "findings.jsonl", "model", "predictions", "report.html")


def _in_the_way(run: Path, kind: str, chance: random.Random) -> tuple[str, str]:
    """Something at a place where the run will write."""
    path, outside = run / chance.choice(OTHERS), run.parent / "outside"
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    outside.mkdir()
    (outside / "kept").write_text("kept", encoding="utf-8")
    if kind == "link":
        path.symlink_to(chance.choice([outside, outside / "kept", outside / "new"]))
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("in the way", encoding="utf-8")
    return path.name, f"a {kind} in the way"


# ---- checkpoints ----------------------------------------------------------------------------------------------------


def _resealed(folder: Path) -> None:
    identity = json.loads((folder / manifest.FILE).read_text(encoding="utf-8"))["identity"]
    manifest.write(folder, identity)


def _swapped(folder: Path, chance: random.Random) -> tuple[str, str]:
    other = folder.with_name(EARLIER if folder.name == NEWEST else NEWEST)
    path = chance.choice([path for path in harm.files(folder) if (other / path.name).is_file()])
    same = path.read_bytes() == (other / path.name).read_bytes()
    return path.name, harm.replace(path, other / path.name) + (" (the same)" if same else "")


def _of_another_run(folder: Path, chance: random.Random) -> tuple[str, str]:
    method = "lora" if (folder / "adapter_config.json").exists() else "full"
    recipe = Quiet("classification", method, ("training.seed=3", *QUICK))
    base = common.once(f"killed other {recipe.method}", lambda place: killed(recipe, place))
    other = base / "run" / "checkpoints" / folder.name
    if chance.random() < 0.2:
        shutil.rmtree(folder)
        shutil.copytree(other, folder)
        return folder.name, "another run's"
    path = chance.choice(harm.files(folder))
    return path.name, harm.replace(path, other / path.name) + " of another run"


def _odd(folder: Path, chance: random.Random) -> tuple[str, str]:
    """Odd JSON, with a manifest that was made again to fit."""
    path = chance.choice([p for p in harm.files(folder) if p.suffix == ".json" and p.name != manifest.FILE])
    said = harm.odd_json(path, chance)
    _resealed(folder)
    return path.name, f"{said}, manifest made again"


def _odd_manifest(folder: Path, chance: random.Random) -> tuple[str, str]:
    return manifest.FILE, harm.odd_json(folder / manifest.FILE, chance)


ADDED = (
    "pytorch_model.bin",
    "adapter_model.safetensors",
    "optimizer.pt",
    "rng_state.pth",
    "x/config.json",
    "model.safetensors.index.json",
)


def _added(folder: Path, chance: random.Random) -> tuple[str, str]:
    names = [
        "pytorch_model.bin",
        "adapter_model.safetensors",
        "optimizer.pt",
        "rng_state.pth",
        "x/config.json",
        "model.safetensors.index.json",
    ]
    path = folder / chance.choice([name for name in names if not (folder / name).exists()])
    path.parent.mkdir(exist_ok=True)
    path.write_text(chance.choice(["", "{}", "x" * 100]), encoding="utf-8")
    if chance.random() < 0.5:
        _resealed(folder)
        return path.name, "added, manifest made again"
    return path.name, "added"


def _cut_weights(folder: Path, chance: random.Random) -> tuple[str, str]:
    """Tensors that are no whole file, with a manifest that was made again to fit."""
    path = chance.choice([path for path in harm.files(folder) if path.suffix == ".safetensors"])
    said = harm.BYTES["cut"](path, chance)
    _resealed(folder)
    return path.name, f"{said}, manifest made again"


def _gone(folder: Path, chance: random.Random) -> tuple[str, str]:
    path = chance.choice([path for path in harm.files(folder) if path.name != manifest.FILE])
    path.unlink()
    _resealed(folder)
    return path.name, "missing, manifest made again"


def _whole(folder: Path, chance: random.Random) -> tuple[str, str]:
    kind = chance.choice(["gone", "empty", "file", "link", "later"])
    if kind == "later":
        shutil.copytree(folder, folder.with_name("step-14"))
        return "step-14", f"a copy of {folder.name}"
    shutil.rmtree(folder)
    if kind == "empty":
        folder.mkdir()
    elif kind == "file":
        folder.write_text("", encoding="utf-8")
    elif kind == "link":
        folder.symlink_to(folder.with_name(EARLIER if folder.name == NEWEST else NEWEST))
    return folder.name, f"the folder is {kind}"


CHECKPOINT: dict[str, Callable[[Path, random.Random], tuple[str, str]]] = {
    "of another step": _swapped,
    "of another run": _of_another_run,
    "odd JSON": _odd,
    "more odd JSON": _odd,
    "odd manifest": _odd_manifest,
    "added": _added,
    "cut weights": _cut_weights,
    "gone": _gone,
    "whole": _whole,
}


# ---- the log --------------------------------------------------------------------------------------------------------


def _torn(path: Path, chance: random.Random) -> str:
    with path.open("a", encoding="utf-8") as file:
        file.write('{"step": 10, "loss": 0.')
    return "half a line at its end"


def _odd_line(path: Path, chance: random.Random) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    number = chance.randrange(len(lines))
    tree, said = harm.oddly(json.loads(lines[number]), chance)
    lines[number] = json.dumps(tree)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"line {number + 1}: {said}"


def _garbage(path: Path, chance: random.Random) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    lines.insert(
        chance.randrange(len(lines)), chance.choice(["", "{", "[" * 10**5, "NaN", '{"step": 1, "step": 2}', "\0"])
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "a line that is none"


LOG: dict[str, Callable[[Path, random.Random], str]] = {"torn": _torn, "odd line": _odd_line, "garbage": _garbage}


if __name__ == "__main__":
    common.main(__name__)
