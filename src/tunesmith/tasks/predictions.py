"""What a user gets for a text: labels, values, spans or answers, each with how sure the model is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa

from tunesmith.data.records import Label, Span
from tunesmith.data.shapes import Labels
from tunesmith.errors import UsageError
from tunesmith.text import counted

SHOWN_ANSWERS = 5
"""So many answers are listed where no other number is asked for."""
SCORE_DIGITS, VALUE_DIGITS = 4, 7
"""Significant digits of scores and of predicted numbers on the command line and in files; Python has all of them."""
MAIN = {"label", "value", "spans", "answer"}
NESTED = {"scores", "answers", "no_answer", "abstained"}
"""What is not in the columns of a table."""
SPAN = {"start": pa.int64(), "end": pa.int64(), "label": pa.string(), "text": pa.string(), "score": pa.float64()}
MAIN_TYPES = {
    "number": pa.float64(),
    "several": pa.list_(pa.string()),
    "spans": pa.list_(pa.struct(list(SPAN.items()))),
}


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
        label: the label, None where the model abstains; a tuple of labels (possibly empty) for multi-label; the value
            as text for regression; the spans without scores for entities; the answer's text, empty for none, for
            questions.
        score: probability of the label (of the least certain one of several), or the value.
        scores: probability of every label, or of the `top_k` best, best first; for regression the value under its name;
            empty for spans and answers.
        spans: the entities; None for other tasks.
        answer: the answer; None where there is none, and for other tasks.
        answers: the best candidates, best first; None for other tasks.
        no_answer: share of "no answer"; None for other tasks, and for models that know no such questions.
        value: the number of a regression; None for other tasks.
        abstained: whether the best answer is below a threshold; None where none was given, and where one chooses among
            labels or spans.
    """

    label: Label | None
    score: float
    scores: dict[str, float]
    spans: tuple[FoundSpan, ...] | None = None
    answer: FoundAnswer | None = None
    answers: tuple[FoundAnswer, ...] | None = None
    no_answer: float | None = None
    value: float | None = None
    abstained: bool | None = None

    def __repr__(self) -> str:
        shown = {"label": self.label, "score": round(self.score, 4), "spans": self.spans, "answer": self.answer}
        shown = {"value": self.value} if self.value is not None else shown | {"abstained": self.abstained or None}
        return f"Prediction({', '.join(f'{name}={value!r}' for name, value in shown.items() if value is not None)})"

    def narrowed(self, top_k: int | None = None, threshold: float | None = None) -> Prediction:
        """The same with less in it.

        Args:
            top_k: so many labels with their scores, or answers, are kept, the best first.
            threshold: of several labels those with at least this score count, of entities those are kept; else a model
                that is less sure abstains. From 0 to 1.
        """
        if self.value is not None:
            return self
        found = self if threshold is None else self._above(threshold)
        if found.answers is not None:
            return replace(found, answers=found.answers[: top_k or SHOWN_ANSWERS])
        if top_k is None:
            return found
        best = sorted(found.scores.items(), key=lambda item: -item[1])
        return replace(found, scores=dict(best[:top_k]))

    def _above(self, threshold: float) -> Prediction:
        if self.spans is not None:
            spans = tuple(span for span in self.spans if span.score >= threshold)
            label = tuple(Span(span.start, span.end, span.label) for span in spans)
            return replace(self, label=label, spans=spans, score=min((span.score for span in spans), default=1.0))
        if isinstance(self.label, tuple):
            chosen = {name: score for name, score in self.scores.items() if score >= threshold}
            none = 1 - max(self.scores.values(), default=0.0)
            return replace(self, label=tuple(chosen), score=min(chosen.values(), default=none))
        abstained = self.score < threshold
        if self.answers is not None:
            answers = tuple(answer for answer in self.answers if answer.score >= threshold)
            gone: dict[str, Any] = {"label": "", "answer": None} if abstained else {}
            return replace(self, answers=answers, abstained=abstained, **gone)
        return replace(self, label=None if abstained else self.label, abstained=abstained)

    def to_dict(self) -> dict[str, Any]:
        """What a user reads of it, as plain values."""
        abstained = {} if self.abstained is None else {"abstained": self.abstained}
        if self.value is not None:
            return {"value": self.value}
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
                **abstained,
                "answers": [asdict(answer) for answer in self.answers],
            }
        label = list(self.label) if isinstance(self.label, tuple) else self.label
        return {"label": label, "score": self.score, **abstained, "scores": self.scores}

    def to_row(self, nested: bool = True) -> dict[str, Any]:
        """The same for a file, where the label, value, spans or answer is called ``prediction``.

        Args:
            nested: as `to_dict`; else as `row_columns` has it, with a column for each rank.
        """
        found = {"prediction" if name in MAIN else name: value for name, value in self.to_dict().items()}
        if nested:
            return found
        found = {name: value for name, value in found.items() if name not in NESTED}
        ranked = list(self.scores.items())
        if self.answers is not None:
            ranked = [(answer.text, answer.score) for answer in self.answers]
        for rank, (name, score) in enumerate(ranked, 1):
            found |= {f"top_{rank}": name, f"score_{rank}": score}
        return found


def about_cut_texts(path: str, count: int, tokens: int, limit: int) -> str:
    """What is told of `count` texts with more tokens than are read, of the `limit` that the model could read."""
    advice = "`tunesmith train --max-length N` makes a model that reads more"
    if tokens >= limit:
        advice = "`tunesmith train --long windows` makes a model that reads all of them"
    return f"warning: {path}: {counted(count, 'text')} longer than {tokens} tokens, read in part; {advice}"


def require_narrowing(top_k: int | None, threshold: float | None) -> None:
    """
    Raises:
        UsageError: an argument of `Prediction.narrowed` is out of range.
    """
    wrong = []
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
        wrong.append(f"`top_k`: expected a number of labels, 1 or more, found {top_k!r}")
    number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
    if threshold is not None and not (number and 0 <= threshold <= 1):
        wrong.append(f"`threshold`: expected a number from 0 to 1, found {threshold!r}")
    if wrong:
        raise UsageError(wrong)


def row_columns(labels: Labels, ranks: int) -> pa.Schema:
    """The columns of predictions in a table.

    Args:
        labels: what the model answers with.
        ranks: how many of the best labels, or answers, have columns of their own.
    """
    columns = [("prediction", MAIN_TYPES.get(labels, pa.string()))]
    if labels not in ("number", "spans"):
        columns.append(("score", pa.float64()))
    if labels == "answers":
        columns += [("start", pa.int64()), ("end", pa.int64())]
    for rank in range(1, ranks + 1):
        columns += [(f"top_{rank}", pa.string()), (f"score_{rank}", pa.float64())]
    return pa.schema(columns)


def rounded(found: dict[str, Any]) -> dict[str, Any]:
    """What `to_dict` or `to_row` gives with `SCORE_DIGITS` in its scores, and `VALUE_DIGITS` in a predicted number."""
    return {
        name: _rounded(value, VALUE_DIGITS if name in ("value", "prediction") else SCORE_DIGITS)
        for name, value in found.items()
    }


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {name: _rounded(one, SCORE_DIGITS) for name, one in value.items()}
    return [_rounded(one, SCORE_DIGITS) for one in value] if isinstance(value, list) else value


def studio_result(prediction: Prediction) -> list[dict[str, Any]]:
    """The answer as Label Studio has it in the results of a task: choices for labels, labels on the text for entities.

    Control and object have the names of its templates, ``label`` and ``text``. Characters are counted as here.
    """
    named = {"from_name": "label", "to_name": "text"}
    if prediction.spans is not None:
        return [
            {
                "id": str(number),
                **named,
                "type": "labels",
                "value": {"start": span.start, "end": span.end, "text": span.text, "labels": [span.label]},
                "score": span.score,
            }
            for number, span in enumerate(prediction.spans, 1)
        ]
    labels = list(prediction.label) if isinstance(prediction.label, tuple) else [prediction.label]
    if not any(labels):
        return []
    return [{"id": "1", **named, "type": "choices", "value": {"choices": labels}, "score": prediction.score}]
