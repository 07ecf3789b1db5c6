"""What is refused of run folders, checkpoints and models that were damaged, edited, or made to harm."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers.trainer_callback import EarlyStoppingCallback, TrainerControl, TrainerState

from tunesmith import manifest
from tunesmith.config.schema import ModelSettings
from tunesmith.data.layout import Layout
from tunesmith.data.shapes import SHAPES
from tunesmith.errors import ModelError
from tunesmith.manifest import Manifest
from tunesmith.models.loading import load_classifier, load_config, load_tokenizer
from tunesmith.models.sealed import require_intact, seal
from tunesmith.models.source import Source, find_source
from tunesmith.predictor import Predictor
from tunesmith.registry import lookup
from tunesmith.run import gate
from tunesmith.tasks import TASKS
from tunesmith.tasks.base import LabelSpace
from tunesmith.tasks.encoding import Truncation
from tunesmith.training import checkpoint, resuming, state_files, weights
from tunesmith.training.backend import TorchModel

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
    "a folder": (lambda f: ((f / "config.json").unlink(), (f / "config.json").mkdir()), "config.json is a folder"),
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
    "a best checkpoint without a step": (
        lambda f: (edited(f / "trainer_state.json", "best_model_checkpoint", value="x"), rewritten(f)), "but no step"
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


def test_a_checkpoint_is_of_its_run_and_of_the_step_it_is_named_after(saved: Path) -> None:
    assert "another run (data is 'b'" in str(checkpoint.verify(saved, {**RUN, "data": "c"}))
    later = saved.with_name("step-9")
    shutil.copytree(saved, later)
    assert "not named after" in str(checkpoint.verify(later, RUN))
    (saved.parent / "step-8").symlink_to(saved)
    arguments = SimpleNamespace(load_best_model_at_end=False)
    trainer = SimpleNamespace(
        args=arguments,
        _tunesmith_folder=lambda: saved.parent,
        _tunesmith_prefix="step",
        _tunesmith_identity=RUN,
    )
    point = resuming.newest(trainer)
    assert point.folder == saved
    assert "not named after" in point.passed_over[0] and "it is a link" in point.passed_over[1]


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


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to(path.parent / "elsewhere")])
def test_what_has_the_name_of_a_checkpoint_is_replaced_or_removed(make: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    for name in ("step-1", "step-2"):
        make(tmp_path / name)
    with checkpoint.commit(tmp_path / "step-2", {}, "this") as aside:
        (aside / "model.safetensors").touch()
    checkpoint.rotate(tmp_path, "step", 1, [tmp_path / "step-2"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "step-2"]
    assert (tmp_path / "elsewhere" / "kept").exists() and (tmp_path / "step-2" / "manifest.json").is_file()


def test_adapters_that_the_model_does_not_have_are_refused(saved: Path) -> None:
    (saved / "other").mkdir()
    (saved / "other" / "adapter_model.safetensors").write_text("")
    with pytest.raises(ModelError, match="adapter 'other', which the model does not have"):
        weights.require_own_adapters(saved, torch.nn.Linear(2, 2))


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
    with pytest.raises(ModelError, match=r"checkpoints/x is a link, .*, or start a new run"):
        gate.admit(run)
    (run / "checkpoints" / "x").unlink()
    os.mkfifo(run / "metrics.jsonl")
    with pytest.raises(ModelError, match=r"metrics\.jsonl is neither a file nor a folder"):
        gate.admit(run)
    (run / "metrics.jsonl").unlink()
    for name, make in {"metrics.jsonl": Path.mkdir, "predictions": Path.touch}.items():
        make(run / name)
        with pytest.raises(ModelError, match=rf"{name} is a f"):
            gate.admit(run)
        shutil.rmtree(run / name, ignore_errors=True)
        (run / name).unlink(missing_ok=True)
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


# ---- models ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tiny_model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with a model that nobody trained; it must not be changed."""
    run, task = tmp_path_factory.mktemp("trained"), lookup(TASKS, "tasks", "classification")()
    place = Source.of_folder("tiny", tiny_model_folder("bert"))
    tokenizer, space = load_tokenizer(place), LabelSpace(("bad", "good"))
    model = load_classifier(place, tokenizer, space.names, task.problem_type, "mean", 1)
    layout = Layout(SHAPES["classification"], "text", None, ("label",))
    Predictor(TorchModel(model.eval(), tokenizer), task, space, Truncation(16), layout).save(run / "model")
    (run / "model" / "seen.txt").write_text("0" * 16 + "\n")
    (run / "model" / "README.md").write_text("A card.")
    recorded(run)
    return run


def recorded(run: Path, **facts: Any) -> None:
    """What of a record is looked at when the model is loaded."""
    files = {name: found.model_dump() for name, found in seal(run / "model", "model/").items()}
    (run / "run.json").write_text(json.dumps({"version": 1, "status": "done", "files": files} | facts))


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_a_flipped_bit_in_any_file_of_a_model_is_noticed_also_in_a_copy(run: Path, tmp_path: Path) -> None:
    require_intact(run / "model")
    names = [str(path.relative_to(run)) for path in run.rglob("*") if path.is_file() and path.suffix != ".md"]
    assert {"run.json", "model/manifest.json", "model/tunesmith.json", "model/2_Dense/model.safetensors"} < set(names)
    for name in names:
        kept = (run / name).read_bytes()
        flip(run / name)
        with pytest.raises(ModelError) as error:
            require_intact(run / "model")
        # Of the two lists either may be the damaged one: then the first file is named that they do not agree on.
        assert Path(name).name in str(error.value) or name in ("run.json", "model/manifest.json"), error.value
        if name.startswith("model/"):
            copy = shutil.copytree(run / "model", tmp_path / "copy")
            with pytest.raises(ModelError):
                Predictor.load(copy)
            shutil.rmtree(copy)
        (run / name).write_bytes(kept)
    require_intact(run / "model")


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "0_Transformer/pytorch_model.bin", "2_Dense/x.py", "config.json", "a/b/c/d/e/f/g"]
)
def test_a_file_that_was_not_written_is_refused(name: str, run: Path) -> None:
    (run / "model" / name).parent.mkdir(parents=True, exist_ok=True)
    (run / "model" / name).write_text("{}")
    with pytest.raises(ModelError, match=rf"run/model: ({name} is not in manifest\.json; remove it|a/b/c/d/e/f lies)"):
        Predictor.load(run)


def test_notes_may_be_edited_and_what_was_seen_removed(run: Path) -> None:
    (run / "model" / "README.md").write_text("Another card.")
    (run / "model" / "LICENSE").write_text("")
    (run / "model" / ".gitattributes").write_text("")
    (run / "model" / "seen.txt").unlink()
    assert Predictor.load(run).predict(["good"])
    (run / "model" / "seen.txt").write_text("1" * 16 + "\n")
    with pytest.raises(ModelError, match=r"seen\.txt is damaged"):
        Predictor.load(run)


def test_a_model_is_that_of_its_run(run: Path, trained: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(trained / "model", tmp_path / "other"))
    edited(other / "tunesmith.json", "max_length", value=15)
    seal(other)
    assert Predictor.load(other).truncation.max_tokens == 15
    shutil.rmtree(run / "model")
    (run / "model").symlink_to(other)
    with pytest.raises(ModelError, match="model is a link; give the folder that it leads to"):
        Predictor.load(run)
    (run / "model").unlink()
    shutil.copytree(other, run / "model")
    for folder in (run, run / "model"):
        with pytest.raises(ModelError, match=r"tunesmith\.json is not what the record of the run says"):
            Predictor.load(folder)


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"status": "stopped"}, "the run is not finished"),
        ({"status": "failed", "files": None}, "the run is not finished"),
        ({"files": None}, "the run is not finished"),
        ({"files": []}, "damaged"),
        ({"files": {}}, r"is not what the record of the run says"),
        ({"files": {"model/tunesmith.json": 7}}, r"is not what the record of the run says"),
    ],
)
def test_a_record_that_does_not_vouch_for_the_model(facts: dict[str, Any], problem: str, run: Path) -> None:
    recorded(run, **facts)
    with pytest.raises(ModelError, match=problem):
        Predictor.load(run)


def test_models_of_another_version_are_called_so(run: Path) -> None:
    (run / "run.json").write_text('{"version": 1, "status": "done"}')
    with pytest.raises(ModelError, match=r"run\.json: made by another version"):
        Predictor.load(run)


def test_a_manifest_that_was_lost_is_said_to_be(run: Path) -> None:
    (run / "model" / "manifest.json").unlink()
    for _ in range(2):
        with pytest.raises(ModelError, match=r"manifest\.json is missing; restore the folder, or train again"):
            Predictor.load(run)
        (run / "run.json").unlink(missing_ok=True)


def test_of_models_from_elsewhere_nothing_is_known(tiny_model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model_folder("bert"), tmp_path / "foreign")
    (folder / "manifest.json").write_text('{"name": "of another tool"}')
    require_intact(folder)
    (folder / "tunesmith.json").write_text("{}")  # so it says that it was written here
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(ModelError, match=r"manifest\.json is damaged \(it holds no JSON object\)"):
        require_intact(folder)
    (folder / "tunesmith.json").unlink()
    assert load_config(find_source(ModelSettings(name=str(folder)))).model_type == "bert"
    seal(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"config\.json has the wrong size"):
        require_intact(folder)


@pytest.mark.parametrize(
    ("keys", "value", "problem"),
    [
        (("max_length",), -5, "max_length: .*greater than or equal to 4"),
        (("max_length",), 10**9, "max_length: should be at most 128"),
        (("labels", "names"), ["bad"], r"labels\.names: should be those of the model's head"),
        (("labels", "names"), ["bad", "bad"], r"labels\.names: should be different"),
        (("labels", "names"), ["good", "bad"], r"labels\.names: should be those"),
        (("labels", "mean"), 3.5, "labels: mean and scale"),
        (("labels",), None, "labels: "),
        (("task",), "multilabel", r"layout\.shape: |task: "),
        (("task",), "ner", r"layout\.shape: |task: "),
        (("task",), 5, "task: "),
        (("layout",), [], "layout: "),
    ],
)
def test_a_contradictory_description_of_a_model_is_refused_though_its_hash_is_right(
    keys: Any, value: Any, problem: str, run: Path
) -> None:
    edited(run / "model" / "tunesmith.json", *keys, value=value)
    recorded(run)
    with pytest.raises(ModelError, match=rf"tunesmith\.json: ({problem})"):
        Predictor.load(run)


SOURCE = Path(__file__).parents[2] / "src"
NEVER = (
    r"torch\.load|\bpickle\.\w|import (pickle|dill|joblib|marshal|shelve)|yaml\.(unsafe_)?load\(|"
    r"(?<![.\w])(eval|exec)\(|shell=True|os\.system"
)


def test_nothing_in_the_source_runs_what_a_file_holds() -> None:
    for file in SOURCE.rglob("*.py"):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            code = line.partition("#")[0].partition('"""')[0]
            assert not re.search(NEVER, code), f"{file.name}:{number}: {line.strip()}"
