"""The engine on one model: what reaches its backbone is packed, and what cannot change is not computed again.

A batch's way, with the module that each step is in; everything else is the model's own code:

    model(**batch)                    padded: (batch, length)
       │
    Engine._run                       in place of the backbone's forward
       │   mask → PackedLayout        where the real tokens are                            layout
       │   something is asked for that is not done here (states of all layers, …) ───┐
       │                                                                             │
    Prefix.serving                    are the states of all these texts known?       │     prefix, content, cache
       │                                                                             │
    Packing.run                       → (1, tokens), positions, masks                │     packing
       │                                                                             │
    embeddings                        rows of the tokens that training meets         │     vocabulary
       │                                                                             │
    frozen layers 0 … k-1             skipped; or run once, and their states kept    │     prefix, cache
       │                                                                             │
    layers k … n-1                    attention within each text,                    │     attention, kernel
       │                              faster dropout masks,                          │     dropout
       │                              on a GPU launched at once in training          │     graphs, recording
       │                                                                             │
    end of the stack                  → (batch, length), zero where padding is       │     packing
       │                                                                             │
    pooler, head, loss  ◄────────────────────────────────────────────────────────────┘

Where a model cannot be packed, the layers see the padded batch, and the other parts work as well.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from tunesmith.disk import read_json
from tunesmith.engine.cache import Budget
from tunesmith.engine.dropout import Noise
from tunesmith.engine.graphs import Graphs
from tunesmith.engine.layout import PackedLayout
from tunesmith.engine.packing import PASSED_ON, Packing
from tunesmith.engine.part import Part, Replacement
from tunesmith.engine.prefix import Prefix
from tunesmith.engine.vocabulary import Vocabulary
from tunesmith.errors import ModelError

STATE_FILE = "engine.json"
KNOWN_CODE = ("peft", "torch", "transformers", "tunesmith")
"""Packages whose heads are known to read nothing that is left out."""


class Engine:
    """Makes a transformers model leave out work that cannot change its outputs or its training, until `detach`.

    Args:
        model: with or without a head, with or without adapters. One with code of its own above the backbone is left
            alone: that code may read what is left out.
        packing: work on real tokens only.
        token_ids: ids of every token that training may meet, any shape; the other rows of the embedding table are not
            trained (see `Vocabulary`). None trains all. Give the optimizer to `follow`.
        prefix_bytes: disk space for the states of frozen layers (see `Prefix`), 0 to run them every time.
        expected: texts and tokens that training and evaluation will meet, where known: states that would not all fit
            into the space are not stored.
        budget_name: what the user calls `prefix_bytes`.

    Attributes:
        parts: by name; each says whether it applies, and why not.

    Raises:
        ModelError: a token id is not in the model's table.
    """

    def __init__(
        self,
        model: nn.Module,
        packing: bool = True,
        token_ids: np.ndarray | None = None,
        prefix_bytes: int = 0,
        expected: tuple[int, int] | None = None,
        budget_name: str = "prefix_bytes",
    ) -> None:
        self.model, self.backbone = model, find_backbone(model)
        self.parts: dict[str, Part] = {}
        self._resting = False
        self._unknown = foreign_part(model)
        if self._unknown is not None:
            return
        self._noise = Noise()
        self.packing = Packing(model, self.backbone, self._noise, packing)
        self.vocabulary = Vocabulary(model, token_ids)
        budget = Budget(prefix_bytes, budget_name, expected)
        self.prefix = Prefix(plain_model(model), self.backbone, lambda: self.packed, budget)
        self.graphs = Graphs(self.backbone, lambda: self.prefix.skipped)
        # The prefix comes last and goes first: what it keeps is true as long as the others are in their places.
        on_gpu = any(parameter.device.type == "cuda" for parameter in model.parameters())
        launching = (self.graphs,) if on_gpu else ()
        self.parts |= {part.name: part for part in (self.packing, *launching, self.vocabulary, self.prefix)}
        for part in self.parts.values():
            part.attach()
        self._rerun: list[Any] = [m for m in self.backbone.modules() if hasattr(m, "gradient_checkpointing")]
        self._forward = self.backbone.forward
        self._signature = inspect.signature(self._forward)
        self.backbone.forward = _Packed(self.backbone, self)

    @property
    def known(self) -> bool:
        """Whether the model is made of known code, and may be touched."""
        return self._unknown is None

    @property
    def trains_some_rows(self) -> bool:
        """Whether the vocabulary is compact."""
        return self.known and self.vocabulary.why_not() is None

    @property
    def packed(self) -> bool:
        """Whether the model runs on packed batches."""
        return self.known and self.packing.why_not() is None

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Meanwhile the model runs on padded batches, for what reads the states of padding."""
        before, self._resting = self._resting, True
        try:
            yield
        finally:
            self._resting = before

    def add(self, part: Part) -> None:
        """Attach one more part, in place of the one of the same name."""
        self.parts[part.name].detach()
        self.parts[part.name] = part
        part.attach()

    def detach(self) -> None:
        """Leave the model as it was found; its weights stay as they are now. May be called twice."""
        if self.parts and "forward" in vars(self.backbone):
            del self.backbone.forward
            for part in reversed(self.parts.values()):
                part.detach()

    def free(self) -> None:
        """Give back memory that is taken for the sake of speed alone."""
        if self.known:
            self.graphs.free()
            self.prefix.free()

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Tell the engine which optimizer trains the model; may be called again.

        Raises:
            ModelError: it would move embedding rows that the engine leaves out.
        """
        if self.known:
            self.vocabulary.follow(optimizer)

    def save(self, folder: Path) -> None:
        """Keep, beside the weights of a checkpoint, what a run needs to go on from it bit for bit."""
        kept = {key: value for part in self.parts.values() for key, value in part.save().items()}
        if kept:
            (folder / STATE_FILE).write_text(json.dumps(kept), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Read back what `save` kept, if it did, before the checkpoint's weights are loaded.

        Raises:
            ModelError: it was changed.
        """
        if (folder / STATE_FILE).is_file():
            try:
                kept = read_json(folder / STATE_FILE)
                if not isinstance(kept, dict) or any(type(value) not in (int, float) for value in kept.values()):
                    raise ValueError("expected numbers by name")
            except (OSError, ValueError) as error:
                raise ModelError(f"{folder / STATE_FILE}: cannot be used ({error}); train from the start") from None
            for part in self.parts.values():
                part.load(kept)

    def report(self) -> dict[str, Any]:
        """State and figures of each part, for the record of a run."""
        if self._unknown is not None:
            idle = {"state": "off", "reason": self._unknown}
            return {part.name: dict(idle) for part in (Packing, Prefix, Vocabulary)}
        return {name: self.parts[name].report() for name in sorted(self.parts)}

    def _run(self, *positional: Any, **named: Any) -> Any:
        arguments = self._signature.bind(*positional, **named).arguments
        arguments |= arguments.pop("kwargs", {})
        works = (self.packed or self.prefix.budget.bytes) and not is_recorded()
        mask = self._mask(arguments) if works else None
        layout = None if mask is None else PackedLayout(mask, self.packed and repeats_shapes(mask.device))
        if self._resting or layout is None or not layout.tokens or not layout.contiguous:
            with self.packing.suspended():
                return self._forward(*positional, **named)
        if self.model.training:  # not the backbone: it may be frozen below a head with dropout
            self._noise.restart()
        with self.vocabulary.knowing(arguments["input_ids"]), self.prefix.serving(layout, arguments):
            if self.packed:
                with self.graphs.passing(layout):
                    return self.packing.run(self._forward, arguments, layout)
            return self._forward(*positional, **named)

    def _mask(self, arguments: dict[str, Any]) -> torch.Tensor | None:
        """The mask of a call that can be packed, else None."""
        ids = arguments.get("input_ids")
        given = {name for name, value in arguments.items() if value is not None and value is not False}
        if ids is None or ids.ndim != 2 or not ids.numel() or given - PASSED_ON - {"return_dict"}:
            return None
        config: Any = self.backbone.config
        reruns = self.backbone.training and any(module.gradient_checkpointing for module in self._rerun)
        wants_more = config.output_hidden_states or config.output_attentions or reruns
        if arguments.get("return_dict") is False or wants_more:
            return None
        mask = arguments.get("attention_mask")
        mask = torch.ones_like(ids) if mask is None else mask
        return mask if mask.shape == ids.shape else None


@dataclass(eq=False)
class _Packed(Replacement):
    """``forward`` of the backbone, with its own signature, by which a Trainer chooses the columns of a data set."""

    engine: Engine

    @property
    def __signature__(self) -> inspect.Signature:
        return self.engine._signature

    def __call__(self, *positional: Any, **named: Any) -> Any:
        return self.engine._run(*positional, **named)


@contextmanager
def attached(model: nn.Module, attach: Callable[[nn.Module], Engine] = Engine) -> Iterator[Engine]:
    """The engine that a model has; where it has none, one that `attach` makes and that leaves it at the end."""
    present = vars(find_backbone(model)).get("forward")
    if isinstance(present, _Packed):
        yield present.engine
        return
    engine = attach(model)
    try:
        yield engine
    finally:
        engine.detach()


def is_recorded() -> bool:
    """Whether the call is written down to be repeated on other texts (traced, exported)."""
    return torch.compiler.is_exporting() or bool(torch._C._get_tracing_state())


def _is_of_class(forward: Any, module: nn.Module) -> bool:
    return getattr(forward, "__func__", None) is type(module).forward


def repeats_shapes(device: torch.device) -> bool:
    """Whether shapes had better recur: a processor compiles products in lower precision anew for every shape of their
    factors, and on a GPU what is launched for one is recorded (`graphs`)."""
    return device.type == "cuda" or (device.type == "cpu" and torch.is_autocast_enabled("cpu"))


def find_backbone(model: nn.Module) -> nn.Module:
    """The part of a model below its head, whatever adapters it carries; the model itself where it has no such part."""
    plain = plain_model(model)
    found = getattr(plain, str(getattr(plain, "base_model_prefix", "") or "forward"), plain)
    return found if isinstance(found, nn.Module) else plain


def foreign_part(model: nn.Module) -> str | None:
    """What is not known of the code between a model's backbone and its outputs, or None where all of it is known."""
    plain, backbone = plain_model(model), find_backbone(model)
    whole = backbone is plain and not type(plain).__name__.endswith("Model")
    if whole or not isinstance(backbone, PreTrainedModel):
        return f"{type(plain).__name__} has no backbone of transformers where one is looked for"
    below = set(backbone.modules()) - {plain}
    for module in plain.modules():
        own = vars(module).get("_original_forward", vars(module).get("forward"))  # accelerate puts autocast around it
        changed = own is not None and not isinstance(own, Replacement) and not _is_of_class(own, module)
        if module not in below and (changed or type(module).__module__.partition(".")[0] not in KNOWN_CODE):
            return f"{type(module).__name__} is not code of transformers, and may read what would be left out"
    return None


def plain_model(model: nn.Module) -> nn.Module:
    """The model inside an adapter's wrapper, or the model itself."""
    anything: Any = model
    found: nn.Module = anything.get_base_model() if hasattr(model, "get_base_model") else anything
    return found
