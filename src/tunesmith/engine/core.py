"""The engine on one model: what reaches its backbone is packed, and what cannot change is not computed again."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tunesmith.engine.attention import CannotPack
from tunesmith.engine.dropout import Noise, replace_dropout
from tunesmith.engine.layout import Layout
from tunesmith.engine.packing import PASSED_ON, Packing
from tunesmith.engine.prefix import Prefix
from tunesmith.engine.vectors import VectorCache
from tunesmith.engine.vocabulary import CompactVocabulary, unsuitable, unsuitable_optimizer
from tunesmith.errors import ModelError

SWITCHED_OFF = "switched off"
STATE_FILE = "engine.json"


class Engine:
    """Makes a transformers model leave out work that cannot change its outputs or its training, until `detach`.

    Args:
        model: with or without a head, with or without adapters.
        packing: work on real tokens only.
        token_ids: ids of every token that training may meet, any shape; the other rows of the embedding table are not
            trained (see `CompactVocabulary`). None trains all. Give the optimizer to `follow`.
        prefix_bytes: disk space for the states of frozen layers (see `Prefix`), 0 to run them every time.
        expected: texts and tokens that training and evaluation will meet, where known: states that would not all fit
            into the space are not stored.
        budget_name: what the user calls `prefix_bytes`.

    Attributes:
        packing: None where the model cannot be packed.
        reason: why it cannot.
        vocabulary: None where the whole table is trained.
        vectors: set by who runs a frozen body once: what it keeps of each text, in place of `prefix`.
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
        self.packing: Packing | None = None
        self.reason = SWITCHED_OFF
        self.real_tokens = self.padded_tokens = 0
        noise = Noise()
        if packing:
            try:
                self.packing = Packing(self.backbone, noise)
            except CannotPack as error:
                self.reason = str(error)
        self.whole_vocabulary = SWITCHED_OFF if token_ids is None else unsuitable(model, token_ids)
        self.vocabulary: CompactVocabulary | None = None
        self.vectors: VectorCache | None = None
        if token_ids is not None and self.whole_vocabulary is None:
            self.vocabulary = CompactVocabulary(model, token_ids)
        self.prefix: Prefix | None = None
        if prefix_bytes:
            packed = self.packing is not None
            self.prefix = Prefix(plain_model(model), self.backbone, packed, prefix_bytes, expected, budget_name)
        self._dropouts = replace_dropout(model, noise) if self.packing is not None else []
        self._noise = noise
        self._rerun: list[Any] = [m for m in self.backbone.modules() if hasattr(m, "gradient_checkpointing")]
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
        if self.vocabulary is not None:
            self.vocabulary.restore()
        if self.prefix is not None:
            self.prefix.remove()

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Tell the engine which optimizer trains the model; may be called again.

        Raises:
            ModelError: it would move embedding rows that the engine leaves out.
        """
        if self.vocabulary is not None:
            refusal = unsuitable_optimizer(optimizer)
            if refusal:
                raise ModelError(f"{refusal}; leave out `token_ids` to train the whole vocabulary")
            self.vocabulary.follow(optimizer)

    def save(self, folder: Path) -> None:
        """Keep, beside the weights of a checkpoint, what a run needs to go on from it bit for bit."""
        if self.prefix is not None:
            self.prefix.commit()
        if self.vocabulary is not None:
            facts = {"unused_rows_decay": self.vocabulary.embedding.decay}
            (folder / STATE_FILE).write_text(json.dumps(facts), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Read back what `save` kept, if it did, before the checkpoint's weights are loaded."""
        if self.vocabulary is not None and (folder / STATE_FILE).is_file():
            facts = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
            self.vocabulary.embedding.decay = float(facts["unused_rows_decay"])

    def report(self) -> dict[str, Any]:
        """State and figures of each part, for the record of a run."""
        packing: dict[str, Any] = {"state": "off", "reason": self.reason}
        if self.packing is not None:
            packing = {"state": "on", "real_tokens": self.real_tokens, "padded_tokens": self.padded_tokens}
        vocabulary: dict[str, Any] = {"state": "off", "reason": self.whole_vocabulary}
        if self.vocabulary is not None:
            kept, total = self.vocabulary.kept, self.vocabulary.total
            vocabulary = {"state": "on", "rows": kept, "of": total, "bytes_saved": self.vocabulary.bytes_saved}
        cache = self.vectors or self.prefix
        prefix = {"state": "off", "reason": SWITCHED_OFF} if cache is None else cache.report()
        return {"packing": packing, "prefix": prefix, "vocabulary": vocabulary}

    def _run(self, *positional: Any, **named: Any) -> Any:
        arguments = self._signature.bind(*positional, **named).arguments
        arguments |= arguments.pop("kwargs", {})
        mask = self._mask(arguments) if self.packing is not None or self.prefix is not None else None
        layout = None if mask is None else Layout(mask, self.packing is not None and compiles_shapes(mask.device))
        if layout is None or not layout.tokens or not layout.contiguous:
            with self._ordinary():
                return self._forward(*positional, **named)
        self.real_tokens += layout.tokens
        self.padded_tokens += layout.shape[0] * layout.shape[1]
        if self.model.training:  # not the backbone: it may be frozen below a head with dropout
            self._noise.restart()
        with self._prefix(layout, arguments):
            if self.packing is None:
                return self._forward(*positional, **named)
            return self.packing.run(self._forward, arguments, layout)

    @contextmanager
    def _prefix(self, layout: Layout, arguments: dict[str, Any]) -> Iterator[None]:
        # Given positions would have to be part of what states are kept by; no head gives them.
        if self.prefix is None or arguments.get("position_ids") is not None:
            yield
            return
        with self.prefix.serving(layout, arguments["input_ids"], arguments.get("token_type_ids")):
            yield

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
        checkpointing = self.backbone.training and any(module.gradient_checkpointing for module in self._rerun)
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


def compiles_shapes(device: torch.device) -> bool:
    """Whether the products are compiled anew for every shape of their factors: on a processor in lower precision."""
    return device.type == "cpu" and torch.is_autocast_enabled("cpu")


def find_backbone(model: nn.Module) -> nn.Module:
    """The part of a model below its head, whatever adapters it carries; the model itself where it has no head."""
    plain: Any = plain_model(model)
    found: nn.Module = getattr(plain, str(plain.base_model_prefix), plain)
    return found


def plain_model(model: nn.Module) -> nn.Module:
    """The model inside an adapter's wrapper, or the model itself."""
    anything: Any = model
    found: nn.Module = anything.get_base_model() if hasattr(model, "get_base_model") else anything
    return found
