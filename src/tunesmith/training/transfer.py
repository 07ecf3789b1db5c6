"""Batches on their way to the device: the host does not wait for them, and keeps what it would have to ask for."""

from __future__ import annotations

from typing import Any

import torch


def to_device(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """A batch on `device`, by the same names, shapes and dtypes.

    On a GPU the copies are queued behind the work before them, out of pinned memory, and the host goes on at once. Each
    tensor that was copied has the one it was made from, on the processor, as the attribute ``host_copy``: who needs
    values of a batch on the host (the engine those of its mask) reads them there and waits for nothing. Nothing may
    write into either of the two. Tensors that are on the GPU already are handed on as they are.
    """
    if device.type != "cuda":
        return {name: values.to(device) for name, values in batch.items()}
    return {name: values if values.is_cuda else _queued(values, device) for name, values in batch.items()}


def _queued(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    moved: Any = values.pin_memory().to(device, non_blocking=True)
    moved.host_copy = values
    return moved  # type: ignore[no-any-return]
