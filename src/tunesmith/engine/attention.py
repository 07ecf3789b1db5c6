"""Attention within each sequence of a packed batch, as a function that transformers calls in place of its own.

Sequences lie end to end, the longest first, perhaps with filler behind them, which takes no part. They are cut into a
few buckets of similar length; within a bucket every head of every sequence is one matrix of a batched product. What a
bucket is padded by, each sequence's end up to the bucket's width, is masked for keys, and gets no gradient as query.
The model's own mask rule (causal, local window, ...) applies inside each sequence as it would to a batch of one. On a
GPU in half precision a fused kernel does all of it where the rule is a window and no dropout is asked for (`kernel`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tunesmith.engine import kernel
from tunesmith.engine.dropout import Noise

NAME = "tunesmith_packed"
"""Of the attention function among transformers' own."""
STEP = 16
"""Widths of buckets are multiples of this: the processor's softmax is several times slower on other widths."""
PART_COST = 2_800
TOKEN_COST = 3
"""Costs in units of one score: of a bucket, and of one padded token (moving it in and out of the bucket)."""
COUNTS_AN_OCTAVE = 4
"""Of the sequences of a bucket in a filled batch; the rest of them is empty."""
SCORES_PER_BUCKET = 1 << 22
"""Largest bucket, in scores of one head: bounds the memory of long texts."""

Rule = Callable[..., torch.Tensor]
"""(batch, head, query, key) indices → whether the query sees the key: a mask function of transformers."""


class CannotPack(Exception):
    """The model asks for something that packed attention does not do."""


def cut_by_length(lengths: np.ndarray, part_tokens: int) -> list[np.ndarray]:
    """The cheapest partition of rows into parts padded to their longest row.

    A part of r rows of at most t tokens costs ``r · t + part_tokens``. Among rows sorted by length an optimal partition
    is contiguous, so it is found exactly by dynamic programming over the number of rows n, in O(n²).

    Args:
        lengths: (n,) tokens of each row.
        part_tokens: cost of a part beyond its padded tokens.

    Returns:
        Row indices of each part, the longest rows first.
    """
    order = np.argsort(-lengths, kind="stable")
    tokens = lengths[order].astype(np.int64)
    n = len(tokens)
    cost, start = np.zeros(n + 1, dtype=np.int64), np.zeros(n + 1, dtype=np.int64)
    for end in range(1, n + 1):
        begins = np.arange(end)
        # Rows begin..end-1 are padded to row `begin`, the longest of them.
        totals = cost[:end] + (end - begins) * tokens[:end] + part_tokens
        start[end] = totals.argmin()
        cost[end] = totals[start[end]]
    parts, end = [], n
    while end > 0:
        parts.append(order[start[end] : end])
        end = int(start[end])
    return parts[::-1]


def recurring(size: int, an_octave: int, at_least: int = 1) -> int:
    """`size` rounded up to one of so many sizes between a power of two and the next, so that sizes recur.

    Args:
        size: positive.
        at_least: every result is a multiple of this power of two.
    """
    unit = max(at_least, (1 << size.bit_length() - 1) // an_octave)
    return -(-size // unit) * unit


@dataclass(frozen=True)
class Bucket:
    """Sequences of similar length.

    Attributes:
        sequences: their number n.
        width: tokens each is padded to.
        start: first slot of the bucket; slots count (sequence, head, position) over all buckets.
        padding: (n · heads, 1, width) 0 for real keys and very negative for others; None when nothing is padded.
    """

    sequences: int
    width: int
    start: int
    padding: torch.Tensor | None


@dataclass(frozen=True)
class Buckets:
    """How the tokens of a packed batch and the slots of its buckets correspond, for one number of heads.

    Attributes:
        parts: the buckets.
        slots: of all parts together.
        gather: (slots,) for each slot the row of a (tokens · heads, size) matrix; padding takes row 0. With filler one
            more, which belongs to no part.
        scatter: (tokens · heads,) for each row its slot; filler has the one that belongs to no part.
    """

    parts: tuple[Bucket, ...]
    slots: int
    gather: torch.Tensor
    scatter: torch.Tensor


class Sequences:
    """The sequences of a packed batch.

    Args:
        lengths: (n,) tokens of each sequence, in descending order.
        filler: tokens behind the last sequence that belong to none; None where sizes need not recur either.
    """

    def __init__(self, lengths: np.ndarray, device: torch.device, filler: int | None = None) -> None:
        self.lengths, self.device, self.filler = lengths, device, filler
        self._buckets: dict[tuple[int, torch.dtype], Buckets] = {}

    @functools.cached_property
    def boundaries(self) -> torch.Tensor:
        """(n + 1,) int32, where each sequence begins, and the end of the last."""
        ends = np.concatenate([[0], np.cumsum(self.lengths)])
        return torch.from_numpy(ends.astype(np.int32)).to(self.device)

    def buckets(self, heads: int, dtype: torch.dtype) -> Buckets:
        """The buckets for attention with `heads` heads, whose scores have `dtype`."""
        if (heads, dtype) not in self._buckets:
            self._buckets[heads, dtype] = self._make_buckets(heads, dtype)
        return self._buckets[heads, dtype]

    def _make_buckets(self, heads: int, dtype: torch.dtype) -> Buckets:
        widths = -(-self.lengths // STEP) * STEP
        parts, gathers, scatters, slot, token = [], [], [], 0, 0
        for rows in cut_by_length(widths * (widths + TOKEN_COST), PART_COST):
            width = int(widths[rows[0]])
            for piece in np.array_split(rows, -(-len(rows) * width * width // SCORES_PER_BUCKET)):
                count = len(piece) if self.filler is None else recurring(len(piece), COUNTS_AN_OCTAVE)
                lengths = np.pad(self.lengths[piece], (0, count - len(piece)))
                begins = token + np.cumsum(lengths) - lengths
                positions = np.arange(width)
                inside = positions < lengths[:, None]  # (n, width)
                tokens = np.where(inside, begins[:, None] + positions, 0)
                head = np.arange(heads)[:, None]
                gathers.append((np.where(inside, tokens * heads, 0)[:, None] + head * inside[:, None]).reshape(-1))
                at = np.nonzero(inside)
                scatters.append((slot + (at[0] * heads * width + at[1])[:, None] + head.T * width).reshape(-1))
                padding = None
                if not inside.all():
                    bias = torch.zeros(count, 1, 1, width, dtype=dtype)
                    bias.masked_fill_(torch.from_numpy(~inside)[:, None, None], _never(dtype))
                    padding = bias.expand(count, heads, 1, width).reshape(-1, 1, width).to(self.device)
                parts.append(Bucket(count, width, slot, padding))
                slot += count * heads * width
                token += int(lengths.sum())
        if self.filler:
            gathers.append(np.zeros(1, dtype=np.int64))
            scatters.append(np.full(self.filler * heads, slot))
        gather = torch.from_numpy(np.concatenate(gathers))
        scatter = torch.from_numpy(np.concatenate(scatters))
        return Buckets(tuple(parts), slot, gather.to(self.device), scatter.to(self.device))


class PackedMask:
    """Stands in for the attention mask of a packed batch, on its way through the model to the attention function.

    Args:
        sequences: of the batch.
        rule: what each query sees within its sequence.
        noise: for dropout.
    """

    def __init__(self, sequences: Sequences, rule: Rule, noise: Noise | None) -> None:
        self.sequences, self.rule, self.noise = sequences, rule, noise
        self._hidden: dict[torch.dtype, torch.Tensor | None] = {}

    @functools.cached_property
    def seen(self) -> torch.Tensor:
        """(longest, longest) bool, which query sees which key by the rule."""
        width = -(-int(self.sequences.lengths[0]) // STEP) * STEP
        index = torch.arange(width, device=self.sequences.device)
        zero = index.new_zeros(())
        return self.rule(zero, zero, index[:, None], index[None, :]).expand(width, width)

    @functools.cached_property
    def window(self) -> kernel.Window | None:
        """The rule as a window, where it is one."""
        return kernel.window_of(self.seen)

    def hidden(self, dtype: torch.dtype) -> torch.Tensor | None:
        """(1, longest, longest) very negative where the rule hides a key, else 0; None where it hides nothing."""
        if dtype not in self._hidden:
            table = torch.zeros(1, *self.seen.shape, dtype=dtype, device=self.seen.device)
            self._hidden[dtype] = None if bool(self.seen.all()) else table.masked_fill_(~self.seen, _never(dtype))
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
    ends = [bucket.start for bucket in buckets.parts[1:]] + [buckets.slots]
    for bucket, end in zip(buckets.parts, ends, strict=True):
        yield (bucket, *(x[bucket.start : end].view(-1, bucket.width, x.shape[1]) for x in tensors))


def _wide(dtype: torch.dtype) -> torch.dtype:
    """What a softmax over scores of `dtype` is computed in."""
    return torch.promote_types(dtype, torch.float32)


def _never(dtype: torch.dtype) -> float:
    """A score whose share is exactly 0. Not -inf: a padded query may see no key, and 0 / 0 would spread."""
    return torch.finfo(dtype).min / 4


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
    sequences = attention_mask.sequences
    window = attention_mask.window if kernel.usable(query, dropout) else None
    if window is not None:
        longest = int(sequences.lengths[0])
        return kernel.attend_by_kernel(query, key, value, sequences.boundaries, longest, scale, window), None
    if heads != key.shape[1]:
        groups = heads // key.shape[1]
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    hidden = attention_mask.hidden(query.dtype)
    rows = [x.transpose(1, 2).reshape(tokens * heads, x.shape[-1]) for x in (query, key, value)]
    noise = functools.partial(_mask, attention_mask.noise, dropout, query) if dropout else None
    buckets = sequences.buckets(heads, query.dtype)
    out: torch.Tensor = _Attention.apply(*rows, buckets, hidden, scale, noise)  # type: ignore[no-untyped-call]
    return out.view(1, tokens, heads, value.shape[-1]), None


def _mask(noise: Noise | None, p: float, like: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    if noise is not None and like.device.type == "cpu" and like.dtype.itemsize in (2, 4):
        return noise.mask(shape, p, like.dtype)
    return torch.empty(shape, dtype=like.dtype, device=like.device).bernoulli_(1 - p).div_(1 - p)


_packed: ContextVar[tuple[Sequences, Noise | None] | None] = ContextVar("_packed", default=None)


@contextmanager
def packed_masks(sequences: Sequences, noise: Noise | None) -> Iterator[None]:
    """Within it, the masks that models make are `PackedMask`s of `sequences`."""
    token = _packed.set((sequences, noise))
    try:
        yield
    finally:
        _packed.reset(token)


def make_mask(**arguments: Any) -> Any:
    """The mask function that goes with `attend`; see `transformers.masking_utils.AttentionMaskInterface`."""
    packed = _packed.get()
    if packed is None:
        return sdpa_mask(**arguments)
    if arguments.get("use_vmap"):
        raise CannotPack("its mask has a rule of its own")
    return PackedMask(packed[0], arguments["mask_function"], packed[1])


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, make_mask)
