"""Feature extraction against stock training with a frozen backbone for five epochs.

    python benchmarks/features.py --data train.csv [--text COLUMN] [--label COLUMN]

2,000 random texts, the packaged MiniLM, batches of 32, bfloat16. The stock loops run the frozen backbone at every step,
without gradient, padded to the longest of the batch, on random batches and on batches of similar length
(``group_by_length``), and train the head with fused AdamW. Ours runs the backbone once and solves for the head, the
choice of its strength by cross-validation included. Passes are interleaved: one epoch of each stock loop, then ours,
five times, each time as if for the first time. Models are loaded before. The result goes to ``results/features.json``.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from _labelled import Texts, given_texts
from _results import write_result
from engine import Case, encode, make_model, stepper
from transformers.trainer_pt_utils import LengthGroupedSampler

from tunesmith.config.schema import MethodSettings, ModelSettings, TrainingSettings
from tunesmith.engine import Engine
from tunesmith.methods.features import FeatureExtraction
from tunesmith.models.heads import final_linear
from tunesmith.models.loading import load_tokenizer
from tunesmith.models.source import find_source
from tunesmith.tasks.batching import PaddingCollator
from tunesmith.tasks.encoded import Encoded
from tunesmith.training.inference import pooled_vectors

ROWS, BATCH, LENGTH, EPOCHS = 2_000, 32, 128, 5


def stock_epoch(tokenizer: Any, data: Texts, lengths: list[int], grouped: bool) -> Callable[[], None]:
    """A function that trains the head of a model of its own for an epoch."""
    model = make_model(Case("short", BATCH), len(data.labels))
    head = {id(parameter) for parameter in final_linear(model).parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in head)
    step = stepper(model, True, None)
    generator = torch.Generator().manual_seed(0)

    def batches() -> Iterator[dict[str, torch.Tensor]]:
        if grouped:
            order = np.array(list(LengthGroupedSampler(BATCH, lengths=lengths, generator=generator)))
        else:
            order = torch.randperm(len(lengths), generator=generator).numpy()
        for start in range(0, len(order), BATCH):
            yield encode(tokenizer, data.select(order[start : start + BATCH]), LENGTH, True)

    def epoch() -> None:
        for batch in batches():
            step(batch)

    return epoch


def our_features(model: Any, tokenizer: Any, data: Texts) -> None:
    """Vectors of every text, and the head solved from them."""
    encoded = tokenizer(data.texts, truncation=True, max_length=LENGTH)["input_ids"]
    collate = PaddingCollator.of(tokenizer)
    vectors = pooled_vectors(model, _Rows(encoded), collate, "bfloat16")
    FeatureExtraction(MethodSettings()).solve(
        model, vectors, np.asarray(data.targets), TrainingSettings(), len(vectors)
    )


class _Rows(Encoded):
    """What the tokenizer made of the texts."""

    def __init__(self, ids: list[list[int]]) -> None:
        self.ids, self.lengths = [np.asarray(row) for row in ids], np.array([len(row) for row in ids])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.ids[index]}


def measure(data: Texts) -> dict[str, Any]:
    """Median seconds of an epoch of each stock loop and of the whole of ours; the ratio for five epochs."""
    tokenizer = load_tokenizer(find_source(ModelSettings()))
    lengths = [len(ids) for ids in tokenizer(data.texts, truncation=True, max_length=LENGTH)["input_ids"]]
    model = make_model(Case("short", BATCH), len(data.labels)).eval()
    Engine(model)
    sides: dict[str, Callable[[], None]] = {
        "stock epoch": stock_epoch(tokenizer, data, lengths, grouped=False),
        "grouped epoch": stock_epoch(tokenizer, data, lengths, grouped=True),
        "features": lambda: our_features(model, tokenizer, data),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(EPOCHS):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "rows": ROWS,
        "real_tokens": sum(lengths),
        "seconds": {name: round(value, 2) for name, value in median.items()},
        "five_epochs_times_as_long_stock": round(EPOCHS * median["stock epoch"] / median["features"], 2),
        "five_epochs_times_as_long_grouped": round(EPOCHS * median["grouped epoch"] / median["features"], 2),
    }


def main() -> None:
    """Measure on the given data."""
    data = given_texts("features", __doc__.splitlines()[0])
    if data is None:
        return
    sample = data.select(np.random.default_rng(0).permutation(len(data.texts))[:ROWS])
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TUNESMITH_CACHE"] = cache
        result = measure(sample)
    write_result("features", result | {"data": data.name})


if __name__ == "__main__":
    main()
