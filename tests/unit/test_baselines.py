"""The baselines on small texts."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith.evaluation.baselines import majority_baseline, tfidf_baseline

TEXTS = ["red apple", "green apple", "ripe red apple", "fast car", "old car", "a fast old car"] * 3
LABELS = np.array([0, 0, 0, 1, 1, 1] * 3)


def test_classification_learns_words_and_repeats() -> None:
    first = tfidf_baseline(TEXTS, LABELS, ["green apple", "car"], "classification", seed=0)
    again = tfidf_baseline(TEXTS, LABELS, ["green apple", "car"], "classification", seed=0)
    assert first.predicted.tolist() == [0, 1]
    assert first.probabilities is not None and again.probabilities is not None
    np.testing.assert_allclose(first.probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(first.probabilities, again.probabilities)
    assert first.seconds > 0 and "logistic regression" in first.description


def test_pairs_are_joined() -> None:
    pairs = [("thing", text) for text in TEXTS]
    assert tfidf_baseline(
        pairs, LABELS, [("thing", "car"), ("apple", None)], "classification", 0
    ).predicted.tolist() == [1, 0]


def test_multilabel_keeps_constant_labels() -> None:
    labels = np.column_stack([LABELS == 0, LABELS == 1, np.ones(18, bool), np.zeros(18, bool)])
    found = tfidf_baseline(TEXTS, labels, ["red apple", "old car"], "multilabel", seed=0)
    assert found.predicted.tolist() == [[True, False, True, False], [False, True, True, False]]


def test_regression_predicts_floats() -> None:
    found = tfidf_baseline(TEXTS, LABELS * 10.0, ["apple", "car"], "regression", seed=0)
    assert found.probabilities is None
    assert found.predicted[0] < 5 < found.predicted[1]


@pytest.mark.parametrize("texts", [["", "  ", "!?"], ["…", "--", ""]])
def test_texts_without_words_give_the_majority(texts: list[str]) -> None:
    found = tfidf_baseline(texts, np.array([0, 1, 1]), ["anything"], "classification", seed=0)
    assert found.predicted.tolist() == [1]


def test_one_class_and_unused_ids() -> None:
    found = tfidf_baseline(["a b", "c d"], np.array([2, 2]), ["a"], "classification", seed=0)
    assert found.predicted.tolist() == [2]
    assert found.probabilities is not None and found.probabilities.tolist() == [[0.0, 0.0, 1.0]]


def test_majority() -> None:
    classes = majority_baseline(np.array([1, 1, 0]), 2, "classification")
    assert classes.predicted.tolist() == [1, 1]
    assert classes.probabilities is not None
    np.testing.assert_allclose(classes.probabilities, [[1 / 3, 2 / 3]] * 2)
    sets = majority_baseline(np.array([[True, False], [True, True], [False, False]]), 1, "multilabel")
    assert sets.predicted.tolist() == [[True, False]]
    assert majority_baseline(np.array([1.0, 2.0, 6.0]), 2, "regression").predicted.tolist() == [3.0, 3.0]
