"""The layers of a model as `graphs` sees them: how each was called, and all that a recording of them depends on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils import _pytree as tree

from tunesmith.engine.attention import PackedMask
from tunesmith.engine.layout import PackedLayout
from tunesmith.engine.part import Replacement

SETTINGS = ("p", "_disable_adapters", "_active_adapter", "merged_adapters")
"""Attributes of a module that change what it computes: of dropout, and of adapters."""


@dataclass(eq=False)
class Passage:
    """A packed batch on its way through the layers.

    Attributes:
        hooked: whether somebody wants to see what goes in and out of them.
        noting: whether they only note what they are called with.
    """

    hooked: bool
    noting: bool
    calls: list[Call] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """Where the texts of a recorded batch lie: what a fused kernel asks of a `PackedLayout`."""

    boundaries: torch.Tensor
    longest: int


class Launcher(Protocol):
    """What runs the layers; see `tunesmith.engine.graphs.Graphs`."""

    first: Callable[[], int]

    def batch(self) -> PackedLayout | None:
        """The packed batch that runs through the layers now, if it is for recordings."""

    def through(self, layout: PackedLayout, call: Call) -> Any:
        """What a layer returns to the model."""


@dataclass(eq=False)
class Stage(Replacement):
    """``forward`` of one layer.

    Attributes:
        forward: what the layer does.
        index: its place among the layers.
        last: whether it is the last of them.
        others: how many values it returns after the states, all None; None if it returns the states alone.
    """

    launcher: Launcher
    forward: Callable[..., Any]
    index: int
    last: bool
    others: int | None = None

    def __call__(self, *positional: Any, **named: Any) -> Any:
        layout = self.launcher.batch()
        if layout is None or self.index < self.launcher.first():
            return self.forward(*positional, **named)
        return self.launcher.through(layout, Call(self, positional, named))


@dataclass(eq=False)
class Call:
    """How the model called a layer.

    Attributes:
        returned: its states, where it was run at once.
    """

    stage: Stage
    positional: tuple[Any, ...]
    named: dict[str, Any]
    returned: torch.Tensor | None = None

    @property
    def states(self) -> torch.Tensor:
        """What the layer works on."""
        given: torch.Tensor = self.positional[0] if self.positional else self.named["hidden_states"]
        return given

    def _rest(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return self.positional[1:], {name: value for name, value in self.named.items() if name != "hidden_states"}

    @functools.cached_property
    def flat(self) -> tuple[list[Any], Any]:
        """Everything else that it was called with, and its structure."""
        return tree.tree_flatten(self._rest())

    def run(self, states: torch.Tensor, change: Callable[[Any], Any] = lambda value: value) -> torch.Tensor:
        """The layer's states for others than it was called with, everything else passed through `change`."""
        positional, named = tree.tree_map(change, self._rest())
        found = self.stage.forward(states, *positional, **named)
        result: torch.Tensor = found[0] if isinstance(found, tuple) else found
        return result

    def answer(self, states: torch.Tensor) -> Any:
        """`states` in the form in which the layer returns them."""
        others = self.stage.others
        return states if others is None else (states, *(None for _ in range(others)))


def modules_in(module: nn.Module) -> list[nn.Module]:
    """A module and those inside it; several times faster than `nn.Module.modules`."""
    found = [module]
    for child in module._modules.values():
        if child is not None:
            found += modules_in(child)
    return found


def state_of(modules: list[nn.Module]) -> Hashable | None:
    """What must not change from a recording to its use; None where hooks want to see each call."""
    found: list[Hashable] = [torch.are_deterministic_algorithms_enabled()]
    for module in modules:
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
            return None
        own = vars(module)
        found += [module.training, *(repr(own[name]) for name in SETTINGS if name in own)]
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is None:
                continue
            if tensor._backward_hooks or tensor._post_accumulate_grad_hooks:
                return None
            found.append((tensor.data_ptr(), tensor.requires_grad))
    return tuple(found)


def shape_of(layout: PackedLayout, calls: list[Call]) -> Hashable | None:
    """What makes another recording necessary; None where there can be none."""
    kind, states = layout.device.type, calls[0].states
    order = {id(tensor): place for place, tensor in enumerate(tensors_of(calls))}
    found: list[Hashable] = [tuple(states.shape), states.dtype, states.requires_grad, layout.shape[0], layout.longest]
    found += [torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)]
    for call in calls:
        values, structure = call.flat
        found += [call.stage.index, str(structure)]
        for value in values:
            if isinstance(value, torch.Tensor) and not value.requires_grad:
                found.append((order[id(value)], tuple(value.shape), value.dtype))
            elif isinstance(value, PackedMask) and value.window is not None:
                found.append(("mask", value.window))
            elif value is None or isinstance(value, bool | int | float | str):
                found.append(value)
            else:
                return None
    return tuple(found)


def tensors_of(calls: list[Call]) -> list[torch.Tensor]:
    """The distinct tensors that layers are called with, besides the states."""
    found = (value for call in calls for value in call.flat[0] if isinstance(value, torch.Tensor))
    return list({id(tensor): tensor for tensor in found}.values())
