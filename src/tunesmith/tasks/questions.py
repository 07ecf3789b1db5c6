"""Extractive question answering: the part of a context that answers a question, or that there is none.

The model scores every token of the context as the beginning and as the end of the answer. A context longer than the
model is read through overlapping windows; the candidates of all windows compete by the sum of their two scores, and a
candidate's characters are exactly those of the context. "No answer" is scored by the first token, in the window that
speaks least for it; it is given where it beats the best answer by more than a threshold chosen on validation data
(Rajpurkar, Jia and Liang 2018), and only by models trained on questions without an answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tunesmith.data.keys import group_numbers
from tunesmith.data.records import Answer, Records, TextRecord
from tunesmith.data.shapes import ANSWERS
from tunesmith.data.words import word_bounds
from tunesmith.errors import DataError
from tunesmith.evaluation.answer_scores import ANSWER_METRICS, answer_scores, answer_statistics, best_threshold
from tunesmith.evaluation.baselines import Baseline
from tunesmith.evaluation.evidence import MISSED, WRONG, Excerpt, Mark, shown
from tunesmith.evaluation.labels import ByLabel, LabelMetrics, of_documents
from tunesmith.evaluation.metrics import Statistics
from tunesmith.tasks.base import InDocuments, LabelSpace, Task
from tunesmith.tasks.encoding import NOTHING, EncodedTexts, Encoder, Window
from tunesmith.tasks.predictions import FoundAnswer, Prediction
from tunesmith.tasks.probabilities import softmax
from tunesmith.tasks.usage import Saved
from tunesmith.text import row_list

if TYPE_CHECKING:
    import torch

    from tunesmith.tasks.losses import Loss

CANDIDATES = 20
"""Beginnings and ends that are combined in each window, and answers that are kept of each question."""
MAX_ANSWER_TOKENS = 30


@dataclass(frozen=True)
class Candidates:
    """The answers that a model considers for one question.

    Attributes:
        answers: start, text and score (a sum of two logits), best first; empty for a context without words.
        nothing: score of "no answer".
    """

    answers: tuple[tuple[int, str, float], ...]
    nothing: float

    @property
    def margin(self) -> float:
        """How much "no answer" scores above the best answer."""
        return self.nothing - self.answers[0][2] if self.answers else float("inf")

    def text(self, threshold: float | None) -> str:
        """The answer's text; empty for "no answer"."""
        if not self.answers or (threshold is not None and self.margin > threshold):
            return ""
        return self.answers[0][1]


class QuestionAnswering(Task):
    """Questions on contexts; the text is the question, the second text the context."""

    name = "qa"
    title = "question answering"
    shape = ANSWERS
    head = "question"
    metrics = ANSWER_METRICS
    primary_metric = "answer_f1"
    pipeline_tag = "question-answering"
    resampled = "documents"
    apart_noun = "kind of question"
    example_files = ("new-questions.jsonl", "new-labelled.jsonl")

    def example(self, saved: Saved) -> str:
        return '("a question", "the text that answers it")'

    def use(self, saved: Saved, space: LabelSpace) -> str:
        return (
            f'transformers loads it with `AutoModelForQuestionAnswering.from_pretrained("{saved.folder}")`; windows, '
            'candidates\nand the threshold of "no answer" are Tunesmith\'s.\n'
        )

    def labels(self, train: Records) -> LabelSpace:
        some_unanswered = not all(self.targets(train, LabelSpace(())).values)
        return LabelSpace(("start", "end"), threshold=0.0 if some_unanswered else None)

    def kinds(self, space: LabelSpace) -> tuple[str, ...]:
        return ()

    def targets(self, records: Records, space: LabelSpace) -> InDocuments:
        labels = records.labels
        missing = np.flatnonzero([label is None for label in labels])
        if len(missing):
            rows = row_list(np.asarray(records.table["row"])[missing].tolist())
            raise DataError(f"{records.path}: {rows}: no answers; write [] for a question without one")
        answers = [tuple(answer.text for answer in cast(tuple[Answer, ...], label)) for label in labels]
        return InDocuments(answers, group_numbers(records))

    def encode(self, records: Records, space: LabelSpace, encoder: Encoder, labelled: bool) -> EncodedTexts:
        gold = self.targets(records, space) if labelled else None
        encoded = encoder.windows(records, partial(_describe, labelled), gold)
        if not labelled:
            return encoded
        targets = encoded.flat("positions").reshape(-1, 2).astype(np.int64)
        return replace(encoded, targets=targets)

    def loss(self, label_smoothing: float, class_weights: torch.Tensor | None) -> Loss:
        from tunesmith.tasks.losses import SpanCrossEntropy

        return SpanCrossEntropy(label_smoothing)

    def model_logits(self, outputs: Any, attention_mask: torch.Tensor) -> torch.Tensor:
        import torch

        logits = torch.stack([outputs["start_logits"], outputs["end_logits"]], dim=-1).float()
        # Padding takes no part in the softmax over positions.
        return logits.masked_fill(attention_mask.unsqueeze(-1) == 0, torch.finfo(logits.dtype).min)

    def outputs(self, logits: np.ndarray, encoded: EncodedTexts, space: LabelSpace) -> list[Candidates]:
        assert encoded.record_of is not None and encoded.records is not None
        starts, ends = encoded.flat("starts"), encoded.flat("ends")
        edges = np.concatenate([[0], np.cumsum(encoded.lengths, dtype=np.int64)])
        found: list[dict[tuple[int, int], float]] = [{} for _ in range(len(encoded.records))]
        nothing = np.full(len(found), np.inf)
        for window, of in enumerate(encoded.record_of.tolist()):
            part = slice(edges[window], edges[window + 1])
            scores = logits[part].astype(np.float64)
            nothing[of] = min(nothing[of], scores[0].sum())
            for start, end, score in _pairs(scores, starts[part], ends[part]):
                found[of][start, end] = max(score, found[of].get((start, end), -np.inf))
        contexts = encoded.records.table["text_pair"].to_pylist()
        return [
            Candidates(_best(context, candidates), float(no_answer))
            for context, candidates, no_answer in zip(contexts, found, nothing, strict=True)
        ]

    def decode(self, outputs: list[Candidates], space: LabelSpace) -> list[Prediction]:
        """The answers; the score of one is its share among the candidates, "no answer" included where it is known."""
        predictions, threshold = [], space.threshold
        for candidates in outputs:
            scores = [score for _, _, score in candidates.answers]
            shares = np.array([1.0])
            if scores:
                shares = softmax(np.array(scores + [candidates.nothing] * (threshold is not None)))
            answers = tuple(
                FoundAnswer(start, start + len(text), text, float(share))
                for (start, text, _), share in zip(candidates.answers, shares, strict=False)
            )
            text = candidates.text(threshold)
            nothing = float(shares[-1]) if threshold is not None or not scores else None
            score, best = (answers[0].score, answers[0]) if text else (float(nothing or 0.0), None)
            predictions.append(Prediction(text, score, {}, answer=best, answers=answers, no_answer=nothing))
        return predictions

    def statistics(self, space: LabelSpace) -> Statistics:
        return answer_statistics

    def arrays(self, outputs: list[Candidates], targets: InDocuments, space: LabelSpace) -> tuple[np.ndarray, ...]:
        exact, overlap = answer_scores(_texts(outputs, space.threshold), targets.values)
        return targets.sums(exact, overlap, np.ones(len(targets)))

    def score_labels(
        self, outputs: list[Candidates], targets: InDocuments, space: LabelSpace, resamples: int, seed: int
    ) -> ByLabel:
        """Questions with and without an answer apart, as the script of SQuAD 2.0 does: whether they are told apart, and
        how they are answered.

        Nothing where all have one and the model knows no others.
        """
        has = np.array([bool(answers) for answers in targets.values])
        if has.all() and space.threshold is None:
            return {}
        says = np.array([bool(text) for text in _texts(outputs, space.threshold)])
        actual, claimed = (np.stack([part, ~part], axis=1).astype(np.int64) for part in (has, says))
        right, claimed, actual = targets.sums(actual * claimed, claimed, actual)
        found = of_documents(("answerable", "unanswerable"), (right, claimed, actual), resamples, seed)
        for name, rows in (("answerable", np.flatnonzero(has)), ("unanswerable", np.flatnonzero(~has))):
            answered: LabelMetrics = dict.fromkeys(self.metrics)
            if len(rows):
                answered |= self.score([outputs[row] for row in rows], targets.part(rows), space, resamples, seed)
            found[name] = replace(found[name], metrics=answered | found[name].metrics)
        return found

    def right(self, outputs: list[Candidates], targets: InDocuments, space: LabelSpace) -> np.ndarray | None:
        return np.asarray(answer_scores(_texts(outputs, space.threshold), targets.values)[0] > 0)

    def difference(self, record: TextRecord, prediction: Prediction) -> tuple[Excerpt, str, str]:
        """The accepted answers and the one that was given, with the part of the context where the first stands."""
        accepted = cast(tuple[Answer, ...], record.label)
        said = prediction.answer
        place = accepted[0].start if accepted else said.start if said else 0
        marks = [Mark(accepted[0].start, accepted[0].end, MISSED)] if accepted else []
        marks += [Mark(said.start, said.end, WRONG)] if said else []
        gold = " / ".join(dict.fromkeys(answer.text for answer in accepted))
        text = shown(record.text, record.text_pair, 0, place, marks, in_second=True)
        return text, gold or "–", str(prediction.label) or "–"

    def baselines(self, train: Records, test: Records, space: LabelSpace, seed: int) -> list[Baseline]:
        """The sentence of the context that shares most with the question, by TF-IDF of the test contexts' words."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        begin = time.perf_counter()
        contexts = test.table["text_pair"].to_pylist()
        words = TfidfVectorizer(token_pattern=r"(?u)\w+", sublinear_tf=True)
        try:
            words.fit(set(contexts))
        except ValueError:  # no word in any context
            return []
        outputs = []
        for question, sentences in zip(test.texts, map(_sentences, contexts), strict=True):
            likeness = words.transform([text for _, text in sentences]) @ words.transform([question]).T
            start, text = sentences[int(likeness.toarray().argmax())]
            outputs.append(Candidates(((start, text, 1.0),) if text else (), 0.0))
        return [Baseline("nearest sentence", outputs, time.perf_counter() - begin)]

    def tuned(self, space: LabelSpace, outputs: list[Candidates], targets: InDocuments) -> LabelSpace:
        if space.threshold is None:  # every question has an answer
            return space
        answered, silent = (answer_scores(_texts(outputs, limit), targets.values)[1] for limit in (np.inf, -np.inf))
        margins = np.array([min(candidates.margin, 1e6) for candidates in outputs])
        return replace(space, threshold=best_threshold(margins, answered, silent))


def _texts(outputs: list[Candidates], threshold: float | None) -> list[str]:
    return [candidates.text(threshold) for candidates in outputs]


def _describe(labelled: bool, record: TextRecord, windows: list[Window]) -> Iterator[dict[str, np.ndarray]]:
    """Start and end of each token of the context, and between which tokens the first accepted answer stands."""
    answer = next(iter(cast(tuple[Answer, ...], record.label)), None) if labelled else None
    for window in windows:
        start, stop = window.offsets.T
        counts = (window.part == 1) & (stop > start)
        columns = {
            "starts": np.where(counts, start, NOTHING).astype(np.int32),
            "ends": np.where(counts, stop, NOTHING).astype(np.int32),
        }
        if labelled:
            columns["positions"] = np.array(_positions(columns["starts"], columns["ends"], answer), dtype=np.int32)
        yield columns


def _positions(starts: np.ndarray, ends: np.ndarray, answer: Answer | None) -> tuple[int, int]:
    """First and last token of the answer in a window; the first token twice where it is not wholly in the window."""
    if answer is None:
        return 0, 0
    start, end = answer.start, answer.end
    inside = np.flatnonzero((ends > start) & (starts < end))
    if not len(inside) or start < starts[ends != NOTHING][0] or end > ends.max():
        return 0, 0
    return int(inside[0]), int(inside[-1])


def _pairs(scores: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> list[tuple[int, int, float]]:
    """The best answers of one window: start, end and score of each."""
    tokens = np.flatnonzero(ends != NOTHING)
    firsts, lasts = (tokens[np.argsort(-scores[tokens, side], kind="stable")[:CANDIDATES]] for side in (0, 1))
    first, last = (grid.ravel() for grid in np.meshgrid(firsts, lasts, indexing="ij"))
    valid = (last >= first) & (last - first < MAX_ANSWER_TOKENS)
    first, last = first[valid], last[valid]
    totals = scores[first, 0] + scores[last, 1]
    best = np.argsort(-totals, kind="stable")[:CANDIDATES]
    return list(zip(starts[first[best]].tolist(), ends[last[best]].tolist(), totals[best].tolist(), strict=True))


def _best(context: str, candidates: dict[tuple[int, int], float]) -> tuple[tuple[int, str, float], ...]:
    answers: dict[tuple[int, str], float] = {}
    for (start, end), score in sorted(candidates.items(), key=lambda item: (-item[1], item[0])):
        if context[start:end].strip():  # some tokenizers count the space before a word as part of it
            answers.setdefault(_stripped(context, start, end), score)
        if len(answers) == CANDIDATES:
            break
    return tuple((start, text, score) for (start, text), score in answers.items())


def _sentences(context: str) -> list[tuple[int, str]]:
    """Sentences as far as a full stop shows them: start and text."""
    starts, ends = (bounds.tolist() for bounds in word_bounds(context))
    stops = [end for start, end in zip(starts, ends, strict=True) if context[start:end] in {".", "!", "?", "。"}]
    pieces = pairwise([0, *stops, len(context)])
    return [_stripped(context, start, end) for start, end in pieces if context[start:end].strip()] or [(0, "")]


def _stripped(context: str, start: int, end: int) -> tuple[int, str]:
    """Start and text of a part of a context without the white space around it."""
    text = context[start:end]
    return start + len(text) - len(text.lstrip()), text.strip()
