"""Where the real tokens of a padded batch are, in its packed form, and in the buckets that attention works on."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
import torch

SIZES_AN_OCTAVE, SMALLEST_STEP = 16, {"cpu": 8, "cuda": 64}
"""Sizes of filled batches: a thirty-second of the tokens is filler on average, a sixteenth at most; of few tokens up to
a step less one, which by device is what costs nothing."""
BLOCK = 128
"""Tokens of a sequence that a fused kernel works on together."""
STEP = 16
"""Widths of buckets are multiples of this: the processor's softmax is several times slower on other widths."""
PART_COST = 2_800
TOKEN_COST = 3
"""Costs in units of one score: of a bucket, and of one padded token (moving it in and out of the bucket)."""
COUNTS_AN_OCTAVE = 4
"""Of the sequences of a bucket in a filled batch; the rest of them is empty."""
SCORES_PER_BUCKET = 1 << 22
"""Largest bucket, in scores of one head: bounds the memory of long texts."""


@dataclass(frozen=True)
class Bucket:
    """Sequences of similar length.

    Attributes:
        width: tokens each of the n is padded to.
        start, end: its slots, which count (sequence, head, position) over all buckets.
        padding: (n · heads, 1, width) 0 for real keys and very negative for others; None when nothing is padded.
    """

    width: int
    start: int
    end: int
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


class PackedLayout:
    """The real tokens of a padded batch, its longest sequence first.

    Args:
        mask: (batch, length), nonzero for real tokens; a row without any is left out. Where it has the attribute
            ``host_copy``, the device is not waited for.
        filled: the packed form ends with copies of its first token, so that its size recurs from batch to batch. They
            belong to no sequence: they see nothing, are seen by nothing, and do not come back from the packed form.

    Attributes:
        shape: (batch, length).
        rows: (n,) the batch's rows with tokens, the longest first.
        lengths: (n,) their numbers of tokens.
        contiguous: whether no row has padding between its tokens.
        filler: number of these copies.
    """

    def __init__(self, mask: torch.Tensor, filled: bool = False) -> None:
        self.device, self.shape = mask.device, (int(mask.shape[0]), int(mask.shape[1]))
        real = on_host(mask).numpy() != 0
        lengths = real.sum(axis=1)
        order = np.argsort(-lengths, kind="stable")
        self.rows = order[lengths[order] > 0]
        self.lengths = lengths[self.rows]
        kept = real[self.rows]
        spans = self.shape[1] - kept.argmax(axis=1) - kept[:, ::-1].argmax(axis=1)
        self.contiguous = bool((spans == self.lengths).all())
        row, self._columns = np.nonzero(kept)
        self.tokens, self._recurs = len(row), filled
        step = SMALLEST_STEP.get(self.device.type, 1)
        size = recurring(self.tokens, SIZES_AN_OCTAVE, step) if filled and self.tokens else self.tokens
        self.filler = size - self.tokens
        flat = self.rows[row] * self.shape[1] + self._columns
        self._places = np.stack([np.pad(x, (0, self.filler), constant_values=x[:1]) for x in (flat, self._columns)])
        self._buckets: dict[tuple[int, torch.dtype], Buckets] = {}

    @functools.cached_property
    def _there(self) -> torch.Tensor:
        """(2, tokens + filler) place of each token in the flattened padded batch, and its column."""
        return uploaded(self._places, self.device)

    @property
    def positions(self) -> torch.Tensor:
        """(1, tokens + filler) column of each token in the padded batch, as transformers counts them."""
        return self._there[1:]

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """(batch, length, ...) → (1, tokens + filler, ...)."""
        return padded.reshape(-1, *padded.shape[2:]).index_select(0, self._there[0])[None]

    def fill(self, packed: torch.Tensor) -> torch.Tensor:
        """(1, tokens, ...) → (1, tokens + filler, ...)."""
        if not self.filler:
            return packed
        return torch.cat([packed, packed[:, :1].expand(-1, self.filler, *packed.shape[2:])], dim=1)

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """(1, tokens + filler, ...) → (batch, length, ...), zero where there is padding."""
        empty = packed.new_zeros(self.shape[0] * self.shape[1], *packed.shape[2:])
        places = self._there[0, : self.tokens]
        return empty.index_copy_(0, places, packed[0, : self.tokens]).view(*self.shape, *packed.shape[2:])

    def keys(self, *features: torch.Tensor | None) -> list[bytes]:
        """For each of `rows`, a hash of its real tokens: their columns and `features` (batch, length), some absent."""
        places = self._places[0, : self.tokens]
        given = [on_host(x).numpy().reshape(-1)[places].astype(np.int64) for x in features if x is not None]
        texts = np.split(np.stack([self._columns, *given], axis=1), np.cumsum(self.lengths))[:-1]
        return [hashlib.blake2b(text.tobytes(), digest_size=16).digest() for text in texts]

    @functools.cached_property
    def boundaries(self) -> torch.Tensor:
        """(batch + 2,) int32, where each sequence begins and the next one ends: those of the rows with tokens, empty
        ones for the other rows, and one of the filler, whose states must be finite."""
        ends = np.full(self.shape[0] + 2, self.tokens, dtype=np.int32)
        ends[0], ends[1 : len(self.lengths) + 1], ends[-1] = 0, np.cumsum(self.lengths), self.tokens + self.filler
        return uploaded(ends, self.device)

    @property
    def longest(self) -> int:
        """No sequence has more tokens: `BLOCK` times a power of two, so that it recurs."""
        blocks = -(-max(int(self.lengths[0]), self.filler) // BLOCK)
        return BLOCK << (blocks - 1).bit_length()

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
                count = recurring(len(piece), COUNTS_AN_OCTAVE) if self._recurs else len(piece)
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
                    bias.masked_fill_(torch.from_numpy(~inside)[:, None, None], never(dtype))
                    padding = bias.expand(count, heads, 1, width).reshape(-1, 1, width).to(self.device)
                parts.append(Bucket(width, slot, slot + count * heads * width, padding))
                slot = parts[-1].end
                token += int(lengths.sum())
        if self.filler:
            gathers.append(np.zeros(1, dtype=np.int64))
            scatters.append(np.full(self.filler * heads, slot))
        gather = torch.from_numpy(np.concatenate(gathers))
        scatter = torch.from_numpy(np.concatenate(scatters))
        return Buckets(tuple(parts), slot, gather.to(self.device), scatter.to(self.device))


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in the memory of the processor; the device is waited for where no copy is known."""
    known = known_on_host(tensor)
    return tensor.detach().cpu() if known is None else known


def known_on_host(tensor: torch.Tensor) -> torch.Tensor | None:
    """What a tensor on a device was made from, in the memory of the processor; None where that is not known."""
    known: torch.Tensor | None = getattr(tensor, "host_copy", None)
    written = known is not None and not tensor.is_inference() and tensor._version > 0
    return None if written else known


def uploaded(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """The array on a device, which is not waited for."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def never(dtype: torch.dtype) -> float:
    """A score whose share is exactly 0. Not -inf: a padded query may see no key, and 0 / 0 would spread."""
    return torch.finfo(dtype).min / 4


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
