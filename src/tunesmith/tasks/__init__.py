"""What is learned. One task turns records into features and targets, logits into outputs, and both into scores."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tunesmith.registry import lookup

if TYPE_CHECKING:
    from tunesmith.data.shapes import RecordShape

TASKS: dict[str, str] = {
    "classification": "tunesmith.tasks.classification:Classification",
    "multilabel": "tunesmith.tasks.classification:MultiLabel",
    "regression": "tunesmith.tasks.classification:Regression",
    "ner": "tunesmith.tasks.entities:NamedEntities",
    "qa": "tunesmith.tasks.questions:QuestionAnswering",
}


def shape_of(name: str) -> RecordShape | None:
    """What the rows of a task hold; None for ``auto``, which reads it off the data."""
    from tunesmith.data.shapes import SHAPES  # and with it Arrow, which the names of tasks do not need

    if name == "auto":
        return None
    return SHAPES.get(name) or replace(lookup(TASKS, "tasks", name).shape, task=name)
