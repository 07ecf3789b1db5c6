"""States of frozen layers on the GPU, in front of those on disk: bringing them there takes longer than the layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

SHARE = 0.2
"""Of the memory that is free when the first states come, what they may take."""


class Nearby:
    """Token states by key, as long as there is room; empty on a processor."""

    def __init__(self) -> None:
        self._rows: dict[bytes, torch.Tensor] = {}
        self._room = 0

    def get(self, keys: Sequence[bytes]) -> torch.Tensor | None:
        """States of all `keys` end to end, (total tokens, width); None if one is not there."""
        if not self._rows or any(key not in self._rows for key in keys):
            return None
        return torch.cat([self._rows[key] for key in keys])

    def put(self, keys: Sequence[bytes], lengths: Sequence[int], states: torch.Tensor) -> None:
        """Keep states (total tokens, width) of texts with so many tokens, if they are on a GPU and fit."""
        if not states.is_cuda:
            return
        if not self._rows:
            self._room = int(SHARE * torch.cuda.mem_get_info(states.device)[0])
        size = states.numel() * states.itemsize
        if size <= self._room:
            self._room -= size
            self._rows |= zip(keys, torch.split(states.detach(), list(lengths)), strict=True)
