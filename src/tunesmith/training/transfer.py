"""Batches on their way to the device: the host does not wait for them, and keeps what it would have to ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """A batch on `device`, by the same names, shapes and dtypes; what is no tensor stays as it is.

    On a GPU the copies are queued behind the work before them, out of pinned memory, and the host goes on at once. Each
    tensor that was copied has the one it was made from, on the processor, as the attribute ``host_copy``: who needs
    values of a batch on the host (the engine those of its mask) reads them there and waits for nothing. Nothing may
    write into either of the two. Tensors that are on the GPU already are handed on as they are.
    """
    return {name: _moved(value, device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


def _moved(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    moved: Any = values.pin_memory().to(device, non_blocking=True)
    moved.host_copy = values
    return moved  # type: ignore[no-any-return]


@contextmanager
def left_on_host(loader: Any, wanted: bool) -> Iterator[None]:
    """Meanwhile a loader of accelerate leaves its batches where they were made, if that is wanted."""
    from accelerate.data_loader import DataLoaderShard  # not to be imported for predictions

    if not wanted or type(loader) is not DataLoaderShard:
        yield
        return
    device, loader.device = loader.device, None
    try:
        yield
    finally:
        loader.device = device
