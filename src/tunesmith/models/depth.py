"""The order of a model's parameters from input to output: embeddings, layer 0 … n-1, what is above them, head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models.heads import base_model, head_parameter_names


@dataclass(frozen=True)
class ParameterOrder:
    """Parameter names by depth.

    Attributes:
        embeddings: everything that runs before, or is shared by, the layers.
        layers: one set of names per layer, from the lowest.
        top: what runs after the last layer inside the backbone (final norm, pooler).
        head: the classification head.
    """

    embeddings: frozenset[str]
    layers: tuple[frozenset[str], ...]
    top: frozenset[str]
    head: frozenset[str]

    def depth(self) -> dict[str, int]:
        """Parameter name → distance from the head in layers: 0 for head, 1 for top and last layer, … n+1 embeddings."""
        n = len(self.layers)
        table = {name: 0 for name in self.head} | {name: 1 for name in self.top}
        table |= {name: n - i for i, layer in enumerate(self.layers) for name in layer}
        return table | {name: n + 1 for name in self.embeddings}


def parameter_order(model: nn.Module) -> ParameterOrder:
    """Find the order of a classifier's parameters by structure.

    The stack of layers is the backbone's `ModuleList` with the most parameters. A direct child of the backbone that was
    registered after the one holding the stack runs after it; everything else feeds the layers.

    Raises:
        ModelError: the backbone has no stack of layers.
    """
    backbone = base_model(model)
    prefix = f"{model.base_model_prefix}."
    stack_name, stack = layer_stack(backbone)
    names = [name for name, _ in model.named_parameters()]
    layers = tuple(
        frozenset(name for name in names if name.startswith(f"{prefix}{stack_name}.{i}.")) for i in range(len(stack))
    )
    children = [name for name, _ in backbone.named_children()]
    after = children[children.index(stack_name.partition(".")[0]) + 1 :]
    top = frozenset(name for name in names if any(name.startswith(f"{prefix}{child}.") for child in after))
    head = frozenset(head_parameter_names(model))
    return ParameterOrder(frozenset(names) - frozenset().union(*layers) - top - head, layers, top, head)


def token_embedding(model: nn.Module) -> Any:
    """The table of token embeddings that feeds a model; None where it has none, as one that reads characters."""
    try:
        return model.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):  # how transformers says so
        return None


def layer_stack(backbone: nn.Module) -> tuple[str, nn.ModuleList]:
    """The stack of layers inside a backbone and its name there: the `ModuleList` with the most parameters.

    Raises:
        ModelError: there is none.
    """
    stacks = [(name, module) for name, module in backbone.named_modules() if isinstance(module, nn.ModuleList)]
    sizes = [sum(p.numel() for p in module.parameters()) for _, module in stacks]
    if not stacks or max(sizes) == 0:
        raise ModelError(f"{type(backbone).__name__}: no stack of layers found; use method.name=full, features or lora")
    return stacks[sizes.index(max(sizes))]
