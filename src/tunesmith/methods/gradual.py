"""Gradual unfreezing (Howard and Ruder 2018): the head first, then layer by layer from the top."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from tunesmith.methods.base import Defaults, Method, train_only
from tunesmith.models.depth import parameter_order


class Gradual(Method):
    """Epoch 0 trains the head; the layers join from the top in equal shares until the middle of the run.

    The optimizer knows every parameter from the start: one that joins later begins to move at once, with a learning
    rate that falls by `layer_decay` from each layer to the one below. A parameter without a gradient is skipped.
    """

    name = "gradual"
    title = "gradual unfreezing"
    own = ()
    lr_factor = 2

    def defaults(self, model: nn.Module, rows: int) -> Defaults:
        return replace(super().defaults(model, rows), layer_decay=0.9)

    def apply(self, model: nn.Module) -> nn.Module:
        parameter_order(model)  # an architecture without layers is refused before the first step
        return model.requires_grad_(True)

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
