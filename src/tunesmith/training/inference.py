"""Running a model over encoded texts: batches by token budget, results in the order of the input."""

from __future__ import annotations

from collections import deque
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
from tunesmith.tasks.encoded import Encoded
from tunesmith.training.parts import free_memory
from tunesmith.training.transfer import to_device

TOKENS_PER_BATCH = 4_096
ROWS_PER_BATCH = 256
"""Padded tokens and rows of a batch at most: larger ones leave a processor's caches."""
TOKENS_PER_GPU_BATCH = 65_536
ROWS_PER_GPU_BATCH = 4_096
"""The same on a GPU, which would wait for the host between smaller ones; where memory runs out they are halved."""
ON_THE_WAY = 2
"""Batches on a GPU whose answers the host does not wait for, while it prepares the next: bounds what they take."""


def predict_logits(
    model: nn.Module,
    features: Encoded,
    tokenizer: Any,
    task: Task,
    precision: str = "float32",
    rows: int | None = None,
) -> np.ndarray:
    """What `Task.infer` keeps of each text, by default its logits float32: (n, labels) in the order of `features`.

    Of heads on tokens see `Task.outputs`.

    Args:
        task: says where the logits are in what the model returns.
        precision: of the matrix products, ``float32``, ``bfloat16`` or ``float16``.
        rows: largest batch; None for as many as suit the device.

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
    most: int | None = None,
    on_tokens: bool = False,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    device = next(model.parameters()).device
    gpu, was_training = device.type == "cuda", model.training
    tokens, default = (TOKENS_PER_GPU_BATCH, ROWS_PER_GPU_BATCH) if gpu else (TOKENS_PER_BATCH, ROWS_PER_BATCH)
    lower = torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32")
    answers = _Answers(features.lengths, on_tokens, progress)
    model.eval()
    try:
        with torch.inference_mode(), lower, attached(model):
            waiting = batches_by_tokens(features.lengths, tokens, most or default)[::-1]
            while waiting:
                rows, values = waiting.pop(), None
                try:
                    batch = to_device(collate.rows(features, rows), device)
                    values = compute(batch).to("cpu", non_blocking=True)
                except Exception as error:
                    if len(rows) < 2 or not is_out_of_memory(error):
                        raise
                if values is None:  # its two halves need less, and as much is left for the others
                    waiting = [half for cut in (*waiting, rows) for half in np.array_split(cut, 2)[::-1] if len(half)]
                    free_memory()
                    continue
                answers.add(rows, values, torch.cuda.current_stream(device).record_event() if gpu else None)
            return answers.all()
    finally:
        model.train(was_training)


class _Answers:
    """What a model says of each text, put in the order of the data once it has arrived on the host.

    Args:
        lengths: (n,) tokens of each text.
        on_tokens: whether there is an answer for each token, and not one for each text.
        progress: called with the number of texts whose answers arrived.
    """

    def __init__(self, lengths: np.ndarray, on_tokens: bool, progress: Callable[[int], None] | None) -> None:
        # How many rows of the result each text has, and where they begin.
        self._count = lengths.astype(np.int64) if on_tokens else np.ones(len(lengths), dtype=np.int64)
        self._first = np.cumsum(self._count) - self._count
        self._on_tokens, self._progress = on_tokens, progress
        self._coming: deque[tuple[np.ndarray, torch.Tensor, torch.cuda.Event | None]] = deque()
        self._result: np.ndarray | None = None

    def add(self, rows: np.ndarray, values: torch.Tensor, arrival: torch.cuda.Event | None) -> None:
        """Those of `rows`, (n, ...) or (n, longest, ...), on the host; they are there after `arrival`."""
        self._coming.append((rows, values, arrival))
        while len(self._coming) > (ON_THE_WAY if arrival else 0):
            self._write(*self._coming.popleft())

    def all(self) -> np.ndarray:
        """(n, ...) or (tokens, ...), one text after the other."""
        while self._coming:
            self._write(*self._coming.popleft())
        return np.empty((0, 0), dtype=np.float32) if self._result is None else self._result

    def _write(self, rows: np.ndarray, values: torch.Tensor, arrival: torch.cuda.Event | None) -> None:
        if arrival:
            arrival.synchronize()
        found, at = values.numpy(), self._first[rows]
        if self._on_tokens:
            columns = np.arange(found.shape[1])
            real = columns < self._count[rows][:, None]
            found, at = found[real], (at[:, None] + columns)[real]
        if self._result is None:
            self._result = np.empty((int(self._count.sum()), *found.shape[1:]), dtype=found.dtype)
        self._result[at] = found
        if self._progress:
            self._progress(len(rows))
