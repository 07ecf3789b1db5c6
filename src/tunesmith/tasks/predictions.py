"""What a user gets for a text: labels, values, spans or answers, each with how sure the model is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tunesmith.data.records import Label


@dataclass(frozen=True)
class FoundSpan:
    """A named entity: characters from `start` up to `end` of the text, and how probable its tags are."""

    start: int
    end: int
    label: str
    text: str
    score: float


@dataclass(frozen=True)
class FoundAnswer:
    """An answer: characters from `start` up to `end` of the context, and its share among the candidates."""

    start: int
    end: int
    text: str
    score: float


@dataclass(frozen=True, repr=False)
class Prediction:
    """One answer in the user's units.

    Attributes:
        label: the label; a tuple of labels (possibly empty) for multi-label; the value as text for regression; the
            spans without scores for entities; the answer's text, empty for none, for questions.
        score: probability of the label (of the least certain one of several), or the value.
        scores: probability of every label; for regression the value under its name; empty for spans and answers.
        spans: the entities; None for other tasks.
        answer: the answer; None where there is none, and for other tasks.
        answers: the best candidates, best first; None for other tasks.
        no_answer: share of "no answer"; None for other tasks, and for models that know no such questions.
    """

    label: Label
    score: float
    scores: dict[str, float]
    spans: tuple[FoundSpan, ...] | None = None
    answer: FoundAnswer | None = None
    answers: tuple[FoundAnswer, ...] | None = None
    no_answer: float | None = None

    def __repr__(self) -> str:
        shown = {"label": self.label, "score": round(self.score, 4), "spans": self.spans, "answer": self.answer}
        return f"Prediction({', '.join(f'{name}={value!r}' for name, value in shown.items() if value is not None)})"

    def to_dict(self) -> dict[str, Any]:
        """What a user reads of it, as plain values."""
        if self.spans is not None:
            return {"spans": [asdict(span) for span in self.spans]}
        if self.answers is not None:
            best = self.answer
            return {
                "answer": self.label,
                "start": best and best.start,
                "end": best and best.end,
                "score": self.score,
                **({} if self.no_answer is None else {"no_answer": self.no_answer}),
                "answers": [asdict(answer) for answer in self.answers],
            }
        label = list(self.label) if isinstance(self.label, tuple) else self.label
        return {"label": label, "score": self.score, "scores": self.scores}
