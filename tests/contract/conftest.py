"""Small problems of every task kind, and a way to fit a tiny model on them without the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from torch import nn

from tunesmith.config import Config, resolve
from tunesmith.data.records import Records
from tunesmith.engine.precision import choose_precision
from tunesmith.methods import METHODS
from tunesmith.methods.base import Method
from tunesmith.registry import lookup
from tunesmith.tasks import TASKS
from tunesmith.tasks.encoding import Features, encode
from tunesmith.training.candidates import StartingPoint
from tunesmith.training.fit import Assignment, Fit, Workplace, fit, resolve_training
from tunesmith.training.progress import Stages
from tunesmith.training.signals import StopRequest

WORDS = ["good", "bad", "great", "film", "book", "card", "bank", "money", "late", "lost", "new", "old", "fast", "cat"]
NAMES = ("alpha", "beta", "gamma")


def make_records(kind: str, rows: int = 24, seed: int = 0) -> Records:
    """Texts of 2 to 12 words whose labels follow from a word, so that they can be learned."""
    generator = np.random.default_rng(seed)
    texts, labels = [], []
    for row in range(rows):
        words = [str(w) for w in generator.choice(WORDS[3:], generator.integers(1, 12))]
        texts.append(" ".join([WORDS[row % 3], *words]))
        if kind == "multilabel":
            labels.append(list(NAMES[: row % 3 + 1]))  # one to three labels; every row has the first
        else:
            labels.append(f"{row % 3 + row / 100:.2f}" if kind == "regression" else NAMES[row % 3])
    columns = {
        "id": [str(row) for row in range(rows)],
        "text": texts,
        "label": pa.array(labels),
        "row": pa.array(range(1, rows + 1), pa.int64()),
    }
    return Records(pa.table(columns), "made.csv")


@dataclass(frozen=True)
class Problem:
    """A starting point with encoded data."""

    point: StartingPoint
    features: Features
    folder: Path

    def method(self) -> Method:
        return lookup(METHODS, "methods", self.point.config.method.name)(self.point.config.method)

    def settings(self, model: nn.Module) -> Any:
        return resolve_training(self.point.config.training, self.method(), model, len(self.features), "accuracy")

    def fit(self, folder: Path | None = None, stop: StopRequest | None = None, resume: bool = False) -> Fit:
        place = Workplace(
            folder or self.folder, self.point.tokenizer, Stages(quiet=True), stop or StopRequest(), {"run": "1"}, resume
        )
        point, model, method = self.point, self.point.model(), self.method()
        settings = resolve_training(point.config.training, method, model, len(self.features), point.task.primary_metric)
        settings = settings.model_copy(update={"precision": "float32"})
        engine = point.config.engine
        job = Assignment(method, point.task, point.space, self.features, self.features, settings, engine, place)
        return fit(model, job)


@pytest.fixture
def make_problem(tiny_model_folder: Callable[[str], Path], tmp_path: Path) -> Callable[..., Problem]:
    """Factory: task kind, model family and options (names of flags) → `Problem`."""

    def make(kind: str = "classification", family: str = "bert", rows: int = 24, **options: Any) -> Problem:
        sets = tuple(f"{key}={value}" for key, value in options.pop("sets", {}).items())
        config: Config = resolve(options={"model": str(tiny_model_folder(family)), "seed": 1} | options, sets=sets)
        records, task = make_records(kind, rows), lookup(TASKS, "tasks", kind)()
        point = StartingPoint.load(config, task, records, choose_precision("float32"))
        targets = task.targets(records, point.space)
        file = tmp_path / f"{kind}-{family}-{len(list(tmp_path.iterdir()))}.arrow"
        features = encode(records, point.tokenizer, point.max_length, targets, file)
        return Problem(point, features, tmp_path)

    return make
