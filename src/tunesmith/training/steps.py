"""A fit by optimizer steps: the Trainer's arguments from the settings, and where a resumed run goes on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Subset
from transformers import EarlyStoppingCallback, EvalPrediction, PrinterCallback

from tunesmith.errors import ModelError, UsageError
from tunesmith.tasks.batching import PaddingCollator
from tunesmith.training.arguments import TrainingArguments
from tunesmith.training.callbacks import ProgressCallback
from tunesmith.training.checkpoint import last_valid
from tunesmith.training.inference import tokens_in_order
from tunesmith.training.precision import choose_device
from tunesmith.training.trainer import Trainer

if TYPE_CHECKING:
    from tunesmith.training.fitting import Fitting

LOGS_PER_EPOCH = 20


def take_steps(fitting: Fitting) -> None:
    """Train by steps with a checkpoint an epoch; a resumed run goes on from the newest one that can be used.

    Raises:
        ModelError, DivergedError, Interrupted: see `Trainer.train`.
    """
    task, train, valid, settings = fitting.task, fitting.train, fitting.valid, fitting.settings
    name = fitting.method.name if valid is not None else fitting.phase
    metric, watched = str(settings.metric), dict[str, Any]()
    if valid is not None:
        by_length = np.argsort(valid.lengths)  # less padding

        def metrics(found: EvalPrediction) -> dict[str, float]:
            logits: Any = found.predictions
            if task.on_tokens:
                return fitting.quick_scores(tokens_in_order(logits, valid.lengths, by_length))
            return fitting.quick_scores(logits[by_length.argsort()])

        watched = {"eval_dataset": Subset(valid, by_length.tolist()), "compute_metrics": metrics}
    arguments = _arguments(fitting)
    with fitting.progress.bar(name, fitting.steps_per_epoch * (settings.epochs or 1)) as bar:
        progress = ProgressCallback(bar, fitting.folder / "metrics.jsonl", metric, name)
        collate = PaddingCollator.of(fitting.tokenizer, task.head)
        trainer = Trainer(
            fitting.model, arguments, collate, train_dataset=train, fitting=fitting, callbacks=[progress], **watched
        )
        trainer.remove_callback(PrinterCallback)
        if settings.early_stopping:
            trainer.add_callback(EarlyStoppingCallback(settings.early_stopping))
        checkpoint = None
        if fitting.resume:
            checkpoint, problems = last_valid(Path(str(arguments.output_dir)), fitting.phase, fitting.identity)
            for problem in problems:
                fitting.progress.line(f"warning: {problem}")
            start = f"resuming from {checkpoint}" if checkpoint else "no checkpoint yet: starting from the first step"
            fitting.progress.line(start)
        with fitting.stop:
            trainer.train(None if checkpoint is None else str(checkpoint))
    state = trainer.state
    if valid is not None:
        if state.best_global_step is None:
            raise ModelError(f"no evaluation gave a usable {metric}; choose another training.metric")
        fitting.best = {"step": state.best_global_step, "metric": metric, "value": state.best_metric}
    fitting.details = {"steps": state.global_step}
    epochs = (state.global_step - progress.first_step) * (settings.batch_size or 1) / max(1, len(train))
    fitting.tokens = int(train.lengths.sum() * min(epochs, settings.epochs or 1))


def _arguments(fitting: Fitting) -> TrainingArguments:
    settings, steps_per_epoch = fitting.settings, fitting.steps_per_epoch
    assert settings.batch_size and settings.epochs and settings.metric
    if settings.batch_size % settings.accumulation:
        raise UsageError(
            f"training.accumulation={settings.accumulation} does not divide training.batch_size={settings.batch_size}"
        )
    watched = {
        "per_device_eval_batch_size": 64,
        "eval_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": settings.metric,
        "greater_is_better": fitting.task.metrics[settings.metric].higher_is_better,
    }
    return TrainingArguments(
        output_dir=str(fitting.folder / "checkpoints"),
        per_device_train_batch_size=settings.batch_size // settings.accumulation,
        gradient_accumulation_steps=settings.accumulation,
        num_train_epochs=settings.epochs,
        learning_rate=settings.lr,
        warmup_steps=math.ceil(settings.warmup * steps_per_epoch * settings.epochs),
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        save_strategy="epoch",
        save_total_limit=1,
        logging_steps=max(1, steps_per_epoch // LOGS_PER_EPOCH),
        seed=settings.seed,
        bf16=settings.precision == "bfloat16",
        fp16=settings.precision == "float16",
        use_cpu=choose_device().type == "cpu",
        report_to=settings.tracker,
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        **(watched if fitting.valid is not None else {}),
    )
