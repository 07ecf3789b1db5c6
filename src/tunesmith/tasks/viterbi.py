"""The best tag sequence among those that are allowed (Viterbi 1967)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ROWS_AT_ONCE = 256
FORBIDDEN = -1e30


def best_paths(scores: Sequence[np.ndarray], allowed: np.ndarray, first: np.ndarray) -> list[np.ndarray]:
    """The path of the largest sum of scores through each sequence.

    Args:
        scores: (length, tags) float for each sequence; lengths may differ and may be 0.
        allowed: bool (tags, tags), whether the second may follow the first.
        first: bool (tags,), which may stand at the beginning.

    Returns:
        Indices of the tags, int64 (length,) for each sequence.
    """
    paths: list[np.ndarray] = [np.empty(0, dtype=np.int64) for _ in scores]
    order = sorted((i for i in range(len(scores)) if len(scores[i])), key=lambda i: -len(scores[i]))
    for start in range(0, len(order), ROWS_AT_ONCE):
        rows = order[start : start + ROWS_AT_ONCE]
        for row, path in zip(rows, _batch([scores[i] for i in rows], allowed, first), strict=True):
            paths[row] = path
    return paths


def _batch(scores: list[np.ndarray], allowed: np.ndarray, first: np.ndarray) -> list[np.ndarray]:
    """`best_paths` of sequences that are not empty, longest first."""
    lengths = np.array([len(part) for part in scores])
    transition = np.where(allowed, 0.0, FORBIDDEN)
    total = np.stack([part[0] for part in scores]) + np.where(first, 0.0, FORBIDDEN)
    came_from = np.empty((lengths[0], len(scores), len(first)), dtype=np.int32)
    for at in range(1, lengths[0]):
        alive = int(np.searchsorted(-lengths, -at))  # those longer than `at`
        through = total[:alive, :, None] + transition
        came_from[at, :alive] = through.argmax(axis=1)
        total[:alive] = through.max(axis=1) + np.stack([part[at] for part in scores[:alive]])
    paths = []
    for row, length in enumerate(lengths):
        path = np.empty(length, dtype=np.int64)
        path[-1] = total[row].argmax()
        for at in range(length - 1, 0, -1):
            path[at - 1] = came_from[at, row, path[at]]
        paths.append(path)
    return paths
