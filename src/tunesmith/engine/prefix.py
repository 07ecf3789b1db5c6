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
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from tunesmith.engine.cache import Budget, StateStore
from tunesmith.engine.content import Content, obstacle
from tunesmith.engine.layout import PackedLayout
from tunesmith.engine.nearby import Nearby
from tunesmith.engine.packing import evaluating
from tunesmith.engine.part import SWITCHED_OFF, Part, Replacement
from tunesmith.errors import ModelError
from tunesmith.models.depth import layer_stack, parameter_order
from tunesmith.models.heads import hidden_size

CODE_VERSION = 3
"""Changes when the same weights and tokens would give other states."""
NOTHING_FROZEN = "no layer above the embeddings is frozen"


class Keeping(Part):
    """A part that keeps what it computed on disk, by content: figures for one part named so in an engine."""

    name = "prefix"

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._stores: dict[tuple[Any, ...], StateStore] = {}
        self._nearby: dict[StateStore, Nearby] = {}
        self._read = self._computed = 0

    def store(self, content: Content, width: int, dtype: torch.dtype, identity: dict[str, Any]) -> StateStore:
        """The store of states that are made by `content`, and depend on no more than that and `identity`."""
        key = (content.digest, dtype, *identity.values())
        if key not in self._stores:
            versions = {"code": CODE_VERSION, "torch": version("torch"), "transformers": version("transformers")}
            facts = identity | {"content": content.digest} | versions
            self._stores[key] = StateStore(facts, width, dtype, self.budget, still_true=content.is_same)
        return self._stores[key]

    def near(self, store: StateStore) -> Nearby:
        """What is in front of a store."""
        if store not in self._nearby:
            self.free()  # what is kept of another one is not read any more
            self._nearby[store] = Nearby(store)
        return self._nearby[store]

    def free(self) -> None:
        """Keep nothing on the device; what is on disk is found there."""
        for nearby in self._nearby.values():
            nearby.free()

    def recall(self, store: StateStore, keys: list[bytes]) -> torch.Tensor | None:
        """The states of all these texts, if all are known."""
        known = self.near(store).get(keys)
        if known is None:
            self._computed += len(keys)
        else:
            self._read += len(keys)
        return known

    def commit(self) -> None:
        """Let later runs find what was kept so far."""
        for nearby in self._nearby.values():
            nearby.settle()
        for store in self._stores.values():
            store.commit()

    def detach(self) -> None:
        self.commit()

    def save(self) -> dict[str, Any]:
        self.commit()
        return {}

    def load(self, kept: dict[str, Any]) -> None:
        """States are found by their content."""

    def figures(self) -> dict[str, Any]:
        self.commit()
        size = sum(store.size for store in self._stores.values())
        return {"rows_read": self._read, "rows_computed": self._computed, "bytes": size}

    def report(self) -> dict[str, Any]:
        """As of every part; where states could not be kept, figures and the reason."""
        found = super().report()
        refused = next((store.reason for store in self._stores.values() if store.reason), None)
        if refused:
            found |= {"state": "on" if found["bytes"] else "off", "reason": refused}
        return found


class Prefix(Keeping):
    """Runs the frozen lowest layers of a model once per text.

    Args:
        model: with its head, adapters taken off (their parameters stay inside the layers).
        backbone: the part of it below the head.
        packed: whether it runs on packed batches, asked when it is attached; their rounding differs.

    Attributes:
        layers: how many are frozen now.
    """

    def __init__(self, model: nn.Module, backbone: nn.Module, packed: Callable[[], bool], budget: Budget) -> None:
        super().__init__(budget)
        self.model, self.backbone, self._ask_packed = model, backbone, packed
        self.layers = 0
        self._trained: list[bool] = []
        self._training = False
        self._content: Content | None = None
        self._frozen: set[nn.Module] = set()
        self.call: _Call | None = None
        self._stack: list[Any] = []
        self._unfit = None if budget.bytes else SWITCHED_OFF
        self._idle: str | None = NOTHING_FROZEN

    def why_not(self) -> str | None:
        """Why nothing was kept so far."""
        return None if self._stores else self._unfit or self._idle

    def attach(self) -> None:
        if self._unfit is not None:
            return
        config: Any = self.backbone.config
        self.packed, self._attention = self._ask_packed(), str(config._attn_implementation)
        self._configuration = config.to_json_string(use_diff=False)  # now: a trainer may write into it later
        try:
            self._order = parameter_order(self.model)
            self._stack = list(layer_stack(self.backbone)[1])
        except (ModelError, AttributeError):
            self._unfit = "the model has no stack of layers below a head"
        else:
            if len(self._stack) != getattr(config, "num_hidden_layers", len(self._stack)):
                self._unfit = "the model runs its layers several times"

    def detach(self) -> None:
        super().detach()  # or drops what was made since an unnoticed change, which may be undone later
        self.free()
        self._content = None
        for layer in self._stack:
            skip = vars(layer).get("forward")
            if isinstance(skip, _Skip):
                del layer.forward
                if isinstance(skip.forward, Replacement):  # of another part
                    layer.forward = skip.forward

    def figures(self) -> dict[str, Any]:
        return {"layers": self.layers, **super().figures()}

    @property
    def skipped(self) -> int:
        """How many of the lowest layers the batch that runs now does not need."""
        return 0 if self.call is None else self.layers

    @contextmanager
    def serving(self, layout: PackedLayout, arguments: dict[str, Any]) -> Iterator[None]:
        """While the backbone runs on a batch, its frozen layers are skipped if the states of all its texts are known.

        Args:
            arguments: of the backbone, by name. The states are a function of ``input_ids`` and ``token_type_ids``;
                positions that are given would have to be part of what they are kept by (no head gives them).
        """
        if self._unfit is not None or arguments.get("position_ids") is not None:
            yield
            return
        self._follow()
        if self._content is None:
            yield
            return
        if self.model.training:
            for module in self._frozen:
                module.training = False
        keys = layout.keys(arguments["input_ids"], arguments.get("token_type_ids"))
        store = self._store(self._content)
        self.call = _Call(layout, self.packed, keys, self.near(store), self.recall(store, keys))
        try:
            yield
        finally:
            self.call = None

    def _follow(self) -> None:
        """Find the boundary again if a parameter was frozen or released, or the content below it changed."""
        trained = [parameter.requires_grad for parameter in self.model.parameters()]
        turned, self._training = self.model.training != self._training, self.model.training
        if trained == self._trained:
            content = self._content
            if content is None and self._idle == NOTHING_FROZEN:
                return
            if content is not None and content.is_same(wholly=turned):
                return
        self.detach()
        self._trained, self._idle = trained, NOTHING_FROZEN
        above = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        layers = self._order.layers
        self.layers = next((i for i, layer in enumerate(layers) if layer & above), len(layers))
        if self._order.embeddings & above:
            self.layers = 0
        if not self.layers or not above:
            return
        below = self._order.embeddings.union(*layers[: self.layers])
        parameters = {name: p for name, p in sorted(self.model.named_parameters()) if name in below}
        modules = self._modules_below({id(p) for p in parameters.values()})
        self._idle = obstacle(modules.values())
        if self._idle is not None:
            return
        frozen = [m for m in self.backbone.modules() if {p.requires_grad for p in m.parameters()} == {False}]
        self._frozen = {child for module in frozen for child in module.modules()}
        others = self._other_outputs()
        for i, layer in enumerate(self._stack[: self.layers]):
            layer.forward = _Skip(layer, self, layer.forward, i == self.layers - 1, others)
        self._content = Content(modules, parameters, self._configuration)

    def _modules_below(self, parameters: set[int]) -> dict[str, nn.Module]:
        """The modules that states pass through below the boundary, from the backbone down, by name.

        Args:
            parameters: identities of those there. A module with other ones alone comes later, as a pooler does.
        """
        found: dict[str, nn.Module] = {}
        todo = [("", self.backbone)]
        while todo:
            name, module = todo.pop()
            own = {id(parameter) for parameter in module.parameters()}
            if module not in self._stack[self.layers :] and (not own or own & parameters):
                found[name] = module
                todo += [(f"{name}.{child}", one) for child, one in module.named_children()]
        return found

    def _store(self, content: Content) -> StateStore:
        weight = next(self.backbone.parameters())
        device = weight.device.type
        lower = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if lower else weight.dtype
        config: Any = self.backbone.config
        identity = {"model": str(config.model_type), "layers": self.layers, "device": device, "autocast": lower}
        identity |= {"packed": self.packed, "attention": self._attention}
        return self.store(content, hidden_size(config), dtype, identity)

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


@dataclass(frozen=True)
class _Call:
    """One batch on its way through the skipped layers."""

    layout: PackedLayout
    packed: bool
    keys: list[bytes]
    near: Nearby
    known: torch.Tensor | None

    def recall(self, like: torch.Tensor) -> torch.Tensor:
        """The kept states, in the form of `like`."""
        assert self.known is not None
        there = self.known.to(like.device)
        if there is not self.known:
            self.near.keep(self.keys, self.layout.lengths.tolist(), there)
        states = there[None].to(like.dtype)
        return self.layout.fill(states) if self.packed else self.layout.unpack(states)

    def keep(self, states: torch.Tensor) -> torch.Tensor:
        """Keep states, and return them as they will be read."""
        rounded = states.to(self.near.store.dtype)
        packed = rounded if self.packed else self.layout.pack(rounded)
        self.near.put(self.keys, self.layout.lengths.tolist(), packed[0, : self.layout.tokens])
        return rounded.to(states.dtype)


@dataclass(eq=False)
class _Skip(Replacement):
    """``forward`` of a frozen layer; `others` as `Prefix._other_outputs` found it."""

    prefix: Prefix
    forward: Callable[..., Any]
    last: bool
    others: int | None

    def __call__(self, *positional: Any, **named: Any) -> Any:
        call = self.prefix.call
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
