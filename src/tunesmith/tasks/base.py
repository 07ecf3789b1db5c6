"""What every task provides, and the values that pass between a task and the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch

from tunesmith.data.records import Label, Records, TextRecord
from tunesmith.evaluation.evidence import Evidence, Mistake, shown, worst
from tunesmith.evaluation.intervals import Score, bootstrap, paired_bootstrap, paired_test
from tunesmith.evaluation.metrics import Metrics, Statistics, unweighted
from tunesmith.tasks.encoding import EncodedTexts, Truncation
from tunesmith.tasks.losses import Loss

Head = Literal["sequence", "token", "question"]
"""What stands on the backbone: one output a text, one a token, or a beginning and an end."""


@dataclass(frozen=True)
class LabelSpace:
    """What the outputs of a model mean; made from the train split only.

    Attributes:
        names: label names in the order of the logits; for regression the one name of the value.
        mean, scale: of the training targets of a regression, which is trained on standardised targets.
        threshold: by how much "no answer" must beat the best answer; None where every question has one.
        coarse_words: entities are made of words by the coarse rule (see `tunesmith.data.words`).
    """

    names: tuple[str, ...]
    mean: float = 0.0
    scale: float = 1.0
    threshold: float | None = None
    coarse_words: bool = False

    @property
    def in_users_units(self) -> LabelSpace:
        """The same space for a fitted model, whose outputs are no longer standardised."""
        return replace(self, mean=0.0, scale=1.0)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"names": list(self.names)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LabelSpace:
        threshold = values.get("threshold")
        return cls(
            tuple(values["names"]),
            float(values.get("mean", 0.0)),
            float(values.get("scale", 1.0)),
            None if threshold is None else float(threshold),
            bool(values.get("coarse_words", False)),
        )


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


@dataclass(frozen=True)
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

    def to_dict(self) -> dict[str, Any]:
        """What a user reads of it, as plain values."""
        if self.spans is not None:
            return {"spans": [asdict(span) for span in self.spans]}
        if self.answers is not None:
            answers = [asdict(answer) for answer in self.answers]
            where = (
                {"start": self.answer.start, "end": self.answer.end} if self.answer else {"start": None, "end": None}
            )
            nothing = {} if self.no_answer is None else {"no_answer": self.no_answer}
            return {"answer": self.label, **where, "score": self.score, **nothing, "answers": answers}
        label = list(self.label) if isinstance(self.label, tuple) else self.label
        return {"label": label, "score": self.score, "scores": self.scores}


@dataclass(frozen=True)
class Answered:
    """A baseline's answers.

    Attributes:
        name: for tables.
        outputs: as `Task.outputs` gives them.
        seconds: fitting and predicting, wall time.
    """

    name: str
    outputs: Any
    seconds: float


class Task(Protocol):
    """One kind of learning problem over texts; what has a body is the same for most.

    What a model says of the records is called `outputs`, and what they are scored against `targets`; their form is the
    task's own. Targets of single labels are int64 (n,), of multi-label float32 (n, labels), of regression float32 (n,).
    """

    name: ClassVar[str]
    head: ClassVar[Head]
    problem_type: ClassVar[str | None]
    """As transformers writes it into a model's configuration."""
    metrics: ClassVar[Metrics]
    """What `statistics` gives, in the order of tables."""
    primary_metric: ClassVar[str]
    counts_labels: ClassVar[bool]
    """Labels are names that can be counted, not numbers."""

    def labels(self, train: Records) -> LabelSpace:
        """The label space, from the train split."""
        ...

    def targets(self, records: Records, space: LabelSpace) -> Any:
        """Targets in the order of the records.

        Raises:
            DataError: a label that the train split lacks, with its rows.
        """
        ...

    def encode(
        self,
        records: Records,
        tokenizer: Any,
        space: LabelSpace,
        truncation: Truncation,
        file: Path,
        labelled: bool,
        progress: Callable[[int], None] | None = None,
    ) -> EncodedTexts:
        """Tokenise every record into `file`; one record may give several windows.

        Args:
            length: how much of a text is read; tasks on tokens read all of it in windows.
            labelled: with what is learned and what it is scored against.
            progress: called with the number of records done since the last call.
        """
        ...

    def loss(self, label_smoothing: float, class_weights: torch.Tensor | None) -> Loss:
        """The loss; a task without classes ignores both arguments.

        Args:
            label_smoothing: share of the target spread over all labels.
            class_weights: what `class_weights` returns, as a tensor, or None.
        """
        ...

    def model_logits(self, outputs: Any, attention_mask: torch.Tensor) -> torch.Tensor:
        """What the loss and `outputs` read, from what the model returns: (n, labels) or (n, length, labels)."""
        return outputs["logits"]  # type: ignore[no-any-return]

    def outputs(self, logits: np.ndarray, features: EncodedTexts, space: LabelSpace) -> Any:
        """What the model says of each record.

        Args:
            logits: float32, (n, labels) in the order of `features`; for heads on tokens (tokens, labels), the tokens
                of all windows one after the other.
        """
        ...

    def decode(self, outputs: Any, space: LabelSpace) -> list[Prediction]:
        """Predictions in the order of the records."""
        ...

    def statistics(self, space: LabelSpace) -> Statistics:
        """The metrics of the task as a function of `arrays` and the weights of their rows."""
        ...

    def arrays(self, outputs: Any, targets: Any, space: LabelSpace) -> tuple[np.ndarray, ...]:
        """What `statistics` reads, with a row for each record, or for records that are resampled together."""
        ...

    def right(self, outputs: Any, targets: Any, space: LabelSpace) -> np.ndarray | None:
        """Whether each record is answered entirely right, bool (n,); None where answers are only near or far."""
        ...

    def score(self, outputs: Any, targets: Any, space: LabelSpace, resamples: int, seed: int) -> dict[str, Score]:
        """Every metric of the task with its 95 % interval."""
        found = bootstrap(self.statistics(space), self.arrays(outputs, targets, space), self.metrics, resamples, seed)
        return _of_records(found, targets)

    def score_labels(
        self, outputs: Any, targets: Any, space: LabelSpace, resamples: int, seed: int
    ) -> dict[str, dict[str, Score]]:
        """Label → metrics of that label alone, with their intervals over the texts (documents) that have it.

        Labels that no text has, or was given, are left out; so are all for tasks that are not scored by label. For
        questions the labels are ``answerable`` and ``unanswerable``.
        """
        return {}

    def quick_score(self, outputs: Any, targets: Any, space: LabelSpace) -> dict[str, float]:
        """Every metric of the task, without intervals: what is watched during training."""
        return unweighted(self.statistics(space), self.arrays(outputs, targets, space))

    def compare(
        self, first: Any, second: Any, targets: Any, space: LabelSpace, resamples: int, seed: int
    ) -> dict[str, Any]:
        """Paired test of two models' outputs on the same rows.

        Returns:
            ``difference``: metric → first minus second with its interval; ``p_value`` of McNemar's exact test where
            rows are right or wrong.
        """
        a, b = (self.arrays(outputs, targets, space) for outputs in (first, second))
        difference = _of_records(paired_bootstrap(self.statistics(space), a, b, resamples, seed), targets)
        found: dict[str, Any] = {"difference": {name: score.to_dict() for name, score in difference.items()}}
        right, also_right = (self.right(outputs, targets, space) for outputs in (first, second))
        if right is not None and also_right is not None:
            found["p_value"] = paired_test(right, also_right)
        return found

    def evidence(self, records: Records, outputs: Any, targets: Any, space: LabelSpace) -> Evidence:
        """What lies behind the scores: at least the mistakes, the most confident first."""
        predictions, right = self.decode(outputs, space), self.right(outputs, targets, space)
        wrong = np.zeros(len(predictions), dtype=bool) if right is None else ~right

        def mistake(row: int, score: float) -> Mistake:
            record = records[row]
            return Mistake(record.id, *self.difference(record, predictions[row]), score)

        scores = np.array([prediction.score for prediction in predictions], dtype=np.float64)
        return Evidence(len(predictions), worst(wrong, scores, mistake), int(wrong.sum()))

    def difference(self, record: TextRecord, prediction: Prediction) -> tuple[str, str, str]:
        """What is shown of a wrong answer: the text, what is true, and what was said instead."""
        gold, said = (
            ", ".join(map(str, label)) or "∅" if isinstance(label, tuple) else str(label)
            for label in (record.label, prediction.label)
        )
        return shown(record.text, record.text_pair), gold, said

    def baselines(self, train: Records, test: Records, space: LabelSpace, seed: int) -> list[Answered]:
        """What models that take seconds say of the test rows, the strongest first."""
        ...

    def class_weights(self, targets: Any, space: LabelSpace) -> np.ndarray | None:
        """Weights inversely proportional to the frequency of each label in the targets; None without classes."""
        return None

    def tuned(self, space: LabelSpace, outputs: Any, targets: Any) -> LabelSpace:
        """The space with what is chosen on validation rows once the model is fitted."""
        return space


def _of_records(scores: dict[str, Score], targets: Any) -> dict[str, Score]:
    """Scores that say of how many records they are, however these were resampled."""
    return {name: replace(score, n=len(targets)) for name, score in scores.items()}
