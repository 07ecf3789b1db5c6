"""What the Trainer works out by itself: what it knows of a model, a head's loss and metrics, the tokens of the data."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import transformers
from datasets import Dataset
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTuner
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
from tunesmith.tasks.encoding import IGNORED
from tunesmith.tasks.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError

OPTIMIZERS = ("adamw_torch", "adamw_torch_fused")
"""The Trainer's names of the optimizers that a compact vocabulary can follow."""
COLLATORS = (DataCollatorWithPadding, DataCollatorForTokenClassification)
"""Those that bring no token into a batch but padding."""
POOLED_HEADS = ("ForSequenceClassification", "ForMultipleChoice", "ForNextSentencePrediction")
CAUSAL_HEADS = ("ForCausalLM", "LMHeadModel")
TOKEN_HEADS = ("ForTokenClassification", "ForMaskedLM", *CAUSAL_HEADS)
"""How transformers calls its heads that read no state of padding, if no label stands there. The softmax of question
answering runs over padding, too."""
TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
LIBRARIES = ("tunesmith", "transformers")
ROWS_AT_ONCE = 10_000


def signature_with_stock(ours: Callable[..., Any]) -> inspect.Signature:
    """The signature of the library's ``Trainer.__init__`` with the arguments that `ours` has besides."""
    stock = inspect.signature(transformers.Trainer.__init__).parameters
    added = [p for p in inspect.signature(ours).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return inspect.Signature([*stock.values(), *added])


def is_replaced(trainer: Any, method: str) -> bool:
    """Whether a subclass, or the user of this Trainer, put a method of their own in the place of one."""
    return str(getattr(getattr(trainer, method), "__module__", None)).partition(".")[0] not in LIBRARIES


def is_subclass(trainer: Any) -> bool:
    """Whether the Trainer is of a class that is neither ours nor the library's."""
    return type(trainer).__module__.partition(".")[0] not in LIBRARIES


def training_tokens(trainer: Any) -> np.ndarray | None:
    """Ids of every token that a Trainer's training will meet, each once; None where they are not certain.

    They are those of the data's ``input_ids`` where neither a transform nor the collator can bring others, and where
    the Trainer makes the optimizer, once, for one process. Subclasses and callbacks of others may look at the table of
    embeddings or at the optimizer, so with them it stays whole. Tokens of evaluation need not be known.
    """
    args, data, collator = trainer.args, trainer.train_dataset, trainer.data_collator
    alone = args.world_size == 1 and not trainer.is_deepspeed_enabled and not trainer.is_fsdp_enabled
    alone &= not args.auto_find_batch_size and not is_subclass(trainer)
    alone &= all(type(c).__module__.partition(".")[0] in LIBRARIES for c in trainer.callback_handler.callbacks)
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


def head_loss(trainer: Any) -> Loss | None:
    """The loss of a head of transformers as its own forward would choose it; None for all that is not such a head.

    Its class, its forward and what is around it must be the library's own, and no loss be set on the model.
    """
    model, args = trainer.model, trainer.args
    plain: Any = plain_model(model)
    kind = type(plain)
    tuner: Any = type(getattr(model, "base_model", None))
    unchanged = all(name.startswith("transformers.") for name in (kind.__module__, kind.forward.__module__))
    unchanged &= "forward" not in vars(plain) and "_loss_function" not in vars(plain)
    unchanged &= not isinstance(model, PeftModel) or tuner.forward is BaseTuner.forward  # AdaLoRA adds to the loss
    whole = not args.use_liger_kernel and getattr(trainer.accelerator, "parallelism_config", None) is None
    if not (unchanged and whole) or getattr(plain.config, "return_dict", True) is False:
        return None
    smoothing = float(args.label_smoothing_factor) if trainer.label_smoother is not None else 0.0
    if kind.__name__.endswith(("ForTokenClassification", "ForMaskedLM")):
        return CrossEntropy(smoothing)
    if not is_sequence_classifier(plain):
        return None
    problem = getattr(plain.config, "problem_type", None)
    if problem == "multi_label_classification":
        return BinaryCrossEntropy()
    if problem == "regression" or (problem is None and plain.config.num_labels == 1):
        return SquaredError()
    return CrossEntropy(smoothing)


def reads_padding(model: nn.Module) -> bool:
    """Whether a head may read the states of padding, which packing leaves out."""
    return not type(plain_model(model)).__name__.endswith((*POOLED_HEADS, *TOKEN_HEADS))


def uses_padding(model: nn.Module, inputs: dict[str, Any]) -> bool:
    """Whether this batch's loss depends on the state of padding: a label is predicted from it, or a text begins there.

    Encoders pool the state of the first column.
    """
    name, mask, labels = type(plain_model(model)).__name__, inputs.get("attention_mask"), inputs.get("labels")
    if not isinstance(mask, torch.Tensor) or mask.ndim != 2:
        return False
    if name.endswith(POOLED_HEADS):
        return bool((mask[:, 0] == 0).any())
    if not isinstance(labels, torch.Tensor) or not name.endswith(TOKEN_HEADS) or mask.shape != labels.shape:
        return False
    learned = labels != IGNORED
    if name.endswith(CAUSAL_HEADS):
        learned, mask = learned[:, 1:], mask[:, :-1] * mask[:, 1:]
    return bool((learned & (mask == 0)).any())


def padded_inputs(model: nn.Module, inputs: dict[str, Any]) -> list[str]:
    """Names of the inputs that may lose their padding on the right; none where something may depend on it."""
    plain: Any = plain_model(model)
    name, mask = type(plain).__name__, inputs.get("attention_mask")
    on_tokens = model.training and name.endswith(TOKEN_HEADS) and not uses_padding(model, inputs)
    asked = plain.config.output_hidden_states or plain.config.output_attentions
    if asked or not isinstance(mask, torch.Tensor) or not (on_tokens or name.endswith("ForSequenceClassification")):
        return []
    allowed = (*TOKEN_INPUTS, "labels") if on_tokens else TOKEN_INPUTS
    others = {key: value for key, value in inputs.items() if key not in allowed and isinstance(value, torch.Tensor)}
    others.pop("labels", None)
    if any(value.shape[:2] == mask.shape for value in others.values()):
        return []
    return [key for key in allowed if key in inputs and inputs[key].shape == mask.shape]


def wants_metrics(trainer: Any) -> bool:
    """Whether the metrics of a sequence classifier can be computed where the user asked for none."""
    asked = trainer.compute_metrics is not None or trainer.preprocess_logits_for_metrics is not None
    return not asked and not trainer.args.batch_eval_metrics and is_sequence_classifier(trainer.model)


def head_metrics(config: Any, evaluation: Any) -> dict[str, float]:
    """Every metric that fits a sequence classifier, from an `EvalPrediction` of logits and labels; none for others."""
    predictions, targets = evaluation.predictions, evaluation.label_ids
    if isinstance(predictions, list):  # not joined: eval_do_concat_batches=False
        predictions = [batch[0] if isinstance(batch, tuple) else batch for batch in predictions]
        predictions, targets = np.concatenate(predictions), np.concatenate(targets)
    logits = np.asarray(predictions[0] if isinstance(predictions, tuple) else predictions)
    labels = np.asarray(targets)
    problem = config.problem_type or ("regression" if config.num_labels == 1 else None)
    if problem == "regression":
        return unweighted(regression_statistics, (labels.reshape(-1), logits.reshape(-1)))
    if logits.shape == labels.shape and logits.ndim == 2:
        return unweighted(multilabel_statistics, (labels > 0.5, logits >= 0, expit(logits)))
    if logits.shape[:-1] != labels.shape or labels.ndim != 1 or (labels < 0).any():
        return {}
    statistics = partial(classification_statistics, num_labels=logits.shape[-1])
    return unweighted(statistics, (labels, logits.argmax(axis=-1), None))


def is_sequence_classifier(model: nn.Module) -> bool:
    """Whether it is one of transformers' ``…ForSequenceClassification``, with or without an adapter."""
    kind = type(plain_model(model))
    return kind.__module__.startswith("transformers.") and kind.__name__.endswith("ForSequenceClassification")


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
