"""Frozen prefix: what the embeddings and the lowest layers make of a text is computed once while they take no gradient.

The boundary is read off ``requires_grad`` at every call, so it follows a loop that freezes parameters by hand as well
as gradual unfreezing; what the frozen part computes with is looked at again, too (`content`). Token states at the
boundary are kept by it and by the text (`cache`): the next epoch, an evaluation, another seed or another method over
the same texts finds them. Frozen layers run in eval mode: dropout there would be noise that nothing can adapt to, and
states could not be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from tunesmith.engine.cache import StateStore
from tunesmith.engine.content import Content, obstacle
from tunesmith.engine.layout import Layout
from tunesmith.engine.packing import evaluating
from tunesmith.errors import ModelError
from tunesmith.models.depth import find_blocks, layer_stack

CODE_VERSION = 3
"""Changes when the same weights and tokens would give other states."""


NOTHING_FROZEN = "no layer above the embeddings is frozen"


class Prefix:
    """Runs the frozen lowest layers of a model once per text.

    Args:
        model: with its head, adapters taken off (their parameters stay inside the layers).
        backbone: the part of it below the head.
        packed: whether it runs on packed batches; their rounding differs.
        budget_bytes: of the states on disk.
        expected: texts and tokens that will come by in all, None where that is not known. States that would not all
            fit are not stored.
        budget_name: what the user calls `budget_bytes`.

    Attributes:
        reason: why there is nothing to keep, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        backbone: nn.Module,
        packed: bool,
        budget_bytes: int,
        expected: tuple[int, int] | None = None,
        budget_name: str = "prefix_bytes",
    ) -> None:
        self.model, self.backbone, self.packed, self.budget_bytes = model, backbone, packed, budget_bytes
        self.expected, self.budget_name = expected, budget_name
        self.reason: str | None = None
        self.layers = 0
        self.hits = self.misses = 0
        self._stores: dict[tuple[str, str], StateStore] = {}
        self._trained: list[bool] = []
        self._training = False
        self._content: Content | None = None
        self.hooked: str | None = None
        self._skipped: list[nn.Module] = []
        self._frozen: list[nn.Module] = []
        self._call: _Call | None = None
        config: Any = backbone.config
        self._attention = str(config._attn_implementation)
        self._configuration = config.to_json_string(use_diff=False)  # now: a trainer may write into it later
        try:
            self._blocks = find_blocks(model)
            self._stack = list(layer_stack(backbone)[1])
        except (ModelError, AttributeError):
            self.reason = "the model has no stack of layers below a head"
            return
        if len(self._stack) != getattr(config, "num_hidden_layers", len(self._stack)):
            self.reason = "the model runs its layers several times"

    def remove(self) -> None:
        """Leave the layers as they were, and what was computed to others."""
        self._release()
        self.commit()

    def commit(self) -> None:
        """Let later runs find the states that were kept so far."""
        for store in self._stores.values():
            store.commit()

    def report(self) -> dict[str, Any]:
        """State and figures."""
        self.commit()
        if not self._stores:
            return {"state": "off", "reason": self.reason or self.hooked or NOTHING_FROZEN}
        stores = self._stores.values()
        refused = next((store.reason for store in stores if store.reason), None)
        figures = {"layers": self.layers, "rows_read": self.hits, "rows_computed": self.misses}
        figures["bytes"] = sum(store.size for store in stores)
        state = "on" if figures["bytes"] or not refused else "off"
        return {"state": state, **figures, **({"reason": refused} if refused else {})}

    @contextmanager
    def serving(self, layout: Layout, ids: torch.Tensor, types: torch.Tensor | None) -> Iterator[None]:
        """While the backbone runs on a batch, its frozen layers are skipped if the states of all its texts are known.

        Args:
            ids, types: (batch, length) what the states are a function of.
        """
        self._follow()
        if not self._skipped:
            yield
            return
        if self.model.training:
            for module in self._frozen:
                module.training = False
        store = self._store()
        keys = layout.keys(ids, types)
        known = store.get(keys)
        if known is None:
            self.misses += len(keys)
        else:
            self.hits += len(keys)
        self._call = _Call(layout, self.packed, keys, store, known)
        try:
            yield
        finally:
            self._call = None

    def _follow(self) -> None:
        """Find the boundary again if a parameter was frozen, released or changed from outside."""
        if self.reason is not None:
            return
        trained = [parameter.requires_grad for parameter in self.model.parameters()]
        if trained == self._trained:
            turned, self._training = self.model.training != self._training, self.model.training
            if self._content is None or (self._content.is_same() if turned else self._content.seems_same()):
                return
        self._release()
        self._trained, self._content, self._training, self.hooked = trained, None, self.model.training, None
        names = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        count = 0
        if not self._blocks.embeddings & names:
            layers = self._blocks.layers
            count = next((i for i, layer in enumerate(layers) if layer & names), len(layers))
        self.layers = count
        if not count or not names:
            return
        below = self._blocks.embeddings.union(*self._blocks.layers[:count])
        parameters = {name: p for name, p in sorted(self.model.named_parameters()) if name in below}
        modules = self._modules_below(count, {id(p) for p in parameters.values()})
        self.hooked = obstacle(modules.values())
        if self.hooked:
            return
        frozen = [
            m for m in self.backbone.modules() if (p := list(m.parameters())) and not any(q.requires_grad for q in p)
        ]
        self._frozen = list({id(child): child for module in frozen for child in module.modules()}.values())
        others = self._other_outputs()
        for i, layer in enumerate(self._stack[:count]):
            layer.forward = _Skip(self, layer.forward, i == count - 1, others)
            self._skipped.append(layer)
        self._content = Content(modules, parameters, self._configuration)

    def _modules_below(self, count: int, below: set[int]) -> dict[str, nn.Module]:
        """The modules that states after `count` layers pass through, from the backbone down, by name.

        Args:
            below: identities of the parameters there. Modules with other parameters alone come later (a pooler).
        """
        found: dict[str, nn.Module] = {}
        todo = [("", self.backbone)]
        while todo:
            name, module = todo.pop()
            parameters = {id(parameter) for parameter in module.parameters()}
            if module not in self._stack[count:] and (not parameters or parameters & below):
                found[name] = module
                todo += [(f"{name}.{child}", one) for child, one in module.named_children()]
        return found

    def _release(self) -> None:
        for layer in self._skipped:
            del layer.forward
        self._skipped = []

    def _store(self) -> StateStore:
        embeddings: Any = self.backbone.get_input_embeddings()  # type: ignore[operator]
        device = embeddings.weight.device.type
        lower = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if lower else embeddings.weight.dtype
        assert self._content is not None
        key = (self._content.digest, str(dtype))
        if key not in self._stores:
            config: Any = self.backbone.config
            identity = {
                "model": str(config.model_type),
                "layers": self.layers,
                "content": self._content.digest,
                "packed": self.packed,
                "attention": self._attention,
                "autocast": lower,
                "device": device,
                "code": CODE_VERSION,
                "torch": version("torch"),
                "transformers": version("transformers"),
            }
            self._stores[key] = StateStore(
                identity,
                int(config.hidden_size),
                dtype,
                self.budget_bytes,
                still_true=self._content.is_same,
                budget_name=self.budget_name,
            )
            if self.expected is not None:
                self._stores[key].expect(*self.expected)
        return self._stores[key]

    @torch.no_grad()
    def _other_outputs(self) -> int | None:
        """What a layer returns: None for the states alone, else how many values follow them; one token shows it."""
        found: list[int | None] = []
        hook = self._stack[0].register_forward_hook(
            lambda _, inputs, output: found.append(len(output) - 1 if isinstance(output, tuple) else None)
        )
        one = torch.ones(1, 1, dtype=torch.long, device=next(self.backbone.parameters()).device)
        try:
            with evaluating(self.backbone):
                type(self.backbone).forward(self.backbone, input_ids=one, attention_mask=one)
        finally:
            hook.remove()
        return found[0]


class _Call:
    """One batch on its way through the skipped layers."""

    def __init__(
        self, layout: Layout, packed: bool, keys: list[bytes], store: StateStore, known: torch.Tensor | None
    ) -> None:
        self.layout, self.packed, self.keys, self.store, self.known = layout, packed, keys, store, known

    def recall(self, like: torch.Tensor) -> torch.Tensor:
        """The kept states, in the form of `like`."""
        assert self.known is not None
        states = self.known[None].to(like.device, like.dtype)
        return self.layout.fill(states) if self.packed else self.layout.unpack(states)

    def keep(self, states: torch.Tensor) -> torch.Tensor:
        """Keep states, and return them as they will be read."""
        rounded = states.to(self.store.dtype)
        packed = rounded if self.packed else self.layout.pack(rounded)
        self.store.put(self.keys, self.layout.lengths.tolist(), packed[0, : self.layout.tokens])
        return rounded.to(states.dtype)


class _Skip:
    """``forward`` of a frozen layer."""

    def __init__(self, prefix: Prefix, forward: Callable[..., Any], last: bool, others: int | None) -> None:
        self.prefix, self.forward, self.last, self.others = prefix, forward, last, others

    def __call__(self, *positional: Any, **named: Any) -> Any:
        call = self.prefix._call
        if call is None:
            return self.forward(*positional, **named)
        given: torch.Tensor = positional[0] if positional else named["hidden_states"]
        if call.known is None:
            with torch.no_grad():
                output = self.forward(*positional, **named)
            states = output if self.others is None else output[0]
            states = call.keep(states) if self.last else states
        else:
            states = call.recall(given) if self.last else given
        return states if self.others is None else (states, *(None for _ in range(self.others)))
