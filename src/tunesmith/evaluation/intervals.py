"""How sure a score is: bootstrap intervals and paired tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tunesmith.evaluation.metrics import Arrays, Floats, Metric, Metrics, Scores, Statistics, num_rows, unweighted

# Resamples are scored in blocks of about 2**16 weights (512 KB of float64), which stay in the processor's cache: on
# 3,080 rows and 77 classes, 1,000 resamples took 1.4 s against 2.1 s with 2**20. Blocks of many rows hold at least 16
# resamples, as each block sorts the scores anew.
BLOCK_VALUES = 2**16
MIN_BLOCK = 16
AGAINST_WORSE = "try another method, another model, more examples, or more training.epochs where it trains by steps"
SIGNIFICANT = 0.05
"""A difference whose p-value is not below may be chance."""


@dataclass(frozen=True)
class Score:
    """A measured value with its 95 % interval.

    Attributes:
        value: the score on the rows as they are.
        low, high: limits of the 95 % interval.
        n: number of rows behind it.
    """

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int]:
        """The score as it stands in run.json."""
        return asdict(self)

    def text(self, metric: Metric) -> str:
        """The score as text, in percent where `metric` is a proportion: 93.8 % with its limits in brackets."""
        return f"{metric.value_text(self.value)} ({self.limits(metric)})"

    def limits(self, metric: Metric) -> str:
        """The limits alone: ``92.9 – 94.6``; a single row tells none of what is no share."""
        if self.n == 1 and self.low == self.high:
            return "one row, no interval"
        return " – ".join(metric.value_text(limit).removesuffix(" %") for limit in (self.low, self.high))

    def __str__(self) -> str:
        """``0.938 (0.929 – 0.946)``: a plain number, since a score knows not what it measures."""
        return self.text(Metric("", "", is_proportion=False))


@dataclass(frozen=True)
class Difference(Score):
    """What one model scores more than another on the same rows, with its 95 % interval; see `paired`.

    Attributes:
        p: probability of a difference at least as large, were both equally good.
    """

    p: float

    def standing(self, metric: Metric) -> Literal["better", "worse", "no better"]:
        """How the first model stands to the second: no better, too, where the difference may be chance."""
        if self.p >= SIGNIFICANT:
            return "no better"
        return "better" if (self.value > 0) == metric.higher_is_better else "worse"

    def verdict(self, metric: Metric) -> str:
        """``4.1 points better (3.0 – 5.2, p = 0.001)``, or what else is to be said of the first model."""
        if self.value == self.low == self.high == 0:
            return "no better: both score the same"
        stands, size = self.standing(metric), self.size(metric)
        if stands == "no better":
            if size == replace(self, value=0.0).size(metric):
                return f"no better: both score the same on average ({self.how_sure(metric)})"
            return f"no better: {size} {'more' if self.value > 0 else 'less'} may be chance ({self.how_sure(metric)})"
        if size == replace(self, value=0.0).size(metric):
            size = f"less than {replace(self, value=0.001).size(metric)}"  # the last digit that is shown
        return f"{size} {stands} ({self.how_sure(metric)})"

    def size(self, metric: Metric) -> str:
        """How far both are apart: ``4.1 points``, or ``0.123``."""
        return _points(abs(self.value), metric) + (" points" if metric.is_proportion else "")

    def how_sure(self, metric: Metric) -> str:
        """The limits of that, and the test: ``3.0 – 5.2, p = 0.001``."""
        low, high = sorted((-self.low, -self.high) if self.value < 0 else (self.low, self.high))
        return f"{_points(low, metric)} – {_points(high, metric)}, p = {self.p:.2g}"


def _points(value: float, metric: Metric) -> str:
    text = f"{100 * value:z.1f}" if metric.is_proportion else f"{value:z.3f}"  # z: no zero with a sign
    return text.replace("-", "−")


def shortfalls(metric: Metric, differences: Mapping[str, Difference]) -> list[str]:
    """What a person should know first: what a model is worse than, and what it is no better than.

    Args:
        differences: of the model less each of those beside it, by their names.
    """
    stands = {name: found.standing(metric) for name, found in differences.items()}
    level = [name for name in stands if stands[name] == "no better"]
    worse = [
        f"{name} by {found.size(metric)} ({found.how_sure(metric)})"
        for name, found in differences.items()
        if stands[name] == "worse"
    ]
    said = [f"worse than {' and '.join(worse)}; {AGAINST_WORSE}"] if worse else []
    differences_of = "the differences" if len(level) > 1 else "the difference"
    advice = f"{differences_of} may be chance, and more test rows can tell"
    return [*said, f"no better than {' and '.join(level)}: {advice}"] if level else said


def bootstrap(statistics: Statistics, arrays: Arrays, metrics: Metrics, resamples: int, seed: int) -> dict[str, Score]:
    """Scores with percentile 95 % intervals (Efron & Tibshirani 1993, chapter 13), resampling rows.

    Args:
        statistics: ``(*arrays, weights) -> {name: (B,)}`` for weights float64 (n, B), the number of times each row
            counts in each resample; NaN where a score is undefined. See `tunesmith.evaluation.metrics`.
        arrays: what is scored, with equal first axis n; None is passed through.
        metrics: what the names stand for.
        resamples: number of resamples.
        seed: of the resampling; equal seeds give equal intervals.

    Returns:
        A `Score` per metric that is defined on the rows as they are. Resamples in which it is undefined (no row of a
        class was drawn) do not count for its interval. A share of exactly 1 or 0, which every resample repeats, gets
        the exact binomial limits instead (Clopper & Pearson 1934): 70 of 70 right is 94.9 to 100 %, not certainty.

        Some scores are biased in resamples (macro F1 over a thousand labels with four rows each, the calibration
        error), and percentiles can then all lie on one side of the value. The bias-corrected percentiles of Efron
        (1987, Better bootstrap confidence intervals, JASA 82) would move every interval, and do not exist where every
        draw lies on one side; so the limits stay the plain percentiles, and an interval that lies beside its value is
        extended to it, no more. On the side of the value such an interval is too short rather than too long.
    """
    found = _intervals(statistics, arrays, resamples, seed)
    for name, score in found.items():
        if metrics[name].is_proportion and metrics[name].higher_is_better:
            edges = exact_limits(np.array([0, score.n]), np.array([score.n, score.n]))
            if score.value == score.low == 1:
                found[name] = replace(score, low=float(edges[0][1]))
            elif score.value == score.high == 0:
                found[name] = replace(score, high=float(edges[1][0]))
    return found


def paired(
    statistics: Statistics, arrays_a: Arrays, arrays_b: Arrays, resamples: int, seed: int
) -> dict[str, Difference]:
    """The difference a - b of each metric that both have, with a 95 % interval and a test.

    Both are scored on the same resamples of the same rows, so what makes rows hard or easy cancels out. The test
    exchanges the answers of a and b at random, row by row (approximate randomisation: Noreen 1989, Yeh 2000): if they
    are equally good, a difference as large as the one found is as likely then. Of shares of right rows it is McNemar's
    test (1947). Where it finds that the difference may be chance, the interval reaches 0: if a and b differ on few rows
    only, resamples are too much alike. Arguments as in `bootstrap`.
    """
    n, split = num_rows((*arrays_a, *arrays_b)), len(arrays_a)

    def difference(*arguments: Any) -> Scores:
        *arrays, weights = arguments
        a, b = statistics(*arrays[:split], weights), statistics(*arrays[split:], weights)
        return {name: a[name] - b[name] for name in a if name in b}

    both = [None if a is None or b is None else np.concatenate([a, b]) for a, b in zip(arrays_a, arrays_b, strict=True)]

    def exchanged(stays: Floats) -> Scores:
        a, b = (statistics(*both, np.concatenate(sides)) for sides in ((stays, 1 - stays), (1 - stays, stays)))
        return {name: a[name] - b[name] for name in a}

    draws = _drawn(exchanged, n, lambda generator: generator.integers(2, size=n), resamples, seed)
    found = {}
    for name, one in _intervals(difference, (*arrays_a, *arrays_b), resamples, seed).items():
        as_large = np.abs(draws[name]) >= abs(one.value) * (1 - 1e-9) if name in draws else np.ones(resamples)
        p = float((1 + as_large.sum()) / (1 + resamples))
        low, high = (min(one.low, 0.0), max(one.high, 0.0)) if p >= SIGNIFICANT else (one.low, one.high)
        found[name] = Difference(one.value, low, high, one.n, p)
    return found


def exact_limits(hits: NDArray[Any], total: NDArray[Any]) -> tuple[Floats, Floats]:
    """Limits of the 95 % interval of a share (Clopper & Pearson 1934): (n,) each, for `hits` of `total` rows (n,)."""
    from scipy.special import betaincinv

    low = np.where(hits > 0, betaincinv(hits, total - hits + 1, 0.025), 0.0)
    high = np.where(hits < total, betaincinv(hits + 1, total - hits, 0.975), 1.0)
    return low, high


def _intervals(statistics: Statistics, arrays: Arrays, resamples: int, seed: int) -> dict[str, Score]:
    """Every metric that is defined on the rows as they are."""
    n = num_rows(arrays)

    def draw(generator: np.random.Generator) -> NDArray[Any]:
        return np.bincount(generator.integers(n, size=n), minlength=n)

    draws, scores = _drawn(lambda weights: statistics(*arrays, weights), n, draw, resamples, seed), {}
    for name, value in unweighted(statistics, arrays).items():
        if np.isfinite(value):
            defined = draws[name][np.isfinite(draws[name])]
            low, high = np.quantile(defined, [0.025, 0.975]) if defined.size else (value, value)
            scores[name] = Score(value, min(float(low), value), max(float(high), value), n)
    return scores


def _drawn(
    statistics: Callable[[Floats], Scores],
    n: int,
    draw: Callable[[np.random.Generator], NDArray[Any]],
    resamples: int,
    seed: int,
) -> Scores:
    """Every score (resamples,) of weights (n,) that are drawn; they do not depend on the size of the blocks."""
    generator, blocks = np.random.default_rng(seed), []
    size = max(MIN_BLOCK, BLOCK_VALUES // n)
    for start in range(0, resamples, size):
        weights = np.empty((min(size, resamples - start), n))
        for row in weights:
            row[:] = draw(generator)
        blocks.append(statistics(np.ascontiguousarray(weights.T)))
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
