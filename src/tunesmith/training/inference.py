"""Running a model over encoded texts: batches by token budget, results in the order of the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from tunesmith.engine import attached
from tunesmith.engine.vectors import VectorCache
from tunesmith.errors import ModelError
from tunesmith.models.heads import final_linear
from tunesmith.tasks.encoding import Features
from tunesmith.training.sampling import PaddingCollator, batches_by_tokens

TOKENS_PER_BATCH = 4_096
ROWS_PER_BATCH = 256


def predict_logits(
    model: nn.Module, features: Features, collate: PaddingCollator, precision: str = "float32"
) -> np.ndarray:
    """Logits (n, labels) float32, in the order of `features`.

    Args:
        precision: of the matrix products, ``float32``, ``bfloat16`` or ``float16``.

    Raises:
        ModelError: a logit is not finite.
    """
    logits = _run(model, features, collate, lambda batch: model(**batch).logits, precision)
    if not np.isfinite(logits).all():
        raise ModelError("the model's outputs are not finite; its weights are damaged or its training diverged")
    return logits


def pooled_vectors(
    model: nn.Module,
    features: Features,
    collate: PaddingCollator,
    precision: str = "float32",
    progress: Callable[[int], None] | None = None,
    kept: VectorCache | None = None,
) -> np.ndarray:
    """What reaches the model's last linear layer, (n, hidden) float32, in the order of `features`.

    Args:
        precision: of the matrix products, ``float32``, ``bfloat16`` or ``float16``.
        kept: vectors that are known already, to which the others are added.
    """
    caught: list[torch.Tensor] = []
    hook = final_linear(model).register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))

    def vectors(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        known = kept.get(batch) if kept else None
        if known is not None:
            return known
        found = computed(batch)
        if kept:
            kept.put(batch, found)
        return found

    def computed(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        caught.clear()
        model(**batch)
        if caught[0].ndim == 2:
            return caught[0]
        # Decoders score every position and keep the last real one.
        positions = torch.arange(batch["attention_mask"].shape[1], device=caught[0].device)
        last = (positions * batch["attention_mask"]).argmax(dim=1)
        return caught[0][torch.arange(len(last), device=last.device), last]

    try:
        return _run(model, features, collate, vectors, precision, progress)
    finally:
        hook.remove()
        if kept:
            kept.commit()


def _run(
    model: nn.Module,
    features: Features,
    collate: PaddingCollator,
    compute: Callable[[dict[str, torch.Tensor]], torch.Tensor],
    precision: str,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    device = next(model.parameters()).device
    lower = torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32")
    was_training, result = model.training, None
    model.eval()
    try:
        with torch.inference_mode(), lower, attached(model):
            for rows in batches_by_tokens(features.lengths, TOKENS_PER_BATCH, ROWS_PER_BATCH):
                batch: dict[str, Any] = collate([features[i] for i in rows])
                batch.pop("labels", None)
                values = compute({key: value.to(device) for key, value in batch.items()}).float().cpu().numpy()
                if result is None:
                    result = np.empty((len(features), *values.shape[1:]), dtype=np.float32)
                result[rows] = values
                if progress:
                    progress(len(rows))
    finally:
        model.train(was_training)
    return np.empty((0, 0), dtype=np.float32) if result is None else result
