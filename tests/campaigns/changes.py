"""Everything that a run is made from, changed one at a time between its stop and the same command.

What decides the result must be refused by its own name, and by no other; what decides nothing must make no difference.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.campaigns import changed_runs, common
from tests.campaigns.changed_runs import COMMANDS, SECONDS, TWINS
from tests.campaigns.common import Outcome
from tests.campaigns.processes import command, fork
from tests.campaigns.runs import difference
from tunesmith.config.loading import fields, flag
from tunesmith.config.schema import AdaptConfig, Config

TITLE = "each file, setting, library, and the machine changed between the stop of a run and the same command"
GOAL = "what decides the result is refused by its name alone (exit 2); what decides nothing changes no bit"
COUNT, SAMPLE = 400, 3

CONFIGS: dict[str, Any] = {"train": Config, "adapt": AdaptConfig}
HARMLESS = {
    "training.save_minutes": "0.001",
    "training.threads": "1",
    "model.local": "true",
    "data.expansion": "99",
    "model.name": "twin",
    "augmentation.lexicon": "twin.txt",
    "augmentation.masked_model": "twin-masked",
    "output.keep_checkpoints": "true",
    "output.resume": "true",
}
"""Settings that decide nothing, or name the same files otherwise, and another value of each."""
ANEW = {"output.overwrite", "output.out", "training.tracker"}
"""Settings that mean another run, or need a package that is not here."""
OTHERS = {
    "data.valid": "test.csv",
    "data.test": "valid.csv",
    "data.valid_fraction": "0.2",
    "data.test_fraction": "0.2",
    "data.text": "text",
    "data.label": "label",
    "data.unlabelled": "skip",
    "data.split": "none",
    "data.group": "other",
    "data.id": "other",
    "data.format": "csv",
    "data.quoting": "on",
    "data.encoding": "utf-8-sig",
    "task.name": "classification",
    "model.revision": "main",
    "model.allow": "other",
    "model.pooling": "mean",
    "method.name": "lora",
    "method.lora_targets": "query",
    "training.epochs": "3",
    "training.layer_decay": "0.5",
    "training.schedule": "cosine",
    "training.precision": "bfloat16",
    "training.max_length": "32",
    "training.class_weights": "balanced",
    "training.long": "windows",
    "training.metric": "macro_f1",
    "augmentation.names": "masked",
    "engine.use": "off",
}
"""Values of settings that are no numbers or switches; each fits the data."""
ELSEWHERE = {"data.sheet", "data.text_pair", "data.label_separator", "data.decimal", "data.delimiter"}
"""Settings that only other data can be read with."""
OF_ROWS = {"data.valid", "data.test", "data.group", "data.label", "data.id", "data.format"}
"""Settings that plain texts cannot be read with."""


@dataclass(frozen=True)
class Case:
    """A change.

    Attributes:
        said: what the one line of the refusal must name; empty: nothing is refused.
        more: further words of the command.
        edit: changes files of the case's folder.
        patch: changes what the process sees.
    """

    kind: str
    what: str
    said: str
    more: tuple[str, ...] = ()
    edit: Callable[[Path], Any] | None = None
    patch: Callable[[], Any] | None = None

    def __repr__(self) -> str:
        return f"{self.kind}: {self.what}"


def cases(count: int, seed: int) -> list[Case]:
    found = [case for kind in COMMANDS for case in (*_files(kind), *_settings(kind), *_surroundings(kind))]
    random.Random(seed).shuffle(found)
    return found[:count]


def run(case: Case, folder: Path) -> Outcome:
    stopped = common.once(f"stopped-{case.kind}", lambda place: changed_runs.stop(case.kind, place))
    here = folder / "here"
    shutil.copytree(stopped, here, symlinks=True)
    if case.edit is not None:
        case.edit(here)
    before = _content(here / "run")
    words = [*COMMANDS[case.kind], *case.more]
    work = command(*words, cwd=here, before=[case.patch] if case.patch else ())
    ended = fork(work, folder / "output", SECONDS, {"TUNESMITH_CACHE": str(here / "cache")})
    lines = [line for line in ended.err.splitlines() if line.startswith("tunesmith: ")]
    if not case.said:
        if ended.code:
            return Outcome("", False, "refused for nothing", str(ended))
        whole = common.once(f"whole-{case.kind}", lambda place: changed_runs.whole(case.kind, place))
        out = here / (case.more[-1] if case.more[-2:-1] == ("--out",) else "run")
        _forget_settings(out, whole / "run")
        wrong = difference(out, whole / "run")
        return Outcome("", not wrong, "differs" if wrong else "exact", wrong)
    if ended.code == 0:
        return Outcome("", False, "accepted silently")
    if ended.code != 2 or len(lines) != 1 or case.said not in lines[0]:
        return Outcome("", False, "not named", f"{ended.code}, wanted {case.said!r}: {lines}")
    if _content(here / "run") != before:
        return Outcome("", False, "written though refused", lines[0])
    return Outcome("", True, "named", lines[0])


def _forget_settings(found: Path, wanted: Path) -> None:
    """Leave out what a run's folder says of its settings, of which some are others, and checkpoints that were kept."""
    shutil.rmtree(found / "checkpoints", ignore_errors=True)
    for path in (*found.glob("*.json"), *found.glob("**/README.md")):
        text = path.read_text(encoding="utf-8")
        for twin, name in TWINS.items():
            text = text.replace(twin, name)
        path.write_text(text, encoding="utf-8")
    for name in ("run.json", "adapt.json"):
        if (found / name).exists():
            record, other = (json.loads((folder / name).read_text(encoding="utf-8")) for folder in (found, wanted))
            (found / name).write_text(
                json.dumps(record | {key: other[key] for key in ("config", "requested", "machine")})
            )
    if (wanted / "config.yaml").exists():
        shutil.copy(wanted / "config.yaml", found)
    for card in found.glob("**/README.md"):
        lines = (wanted / card.relative_to(found)).read_text(encoding="utf-8").splitlines(keepends=True)
        rows = {line.split("|")[1]: line for line in lines if line.startswith("| ")}
        own = card.read_text(encoding="utf-8").splitlines(keepends=True)
        card.write_text("".join(rows.get(line.split("|")[1], "") if line.startswith("| ") else line for line in own))


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def _files(kind: str) -> list[Case]:
    """Each file that is read, changed in bytes alone, in content, new and gone."""
    found = []
    models = {"model": "model file"} | ({"masked": "masked model file"} if kind == "train" else {})
    names = ["config.json", "tokenizer.json", "tokenizer_config.json", "modules.json", "1_Pooling/config.json"]
    for folder, called in models.items():
        for name in names if folder == "model" else names[:3]:
            path = f"{folder}/{name}"
            found.append(Case(kind, f"{path} with a space", f"{called}: {name} changed", edit=_append(path, " ")))
        path = f"{folder}/model.safetensors"
        found.append(Case(kind, path, f"{called}: model.safetensors changed", edit=_weight(path)))
        for name in ("vocab.txt", "special_tokens_map.json", "added_tokens.json"):
            edit = _append(f"{folder}/{name}", "the\n" if name == "vocab.txt" else "{}")
            found.append(Case(kind, f"{folder}/{name} is new", f"{called}: {name} is new", edit=edit))
    gone = "model file: modules.json is gone"
    found.append(
        Case(kind, "model/modules.json is gone", gone, edit=lambda here: (here / "model/modules.json").unlink())
    )
    found.append(Case(kind, "model/README.md", "", edit=_append("model/README.md", "more")))
    found.append(Case(kind, "the time of every file", "", edit=_touch))
    found.append(Case(kind, "the folder of the run", "", ("--resume", "--out", "moved"), _move))
    data = {"train": ("train", "valid", "test"), "adapt": ()}[kind]
    found += [
        Case(kind, f"{name}.csv with {what}", f"data file: {name}.csv changed", edit=_append(f"{name}.csv", line))
        for name in data
        for what, line in {"a row more": f"x,a good card {name},alpha,x\n", "an empty line": "\n"}.items()
    ]
    if kind == "adapt":
        line = "a good card and a bad film\n"
        found.append(Case(kind, "texts.txt", "data file: texts.txt changed", edit=_append("texts.txt", line)))
    else:
        line = "card,money\n"
        found.append(Case(kind, "lexicon.txt", "lexicon: lexicon.txt changed", edit=_append("lexicon.txt", line)))
    return found


def _settings(kind: str) -> list[Case]:
    found = []
    for key, field in fields(CONFIGS[kind]):
        if key in ANEW | ELSEWHERE or (kind == "adapt" and key in OF_ROWS):
            continue
        if key in HARMLESS:
            option = flag(field)
            more = (option, HARMLESS[key]) if option in COMMANDS[kind] else ("--set", f"{key}={HARMLESS[key]}")
            found.append(Case(kind, f"{key}={HARMLESS[key]}", "", more))
            continue
        value = OTHERS.get(key) or _other(field)
        option = flag(field)
        more = (option, value) if option in COMMANDS[kind] else ("--set", f"{key}={value}")
        found.append(Case(kind, f"{key}={value}", f"--resume: {option or key} was ", more))
    return found


def _other(field: Any) -> str:
    """Another value of a number or a switch."""
    default = field.default
    if isinstance(default, bool):
        return str(not default).lower()
    if default in ("auto", "off"):
        return "off" if default == "auto" else "auto"
    if isinstance(default, int):
        return str(default + 1)
    return "2" if default is None else str(default / 2 or 0.1)


def _surroundings(kind: str) -> list[Case]:
    inputs: Any = import_module("tunesmith.run.inputs")

    def other(name: str, value: Any) -> Callable[[], None]:
        getattr(inputs, name)  # it is there
        return lambda: setattr(inputs, name, value)

    def updated(library: str) -> Callable[[], None]:
        version = inputs.version
        return other("version", lambda name: "99.9" if name == library else version(name))

    found = [
        Case(kind, f"{name} 99.9", f"{name} was ", patch=updated(name))
        for name in (*inputs.LIBRARIES, *inputs.MORE_LIBRARIES)
    ]
    code, extension = "the code of Tunesmith changed", "extension: json is new"
    points = [type("Point", (), {"module": "json"})]
    found += [
        Case(kind, "the code", code, patch=other("_code_sha256", lambda package: "0" * 64)),
        Case(kind, "an extension", extension, patch=other("entry_points", lambda group: points)),
        Case(kind, "the processor", "the processor was ", patch=other("processor", lambda: "another")),
        Case(kind, "its instructions", "the processor was ", patch=lambda: _other_instructions()),
        Case(kind, "Python", "python was ", patch=lambda: setattr(inputs.platform, "python_version", lambda: "3.99")),
        Case(
            kind,
            "the C library",
            "the system was ",
            patch=lambda: setattr(inputs.platform, "libc_ver", lambda: ("", "9")),
        ),
        Case(kind, "two threads", "--threads was 1 and is now 2", ("--threads", "2")),
        Case(kind, "the default number of threads", "", patch=lambda: torch.set_num_threads(2)),
        Case(kind, "the number of cores", "", patch=lambda: setattr(os, "cpu_count", lambda: 64)),
    ]
    for name in inputs.ENVIRONMENT:
        patch = _environment(name)
        found.append(Case(kind, f"${name}", f"environment: {name} is new", patch=patch))
    return found


def _environment(name: str) -> Callable[[], None]:
    return lambda: os.environ.__setitem__(name, "other")


def _other_instructions() -> None:
    torch.backends.cpu.get_cpu_capability = lambda: "another"


def _append(name: str, text: str) -> Callable[[Path], None]:
    def edit(here: Path) -> None:
        with (here / name).open("a", encoding="utf-8") as file:
            file.write(text)

    return edit


def _weight(name: str) -> Callable[[Path], None]:
    def edit(here: Path) -> None:
        weights = load_file(here / name)
        first = next(iter(sorted(weights)))
        weights[first] = weights[first].clone()
        weights[first].view(-1)[0] += 1e-3
        save_file(weights, here / name, metadata={"format": "pt"})

    return edit


def _touch(here: Path) -> None:
    for path in here.rglob("*"):
        os.utime(path, (1, 1))


def _move(here: Path) -> None:
    (here / "run").rename(here / "moved")


if __name__ == "__main__":
    common.main(__name__)
