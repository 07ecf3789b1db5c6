"""Encoded texts as batches: padded arrays, and rows of similar length together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.tasks.base import Head
from tunesmith.tasks.encoded import LEARNED, READ, Encoded
from tunesmith.tasks.encoding import IGNORED

if TYPE_CHECKING:
    import torch

PREDICTED = "predicted"
"""Name of the input that says, by a bool (n, length), at which tokens a masked-language head is wanted."""


@dataclass(frozen=True)
class PaddingCollator:
    """Pads encoded texts to the longest of the batch.

    Attributes:
        pad_token_id: fills ``input_ids``.
        padding_side: ``"right"`` or ``"left"``.
        head: what is learned; ``labels`` of tokens are padded, too.
    """

    pad_token_id: int
    padding_side: str = "right"
    head: Head = "sequence"

    @classmethod
    def of(cls, tokenizer: Any, head: Head = "sequence") -> PaddingCollator:
        """For a tokenizer and what is learned; outputs for tokens are easiest found where padding is on the right."""
        side = str(tokenizer.padding_side) if head == "sequence" else "right"
        return cls(int(tokenizer.pad_token_id), side, head)

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """`arrays` as tensors."""
        return _tensors(self.arrays(items))

    def rows(self, encoded: Encoded, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """What a model reads to answer for some rows, as tensors; ``labels`` only where `encoded` reads them."""
        return _tensors(self._padded(encoded.joined(rows), encoded.lengths[rows]))

    def arrays(self, items: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """``input_ids`` (n, longest) int64, ``attention_mask`` alike, ``token_type_ids`` and ``labels`` if given."""
        names = LEARNED if self.head in ("token", "masked") else READ
        joined = {name: np.concatenate([item[name] for item in items]) for name in names if name in items[0]}
        batch = self._padded(joined, np.array([len(item["input_ids"]) for item in items]))
        if "labels" in items[0] and "labels" not in batch:
            batch["labels"] = np.array([item["labels"] for item in items])
        return batch

    def _padded(self, joined: Mapping[str, np.ndarray], lengths: np.ndarray) -> dict[str, np.ndarray]:
        columns = np.arange(max(1, int(lengths.max())))
        left = self.padding_side == "left"
        real = columns >= len(columns) - lengths[:, None] if left else columns < lengths[:, None]
        batch = {}
        for name, values in joined.items():
            filling = {"input_ids": self.pad_token_id, "labels": IGNORED}.get(name, 0)
            batch[name] = np.full(real.shape, filling, dtype=np.int64)
            batch[name][real] = values
        batch["attention_mask"] = real.astype(np.int64)
        if self.head == "masked" and "labels" in batch:
            batch[PREDICTED] = batch["labels"] != IGNORED
        return batch


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    import torch

    return {name: torch.from_numpy(array) for name, array in arrays.items()}


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
