"""Vectors of a model whose body is frozen, one a text, kept by content: the next run over the same texts reads them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from tunesmith.engine.cache import StateStore
from tunesmith.engine.content import Content, obstacle
from tunesmith.engine.layout import Layout

CODE_VERSION = 3
"""Changes when the same weights and tokens would give other vectors."""


class VectorCache:
    """Keeps what reaches the last layer of a model.

    Args:
        model: in eval mode whenever vectors are computed.
        last: the layer that reads the vectors; its own weights do not matter.
        precision: of the matrix products that make them.
        budget_bytes: limit on the whole cache folder.

    Attributes:
        read, computed: numbers of texts so far.
    """

    def __init__(self, model: nn.Module, last: nn.Linear, precision: str, budget_bytes: int) -> None:
        config: Any = model.config
        own = {id(parameter) for parameter in last.parameters()}
        others = {name: value for name, value in model.named_parameters() if id(value) not in own}
        modules = {name: module for name, module in model.named_modules() if module is not last}
        content = Content(modules, others, config.to_json_string(use_diff=False))
        identity = {
            "vectors_of": type(model).__qualname__,
            "content": content.digest,
            "precision": precision,
            "device": last.weight.device.type,
            "code": CODE_VERSION,
            "torch": version("torch"),
            "transformers": version("transformers"),
        }
        self._store = StateStore(
            identity,
            last.in_features,
            torch.float32,
            budget_bytes,
            still_true=content.is_same,
            budget_name="engine.cache_gigabytes",
        )
        self._store.reason = self._store.reason or obstacle(modules.values())
        self.read = self.computed = 0

    def get(self, batch: dict[str, torch.Tensor]) -> torch.Tensor | None:
        """The vectors (batch, hidden) float32 of a padded batch, or None if one of them is not known."""
        layout = Layout(batch["attention_mask"])
        known = self._store.get(_keys(layout, batch)) if len(layout.rows) == layout.shape[0] else None
        if known is None:
            return None
        self.read += len(known)
        vectors = torch.empty_like(known)
        vectors[torch.from_numpy(layout.rows)] = known
        return vectors

    def put(self, batch: dict[str, torch.Tensor], vectors: torch.Tensor) -> None:
        """Keep the vectors (batch, hidden) of a padded batch."""
        layout = Layout(batch["attention_mask"])
        self.computed += len(vectors)
        self._store.put(_keys(layout, batch), [1] * len(layout.rows), vectors.cpu()[torch.from_numpy(layout.rows)])

    def commit(self) -> None:
        """Let later runs find the vectors."""
        self._store.commit()

    def report(self) -> dict[str, Any]:
        """State and figures."""
        reason = {"reason": self._store.reason} if self._store.reason else {}
        return {"state": "on", "rows_read": self.read, "rows_computed": self.computed, **reason}


def _keys(layout: Layout, batch: dict[str, torch.Tensor]) -> list[bytes]:
    return layout.keys(batch["input_ids"], batch.get("token_type_ids"))
