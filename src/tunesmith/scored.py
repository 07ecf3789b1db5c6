"""A model's answers on labelled records, with every score of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tunesmith.data.records import Answer, Label, Records, Span
from tunesmith.evaluation.intervals import Score
from tunesmith.evaluation.labels import ByLabel
from tunesmith.tasks.base import Answered, LabelSpace
from tunesmith.tasks.predictions import Prediction


@dataclass(frozen=True)
class Scored:
    """A model's answers on labelled records.

    Attributes:
        targets: as the task makes them.
        outputs: what the model says, as the task makes it.
        space: what gives the outputs their meaning.
        predictions: in the order of the records.
        metrics: name → value with its interval.
        by_label: label → scores of that label alone; empty for tasks without labels.
        cut: how many texts were cut, where they were encoded for this.
    """

    records: Records
    targets: Any
    outputs: Any
    space: LabelSpace
    predictions: list[Prediction]
    metrics: dict[str, Score]
    by_label: ByLabel
    cut: int = 0

    @property
    def answered(self) -> Answered:
        """What the task compares with another model's."""
        return self.outputs, self.space

    def lines(self) -> Iterable[dict[str, Any]]:
        """Rows of ``predictions/<split>.jsonl``."""
        for record, prediction in zip(self.records, self.predictions, strict=True):
            pair = {} if record.text_pair is None else {"text_pair": record.text_pair}
            yield {
                "id": record.id,
                "text": record.text,
                **pair,
                "gold": _plain(record.label),
                "prediction": _plain(prediction.label),
                "score": prediction.score,
                "scores": prediction.scores,
            }


def _plain(label: Label | None) -> Any:
    """A label as JSON holds it: spans as objects, answers as their texts."""
    if isinstance(label, tuple):
        return [
            part._asdict() if isinstance(part, Span) else part.text if isinstance(part, Answer) else part
            for part in label
        ]
    return label
