"""Where memory runs out, the same step is taken in smaller parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.contract.test_steps import StopAfter, state
from tunesmith.errors import Interrupted, ResourceError
from tunesmith.models.heads import final_linear
from tunesmith.training.inference import predict_logits
from tunesmith.training.parts import Parts
from tunesmith.training.task_trainer import TaskTrainer

TOO_MUCH = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to …"


@contextmanager
def memory_for(rows: int, from_step: int = 0, in_backward: bool = False) -> Iterator[None]:
    """From a step on, no more rows than these fit into memory; noticed at the head, or deep in the backward pass."""
    step = TaskTrainer.compute_loss

    def refuse(gradient: torch.Tensor) -> None:
        raise RuntimeError(TOO_MUCH)

    def limited(self: TaskTrainer, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        if self.state.global_step < from_step or len(inputs["input_ids"]) <= rows:
            return step(self, model, inputs, *rest, **named)
        if not in_backward or not model.training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        found = step(self, model, inputs, *rest, **named)
        first = next(p for p in model.parameters() if p.requires_grad)
        handle = first.register_hook(lambda gradient: (handle.remove(), refuse(gradient)))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TaskTrainer, "compute_loss", limited)
        yield


def equal(one: Any, other: Any) -> None:
    for name, value in state(one.model).items():
        assert torch.equal(value, other.model.state_dict()[name]), name
    assert one.best == other.best


def new(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("kind", ["classification", "ner"])
@pytest.mark.parametrize("in_backward", [False, True], ids=["forward", "backward"])
def test_a_run_without_memory_equals_one_that_was_told_so(
    make_problem: Callable[..., Any], tmp_path: Path, kind: str, in_backward: bool
) -> None:
    options = {"rows": 20, "method": "full", "epochs": 2, "batch_size": 8}
    told = make_problem(kind, sets={"training.accumulation": 4}, **options).fit(new(tmp_path / "told"))
    with memory_for(2, in_backward=in_backward):
        found = make_problem(kind, **options).fit(new(tmp_path / "found"))
    equal(told, found)
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("told", "found")]
    losses, others = ([line["loss"] for line in map(json.loads, log) if "loss" in line] for log in logs)
    assert losses == others
    assert found.report["memory"]["rows_from_step"] == {"1": 2} and "memory" not in told.report


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_run_goes_on_as_it_was_cut(make_problem: Callable[..., Any], tmp_path: Path, accumulation: int) -> None:
    sets = {"training.accumulation": accumulation}
    problem = make_problem(rows=40, method="full", epochs=2, batch_size=8, sets=sets)
    with memory_for(2, from_step=3, in_backward=True):
        straight = problem.fit(new(tmp_path / "straight"))
        with pytest.raises(Interrupted):
            problem.fit(new(tmp_path / "broken"), stop=StopAfter(5))
    assert straight.report["memory"]["rows_from_step"] == {"4": 2}
    equal(straight, problem.fit(tmp_path / "broken", resume=True))
    # A state from before memory ran out is gone on from in the same way, though there is enough of it now.
    folder = new(tmp_path / "early")
    with pytest.raises(Interrupted):
        problem.fit(folder, stop=StopAfter(2))
    (folder / "checkpoints" / "step-parts.json").write_text('{"3": 2}')
    equal(straight, problem.fit(folder, resume=True))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_step_that_was_never_taken_leaves_no_parts(
    make_problem: Callable[..., Any], tmp_path: Path, accumulation: int
) -> None:
    sets = {"training.accumulation": accumulation}
    problem = make_problem(rows=40, method="full", epochs=2, batch_size=8, sets=sets)
    straight = problem.fit(new(tmp_path / "straight"))
    with memory_for(0, from_step=7), pytest.raises(ResourceError, match="single text; continue with"):
        problem.fit(new(tmp_path / "run"))
    found = problem.fit(tmp_path / "run", resume=True)
    assert "memory" not in found.report
    equal(straight, found)
    # Those of the steps before it stay.
    with memory_for(2, from_step=3):
        cut = problem.fit(new(tmp_path / "cut"))
    with memory_for(2, from_step=3), pytest.raises(ResourceError, match="single text"), memory_for(0, from_step=7):
        problem.fit(new(tmp_path / "again"))
    found = problem.fit(tmp_path / "again", resume=True)
    assert found.report["memory"]["rows_from_step"] == {"4": 2}
    equal(cut, found)


def test_parts_are_in_the_order_of_the_steps(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts.json", {6: 2})
    assert parts.halve(3, 8, MemoryError()) == 4
    assert [parts.at(step) for step in (2, 3, 5, 6, 9)] == [None, 4, 4, 2, 2]
    assert parts.words() == "in parts of 4 rows from step 4 on, 2 rows from step 7 on, as before, when memory ran out"


def test_the_loss_of_a_batch_in_parts_is_where_its_parts_are(make_problem: Callable[..., Any], tmp_path: Path) -> None:
    trainer = SimpleNamespace(_tunesmith_head=make_problem("regression", method="full").by_method().loss())
    part = {"labels": torch.zeros(4, device="meta")}
    found = (torch.ones((), device="meta"), torch.ones(4, 1, device="meta"), part["labels"])
    loss, logits, labels = TaskTrainer._joined(trainer, [part, part], [found, found])  # type: ignore[arg-type]
    assert loss.device.type == "meta" and logits.shape == (8, 1) and labels.shape == (8,)


@pytest.mark.parametrize("kind", ["classification", "ner"])
def test_predictions_do_not_need_all_rows_at_once(
    make_problem: Callable[..., Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make_problem(kind)
    model = problem.model().eval()
    wanted = problem.logits(model)
    sizes = []

    def limited(module: Any, inputs: Any) -> None:
        sizes.append(inputs[0].shape[0])
        if sizes[-1] > 5:
            raise MemoryError

    final_linear(model).register_forward_pre_hook(limited)
    found = predict_logits(model, problem.features, problem.begun.tokenizer, problem.begun.task)
    assert max(sizes) > 5 and len(sizes) > 4
    failed = [size for size in sizes if size > 5]
    assert failed == sorted(set(failed), reverse=True)  # what did not fit is not tried again
    torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(wanted))
