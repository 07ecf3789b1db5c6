"""A method of another package: the attention alone and the head are trained (Touvron et al. 2022)."""

from __future__ import annotations

from torch import nn

from tunesmith.methods.base import Method, train_only
from tunesmith.models.heads import head_parameter_names


class Attention(Method):
    name = "attention"
    title = "fine-tuning of the attention"

    def apply(self, model: nn.Module) -> nn.Module:
        own = {name for name, _ in model.named_parameters() if "attention" in name}
        train_only(model, head_parameter_names(model) | own)
        return model
