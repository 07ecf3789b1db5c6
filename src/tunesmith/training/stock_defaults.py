"""What the Trainer works out by itself in place of the stock one: loss and metrics of a head, tokens of the data."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from peft import PeftModel
from scipy.special import expit
from torch import nn
from transformers import DataCollatorForTokenClassification, DataCollatorWithPadding, default_data_collator

from tunesmith.engine.core import plain_model
from tunesmith.evaluation.metrics import (
    classification_statistics,
    multilabel_statistics,
    regression_statistics,
    unweighted,
)
from tunesmith.models.heads import head_modules
from tunesmith.tasks.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError

OPTIMIZERS = ("adamw_torch", "adamw_torch_fused")
"""The Trainer's names of the optimizers that a compact vocabulary can follow."""
COLLATORS = (DataCollatorWithPadding, DataCollatorForTokenClassification)
"""Those that bring no token into a batch but padding."""
BRING_TOKENS = (
    "compute_loss",
    "create_optimizer",
    "get_batch_samples",
    "get_train_dataloader",
    "training_step",
    "_prepare_inputs",
)
"""Methods through which a subclass may bring in tokens, or an optimizer, that are not known beforehand."""
ROWS_AT_ONCE = 10_000


def training_tokens(trainer: Any) -> np.ndarray | None:
    """Ids of every token that a Trainer's training will meet, each once; None where they are not certain.

    They are those of the data's ``input_ids`` where neither a transform nor the collator can bring others, and where
    the Trainer makes the optimizer, for one process. Tokens of evaluation need not be known.
    """
    args, data, collator = trainer.args, trainer.train_dataset, trainer.data_collator
    alone = args.world_size == 1 and not trainer.is_deepspeed_enabled and not trainer.is_fsdp_enabled
    ours = trainer.optimizer is None and trainer.optimizer_cls_and_kwargs is None and args.optim in OPTIMIZERS
    plain = collator is default_data_collator or type(collator) in COLLATORS
    if not (alone and ours and plain and isinstance(data, Dataset)) or data.format["type"] == "custom":
        return None
    if "input_ids" not in data.column_names:
        return None
    tokens = np.empty(0, dtype=np.int64)
    for batch in data.select_columns("input_ids").with_format("arrow").iter(ROWS_AT_ONCE):
        ids = batch.column(0).combine_chunks().flatten()
        if not pa.types.is_integer(ids.type):
            return None
        tokens = np.union1d(tokens, ids.to_numpy(zero_copy_only=False))
    for tokenizer in (trainer.processing_class, getattr(collator, "tokenizer", None)):
        tokens = np.union1d(tokens, getattr(tokenizer, "all_special_ids", []))  # padding is one of them
    return tokens.astype(np.int64)


def head_loss(model: nn.Module, args: Any) -> Loss | None:
    """The loss of a transformers classification head, as its own forward would choose it; None for other models.

    Args:
        args: training arguments, for their `label_smoothing_factor`.
    """
    plain = plain_model(model)
    smoothing = float(args.label_smoothing_factor)
    if type(plain).__name__.endswith("ForTokenClassification"):
        return CrossEntropy(smoothing)
    if not is_sequence_classifier(plain):
        return None
    config: Any = plain.config
    kind = getattr(config, "problem_type", None)
    if kind == "multi_label_classification":
        return BinaryCrossEntropy(smoothing)
    if kind == "regression" or (kind is None and config.num_labels == 1):
        return SquaredError()
    return CrossEntropy(smoothing)


def head_metrics(loss: Loss | None, evaluation: Any) -> dict[str, float]:
    """Every metric that fits a sequence classifier's loss, from an `EvalPrediction` of logits and labels."""
    logits = evaluation.predictions[0] if isinstance(evaluation.predictions, tuple) else evaluation.predictions
    labels = np.asarray(evaluation.label_ids)
    if isinstance(loss, SquaredError):
        return unweighted(regression_statistics, (labels.reshape(-1), logits.reshape(-1)))
    if isinstance(loss, BinaryCrossEntropy):
        return unweighted(multilabel_statistics, (labels > 0.5, logits >= 0, expit(logits)))
    statistics = partial(classification_statistics, num_labels=logits.shape[-1])
    return unweighted(statistics, (labels, logits.argmax(axis=-1), None))


def is_sequence_classifier(model: nn.Module) -> bool:
    """Whether it is one of transformers' ``…ForSequenceClassification``, with or without an adapter."""
    return type(plain_model(model)).__name__.endswith("ForSequenceClassification")


def warn_of_frozen_new_head(model: nn.Module) -> None:
    """Say so when an adapter leaves a classification head frozen, which is seldom meant: a new head is random."""
    if not isinstance(model, PeftModel) or not is_sequence_classifier(model):
        return
    if not any(p.requires_grad for name, p in model.named_parameters() if "lora_" not in name):
        head = head_modules(plain_model(model))
        warnings.warn(
            f"the adapter leaves the classification head frozen; pass modules_to_save={head} to "
            "LoraConfig unless the head was trained before",
            UserWarning,
            stacklevel=3,
        )
