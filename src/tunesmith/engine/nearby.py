"""States of frozen layers on a GPU: kept there, in front of those on disk, and brought to the disk meanwhile.

Bringing states from the disk to a GPU takes longer than the layers that made them; and a step that waited until they
are written would take several times as long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from tunesmith.engine.cache import StateStore

SHARE = 0.2
"""Of the memory that is free when the first states come, what they may take."""
ON_THE_WAY = 8
"""Batches of states that may be on their way to the disk."""


class Nearby:
    """Token states of one store by key, as long as there is room; empty on a processor."""

    def __init__(self, store: StateStore) -> None:
        self.store = store
        self._rows: dict[bytes, torch.Tensor] = {}
        self._room: int | None = None
        self._stored = store.keys()
        self._thread: ThreadPoolExecutor | None = None
        self._moving: deque[Future[None]] = deque()

    def get(self, keys: Sequence[bytes]) -> torch.Tensor | None:
        """States of all `keys` end to end, (total tokens, width); None if one is not known."""
        if self._rows and all(key in self._rows for key in keys):
            return torch.cat([self._rows[key] for key in keys])
        if self._moving and any(key not in self._stored for key in keys):
            return None
        self.settle()
        return self.store.get(keys)

    def keep(self, keys: Sequence[bytes], lengths: Sequence[int], states: torch.Tensor) -> None:
        """Keep states (total tokens, width) of texts with so many tokens on the device, if there is room."""
        if not on_gpu(states) or self.store.reason is not None:
            return
        if self._room is None:
            self._room = int(SHARE * torch.cuda.mem_get_info(states.device)[0])
        size = states.numel() * states.itemsize
        if size <= self._room:
            self._room -= size
            self._rows |= zip(keys, torch.split(states.detach(), list(lengths)), strict=True)

    def put(self, keys: Sequence[bytes], lengths: Sequence[int], states: torch.Tensor) -> None:
        """Keep states here, and in the store: on a GPU after the call has returned."""
        self.keep(keys, lengths, states)
        if not on_gpu(states) or self.store.reason is not None:
            self.settle()
            self.store.put(keys, lengths, states)
            return
        coming = coming_to_host(states)

        def write() -> None:
            self.store.put(keys, lengths, coming())
            self._stored.update(keys)

        if len(self._moving) >= ON_THE_WAY:
            self._moving.popleft().result()
        self._thread = self._thread or ThreadPoolExecutor(1, "states")
        self._moving.append(self._thread.submit(write))

    def settle(self) -> None:
        """Wait until the store has everything that was put."""
        while self._moving:
            self._moving.popleft().result()

    def free(self) -> None:
        """Keep nothing on the device."""
        self._rows, self._room = {}, 0


def on_gpu(states: torch.Tensor) -> bool:
    """Whether states are where bringing them to the disk, or from it, takes long."""
    return states.is_cuda


def coming_to_host(states: torch.Tensor) -> Callable[[], torch.Tensor]:
    """A function that waits for a copy of `states` in the memory of the processor, and returns it."""
    here = torch.empty(states.shape, dtype=states.dtype, pin_memory=True).copy_(states.detach(), non_blocking=True)
    arrived: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()

    def wait() -> torch.Tensor:
        arrived.synchronize()
        return here

    return wait
