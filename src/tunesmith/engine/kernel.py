"""Attention of a packed batch by one fused kernel, on GPUs that have it."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch

Window = tuple[int, int]
"""Keys that a query sees to its left and to its right, -1 for all of them."""


def usable(query: torch.Tensor, dropout: float) -> bool:
    """Whether the kernel takes such queries (…, size): half precision, Ampere or later, no dropout on the shares."""
    return (
        query.device.type == "cuda"
        and query.dtype in (torch.float16, torch.bfloat16)
        and not dropout
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 256
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
        and {"scale", "window_size"} <= _options()
    )


@functools.cache
def _options() -> frozenset[str]:
    """Names of what torch's kernel takes: 2.10 has neither scale nor window, and heads cannot be shared before 2.12."""
    from torch.nn.attention.varlen import varlen_attn  # and with it torch's compiler

    return frozenset(inspect.signature(varlen_attn).parameters)


def window_of(seen: torch.Tensor) -> Window | None:
    """The window that a table bool (length, length) of which query sees which key amounts to; None if it is not one."""
    length = len(seen)
    index = torch.arange(length, device=seen.device)
    distance = index[:, None] - index[None, :]  # how far to the left of the query the key stands
    if not bool(seen.any()):
        return None
    left, right = int(distance[seen].max()), -int(distance[seen].min())
    if left < 0 or right < 0 or not torch.equal(seen, (distance <= left) & (distance >= -right)):
        return None
    return (-1 if left == length - 1 else left, -1 if right == length - 1 else right)


def attend_by_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    boundaries: torch.Tensor,
    longest: int,
    scale: float,
    window: Window,
) -> torch.Tensor:
    """Attention within each sequence, (1, tokens, heads, size).

    Args:
        query: (1, heads, tokens, size); `key` and `value` may have fewer heads, each shared by several of the query.
        boundaries: (n + 1,) int32, where each sequence begins, and the end of the last.
        longest: tokens of the longest sequence.
        scale: factor of the scores.
    """
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    options: dict[str, Any] = {"scale": scale, "window_size": window}
    if q.shape[1] != k.shape[1]:
        if "enable_gqa" in _options():
            options["enable_gqa"] = True
        else:
            k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    out = varlen_attn(q, k, v, boundaries, boundaries, longest, longest, **options)
    assert isinstance(out, torch.Tensor)
    return out[None]
