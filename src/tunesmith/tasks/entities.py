"""Named entities: spans of a text, each of one type.

The model tags the first piece of every word (see `tunesmith.data.words`); words that share a piece are tagged as one.
Words are coarse where no entity of the training texts begins or ends inside a coarse word, as in files of tokens; with
finer words such models find fewer entities (`docs/log.md`). A text longer than the model is read through overlapping
windows, and each word counts in the window where it has most context on both sides. The best valid tag sequence of the
whole text gives the entities, so none is lost at a border.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np

from tunesmith.data.keys import group_numbers
from tunesmith.data.layout.tags import tag_names
from tunesmith.data.records import Records, Span, TextRecord
from tunesmith.data.shapes import SPANS
from tunesmith.data.words import whole_words, word_bounds
from tunesmith.errors import DataError
from tunesmith.evaluation.baselines import Baseline
from tunesmith.evaluation.entity_scores import SPAN_METRICS, Counts, span_counts, span_statistics
from tunesmith.evaluation.evidence import MISSED, WRONG, Excerpt, Mark, shown
from tunesmith.evaluation.labels import ByLabel, of_documents
from tunesmith.evaluation.metrics import Statistics
from tunesmith.tasks.base import InDocuments, LabelSpace, Task, require_known
from tunesmith.tasks.encoding import IGNORED, NOTHING, EncodedTexts, Encoder, Window
from tunesmith.tasks.predictions import FoundSpan, Prediction
from tunesmith.tasks.probabilities import log_softmax
from tunesmith.tasks.usage import Saved, tagger
from tunesmith.tasks.viterbi import best_paths

if TYPE_CHECKING:
    import torch

    from tunesmith.tasks.losses import Loss

FoundSpans = list[tuple[FoundSpan, ...]]


class NamedEntities(Task):
    """Spans with types, learned as IOB2 tags of words."""

    name = "ner"
    title = "named-entity recognition"
    narrowed_by = ("threshold",)
    shape = SPANS
    head = "token"
    metrics = SPAN_METRICS
    primary_metric = "span_f1"
    pipeline_tag = "token-classification"
    resampled = "documents"
    kinds_noun = "entity types"
    counted_noun = "entities"
    apart_noun = "type"
    example_files = ("new-texts.csv", "new-labelled.jsonl")

    def use(self, saved: Saved, space: LabelSpace) -> str:
        return tagger(saved, space.coarse_words)

    def labels(self, train: Records) -> LabelSpace:
        types = sorted({span.label for spans in _spans(train) for span in spans})
        if not types:
            raise DataError(f"{train.path}: the training rows have no entity; check the annotation")
        inside_words = any(
            whole_words(*bounds, span.start, span.end) != (span.start, span.end)
            for text, spans in zip(train.texts, _spans(train), strict=True)
            for bounds in [word_bounds(text if spans else "", coarse=True)]
            for span in spans
        )
        return LabelSpace(tuple(tag_names(types)), coarse_words=not inside_words)

    def kinds(self, space: LabelSpace) -> tuple[str, ...]:
        return tuple(name[2:] for name in space.names[1::2])

    def targets(self, records: Records, space: LabelSpace) -> InDocuments:
        gold = _spans(records)
        require_known(records, ([span.label for span in spans] for spans in gold), self.kinds(space), "entity type")
        return InDocuments(gold, group_numbers(records))

    def encode(self, records: Records, space: LabelSpace, encoder: Encoder, labelled: bool) -> EncodedTexts:
        gold = self.targets(records, space) if labelled else None
        types = {name: i for i, name in enumerate(self.kinds(space) if labelled else ())}
        return encoder.windows(records, partial(_describe, types, space.coarse_words), gold)

    def loss(self, label_smoothing: float, class_weights: torch.Tensor | None) -> Loss:
        from tunesmith.tasks.losses import CrossEntropy

        return CrossEntropy(label_smoothing)

    def outputs(self, logits: np.ndarray, encoded: EncodedTexts, space: LabelSpace) -> FoundSpans:
        starts, ends, scores, bounds = _words(logits, encoded)
        log_probabilities = log_softmax(scores.astype(np.float64))
        pieces = [log_probabilities[a:b] for a, b in pairwise(bounds)]
        tags = np.arange(len(space.names))
        inside, kind = (tags > 0) & (tags % 2 == 0), (tags + 1) // 2
        follows = ~inside[None, :] | (kind[:, None] == kind[None, :])  # an inside tag goes on with its type
        paths = best_paths(pieces, follows, ~inside)
        assert encoded.records is not None
        return [
            _entities(text, starts[a : a + len(path)], ends[a : a + len(path)], piece, path, space)
            for text, a, piece, path in zip(encoded.records.texts, bounds, pieces, paths, strict=False)
        ]

    def decode(self, outputs: FoundSpans, space: LabelSpace) -> list[Prediction]:
        return [
            Prediction(
                tuple(Span(span.start, span.end, span.label) for span in spans),
                min((span.score for span in spans), default=1.0),
                {},
                spans=spans,
            )
            for spans in outputs
        ]

    def statistics(self, space: LabelSpace) -> Statistics:
        return span_statistics

    def arrays(self, outputs: FoundSpans, targets: InDocuments, space: LabelSpace) -> tuple[np.ndarray, ...]:
        return targets.sums(*self._counts(outputs, targets, space))

    def _counts(self, outputs: FoundSpans, targets: InDocuments, space: LabelSpace) -> Counts:
        found = [[(span.start, span.end, span.label) for span in spans] for spans in outputs]
        return span_counts(targets.values, found, self.kinds(space))

    def right(self, outputs: FoundSpans, targets: InDocuments, space: LabelSpace) -> np.ndarray | None:
        right, claimed, actual = self._counts(outputs, targets, space)
        return np.asarray(((right == claimed) & (right == actual)).all(axis=1))

    def score_labels(
        self, outputs: FoundSpans, targets: InDocuments, space: LabelSpace, resamples: int, seed: int
    ) -> ByLabel:
        right, claimed, actual = self.arrays(outputs, targets, space)
        return of_documents(self.kinds(space), (right, claimed, actual), resamples, seed)

    def difference(self, record: TextRecord, prediction: Prediction) -> tuple[Excerpt, str, str]:
        """The entities that are missed and those that are none, with the text around the first of those missed."""
        gold, found = (set(cast(tuple[Span, ...], label or ())) for label in (record.label, prediction.label))
        missed, wrong = sorted(gold - found), sorted(found - gold)
        gold_text, found_text = (
            ", ".join(f"{record.text[span.start : span.end]} ({span.label})" for span in spans) or "–"
            for spans in (missed, wrong)
        )
        marks = [
            Mark(span.start, span.end, kind) for kind, spans in ((MISSED, missed), (WRONG, wrong)) for span in spans
        ]
        return shown(record.text, None, (missed or wrong)[0].start, marks=marks), gold_text, found_text

    def baselines(self, train: Records, test: Records, space: LabelSpace, seed: int) -> list[Baseline]:
        """Names of the training texts found again, longest first, with their commonest type."""
        start = time.perf_counter()
        names: dict[str, Counter[str]] = {}
        for text, spans in zip(train.texts, _spans(train), strict=True):
            for span in spans:
                names.setdefault(text[span.start : span.end], Counter())[span.label] += 1
        types = {name: counts.most_common(1)[0][0] for name, counts in names.items()}
        longest = max((len(word_bounds(name, space.coarse_words)[0]) for name in types), default=1)
        answers: FoundSpans = []
        for text in test.texts:
            starts, ends = (bounds.tolist() for bounds in word_bounds(text, space.coarse_words))
            found, at = [], 0
            while at < len(starts):
                for last in range(min(len(starts), at + longest) - 1, at - 1, -1):
                    name = text[starts[at] : ends[last]]
                    if name in types:
                        found.append(FoundSpan(starts[at], ends[last], types[name], name, 1.0))
                        at = last
                        break
                at += 1
            answers.append(tuple(found))
        return [Baseline("names of the training texts", answers, time.perf_counter() - start)]


def _spans(records: Records) -> list[tuple[Span, ...]]:
    return [cast(tuple[Span, ...], label or ()) for label in records.labels]


def _describe(
    types: dict[str, int], coarse: bool, record: TextRecord, windows: list[Window]
) -> Iterator[dict[str, np.ndarray]]:
    """Start and end of the word that each token opens, and its tag, where the types of entities are given."""
    starts, ends = word_bounds(record.text, coarse)
    spans = cast(tuple[Span, ...], record.label or ()) if types else ()
    bounds = np.array([(span.start, span.end, types[span.label]) for span in spans], dtype=np.int64)
    span_starts, span_ends, kinds = bounds.reshape(-1, 3).T
    for window in windows:
        at, begin, end = _units(window, starts, ends)
        columns = {name: np.full(len(window.input_ids), NOTHING, dtype=np.int32) for name in ("starts", "ends")}
        columns["starts"][at], columns["ends"][at] = begin, end
        if types:
            columns["labels"] = np.full(len(window.input_ids), IGNORED, dtype=np.int32)
            columns["labels"][at] = 0
            if spans:  # a word that a span only touches belongs to it
                span = np.minimum(np.searchsorted(span_ends, begin, side="right"), len(spans) - 1)
                inside = (span_starts[span] < end) & (span_ends[span] > begin)
                columns["labels"][at] = np.where(inside, 1 + 2 * kinds[span] + (begin > span_starts[span]), 0)
        yield columns


def _units(window: Window, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions of the first pieces of words in a window, and first and last (excluded) character of each's words.

    Args:
        starts, ends: of the words of the text.
    """
    tokens = np.flatnonzero((window.part == 0) & (window.offsets[:, 1] > window.offsets[:, 0]))
    begin, stop = window.offsets[tokens].T
    first, last = np.searchsorted(ends, begin, side="right"), np.searchsorted(starts, stop - 1, side="right") - 1
    real = first <= last  # of characters that count, not of white space
    tokens, begin, first, last = tokens[real], begin[real], first[real], last[real]
    heads = np.flatnonzero((begin <= starts[first]) & (np.diff(first, prepend=-1) != 0))
    return tokens[heads], starts[first[heads]], ends[np.maximum.reduceat(last, heads)]


def _words(logits: np.ndarray, encoded: EncodedTexts) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Start, end and logits of every word, in the order of the texts, and the first word of each text.

    Returns:
        (words,), (words,), (words, tags) and (texts + 1,), the last one the number of words.
    """
    assert encoded.record_of is not None and encoded.records is not None
    starts, ends = encoded.flat("starts"), encoded.flat("ends")
    lengths = encoded.lengths.astype(np.int64)
    text = np.repeat(encoded.record_of, lengths)
    position = np.arange(len(starts)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    context = np.minimum(position, np.repeat(lengths, lengths) - 1 - position)
    words = np.flatnonzero(starts != NOTHING)
    order = words[np.lexsort((-context[words], starts[words], text[words]))]
    kept = order[(np.diff(text[order], prepend=-1) != 0) | (np.diff(starts[order], prepend=-1) != 0)]
    bounds = np.searchsorted(text[kept], np.arange(len(encoded.records) + 1))
    return starts[kept], ends[kept], logits[kept], bounds


def _entities(
    text: str, starts: np.ndarray, ends: np.ndarray, scores: np.ndarray, path: np.ndarray, space: LabelSpace
) -> tuple[FoundSpan, ...]:
    """The entities of one text; the score of one is the mean probability of its words' tags."""
    opens = path % 2 == 1
    begins, stops = np.flatnonzero(opens), np.flatnonzero(opens | (path == 0))
    after = np.append(stops, len(path))[np.searchsorted(stops, begins, side="right")]
    probabilities = np.append(np.exp(scores[np.arange(len(path)), path]), 0.0)
    bounds = np.stack([begins, after], axis=1).ravel()
    means = np.add.reduceat(probabilities, bounds)[::2] / (after - begins)
    columns = (starts[begins], ends[after - 1], path[begins], means)
    return tuple(
        FoundSpan(start, end, space.names[tag][2:], text[start:end], score)
        for start, end, tag, score in zip(*(column.tolist() for column in columns), strict=True)
    )
