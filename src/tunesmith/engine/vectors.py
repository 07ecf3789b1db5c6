"""Vectors of a model whose body is frozen, one a text, kept by content: the next run over the same texts reads them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tunesmith.engine.cache import StateStore
from tunesmith.engine.content import Content, obstacle
from tunesmith.engine.layout import PackedLayout
from tunesmith.engine.part import SWITCHED_OFF, Part
from tunesmith.engine.prefix import Budget


class Vectors(Part):
    """Keeps what reaches the last layer of a model, in place of the states of its frozen layers.

    Args:
        model: in eval mode whenever vectors are computed.
        last: the layer that reads the vectors; its own weights do not matter.
        precision: of the matrix products that make them.
    """

    name = "prefix"

    def __init__(self, model: nn.Module, last: nn.Linear, precision: str, budget: Budget) -> None:
        self.model, self.last, self.precision, self.budget = model, last, precision, budget
        self._store: StateStore | None = None
        self._read = self._computed = 0

    def why_not(self) -> str | None:
        return None if self.budget.bytes else SWITCHED_OFF

    def attach(self) -> None:
        if not self.budget.bytes:
            return
        config: Any = self.model.config
        own = {id(parameter) for parameter in self.last.parameters()}
        parameters = {name: value for name, value in self.model.named_parameters() if id(value) not in own}
        modules = {name: module for name, module in self.model.named_modules() if module is not self.last}
        content = Content(modules, parameters, config.to_json_string(use_diff=False))
        identity = {"vectors_of": type(self.model).__qualname__, "precision": self.precision}
        identity |= {"device": self.last.weight.device.type, "attention": str(config._attn_implementation)}
        self._store = self.budget.store(content, self.last.in_features, torch.float32, identity)
        self._store.reason = self._store.reason or obstacle(modules.values())

    def detach(self) -> None:
        if self._store is not None:
            self._store.commit()

    def save(self) -> dict[str, Any]:
        self.detach()
        return {}

    def load(self, kept: dict[str, Any]) -> None:
        """Vectors are found by their content."""

    def get(self, batch: dict[str, torch.Tensor]) -> torch.Tensor | None:
        """The vectors (batch, hidden) float32 of a padded batch, or None if one of them is not known."""
        layout = PackedLayout(batch["attention_mask"])
        if self._store is None or len(layout.rows) < layout.shape[0]:
            return None
        known = self._store.get(layout.keys(batch["input_ids"], batch.get("token_type_ids")))
        if known is None:
            return None
        self._read += len(known)
        vectors = torch.empty_like(known)
        vectors[torch.from_numpy(layout.rows)] = known
        return vectors

    def put(self, batch: dict[str, torch.Tensor], vectors: torch.Tensor) -> None:
        """Keep the vectors (batch, hidden) of a padded batch."""
        self._computed += len(vectors)
        if self._store is not None:
            layout = PackedLayout(batch["attention_mask"])
            keys = layout.keys(batch["input_ids"], batch.get("token_type_ids"))
            self._store.put(keys, [1] * len(keys), vectors.cpu()[torch.from_numpy(layout.rows)])

    def figures(self) -> dict[str, Any]:
        reason = self._store.reason if self._store is not None else None
        return {"rows_read": self._read, "rows_computed": self._computed, **({"reason": reason} if reason else {})}
