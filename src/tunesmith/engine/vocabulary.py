"""The compact vocabulary: only embedding rows of tokens that occur are trained, and the result is the same model.

The row of a token that no text holds gets no gradient. An element-wise optimizer leaves it alone, except that decoupled
weight decay (Loshchilov and Hutter 2019) shrinks it by (1 - lr · weight_decay) at every step, which a single number can
keep track of. So the parameter, its gradient and its moments hold the other rows only. State dicts stay whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tunesmith.engine.layout import known_on_host
from tunesmith.engine.part import SWITCHED_OFF, Part
from tunesmith.errors import ModelError, TunesmithError
from tunesmith.models.depth import token_embedding

ROWS_AT_ONCE = 8192
"""Rows that are compared in one go, so that comparing two tables needs no third one."""
STEPS_AT_ONCE = 256
"""Steps of which it is asked together whether they were taken."""
ELEMENTWISE = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad)
"""Optimizers whose step on an element depends on that element's own history alone, and is zero if that was zero."""


class Vocabulary(Part):
    """Trains the embedding rows of the given tokens while it is attached.

    Attach it before the optimizer is made, `follow` the optimizer, and `detach` it when training is over. Meanwhile the
    model's state dict is that of the plain model, and can be loaded from it.

    Args:
        token_ids: ids of every token that training may meet, in any order, repeated or not; integer, any shape. None
            trains the whole table.

    Attributes:
        embedding: what stands in the place of the model's token embeddings, once it is attached.

    Raises:
        ModelError: a token id is not in the model's table.
    """

    name = "vocabulary"

    def __init__(self, model: nn.Module, token_ids: np.ndarray | None) -> None:
        self._model = model
        self._place, self._plain = _token_embedding(model)
        self._rows = np.empty(0, dtype=np.int64)
        self._reason: str | None = SWITCHED_OFF if token_ids is None else self._unsuitable(token_ids)
        self.embedding: CompactEmbedding | None = None
        self._followed: torch.optim.Optimizer | None = None

    def _unsuitable(self, token_ids: np.ndarray) -> str | None:
        embedding = self._plain
        if type(embedding) is not nn.Embedding or self._place is None:
            return "the model has no plain table of token embeddings"
        weight = embedding.weight
        uses = [name for name, p in self._model.named_parameters(remove_duplicate=False) if p is weight]
        if len(uses) > 1:
            return f"the token embeddings are used in several places ({', '.join(uses)})"
        if type(weight) is not nn.Parameter or weight.is_meta or not weight.is_floating_point():
            return "the token embeddings are quantised, distributed or not in memory"
        if not weight.requires_grad:
            return "the token embeddings are frozen"
        if embedding.max_norm is not None or embedding.scale_grad_by_freq or embedding.sparse:
            return "the token embeddings use max_norm, scale_grad_by_freq or sparse gradients"
        if embedding._forward_hooks or embedding._forward_pre_hooks or embedding._backward_hooks:
            return "the token embeddings have hooks"
        rows = np.unique(token_ids).astype(np.int64)
        if len(rows) and not 0 <= rows[0] <= rows[-1] < len(weight):
            raise ModelError(
                f"expected token ids from 0 to {len(weight) - 1}, the rows of the model's table, found "
                f"{rows[0]} to {rows[-1]}; use the tokenizer that belongs to the model"
            )
        self._rows = rows if embedding.padding_idx is None else np.union1d(rows, [embedding.padding_idx])
        if self._bytes_saved() <= 0:
            return f"the texts use {len(self._rows):,} of {len(weight):,} tokens, so nothing would be saved"
        return None

    def why_not(self) -> str | None:
        return self._reason

    def attach(self) -> None:
        if self._reason is None:
            self.embedding = CompactEmbedding(self._plain, self._rows)
            parent, _, name = str(self._place).rpartition(".")
            self._owner = self._model.get_submodule(parent), name
            setattr(*self._owner, self.embedding)

    def detach(self) -> None:
        if self.embedding is not None and getattr(*self._owner) is self.embedding:
            setattr(*self._owner, self.embedding.to_plain())
        if self._followed is not None:
            self._hook.remove()

    def save(self) -> dict[str, Any]:
        return {} if self.embedding is None else {"unused_rows_decay": self.embedding.decay}

    def load(self, kept: dict[str, Any]) -> None:
        if self.embedding is not None and "unused_rows_decay" in kept:
            self.embedding.decay = float(kept["unused_rows_decay"])

    def figures(self) -> dict[str, Any]:
        return {"rows": len(self._rows), "of": len(self._plain.weight), "bytes_saved": self._bytes_saved()}

    def _bytes_saved(self) -> int:
        """Memory that a step of Adam needs less: a gradient and two moments of the other rows, minus what the kept rows
        and their ids take up a second time."""
        (total, width), kept = self._plain.weight.shape, len(self._rows)
        row = width * self._plain.weight.element_size()
        return int(3 * row * (total - kept) - row * kept - 4 * total - 8 * kept)

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the unused rows decay as `optimizer` would have made them; calling it again changes nothing.

        Args:
            optimizer: torch's own, not the wrapper of accelerate.

        Raises:
            ModelError: it would move unused rows in a way that is not followed.
            TunesmithError: it does not train the compact embedding, and is not the one that was followed before.
        """
        if optimizer is self._followed or self.embedding is None:
            return
        if refusal := unsuitable_optimizer(optimizer):
            raise ModelError(f"{refusal}; leave out `token_ids` to train the whole vocabulary")
        if _group_of(optimizer, self.embedding.weight) is None:
            raise TunesmithError(
                "the optimizer was expected to train the compact vocabulary, but does not know it; "
                "make the optimizer after the vocabulary is attached"
            )
        self._followed = optimizer
        self._hook = optimizer.register_step_post_hook(self._after_step)

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        # A scheduler changes the learning rate after the step, so the group still holds the one that was used.
        assert self.embedding is not None
        weight = self.embedding.weight
        if weight.grad is None:  # frozen in this step: skipped, weight decay included
            return
        # A fused optimizer is called even if a gradient overflowed, and skips the step by itself.
        skipped = getattr(optimizer, "found_inf", None)
        group = _group_of(optimizer, weight)
        if group is not None:
            self.embedding.shrink(1 - float(group["lr"]) * float(group["weight_decay"]), skipped)

    @contextmanager
    def knowing(self, ids: torch.Tensor) -> Iterator[None]:
        """Meanwhile the embedding need not ask the device whether it has the rows of these tokens, where the host knows
        them and it has."""
        on_host = known_on_host(ids)
        if self.embedding is None or on_host is None:
            yield
            return
        self.embedding.knows_all = bool((self.embedding.compact_on_host[on_host.numpy()] >= 0).all())
        try:
            yield
        finally:
            self.embedding.knows_all = False


def unsuitable_optimizer(optimizer: torch.optim.Optimizer) -> str | None:
    """Why an optimizer would move unused rows in a way that `Vocabulary` does not follow, or None.

    Adafactor, for one, scales its step by the root mean square of the whole table; weight decay that is added to the
    gradient passes through the moments.
    """
    if type(optimizer) not in ELEMENTWISE:
        return f"{type(optimizer).__name__} is not known to update every weight by itself"
    if any(group["weight_decay"] and not group.get("decoupled_weight_decay") for group in optimizer.param_groups):
        return f"{type(optimizer).__name__} adds the weight decay to the gradient"
    return None


class CompactEmbedding(nn.Embedding):
    """Token embeddings whose parameter holds some rows of the table; made by `Vocabulary`.

    Takes token ids of the whole vocabulary, and its state dict holds the whole table. ``num_embeddings`` and
    ``padding_idx`` are those of the whole table. Writing a state dict costs one copy of the table if `decay` is not 1.

    Args:
        plain: the table (total, width); kept, and used for the rows that are not trained.
        rows: (kept,) int64, which rows are trained.

    Attributes:
        weight: (kept, width) the trained rows.
        decay: the other rows are those of `plain` times this product, float64. Plain training in float32 rounds at
            every step instead, by which it strays from the product: by some 1e-4 in 5,000 steps.
    """

    _plain: nn.Embedding
    compact_ids: torch.Tensor
    kept_ids: torch.Tensor

    def __init__(self, plain: nn.Embedding, rows: np.ndarray) -> None:
        kept_ids = torch.from_numpy(rows).to(plain.weight.device)
        trained = plain.weight.detach()[kept_ids]
        super().__init__(len(rows), plain.embedding_dim, _weight=trained)
        self.num_embeddings, self.padding_idx = plain.num_embeddings, plain.padding_idx
        self.training = plain.training
        self.decay, self.knows_all = 1.0, False
        # Past `nn.Module`, so that its table is no parameter of the model. Its trained rows are out of date.
        object.__setattr__(self, "_plain", plain)
        compact_ids = torch.full((len(plain.weight),), -1, dtype=torch.int32, device=kept_ids.device)
        compact_ids[kept_ids] = torch.arange(len(kept_ids), dtype=torch.int32, device=kept_ids.device)
        self.compact_on_host = compact_ids.cpu().numpy()
        self.register_buffer("compact_ids", compact_ids, persistent=False)
        self.register_buffer("kept_ids", kept_ids, persistent=False)
        self._padding_row = None if self.padding_idx is None else int(compact_ids[self.padding_idx])

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Vectors (..., width) of token ids (...), int32 or int64.

        Raises:
            ModelError: in training, a token whose row is not trained; otherwise its vector is returned.
        """
        ids = self.compact_ids.index_select(0, input.reshape(-1)).view(input.shape)
        if self.knows_all:
            return F.embedding(ids, self.weight, self._padding_row)
        unknown = ids < 0
        if not unknown.any():
            return F.embedding(ids, self.weight, self._padding_row)
        if self.training and self.weight.requires_grad and torch.is_grad_enabled():
            raise ModelError(
                "expected in training only the tokens that the compact vocabulary was made from, found the token ids "
                f"{sorted(set(input[unknown].tolist()))[:5]}; make it from every text, or train the whole vocabulary"
            )
        vectors = F.embedding(ids.clamp(min=0), self.weight, self._padding_row)
        vectors[unknown] = self._plain.weight.detach()[input[unknown]] * self.decay
        return vectors

    @property
    def decay(self) -> float:
        for factor, skipped in self._shrunk:
            if not skipped.item():
                self._decay *= factor
        self._shrunk.clear()
        return self._decay

    @decay.setter
    def decay(self, value: float) -> None:
        self._decay, self._shrunk = value, list[tuple[float, torch.Tensor]]()

    def shrink(self, factor: float, skipped: torch.Tensor | None) -> None:
        """A step made the rows that are not trained so many times as large, unless `skipped` (scalar) is not zero."""
        if skipped is None:
            self.decay *= factor
            return
        self._shrunk.append((factor, skipped))  # the device is not waited for
        if len(self._shrunk) > STEPS_AT_ONCE:
            self.decay *= 1.0

    @torch.no_grad()
    def to_plain(self) -> nn.Embedding:
        """The embedding that this was made from, with the present table, mode and `requires_grad`."""
        plain = self._plain
        plain.weight.mul_(self.decay).index_copy_(0, self.kept_ids, self.weight)
        self.decay = 1.0
        plain.requires_grad_(self.weight.requires_grad)
        return plain.train(self.training)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> CompactEmbedding:
        self._plain._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        whole = self._plain.weight.detach()  # without decay shared with it, as the state dict of a plain embedding is
        if self.decay != 1:
            whole = whole * self.decay
        destination[prefix + "weight"] = whole.index_copy_(0, self.kept_ids, self.weight.detach())

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing: Any,
        unexpected: Any,
        errors: Any,
    ) -> None:
        key, expected = prefix + "weight", self._plain.weight.shape
        if key in state_dict:
            table = state_dict[key]
            if table.shape != expected:
                errors.append(
                    f"size mismatch for {key}: {expected} was expected, {table.shape} found in the checkpoint."
                )
                return
            self._load_unused_rows(table)
            state_dict = {**state_dict, key: table[self.kept_ids.to(table.device)]}
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)

    @torch.no_grad()
    def _load_unused_rows(self, table: torch.Tensor) -> None:
        """Take over the rows that are not trained.

        If they are the present ones already, these stay what they are: pretrained values times a product. Rounding the
        product into them would make a resumed run differ from one that was never interrupted.
        """
        plain = self._plain.weight.detach()
        pieces: Any = (torch.split(whole, ROWS_AT_ONCE) for whole in (plain, table, self.compact_ids))
        for present, new, ids in zip(*pieces, strict=True):
            if not torch.equal(present[ids < 0] * self.decay, new.to(plain)[ids < 0]):
                plain.copy_(table)
                self.decay = 1.0
                return


def _token_embedding(model: nn.Module) -> tuple[str | None, Any]:
    """The input embedding of the first part of `model` that has one, and the name of its place in `model`."""
    owner: Any = next((module for module in model.modules() if hasattr(module, "get_input_embeddings")), None)
    embedding = None if owner is None else token_embedding(owner)
    return next((name for name, module in model.named_modules() if module is embedding), None), embedding


def _group_of(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> dict[str, Any] | None:
    return next((group for group in optimizer.param_groups if any(p is parameter for p in group["params"])), None)
