"""What every method provides, and the parts that methods share: defaults by size, parameter groups, the summary."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from torch import nn

from tunesmith.config.schema import MethodSettings, OptimisationSettings, Section, TrainingSettings
from tunesmith.errors import ModelError
from tunesmith.methods import METHODS
from tunesmith.models.depth import parameter_order, token_embedding
from tunesmith.models.heads import base_model, head_parameter_names
from tunesmith.registry import lookup, require

FEW_ROWS = 300
"""Below this many training rows several methods are recommended: a fit takes seconds, and which is best differs."""
SMALL_MODEL = 40_000_000
"""Parameters outside the embeddings below which a model needs higher learning rates than the usual ranges."""
LARGE_MODEL = 200_000_000
ENOUGH_STEPS = 200
"""Optimizer steps that a small data set is passed over often enough for..."""
MOST_EPOCHS = 20
"""... but not more often than this: its rows are known by then."""

OF_STEPS = (
    "epochs", "lr", "head_lr", "warmup", "schedule", "weight_decay", "max_grad_norm", "layer_decay", "label_smoothing",
    "early_stopping",
)  # fmt: skip
"""Settings that matter only where steps are taken."""


@dataclass(frozen=True)
class Defaults:
    """Hyperparameters that suit a method and a model's size.

    Attributes:
        lr: peak learning rate of the trained layers of the backbone (or of the adapter).
        head_lr: peak learning rate of the new head.
        epochs: where these are enough steps; more on small data, see `missing_in`.
        layer_decay: factor from each layer to the one below.
    """

    lr: float
    head_lr: float
    epochs: int
    batch_size: int
    layer_decay: float = 1.0

    def missing_in(self, settings: OptimisationSettings, rows: int) -> dict[str, Any]:
        """The values that `settings` leave open; the batch size is raised to what `accumulation` divides.

        Small data sets get as many epochs as make `ENOUGH_STEPS`, at most `MOST_EPOCHS`
        (``max(epochs, min(MOST_EPOCHS, ceil(ENOUGH_STEPS / steps in an epoch)))``).

        Args:
            rows: that are passed over in an epoch; 0 where no steps are taken.
        """
        missing = {name: value for name, value in vars(self).items() if getattr(settings, name, value) is None}
        if "batch_size" in missing:
            missing["batch_size"] += -self.batch_size % settings.accumulation
        if "epochs" in missing and rows:
            steps = math.ceil(rows / (settings.batch_size or missing["batch_size"]))
            missing["epochs"] = max(self.epochs, min(MOST_EPOCHS, math.ceil(ENOUGH_STEPS / steps)))
        return missing


class Method(ABC):
    """A way of adapting a model; what has a body suits one that trains a fixed set of the model's own parameters.

    `apply` is called once, before the optimizer is made.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """For people."""
    lr_factor: ClassVar[float] = 1.0
    """On the usual learning rate of the trained layers."""
    solves_head: ClassVar[bool] = False
    """The head is solved for directly from pooled vectors, by `solve`; no steps are taken."""
    own: ClassVar[tuple[str, ...] | None] = None
    """Those of `MethodSettings` that it uses; None where it does not say."""
    required: ClassVar = ("name", "title")
    """What every method must say of itself."""
    settings: MethodSettings

    def __new__(cls, settings: MethodSettings) -> Self:
        require(cls, *cls.required)
        return super().__new__(cls)

    def __init__(self, settings: MethodSettings) -> None:
        self.settings = settings

    def defaults(self, model: nn.Module, rows: int) -> Defaults:
        """The guide's ranges (1e-5 to 5e-5, batch 8 to 32, 2 to 5 epochs) by size; higher rates for small models.

        Small data sets get small batches, so that they still take enough steps.
        """
        size = backbone_parameters(model)
        lr, head_lr = (1e-4, 1e-3) if size < SMALL_MODEL else (3e-5, 3e-4) if size < LARGE_MODEL else (1e-5, 1e-4)
        batch_size = 8 if rows < 1_000 else 16 if rows < 5_000 else 32
        return Defaults(lr * self.lr_factor, head_lr, epochs=5 if rows < 50_000 else 3, batch_size=batch_size)

    @abstractmethod
    def apply(self, model: nn.Module) -> nn.Module:
        """Choose what is trained (`requires_grad`), or wrap the model.

        Raises:
            ModelError: nothing would be trained, or a named target matches nothing.
        """

    def parameter_groups(self, model: nn.Module, training: TrainingSettings) -> list[dict[str, Any]]:
        """Optimizer groups over what `apply` chose: by depth (learning rate) and by kind (weight decay).

        The head has its own learning rate; layer i below the top has ``lr · layer_decay^i``.
        """
        assert training.lr is not None and training.head_lr is not None
        decay = training.layer_decay or 1.0
        # Without decay the structure of the backbone does not matter, so any architecture will do.
        depth = parameter_order(model).depth() if decay != 1.0 else dict.fromkeys(head_parameter_names(model), 0)
        rates = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                level = depth.get(name, 1)
                rates[name] = training.head_lr if level == 0 else training.lr * decay ** (level - 1)
        return optimizer_groups(model, rates, training.weight_decay)

    def begin_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:  # noqa: B027
        """Change what is trained as the run goes on; must depend on its arguments alone, so that a run can resume."""

    def finish(self, model: nn.Module) -> nn.Module:
        """The plain model, adapters merged; calling it twice changes nothing."""
        return model

    def solve(
        self, model: nn.Module, vectors: np.ndarray, targets: np.ndarray, training: TrainingSettings, originals: int
    ) -> dict[str, float]:
        """Set the final linear layer to the optimum for pooled vectors (n, hidden) float32 and their targets.

        Only methods with `solves_head` are asked to.

        Args:
            targets: (n,) int64 class ids, (n, labels) float32 for multi-label, or (n,) float32 for regression.
            originals: how many rows, the first ones, were not made from others. Only they choose the regularisation: a
                copy of a row that is held out would make it look better than it is.

        Returns:
            What was chosen, for the run's record (the regularisation strength).
        """
        raise NotImplementedError


def methods_for(settings: MethodSettings, model: nn.Module, rows: int, on_tokens: bool) -> list[Method]:
    """The method asked for; for ``auto`` features first (seconds), then the one recommended for data and model.

    On few rows several are tried, and the last, which trains most, is to be kept unless another is better beyond
    chance; frozen states tell a head for tokens hardly anything there.
    """
    names, large = [settings.name], backbone_parameters(model) >= LARGE_MODEL
    if settings.name == "auto" and rows < FEW_ROWS:
        names = [] if on_tokens else ["features"]
        names += ["freeze"] if large else ["freeze", "full"]
    elif settings.name == "auto":
        names = ["features", "lora" if large else "full"]
    return [lookup(METHODS, "methods", name)(settings) for name in names]


def unused_settings(
    settings: MethodSettings, training: TrainingSettings, methods: Sequence[Method], usual: Defaults | None
) -> list[str]:
    """Keys of the settings that none of the methods uses, and that have another value than by default.

    Args:
        usual: what the methods would choose for the steps, where none takes any; else None.
    """
    found: list[str] = []
    if all(method.own is not None for method in methods):
        used = {"name"}.union(*(method.own or () for method in methods))
        found += [
            f"method.{name}" for name, value in settings if name not in used and value != _default(settings, name)
        ]
    if usual is not None:
        chosen = vars(usual)
        given = [
            name for name in OF_STEPS if getattr(training, name) not in (_default(training, name), chosen.get(name))
        ]
        found += [f"training.{name}" for name in given]
    return found


def _default(settings: Section, name: str) -> Any:
    return type(settings).model_fields[name].default


def backbone_parameters(model: nn.Module) -> int:
    """Parameters of the backbone outside its token embeddings: what a step's cost grows with."""
    backbone = base_model(model)
    embeddings = token_embedding(backbone)
    parts = [backbone] if embeddings is None else [backbone, embeddings]
    total, *in_embeddings = (sum(p.numel() for p in part.parameters()) for part in parts)
    return total - sum(in_embeddings)


def optimizer_groups(model: nn.Module, rates: Mapping[str, float], weight_decay: float) -> list[dict[str, Any]]:
    """Optimizer groups of the parameters named in `rates`, each with its learning rate; no decay on vectors."""
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if name in rates:
            key = (rates[name], weight_decay if parameter.ndim >= 2 else 0.0)
            group = groups.setdefault(key, {"params": [], "lr": key[0], "weight_decay": key[1]})
            group["params"].append(parameter)
    return list(groups.values())


def train_only(model: nn.Module, names: Iterable[str]) -> None:
    """Set `requires_grad` on exactly the named parameters.

    Raises:
        ModelError: no parameter has one of these names.
    """
    wanted = set(names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in wanted)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError("the method would train no parameter of this model; choose another method.name")
