"""What every task provides, and the values that pass between a task and the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

import numpy as np

from tunesmith.data.keys import is_list
from tunesmith.data.records import Records, TextRecord
from tunesmith.data.shapes import RecordShape
from tunesmith.errors import DataError
from tunesmith.evaluation.baselines import Baseline
from tunesmith.evaluation.evidence import Evidence, Excerpt, Mistake, shown, worst
from tunesmith.evaluation.intervals import Difference, Score, bootstrap, paired
from tunesmith.evaluation.labels import ByLabel
from tunesmith.evaluation.metrics import Arrays, Metrics, Statistics, unweighted
from tunesmith.registry import require
from tunesmith.tasks.encoding import EncodedTexts, Encoder
from tunesmith.tasks.predictions import Prediction
from tunesmith.tasks.usage import Saved
from tunesmith.text import TRIMMED, counted, name_list

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tunesmith.tasks.losses import Loss

Head = Literal["sequence", "token", "question", "masked"]
"""What stands on the backbone: one output a text, one a token, a beginning and an end, or a word at masked tokens."""


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
        return asdict(self)


@dataclass(frozen=True)
class InDocuments:
    """What records are scored against, where those of one document are resampled together.

    Attributes:
        values: of each record.
        document: (n,) int64, number of each record's document.
    """

    values: list[Any]
    document: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def sums(self, *of_records: np.ndarray) -> tuple[np.ndarray, ...]:
        """Arrays with a row for each record, added up over the records of each document."""
        sums = tuple(np.zeros((self.document.max() + 1, *part.shape[1:]), part.dtype) for part in of_records)
        for total, part in zip(sums, of_records, strict=True):
            np.add.at(total, self.document, part)
        return sums

    def part(self, rows: np.ndarray) -> InDocuments:
        """The same of some records."""
        return InDocuments([self.values[row] for row in rows], np.unique(self.document[rows], return_inverse=True)[1])


AnyScore = TypeVar("AnyScore", bound=Score)
Answered = tuple[Any, LabelSpace]
"""What a model says of some records, and the space that gives it its meaning."""


class Task(ABC):
    """One kind of learning problem over texts; what has a body or a value here suits most.

    What a model says of the records is called `outputs`, and what they are scored against `targets`; their form is the
    task's own. Targets of single labels are int64 (n,), of multi-label float32 (n, labels), of regression float32 (n,).
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """For people, after "a model for"."""
    shape: ClassVar[RecordShape]
    """What the rows of its data hold."""
    head: ClassVar[Head]
    problem_type: ClassVar[str | None] = None
    """As transformers writes it into a model's configuration."""
    metrics: ClassVar[Metrics]
    """What `statistics` gives, in the order of tables."""
    primary_metric: ClassVar[str]

    required: ClassVar = ("name", "title", "shape", "head", "metrics", "primary_metric")
    """What every task must say of itself."""
    pipeline_tag: ClassVar[str] = "text-classification"
    """Of the Hugging Face Hub."""
    resampled: ClassVar[str] = "rows"
    """What intervals resample."""
    kinds_noun: ClassVar[str] = "labels"
    """What `kinds` are called."""
    counted_noun: ClassVar[str] = "rows"
    """What the kinds are counted in."""
    apart_noun: ClassVar[str] = "label"
    """What `score_labels` tells apart."""
    example_files: ClassVar[tuple[str, str]] = ("new-texts.csv", "new-labelled.csv")
    """Names for a file of new texts, and for one with labels, as the task has them."""
    narrowed_by: ClassVar[tuple[str, ...]] = ("top_k", "threshold")
    """Arguments of `Prediction.narrowed` that mean something here."""
    limits: ClassVar[tuple[str, ...]] = ()
    """What everybody should know who uses a model of this task."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        require(cls, *cls.required)
        return super().__new__(cls)

    def example(self, saved: Saved) -> str:
        """An input of `Predictor.predict`, as Python writes it."""
        return '("a text", "a second text")' if saved.pairs else '"a text"'

    def use(self, saved: Saved, space: LabelSpace) -> str:
        """How other libraries use a saved model, Markdown for the model card: as `Predictor.predict` does, or not."""
        return ""

    @property
    def on_tokens(self) -> bool:
        """The model answers for each token of a text, not once for the whole."""
        return self.head in ("token", "question")

    @abstractmethod
    def labels(self, train: Records) -> LabelSpace:
        """The label space, from the train split."""

    def kinds(self, space: LabelSpace) -> tuple[str, ...]:
        """What a model tells apart, for people; empty where its answers are no names."""
        return space.names

    @abstractmethod
    def targets(self, records: Records, space: LabelSpace) -> Any:
        """Targets in the order of the records.

        Raises:
            DataError: a label that the train split lacks, with its rows.
        """

    @abstractmethod
    def encode(self, records: Records, space: LabelSpace, encoder: Encoder, labelled: bool) -> EncodedTexts:
        """Tokenise every record; one record may give several windows, in which tasks on tokens read all of a text.

        Args:
            labelled: with what is learned and what it is scored against.
        """

    @abstractmethod
    def loss(self, label_smoothing: float, class_weights: torch.Tensor | None) -> Loss:
        """The loss; a task without classes ignores both arguments.

        Args:
            label_smoothing: share of the target spread over all labels.
            class_weights: what `class_weights` returns, as a tensor, or None.
        """

    def class_weights(self, targets: Any, space: LabelSpace) -> np.ndarray | None:
        """Weights inversely proportional to the frequency of each label in the targets; None without classes."""
        return None

    def model_logits(self, outputs: Any, attention_mask: torch.Tensor) -> torch.Tensor:
        """What the loss and `outputs` read, from what the model returns: (n, labels) or (n, length, labels)."""
        return outputs["logits"]  # type: ignore[no-any-return]

    def infer(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """What is kept of a batch when a model answers or is scored, float: a row a text, or (n, length, labels)."""
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        return self.model_logits(model(**inputs), batch["attention_mask"]).float()

    @abstractmethod
    def outputs(self, logits: np.ndarray, encoded: EncodedTexts, space: LabelSpace) -> Any:
        """What the model says of each record.

        Args:
            logits: float32, (n, labels) in the order of `encoded`; for heads on tokens (tokens, labels), the tokens
                of all windows one after the other.
        """

    def tuned(self, space: LabelSpace, outputs: Any, targets: Any) -> LabelSpace:
        """The space with what is chosen on validation rows once the model is fitted."""
        return space

    @abstractmethod
    def decode(self, outputs: Any, space: LabelSpace) -> list[Prediction]:
        """Predictions in the order of the records."""

    @abstractmethod
    def statistics(self, space: LabelSpace) -> Statistics:
        """The metrics of the task as a function of `arrays` and the weights of their rows."""

    @abstractmethod
    def arrays(self, outputs: Any, targets: Any, space: LabelSpace) -> tuple[np.ndarray, ...]:
        """What `statistics` reads, with a row for each record, or for records that are resampled together."""

    @abstractmethod
    def right(self, outputs: Any, targets: Any, space: LabelSpace) -> np.ndarray | None:
        """Whether each record is answered entirely right, bool (n,); None where answers are only near or far."""

    def score(self, outputs: Any, targets: Any, space: LabelSpace, resamples: int, seed: int) -> dict[str, Score]:
        """Every metric of the task with its 95 % interval."""
        arrays = self.arrays(outputs, targets, space)
        return _of_records(bootstrap(self.statistics(space), arrays, self.metrics, resamples, seed), targets)

    def score_labels(self, outputs: Any, targets: Any, space: LabelSpace, resamples: int, seed: int) -> ByLabel:
        """Label → scores of that label alone, for every label the model knows; empty for tasks without labels.

        For questions the labels are ``answerable`` and ``unanswerable``.
        """
        return {}

    def quick_score(self, outputs: Any, targets: Any, space: LabelSpace) -> dict[str, float]:
        """Every metric of the task, without intervals: what is watched during training."""
        return unweighted(self.statistics(space), self.arrays(outputs, targets, space))

    def compare(
        self, first: Answered, second: Answered, targets: Any, resamples: int, seed: int, metric: str | None = None
    ) -> dict[str, Difference]:
        """Metric → first minus second on the same rows, with its interval and a paired test.

        Args:
            first, second: what each model says, and its space.
            metric: the one that is wanted; None for all.
        """
        a, b = (self.arrays_for(metric, outputs, targets, space) for outputs, space in (first, second))
        return _of_records(paired(self.statistics(first[1]), a, b, resamples, seed), targets)

    def arrays_for(self, metric: str | None, outputs: Any, targets: Any, space: LabelSpace) -> Arrays:
        """`arrays`, perhaps without what a metric does not need."""
        return self.arrays(outputs, targets, space)

    def evidence(self, records: Records, outputs: Any, targets: Any, space: LabelSpace) -> Evidence:
        """What lies behind the scores: at least the mistakes, the most confident first."""
        predictions, right = self.decode(outputs, space), self.right(outputs, targets, space)
        wrong = np.zeros(len(predictions), dtype=bool) if right is None else ~right
        return self._mistakes(records, predictions, wrong, np.array([one.score for one in predictions], np.float64))

    def _mistakes(
        self, records: Records, predictions: list[Prediction], wrong: np.ndarray, scores: np.ndarray
    ) -> Evidence:
        mistakes = [
            Mistake(records[row].id, *self.difference(records[row], predictions[row]), float(scores[row]))
            for row in worst(wrong, scores)
        ]
        return Evidence(len(predictions), mistakes, int(wrong.sum()))

    def difference(self, record: TextRecord, prediction: Prediction) -> tuple[Excerpt, str, str]:
        """What is shown of a wrong answer: the text, what is true, and what was said instead."""
        gold, said = (
            ", ".join(map(str, label)) or "∅" if isinstance(label, tuple) else str(label)
            for label in (record.label, prediction.label)
        )
        return shown(record.text, record.text_pair), gold, said

    @abstractmethod
    def baselines(self, train: Records, test: Records, space: LabelSpace, seed: int) -> list[Baseline]:
        """What models that take seconds say of the test rows, as `outputs` gives it; the strongest first."""


def require_known(records: Records, names: Iterable[Iterable[str]], known: Collection[str], noun: str) -> None:
    """Refuse records with names that the train split lacks; all of them are named.

    Args:
        names: of each record.
        noun: what they are called.

    Raises:
        DataError: a name is not among those `known`.
    """
    unknown: dict[str, list[int]] = {}
    for row, own in zip(records.table["row"].to_pylist(), names, strict=True):
        for name in own:
            if name not in known:
                unknown.setdefault(name, []).append(row)
    one_each = not is_list(records.table["label"])
    if unknown:
        raise DataError(
            f"{records.path}: {noun} {name!r} of {counted(len(rows), 'row')} (first: row {rows[0]}) is not in the "
            f"training data; {_remedy(name, known, noun, one_each)}"
            for name, rows in unknown.items()
        )


def _remedy(name: str, known: Collection[str], noun: str, one_each: bool) -> str:
    """What to do about an unknown name; only labels that stand alone in their cells can be trimmed."""
    if one_each and name.strip(TRIMMED) in known:
        return f"data.strip=true trims it to {name.strip(TRIMMED)!r}, which is"
    alike = [one for one in known if one.strip(TRIMMED).casefold() == name.strip(TRIMMED).casefold()]
    there = f" (there is {name_list(sorted(alike))})" if alike else ""
    return f"correct the {noun}{there}, or add examples of it to the training file"


def _of_records(scores: dict[str, AnyScore], targets: Any) -> dict[str, AnyScore]:
    """Scores that say of how many records they are, however these were resampled."""
    return {name: replace(score, n=len(targets)) for name, score in scores.items()}
