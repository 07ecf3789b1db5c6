"""From a configuration to fitted models: one starting point, and a candidate for each method that is tried on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from tunesmith.config.schema import Config, TrainingSettings
from tunesmith.data.records import Records
from tunesmith.errors import UsageError
from tunesmith.methods import METHODS
from tunesmith.methods.base import LARGE_MODEL, Method, backbone_parameters
from tunesmith.models.heads import PooledClassifier, final_linear, has_inner_head
from tunesmith.models.loading import Source, find_source, load_classifier, load_config, load_tokenizer, token_limit
from tunesmith.registry import did_you_mean, lookup
from tunesmith.tasks.base import LabelSpace, Task
from tunesmith.tasks.encoding import EncodedTexts, Truncation, choose_max_length
from tunesmith.training.fit import Assignment, Fit, fit, resolve_training
from tunesmith.training.precision import Precision
from tunesmith.training.stepping import Workplace

FEW_ROWS = 300
"""Below this many training rows only the last layers are recommended for training."""


@dataclass(frozen=True)
class StartingPoint:
    """A pretrained model before any method touched it, and everything that was decided for it.

    Attributes:
        space: the label space of the train split.
        pooling: ``head``, ``first`` or ``mean``.
        truncation: how much of a text is read.
        pairs: the examples are pairs of texts.
        rows: number of training records, before others are made from them.
    """

    config: Config
    source: Source
    task: Task
    tokenizer: Any
    space: LabelSpace
    pooling: str
    truncation: Truncation
    pairs: bool
    precision: Precision
    rows: int

    @classmethod
    def load(cls, config: Config, task: Task, train: Records, precision: Precision) -> StartingPoint:
        """Find and open the model, and settle what depends on it and on the training texts.

        Raises:
            ModelError: the model cannot be used.
            UsageError: the metric is not one of the task's.
        """
        metric, suitable = config.training.metric, list(task.metrics)
        if metric is not None and metric not in suitable:
            raise UsageError(f"--metric {metric}: not a metric of {task.name}; {did_you_mean(metric, suitable)}")
        if config.training.class_weights == "balanced" and task.head != "sequence":
            raise UsageError(f"--class-weights balanced: not defined for {task.name}; leave it out")
        if config.model.pooling in ("first", "mean") and task.head != "sequence":
            raise UsageError(
                f"--pooling {config.model.pooling}: {task.name} needs the states of all tokens; leave it out"
            )
        if config.training.long != "keep-start" and task.head != "sequence":
            raise UsageError(f"--long {config.training.long}: {task.name} reads all of a text anyway; leave it out")
        if config.training.long == "keep-ends" and train.has("text_pair"):
            raise UsageError("--long keep-ends: not defined for pairs of texts; use keep-start or windows")
        source = find_source(config.model)
        tokenizer = load_tokenizer(source)
        limit = token_limit(load_config(source), tokenizer)
        max_tokens = choose_max_length(train, tokenizer, limit, config.training.max_length)
        truncation = Truncation(max_tokens, config.training.long)
        space = task.labels(train)
        pairs = train.has("text_pair")
        pooling: str = config.model.pooling if task.head == "sequence" else "head"
        point = cls(config, source, task, tokenizer, space, pooling, truncation, pairs, precision, len(train))
        model = point.model()
        if final_linear(model).bias is None:  # an offset could not be written back into the layer
            space = dataclasses.replace(space, mean=0.0)
        pooling = model.pooling if isinstance(model, PooledClassifier) else "head"
        return dataclasses.replace(point, space=space, pooling=pooling)

    def model(self, pooling: str | None = None) -> nn.Module:
        """A fresh copy of the model, the same at every call."""
        return load_classifier(
            self.source,
            self.tokenizer,
            self.space.names,
            self.task.problem_type,
            pooling or self.pooling,
            self.config.training.seed,
            self.task.head,
        )

    @property
    def answer_space(self) -> LabelSpace:
        """The label space of a fitted model."""
        return self.space.in_users_units


@dataclass(frozen=True)
class Candidate:
    """One method's result.

    Attributes:
        settings: with every value resolved.
        pooling: that the fitted model has.
    """

    method: Method
    task: Task
    fitted: Fit
    settings: TrainingSettings
    pooling: str

    def goodness(self) -> float:
        """The validation metric, larger for better."""
        best = self.fitted.best
        return float(best["value"]) * (1 if self.task.metrics[best["metric"]].higher_is_better else -1)


def choose_methods(config: Config, point: StartingPoint, rows: int) -> Iterator[Method]:
    """The method asked for; for ``auto`` features first (seconds), then the one recommended for data and model."""
    names = [config.method.name]
    if config.method.name == "auto":
        few, large = rows < FEW_ROWS, backbone_parameters(point.model()) >= LARGE_MODEL
        names = ["features", "freeze" if few else "lora" if large else "full"]
    for name in names:
        yield lookup(METHODS, "methods", name)(config.method)


def try_method(
    method: Method, features: Mapping[str, EncodedTexts], point: StartingPoint, place: Workplace
) -> Candidate:
    """Fit a fresh copy of the starting point by `method` on the ``train`` features, watched on ``valid``."""
    model, pooling = point.model(), point.pooling
    if (
        method.solves_head
        and point.task.head == "sequence"
        and point.config.model.pooling == "auto"
        and pooling == "head"
        and has_inner_head(model)
    ):
        # What reaches the last layer of such a head has passed through weights that nothing has trained.
        pooling, model = "mean", point.model("mean")
    rows = len(features["train"])
    settings = resolve_training(point.config.training, method, model, rows, point.task.primary_metric)
    settings = settings.model_copy(
        update={"max_length": point.truncation.max_tokens, "precision": point.precision.state}
    )
    train, valid, engine = features["train"], features["valid"], point.config.engine
    originals = point.rows if train.record_of is None else int(np.searchsorted(train.record_of, point.rows))
    job = Assignment(method, point.task, point.space, train, valid, settings, engine, place, originals)
    result = fit(model, job)
    best = result.best
    place.progress.line(f"{method.name}: valid {best['metric']} {best['value']:.4f} after {result.seconds:.0f} s")
    return Candidate(method, point.task, result, settings, pooling)
