"""Models of well-known shapes with random weights, and random texts: what benchmarks need that download nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from engine import Batch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification

from tunesmith.models.depth import parameter_order
from tunesmith.tasks.batching import PaddingCollator
from tunesmith.tasks.encoded import Encoded
from tunesmith.training.precision import choose_device

SHAPES: dict[str, tuple[str, dict[str, int]]] = {
    "minilm": ("Bert", {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}),
    "bert-base": ("Bert", {}),
    "modernbert-base": ("ModernBert", {}),
    "xlm-r-base": ("XLMRoberta", {"vocab_size": 250_002, "max_position_embeddings": 514, "type_vocab_size": 1}),
    "decoder-1b": (
        "Llama",
        {
            "vocab_size": 128_256,
            "hidden_size": 2048,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 8192,
        },
    ),
}
TINY = {"vocab_size": 500, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
PADDING, FIRST_TOKEN = 1, 5


@dataclass(frozen=True)
class Size:
    """How large a benchmark is.

    Attributes:
        tiny: the program is tried out.
    """

    tiny: bool

    def of(self, whole: int, tiny: int) -> int:
        return tiny if self.tiny else whole


class Texts(Encoded):
    """Random texts, ``"short"`` or ``"long"``, whose tokens are as frequent as words are (Zipf); labels 0 and 1."""

    def __init__(self, kind: str, count: int, size: Size) -> None:
        draw = np.random.default_rng(0)
        short = np.clip(np.rint(draw.lognormal(2.6, 0.5, count)), 4, 80)
        self.lengths = (short if kind == "short" else draw.integers(100, 401, count)).astype(np.int32)
        ranks = size.of(30_000, 400) ** draw.random(self.lengths.sum())  # log-uniform
        self.ids = np.split(FIRST_TOKEN + ranks.astype(np.int64), np.cumsum(self.lengths)[:-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.ids[index], "labels": np.int64(index % 2)}

    def joined(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """As `EncodedTexts` does, without a dict for each row."""
        return {"input_ids": np.concatenate([self.ids[row] for row in rows.tolist()])}

    def batches(self, rows: int, by_length: bool = False) -> list[Batch]:
        """Every text once, on the device, padded to the longest of the batch."""
        order = np.argsort(-self.lengths, kind="stable") if by_length else np.arange(len(self))
        cuts = np.split(order, range(rows, len(order), rows))
        made = (PaddingCollator(PADDING)([self[int(i)] for i in cut]) for cut in cuts)
        return [{name: values.to(choose_device()) for name, values in batch.items()} for batch in made]


def make_model(shape: str, size: Size, attention: str = "sdpa", lora: bool = False, frozen_layers: int = 0) -> Any:
    """A model with a new head on the device; the lowest layers and the embeddings frozen, or adapters of rank 8."""
    kind, sizes = SHAPES[shape]
    library: Any = transformers
    special = {f"{name}_token_id": PADDING for name in ("pad", "cls", "sep", "bos", "eos")}
    config = getattr(library, f"{kind}Config")(**{**sizes, **(TINY if size.tiny else {})}, **special, num_labels=2)
    if size.tiny and kind == "Llama":
        config.num_key_value_heads = 1
    torch.manual_seed(0)
    with torch.device(choose_device()):
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation=attention).train()
    if lora:
        return get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=8, target_modules=["q_proj", "v_proj"]))
    if frozen_layers:
        blocks = parameter_order(model)
        frozen = blocks.embeddings.union(*blocks.layers[:frozen_layers])
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in frozen)
    return model
