"""Bootstrap intervals and paired tests."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy import stats

from tunesmith.evaluation import intervals
from tunesmith.evaluation.intervals import AGAINST_WORSE, Difference, Score, bootstrap, paired, shortfalls
from tunesmith.evaluation.metrics import (
    CLASSIFICATION_METRICS,
    MULTILABEL_METRICS,
    REGRESSION_METRICS,
    Metric,
    Statistics,
    classification_statistics,
    multilabel_statistics,
    regression_statistics,
    unweighted,
)


def classes(num_labels: int) -> Statistics:
    return partial(classification_statistics, num_labels=num_labels)


def make_rows(n: int = 200, num_labels: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    gold = rng.integers(num_labels, size=n)
    logits = rng.normal(size=(n, num_labels)) + 1.5 * (gold[:, None] == np.arange(num_labels))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return gold, probabilities.argmax(axis=1), probabilities


def test_score_as_text_and_dictionary() -> None:
    score = Score(0.9377, 0.9292, 0.9461, 3080)
    assert score.text(CLASSIFICATION_METRICS["accuracy"]) == "93.8 % (92.9 – 94.6)"
    assert str(score) == "0.938 (0.929 – 0.946)"
    assert str(Score(508.14, 498.2, 520, 60)) == "508.140 (498.200 – 520.000)"  # a perplexity is no share
    assert score.text(CLASSIFICATION_METRICS["mcc"]) == "0.938 (0.929 – 0.946)"
    assert score.to_dict() == {"value": 0.9377, "low": 0.9292, "high": 0.9461, "n": 3080}


def test_values_are_those_of_the_plain_metrics_and_lie_in_the_interval() -> None:
    gold, predicted, probabilities = make_rows()
    scores = bootstrap(classes(3), (gold, predicted, probabilities), CLASSIFICATION_METRICS, resamples=300, seed=1)
    plain = unweighted(classes(3), (gold, predicted, probabilities))
    assert {name: score.value for name, score in scores.items()} == pytest.approx(plain)
    for name, score in scores.items():
        assert score.n == 200
        assert score.low < score.high
        if name != "ece":  # the calibration error of a resample is biased upwards
            assert score.low < score.value < score.high, name


def test_weighted_statistics_equal_those_of_the_resampled_rows() -> None:
    gold, predicted, probabilities = make_rows(60)
    drawn = np.random.default_rng(4).integers(60, size=60)
    weights = np.bincount(drawn, minlength=60).astype(float)[:, None]
    weighted = classes(3)(gold, predicted, probabilities, weights)
    plain = unweighted(classes(3), (gold[drawn], predicted[drawn], probabilities[drawn]))
    assert {name: float(value[0]) for name, value in weighted.items()} == pytest.approx(plain)


def test_weighted_regression_equals_that_of_the_resampled_rows() -> None:
    rng = np.random.default_rng(2)
    gold, predicted = rng.normal(size=40).round(1), rng.normal(size=40).round(1)
    drawn = rng.integers(40, size=40)
    weights = np.bincount(drawn, minlength=40).astype(float)[:, None]
    weighted = regression_statistics(gold, predicted, weights)
    plain = unweighted(regression_statistics, (gold[drawn], predicted[drawn]))
    assert {name: float(value[0]) for name, value in weighted.items()} == pytest.approx(plain)


def test_accuracy_interval_has_the_binomial_width() -> None:
    gold = np.zeros(1000, int)
    predicted = np.repeat([0, 1], [900, 100])
    score = bootstrap(classes(2), (gold, predicted, None), CLASSIFICATION_METRICS, resamples=4000, seed=3)["accuracy"]
    low, high = stats.binom.interval(0.95, 1000, 0.9)
    assert score.low == pytest.approx(low / 1000, abs=0.003)
    assert score.high == pytest.approx(high / 1000, abs=0.003)


def test_intervals_depend_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_rows()
    first = bootstrap(classes(3), rows, CLASSIFICATION_METRICS, resamples=150, seed=1)
    monkeypatch.setattr(intervals, "BLOCK_VALUES", 200)  # 16 resamples a block instead of 327
    again = bootstrap(classes(3), rows, CLASSIFICATION_METRICS, resamples=150, seed=1)
    for name, score in first.items():
        assert again[name].to_dict() == pytest.approx(score.to_dict(), rel=1e-12)
    assert bootstrap(classes(3), rows, CLASSIFICATION_METRICS, resamples=150, seed=2) != first


def test_a_rare_class_does_not_spoil_the_interval() -> None:
    gold = np.array([0] * 30 + [1])
    probabilities = np.column_stack([np.linspace(0.9, 0.1, 31), np.linspace(0.1, 0.9, 31)])
    scores = bootstrap(
        classes(2), (gold, probabilities.argmax(axis=1), probabilities), CLASSIFICATION_METRICS, resamples=100, seed=0
    )
    assert (scores["roc_auc"].low, scores["roc_auc"].value, scores["roc_auc"].high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("labels", "each"), [(1000, 4), (5, 40)])
def test_an_interval_holds_its_value_and_else_is_that_of_the_percentiles(labels: int, each: int) -> None:
    rng = np.random.default_rng(0)
    gold = np.repeat(np.arange(labels), each)
    predicted = np.where(rng.random(len(gold)) < 0.92, gold, rng.integers(labels, size=len(gold)))
    drawn: list[np.ndarray] = []

    def macro_f1(*arguments: np.ndarray | None) -> dict[str, np.ndarray]:
        *arrays, weights = arguments
        found = classes(labels)(*arrays, weights)["macro_f1"]
        drawn.append(found)
        return {"macro_f1": found}

    score = bootstrap(macro_f1, (gold, predicted, None), CLASSIFICATION_METRICS, 200, 0)["macro_f1"]
    low, high = np.quantile(np.concatenate([part for part in drawn if len(part) > 1]), [0.025, 0.975])
    assert (high < score.value) == (labels == 1000)  # resamples of few rows a label score lower than all rows do
    assert (score.low, score.high) == (pytest.approx(low), pytest.approx(max(high, score.value)))
    assert score.low <= score.value <= score.high


@pytest.mark.parametrize("n", [1, 3, 70])
def test_a_perfect_score_is_not_certain(n: int) -> None:
    gold = np.arange(n) % 2
    limits = stats.binomtest(n, n).proportion_ci(0.95, method="exact")
    right = bootstrap(classes(2), (gold, gold, None), CLASSIFICATION_METRICS, resamples=100, seed=0)["accuracy"]
    assert (right.value, right.low, right.high) == (1.0, pytest.approx(limits.low), 1.0)
    wrong = bootstrap(classes(2), (gold, 1 - gold, None), CLASSIFICATION_METRICS, resamples=100, seed=0)["accuracy"]
    assert (wrong.value, wrong.low, wrong.high) == (0.0, 0.0, pytest.approx(1 - limits.low))
    same = paired(multilabel_statistics, *[(gold[:, None] > 0, gold[:, None] > 0, None)] * 2, 100, 0)
    assert (same["accuracy"].low, same["accuracy"].high) == (0.0, 0.0)


def test_multilabel_and_regression_are_scored() -> None:
    gold, _, probabilities = make_rows()
    sets = gold[:, None] == np.arange(3)
    assert set(
        bootstrap(
            multilabel_statistics, (sets, probabilities > 0.5, probabilities), MULTILABEL_METRICS, resamples=100, seed=0
        )
    ) == {
        "accuracy",
        "macro_f1",
        "micro_f1",
        "weighted_f1",
        "roc_auc",
    }
    scores = bootstrap(regression_statistics, (gold * 1.0, probabilities[:, 1]), REGRESSION_METRICS, 100, 0)
    assert set(scores) == {"mae", "rmse", "pearson", "spearman"}


def test_own_statistic() -> None:
    hits = np.array([1.0, 0.0, 1.0, 1.0])

    def exact_match(values: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"exact_match": values @ weights / weights.sum(axis=0)}

    score = bootstrap(exact_match, (hits,), {"exact_match": Metric("", "")}, resamples=200, seed=0)["exact_match"]
    assert (score.value, score.n) == (0.75, 4)
    with pytest.raises(ValueError, match="equal first axes"):
        bootstrap(exact_match, (hits, np.zeros(3)), {"exact_match": Metric("", "")}, resamples=200, seed=0)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (5, 5), (1, 9), (12, 3), (0, 6), (3, 0)])
def test_the_paired_test_of_shares_is_mcnemars(only_a: int, only_b: int) -> None:
    right_a = np.array([1.0] * only_a + [0.0] * only_b + [1.0, 0.0] * 7)
    right_b = np.array([0.0] * only_a + [1.0] * only_b + [1.0, 0.0] * 7)
    discordant = only_a + only_b
    expected = min(1.0, 2 * stats.binom.cdf(min(only_a, only_b), discordant, 0.5)) if discordant else 1.0
    found = paired(share, (right_a,), (right_b,), 4_000, 0)["share"]
    assert found.p == pytest.approx(expected, abs=0.03)
    assert (found.low <= 0 <= found.high) == (found.p >= 0.05)
    assert (found.p == 1) == (only_a == only_b) and found.value == pytest.approx((only_a - only_b) / len(right_a))


def test_a_paired_difference_is_narrower_than_two_intervals_and_of_every_metric() -> None:
    """Intervals of the two overlap; the test on the same rows tells them apart."""
    gold, predicted, probabilities = make_rows(500)
    better = predicted.copy()
    wrong = np.flatnonzero(better != gold)[:20]
    better[wrong] = gold[wrong]
    a, b = (gold, better, probabilities), (gold, predicted, probabilities)
    differences = paired(classes(3), a, b, 200, 0)
    first, second = (bootstrap(classes(3), one, CLASSIFICATION_METRICS, 200, 0) for one in (a, b))
    assert differences.keys() == first.keys()
    for name in ("accuracy", "macro_f1", "mcc"):
        found = differences[name]
        assert found.value == pytest.approx(first[name].value - second[name].value)
        assert 0 < found.low < found.value < found.high and found.p < 0.01
        assert first[name].low < second[name].high and found.high - found.low < first[name].high - first[name].low
    assert (differences["ece"].value, differences["ece"].p) == (0.0, 1.0)
    numbers = paired(regression_statistics, (gold * 1.0, gold + 0.5), (gold * 1.0, gold - 2.0), 200, 0)
    assert (numbers["mae"].value, numbers["mae"].p < 0.01, numbers["pearson"].p) == (-1.5, True, 1.0)


def share(values: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    return {"share": values @ weights / weights.sum(axis=0)}


CHANCE = "may be chance (−2.0 – 4.0, p = 0.3)"
ACCURACY, ERROR = CLASSIFICATION_METRICS["accuracy"], REGRESSION_METRICS["mae"]


@pytest.mark.parametrize(
    ("difference", "metric", "words"),
    [
        (Difference(0.1, 0.06, 0.14, 9, 0.003), ACCURACY, "10.0 points better (6.0 – 14.0, p = 0.003)"),
        (Difference(-0.1, -0.14, -0.06, 9, 0.003), ACCURACY, "10.0 points worse (6.0 – 14.0, p = 0.003)"),
        (Difference(0.01, -0.02, 0.04, 9, 0.3), ACCURACY, f"no better: 1.0 points more {CHANCE}"),
        (Difference(-0.01, -0.04, 0.02, 9, 0.3), ACCURACY, f"no better: 1.0 points less {CHANCE}"),
        (Difference(0, 0, 0, 9, 1), ACCURACY, "no better: both score the same"),
        (
            Difference(-1e-9, -0.09, 0.09, 9, 1),
            ACCURACY,
            "no better: both score the same on average (−9.0 – 9.0, p = 1)",
        ),
        (
            Difference(-0.1, -0.2, 0.0, 9, 0.06),
            ACCURACY,
            "no better: 10.0 points less may be chance (0.0 – 20.0, p = 0.06)",
        ),
        (Difference(-4e-4, -5e-4, -3e-4, 9, 0.004), ACCURACY, "less than 0.1 points worse (0.0 – 0.1, p = 0.004)"),
        (Difference(4e-4, 3e-4, 5e-4, 9, 0.004), ERROR, "less than 0.001 worse (0.000 – 0.001, p = 0.004)"),
        (Difference(-0.5, -0.7, -0.3, 9, 0.003), ERROR, "0.500 better (0.300 – 0.700, p = 0.003)"),
        (Difference(0.5, 0.3, 0.7, 9, 0.003), ERROR, "0.500 worse (0.300 – 0.700, p = 0.003)"),
    ],
)
def test_a_difference_says_who_is_better_unless_it_may_be_chance(
    difference: Difference, metric: Metric, words: str
) -> None:
    assert difference.verdict(metric) == words


def test_what_a_model_is_not_better_than_is_told_the_worse_news_first() -> None:
    level, worse = Difference(0.01, -0.02, 0.04, 9, 0.3), Difference(-0.1, -0.14, -0.06, 9, 0.003)
    found = {"a": level, "b": Difference(0.1, 0.06, 0.14, 9, 0.003), "c": worse, "d": level}
    assert shortfalls(ACCURACY, found) == [
        f"worse than c by 10.0 points (6.0 – 14.0, p = 0.003); {AGAINST_WORSE}",
        "no better than a and d: the differences may be chance, and more test rows can tell",
    ]
    assert shortfalls(ACCURACY, {"b": found["b"]}) == [] == shortfalls(ACCURACY, {})
