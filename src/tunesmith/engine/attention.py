"""Attention within each sequence of a packed batch, as a function that transformers calls in place of its own.

Sequences lie end to end, the longest first, perhaps with filler behind them, which takes no part. They are cut into a
few buckets of similar length; within a bucket every head of every sequence is one matrix of a batched product. What a
bucket is padded by, each sequence's end up to the bucket's width, is masked for keys, and gets no gradient as query.
The model's own mask rule (causal, local window, ...) applies inside each sequence as it would to a batch of one. On a
GPU a fused kernel does all of it where the rule is a window (`kernel`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tunesmith.engine import kernel
from tunesmith.engine.dropout import Noise
from tunesmith.engine.layout import STEP, Bucket, Buckets, PackedLayout, never

NAME = "tunesmith_packed"
"""Of the attention function among transformers' own."""
Rule = Callable[..., torch.Tensor]
"""(batch, head, query, key) indices → whether the query sees the key: a mask function of transformers."""


class CannotPack(Exception):
    """The model asks for something that packed attention does not do."""


class PackedMask:
    """Stands in for the attention mask of a packed batch, on its way through the model to the attention function.

    Args:
        rule: what each query sees within its sequence.
        noise: for dropout.
    """

    def __init__(self, layout: PackedLayout, rule: Rule, noise: Noise | None) -> None:
        self.layout, self.rule, self.noise = layout, rule, noise
        self._hidden: dict[torch.dtype, torch.Tensor | None] = {}

    @functools.cached_property
    def seen(self) -> torch.Tensor:
        """(longest, longest) bool, which query sees which key by the rule."""
        width = -(-int(self.layout.lengths[0]) // STEP) * STEP
        return kernel.table_of(self.rule, width, self.layout.device)

    @functools.cached_property
    def window(self) -> kernel.Window | None:
        """The rule as a window, where it is one."""
        return kernel.window_of_rule(self.rule, self.layout.longest, self.layout.device)

    def at(self, place: Any) -> PackedMask:
        """The same rule for texts that lie elsewhere; `place` knows what a fused kernel asks for."""
        moved = PackedMask(place, self.rule, self.noise)
        moved.window = self.window
        return moved

    def hidden(self, dtype: torch.dtype) -> torch.Tensor | None:
        """(1, longest, longest) very negative where the rule hides a key, else 0; None where it hides nothing."""
        if dtype not in self._hidden:
            table = torch.zeros(1, *self.seen.shape, dtype=dtype, device=self.seen.device)
            self._hidden[dtype] = None if bool(self.seen.all()) else table.masked_fill_(~self.seen, never(dtype))
        return self._hidden[dtype]


class _Attention(torch.autograd.Function):
    """softmax(scale · Q Kᵀ + mask) with dropout, times V, for each sequence and head (Vaswani et al. 2017)."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        buckets: Buckets,
        hidden: torch.Tensor | None,
        scale: float,
        noise: Callable[[torch.Size], torch.Tensor] | None,
    ) -> torch.Tensor:
        """Outputs (tokens · heads, size) for three matrices of that shape."""
        q, k, v = (x.index_select(0, buckets.gather) for x in (query, key, value))
        out, kept = torch.empty_like(v), []
        out[buckets.slots :] = 0
        for bucket, a, b, c, o in _parts(buckets, q, k, v, out):
            scores = torch.baddbmm(_bias(bucket, hidden, a), a, b.transpose(1, 2), alpha=scale)
            shares = scores.to(_wide(a.dtype)).softmax(dim=-1).to(a.dtype)
            mask = None if noise is None else noise(shares.shape)
            torch.bmm(shares if mask is None else shares * mask, c, out=o)
            kept += [shares, mask]
        ctx.save_for_backward(q, k, v, *kept)
        ctx.buckets, ctx.scale = buckets, scale
        return out.index_select(0, buckets.scatter)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        q, k, v, *kept = ctx.saved_tensors
        buckets: Buckets = ctx.buckets
        padded = grad.new_zeros(v.shape).index_copy_(0, buckets.scatter, grad)
        grads = [torch.empty_like(x) for x in (q, k, v)]
        for x in grads:
            x[buckets.slots :] = 0
        for i, (_, a, b, c, g, to_q, to_k, to_v) in enumerate(_parts(buckets, q, k, v, padded, *grads)):
            shares, mask = kept[2 * i : 2 * i + 2]
            torch.bmm((shares if mask is None else shares * mask).transpose(1, 2), g, out=to_v)
            upstream = torch.bmm(g, c.transpose(1, 2))
            if mask is not None:
                upstream.mul_(mask)
            wide = _wide(a.dtype)
            scores = torch._softmax_backward_data(upstream.to(wide), shares.to(wide), -1, wide)
            scores = scores.mul_(ctx.scale).to(a.dtype)
            torch.bmm(scores, b, out=to_q)
            torch.bmm(scores.transpose(1, 2), a, out=to_k)
        return (*(x.index_select(0, buckets.scatter) for x in grads), None, None, None, None)


def _parts(buckets: Buckets, *tensors: torch.Tensor) -> Any:
    """Each bucket with its slots of the tensors (slots, size), as (sequences · heads, width, size)."""
    for bucket in buckets.parts:
        yield (bucket, *(x[bucket.start : bucket.end].view(-1, bucket.width, x.shape[1]) for x in tensors))


def _wide(dtype: torch.dtype) -> torch.dtype:
    """What a softmax over scores of `dtype` is computed in."""
    return torch.promote_types(dtype, torch.float32)


def _bias(bucket: Bucket, hidden: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    if hidden is None:
        return like.new_zeros(1, 1, 1) if bucket.padding is None else bucket.padding
    inside = hidden[:, : bucket.width, : bucket.width]
    return inside if bucket.padding is None else inside + bucket.padding


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """The attention function that transformers' layers call.

    Args:
        query: (1, heads, tokens, size); `key` and `value` may have fewer heads, each shared by several of the query.
        attention_mask: a `PackedMask`; with any other mask this is transformers' own function.
        dropout: probability, 0 outside training.
        scaling: factor of the scores, 1 / √size by default.

    Returns:
        (1, tokens, heads, size), and None for the attention weights.

    Raises:
        CannotPack: position biases, capped scores or sinks.
    """
    if not isinstance(attention_mask, PackedMask):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    special = [name for name in ("position_bias", "softcap", "s_aux", "head_mask") if options.get(name) is not None]
    if special:
        raise CannotPack(f"its attention uses {special[0]}")
    _, heads, tokens, size = query.shape
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    scale = size**-0.5 if scaling is None else float(scaling)
    layout = attention_mask.layout
    fused = kernel.choose(query, value, attention_mask)
    if fused is not None and attention_mask.window is not None:
        place = (layout.boundaries, layout.longest, scale, attention_mask.window, dropout)
        return kernel.attend_by_kernel(fused, query, key, value, *place), None
    if heads != key.shape[1]:
        groups = heads // key.shape[1]
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    hidden = attention_mask.hidden(query.dtype)
    rows = [x.transpose(1, 2).reshape(tokens * heads, x.shape[-1]) for x in (query, key, value)]
    noise = functools.partial(_mask, attention_mask.noise, dropout, query) if dropout else None
    buckets = layout.buckets(heads, query.dtype)
    out: torch.Tensor = _Attention.apply(*rows, buckets, hidden, scale, noise)  # type: ignore[no-untyped-call]
    return out.view(1, tokens, heads, value.shape[-1]), None


def _mask(noise: Noise | None, p: float, like: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    if noise is not None and like.device.type == "cpu" and like.dtype.itemsize in (2, 4):
        return noise.mask(shape, p, like.dtype)
    return torch.empty(shape, dtype=like.dtype, device=like.device).bernoulli_(1 - p).div_(1 - p)


running: ContextVar[tuple[PackedLayout, Noise] | None] = ContextVar("running", default=None)
"""The packed batch that runs through a model now: the masks that the model makes are `PackedMask`s of it."""


def make_mask(**arguments: Any) -> Any:
    """The mask function that goes with `attend`; see `transformers.masking_utils.AttentionMaskInterface`."""
    batch = running.get()
    if batch is None:
        return sdpa_mask(**arguments)
    if arguments.get("use_vmap"):
        raise CannotPack("its mask has a rule of its own")
    layout, noise = batch
    return PackedMask(layout, arguments["mask_function"], noise)


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, make_mask)
