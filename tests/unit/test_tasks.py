"""What is asked of every task: nothing is forgotten, and what it says of itself fits together."""

from __future__ import annotations

import json

import pytest
from pydantic import TypeAdapter
from torch import nn

from tunesmith.config.schema import MethodSettings
from tunesmith.data.shapes import SHAPES
from tunesmith.methods.base import Method
from tunesmith.registry import lookup
from tunesmith.tasks import TASKS
from tunesmith.tasks.base import LabelSpace, Task
from tunesmith.tasks.classification import Classification
from tunesmith.tasks.losses import Loss


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_its_own_answer_to_every_question(name: str) -> None:
    task: Task = lookup(TASKS, "tasks", name)()
    assert task.name == name
    assert task.shape is SHAPES[name]
    assert task.primary_metric in task.metrics
    assert task.title and len(task.example_files) == 2
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

    class Untitled(Method):
        name = "untitled"

        def apply(self, model: nn.Module) -> nn.Module:
            return model

    with pytest.raises(TypeError, match="title missing"):
        Untitled(MethodSettings())


def test_a_label_space_is_read_as_it_was_written() -> None:
    space = LabelSpace(("a", "b"), mean=0.5, threshold=1.0, coarse_words=True)
    assert TypeAdapter(LabelSpace).validate_json(json.dumps(space.to_dict())) == space
