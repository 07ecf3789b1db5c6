"""Partial fine-tuning: the embeddings and all but the last N layers stay as they are."""

from __future__ import annotations

from torch import nn

from tunesmith.errors import ModelError
from tunesmith.methods.base import Method, train_only
from tunesmith.models.depth import parameter_order


class Freeze(Method):
    """Train the head, what is above the layers, and the last `trainable_layers` layers."""

    name = "freeze"
    title = "fine-tuning of the last layers"
    own = ("trainable_layers",)
    lr_factor = 2  # fewer layers must make the same move; the frozen ones cannot be harmed

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
