"""Attention of a packed batch by one fused kernel, on GPUs: those of torch's `scaled_dot_product_attention`.

That function takes padded batches. The operators below it, which torch's nested tensors use as well, also take rows
that lie end to end, with dropout on the shares: flash attention (Dao 2023) in half precision from Ampere on, and the
memory-efficient kernel (Rabe and Staats 2021; Lefaudeux et al. 2022) on older cards and in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from types import FunctionType
from typing import Any, Protocol

import torch

Window = tuple[int, int]
"""Keys that a query sees to its left and to its right, -1 for all of them."""
Kernel = Callable[..., torch.Tensor]
"""(query, key, value, boundaries, longest, scale, window, dropout) → outputs; see `attend_by_kernel`."""
ALL, CAUSAL = (-1, -1), (-1, 0)


class HasWindow(Protocol):
    """A mask."""

    @property
    def window(self) -> Window | None:
        """The window that its rule amounts to."""


FLASH_OPTIONS = {"scale", "window_size_left", "window_size_right"}
FLASH_SIZE = 192
"""Largest head whose backward pass flash attention has on every card."""

_windows: dict[Hashable, Window | None] = {}


def choose(query: torch.Tensor, value: torch.Tensor, mask: HasWindow) -> Kernel | None:
    """The kernel that takes such queries and values (…, size), and such a mask; None for none, as on a processor."""
    size, half = query.shape[-1], query.dtype in (torch.float16, torch.bfloat16)
    if query.device.type != "cuda" or size != value.shape[-1] or size % 8:
        return None
    window = mask.window
    if window is None:
        return None
    modern = torch.cuda.get_device_capability(query.device) >= (8, 0)
    if half and modern and size <= FLASH_SIZE and _has_flash():
        return flash
    if window in (ALL, CAUSAL) and (modern or query.dtype in (torch.float16, torch.float32)):
        return efficient
    return None


def _has_flash() -> bool:
    """Whether torch's operator has all of it: its windows came later."""
    options = torch.ops.aten._flash_attention_forward.default._schema.arguments
    return {option.name for option in options} >= FLASH_OPTIONS


def window_of_rule(rule: Callable[..., torch.Tensor], width: int, device: torch.device) -> Window | None:
    """The window that a mask rule of transformers amounts to within `width` tokens; None if it is not one.

    Args:
        rule: (batch, head, query, key) indices → whether the query sees the key. What is a function of numbers alone is
            looked at once, on the processor.
        device: of the tensors that a rule may hold.
    """
    try:
        name = (_made_of(rule), width)
    except TypeError:  # it holds tensors
        return window_of(table_of(rule, width, device))
    if name not in _windows:
        _windows[name] = window_of(table_of(rule, width, torch.device("cpu")))
    return _windows[name]


def table_of(rule: Callable[..., torch.Tensor], width: int, device: torch.device) -> torch.Tensor:
    """(width, width) bool, which query sees which key by the rule."""
    index = torch.arange(width, device=device)
    zero = index.new_zeros(())
    return rule(zero, zero, index[:, None], index[None, :]).expand(width, width)


def _made_of(value: Any) -> Hashable:
    """The code of a function and what it closes over, down to numbers and names.

    Raises:
        TypeError: it holds something else.
    """
    if isinstance(value, FunctionType):
        defaults = value.__defaults__, tuple((value.__kwdefaults__ or {}).items())
        cells = tuple(cell.cell_contents for cell in value.__closure__ or ())
        return value.__code__, _made_of(defaults), _made_of(cells)
    if isinstance(value, tuple | list):
        return tuple(map(_made_of, value))
    if value is None or isinstance(value, int | float | str):
        return value
    raise TypeError(type(value).__name__)


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
    kernel: Kernel,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    boundaries: torch.Tensor,
    longest: int,
    scale: float,
    window: Window,
    dropout: float,
) -> torch.Tensor:
    """Attention within each sequence, (1, tokens, heads, size).

    Args:
        kernel: as `choose` found it.
        query: (1, heads, tokens, size); `key` and `value` may have fewer heads, each shared by several of the query.
        boundaries: (n + 1,) int32, where each sequence begins, and the end of the last. A sequence may be empty; the
            outputs of tokens in none of them are undefined.
        longest: no sequence has more tokens.
        scale: factor of the scores.
        dropout: probability that a share is set to zero.
    """
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    return kernel(q, k, v, boundaries, longest, scale, window, dropout)[None]


def flash(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    boundaries: torch.Tensor,
    longest: int,
    scale: float,
    window: Window,
    dropout: float,
) -> torch.Tensor:
    """Flash attention over (tokens, heads, size), in half precision."""
    ends, (left, right) = (boundaries, boundaries, longest, longest), window
    options = {"scale": scale, "window_size_left": left, "window_size_right": right}
    causal = window == CAUSAL
    found = torch.ops.aten._flash_attention_forward(q, k, v, *ends, dropout, causal, False, **options)
    out: torch.Tensor = found[0]
    return out


def efficient(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    boundaries: torch.Tensor,
    longest: int,
    scale: float,
    window: Window,
    dropout: float,
) -> torch.Tensor:
    """Memory-efficient attention over (tokens, heads, size); it has no window but that of a causal model."""
    if q.shape[1] != k.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    longest = min(longest, len(q))  # its backward pass asks for that
    ends = (boundaries, boundaries, longest, longest)
    causal, grad = int(window == CAUSAL), torch.is_grad_enabled()  # 1: each key from its own place on
    rows = (x[None] for x in (q, k, v))
    found = torch.ops.aten._efficient_attention_forward(*rows, None, *ends, dropout, causal, grad, scale=scale)
    out: torch.Tensor = found[0][0]
    return out
