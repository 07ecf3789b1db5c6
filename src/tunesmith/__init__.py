"""Tunesmith: fine-tune pretrained text models on your own data.

    import tunesmith
    run = tunesmith.train("tickets.csv", method="full")
    run.metrics["test"]["accuracy"].value
    tunesmith.load(run).predict(["my card has not arrived"])

Names are imported when they are first used, so that ``import tunesmith`` costs nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tunesmith import extras, startup
from tunesmith.errors import (
    DataError,
    DivergedError,
    Interrupted,
    ModelError,
    ResourceError,
    TunesmithError,
    UsageError,
)

if TYPE_CHECKING:
    from tunesmith.adapting import AdaptedModel
    from tunesmith.api import Findings, adapt, check, find_models, runs, train
    from tunesmith.catalogue.catalogue import Suggestion
    from tunesmith.config.options import AdaptOptions, ReadOptions, TrainOptions, UseOptions
    from tunesmith.config.schema import AdaptConfig, Config
    from tunesmith.data.checks import Finding
    from tunesmith.data.summary import Summary
    from tunesmith.evaluating import Evaluation
    from tunesmith.evaluation.intervals import Score
    from tunesmith.exporting.making import Exported
    from tunesmith.predicting import Written
    from tunesmith.predictor import Predictor
    from tunesmith.publishing import Pushed
    from tunesmith.run.record import Run
    from tunesmith.run.runs import RunFacts
    from tunesmith.tasks.predictions import Prediction
    from tunesmith.training.arguments import TrainingArguments
    from tunesmith.training.trainer import Trainer
    from tunesmith.using import evaluate, export, load, predict, push, write_predictions

# onnxruntime tells Microsoft how it is used unless this is set before it is imported; nothing here is sent unasked.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = [
    "AdaptConfig", "AdaptOptions", "AdaptedModel", "Config", "DataError", "DivergedError", "Evaluation", "Exported",
    "Finding", "Findings", "Interrupted", "ModelError", "Prediction", "Predictor", "Pushed", "ReadOptions",
    "ResourceError", "Run", "RunFacts", "Score", "Suggestion", "Summary", "TrainOptions", "Trainer",
    "TrainingArguments", "TunesmithError", "UsageError", "UseOptions", "Written", "adapt", "check", "evaluate",
    "export", "find_models", "load", "predict", "push", "runs", "train", "write_predictions",
]  # fmt: skip

_MODULES = {
    "adapting": "AdaptedModel",
    "api": "Findings adapt check find_models runs train",
    "catalogue.catalogue": "Suggestion",
    "config.options": "AdaptOptions ReadOptions TrainOptions UseOptions",
    "config.schema": "AdaptConfig Config",
    "data.checks": "Finding",
    "data.summary": "Summary",
    "evaluating": "Evaluation",
    "evaluation.intervals": "Score",
    "exporting.making": "Exported",
    "predicting": "Written",
    "predictor": "Predictor",
    "publishing": "Pushed",
    "run.record": "Run",
    "run.runs": "RunFacts",
    "tasks.predictions": "Prediction",
    "training.arguments": "TrainingArguments",
    "training.trainer": "Trainer",
    "using": "evaluate export load predict push write_predictions",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'tunesmith' has no attribute {name!r}")
    try:
        with startup.uncollected():
            return getattr(import_module(f"tunesmith.{_MODULE_OF[name]}"), name)
    except ModuleNotFoundError as error:
        if message := extras.advice(error):
            raise UsageError(message) from error
        raise


def __dir__() -> list[str]:
    return sorted(__all__)
