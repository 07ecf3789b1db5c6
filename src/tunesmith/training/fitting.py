"""What carries a fit, from the pretrained model to what came of it; `learning` tells how it goes."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import PreTrainedModel

from tunesmith import signals
from tunesmith.config.schema import Config, EngineSettings, TrainingSettings
from tunesmith.data.records import Records
from tunesmith.errors import UsageError
from tunesmith.evaluation.intervals import Score
from tunesmith.methods.base import Method
from tunesmith.models.heads import PooledClassifier, base_model, final_linear, has_inner_head
from tunesmith.models.loading import keeps_head, load_classifier, load_config, load_tokenizer, token_limit
from tunesmith.models.source import Source, find_source
from tunesmith.progress import Progress
from tunesmith.registry import did_you_mean
from tunesmith.tasks.base import LabelSpace, Task
from tunesmith.tasks.encoded import Encoded
from tunesmith.tasks.encoding import EncodedTexts, Truncation, choose_max_length
from tunesmith.tasks.losses import Loss
from tunesmith.training.precision import Precision, choose_device
from tunesmith.training.trial import Reader, settle_precision

FEW_VALID_ROWS = 50
"""Below this many validation rows it is chance which state scores best on them, and the last one is kept."""
INTERVAL_ERRORS = 2 * 1.96
"""Standard errors that a 95 % interval is wide."""


@dataclass
class Fitting:
    """What is to be learned, by which method, from which encoded texts, with which settings; then what came of it.

    `begin` loads the model; `by` adds a method and the texts; `fit` fills in the rest.

    Attributes:
        task, space: what is learned, and what the outputs of the model mean while it is trained.
        source, tokenizer: of the pretrained model.
        model: with its new head; after `fit` plain (adapters merged), in its best state and in eval mode.
        truncation: how much of a text is read.
        settings: of the steps; `by` resolves every value.
        engine: which parts of the engine may work.
        folder: of the run.
        progress: for the user.
        resume: continue from the newest valid checkpoint, if there is one.
        again: what goes on with the run when it was stopped, in words.
        identity: of the run, stored in its checkpoints; those of another are refused.
        stop: the request to end in order.
        phase: what checkpoints and lines of ``metrics.jsonl`` are called by.
        open_pooling: a method may take another pooling than the model has.
        rows: training records, before others are made from them.
        answers: bytes that the predictions of the run take at least.
        random_state: torch's, once the model was loaded; what a method draws follows from it.

        method: how much of the model is trained.
        train: encoded texts with targets.
        valid: those that are watched, and that the best state is chosen on where it can be; None watches nothing.

        adapter: folder with the adapter as it was before it was merged; None for a model without one.
        best: step, metric and value of the state that was kept.
        curve: the metric at each evaluation.
        details: what the method chose by itself.
        parameters: how many there are (``parameters``), and how many are trained (``trainable``).
        seconds: that this process took.
        tokens: real tokens that it learned from, over all epochs.
        report: what the engine did, by part.
    """

    task: Task
    space: LabelSpace
    source: Source
    tokenizer: Any
    model: Any
    truncation: Truncation
    settings: TrainingSettings
    engine: EngineSettings
    folder: Path
    progress: Progress
    resume: bool = False
    again: str = "the same command"
    identity: dict[str, Any] = field(default_factory=dict)
    stop: signals.StopRequest = field(default_factory=signals.current)
    phase: str = "step"
    open_pooling: bool = False
    rows: int = 0
    answers: int = 0
    random_state: torch.Tensor = field(default_factory=torch.get_rng_state)

    method: Method = field(init=False)
    train: Encoded = field(init=False)
    valid: EncodedTexts | None = field(init=False, default=None)

    adapter: Path | None = field(init=False, default=None)
    best: dict[str, Any] = field(init=False, default_factory=dict)
    curve: list[float] = field(init=False, default_factory=list)
    details: dict[str, Any] = field(init=False, default_factory=dict)
    parameters: dict[str, int] = field(init=False)
    seconds: float = field(init=False)
    tokens: int = field(init=False)
    report: dict[str, Any] = field(init=False, default_factory=dict)

    @classmethod
    def begin(cls, config: Config, task: Task, train: Records, folder: Path, progress: Progress) -> Fitting:
        """Load the model, and settle what depends on it and on the training texts.

        Raises:
            ModelError: the model cannot be used.
            UsageError: settings that are not defined for the task.
        """
        settings, pooling = config.training, config.model.pooling
        _refuse_unsuitable(settings, pooling, task, train)
        source = find_source(config.model)
        tokenizer = load_tokenizer(source)
        there = load_config(source)
        limit = token_limit(there, tokenizer)
        truncation = Truncation(choose_max_length(train, tokenizer, limit, settings.max_length), settings.long)
        if settings.max_length not in ("auto", truncation.max_tokens):
            limits = f"model {source.name} reads {truncation.max_tokens:,} tokens at most"
            progress.line(f"note: training.max_length={settings.max_length}: {limits}")
        space = task.labels(train)
        if task.on_tokens:
            pooling = "head"
        model = load_classifier(source, tokenizer, space.names, task.problem_type, pooling, settings.seed, task.head)
        if source.trained:
            kept = not isinstance(model, PooledClassifier) and keeps_head(
                there, space.names, task.problem_type, task.head
            )
            head = "its head, which is for the same labels" if kept else "a new head"
            progress.line(f"note: model {source.name}: trained before; training goes on from its backbone with {head}")
        if final_linear(model).bias is None:  # an offset could not be written back into the layer
            space = replace(space, mean=0.0)
        settings = settings.model_copy(update={"max_length": truncation.max_tokens})
        return cls(
            task=task,
            space=space,
            source=source,
            tokenizer=tokenizer,
            model=model.to(choose_device()),
            truncation=truncation,
            settings=settings,
            engine=config.engine,
            folder=folder,
            progress=progress,
            open_pooling=pooling == "auto" and not isinstance(model, PooledClassifier),
            rows=len(train),
        )

    def settle(self, chosen: Precision, pairs: bool = False) -> Precision:
        """Try the model, see `settle_precision`, and run in what it says."""
        reader = Reader(self.model, self.tokenizer, self.task, self.space, self.truncation, pairs, trains=True)
        settled = settle_precision(chosen, self.source.name, reader)
        if settled != chosen:
            self.progress.line(f"note: model {self.source.name}: {settled.state}, as {settled.reason}")
        self.settings = self.settings.model_copy(update={"precision": settled.state})
        return settled

    def by(self, method: Method, train: Encoded, valid: EncodedTexts | None = None, model: Any = None) -> Fitting:
        """The same for a method and texts; every open setting becomes the method's default.

        Args:
            model: a copy of the model for the method's own use; None for the model itself.
        """
        fitting = copy.copy(self)
        fitting.method, fitting.train, fitting.valid = method, train, valid
        fitting.model = model = self.model if model is None else model
        if fitting.solves and self.open_pooling and has_inner_head(model):
            # What reaches the last layer of such a head has passed through weights that nothing has trained.
            fitting.model = PooledClassifier(cast(PreTrainedModel, base_model(model)), len(self.space.names), "mean")
        stepped = 0 if fitting.solves else len(train)
        chosen = method.defaults(fitting.model, len(train)).missing_in(self.settings, stepped)
        chosen["metric"] = self.settings.metric or self.task.primary_metric
        fitting.settings = self.settings.model_copy(update=chosen)
        fitting.best, fitting.curve, fitting.details, fitting.report = {}, [], {}, {}
        return fitting

    def by_each(self, methods: Sequence[Method], train: Encoded, valid: EncodedTexts) -> list[Fitting]:
        """A fit for each of the methods, with a model of its own, so that the weights are read once for all of them."""
        models = [*(copy.deepcopy(self.model) for _ in methods[1:]), self.model]
        fittings = [self.by(method, train, valid, model) for method, model in zip(methods, models, strict=True)]
        if len(fittings) > 1:
            for fitting in fittings:
                fitting.phase = f"{fitting.method.name}-{self.phase}"  # none resumes from another's checkpoints
        return fittings

    @property
    def solves(self) -> bool:
        """The head is solved for; where it has many outputs a text, a frozen backbone is trained on instead."""
        return self.method.solves_head and not self.task.on_tokens

    @property
    def chooses_state(self) -> bool:
        """The state with the best validation score is kept, not the last one."""
        early = self.settings.early_stopping is not None
        return self.valid is not None and (early or len(self.valid.gold) >= FEW_VALID_ROWS)

    @property
    def pooling(self) -> str:
        """How token states become a text's vector: ``head``, ``first`` or ``mean``."""
        return self.model.pooling if isinstance(self.model, PooledClassifier) else "head"

    @property
    def score(self) -> float:
        """The validation metric of the state that was kept, larger for better."""
        return float(self.best["value"]) * self._sign

    @property
    def _sign(self) -> int:
        return 1 if self.task.metrics[self.best["metric"]].higher_is_better else -1

    def unfinished(self, valid: Mapping[str, Score]) -> str | None:
        """A warning where more epochs would help: the last evaluation was the best, and not by chance.

        By chance would be a gain over the last third of the evaluations of at most a standard error of the score.

        Args:
            valid: scores of the validation texts, with their 95 % intervals.
        """
        metric, values = self.best["metric"], [self._sign * value for value in self.curve]
        if len(values) < 3 or values[-1] <= max(values[:-1]) or metric not in valid:
            return None
        before = len(values) - 1 - math.ceil(len(values) / 3)
        if values[-1] - values[before] <= (valid[metric].high - valid[metric].low) / INTERVAL_ERRORS:
            return None
        course = f"{self.curve[before]:.4f} → {self.curve[-1]:.4f}"
        more = 2 * (self.settings.epochs or 1)
        return (
            f"{self.method.name}: valid {metric} was still improving at the last evaluation ({course} over the last "
            f"third of the steps); try training.epochs={more}"
        )

    def loss(self) -> Loss:
        """The task's loss with these settings and the class weights of the training texts."""
        weights = None
        if self.settings.class_weights == "balanced":
            weights = self.task.class_weights(cast(EncodedTexts, self.train).gold, self.space)
        return self.task.loss(self.settings.label_smoothing, None if weights is None else torch.from_numpy(weights))

    def quick_scores(self, logits: np.ndarray) -> dict[str, float]:
        """Every metric, without intervals, of logits for the validation texts."""
        assert self.valid is not None
        return self.task.quick_score(self.task.outputs(logits, self.valid, self.space), self.valid.gold, self.space)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train) / (self.settings.batch_size or 1))

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """What is trained, and what is drawn anew of the texts, from this epoch on."""
        self.method.begin_epoch(self.model, epoch, epochs)
        self.train.begin_epoch(epoch)


def _refuse_unsuitable(settings: TrainingSettings, pooling: str, task: Task, train: Records) -> None:
    metric = settings.metric
    if metric is not None and metric not in task.metrics:
        hint = did_you_mean(metric, list(task.metrics))
        raise UsageError(f"training.metric={metric}: not a metric of {task.name}; {hint}")
    if task.on_tokens:
        if settings.class_weights == "balanced":
            raise UsageError(f"training.class_weights=balanced: not defined for {task.name}; leave it out")
        if pooling in ("first", "mean"):
            raise UsageError(f"model.pooling={pooling}: {task.name} needs the states of all tokens; leave it out")
        if settings.long != "keep-start":
            raise UsageError(f"training.long={settings.long}: {task.name} reads all of a text anyway; leave it out")
    if settings.long == "keep-ends" and train.has("text_pair"):
        raise UsageError("training.long=keep-ends: not defined for pairs of texts; use keep-start or windows")
