"""Packing: the real tokens of a batch laid end to end, so that no layer works on padding.

Embeddings and layers see one long row; attention stays within each sequence (`attention`). Where the stack of layers
ends, the tokens are put back into a padded batch, so that poolers, heads and losses work unchanged. Whether a model can
be packed is not taken from a list: two short texts are run through it both ways, and the outputs must agree.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from transformers.utils.generic import ModelOutput

from tunesmith.engine.attention import NAME, CannotPack, packed_masks
from tunesmith.engine.dropout import Noise
from tunesmith.engine.layout import Layout
from tunesmith.models.depth import layer_stack

TRIAL_LENGTHS = (9, 5, 1)
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
"""Largest difference in the trial, relative to the largest output; half precision is granted `HALF_TOLERANCE`."""
HALF_TOLERANCE = 3e-2
PASSED_ON = {"input_ids", "attention_mask", "token_type_ids", "position_ids"}

_layout: ContextVar[Layout | None] = ContextVar("_layout", default=None)


class Packing:
    """Runs the backbone of a model on packed batches.

    Args:
        backbone: a transformers model without head.

    Raises:
        CannotPack: its outputs would not be the same; the reason is the message.
    """

    def __init__(self, backbone: nn.Module, noise: Noise) -> None:
        self.backbone, self.noise = backbone, noise
        self.parameters = inspect.signature(type(backbone).forward).parameters
        if not getattr(backbone, "_supports_attention_backend", False):
            raise CannotPack("its attention cannot be replaced")
        if "position_ids" not in self.parameters:
            raise CannotPack("it takes no position ids")
        config: Any = backbone.config
        self.config = config
        self.own_attention = self.config._attn_implementation
        self._counters = [m for m in backbone.modules() if hasattr(m, "create_position_ids_from_input_ids")]
        stack, _ = layer_stack(backbone)
        parent = stack.rpartition(".")[0]
        self._inner = backbone.get_submodule(parent) if parent else None
        self._try()
        self.config._attn_implementation = NAME
        self._hook = self._inner.register_forward_hook(_unpack_inside) if self._inner is not None else None

    def remove(self) -> None:
        """Leave the model as it was."""
        self.config._attn_implementation = self.own_attention
        if self._hook is not None:
            self._hook.remove()

    def run(self, forward: Callable[..., Any], arguments: dict[str, Any], layout: Layout) -> Any:
        """Call `forward` of the backbone on packed inputs.

        Args:
            arguments: by name, among them ``input_ids`` (batch, length).

        Returns:
            What `forward` returns for the padded inputs; the states of padding are zero.
        """
        ids = arguments["input_ids"]
        packed = {name: value for name, value in arguments.items() if name not in PASSED_ON}
        packed["input_ids"] = layout.pack(ids)
        packed["attention_mask"] = torch.ones_like(packed["input_ids"])
        packed["position_ids"] = self._positions(ids, arguments.get("position_ids"), layout)
        if arguments.get("token_type_ids") is not None:
            packed["token_type_ids"] = layout.pack(arguments["token_type_ids"])
        if "use_cache" in self.parameters:
            packed["use_cache"] = False
        token = _layout.set(layout)
        try:
            with packed_masks(layout.sequences, self.noise):
                outputs = forward(**packed)
        finally:
            _layout.reset(token)
        return outputs if self._inner is not None else _unpacked(outputs, layout)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """The model's own attention, for calls that cannot be packed."""
        if self.own_attention == "sdpa":  # which `attend` does by itself
            yield
            return
        self.config._attn_implementation = self.own_attention
        try:
            yield
        finally:
            self.config._attn_implementation = NAME

    def _positions(self, ids: torch.Tensor, given: torch.Tensor | None, layout: Layout) -> torch.Tensor:
        if given is not None:
            return layout.pack(given.expand(layout.shape))
        if self._counters:  # RoBERTa and its kin count from the padding index
            module: Any = self._counters[0]
            return layout.pack(module.create_position_ids_from_input_ids(ids, module.padding_idx))
        return layout.positions

    def _try(self) -> None:
        """Run two short texts, the second padded on the left, and one token both ways."""
        embeddings = self.backbone.get_input_embeddings()  # type: ignore[operator]
        device, size = embeddings.weight.device, embeddings.weight.shape[0]
        ids = (torch.arange(len(TRIAL_LENGTHS) * max(TRIAL_LENGTHS), device=device) * 7919 + 5) % size
        ids = ids.view(len(TRIAL_LENGTHS), -1)
        mask = torch.arange(ids.shape[1], device=device) < torch.tensor(TRIAL_LENGTHS, device=device)[:, None]
        mask[1] = mask[1].flip(0)
        padding = getattr(self.config, "pad_token_id", None)
        ids = ids.masked_fill(ids == padding, (padding or 0) + 1).masked_fill(~mask, padding or 0)
        inputs = {"input_ids": ids, "attention_mask": mask.long()}
        layout = Layout(mask, filled=True)
        try:
            with torch.no_grad(), evaluating(self.backbone):
                wanted = layout.pack(self.backbone(**inputs).last_hidden_state)
                self.config._attn_implementation = NAME
                hook = self._inner.register_forward_hook(_unpack_inside) if self._inner is not None else None
                try:
                    found = layout.pack(self.run(self.backbone.forward, inputs, layout).last_hidden_state)
                finally:
                    if hook is not None:
                        hook.remove()
        except CannotPack:
            raise
        except Exception as error:  # whatever a strange architecture raises, it runs unpacked
            raise CannotPack(f"packed batches do not pass through it ({type(error).__name__})") from error
        finally:
            self.config._attn_implementation = self.own_attention
        difference = float((wanted - found).abs().max() / wanted.abs().max().clamp(min=1e-30))
        if not difference <= TOLERANCE.get(wanted.dtype, HALF_TOLERANCE):
            raise CannotPack(f"its outputs for packed batches differ (by {difference:.1g} of the largest)")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode for a trial that must draw no random numbers; every module gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _unpack_inside(module: nn.Module, inputs: Any, outputs: Any) -> Any:
    layout = _layout.get()
    return outputs if layout is None else _unpacked(outputs, layout)


def _unpacked(outputs: Any, layout: Layout) -> Any:
    """`outputs` of a model or stack, their token states back in the padded batch."""
    if isinstance(outputs, torch.Tensor):
        return layout.unpack(outputs)
    if isinstance(outputs, ModelOutput):
        outputs["last_hidden_state"] = layout.unpack(outputs["last_hidden_state"])
        return outputs
    return (layout.unpack(outputs[0]), *outputs[1:])
