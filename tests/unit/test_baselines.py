"""The baselines on small texts."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith.data.records import text_records
from tunesmith.evaluation.baselines import majority_baseline, tfidf_baseline

TEXTS = ["red apple", "green apple", "ripe red apple", "fast car", "old car", "a fast old car"] * 3
LABELS = np.array([0, 0, 0, 1, 1, 1] * 3)


def test_classification_learns_words_and_repeats() -> None:
    first = tfidf_baseline(TEXTS, LABELS, ["green apple", "car"], seed=0)
    again = tfidf_baseline(TEXTS, LABELS, ["green apple", "car"], seed=0)
    assert first.answers.argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(first.answers.sum(axis=1), 1)
    np.testing.assert_array_equal(first.answers, again.answers)
    assert first.seconds > 0 and "logistic regression" in first.name


def test_pairs_are_joined() -> None:
    pairs = text_records([("thing", text) for text in TEXTS], "train")
    found = tfidf_baseline(
        pairs.joined_texts, LABELS, text_records([("thing", "car"), "apple"], "test").joined_texts, 0
    )
    assert found.answers.argmax(axis=1).tolist() == [1, 0]


def test_multilabel_keeps_constant_labels() -> None:
    labels = np.column_stack([LABELS == 0, LABELS == 1, np.ones(18, bool), np.zeros(18, bool)])
    found = tfidf_baseline(TEXTS, labels, ["red apple", "old car"], seed=0)
    assert (found.answers >= 0.5).tolist() == [[True, False, True, False], [False, True, True, False]]


def test_regression_predicts_floats() -> None:
    found = tfidf_baseline(TEXTS, LABELS * 10.0, ["apple", "car"], seed=0)
    assert found.answers.shape == (2,) and "ridge regression" in found.name
    assert found.answers[0] < 5 < found.answers[1]


@pytest.mark.parametrize("texts", [["", "  ", "!?"], ["…", "--", ""]])
def test_texts_without_words_give_the_majority(texts: list[str]) -> None:
    found = tfidf_baseline(texts, np.array([0, 1, 1]), ["anything"], seed=0)
    assert found.answers.argmax(axis=1).tolist() == [1]
    assert found.name == "TF-IDF + logistic regression"


def test_one_class_and_unused_ids() -> None:
    found = tfidf_baseline(["a b", "c d"], np.array([2, 2]), ["a"], seed=0)
    assert found.answers.tolist() == [[0.0, 0.0, 1.0]]


def test_majority() -> None:
    classes = majority_baseline(np.array([1, 1, 0]), 2)
    np.testing.assert_allclose(classes.answers, [[1 / 3, 2 / 3]] * 2)
    sets = majority_baseline(np.array([[True, False], [True, True], [False, False]]), 1)
    assert (sets.answers >= 0.5).tolist() == [[True, False]]
    assert majority_baseline(np.array([1.0, 2.0, 6.0]), 2).answers.tolist() == [3.0, 3.0]
