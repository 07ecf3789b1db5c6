"""Length-split steps: a batch is cut into parts of similar length, so that little of the work is padding.

The loss of a step is a sum divided once, so the parts add up to the same step, whatever the cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

PART_TOKENS = 200
"""What one more part costs, in tokens: its call overhead, and casting the weights to the precision of the products."""


def cut_by_length(lengths: np.ndarray, part_tokens: int = PART_TOKENS) -> list[np.ndarray]:
    """The cheapest partition of rows into parts padded to their longest row.

    A part of r rows of at most t tokens costs ``r · t + part_tokens``. Among rows sorted by length an optimal partition
    is contiguous, so it is found exactly by dynamic programming over the number of rows n, in O(n²).

    Args:
        lengths: (n,) tokens of each row.
        part_tokens: cost of a part beyond its padded tokens.

    Returns:
        Row indices of each part, the longest rows first.
    """
    order = np.argsort(-lengths, kind="stable")
    tokens = lengths[order].astype(np.int64)
    n = len(tokens)
    cost, start = np.zeros(n + 1, dtype=np.int64), np.zeros(n + 1, dtype=np.int64)
    for end in range(1, n + 1):
        begins = np.arange(end)
        # Rows begin..end-1 are padded to row `begin`, the longest of them.
        totals = cost[:end] + (end - begins) * tokens[:end] + part_tokens
        start[end] = totals.argmin()
        cost[end] = totals[start[end]]
    parts, end = [], n
    while end > 0:
        parts.append(order[start[end] : end])
        end = int(start[end])
    return parts[::-1]


def recurring(size: int, an_octave: int, at_least: int = 1) -> int:
    """`size` rounded up to one of so many sizes between a power of two and the next, so that sizes recur.

    Args:
        size: positive.
        at_least: every result is a multiple of this power of two.
    """
    unit = max(at_least, (1 << size.bit_length() - 1) // an_octave)
    return -(-size // unit) * unit


def split_by_length(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Cut a padded batch into parts of similar length (still as wide as the batch: trim each before it is run).

    Args:
        batch: tensors whose first axis is the row, among them ``attention_mask`` (n, length). A batch without one is
            returned whole.
    """
    mask = batch.get("attention_mask")
    if not isinstance(mask, torch.Tensor) or mask.ndim != 2:
        return [batch]
    n = mask.shape[0]
    if any(isinstance(value, torch.Tensor) and value.shape[:1] != (n,) for value in batch.values()):
        return [batch]
    parts = cut_by_length(mask.sum(dim=1).cpu().numpy())
    if len(parts) == 1:
        return [batch]
    return [_rows(batch, torch.from_numpy(rows)) for rows in parts]


def _rows(batch: dict[str, Any], rows: torch.Tensor) -> dict[str, Any]:
    return {key: value[rows] if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
