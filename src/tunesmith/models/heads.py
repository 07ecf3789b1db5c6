"""Heads and pooling: what stands on top of the backbone, and how it is saved so that other tools can load it.

A model is either the architecture's own ``…ForSequenceClassification`` or a `PooledClassifier`: the bare backbone, one
vector per text by first-token or mean pooling, and a linear layer. The first is saved as an ordinary transformers
folder, the second in the layout of sentence-transformers (see `tunesmith.models.sentence`).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import logging

from tunesmith.disk import parse_json
from tunesmith.errors import ModelError
from tunesmith.models import sentence

ABOUT = "tunesmith"
"""Where the file of a head says what it means: the only key, since those of several have no order in the file."""


class PooledClassifier(nn.Module):
    """Backbone, pooling and one linear layer.

    Args:
        backbone: a model that returns ``last_hidden_state`` (batch, length, hidden).
        num_labels: number of logits.
        pooling: ``"mean"`` over the real tokens, or ``"first"`` token.
    """

    base_model_prefix = "backbone"

    def __init__(self, backbone: PreTrainedModel, num_labels: int, pooling: str) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = backbone.config
        self.pooling = pooling
        self.dropout = nn.Dropout(getattr(self.config, "hidden_dropout_prob", 0.1))
        self.classifier = nn.Linear(hidden_size(self.config), num_labels)
        nn.init.normal_(self.classifier.weight, std=getattr(self.config, "initializer_range", 0.02))
        nn.init.zeros_(self.classifier.bias)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Logits (batch, num_labels) for token ids (batch, length) and their mask (1 for real tokens)."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        wanted = (*input_ids.shape, self.classifier.in_features)
        if states.shape != wanted:
            raise ModelError(
                f"{type(self.backbone).__name__}: its states cannot be pooled (expected {wanted}, found "
                f"{tuple(states.shape)}); use method.name=full and model.pooling=head"
            )
        pooled = self.dropout(pool(states, attention_mask, self.pooling))
        return SequenceClassifierOutput(logits=self.classifier(pooled))


def hidden_size(config: Any) -> int:
    """Of the states of tokens; some configurations have it in a part for texts."""
    return int(getattr(config, "hidden_size", None) or config.get_text_config().hidden_size)


def pool(states: torch.Tensor, attention_mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """One vector per text (batch, hidden) from token states (batch, length, hidden), in the states' dtype.

    ``mean`` averages the real tokens (Reimers and Gurevych 2019); ``first`` takes the first real token.
    """
    if pooling == "first":
        first = attention_mask.argmax(dim=1)
        return states[torch.arange(states.shape[0], device=states.device), first]
    mask = attention_mask.unsqueeze(-1).to(states.dtype)
    return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def base_model(model: nn.Module) -> nn.Module:
    """The backbone below the head; the whole model where the head stands among its parts, as of T5 for questions."""
    return getattr(model, str(model.base_model_prefix), model)


def head_parameter_names(model: nn.Module) -> set[str]:
    """Names of the parameters that are not part of the backbone."""
    prefix = f"{model.base_model_prefix}."
    return {name for name, _ in model.named_parameters() if not name.startswith(prefix)}


def head_modules(model: nn.Module) -> list[str]:
    """Names of the top-level modules that make up the head (``["classifier"]``, ``["pre_classifier", ...]``)."""
    return list(dict.fromkeys(name.partition(".")[0] for name in sorted(head_parameter_names(model))))


def final_linear(model: nn.Module) -> nn.Linear:
    """The last linear layer, the one whose outputs are the logits.

    Raises:
        ModelError: the head does not end in a linear layer.
    """
    num_labels = int(model.config.num_labels)  # type: ignore[union-attr,arg-type]
    parts = [part for name in head_modules(model) for part in model.get_submodule(name).modules()]
    linears = [part for part in parts if isinstance(part, nn.Linear) and part.out_features == num_labels]
    if not linears:
        raise ModelError(f"{type(model).__name__}: its head does not end in a linear layer; try model.pooling=mean")
    return linears[-1]


def has_inner_head(model: nn.Module) -> bool:
    """Whether layers that may never have been trained stand between the token states and the last linear layer.

    They are part of a new head (RoBERTa's dense, DistilBERT's pre-classifier), or a pooler, which checkpoints may lack.
    """
    final = {id(parameter) for parameter in final_linear(model).parameters()}
    between = head_parameter_names(model) | {name for name, _ in model.named_parameters() if ".pooler." in name}
    return any(id(parameter) not in final for name, parameter in model.named_parameters() if name in between)


@contextmanager
def quiet_library() -> Iterator[None]:
    """No bars and no table of new weights of transformers on the user's screen; what is missing is checked by rule."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def save_model(model: nn.Module, tokenizer: Any, folder: Path, max_length: int) -> None:
    """Write a model and its tokenizer so that plain transformers (or sentence-transformers) load them; no pickle."""
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_library():
        if isinstance(model, PooledClassifier):
            config: Any = model.config
            labels = [config.id2label[number] for number in range(config.num_labels)]
            about = {ABOUT: json.dumps({"labels": labels, "problem_type": config.problem_type})}
            sentence.write_modules(folder, model.pooling, model.classifier.state_dict(), about, max_length)
            folder = folder / sentence.BACKBONE
            with without_labels(model.backbone):
                model.backbone.save_pretrained(folder)
        else:
            cast(PreTrainedModel, model).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextmanager
def without_labels(model: Any) -> Iterator[None]:
    """While it lasts, the model's configuration says nothing of labels, as it should be of a model without their head.

    Tools that build a new head from it would give random answers with the names of these labels.
    """
    config = model.config
    model.config = copy.deepcopy(config)
    model.config.id2label, model.config.problem_type = {}, None
    model.config.num_labels = 2  # and their names, as of a new configuration, which are not written into the file
    try:
        yield
    finally:
        model.config = config


def load_pooled(folder: Path, backbone: PreTrainedModel) -> PooledClassifier:
    """Read back what `save_model` wrote for a `PooledClassifier`.

    Args:
        folder: with ``modules.json``.
        backbone: from the folder that is named there.
    """
    pooling, dense = sentence.sentence_pooling(folder), folder / sentence.DENSE / "model.safetensors"
    if pooling is None or not dense.is_file():
        raise ModelError(f"{folder}: not a saved classifier with pooling; 1_Pooling and 2_Dense are expected in it")
    weights = load_file(dense)
    if set(weights) != {"linear.weight", "linear.bias"}:
        raise ModelError(f"{dense}: expected linear.weight and linear.bias, found {', '.join(sorted(weights))}")
    with safe_open(dense, "pt") as file:
        said = (file.metadata() or {}).get(ABOUT)
    if said is not None:  # else it is of the layout that has them in the configuration of the backbone
        try:
            about = parse_json(said)
            names, problem_type = list(about["labels"]), about["problem_type"]
        except (ValueError, LookupError, TypeError):
            names, problem_type = [], None
        if len(names) != len(weights["linear.bias"]) or not isinstance(problem_type, str | None):
            raise ModelError(f"{dense}: expected the names of {len(weights['linear.bias'])} labels; train again")
        config: Any = backbone.config
        config.problem_type, config.id2label = problem_type, dict(enumerate(map(str, names)))
    model = PooledClassifier(backbone, len(weights["linear.bias"]), pooling)
    model.classifier.load_state_dict({key.removeprefix("linear."): value for key, value in weights.items()})
    return model
