"""Vectors of a model whose body is frozen, one a text, kept by content: the next run over the same texts reads them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tunesmith.engine.cache import Budget, StateStore
from tunesmith.engine.content import Content, obstacle
from tunesmith.engine.layout import PackedLayout
from tunesmith.engine.part import SWITCHED_OFF
from tunesmith.engine.prefix import Keeping


class Vectors(Keeping):
    """Keeps what reaches the last layer of a model, in place of the states of its frozen layers.

    Args:
        model: in eval mode whenever vectors are computed.
        last: the layer that reads the vectors; its own weights do not matter.
        precision: of the matrix products that make them.
    """

    def __init__(self, model: nn.Module, last: nn.Linear, precision: str, budget: Budget) -> None:
        super().__init__(budget)
        self.model, self.last, self.precision = model, last, precision
        self._store: StateStore | None = None
        self._reason = None if budget.bytes else SWITCHED_OFF

    def why_not(self) -> str | None:
        return self._reason

    def attach(self) -> None:
        if self._reason is not None:
            return
        config: Any = self.model.config
        own = {id(parameter) for parameter in self.last.parameters()}
        parameters = {name: value for name, value in self.model.named_parameters() if id(value) not in own}
        modules = {name: module for name, module in self.model.named_modules() if module is not self.last}
        self._reason = obstacle(modules.values())
        if self._reason is None:
            content = Content(modules, parameters, config.to_json_string(use_diff=False))
            identity = {"vectors_of": type(self.model).__qualname__, "precision": self.precision}
            identity |= {"device": self.last.weight.device.type, "attention": str(config._attn_implementation)}
            self._store = self.store(content, self.last.in_features, torch.float32, identity)

    def get(self, batch: dict[str, torch.Tensor]) -> torch.Tensor | None:
        """The vectors (batch, hidden) float32 of a padded batch, or None if one of them is not known."""
        keys, rows = _keys(batch)
        if self._store is None or len(keys) < len(batch["input_ids"]):
            return None
        known = self.recall(self._store, keys)
        return None if known is None else known[rows.argsort()]

    def put(self, batch: dict[str, torch.Tensor], vectors: torch.Tensor) -> None:
        """Keep the vectors (batch, hidden) of a padded batch."""
        if self._store is not None:
            keys, rows = _keys(batch)
            self.near(self._store).put(keys, [1] * len(keys), vectors.cpu()[rows])


def _keys(batch: dict[str, torch.Tensor]) -> tuple[list[bytes], torch.Tensor]:
    """Keys of the texts of a batch, and their rows in it."""
    layout = PackedLayout(batch["attention_mask"])
    return layout.keys(batch["input_ids"], batch.get("token_type_ids")), torch.from_numpy(layout.rows)
