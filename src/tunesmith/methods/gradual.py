"""Gradual unfreezing (Howard and Ruder 2018): the head first, then layer by layer from the top."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from torch import nn

from tunesmith.config.schema import TrainingSettings
from tunesmith.methods.base import Defaults, Method, grouped_parameters, train_only, usual_defaults
from tunesmith.models.depth import parameter_order


class Gradual(Method):
    """Epoch 0 trains the head; the layers join from the top in equal shares until the middle of the run.

    The optimizer knows every parameter from the start: one that joins later begins to move at once, with a learning
    rate that falls by `layer_decay` from each layer to the one below. A parameter without a gradient is skipped.
    """

    name: ClassVar[str] = "gradual"
    title: ClassVar[str] = "gradual unfreezing"

    def defaults(self, model: nn.Module, rows: int) -> Defaults:
        usual = usual_defaults(model, rows)
        return replace(usual, lr=usual.lr * 2, layer_decay=0.9)

    def apply(self, model: nn.Module) -> nn.Module:
        parameter_order(model)  # an architecture without layers is refused before the first step
        train_only(model, (name for name, _ in model.named_parameters()))
        return model

    def parameter_groups(self, model: nn.Module, training: TrainingSettings) -> list[dict[str, Any]]:
        return grouped_parameters(model, training, (name for name, _ in model.named_parameters()))

    def begin_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        order = parameter_order(model)
        count = unfrozen_layers(epoch, epochs, len(order.layers))
        names = order.head | (order.top if count else frozenset())
        names = names.union(*order.layers[len(order.layers) - count :])
        if count == len(order.layers) and epoch + 1 > epochs / 2:
            names |= order.embeddings
        train_only(model, names)


def unfrozen_layers(epoch: int, epochs: int, layers: int) -> int:
    """Number of layers, from the top, that are trained in `epoch` (from 0).

    None in the first epoch of several; all from the middle of the run on; equal shares between. A run of one epoch
    trains everything, since it has no later phase.
    """
    if epochs == 1:
        return layers
    last_phase = max(1, epochs // 2)
    return min(layers, -(-layers * epoch // last_phase))
