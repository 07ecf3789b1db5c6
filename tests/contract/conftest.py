"""Small problems of every task kind, and a way to fit a tiny model on them without the command line."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.tiny import make_records
from tunesmith.config.loading import resolve
from tunesmith.config.schema import Config, MethodSettings
from tunesmith.data.records import Records
from tunesmith.engine import attention, kernel
from tunesmith.engine.dropout import Noise
from tunesmith.methods import METHODS
from tunesmith.methods.base import Method
from tunesmith.progress import Progress
from tunesmith.registry import lookup
from tunesmith.signals import StopRequest
from tunesmith.tasks import TASKS
from tunesmith.tasks.encoding import EncodedTexts, Encoder
from tunesmith.training.fitting import Fitting
from tunesmith.training.inference import predict_logits
from tunesmith.training.learning import fit


@dataclass(frozen=True)
class Problem:
    """A fit that has begun, with encoded data."""

    begun: Fitting
    features: EncodedTexts
    method_settings: MethodSettings

    def model(self) -> Any:
        """A fresh copy of the model."""
        return copy.deepcopy(self.begun.model)

    def method(self) -> Method:
        return lookup(METHODS, "methods", self.method_settings.name)(self.method_settings)

    def logits(self, model: nn.Module) -> np.ndarray:
        """What a model says of the encoded data."""
        return predict_logits(model, self.features, self.begun.tokenizer, self.begun.task)

    def by_method(self) -> Fitting:
        """What `fit` takes, with a copy of the model."""
        return self.begun.by(self.method(), self.features, self.features, self.model())

    def fit(self, folder: Path | None = None, stop: StopRequest | None = None, resume: bool = False) -> Fitting:
        fitting = self.by_method()
        fitting.folder, fitting.stop = folder or fitting.folder, stop or StopRequest()
        fitting.resume, fitting.identity = resume, {"run": "1"}
        return fit(fitting)


@pytest.fixture
def make_problem(tiny_model_folder: Callable[[str], Path], tmp_path: Path) -> Callable[..., Problem]:
    """Factory: task kind, model family, number of rows (or the records) and options (names of flags) → `Problem`."""

    def make(kind: str = "classification", family: str = "bert", rows: int | Records = 24, **options: Any) -> Problem:
        sets = tuple(f"{key}={value}" for key, value in options.pop("sets", {}).items())
        config: Config = resolve(options={"model": str(tiny_model_folder(family)), "seed": 1} | options, sets=sets)
        records = make_records(kind, rows) if isinstance(rows, int) else rows
        task = lookup(TASKS, "tasks", kind)()
        begun = Fitting.begin(config, task, records, tmp_path, Progress(quiet=True))
        begun.settings = begun.settings.model_copy(update={"precision": "float32"})
        file = tmp_path / f"{kind}-{family}-{len(list(tmp_path.iterdir()))}.arrow"
        features = task.encode(records, begun.space, Encoder(begun.tokenizer, begun.truncation, file), True)
        return Problem(begun, features, config.method)

    return make


@pytest.fixture
def without_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout draws its noise per micro-batch, so steps that are cut differently are compared without it."""
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, *given, **named: x)
    attend = torch.nn.functional.scaled_dot_product_attention

    def plain(*args: Any, **options: Any) -> torch.Tensor:
        return attend(*args, **options | {"dropout_p": 0.0})

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", plain)
    monkeypatch.setattr(Noise, "mask", lambda self, shape, p, dtype: torch.ones(shape, dtype=dtype))
    monkeypatch.setattr(attention, "_mask", lambda noise, p, like, shape: like.new_ones(shape))
    fused = kernel.attend_by_kernel
    monkeypatch.setattr(kernel, "attend_by_kernel", lambda *given: fused(*given[:-1], 0.0))
