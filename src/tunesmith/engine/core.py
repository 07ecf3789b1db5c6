"""The engine on one model: what reaches its backbone is packed, and what cannot change is not computed again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tunesmith.engine.attention import CannotPack
from tunesmith.engine.layout import Layout
from tunesmith.engine.noise import Noise, replace_dropout
from tunesmith.engine.packing import PASSED_ON, Packing


class Engine:
    """What `attach` did to a model.

    Attributes:
        packing: None where the model cannot be packed.
        reason: why it cannot.
    """

    def __init__(self, model: nn.Module, packing: bool = True) -> None:
        self.model, self.backbone = model, find_backbone(model)
        self.packing: Packing | None = None
        self.reason = "switched off"
        self.real_tokens = self.padded_tokens = 0
        noise = Noise()
        if packing:
            try:
                self.packing = Packing(self.backbone, noise)
            except CannotPack as error:
                self.reason = str(error)
        self._dropouts = replace_dropout(model, noise) if self.packing is not None else []
        self._noise = noise
        self._forward = self.backbone.forward
        self._signature = inspect.signature(self._forward)
        self.backbone.forward = self._run

    def detach(self) -> None:
        """Leave the model as it was found; its weights stay as they are now. May be called twice."""
        if "forward" not in vars(self.backbone):
            return
        del self.backbone.forward
        for module in self._dropouts:
            del module.forward
        if self.packing is not None:
            self.packing.remove()

    def report(self) -> dict[str, Any]:
        """State and figures of each part, for the record of a run."""
        if self.packing is None:
            return {"packing": {"state": "off", "reason": self.reason}}
        return {
            "packing": {"state": "on", "real_tokens": self.real_tokens, "padded_tokens": self.padded_tokens},
        }

    def _run(self, *positional: Any, **named: Any) -> Any:
        arguments = self._signature.bind(*positional, **named).arguments
        arguments |= arguments.pop("kwargs", {})
        mask = self._mask(arguments)
        if mask is None or self.packing is None:
            with self._ordinary():
                return self._forward(*positional, **named)
        layout = Layout(mask)
        self.real_tokens += layout.tokens
        self.padded_tokens += mask.numel()
        if self.model.training:  # not the backbone: it may be frozen below a head with dropout
            self._noise.restart()
        return self.packing.run(self._forward, arguments, layout)

    def _mask(self, arguments: dict[str, Any]) -> torch.Tensor | None:
        """The mask of a call that can be packed, else None."""
        ids = arguments.get("input_ids")
        given = {name for name, value in arguments.items() if value is not None and value is not False}
        if ids is None or ids.ndim != 2 or not ids.numel() or given - PASSED_ON - {"return_dict"}:
            return None
        if arguments.get("return_dict") is False or self._wants_more():
            return None
        mask = arguments.get("attention_mask")
        mask = torch.ones_like(ids) if mask is None else mask
        return mask if mask.shape == ids.shape else None

    def _wants_more(self) -> bool:
        """Whether the model must return the states of every layer, or runs layers again in its backward pass."""
        config: Any = self.backbone.config
        checkpointing = self.backbone.training and any(
            getattr(module, "gradient_checkpointing", False) for module in self.backbone.modules()
        )
        return bool(config.output_hidden_states or config.output_attentions or checkpointing)

    @contextmanager
    def _ordinary(self) -> Iterator[None]:
        if self.packing is None:
            yield
        else:
            with self.packing.suspended():
                yield


@contextmanager
def attached(model: nn.Module, attach: Callable[[nn.Module], Engine] = Engine) -> Iterator[Engine]:
    """The engine that a model has; where it has none, one that `attach` makes and that leaves it at the end."""
    present = getattr(vars(find_backbone(model)).get("forward"), "__self__", None)
    if isinstance(present, Engine):
        yield present
        return
    engine = attach(model)
    try:
        yield engine
    finally:
        engine.detach()


def find_backbone(model: nn.Module) -> nn.Module:
    """The part of a model below its head, whatever adapters it carries; the model itself where it has no head."""
    anything: Any = model
    plain = anything.get_base_model() if hasattr(model, "get_base_model") else anything
    found: nn.Module = getattr(plain, str(plain.base_model_prefix), plain)
    return found
