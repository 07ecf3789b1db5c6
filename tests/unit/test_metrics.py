"""The metrics against scikit-learn and SciPy, degenerate cases included."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from tunesmith.errors import DataError, DivergedError
from tunesmith.evaluation.calibration import reliability_bins
from tunesmith.evaluation.intervals import Difference, Score
from tunesmith.evaluation.metrics import (
    CLASSIFICATION_METRICS,
    MULTILABEL_METRICS,
    REGRESSION_METRICS,
    classification_statistics,
    multilabel_statistics,
    one_hot,
    regression_statistics,
    unweighted,
)


def classification_scores(
    gold: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None, num_labels: int
) -> dict[str, float]:
    return unweighted(partial(classification_statistics, num_labels=num_labels), (gold, predicted, probabilities))


def multilabel_scores(*arrays: np.ndarray | None) -> dict[str, float]:
    return unweighted(multilabel_statistics, arrays)


def regression_scores(*arrays: np.ndarray) -> dict[str, float]:
    return unweighted(regression_statistics, arrays)


def make_classification(seed: int, n: int, num_labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    gold = rng.integers(num_labels, size=n)
    logits = rng.normal(size=(n, num_labels)).round(1)  # rounded: ties
    logits[np.arange(n), gold] += 1
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return gold, probabilities.argmax(axis=1), probabilities


def reference_classification(gold: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f1 = {f"{a}_f1": reference.f1_score(gold, predicted, average=a) for a in ("macro", "micro", "weighted")}
        mcc = reference.matthews_corrcoef(gold, predicted)
    return {"accuracy": reference.accuracy_score(gold, predicted), "mcc": mcc, **f1}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**16), n=st.integers(1, 60), num_labels=st.integers(1, 6))
def test_classification_equals_scikit_learn(seed: int, n: int, num_labels: int) -> None:
    gold, predicted, probabilities = make_classification(seed, n, num_labels)
    scores = classification_scores(gold, predicted, probabilities, num_labels)
    for name, value in reference_classification(gold, predicted).items():
        assert scores[name] == pytest.approx(value, abs=1e-12), name
    if num_labels == 1 or np.unique(gold).size < num_labels:
        assert "roc_auc" not in scores
    elif num_labels == 2:
        assert scores["roc_auc"] == pytest.approx(reference.roc_auc_score(gold, probabilities[:, 1]))
    else:
        assert scores["roc_auc"] == pytest.approx(reference.roc_auc_score(gold, probabilities, multi_class="ovr"))


def test_all_rows_of_one_class() -> None:
    scores = classification_scores(np.zeros(5, int), np.zeros(5, int), None, 3)
    assert scores == {"accuracy": 1.0, "macro_f1": 1.0, "micro_f1": 1.0, "weighted_f1": 1.0, "mcc": 0.0}


def test_ece_is_the_weighted_gap_of_the_reliability_bins() -> None:
    gold, predicted, probabilities = make_classification(3, 500, 4)
    bins = [b for b in reliability_bins(probabilities, gold) if b.count]
    expected = sum(b.count * abs(b.accuracy - b.confidence) for b in bins) / 500
    assert sum(b.count for b in bins) == 500
    assert classification_scores(gold, predicted, probabilities, 4)["ece"] == pytest.approx(expected)


def test_ece_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.0, 1.0]])
    gold = np.array([0, 1, 1, 1])  # bins: 0.9 twice (one right), 0.6 once (right), 1.0 once (right)
    scores = classification_scores(gold, probabilities.argmax(axis=1), probabilities, 2)
    assert scores["ece"] == pytest.approx((2 * 0.4 + 0.4 + 0.0) / 4)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**16), n=st.integers(1, 40), num_labels=st.integers(1, 5))
def test_multilabel_equals_scikit_learn(seed: int, n: int, num_labels: int) -> None:
    rng = np.random.default_rng(seed)
    gold = rng.random((n, num_labels)) < 0.3
    probabilities = (0.5 * gold + 0.7 * rng.random((n, num_labels))).clip(0, 1).round(1)
    predicted = probabilities > 0.6
    scores = multilabel_scores(gold, predicted, probabilities)
    assert scores["accuracy"] == (gold == predicted).all(axis=1).mean()
    occurs = (gold | predicted).any(axis=0)
    for average in ("macro", "micro", "weighted"):
        expected = 0.0
        if occurs.any():  # the labels that occur nowhere are left out of the mean
            # (a single label is given as two columns: scikit-learn would read one column as binary)
            columns = np.flatnonzero(occurs)
            f1 = reference.f1_score(gold, predicted, average=None, zero_division=0.0) if num_labels > 1 else None
            f1 = np.array([2 * (gold & predicted).sum() / (gold.sum() + predicted.sum())]) if f1 is None else f1
            support = gold.sum(axis=0)
            both = 2 * (gold & predicted).sum() / (gold.sum() + predicted.sum())
            weighted = (f1 * support).sum() / support.sum() if support.sum() else 0.0
            expected = {"macro": f1[columns].mean(), "micro": both, "weighted": weighted}[average]
        assert scores[f"{average}_f1"] == pytest.approx(expected), average
    varies = [c for c in range(num_labels) if 0 < gold[:, c].sum() < n]
    if varies:
        areas = [reference.roc_auc_score(gold[:, c], probabilities[:, c]) for c in varies]
        assert scores["roc_auc"] == pytest.approx(np.mean(areas))
    else:
        assert "roc_auc" not in scores


def test_multilabel_without_any_label() -> None:
    nothing = np.zeros((4, 3), bool)
    scores = multilabel_scores(nothing, nothing, nothing.astype(float))
    assert scores == {"accuracy": 1.0, "macro_f1": 0.0, "micro_f1": 0.0, "weighted_f1": 0.0}


def test_two_exclusive_labels_have_the_binary_area() -> None:
    gold, _, probabilities = make_classification(1, 50, 2)
    scores = multilabel_scores(one_hot(gold, 2), probabilities > 0.5, probabilities)
    assert scores["roc_auc"] == pytest.approx(reference.roc_auc_score(gold, probabilities[:, 1]))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**16), n=st.integers(3, 50), decimals=st.integers(0, 3))
def test_regression_equals_references(seed: int, n: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    gold = rng.normal(5, 2, n)
    predicted = (gold + rng.normal(0, 1, n)).round(decimals)
    scores = regression_scores(gold, predicted)
    assert scores["mae"] == pytest.approx(reference.mean_absolute_error(gold, predicted))
    assert scores["rmse"] == pytest.approx(reference.root_mean_squared_error(gold, predicted))
    if np.unique(predicted).size > 1:
        assert scores["pearson"] == pytest.approx(stats.pearsonr(gold, predicted).statistic)
        assert scores["spearman"] == pytest.approx(stats.spearmanr(gold, predicted).statistic)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9 / 3])
def test_correlation_with_a_constant_is_zero(value: float) -> None:
    scores = regression_scores(np.arange(7.0), np.full(7, value))
    assert (scores["pearson"], scores["spearman"]) == (0.0, 0.0)


def test_every_score_is_in_the_table() -> None:
    gold, predicted, probabilities = make_classification(2, 60, 3)
    assert classification_scores(gold, predicted, probabilities, 3).keys() == CLASSIFICATION_METRICS.keys()
    sets = (one_hot(gold, 3), one_hot(predicted, 3), probabilities)
    assert multilabel_scores(*sets).keys() == MULTILABEL_METRICS.keys()
    assert regression_scores(gold.astype(float), probabilities[:, 1]).keys() == REGRESSION_METRICS.keys()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (classification_scores, (np.zeros(0, int), np.zeros(0, int), None, 2)),
        (multilabel_scores, (np.zeros((0, 2), bool), np.zeros((0, 2), bool), None)),
        (regression_scores, (np.zeros(0), np.zeros(0))),
    ],
)
def test_no_rows_is_a_data_error(function: Any, arguments: Any) -> None:
    with pytest.raises(DataError, match="no labelled rows"):
        function(*arguments)


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DivergedError, match="not finite"):
        classification_scores(np.array([0, 1]), np.array([0, 1]), np.array([[0.5, 0.5], [np.nan, 0.5]]), 2)


def test_shapes_and_ids_must_fit() -> None:
    with pytest.raises(ValueError, match="equal first axes"):
        classification_scores(np.array([0, 1]), np.array([0]), None, 2)
    with pytest.raises(ValueError, match="class ids"):
        classification_scores(np.array([0, 2]), np.array([0, 1]), None, 2)


def test_every_negative_number_has_the_same_sign() -> None:
    metric = CLASSIFICATION_METRICS["mcc"]
    score, less = Score(-0.25, -0.5, -0.125, 4), Difference(-0.25, -0.5, 0.25, 4, 0.5)
    assert score.text(metric) == "−0.250 (−0.500 – −0.125)" and "-" not in less.verdict(metric)
