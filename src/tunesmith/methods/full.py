"""Full fine-tuning: every weight is trained."""

from __future__ import annotations

from torch import nn

from tunesmith.methods.base import Method


class Full(Method):
    """Train every parameter of the model."""

    name = "full"
    title = "full fine-tuning"
    own = ()

    def apply(self, model: nn.Module) -> nn.Module:
        return model.requires_grad_(True)
