"""Mix-up (Zhang et al. 2018) of pooled vectors, for the method that solves for its head."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from tunesmith.config import Config
from tunesmith.data.augmentation.rows import amounts
from tunesmith.data.augmentation.techniques import Materials

ALPHA = 0.4
"""Of the Beta(alpha, alpha) distribution of a pair's shares; Zhang et al. recommend 0.1 to 0.4."""


class MixUp:
    """Works on vectors during training; edits no text."""

    edits_text: ClassVar[bool] = False
    needs_entity: ClassVar[bool] = False

    def __init__(self, materials: Materials) -> None: ...

    @classmethod
    def objection(cls, config: Config, kind: str) -> str | None:
        if config.method.name != "features":
            return f"mixes pooled features; use --method features, found {config.method.name}"
        return None if kind not in ("ner", "qa") else f"mixes one vector a text, and {kind} learns from every token"


class Mixed(NamedTuple):
    """Rows to solve for.

    Attributes:
        vectors: (n, hidden) float32.
        targets: as in `Method.solve`.
        weights: (n,) how much each row counts, or None for all the same.
    """

    vectors: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None


def mix(vectors: np.ndarray, targets: np.ndarray, pairs: int, seed: int) -> Mixed:
    """The rows, then convex combinations of `pairs` pairs of them: share a of the first, share 1 - a of the second.

    A loss that is linear in the target, as the logistic one is, makes a mixed target the same as two rows of one vector
    with the two targets and the weights a and 1 - a; that is what classes and labels become, exactly. Numbers are mixed
    as the vectors are. The first of a pair comes from rare classes more often, as text edits do.
    """
    draw = np.random.default_rng([seed, pairs])
    classes = targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer)
    strata = targets + 1 if classes else _rarest(targets)
    keys = draw.permutation(len(vectors)).astype(np.uint64)
    first = np.repeat(np.arange(len(vectors)), amounts(strata, pairs, keys))
    second = draw.integers(len(vectors), size=pairs)
    share = draw.beta(ALPHA, ALPHA, size=pairs).astype(np.float32)
    weighed = share[:, None] * vectors[first] + (1 - share[:, None]) * vectors[second]
    if targets.ndim == 1 and np.issubdtype(targets.dtype, np.floating):
        numbers = share * targets[first] + (1 - share) * targets[second]
        rows = np.concatenate([vectors, weighed])
        return Mixed(rows, np.concatenate([targets, numbers]), np.ones(len(rows)))
    return Mixed(
        np.concatenate([vectors, weighed, weighed]),
        np.concatenate([targets, targets[first], targets[second]]),
        np.concatenate([np.ones(len(vectors)), share, 1 - share]),
    )


def _rarest(targets: np.ndarray) -> np.ndarray:
    """For several labels a row the rarest of them, from 1, 0 for none; for numbers 0: int64 (n,)."""
    if targets.ndim == 1:
        return np.zeros(len(targets), dtype=np.int64)
    rows = np.where(targets > 0.5, targets.sum(axis=0), np.inf)
    return np.where(np.isfinite(rows).any(axis=1), rows.argmin(axis=1) + 1, 0)
