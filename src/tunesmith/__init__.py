"""Tunesmith: fine-tune pretrained text models on your own data.

    import tunesmith
    run = tunesmith.train("tickets.csv", method="full")
    run.metrics["test"]["accuracy"].value
    tunesmith.load(run).predict(["my card has not arrived"])

Names are imported when they are first used, so that ``import tunesmith`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.api import adapt, check, evaluate, find_models, load, train
    from tunesmith.training.arguments import TrainingArguments
    from tunesmith.training.trainer import Trainer

__version__ = "0.1.0"
__all__ = ["Trainer", "TrainingArguments", "adapt", "check", "evaluate", "find_models", "load", "train"]

_MODULES = {
    "Trainer": "tunesmith.training.trainer",
    "TrainingArguments": "tunesmith.training.arguments",
    "adapt": "tunesmith.api",
    "check": "tunesmith.api",
    "evaluate": "tunesmith.api",
    "find_models": "tunesmith.api",
    "load": "tunesmith.api",
    "train": "tunesmith.api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'tunesmith' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
