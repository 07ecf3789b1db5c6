"""Batches reach the device as they were, and answers come back in the order of the texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from tunesmith.tasks.batching import PaddingCollator
from tunesmith.tasks.encoded import Encoded
from tunesmith.training import inference
from tunesmith.training.precision import choose_device
from tunesmith.training.transfer import to_device

pytestmark = pytest.mark.gpu


def test_a_batch_arrives_and_its_host_copy_says_the_same() -> None:
    device = choose_device()
    batch = {"input_ids": torch.arange(12).reshape(3, 4), "labels": torch.rand(3), "empty": torch.zeros(0, 4)}
    moved = to_device(batch, device)
    assert list(moved) == list(batch)
    for name, values in moved.items():
        assert values.device.type == device.type and values.dtype == batch[name].dtype
        assert torch.equal(values.cpu(), batch[name])
        assert getattr(values, "host_copy", None) is (batch[name] if device.type == "cuda" else None)
    again = to_device(moved, device)
    assert all(again[name] is values for name, values in moved.items())


class Texts(Encoded):
    def __init__(self, count: int) -> None:
        draw = np.random.default_rng(0)
        self.lengths = draw.integers(1, 9, count).astype(np.int32)
        self.ids = [draw.integers(1, 50, length) for length in self.lengths]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.ids[index]}


def test_vectors_are_the_same_in_many_batches_and_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertForSequenceClassification(BertConfig(vocab_size=50, **sizes)).to(choose_device())
    texts, collate = Texts(200), PaddingCollator(0)
    wanted = inference.pooled_vectors(model, texts, collate)
    for name in ("TOKENS_PER_GPU_BATCH", "TOKENS_PER_BATCH"):
        monkeypatch.setattr(inference, name, 60)
    counted: list[int] = []
    found = inference.pooled_vectors(model, texts, collate, progress=counted.append)
    assert sum(counted) == len(texts) and len(counted) > 10
    np.testing.assert_allclose(found, wanted, atol=1e-5)
