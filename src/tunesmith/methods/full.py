"""Full fine-tuning: every weight is trained."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from tunesmith.methods.base import Method, train_only


class Full(Method):
    """Train every parameter of the model."""

    name: ClassVar[str] = "full"
    title: ClassVar[str] = "full fine-tuning"

    def apply(self, model: nn.Module) -> nn.Module:
        train_only(model, (name for name, _ in model.named_parameters()))
        return model
