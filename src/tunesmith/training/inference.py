"""Running a model over encoded texts: batches by token budget, results in the order of the input."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from tunesmith.engine import attached
from tunesmith.engine.vectors import Vectors
from tunesmith.errors import ModelError, is_out_of_memory
from tunesmith.models.heads import final_linear
from tunesmith.tasks.base import Task
from tunesmith.tasks.batching import PaddingCollator, batches_by_tokens
from tunesmith.tasks.encoding import Encoded
from tunesmith.training.parts import free_memory

TOKENS_PER_BATCH = 4_096
ROWS_PER_BATCH = 256


def predict_logits(
    model: nn.Module,
    features: Encoded,
    tokenizer: Any,
    task: Task,
    precision: str = "float32",
    rows: int = ROWS_PER_BATCH,
) -> np.ndarray:
    """What `Task.infer` keeps of each text, by default its logits float32: (n, labels) in the order of `features`.

    Of heads on tokens see `Task.outputs`.

    Args:
        task: says where the logits are in what the model returns.
        precision: of the matrix products, ``float32``, ``bfloat16`` or ``float16``.
        rows: largest batch.

    Raises:
        ModelError: a logit is not finite.
    """
    collate = PaddingCollator.of(tokenizer, task.head)
    logits = _run(model, features, collate, partial(task.infer, model), precision, rows, task.on_tokens)
    if not np.isfinite(logits).all():
        raise ModelError("the model's outputs are not finite; its weights are damaged or its training diverged")
    return logits


def tokens_in_order(padded: np.ndarray, lengths: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Outputs for tokens (n, longest, labels), padded on the right, as (tokens, labels) in the order of the data.

    Args:
        lengths: (n,) tokens of each text, in the order of the data.
        rows: (n,) the text that each row of `padded` belongs to.
    """
    ordered = padded[np.argsort(rows)]
    real = np.arange(padded.shape[1]) < lengths[:, None]
    return np.asarray(ordered[real])


def pooled_vectors(
    model: nn.Module,
    features: Encoded,
    collate: PaddingCollator,
    precision: str = "float32",
    progress: Callable[[int], None] | None = None,
    kept: Vectors | None = None,
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
        caught.clear()
        model(**{name: value for name, value in batch.items() if name != "labels"})
        found = caught[0]
        if found.ndim == 3:  # decoders score every position and keep the last real one
            positions = torch.arange(found.shape[1], device=found.device)
            last = (positions * batch["attention_mask"]).argmax(dim=1)
            found = found[torch.arange(len(last), device=last.device), last]
        if kept:
            kept.put(batch, found.float())
        return found.float()

    try:
        return _run(model, features, collate, vectors, precision, progress=progress)
    finally:
        hook.remove()
        if kept:
            kept.save()


def _run(
    model: nn.Module,
    features: Encoded,
    collate: PaddingCollator,
    compute: Callable[[dict[str, torch.Tensor]], torch.Tensor],
    precision: str,
    rows_per_batch: int = ROWS_PER_BATCH,
    on_tokens: bool = False,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    device = next(model.parameters()).device
    lower = torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32")
    was_training, result = model.training, None
    lengths = features.lengths.astype(np.int64)
    # How many rows of the result each text has, and where they begin.
    count = lengths if on_tokens else np.ones_like(lengths)
    first = np.cumsum(count) - count
    model.eval()
    try:
        with torch.inference_mode(), lower, attached(model):
            waiting = batches_by_tokens(features.lengths, TOKENS_PER_BATCH, rows_per_batch)[::-1]
            while waiting:
                rows, values = waiting.pop(), None
                try:
                    batch = collate([features[i] for i in rows])
                    values = compute({key: value.to(device) for key, value in batch.items()}).cpu().numpy()
                except Exception as error:
                    if len(rows) < 2 or not is_out_of_memory(error):
                        raise
                if values is None:  # its two halves need less
                    waiting += np.array_split(rows, 2)[::-1]
                    free_memory()
                    continue
                values = values if on_tokens else values[:, None]
                if result is None:
                    result = np.empty((int(count.sum()), *values.shape[2:]), dtype=values.dtype)
                for row, found in zip(rows, values, strict=True):
                    result[first[row] : first[row] + count[row]] = found[: count[row]]
                if progress:
                    progress(len(rows))
    finally:
        model.train(was_training)
    return np.empty((0, 0), dtype=np.float32) if result is None else result
