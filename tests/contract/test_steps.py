"""Runs that must be the same run: however a step is cut, and wherever it is interrupted."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from tunesmith.errors import DivergedError, Interrupted, ModelError, ResourceError
from tunesmith.signals import StopRequest
from tunesmith.tasks import TASKS
from tunesmith.training import checkpoint
from tunesmith.training.task_trainer import TaskTrainer

ON_TOKENS = ("ner", "qa")
# They add the same to every position, which a softmax over positions does not see: their gradient is rounding noise.
SHIFTS = ("qa_outputs.bias", "layer.1.output.LayerNorm.bias")
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "attention_dropout": 0.0}


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("bent", [False, True], ids=["plain", "smoothed-weighted"])
def test_a_step_is_the_same_however_it_is_accumulated(
    make_problem: Any, without_dropout: None, tmp_path: Path, method: str, kind: str, bent: bool
) -> None:
    extra: dict[str, Any] = {"label_smoothing": 0.1} if bent else {}
    if bent and kind not in ON_TOKENS:
        extra["class_weights"] = "balanced"
    found, losses = [], []
    for accumulation in (1, 2, 8):
        folder = tmp_path / f"by-{accumulation}"
        folder.mkdir()
        # 20 rows in batches of 8: the last step of the epoch has 4 rows, and its micro-batches are uneven.
        sets = {"training.accumulation": accumulation}
        problem = make_problem(kind, rows=20, method=method, epochs=1, batch_size=8, sets=sets, **extra)
        found.append(state(problem.fit(folder).model))
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if "loss" in line])
    assert len(losses[0]) == 3
    for other, logged in zip(found[1:], losses[1:], strict=True):
        np.testing.assert_allclose(logged, losses[0], rtol=1e-5)
        for name, value in found[0].items():
            if kind != "qa" or not name.endswith(SHIFTS):
                torch.testing.assert_close(other[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_a_batch_size_by_default_can_be_accumulated(make_problem: Any, tmp_path: Path) -> None:
    problem = make_problem("classification", rows=18, method="full", epochs=1, sets={"training.accumulation": 3})
    assert problem.fit(tmp_path).details["steps"] == 2  # of 9 rows, where 8 would be taken


@pytest.mark.parametrize("method", ["full", "freeze", "gradual", "lora"])
@pytest.mark.parametrize(
    ("kind", "stop_at"), [*(("classification", at) for at in (1, 2, 3, 5)), *((kind, 3) for kind in ON_TOKENS)]
)
def test_a_resumed_run_equals_the_straight_one_bit_for_bit(
    make_problem: Any, tmp_path: Path, method: str, kind: str, stop_at: int
) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    straight.mkdir(), broken.mkdir()
    problem = make_problem(kind, method=method, trainable_layers=1, epochs=2, batch_size=8)
    expected = problem.fit(straight)
    with pytest.raises(Interrupted, match=r"step \d of \d+ is saved, and the same command goes on"):
        problem.fit(broken, stop=StopAfter(stop_at))
    (broken / "metrics.jsonl").unlink()  # its lines are in the checkpoints
    found = problem.fit(broken, resume=True)
    for name, value in state(expected.model).items():
        assert torch.equal(value, found.model.state_dict()[name]), name
    assert found.best == expected.best
    assert logged(broken) == logged(straight)


def logged(folder: Path) -> list[dict[str, Any]]:
    """The lines of the log, but for what is measured in seconds."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timed = ("runtime", "_per_second")
    return [{key: value for key, value in line.items() if not key.endswith(timed)} for line in lines]


@pytest.mark.parametrize("stop_at", [3, 22, 26])
def test_losses_that_were_not_logged_yet_are_not_lost(make_problem: Any, tmp_path: Path, stop_at: int) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    straight.mkdir(), broken.mkdir()
    problem = make_problem(rows=82, method="full", epochs=2, batch_size=2)  # 41 steps an epoch: two to a line
    problem.fit(straight)
    with pytest.raises(Interrupted):
        problem.fit(broken, stop=StopAfter(stop_at))
    (broken / "metrics.jsonl").unlink()
    problem.fit(broken, resume=True)
    assert logged(broken) == logged(straight)


@pytest.mark.parametrize("which", ["best", "newest", "both"])
def test_a_run_ends_the_same_whichever_checkpoint_is_damaged(
    make_problem: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    straight.mkdir(), broken.mkdir()
    problem = make_problem(method="full", epochs=3, batch_size=8, early_stopping=5)
    monkeypatch.setattr(type(problem.begun.task), "quick_score", lambda *a: {"accuracy": 0.9})  # the first is best
    expected = problem.fit(straight)
    with pytest.raises(Interrupted):
        problem.fit(broken, stop=StopAfter(8))
    newest, best = checkpoint.checkpoints(broken / "checkpoints", "step")
    for folder in {"best": [best], "newest": [newest], "both": [best, newest]}[which]:
        content = bytearray((folder / "model.safetensors").read_bytes())
        content[-5] ^= 1
        (folder / "model.safetensors").write_bytes(content)
    (broken / "metrics.jsonl").unlink()
    said: list[str] = []
    monkeypatch.setattr(problem.begun.progress, "line", said.append)
    found = problem.fit(broken, resume=True)
    for name, value in state(expected.model).items():
        assert torch.equal(value, found.model.state_dict()[name]), name
    assert (found.best, logged(broken)) == (expected.best, logged(straight)) and found.best["step"] == 3
    warnings = [line for line in said if line.startswith("warning")]
    assert len(warnings) == 1 + (which != "newest") and "model.safetensors is damaged" in warnings[-1]
    assert ("its best state is step-3" in warnings[0]) == (which == "best")


def test_each_checkpoint_is_read_once(make_problem: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, read, verify = make_problem(method="full", epochs=2, batch_size=8), list[str](), checkpoint.verify

    def watched(folder: Path, *others: Any) -> str | None:
        read.append(folder.name)
        return verify(folder, *others)

    with pytest.raises(Interrupted):
        problem.fit(tmp_path, stop=StopAfter(2))
    monkeypatch.setattr(checkpoint, "verify", watched)
    problem.fit(tmp_path, resume=True)
    assert read == ["step-2"]


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_that_is_stopped_in_an_evaluation_does_it_again_first(
    make_problem: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    straight.mkdir(), broken.mkdir()
    problem = make_problem(method="full", rows=60, epochs=2, batch_size=8)
    expected = problem.fit(straight)
    evaluate = TaskTrainer.evaluate

    def stopped(self: TaskTrainer, *rest: Any, **named: Any) -> Any:
        if self.state.epoch == epoch:
            signal.raise_signal(signal.SIGTERM)
        return evaluate(self, *rest, **named)

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match=f"step {epoch * 8} of 16 is saved") as told:
        patch.setattr(TaskTrainer, "evaluate", stopped)
        problem.fit(broken)
    assert told.value.exit_code == 143
    found = problem.fit(broken, resume=True)
    for name, value in state(expected.model).items():
        assert torch.equal(value, found.model.state_dict()[name]), name
    assert found.best == expected.best and found.curve == expected.curve


class StopAfter(StopRequest):
    """A request to stop that comes after some steps: it is asked once a step (and once at each end of an epoch)."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.asked, self.steps = 0, steps

    @property
    def signum(self) -> int | None:  # type: ignore[override]
        self.asked += 1
        return 2 if self.asked >= self.steps else None

    @signum.setter
    def signum(self, value: int | None) -> None:
        """Set by the base class; no signal comes in these tests."""


def test_a_damaged_checkpoint_is_passed_over_or_refused(make_problem: Any, tmp_path: Path) -> None:
    problem = make_problem(method="full", epochs=2, batch_size=8)
    with pytest.raises(Interrupted):
        problem.fit(tmp_path, stop=StopAfter(2))
    folder = tmp_path / "checkpoints"
    good = checkpoint.checkpoints(folder, "step")[0]
    damaged = folder / "step-9999"
    shutil.copytree(good, damaged)
    content = bytearray((damaged / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (damaged / "model.safetensors").write_bytes(content)
    said: list[str] = []
    problem.begun.progress.line = said.append
    problem.fit(tmp_path, resume=True)
    assert "step-9999: model.safetensors is damaged" in said[1] and said[2] == f"resuming from {good}"
    assert "another run" in str(checkpoint.verify(good, {"run": "2"}))


def test_a_checkpoint_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), checkpoint.commit(tmp_path / "step-1", {}, "this") as aside:
        (aside / "model.safetensors").write_text("half")
        raise RuntimeError("killed")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_said_and_leaves_the_last_checkpoint(tmp_path: Path, error: Exception) -> None:
    with checkpoint.commit(tmp_path / "step-1", {}, "this") as aside:
        (aside / "file").write_text("good")
    full = pytest.raises(ResourceError, match=r"no space left .* continue with output\.resume=true")
    with full, checkpoint.commit(tmp_path / "step-2", {}, "output.resume=true"):
        raise error
    assert list(tmp_path.iterdir()) == [tmp_path / "step-1"] and (tmp_path / "step-1" / "file").read_text() == "good"


def test_a_loss_that_is_not_finite_stops_before_the_step(make_problem: Any, tmp_path: Path) -> None:
    problem = make_problem(method="full", epochs=1, batch_size=8, lr=1e-3)
    model = problem.model()

    def poison(module: Any, inputs: Any) -> Any:
        return (inputs[0] * float("nan"),)

    model.classifier.register_forward_pre_hook(poison)
    object.__setattr__(problem, "model", lambda: model)
    before = state(model)
    with pytest.raises(DivergedError, match=r"step 1: the loss is nan.*no checkpoint"):
        problem.fit(tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_best_checkpoint_must_score_what_was_recorded(
    make_problem: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make_problem(method="full", epochs=2, batch_size=8, early_stopping=2)
    task = problem.begun.task
    values = iter([0.0, 0.5, 0.9, 0.1])  # the first is asked for before training
    monkeypatch.setattr(type(task), "quick_score", lambda *a: {"accuracy": next(values)})
    with pytest.raises(ModelError, match=r"0.100000 when evaluated again, 0.900000 was recorded"):
        problem.fit(tmp_path)


def test_early_stopping_keeps_the_best_state(
    make_problem: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make_problem(method="full", epochs=9, batch_size=8, early_stopping=2)
    # The first value is asked for before training, to see that the metric is defined.
    values = [0.0, 0.5, 0.9, 0.8, 0.7, 0.9]
    monkeypatch.setattr(type(problem.begun.task), "quick_score", lambda *a: {"accuracy": values.pop(0)})
    best = problem.fit(tmp_path).best
    assert best == {"step": 6, "metric": "accuracy", "value": 0.9}
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert sum("eval_accuracy" in line for line in lines) == 4
    values += [0.0, 0.9]  # for the metric, and for the best state: the resumed run takes no further epoch
    assert problem.fit(tmp_path, resume=True).best == best


def test_a_run_that_was_copied_ends_with_its_own_best_state(
    make_problem: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, run, copy = (
        make_problem(method="full", epochs=2, batch_size=8, early_stopping=5),
        *(tmp_path / name for name in ("run", "copy")),
    )
    run.mkdir()
    monkeypatch.setattr(type(problem.begun.task), "quick_score", lambda *a: {"accuracy": 0.9})  # the first is best
    expected = problem.fit(run)
    shutil.copytree(run, copy)
    for gone in (False, True):
        if gone:
            shutil.rmtree(run)
        else:
            checkpoints = checkpoint.checkpoints(run / "checkpoints", "step")
            assert len(checkpoints) == 2
            (checkpoints[1] / "model.safetensors").write_bytes(b"of something else")
        found = problem.fit(copy, resume=True)  # from the last checkpoint, which names the best one where it was
        assert found.best == expected.best
        for name, value in state(expected.model).items():
            assert torch.equal(value, found.model.state_dict()[name]), name
