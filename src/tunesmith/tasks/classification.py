"""Text classification in all its forms: one label of many, several labels, a number; single texts and pairs."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tunesmith.data.records import Records
from tunesmith.data.shapes import NUMBER, ONE_LABEL, SEVERAL_LABELS
from tunesmith.evaluation.baselines import Baseline, majority_baseline, tfidf_baseline
from tunesmith.evaluation.calibration import reliability_bins
from tunesmith.evaluation.evidence import Evidence
from tunesmith.evaluation.labels import ByLabel, of_rows
from tunesmith.evaluation.metrics import (
    CLASSIFICATION_METRICS,
    MULTILABEL_METRICS,
    OF_PROBABILITIES,
    REGRESSION_METRICS,
    Arrays,
    Statistics,
    classification_statistics,
    multilabel_statistics,
    regression_statistics,
)
from tunesmith.tasks.base import LabelSpace, Task, require_known
from tunesmith.tasks.encoding import EncodedTexts, Encoder
from tunesmith.tasks.predictions import Prediction
from tunesmith.tasks.probabilities import sigmoid, softmax
from tunesmith.tasks.usage import Saved, classifier

if TYPE_CHECKING:
    import torch

    from tunesmith.tasks.losses import Loss


class TextTask(Task):
    """What the tasks with one output a text share; targets and outputs are arrays with a row for each record."""

    head = "sequence"

    def encode(self, records: Records, space: LabelSpace, encoder: Encoder, labelled: bool) -> EncodedTexts:
        targets = self.targets(records, space) if labelled else None
        if encoder.truncation.long != "windows":
            return encoder.texts(records, targets)
        encoded = encoder.windows(records, None, targets)
        return encoded if targets is None else replace(encoded, targets=targets[encoded.record_of])

    pipeline_options: ClassVar[str] = ""
    """More arguments of a pipeline of transformers that answers as this task does."""
    answer_code: ClassVar[str]
    """Python that makes answers of ``labels`` (list) and ``logits`` (texts, labels), a tensor."""

    def use(self, saved: Saved, space: LabelSpace) -> str:
        return classifier(saved, self.pipeline_options, self.answer_code)

    @abstractmethod
    def logits_of(self, answers: np.ndarray) -> np.ndarray:
        """Logits that stand for a baseline's answer: the inverse of what turns logits into probabilities."""

    def outputs(self, logits: np.ndarray, encoded: EncodedTexts, space: LabelSpace) -> np.ndarray:
        """The logits; of a text in several windows their mean."""
        if encoded.record_of is None or not len(logits):
            return logits
        total = np.zeros((len(encoded.records or ()), logits.shape[1]), dtype=np.float64)
        np.add.at(total, encoded.record_of, logits)
        return np.asarray(total / np.bincount(encoded.record_of)[:, None], dtype=np.float32)

    def baselines(self, train: Records, test: Records, space: LabelSpace, seed: int) -> list[Baseline]:
        targets = self.targets(train, space)
        answers = (
            tfidf_baseline(train.joined_texts, targets, test.joined_texts, seed),
            majority_baseline(targets, len(test)),
        )
        return [replace(answer, answers=self.logits_of(answer.answers)) for answer in answers]

    def arrays_for(self, metric: str | None, outputs: Any, targets: Any, space: LabelSpace) -> Arrays:
        gold, predicted, *scores = self.arrays(outputs, targets, space)
        needed = metric is None or metric in OF_PROBABILITIES
        return gold, predicted, *(part if needed else None for part in scores)

    def right(self, outputs: np.ndarray, targets: np.ndarray, space: LabelSpace) -> np.ndarray | None:
        gold, predicted, *_ = self.arrays(outputs, targets, space)
        return np.asarray((gold == predicted).reshape(len(targets), -1).all(axis=1))


class Classification(TextTask):
    """Exactly one label per text."""

    name = "classification"
    title = "text classification"
    shape = ONE_LABEL
    limits = ("It answers every text with one of its labels, also texts that fit none of them.",)
    problem_type = "single_label_classification"
    answer_code = "[(labels[row.argmax()], float(row.max())) for row in logits.softmax(dim=1)]"
    metrics = CLASSIFICATION_METRICS
    primary_metric = "accuracy"

    def labels(self, train: Records) -> LabelSpace:
        return LabelSpace(_in_order({str(label) for label in train.labels}))

    def targets(self, records: Records, space: LabelSpace) -> np.ndarray:
        labels = [str(label) for label in records.labels]
        index = {name: i for i, name in enumerate(space.names)}
        require_known(records, zip(labels, strict=True), index, "label")
        return np.array([index[label] for label in labels], dtype=np.int64)

    def loss(self, label_smoothing: float, class_weights: torch.Tensor | None) -> Loss:
        from tunesmith.tasks.losses import CrossEntropy

        return CrossEntropy(label_smoothing, class_weights)

    def decode(self, outputs: np.ndarray, space: LabelSpace) -> list[Prediction]:
        probabilities = softmax(outputs.astype(np.float64))
        best = probabilities.argmax(axis=1)
        return [
            Prediction(space.names[i], float(row[i]), dict(zip(space.names, row.tolist(), strict=True)))
            for i, row in zip(best, probabilities, strict=True)
        ]

    def statistics(self, space: LabelSpace) -> Statistics:
        return partial(classification_statistics, num_labels=len(space.names))

    def arrays(self, outputs: np.ndarray, targets: np.ndarray, space: LabelSpace) -> tuple[np.ndarray, ...]:
        probabilities = softmax(outputs.astype(np.float64))
        return targets, probabilities.argmax(axis=1), probabilities

    def score_labels(self, outputs: Any, targets: Any, space: LabelSpace, resamples: int, seed: int) -> ByLabel:
        gold, predicted, _ = self.arrays(outputs, targets, space)
        counted = (gold[gold == predicted], predicted, gold)
        return of_rows(space.names, *(np.bincount(ids, minlength=len(space.names)) for ids in counted))

    def evidence(self, records: Records, outputs: Any, targets: Any, space: LabelSpace) -> Evidence:
        gold, predicted, probabilities = self.arrays(outputs, targets, space)
        size = len(space.names)
        return replace(
            super().evidence(records, outputs, targets, space),
            labels=list(space.names),
            confusion=np.bincount(gold * size + predicted, minlength=size * size).reshape(size, size),
            bins=reliability_bins(probabilities, gold),
        )

    def logits_of(self, answers: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(np.maximum(answers, 1e-12)))

    def class_weights(self, targets: np.ndarray, space: LabelSpace) -> np.ndarray | None:
        """``n / (labels · count)`` per label, 1.0 on average over the rows (the "balanced" rule of scikit-learn)."""
        counts = np.maximum(np.bincount(targets, minlength=len(space.names)), 1)
        return np.asarray(counts.sum() / (len(counts) * counts), dtype=np.float32)


class MultiLabel(TextTask):
    """Any number of labels per text; a label is predicted when its probability is at least one half."""

    name = "multilabel"
    title = "multi-label text classification"
    shape = SEVERAL_LABELS
    problem_type = "multi_label_classification"
    pipeline_options = ', function_to_apply="sigmoid", top_k=None'
    answer_code = "[dict(zip(labels, row)) for row in logits.sigmoid().tolist()]  # a label holds from 0.5 on"
    metrics = MULTILABEL_METRICS
    primary_metric = "micro_f1"

    def labels(self, train: Records) -> LabelSpace:
        return LabelSpace(_in_order({str(name) for labels in train.labels for name in labels or ()}))

    def targets(self, records: Records, space: LabelSpace) -> np.ndarray:
        labels = [[str(name) for name in label or ()] for label in records.labels]
        index = {name: i for i, name in enumerate(space.names)}
        require_known(records, labels, index, "label")
        targets = np.zeros((len(records), len(space.names)), dtype=np.float32)
        for row, names in enumerate(labels):
            targets[row, [index[name] for name in names]] = 1.0
        return targets

    def loss(self, label_smoothing: float, class_weights: torch.Tensor | None) -> Loss:
        from tunesmith.tasks.losses import BinaryCrossEntropy

        return BinaryCrossEntropy(label_smoothing, class_weights)

    def decode(self, outputs: np.ndarray, space: LabelSpace) -> list[Prediction]:
        predictions = []
        for row in sigmoid(outputs.astype(np.float64)):
            labels = tuple(name for name, p in zip(space.names, row, strict=True) if p >= 0.5)
            chosen = row[row >= 0.5]
            score = float(chosen.min()) if len(chosen) else float(1 - row.max())
            predictions.append(Prediction(labels, score, dict(zip(space.names, row.tolist(), strict=True))))
        return predictions

    def statistics(self, space: LabelSpace) -> Statistics:
        return multilabel_statistics

    def arrays(self, outputs: np.ndarray, targets: np.ndarray, space: LabelSpace) -> tuple[np.ndarray, ...]:
        return targets > 0.5, outputs >= 0, sigmoid(outputs.astype(np.float64))

    def score_labels(self, outputs: Any, targets: Any, space: LabelSpace, resamples: int, seed: int) -> ByLabel:
        gold, predicted, _ = self.arrays(outputs, targets, space)
        return of_rows(space.names, *(part.sum(axis=0) for part in (gold & predicted, predicted, gold)))

    def logits_of(self, answers: np.ndarray) -> np.ndarray:
        likely = np.clip(answers.astype(np.float64), 1e-9, 1 - 1e-9)  # float32 has nothing so near to one
        return np.asarray(np.log(likely / (1 - likely)))

    def class_weights(self, targets: np.ndarray, space: LabelSpace) -> np.ndarray | None:
        positive = np.maximum(targets.sum(axis=0), 1)
        return np.asarray((len(targets) - positive).clip(min=1) / positive, dtype=np.float32)


class Regression(TextTask):
    """A number per text, trained on standardised targets."""

    name = "regression"
    title = "text regression"
    narrowed_by = ()
    shape = NUMBER
    problem_type = "regression"
    pipeline_options = ', function_to_apply="none"'
    answer_code = "logits[:, 0].tolist()"
    metrics = REGRESSION_METRICS
    primary_metric = "pearson"

    def labels(self, train: Records) -> LabelSpace:
        values = _numbers(train)
        return LabelSpace(("value",), float(values.mean()), float(values.std()) or 1.0)

    def kinds(self, space: LabelSpace) -> tuple[str, ...]:
        return ()

    def targets(self, records: Records, space: LabelSpace) -> np.ndarray:
        return ((_numbers(records) - space.mean) / space.scale).astype(np.float32)

    def loss(self, label_smoothing: float, class_weights: torch.Tensor | None) -> Loss:
        from tunesmith.tasks.losses import SquaredError

        return SquaredError()

    def decode(self, outputs: np.ndarray, space: LabelSpace) -> list[Prediction]:
        values = self._values(outputs, space)
        return [Prediction(f"{value:.6g}", value, {space.names[0]: value}, value=value) for value in map(float, values)]

    def statistics(self, space: LabelSpace) -> Statistics:
        return regression_statistics

    def arrays(self, outputs: np.ndarray, targets: np.ndarray, space: LabelSpace) -> tuple[np.ndarray, ...]:
        return self._values(targets, space), self._values(outputs, space)

    def right(self, outputs: np.ndarray, targets: np.ndarray, space: LabelSpace) -> np.ndarray | None:
        return None

    def evidence(self, records: Records, outputs: Any, targets: Any, space: LabelSpace) -> Evidence:
        """The predictions farthest from their targets, and all pairs of values."""
        gold, predicted = self.arrays(outputs, targets, space)
        distance = np.abs(predicted - gold)
        found = self._mistakes(records, self.decode(outputs, space), distance > 0, distance)
        return replace(found, values=(gold, predicted))

    def logits_of(self, answers: np.ndarray) -> np.ndarray:
        return answers

    @staticmethod
    def _values(standardised: np.ndarray, space: LabelSpace) -> np.ndarray:
        return standardised.reshape(-1).astype(np.float64) * space.scale + space.mean


def _in_order(names: set[str]) -> tuple[str, ...]:
    """Label names sorted as numbers where all are whole numbers, else as text."""
    return tuple(
        sorted(names, key=lambda name: (int(name), name)) if all(name.isdecimal() for name in names) else sorted(names)
    )


def _numbers(records: Records) -> np.ndarray:
    return np.array([float(str(label)) for label in records.labels], dtype=np.float64)
