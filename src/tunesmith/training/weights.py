"""The weights of a model in a checkpoint: saved by the names that they are loaded by, and no others loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import PreTrainedModel

from tunesmith.errors import ModelError

ADAPTER = "adapter_model.safetensors"
WEIGHTS = ("model.safetensors", ADAPTER)
SELF_SAVING = PreTrainedModel | PeftModel


@contextmanager
def own_names(model: Any) -> Iterator[None]:
    """While it lasts, a model saves its weights by the names that it has itself, by which checkpoints are loaded.

    Else transformers writes those of some architectures as their authors first published them.
    """
    if not isinstance(model, PreTrainedModel):
        yield
        return
    own: Any = model
    kept = getattr(model, "_weight_conversions", None)
    own._weight_conversions = []
    try:
        yield
    finally:
        own._weight_conversions = kept


def save(trainer: Any, folder: Path, weights: dict[str, torch.Tensor] | None) -> None:
    """Write what `transformers.Trainer` writes of a model, but for the arguments of training, which it pickles.

    Args:
        weights: where they were gathered from several places; None for the model's own.
    """
    writes = trainer.args.should_save
    if not writes and not trainer.is_distributed_loading_by_transformers:
        return
    model, weights = trainer.model, _untied(trainer.model, weights)
    if not isinstance(model, SELF_SAVING):
        model = trainer.accelerator.unwrap_model(model, keep_torch_compile=False)
    if writes:
        folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, SELF_SAVING):
        model.save_pretrained(str(folder), state_dict=weights, is_main_process=writes)
    elif writes:
        save_file(weights or {}, folder / WEIGHTS[0], metadata={"format": "pt"})
    tokenizer = trainer.processing_class
    if tokenizer is None:
        tokenizer = getattr(trainer.data_collator, "tokenizer", None)
    if writes and tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _untied(model: Any, weights: dict[str, torch.Tensor] | None) -> dict[str, torch.Tensor] | None:
    """Weights to save: of a model that does not save itself without those that are another name of one before them.

    A file of tensors cannot hold two names of one.
    """
    if weights is not None or isinstance(model, SELF_SAVING):
        return weights
    first: dict[Any, str] = {}
    weights = model.state_dict()
    for name, weight in weights.items():
        first.setdefault((weight.data_ptr(), weight.shape, weight.stride()) if weight.numel() else name, name)
    return {name: weights[name] for name in first.values()}


def require_known(folder: Path, loaded: Any) -> None:
    """Refuse a checkpoint with weights of other names, without which stock code would go on. Tied ones may be missing.

    Args:
        loaded: the names of those that are missing and unexpected.

    Raises:
        ModelError: there are such.
    """
    if loaded.missing_keys and loaded.unexpected_keys:
        raise ModelError(
            f"{folder}: {len(loaded.missing_keys)} weights of the model are not in its checkpoint, which has others "
            f"(first: {loaded.unexpected_keys[0]}); train again"
        )


def require_own_adapters(folder: Path, model: Any) -> None:
    """Refuse a checkpoint with adapters that the model does not have, which a library would make from their settings.

    Raises:
        ModelError: there are such.
    """
    own = getattr(model, "peft_config", {})
    for path in sorted(folder.glob(f"*/{ADAPTER}")):
        if path.parent.name not in own:
            raise ModelError(f"{folder}: has an adapter {path.parent.name!r}, which the model does not have; remove it")
