"""Masked language models: the head at the predicted tokens alone, and the folder that `train` starts from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoModelForMaskedLM, PreTrainedTokenizerBase

from tunesmith.disk import read_json, write_text
from tunesmith.errors import ModelError
from tunesmith.models.heads import base_model, head_parameter_names, quiet_library, without_labels
from tunesmith.models.loading import check_fit, from_pretrained, load_config, require_body
from tunesmith.models.sentence import MAX_TOKENS, MODULES
from tunesmith.models.source import Source
from tunesmith.tasks.batching import PREDICTED

COPIED = {".json", ".txt", ".safetensors"}
TOLERANCE = 1e-5


def load_masked(source: Source, tokenizer: PreTrainedTokenizerBase, seed: int) -> tuple[Any, bool]:
    """A masked language model in float32, and whether (a part of) its head is not in the checkpoint and starts fresh.

    Args:
        seed: of a fresh head's initial weights.

    Raises:
        ModelError: the architecture has no such head, weights are missing, not finite, or not safetensors.
    """
    torch.manual_seed(seed)
    config = load_config(source)
    if config.is_encoder_decoder:
        raise ModelError(
            f"model {source.name}: it writes texts from texts; give an encoder, which can learn masked words"
        )
    model, missing = from_pretrained(AutoModelForMaskedLM, source, config)
    # Tied weights count under every name they have; a head is fresh where one lacks that is tied to nothing given.
    head = {name for name in model.state_dict() if not name.startswith(f"{model.base_model_prefix}.")}
    require_body(source, missing, head)
    check_fit(model, tokenizer, source)
    return model, bool(missing & head_parameter_names(model))


@contextmanager
def head_at_predicted(model: Any) -> Iterator[bool]:
    """While it lasts, the model takes the input `PREDICTED` and computes the logits of these tokens alone.

    The head works on each token by itself, so the states of the others are left out before it. Logits are then
    (1, predicted tokens, vocabulary). The model's own logits are compared with these first; where they differ, or the
    head cannot be called so, the input is ignored and all logits are computed.

    Yields:
        Whether the head is spared.
    """
    chosen: list[torch.Tensor] = []

    def take(module: nn.Module, positional: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        chosen[:] = [named.pop(PREDICTED)] if PREDICTED in named else []
        return positional, named

    def leave_out(module: nn.Module, positional: Any, output: Any) -> Any:
        if chosen and spared:
            output["last_hidden_state"] = output["last_hidden_state"][chosen[0]].unsqueeze(0)
        return output

    hooks = [
        model.register_forward_pre_hook(take, with_kwargs=True),
        base_model(model).register_forward_hook(leave_out),
    ]
    spared = True
    try:
        spared = _same_logits(model)
        yield spared
    finally:
        for hook in hooks:
            hook.remove()


def _same_logits(model: Any) -> bool:
    """Whether the head gives, of chosen tokens, what it gives among all."""
    device = next(model.parameters()).device
    ids = torch.arange(12, device=device).remainder(int(model.config.vocab_size)).reshape(2, 6)
    predicted = torch.arange(12, device=device).remainder(3).eq(1).reshape(2, 6)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            whole = model(**inputs).logits[predicted]
            part = model(**inputs, **{PREDICTED: predicted}).logits
        return part.shape == (1, *whole.shape) and torch.allclose(part[0], whole, atol=TOLERANCE, rtol=TOLERANCE)
    except (RuntimeError, ValueError, IndexError, TypeError, KeyError):
        return False
    finally:
        model.train(training)


def save_masked(model: Any, tokenizer: Any, source: Source, folder: Path) -> None:
    """Write a folder that plain transformers load, with the head, and with what the source has beside its backbone.

    That is a trained pooler, and the pooling of a sentence encoder, so that ``--pooling auto`` treats it as the source.
    """
    weights = model.state_dict()
    bare, missing = from_pretrained(AutoModel, source, load_config(source))
    pooler = {name: value for name, value in bare.state_dict().items() if "pooler" in name}
    if not missing & set(pooler):
        weights |= {f"{model.base_model_prefix}.{name}": value for name, value in pooler.items()}
    with quiet_library(), without_labels(model):
        model.save_pretrained(folder, state_dict=weights)
        tokenizer.save_pretrained(folder)
    _copy_pooling(source, folder)


def _copy_pooling(source: Source, folder: Path) -> None:
    """The files of a sentence-transformers folder beside its backbone: only plain ones, only inside the folder.

    The backbone lies at the top of the copy. The head of a classifier with pooling stays behind.
    """
    root = source.root
    if root is None or not (root / MODULES).is_file():
        return
    names = ["config_sentence_transformers.json", f"{source.inside}/{MAX_TOKENS}" if source.inside else MAX_TOKENS]
    with suppress(OSError, ValueError, TypeError, LookupError, AttributeError):
        modules = read_json(root / MODULES)
        modules = [{**modules[0], "path": ""}, *modules[1 : 2 if source.trained else None]]
        write_text(folder / MODULES, json.dumps(modules, indent=2) + "\n")
        names += [
            str(file.relative_to(root))
            for path in (str(module["path"]) for module in modules[1:])
            if len(PurePosixPath(path).parts) == 1 and path not in (".", "..", "/")
            for file in sorted((root / path).glob("*"))
        ]
    for name in names:
        file = root / name
        if file.is_file() and file.suffix in COPIED and file.resolve().is_relative_to(root.resolve()):
            copy = folder / (file.name if file.name == MAX_TOKENS else name)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, copy)
