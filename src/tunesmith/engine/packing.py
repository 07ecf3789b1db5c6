"""Packing: the real tokens of a batch laid end to end, so that no layer works on padding.

Embeddings and layers see one long row; attention stays within each sequence (`attention`). Where the stack of layers
ends, the tokens are put back into a padded batch, so that poolers, heads and losses work unchanged. Whether a model can
be packed is not taken from a list: two short texts are run through it both ways, and the outputs must agree.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from transformers.utils.generic import ModelOutput

from tunesmith.engine.attention import NAME, CannotPack, running
from tunesmith.engine.dropout import Noise, replace_dropout
from tunesmith.engine.layout import PackedLayout
from tunesmith.engine.part import SWITCHED_OFF, Part
from tunesmith.errors import ModelError, is_shortage
from tunesmith.models.depth import layer_stack, token_embedding

TRIAL_LENGTHS = (9, 5, 1)
TOLERANCE, HALF_TOLERANCE = 1e-4, 3e-2
"""Largest difference in the trial, relative to the largest output; the second in half precision."""
PASSED_ON = {"input_ids", "attention_mask", "token_type_ids", "position_ids"}


class Packing(Part):
    """Runs the backbone of a model on packed batches, while it is attached.

    Args:
        model: with its head; its dropout draws from `noise`.
        backbone: the part of it below the head, a transformers model.
        wanted: whether it is switched on.
    """

    name = "packing"

    def __init__(self, model: nn.Module, backbone: nn.Module, noise: Noise, wanted: bool) -> None:
        self.model, self.backbone, self.noise = model, backbone, noise
        self.parameters = inspect.signature(type(backbone).forward).parameters
        self.real_tokens = self.padded_tokens = 0
        self._reason: str | None = None
        self._undo = ExitStack()
        if not wanted:
            self._reason = SWITCHED_OFF
        elif not getattr(backbone, "_supports_attention_backend", False):
            self._reason = "its attention cannot be replaced"
        elif "position_ids" not in self.parameters:
            self._reason = "it takes no position ids"

    def why_not(self) -> str | None:
        return self._reason

    def attach(self) -> None:
        if self._reason is not None:
            return
        config: Any = self.backbone.config
        self.config, self.own_attention = config, config._attn_implementation
        self._counters = [m for m in self.backbone.modules() if hasattr(m, "create_position_ids_from_input_ids")]
        try:
            parent = layer_stack(self.backbone)[0].rpartition(".")[0]
            self._inner = self.backbone.get_submodule(parent) if parent else None
            self._try()
        except (CannotPack, ModelError) as error:
            self._reason = str(error) if isinstance(error, CannotPack) else "the model has no stack of layers"
            return
        self.real_tokens = self.padded_tokens = 0  # the trial does not count
        self._install(self._undo)
        for module in replace_dropout(self.model, self.noise):
            self._undo.callback(delattr, module, "forward")

    def _install(self, undo: ExitStack) -> None:
        undo.callback(setattr, self.config, "_attn_implementation", self.own_attention)
        self.config._attn_implementation = NAME
        if self._inner is not None:
            undo.callback(self._inner.register_forward_hook(_unpack_inside).remove)

    def detach(self) -> None:
        self._undo.close()

    def save(self) -> dict[str, Any]:
        return {}

    def load(self, kept: dict[str, Any]) -> None:
        """There is nothing to take over."""

    def figures(self) -> dict[str, Any]:
        return {"real_tokens": self.real_tokens, "padded_tokens": self.padded_tokens}

    def run(self, forward: Callable[..., Any], arguments: dict[str, Any], layout: PackedLayout) -> Any:
        """Call `forward` of the backbone on packed inputs.

        Args:
            arguments: by name, among them ``input_ids`` (batch, length).

        Returns:
            What `forward` returns for the padded inputs; the states of padding are zero.
        """
        self.real_tokens += layout.tokens
        self.padded_tokens += layout.shape[0] * layout.shape[1]
        ids = arguments["input_ids"]
        packed = {name: value for name, value in arguments.items() if name not in PASSED_ON}
        packed["input_ids"] = layout.pack(ids)
        packed["attention_mask"] = torch.ones_like(packed["input_ids"])
        packed["position_ids"] = self._positions(ids, arguments.get("position_ids"), layout)
        if arguments.get("token_type_ids") is not None:
            packed["token_type_ids"] = layout.pack(arguments["token_type_ids"])
        if "use_cache" in self.parameters:
            packed["use_cache"] = False
        token = running.set((layout, self.noise))
        try:
            outputs = forward(**packed)
        finally:
            running.reset(token)
        return outputs if self._inner is not None else _unpacked(outputs, layout)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """The model's own attention, for calls that cannot be packed."""
        if self._reason is not None or self.own_attention == "sdpa":  # which `attend` does by itself
            yield
            return
        self.config._attn_implementation = self.own_attention
        try:
            yield
        finally:
            self.config._attn_implementation = NAME

    def _positions(self, ids: torch.Tensor, given: torch.Tensor | None, layout: PackedLayout) -> torch.Tensor:
        if given is not None:
            return layout.pack(given.expand(layout.shape))
        if self._counters:  # RoBERTa and its kin count from the padding index
            module: Any = self._counters[0]
            return layout.pack(module.create_position_ids_from_input_ids(ids, module.padding_idx))
        return layout.positions

    def _try(self) -> None:
        """Run two short texts, the second padded on the left, and one token both ways."""
        embeddings = token_embedding(self.backbone)
        if embeddings is None:
            raise CannotPack("it has no table of token embeddings")
        device, size = embeddings.weight.device, embeddings.weight.shape[0]
        ids = (torch.arange(len(TRIAL_LENGTHS) * max(TRIAL_LENGTHS), device=device) * 7919 + 5) % size
        ids = ids.view(len(TRIAL_LENGTHS), -1)
        mask = torch.arange(ids.shape[1], device=device) < torch.tensor(TRIAL_LENGTHS, device=device)[:, None]
        mask[1] = mask[1].flip(0)
        padding = getattr(self.config, "pad_token_id", None)
        padding = padding if isinstance(padding, int) else 0  # None, or several
        ids = ids.masked_fill(ids == padding, padding + 1).masked_fill(~mask, padding)
        inputs = {"input_ids": ids, "attention_mask": mask.long()}
        layout = PackedLayout(mask, filled=True)
        try:
            with torch.no_grad(), evaluating(self.backbone):
                wanted = _tensors(self.backbone(**inputs))
                if "last_hidden_state" not in wanted:
                    raise CannotPack("it returns no states of tokens")
                with ExitStack() as undo:
                    self._install(undo)
                    found = _tensors(self.run(self.backbone.forward, inputs, layout))
        except CannotPack:
            raise
        except Exception as error:  # whatever a strange architecture raises, it runs unpacked
            if is_shortage(error):
                raise
            raise CannotPack(f"packed batches do not pass through it ({type(error).__name__})") from error
        for name, tensor in wanted.items():
            _require_close(name, tensor, found.get(name), layout, mask[:, 0])


def _tensors(outputs: Any) -> dict[str, torch.Tensor]:
    """What a backbone returns, by name: the states of its tokens, and what it makes of them."""
    return {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor)}


def _require_close(
    name: str, wanted: torch.Tensor, found: torch.Tensor | None, layout: PackedLayout, usual: torch.Tensor
) -> None:
    """
    Args:
        usual: (batch,) bool, the texts with padding on the right; a pooler reads the padding of the others.

    Raises:
        CannotPack: an output for packed batches has another shape, or differs by more than rounding.
    """
    if found is None or found.shape != wanted.shape:
        raise CannotPack(f"its {name} of packed batches is another")
    on_tokens = wanted.shape[:2] == layout.shape  # where what stands at padding does not matter
    wanted, found = (layout.pack(output) if on_tokens else output[usual] for output in (wanted, found))
    difference = float((wanted - found).abs().max() / wanted.abs().max().clamp(min=1e-30))
    if not difference <= (TOLERANCE if wanted.dtype.itemsize > 2 else HALF_TOLERANCE):
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
    batch = running.get()
    return outputs if batch is None else _unpacked(outputs, batch[0])


def _unpacked(outputs: Any, layout: PackedLayout) -> Any:
    """`outputs` of a model or stack, their token states back in the padded batch."""
    if isinstance(outputs, torch.Tensor):
        return layout.unpack(outputs)
    if isinstance(outputs, ModelOutput):
        outputs["last_hidden_state"] = layout.unpack(outputs["last_hidden_state"])
        return outputs
    return (layout.unpack(outputs[0]), *outputs[1:])
