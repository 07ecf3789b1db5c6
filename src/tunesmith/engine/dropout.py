"""Dropout masks on a CPU: the same distribution as torch's, for a fraction of its time.

torch draws one 32-bit number an element, one after the other. Here 16 random bits an element are compared with a
threshold, which makes the probability exact to 2⁻¹⁶, and the outcome is turned into the multiplier 0 or 1 / (1 - p) by
integer arithmetic on its bit pattern.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tunesmith.engine.part import Replacement

DRAW = 1 << 18
"""64-bit numbers drawn at once: one call for the masks of several layers."""


class Noise:
    """A stream of dropout masks that depends on torch's own generator, hence on ``torch.manual_seed``, alone."""

    def __init__(self) -> None:
        self._bits = np.empty(0, dtype=np.int16)
        self._generator: Any = None

    def restart(self) -> None:
        """Take a new seed from torch's generator: at the start of every forward pass."""
        self._generator = np.random.SFC64(int(torch.randint(2**62, (1,))))
        self._bits = self._bits[:0]

    def mask(self, shape: torch.Size, p: float, dtype: torch.dtype) -> torch.Tensor:
        """A tensor of `shape` that is 0 with probability `p`, else 1 / (1 - p) as `dtype` (floating point)."""
        count = shape.numel()
        if self._generator is None:
            self.restart()
        if len(self._bits) < count:
            numbers = self._generator.random_raw(max(DRAW, -(-count // 4)))
            self._bits = np.asarray(numbers).view(np.int16)
        bits, self._bits = self._bits[:count], self._bits[count:]
        kept = torch.empty(count, dtype=torch.int16)
        torch.ge(torch.from_numpy(bits), round(p * 65536) - 32768, out=kept)
        if dtype.itemsize == 2:  # 0 or 1 times the bit pattern of the multiplier is the multiplier or zero
            pattern = torch.tensor(1 / (1 - p), dtype=dtype).view(torch.int16)
            return kept.mul_(pattern).view(dtype).view(shape)
        return kept.to(dtype).mul_(1 / (1 - p)).view(shape)


def replace_dropout(model: nn.Module, noise: Noise) -> list[nn.Dropout]:
    """Let every `nn.Dropout` of a model draw from `noise` for tensors on the CPU.

    Returns:
        The modules that were changed: ``del module.forward`` undoes it.
    """
    changed = [module for module in model.modules() if type(module) is nn.Dropout and not module.inplace]
    for module in changed:
        module.forward = _Drop(module, noise)  # type: ignore[method-assign]
    return changed


@dataclass(eq=False)
class _Drop(Replacement):
    """``nn.Dropout.forward`` of one module."""

    module: nn.Dropout
    noise: Noise

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        p = self.module.p
        if not self.module.training or p == 0.0:
            return input
        if input.device.type != "cpu" or p == 1.0 or input.dtype.itemsize not in (2, 4):
            return nn.functional.dropout(input, p, training=True)
        return input * self.noise.mask(input.shape, p, input.dtype)
