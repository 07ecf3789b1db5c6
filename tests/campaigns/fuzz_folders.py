"""What `fuzz` tries of folders with models and runs: each of their files that is read, with other bytes in it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from tests import tiny
from tests.campaigns.fuzz_seeds import JSON_TOKENS
from tests.campaigns.fuzz_targets import Target
from tunesmith.config.schema import AdaptConfig
from tunesmith.models.facts import Facts
from tunesmith.models.gate.adapters import CONFIG, WEIGHTS, check_adapter
from tunesmith.models.gate.folder import check_folder
from tunesmith.models.sealed import require_intact, seal
from tunesmith.models.seen import seen_keys
from tunesmith.models.sentence import backbone_folder, sentence_pooling
from tunesmith.run.record import AdaptData, AdaptRecord, FilePart, Machine, ModelPart, RunRecord
from tunesmith.run.runs import runs_in
from tunesmith.training import state_files
from tunesmith.training.checkpoint import verify, verify_weights

STATE = {
    **{"epoch": 1.0, "global_step": 4, "max_steps": 8, "logging_steps": 500, "eval_steps": None, "save_steps": 4},
    **{"train_batch_size": 8, "num_train_epochs": 2, "num_input_tokens_seen": 0, "total_flos": 1e9, "trial_name": None},
    **{"log_history": [{"loss": 0.5, "step": 4}], "best_metric": 0.5, "best_global_step": 4, "trial_params": None},
    **{"best_model_checkpoint": "a", "is_local_process_zero": True, "is_world_process_zero": True},
    **{"is_hyper_param_search": False, "stateful_callbacks": {"A": {"args": {"b": 1}, "attributes": {}}}},
}
OPTIMIZER = {"values": {"0.step": 4.0}, "param_groups": [{"lr": 1e-3, "params": [0]}], "schedule": {}, "scaler": None}
ADAPTER = {
    "peft_type": "LORA",
    "r": 8,
    "lora_alpha": 16,
    "target_modules": ["query"],
    "rank_pattern": {},
    "task_type": None,
}
MODULES = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
FOLDER_TOKENS = (
    *JSON_TOKENS,
    b'"auto_map": ',
    b'"r": ',
    b"(a+)+$",
    b"../",
    b"9" * 30,
    b'"model_type": "rag"',
    b'"Regex"',
)
RUN, ADAPT = "run.json", "adapt.json"
make_record = import_module("tests.unit.test_run").make_record


@cache
def model() -> dict[str, bytes]:
    """The files of a tiny model, with all those that are read where they are there."""
    with tempfile.TemporaryDirectory() as folder:
        tiny.save_model("bert", Path(folder))
        files = {file.name: file.read_bytes() for file in Path(folder).iterdir()}
    files["modules.json"] = json.dumps(MODULES).encode()
    files["vocab.json"] = b'{"[PAD]": 0, "a": 1}'
    files["added_tokens.json"] = b'{"<a>": 5}'
    files["special_tokens_map.json"] = b'{"cls_token": "[CLS]", "pad_token": {"content": "[PAD]", "lstrip": false}}'
    return files


def made(folder: Path, name: str, make: Callable[[Path], object]) -> Path:
    """A folder of this name, made by the first input and kept for all that follow."""
    place = folder / name
    if not place.exists():
        place.mkdir()
        make(place)
    return place


def _write(files: dict[str, bytes]) -> Callable[[Path], None]:
    def write(place: Path) -> None:
        for name, content in files.items():
            (place / name).write_bytes(content)

    return write


def in_model(data: bytes, folder: Path) -> None:
    """A model folder in which one file is this."""
    files = model()
    place = made(folder, "model", _write(files))
    name = sorted(files)[data[0] % len(files)] if data else "config.json"
    try:
        (place / name).write_bytes(data[1:])
        backbone_folder(place)
        sentence_pooling(place)
        check_folder("m", place)
    finally:
        (place / name).write_bytes(files[name])


def in_adapter(data: bytes, folder: Path) -> None:
    files = {CONFIG: json.dumps(ADAPTER).encode(), WEIGHTS: model()["model.safetensors"]}
    place, name = made(folder, "adapter", _write(files)), CONFIG if data[:1] < b"\xe0" else WEIGHTS
    try:
        (place / name).write_bytes(data[1:])
        check_adapter(place)
    finally:
        (place / name).write_bytes(files[name])


def in_sealed(data: bytes, folder: Path) -> None:
    """A run whose model, manifest or record is this."""
    run = made(folder, "run", _sealed)
    place = run / "model"
    choice = (place / "manifest.json", run / RUN, place / "seen.txt", place / "tunesmith.json")[
        data[0] % 4 if data else 0
    ]
    before = choice.read_bytes()
    try:
        choice.write_bytes(data[1:])
        if choice.name == "seen.txt":
            seen_keys(place)
        require_intact(place)
    finally:
        choice.write_bytes(before)


def _sealed(run: Path) -> None:
    (run / "model").mkdir()
    _write({**model(), "tunesmith.json": b"{}", "seen.txt": b"0123456789abcdef\n"})(run / "model")
    files = {name: facts.model_dump() for name, facts in seal(run / "model", "model/").items()}
    (run / RUN).write_text(json.dumps({"status": "done", "files": files}))


def as_record(data: bytes, folder: Path) -> None:
    """A record of either command, and the list of runs that it is in."""
    kind, name = (RunRecord, RUN) if data[:1] < b"\xa0" else (AdaptRecord, ADAPT)
    runs = folder / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    (runs / "a").mkdir(parents=True)
    (runs / "a" / name).write_bytes(data[1:])
    if data[:1] < b"\x10":
        runs_in(runs)
    kind.load(runs / "a")


def as_saved(data: bytes, folder: Path) -> None:
    """What a model that was trained here says of itself."""
    (folder / "tunesmith.json").write_bytes(data)
    Facts.load(folder)


def in_checkpoint(data: bytes, folder: Path) -> None:
    """The JSON of a checkpoint; `state_files` says what is wrong by ValueErrors, which its callers turn into ours."""
    contents = {"trainer_state.json": STATE, "optimizer.json": OPTIMIZER, "manifest.json": {"version": 1, "files": {}}}
    files = {name: json.dumps(content).encode() for name, content in contents.items()} | {"config.json": b"{}"}
    place = made(folder, "checkpoint-4", _write(files))
    name = [*files, "model.safetensors.index.json"][data[0] % 5 if data else 0]
    (place / name).write_bytes(data[1:])
    try:
        verify(place, {"run": "a"})
        verify(place)
        verify_weights(place)
        if name in state_files.READERS:
            with suppress(ValueError):
                state_files.strange_event(getattr(state_files.read(place / name), "log_history", []))
    finally:
        (place / name).unlink()
        _write({name: content for name, content in files.items()})(place)


def _json(choice: int, content: object) -> bytes:
    return bytes([choice]) + json.dumps(content).encode()


def _model_seeds() -> tuple[bytes, ...]:
    return tuple(
        bytes([at]) + content for at, (_, content) in enumerate(sorted(model().items())) if len(content) < 4000
    )


def _sealed_seeds() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        _sealed(run)
        return (
            bytes([0]) + (run / "model" / "manifest.json").read_bytes(),
            bytes([1]) + (run / RUN).read_bytes(),
            b"\2" + b"0123456789abcdef\n" * 2,
        )


def _record_seeds() -> tuple[bytes, ...]:
    parts: Any = {"model": ModelPart(name="m", revision=None), "config": AdaptConfig(), "requested": AdaptConfig()}
    files = [FilePart(path="a.txt", sha256=None, rows=2)]
    data, machine = AdaptData(files=files, texts={"train": 2}, notes=[]), Machine.here(threads=1)
    adapted = AdaptRecord(data=data, machine=machine, seed=1, engine={}, identity={}, **parts)
    # without what may be left out, so that it is small
    small = {key: value for key, value in make_record().to_dict().items() if key not in ("described", "versions")}
    return _json(0, small), _json(200, adapted.to_dict()), _json(0, make_record().to_dict())


def _saved_seeds() -> tuple[bytes, ...]:
    layout = make_record().data.layout.to_dict()
    said = {
        "version": 1,
        "task": "classification",
        "labels": ["a", "b"],
        "layout": layout,
        "truncation": {"max_length": 32},
    }
    return (json.dumps(said).encode(),)


TARGETS: dict[str, Target] = {
    "model": Target(15, in_model, _model_seeds(), FOLDER_TOKENS),
    "adapter": Target(60, in_adapter, (_json(0, ADAPTER),), FOLDER_TOKENS),
    "sealed": Target(50, in_sealed, _sealed_seeds(), JSON_TOKENS),
    "record": Target(40, as_record, _record_seeds(), JSON_TOKENS),
    "saved_model": Target(50, as_saved, _saved_seeds(), JSON_TOKENS),
    "checkpoint": Target(
        40, in_checkpoint, (_json(0, STATE), _json(1, OPTIMIZER), _json(4, {"weight_map": {"a": "b"}})), JSON_TOKENS
    ),
}
