"""Order and shape of batches, as functions of (seed, epoch, position) and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sized
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from tunesmith.engine.layout import cut_by_length

PART_TOKENS = 200
"""What one more part of a batch costs, in tokens: its call overhead, and casting the weights to the precision of the
products."""


class EpochSampler(Sampler[int]):
    """A permutation of the data that depends on the seed and the epoch alone, so that a resumed run sees the same.

    Args:
        data: anything with a length.
        seed: of the run.
    """

    def __init__(self, data: Sized, seed: int) -> None:
        self.size, self.seed, self.epoch = len(data), seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        yield from np.random.default_rng((self.seed, self.epoch)).permutation(self.size).tolist()


def trim_padding(batch: dict[str, Any], keys: Collection[str], left: bool = False) -> dict[str, Any]:
    """Cut the columns of a batch that hold padding only; a batch without a mask is returned as it is.

    Args:
        batch: tensors, among them ``attention_mask`` (n, length).
        keys: of the tensors (n, length) that are cut, the mask among them; none leaves the batch as it is.
        left: cut padding on the left, too. Positions that are counted from there change.
    """
    mask = batch.get("attention_mask")
    if not keys or not isinstance(mask, torch.Tensor) or mask.ndim != 2:
        return batch
    used = mask.any(dim=0).nonzero()
    if len(used) == 0:
        return batch
    first, last = int(used[0]) if left else 0, int(used[-1]) + 1
    if (first, last) == (0, mask.shape[1]):
        return batch
    return {key: value[:, first:last].contiguous() if key in keys else value for key, value in batch.items()}


def split_by_length(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Cut a padded batch into parts of similar length (still as wide as the batch: trim each before it is run).

    The loss of a step is a sum divided once, so the parts add up to the same step, whatever the cut.

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
    parts = [torch.from_numpy(part) for part in cut_by_length(mask.sum(dim=1).cpu().numpy(), PART_TOKENS)]
    if len(parts) == 1:
        return [batch]
    return [{key: v[rows] if isinstance(v, torch.Tensor) else v for key, v in batch.items()} for rows in parts]
