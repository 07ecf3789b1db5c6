"""Partial fine-tuning: the embeddings and all but the last N layers stay as they are."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from torch import nn

from tunesmith.errors import ModelError
from tunesmith.methods.base import Defaults, Method, train_only, usual_defaults
from tunesmith.models.depth import parameter_order


class Freeze(Method):
    """Train the head, what is above the layers, and the last `trainable_layers` layers."""

    name: ClassVar[str] = "freeze"
    title: ClassVar[str] = "fine-tuning of the last layers"

    def defaults(self, model: nn.Module, rows: int) -> Defaults:
        usual = usual_defaults(model, rows)
        # Fewer layers must make the same move; the frozen ones cannot be harmed.
        return replace(usual, lr=usual.lr * 2)

    def apply(self, model: nn.Module) -> nn.Module:
        order, wanted = parameter_order(model), self.settings.trainable_layers
        if wanted > len(order.layers):
            raise ModelError(f"method.trainable_layers={wanted}: the model has {len(order.layers)} layers")
        shared = [i for i, names in enumerate(order.layers[-wanted:]) if not names]
        if shared:
            raise ModelError(
                "method.name=freeze: the last layers share their weights with lower ones; use features or full"
            )
        train_only(model, order.head.union(order.top, *order.layers[-wanted:]))
        return model
