"""What is asked of every task: nothing is forgotten, and what it says of itself fits together."""

from __future__ import annotations

import pytest

from tunesmith.data.shapes import SHAPES
from tunesmith.registry import lookup
from tunesmith.tasks import TASKS
from tunesmith.tasks.base import Task
from tunesmith.tasks.classification import Classification
from tunesmith.tasks.losses import Loss


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_its_own_answer_to_every_question(name: str) -> None:
    task: Task = lookup(TASKS, "tasks", name)()
    assert task.name == name
    assert task.shape is SHAPES[name]
    assert task.primary_metric in task.metrics
    assert task.title and task.use and len(task.example_files) == 2
    assert task.on_tokens is (task.head != "sequence")


def test_what_is_forgotten_is_noticed_when_the_task_is_made() -> None:
    class Unfinished(Classification):
        decode = Task.decode  # abstract again

    with pytest.raises(TypeError, match="decode"):
        Unfinished()  # type: ignore[abstract]

    class Nameless(Task):
        pass

    with pytest.raises(TypeError, match="name, title, shape, head, metrics, primary_metric missing"):
        Nameless()  # type: ignore[abstract]
    with pytest.raises(TypeError, match="total"):
        Loss()  # type: ignore[abstract]
