"""Where the real tokens of a padded batch are, and how they move between it and the packed form."""

from __future__ import annotations

import functools
import hashlib

import numpy as np
import torch

from tunesmith.engine.attention import Sequences, recurring

SIZES_AN_OCTAVE, SMALLEST_STEP = 16, 8
"""Sizes of filled batches: a thirty-second of the tokens is filler on average, a sixteenth at most (of few: seven)."""


class PackedLayout:
    """The real tokens of a padded batch, its longest sequence first.

    Args:
        mask: (batch, length), nonzero for real tokens; a row without any is left out.
        filled: the packed form ends with copies of its first token, so that its size recurs from batch to batch. They
            belong to no sequence: they see nothing, are seen by nothing, and do not come back from the packed form.

    Attributes:
        shape: (batch, length).
        rows: (n,) the batch's rows with tokens, the longest first.
        lengths: (n,) their numbers of tokens.
        contiguous: whether no row has padding between its tokens.
        filled: as given.
        filler: number of these copies.
    """

    def __init__(self, mask: torch.Tensor, filled: bool = False) -> None:
        self.device, self.shape = mask.device, (int(mask.shape[0]), int(mask.shape[1]))
        real = mask.detach().cpu().numpy() != 0
        lengths = real.sum(axis=1)
        order = np.argsort(-lengths, kind="stable")
        self.rows = order[lengths[order] > 0]
        self.lengths = lengths[self.rows]
        kept = real[self.rows]
        spans = self.shape[1] - kept.argmax(axis=1) - kept[:, ::-1].argmax(axis=1)
        self.contiguous = bool((spans == self.lengths).all())
        at = np.nonzero(kept)
        self._flat = torch.from_numpy(self.rows[at[0]] * self.shape[1] + at[1]).to(self.device)
        self._columns = at[1]
        self.filled = filled
        self.filler = (
            recurring(self.tokens, SIZES_AN_OCTAVE, SMALLEST_STEP) - self.tokens if filled and self.tokens else 0
        )

    @property
    def tokens(self) -> int:
        """Number of real tokens."""
        return len(self._flat)

    @functools.cached_property
    def sequences(self) -> Sequences:
        """What attention needs to know of the packed form."""
        return Sequences(self.lengths, self.device, self.filler if self.filled else None)

    @functools.cached_property
    def positions(self) -> torch.Tensor:
        """(1, tokens + filler) column of each token in the padded batch, as transformers counts them."""
        return self.fill(torch.from_numpy(self._columns)[None].to(self.device))

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """(batch, length, ...) → (1, tokens + filler, ...)."""
        return self.fill(padded.reshape(-1, *padded.shape[2:]).index_select(0, self._flat)[None])

    def fill(self, packed: torch.Tensor) -> torch.Tensor:
        """(1, tokens, ...) → (1, tokens + filler, ...)."""
        if not self.filler:
            return packed
        return torch.cat([packed, packed[:, :1].expand(-1, self.filler, *packed.shape[2:])], dim=1)

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """(1, tokens + filler, ...) → (batch, length, ...), zero where there is padding."""
        empty = packed.new_zeros(self.shape[0] * self.shape[1], *packed.shape[2:])
        return empty.index_copy_(0, self._flat, packed[0, : self.tokens]).view(*self.shape, *packed.shape[2:])

    def keys(self, *features: torch.Tensor | None) -> list[bytes]:
        """For each of `rows`, a hash of its real tokens: their columns and `features` (batch, length), some absent."""
        given = [
            self.pack(feature)[0, : self.tokens].cpu().numpy().astype(np.int64)
            for feature in features
            if feature is not None
        ]
        ends = np.cumsum(self.lengths)
        stacked = np.ascontiguousarray(np.stack([self._columns, *given], axis=1))
        return [
            hashlib.blake2b(stacked[end - length : end].tobytes(), digest_size=16).digest()
            for end, length in zip(ends, self.lengths, strict=True)
        ]
