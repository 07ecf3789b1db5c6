"""What the rows of a task hold, as far as reading, checking and splitting must know it.

A task names its shape; `data` asks the shape and knows no task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Labels = Literal["one", "several", "number", "spans", "answers", "none"]


@dataclass(frozen=True)
class RecordShape:
    """The rows of a kind of task.

    Attributes:
        task: name of the task that such rows are read as when none is asked for.
        labels: what the label of a row is: one name, several names, a number, spans of the text, answers in the second
            text, or nothing.
        noun: what one of them is called.
        whole: column whose equal values are never divided between splits.
    """

    task: str
    labels: Labels
    noun: str = "label"
    whole: Literal["text", "text_pair"] = "text"

    @property
    def counted(self) -> bool:
        """Labels are names that can be counted."""
        return self.labels in ("one", "several", "spans")


ONE_LABEL = RecordShape("classification", "one")
SEVERAL_LABELS = RecordShape("multilabel", "several")
NUMBER = RecordShape("regression", "number")
SPANS = RecordShape("ner", "spans", "entity")
ANSWERS = RecordShape("qa", "answers", "answer", "text_pair")
TEXTS = RecordShape("masked_words", "none")
BY_LABELS: dict[Labels, RecordShape] = {
    shape.labels: shape for shape in (ONE_LABEL, SEVERAL_LABELS, NUMBER, SPANS, ANSWERS, TEXTS)
}
"""The built-in one of each kind of label."""
SHAPES = {shape.task: shape for shape in BY_LABELS.values()}
"""Of the built-in tasks, by name, so that reading a file needs no task to be imported."""
