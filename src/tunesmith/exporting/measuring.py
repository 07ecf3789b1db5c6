"""What an artefact costs and gains: its answers and its speed beside those of the model it was made from.

Both are timed in turns on the same texts, so that what else the machine does meanwhile falls on both alike.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow.compute as pc

from tunesmith.artefact.folder import Accuracy, Both, Histogram, Measured, Validation
from tunesmith.data.records import Records
from tunesmith.errors import ModelError
from tunesmith.evaluation.metrics import Metric
from tunesmith.predictor import Predictor
from tunesmith.resources import threads
from tunesmith.run.inputs import processor
from tunesmith.tasks.encoding import EncodedTexts, Encoder
from tunesmith.tasks.predictions import Prediction

FEWEST_TURNS, SECONDS = 5, 3.0
"""Of each figure: so many turns at least, and more of them until so much time has passed."""
AT_ONCE, MOST_AT_ONCE = 32, 1_000
"""Texts of a batch, and of the throughput at most."""
NONE, ANSWERED = "∅", "answer"
BINS = 10
CHANCE = (1_000, 0)
"""Resamples of an interval, and their seed."""
ROUNDING = 1e-9
"""Differences of scores may be off by this; a row more or less is not."""
MASKED = 1e30
"""Outputs beyond stand for padding."""
MOST_DISTANCE = 1e-3
"""Of outputs in float32, in units of how far they lie apart."""


@dataclass(frozen=True)
class Beside:
    """An artefact and the model it was made from, on the same texts.

    Attributes:
        of: where the texts and their labels are from; None where they have no labels.
        metric: the name of the one that counts.
        bytes: sizes of both.
    """

    artefact: Predictor
    model: Predictor
    records: Records
    of: str | None
    metric: str
    bytes: Both

    def measure(self, most_loss: float) -> tuple[Measured, Validation]:
        """Answers and times.

        Args:
            most_loss: what is allowed; it is written down, and for the caller to act upon.

        Raises:
            DataError: a label is unknown to the model.
            ModelError: both read other tokens of a text.
        """
        task, space = self.artefact.task, self.artefact.space
        encoded, logits = answered(self.artefact, self.model, self.records)
        outputs = [task.outputs(found, encoded, space) for found in logits]
        answers = [task.decode(found, space) for found in outputs]
        lengths = encoded.lengths
        if encoded.record_of is not None:
            lengths = np.bincount(encoded.record_of, encoded.lengths, len(self.records)).astype(np.int64)
        timed = self.records[:MOST_AT_ONCE]
        one = self._in_turns([timed[at : at + 1] for at in range(len(timed))])
        batch = self._in_turns([_repeated(timed, at) for at in range(0, len(timed), AT_ONCE)])
        many = timed[: max(AT_ONCE, int(AT_ONCE / max(batch.artefact, batch.model)))]  # a second's, of the slower
        all_ = self._in_turns([many])
        measured = Measured(
            accuracy=None if self.of is None else self._accuracy(self.of, outputs, most_loss),
            agreement=_agreement(*answers),
            furthest=distance(*logits)[0],
            texts=len(self.records),
            tokens=[int(length) for length in np.quantile(lengths, (0, 0.5, 1), method="nearest")],
            bytes=self.bytes,
            latency_1=_milliseconds(one),
            latency_32=_milliseconds(batch),
            throughput=Both(artefact=len(many) / all_.artefact, model=len(many) / all_.model),
            threads=threads(),
            processor=processor(),
        )
        return measured, self._validation(answers[0], lengths)

    def _accuracy(self, of: str, outputs: Sequence[object], most_loss: float) -> Accuracy:
        task, space = self.artefact.task, self.artefact.space
        targets = task.targets(self.records, space)
        scores = [task.score(found, targets, space, *CHANCE) for found in outputs]
        metric = self.metric if self.metric in scores[1] else next(iter(scores[1]))
        first, second = ((found, space) for found in outputs)
        return Accuracy(
            rows=len(self.records),
            of=of,
            metric=metric,
            artefact=scores[0][metric],
            model=scores[1][metric],
            difference=task.compare(first, second, targets, *CHANCE, metric)[metric],
            most_loss=most_loss,
        )

    def _in_turns(self, inputs: Sequence[Records]) -> Both:
        """Seconds that each takes for an input, the median; each input is given to both, one after the other."""
        taken: dict[str, list[float]] = {"artefact": [], "model": []}
        sides = [("artefact", self.artefact), ("model", self.model)]
        for _, predictor in sides:  # what is done once, at first
            predictor.predict_records(inputs[0])
        begin, turn = time.perf_counter(), 0
        while turn < FEWEST_TURNS or (turn < len(inputs) and time.perf_counter() - begin < SECONDS):
            for name, predictor in sides if turn % 2 else reversed(sides):
                start = time.perf_counter()
                predictor.predict_records(inputs[turn % len(inputs)])
                taken[name].append(time.perf_counter() - start)
            turn += 1
        return Both(**{name: median(times) for name, times in taken.items()})

    def _validation(self, answers: Sequence[Prediction], lengths: np.ndarray) -> Validation:
        table = self.records.table
        characters = sum(pc.utf8_length(table[n]).to_numpy() for n in ("text", "text_pair") if self.records.has(n))
        values = [one.value for one in answers if one.value is not None]
        return Validation(
            rows=len(self.records),
            kinds=dict(Counter(kind for one in answers if one.value is None for kind in _kinds(one))),
            values=_histogram(np.array(values)) if values else None,
            characters=_histogram(np.asarray(characters)),
            tokens=_histogram(lengths),
        )


def answered(
    artefact: Predictor, model: Predictor, records: Records
) -> tuple[EncodedTexts, tuple[np.ndarray, np.ndarray]]:
    """Texts as tokens, and what both networks say of them, see `tunesmith.predictor.Backend.logits`.

    Raises:
        ModelError: both read other tokens of a text, or one of them fails.
    """
    encoded, other = (_encoded(one, records) for one in (artefact, model))
    if not encoded.table.equals(other.table):
        raise ModelError("the artefact's tokenizer makes other tokens than the model's; predict and serve take the run")
    found = artefact.backend.logits(encoded, artefact.task), model.backend.logits(encoded, model.task)
    return encoded, found


def distance(artefact: np.ndarray, model: np.ndarray) -> tuple[float, float]:
    """Largest difference of two outputs, and how far the model's own lie apart; padding is left out."""
    real = np.abs(model) < MASKED
    if not real.any():
        return 0.0, 0.0
    return float(np.abs(artefact - model)[real].max()), float(model[real].std())


def require_alike(artefact: Predictor, model: Predictor, records: Records) -> None:
    """Refuse a network that computes something else than its model.

    Args:
        records: texts of all lengths.

    Raises:
        ModelError: it does, or it fails.
    """
    furthest, spread = distance(*answered(artefact, model, records)[1])
    if furthest > MOST_DISTANCE * max(spread, 1e-3):
        said = f"its outputs differ by {furthest:.2g} from those of the model, which lie {spread:.2g} apart"
        raise ModelError(f"the network computes something else: {said}; predict and serve take the run itself")


def _encoded(predictor: Predictor, records: Records) -> EncodedTexts:
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:  # what is mapped stays
        encoder = Encoder(predictor.tokenizer, predictor.truncation, Path(folder) / "encoded.arrow")
        return predictor.task.encode(records, predictor.space, encoder, False)


def loses_too_much(accuracy: Accuracy, metric: Metric) -> bool:
    """Whether more may be lost than is allowed: by the worse end of the difference's interval.

    Of metrics that are no shares the loss counts as a share of the model's own score. A loss of exactly what is allowed
    is not more, however its last digit is rounded.
    """
    difference = accuracy.difference
    lost = -difference.low if metric.higher_is_better else difference.high
    scale = 1.0 if metric.is_proportion else abs(accuracy.model.value)
    return lost > (accuracy.most_loss + ROUNDING) * scale


def _repeated(records: Records, start: int) -> Records:
    """So many rows as are asked at once, from one on, and from the first again after the last."""
    return records.select(np.arange(start, start + AT_ONCE) % len(records))


def _milliseconds(seconds: Both) -> Both:
    return Both(artefact=1000 * seconds.artefact, model=1000 * seconds.model)


def _agreement(first: Sequence[Prediction], second: Sequence[Prediction]) -> float | None:
    if any(one.value is not None for one in first):
        return None
    return sum(a.label == b.label for a, b in zip(first, second, strict=True)) / len(first)


def _kinds(answer: Prediction) -> Sequence[str]:
    if answer.spans is not None:
        found = tuple(span.label for span in answer.spans)
    elif answer.answers is not None:
        found = (ANSWERED,) if answer.answer else ()
    else:
        found = tuple(map(str, answer.label)) if isinstance(answer.label, tuple) else (str(answer.label),)
    return found or (NONE,)


def _histogram(values: np.ndarray) -> Histogram:
    edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS))
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
    return Histogram(edges=edges.tolist(), counts=counts.tolist())
