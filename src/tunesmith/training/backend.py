"""A model of torch that answers; see `tunesmith.predictor.Backend`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from tunesmith.engine import Engine
from tunesmith.models.facts import Facts
from tunesmith.models.loading import load_trained, token_limit
from tunesmith.models.source import Source
from tunesmith.tasks.base import Task
from tunesmith.tasks.encoded import Encoded
from tunesmith.tasks.encoding import Truncation
from tunesmith.training.inference import predict_logits
from tunesmith.training.precision import choose_device, choose_precision
from tunesmith.training.trial import Reader, settle_precision


@dataclass(frozen=True)
class TorchModel:
    """A model with its tokenizer.

    Attributes:
        model: in eval mode, float32.
        precision: of the matrix products, ``float32``, ``bfloat16`` or ``float16``.
    """

    model: nn.Module
    tokenizer: Any
    precision: str = "float32"

    @property
    def limit(self) -> int:
        """Tokens that the model can read, special ones included."""
        model: Any = self.model
        return token_limit(model.config, self.tokenizer)

    def logits(self, encoded: Encoded, task: Task) -> np.ndarray:
        """See `predict_logits`."""
        return predict_logits(self.model, encoded, self.tokenizer, task, self.precision)


def load_backend(
    name: str, folder: Path, facts: Facts, task: Task, precision: str, allowed: frozenset[str]
) -> TorchModel:
    """The model in a folder, on the device where it runs.

    Args:
        name: what the user calls it.
        facts: what lies beside it.
        precision: as of `Predictor.load`.
        allowed: model types that are loaded though they are not known.

    Raises:
        ModelError: it is damaged, or does not run in this precision.
    """
    model, tokenizer = load_trained(Source.of_folder(name, folder, allowed), task.head)
    config: Any = model.config
    facts.require(folder / Facts.FILE, facts.of_model(task, config, token_limit(config, tokenizer)))
    model.to(choose_device())
    Engine(model)  # stays on the model: tried once, not at every call
    chosen = choose_precision(precision)
    if chosen.state != "float32":  # in which it was trained, or tried
        truncation, pairs = Truncation(facts.max_length, facts.long), facts.layout.text_pair is not None
        chosen = settle_precision(chosen, name, Reader(model, tokenizer, task, facts.labels, truncation, pairs))
    return TorchModel(model, tokenizer, chosen.state)
