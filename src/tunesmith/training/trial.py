"""A model is tried before a run: whether it answers texts at all, and in which arithmetic.

What a model needs besides tokens, and which constants of its code overflow in half precision, is not taken from a list:
two texts show it, one as long as may be read, and one of three words.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.data.records import text_records
from tunesmith.engine.packing import evaluating
from tunesmith.errors import ModelError, TunesmithError, is_shortage
from tunesmith.tasks.base import LabelSpace, Task
from tunesmith.tasks.batching import PaddingCollator
from tunesmith.tasks.encoded import Encoded
from tunesmith.tasks.encoding import Encoder, Truncation
from tunesmith.training.inference import predict_logits
from tunesmith.training.precision import ASKED, Precision


@dataclass(frozen=True)
class Reader:
    """A model, and how it reads texts.

    Attributes:
        model: on its device; it is left as it was, and so are torch's random numbers.
        task, space: what its outputs mean.
        truncation: how much of a text is read.
        pairs: it reads pairs of texts.
        trains: it is to be trained, which some do with fewer lengths than they answer.
    """

    model: nn.Module
    tokenizer: Any
    task: Task
    space: LabelSpace
    truncation: Truncation
    pairs: bool
    trains: bool = False


def settle_precision(chosen: Precision, name: str, reader: Reader) -> Precision:
    """What was chosen, or float32 where the model runs in nothing less.

    Args:
        chosen: for this machine.
        name: of the model, for errors.

    Raises:
        ModelError: it does not answer texts, or not in the precision that was asked for.
    """
    problem = _problem(chosen.state, reader)
    if problem is None:
        return chosen
    if chosen.state != "float32" and _problem("float32", reader) is None:
        if chosen.reason == ASKED:
            raise ModelError(f"model {name}: it does not run in {chosen.state} ({problem}); use precision float32")
        return Precision("float32", f"the model does not run in {chosen.state} ({problem})")
    raise ModelError(f"model {name}: a trial on two texts failed ({problem}); give a model of another architecture")


def _problem(precision: str, reader: Reader) -> str | None:
    """Why the model gives no answers, or None where it gives some."""
    texts = ("a " * reader.truncation.max_tokens, "a a a")
    records = text_records([("a", text) if reader.pairs else text for text in texts], "trial")
    device = next(reader.model.parameters()).device
    try:
        own_noise = torch.random.fork_rng([device] if device.type == "cuda" else [])
        with own_noise, tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
            encoder = Encoder(reader.tokenizer, reader.truncation, Path(folder) / "encoded.arrow")
            encoded = reader.task.encode(records, reader.space, encoder, False)
            with evaluating(reader.model):  # and its own modes afterwards
                predict_logits(reader.model, encoded, reader.tokenizer, reader.task, precision)
                if reader.trains:
                    _answer_in_training(reader, encoded)
    except Exception as error:  # whatever a strange architecture raises
        if is_shortage(error) or isinstance(error, TunesmithError):
            raise
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return None


def _answer_in_training(reader: Reader, encoded: Encoded) -> None:
    """The short text alone, in the mode that the model is trained in."""
    batch = PaddingCollator.of(reader.tokenizer, reader.task.head)([encoded[len(encoded) - 1]])
    device = next(reader.model.parameters()).device
    reader.model.train()
    with torch.no_grad():
        reader.task.infer(reader.model, {name: value.to(device) for name, value in batch.items()})
