"""Order and shape of batches, as functions of (seed, epoch, position) and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from tunesmith.engine.attention import cut_by_length
from tunesmith.tasks.base import Head
from tunesmith.tasks.losses import IGNORED

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


@dataclass(frozen=True)
class PaddingCollator:
    """Pads encoded texts to the longest of the batch.

    Attributes:
        pad_token_id: fills ``input_ids``.
        padding_side: ``"right"`` or ``"left"``.
        token_labels: ``labels`` have one value a token.
    """

    pad_token_id: int
    padding_side: str = "right"
    token_labels: bool = False

    @classmethod
    def of(cls, tokenizer: Any, head: Head = "sequence") -> PaddingCollator:
        """For a tokenizer and what is learned; outputs for tokens are easiest found where padding is on the right."""
        side = str(tokenizer.padding_side) if head == "sequence" else "right"
        return cls(int(tokenizer.pad_token_id), side, head == "token")

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """``input_ids`` (n, longest) int64, ``attention_mask`` alike, ``token_type_ids`` and ``labels`` if given."""
        rows = [np.asarray(item["input_ids"]) for item in items]
        batch = {"input_ids": self._pad(rows, self.pad_token_id)}
        batch["attention_mask"] = self._pad([np.ones(len(row), dtype=np.int64) for row in rows], 0)
        if "token_type_ids" in items[0]:
            batch["token_type_ids"] = self._pad([np.asarray(item["token_type_ids"]) for item in items], 0)
        if "labels" in items[0] and self.token_labels:
            batch["labels"] = self._pad([np.asarray(item["labels"]) for item in items], IGNORED)
        elif "labels" in items[0]:
            batch["labels"] = torch.from_numpy(np.stack([np.asarray(item["labels"]) for item in items]))
        return batch

    def _pad(self, rows: Sequence[np.ndarray], value: int) -> torch.Tensor:
        padded = np.full((len(rows), max(1, *(len(row) for row in rows)) if rows else 1), value, dtype=np.int64)
        for out, row in zip(padded, rows, strict=True):
            if len(row) and self.padding_side == "left":
                out[-len(row) :] = row
            else:
                out[: len(row)] = row
        return torch.from_numpy(padded)


def batches_by_tokens(lengths: np.ndarray, max_tokens: int, max_rows: int) -> list[np.ndarray]:
    """Cut rows, sorted by length, into batches of at most `max_tokens` padded tokens; longest first.

    The longest come first so that a batch that does not fit into memory fails at once.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        size = min(max_rows, max(1, max_tokens // longest))
        batches.append(order[start : start + size])
        start += size
    return batches


def trim_padding(batch: dict[str, Any]) -> dict[str, Any]:
    """Cut the columns of a batch that hold padding only, on either side; a batch without a mask is returned as it is.

    Args:
        batch: tensors of which those shaped (n, length) like ``attention_mask`` are cut.
    """
    mask = batch.get("attention_mask")
    if mask is None or mask.ndim != 2 or mask.shape[1] == 0:
        return batch
    used = mask.any(dim=0).nonzero()
    if len(used) == 0 or len(used) == mask.shape[1]:
        return batch
    first, last = int(used[0]), int(used[-1]) + 1
    if (first, last) == (0, mask.shape[1]):
        return batch
    return {
        key: value[:, first:last] if isinstance(value, torch.Tensor) and value.shape[:2] == mask.shape else value
        for key, value in batch.items()
    }


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
    parts = cut_by_length(mask.sum(dim=1).cpu().numpy(), PART_TOKENS)
    if len(parts) == 1:
        return [batch]
    rows = [torch.from_numpy(part) for part in parts]
    return [{key: v[r] if isinstance(v, torch.Tensor) else v for key, v in batch.items()} for r in rows]
