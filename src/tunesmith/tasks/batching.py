"""Encoded texts as batches: padded arrays, and rows of similar length together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.tasks.base import Head
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
        import torch

        return {name: torch.from_numpy(array) for name, array in self.arrays(items).items()}

    def arrays(self, items: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """``input_ids`` (n, longest) int64, ``attention_mask`` alike, ``token_type_ids`` and ``labels`` if given."""
        batch = {"input_ids": self._pad([item["input_ids"] for item in items], self.pad_token_id)}
        batch["attention_mask"] = self._pad([np.ones(len(item["input_ids"])) for item in items], 0)
        if "token_type_ids" in items[0]:
            batch["token_type_ids"] = self._pad([item["token_type_ids"] for item in items], 0)
        if "labels" not in items[0]:
            return batch
        labels = [item["labels"] for item in items]
        if self.head in ("token", "masked"):
            batch["labels"] = self._pad(labels, IGNORED)
        else:
            batch["labels"] = np.stack(labels)
        if self.head == "masked":
            batch[PREDICTED] = batch["labels"] != IGNORED
        return batch

    def _pad(self, rows: Sequence[Any], value: int) -> np.ndarray:
        padded = np.full((len(rows), max(1, *map(len, rows))), value, dtype=np.int64)
        for out, row in zip(padded, rows, strict=True):
            start = len(out) - len(row) if self.padding_side == "left" else 0
            out[start : start + len(row)] = row
        return padded


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
