"""Losses as sum and weight, against torch's and transformers' own means."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers.trainer_pt_utils import LabelSmoother

from tunesmith.tasks.losses import BinaryCrossEntropy, CrossEntropy, SquaredError

LOGITS = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([0, 1, 2, 3, 4, 0, 1, -100])
MANY = (LOGITS > 0.3).float()
WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0])


def mean(loss: Any, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = loss.total(logits, targets) / loss.weight(targets)
    return result


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_is_torchs(weights: torch.Tensor | None) -> None:
    expected = functional.cross_entropy(LOGITS, CLASSES, weights)
    torch.testing.assert_close(mean(CrossEntropy(0.0, weights), LOGITS, CLASSES), expected)


def test_smoothing_is_that_of_the_stock_trainer() -> None:
    expected = LabelSmoother(epsilon=0.1)({"logits": LOGITS}, CLASSES.clone())
    torch.testing.assert_close(mean(CrossEntropy(0.1), LOGITS, CLASSES), expected)


def test_binary_cross_entropy_is_torchs_and_smooths_towards_one_half() -> None:
    expected = functional.binary_cross_entropy_with_logits(LOGITS, MANY, pos_weight=WEIGHTS)
    torch.testing.assert_close(mean(BinaryCrossEntropy(0.0, WEIGHTS), LOGITS, MANY), expected)
    smooth = functional.binary_cross_entropy_with_logits(LOGITS, MANY * 0.8 + 0.1)
    torch.testing.assert_close(mean(BinaryCrossEntropy(0.2), LOGITS, MANY), smooth)


def test_squared_error_takes_a_column_of_logits() -> None:
    targets = LOGITS[:, 1]
    expected = functional.mse_loss(LOGITS[:, 0], targets)
    torch.testing.assert_close(mean(SquaredError(), LOGITS[:, :1], targets), expected)


@pytest.mark.parametrize("loss", [CrossEntropy(0.1, WEIGHTS), BinaryCrossEntropy(0.1, WEIGHTS), SquaredError()])
def test_parts_add_up_to_the_whole(loss: Any) -> None:
    targets = CLASSES if isinstance(loss, CrossEntropy) else MANY
    parts = [slice(0, 1), slice(1, 6), slice(6, 8)]
    total = torch.stack([loss.total(LOGITS[part], targets[part]) for part in parts]).sum()
    weight = torch.stack([loss.weight(targets[part]) for part in parts]).sum()
    torch.testing.assert_close(total / weight, mean(loss, LOGITS, targets))
