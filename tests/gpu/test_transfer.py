"""Batches reach the device as they were, and what the host keeps of them is the same."""

from __future__ import annotations

import pytest
import torch

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
