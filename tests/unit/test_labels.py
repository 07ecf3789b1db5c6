"""Scores of each label on its own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from tunesmith.evaluation.entity_scores import span_counts
from tunesmith.evaluation.labels import LabelScores, of_documents, of_rows, weakest_first
from tunesmith.evaluation.metrics import one_hot
from tunesmith.tasks.base import InDocuments, LabelSpace
from tunesmith.tasks.classification import Classification, MultiLabel
from tunesmith.tasks.questions import Candidates, QuestionAnswering


def values(one: LabelScores) -> list[float | None]:
    return [score and score.value for score in one.metrics.values()]


def test_they_equal_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    gold, predicted = rng.integers(4, size=80), rng.integers(4, size=80)
    logits, space = one_hot(predicted, 5).astype(np.float32), LabelSpace(tuple("abcde"))
    found = Classification().score_labels(logits, gold, space, 0, 0)
    sets = MultiLabel().score_labels(2 * logits - 1, one_hot(gold, 5), space, 0, 0)
    expected = np.transpose(reference.precision_recall_fscore_support(gold, predicted, labels=range(4)))
    for label, wanted in zip("abcd", expected, strict=True):
        assert [*values(found[label]), found[label].support] == pytest.approx(wanted)
    assert sets == found and [one.predicted for one in found.values()] == np.bincount(predicted, minlength=5).tolist()


def test_what_no_row_has_is_not_scored_and_comes_last() -> None:
    """Nor is the precision of what was never said: a zero would look like a failure of the model."""
    found = of_rows("abcd", *np.array([[3, 0, 0, 2], [4, 0, 2, 2], [3, 5, 0, 2]]))
    assert values(found["b"]) == [None, 0.0, 0.0] and values(found["c"]) == [None] * 3
    assert (found["c"].support, found["c"].predicted) == (0, 2)
    assert [label for label, _ in weakest_first(found, "accuracy")] == ["b", "a", "d", "c"]
    counts = span_counts([[(0, 1, "x")], []], [[], [(0, 1, "y")]], ["x", "y", "z"])
    of_spans = of_documents(["x", "y", "z"], counts, 100, 0)
    assert [values(one) for one in of_spans.values()] == [[None, 0.0, 0.0], [None] * 3, [None] * 3]


def test_a_perfect_label_is_as_sure_as_the_documents_that_were_given_it() -> None:
    counts = span_counts([[(0, 1, "x")]] * 20, [[(0, 1, "x")]] * 5 + [[]] * 15, ["x"])
    scores = of_documents(["x"], counts, 100, 0)["x"].metrics
    assert {name: score and score.n for name, score in scores.items()} == {"precision": 5, "recall": 20, "f1": 20}
    assert scores["precision"] and scores["precision"].low == pytest.approx(0.025 ** (1 / 5))


def test_intervals_are_exact() -> None:
    one = of_rows(["a"], np.array([6]), np.array([9]), np.array([8]))["a"].metrics
    for name, hits, total in (("precision", 6, 9), ("recall", 6, 8)):
        limits, score = stats.binomtest(hits, total).proportion_ci(0.95, method="exact"), one[name]
        assert score and (score.low, score.high, score.n) == (
            pytest.approx(limits.low), pytest.approx(limits.high), total
        )  # fmt: skip
    f1, limits = one["f1"], stats.binomtest(6, 11).proportion_ci(0.95, method="exact")
    assert f1 and (f1.value, f1.n) == (pytest.approx(12 / 17), 11)
    assert (f1.low, f1.high) == tuple(pytest.approx(2 * j / (1 + j)) for j in limits)


def test_questions_with_and_without_answer_are_told_apart_and_scored() -> None:
    task, space = QuestionAnswering(), LabelSpace(("start", "end"), threshold=0.0)
    says = [Candidates(((0, text or "x", 1.0),), 0.0 if text else 2.0) for text in ("yes", "no", "", "", "so", "")]
    targets = InDocuments([("yes",), ("yes",), ("yes",), (), (), ()], np.arange(6))
    found = task.score_labels(says, targets, space, 100, 0)
    answerable, unanswerable = found["answerable"], found["unanswerable"]
    assert (answerable.support, answerable.predicted, unanswerable.support, unanswerable.predicted) == (3, 3, 3, 3)
    assert values(answerable) == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert values(unanswerable) == pytest.approx([2 / 3] * 5)
    assert task.score_labels(says[:2], targets.part(np.arange(2)), LabelSpace(("start", "end")), 100, 0) == {}
    alone = task.score_labels(says[:2], targets.part(np.arange(2)), space, 100, 0)["unanswerable"]
    assert values(alone) == [None] * 5
