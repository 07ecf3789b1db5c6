"""Steps that are not finite, told to the optimizer, and to the host later."""

from __future__ import annotations

import math

import pytest
import torch

from tunesmith.training.finite import Finite


@pytest.mark.parametrize(
    ("loss", "norm", "reason"),
    [
        (math.nan, 1.0, "the loss is nan"),
        (math.inf, 1.0, "the loss is inf"),
        (0.5, math.inf, "the gradient norm is inf"),
        (0.5, math.nan, "the gradient norm is nan"),
    ],
)
def test_a_step_that_is_not_finite_is_not_taken_and_told(loss: float, norm: float, reason: str) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    finite = Finite()
    assert finite.can_guard(optimizer)

    def step(number: int, loss: float, norm: float) -> torch.Tensor:
        weight.grad = torch.ones(3)
        finite.guard(optimizer, number, torch.tensor(loss), torch.tensor(norm))
        optimizer.step()
        return weight.detach().clone()

    first = step(1, 0.7, 2.0)
    assert not torch.equal(first, torch.ones(3))
    moments = {name: value.clone() for name, value in optimizer.state[weight].items()}
    assert torch.equal(step(2, loss, norm), first)
    assert all(torch.equal(value, moments[name]) for name, value in optimizer.state[weight].items())
    step(3, 0.5, 1.0)
    assert finite.objection() == (2, reason)
    assert finite.objection(wait=True) is None
    for _ in range(2):
        finite.leave()
        assert not hasattr(optimizer, "found_inf")


def test_other_optimizers_cannot_be_told() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    assert not Finite().can_guard(torch.optim.AdamW([weight]))
    assert not Finite().can_guard(torch.optim.SGD([weight], fused=True))
