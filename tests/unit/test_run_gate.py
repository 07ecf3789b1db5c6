"""What is refused of run folders, checkpoints and models that were damaged, edited, or made to harm."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers.trainer_callback import EarlyStoppingCallback, TrainerControl, TrainerState

from tunesmith import manifest
from tunesmith.errors import ModelError
from tunesmith.manifest import Manifest
from tunesmith.run import gate
from tunesmith.training import checkpoint, state_files

RUN = {"config": "a", "data": "b"}
STEP = 3


def optimizer_of(model: torch.nn.Module) -> tuple[torch.optim.Optimizer, Any]:
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    schedule.step()
    return optimizer, schedule


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint of a run."""
    folder, model = tmp_path / f"step-{STEP}", torch.nn.Linear(2, 2)
    callbacks: Any = [EarlyStoppingCallback(2), TrainerControl()]
    with checkpoint.commit(folder, {**RUN, "step": STEP}, "output.resume=true") as aside:
        save_file(model.state_dict(), aside / "model.safetensors")
        (aside / "config.json").write_text('{"model_type": "bert"}')
        checkpoint.save_optimizer(aside, *optimizer_of(model))
        state = TrainerState(epoch=1.5, global_step=STEP, max_steps=9, log_history=[{"step": 1, "loss": 0.5}])
        state.stateful_callbacks, state.best_metric = checkpoint.states(callbacks), float("-inf")  # type: ignore[assignment]
        state.save_to_json(str(aside / "trainer_state.json"))
    assert checkpoint.verify(folder, RUN) is None
    return folder


def rewritten(folder: Path, change: Callable[[dict[str, Any]], Any] | None = None) -> None:
    """The manifest made again, as by who wants the change not to be noticed; `change` edits it."""
    tree = manifest.write(folder, json.loads((folder / "manifest.json").read_text())["identity"]).model_dump()
    if change:
        change(tree)
        (folder / "manifest.json").write_text(json.dumps(tree))


def edited(path: Path, *keys: str | int, value: Any) -> None:
    tree = json.loads(path.read_text())
    part = tree
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    path.write_text(json.dumps(tree))


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda f: (f / "optimizer.json").unlink(), "optimizer.json is missing"),
    "cut": (lambda f: os.truncate(f / "model.safetensors", 9), "model.safetensors has the wrong size"),
    "added": (lambda f: (f / "adapter_model.safetensors").write_text(""), "adapter_model.safetensors is not in"),
    "added pickle": (lambda f: (f / "pytorch_model.bin").write_text(""), "pytorch_model.bin is not in manifest.json"),
    "a link": (
        lambda f: ((f / "config.json").rename(f.parent / "c"), (f / "config.json").symlink_to(f.parent / "c")),
        "config.json is a link",
    ),
    "a pipe": (lambda f: ((f / "config.json").unlink(), os.mkfifo(f / "config.json")), "config.json is neither a file"),
    "a folder": (lambda f: ((f / "config.json").unlink(), (f / "config.json").mkdir()), "config.json is missing"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "manifest.json is missing"),
    "a manifest that is a link": (
        lambda f: ((f / "manifest.json").rename(f.parent / "m"), (f / "manifest.json").symlink_to(f.parent / "m")),
        "manifest.json cannot be read .a link",
    ),
    "no files": (lambda f: rewritten(f, lambda tree: tree.update(files={})), r"manifest.json is damaged .files"),
    "files as a list": (lambda f: rewritten(f, lambda tree: tree.update(files=[])), r"manifest.json is damaged .files"),
    "another's file": (
        lambda f: rewritten(f, lambda tree: tree["files"].update({"../x": tree["files"]["config.json"]})),
        r"manifest.json is damaged .files.\.\./x",
    ),
    "an absolute name": (
        lambda f: rewritten(f, lambda tree: tree["files"].update({"/etc/passwd": tree["files"]["config.json"]})),
        "manifest.json is damaged .files./etc/passwd",
    ),
    "negative size": (
        lambda f: rewritten(f, lambda tree: tree["files"]["config.json"].update(bytes=-1)), "manifest.json is damaged"
    ),
    "a step of another kind": (
        lambda f: rewritten(f, lambda tree: tree["identity"].update(step=[3])), "manifest.json is damaged .identity"
    ),
    "a pickle": (lambda f: ((f / "pytorch_model.bin").write_text(""), rewritten(f)), "lists pytorch_model.bin, which"),
    "an index of pickles": (
        lambda f: ((f / "pytorch_model.bin.index.json").write_text("{}"), rewritten(f)), "which may hold a pickle"
    ),
    "no weights": (lambda f: ((f / "model.safetensors").unlink(), rewritten(f)), "has no weights"),
    "weights elsewhere": (
        lambda f: (
            (f / "model.safetensors").unlink(),
            (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../x.safetensors"}}'),
            rewritten(f),
        ),
        "names '../x.safetensors', which is no file of weights",
    ),
    "half of the optimizer": (lambda f: ((f / "optimizer.json").unlink(), rewritten(f)), "does not list what every"),
    "no state": (lambda f: ((f / "trainer_state.json").unlink(), rewritten(f)), "does not list what every"),
    "another step": (
        lambda f: (edited(f / "trainer_state.json", "global_step", value=2), rewritten(f)), "is of step 2, mani"
    ),
    "steps beyond the end": (
        lambda f: (edited(f / "trainer_state.json", "max_steps", value=2), rewritten(f)), "more steps were taken"
    ),
    "a state that is a list": (lambda f: ((f / "trainer_state.json").write_text("[]"), rewritten(f)), "trainer_state"),
    "an unknown key": (
        lambda f: (edited(f / "trainer_state.json", "code", value="x"), rewritten(f)), "trainer_state.json .* .code: "
    ),
    "a history of words": (
        lambda f: (edited(f / "trainer_state.json", "log_history", 0, "loss", value="much"), rewritten(f)),
        "log_history: loss should be a number",
    ),
    "a configuration of 7": (lambda f: ((f / "config.json").write_text("7"), rewritten(f)), "config.json"),
    "labels without end": (
        lambda f: ((f / "config.json").write_text('{"num_labels": 1000000000}'), rewritten(f)), "config.json .*num_la"
    ),
    "a key twice": (
        lambda f: ((f / "config.json").write_text('{"a": 1, "a": 2}'), rewritten(f)), "config.json .*stands twice"
    ),
    "deep": (lambda f: ((f / "config.json").write_text("[" * 10**5), rewritten(f)), "config.json .*nested too deeply"),
    "values by no number": (
        lambda f: (edited(f / "optimizer.json", "values", value={"exp_avg": 1}), rewritten(f)), "optimizer.json .*value"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_checkpoint_is_exactly_what_was_written_or_is_refused(name: str, saved: Path) -> None:
    change, problem = DAMAGES[name]
    change(saved)
    assert re.search(problem, str(checkpoint.verify(saved, RUN))), checkpoint.verify(saved, RUN)
    assert checkpoint.last_valid(saved.parent, "step", RUN)[0] is None


def test_a_checkpoint_is_of_its_run_and_of_the_step_it_is_named_after(saved: Path) -> None:
    assert "another run (data is 'b'" in str(checkpoint.verify(saved, {**RUN, "data": "c"}))
    later = saved.with_name("step-9")
    shutil.copytree(saved, later)
    assert "not named after" in str(checkpoint.verify(later, RUN))
    (saved.parent / "step-8").symlink_to(saved)
    found, passed_over = checkpoint.last_valid(saved.parent, "step", RUN)
    assert found == saved and "not named after" in passed_over[0] and "it is a link" in passed_over[1]


@pytest.mark.parametrize(
    ("keys", "value", "problem"),
    [
        (("param_groups", 0, "params"), ["x", "y"], "parameters that are trained"),
        (("param_groups",), [], "parameters that are trained"),
        (("param_groups", 0, "lr"), "high", r"param_groups\.0\.lr should be of type float"),
        (("param_groups", 0), {"params": [0, 1]}, r"param_groups\.0 should hold "),
        (("schedule", "step"), 5, r"schedule should hold "),
        (("schedule", "last_epoch"), True, r"schedule\.last_epoch should be of type int"),
        (("values",), {"0.exp_avg": 5}, r"has the shape \(\)"),
        (("values",), {"77.exp_avg": 5}, "more parameters"),
    ],
)
def test_what_an_optimizer_cannot_take_is_refused(keys: Any, value: Any, problem: str, saved: Path) -> None:
    edited(saved / "optimizer.json", *keys, value=value)
    rewritten(saved)
    assert checkpoint.verify(saved, RUN) is None
    with pytest.raises(ModelError, match=rf"optimizer's state is of another .*{problem}"):
        checkpoint.load_optimizer(saved, *optimizer_of(torch.nn.Linear(2, 2)))


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("EarlyStoppingCallback", "attributes"), {"on_log": 5}),
        (("EarlyStoppingCallback", "attributes", "early_stopping_patience_counter"), "many"),
        (("TrainerControl", "args", "should_save"), 1),
        (("TrainerControl", "args"), {"self": 1}),
    ],
)
def test_states_are_those_that_callbacks_save(keys: Any, value: Any, saved: Path) -> None:
    callbacks: Any = [EarlyStoppingCallback(2), TrainerControl()]
    edited(saved / "trainer_state.json", "stateful_callbacks", *keys, value=value)
    stored = json.loads((saved / "trainer_state.json").read_text())["stateful_callbacks"]
    with pytest.raises(ModelError, match=rf"stateful_callbacks\.{keys[0]}"):
        state_files.require_own_states(saved, stored, callbacks)


def test_the_state_has_the_fields_of_the_library() -> None:
    assert set(state_files.State.model_fields) == set(vars(TrainerState()))


def test_adapters_that_the_model_does_not_have_are_refused(saved: Path) -> None:
    (saved / "other").mkdir()
    (saved / "other" / "adapter_model.safetensors").write_text("")
    with pytest.raises(ModelError, match="adapter 'other', which the model does not have"):
        checkpoint.require_own_adapters(saved, torch.nn.Linear(2, 2))


def test_weights_alone_are_looked_at_where_others_wrote_into_a_checkpoint(saved: Path) -> None:
    (saved / "config.json").write_text("{}")
    (saved / "notes.bin").write_text("")
    assert checkpoint.verify_weights(saved) is None
    (saved / "manifest.json").unlink()
    assert checkpoint.verify_weights(saved) is None
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    assert "no weights" in str(checkpoint.verify_weights(saved))


def test_a_run_that_is_written_holds_files_and_folders_of_the_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    gate.admit(run)
    (tmp_path / "typed").symlink_to(run)
    gate.admit(tmp_path / "typed")
    (run / "checkpoints" / "x").symlink_to(tmp_path)
    with pytest.raises(ModelError, match=r"checkpoints/x is a link; .*, or start a new run"):
        gate.admit(run)
    (run / "checkpoints" / "x").unlink()
    os.mkfifo(run / "metrics.jsonl")
    with pytest.raises(ModelError, match=r"metrics\.jsonl is neither a file nor a folder"):
        gate.admit(run)
    (run / "metrics.jsonl").unlink()
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    for refused in (lambda: gate.admit(run), lambda: gate.require_own(run, ".lock")):
        with pytest.raises(ModelError, match="belongs to another user"):
            refused()


def test_a_lock_is_a_file(tmp_path: Path) -> None:
    gate.require_own(tmp_path / "new", ".lock")
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(ModelError, match=r"\.lock is no file"):
        gate.require_own(tmp_path, ".lock")


def test_a_folder_without_end_is_not_walked_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path.joinpath(*"abcdefg")
    deep.mkdir(parents=True)
    with pytest.raises(ValueError, match="a/b/c/d/e/f lies more than 6 folders deep"):
        list(manifest.file_names(tmp_path))
    monkeypatch.setattr(manifest, "MOST_FILES", 3)
    with pytest.raises(ValueError, match="more than 3 files"):
        list(manifest.file_names(tmp_path))


def test_a_manifest_is_read_as_it_was_written(saved: Path) -> None:
    found = Manifest.load(saved)
    assert found.identity == {**RUN, "step": STEP}
    assert set(found.files) == {path.name for path in saved.iterdir()} - {"manifest.json"}
