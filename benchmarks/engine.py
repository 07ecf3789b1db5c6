"""One training step with the engine and without, on the same random batches, interleaved: examples a second.

    python benchmarks/engine.py --data train.csv [--text COLUMN] [--label COLUMN]

Every case takes the same batches of the packaged MiniLM through three loops in turn: the guide's recipe (padded to 128,
float32); stock with padding to the longest of the batch, bfloat16 and fused AdamW; and the latter with the engine. The
medians of all steps but the first two go to ``results/engine.json`` (with frozen layers those of the second epoch, when
their states are known), and so does the share of the machine's matrix rate, measured between the steps, that the step's
real tokens account for: 6 x tokens x parameters of the layers that are trained.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from tunesmith.config import DataSettings, ModelSettings
from tunesmith.data.columns import load_splits
from tunesmith.engine import Engine
from tunesmith.models.blocks import find_blocks
from tunesmith.models.heads import quiet_library
from tunesmith.models.loading import find_source, load_tokenizer
from tunesmith.run import machine, versions

RESULT = Path(__file__).parent / "results" / "engine.json"
GUIDE_LENGTH = 128
BATCHES = 12
CASES = ((8, 0), (32, 0), (32, 4))
"""(examples a step, layers frozen from below)."""

Batch = dict[str, torch.Tensor]


def make_model(labels: int, frozen_layers: int) -> Any:
    """The packaged MiniLM with a new head, its lowest layers and embeddings frozen."""
    torch.manual_seed(0)
    folder = find_source(ModelSettings()).location
    with quiet_library():
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=labels).train()
    if frozen_layers:
        blocks = find_blocks(model)
        frozen = blocks.embeddings.union(*blocks.layers[:frozen_layers])
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in frozen)
    return model


def stepper(model: Any, lower_precision: bool, engine: Engine | None) -> Callable[[Batch], None]:
    """A function that takes one optimizer step."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-5, weight_decay=0.01, fused=True)
    if engine is not None:
        engine.follow(optimizer)

    def step(batch: Batch) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=lower_precision):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def matrix_rate() -> float:
    """Operations a second of a bfloat16 product of the shape of the model's feed-forward layer."""
    left, right = torch.ones(512, 384, dtype=torch.bfloat16), torch.ones(1536, 384, dtype=torch.bfloat16)
    start = time.perf_counter()
    for _ in range(20):
        torch.nn.functional.linear(left, right)
    return 20 * 2 * 512 * 384 * 1536 / (time.perf_counter() - start)


def measure(texts: list[str], targets: list[int], labels: int, rows: int, frozen_layers: int) -> dict[str, Any]:
    """Medians of one case; a second pass over the batches, when frozen layers are known, is what counts there."""
    tokenizer = load_tokenizer(find_source(ModelSettings()))
    order = np.random.default_rng(0).permutation(len(texts))[: rows * BATCHES].reshape(BATCHES, rows)
    dynamic, fixed = (
        [_encode(tokenizer, texts, targets, chosen, pad) for chosen in order] for pad in (True, "max_length")
    )
    models = [make_model(labels, frozen_layers) for _ in range(3)]
    ids = np.unique(np.concatenate([batch["input_ids"].numpy().reshape(-1) for batch in dynamic]))
    engine = Engine(models[2], token_ids=ids, prefix_bytes=2**30)
    guide, stock = stepper(models[0], False, None), stepper(models[1], True, None)
    ours = stepper(models[2], True, engine)
    seconds: dict[str, list[float]] = {"guide": [], "stock": [], "engine": []}
    rates = []
    for number in range(2 * BATCHES if frozen_layers else BATCHES):
        i = number % BATCHES
        for name, step, batch in (
            ("guide", guide, fixed[i]),
            ("stock", stock, dynamic[i]),
            ("engine", ours, dynamic[i]),
        ):
            start = time.perf_counter()
            step(batch)
            seconds[name].append(time.perf_counter() - start)
        rates.append(matrix_rate())
    first = BATCHES if frozen_layers else 2
    medians = {name: statistics.median(values[first:]) for name, values in seconds.items()}
    tokens = statistics.mean(int(batch["attention_mask"].sum()) for batch in dynamic)
    layers = find_blocks(models[2]).layers[frozen_layers:]
    sizes = {name: parameter.numel() for name, parameter in models[2].named_parameters()}
    work = 6 * tokens * sum(sizes[name] for layer in layers for name in layer)
    engine.detach()
    return {
        "examples_a_step": rows,
        "frozen_layers": frozen_layers,
        "real_tokens_a_step": round(tokens, 1),
        "examples_a_second": {name: round(rows / value, 1) for name, value in medians.items()},
        "times_faster_than_guide": round(medians["guide"] / medians["engine"], 2),
        "times_faster_than_stock": round(medians["stock"] / medians["engine"], 2),
        "share_of_matrix_rate": round(work / medians["engine"] / statistics.median(rates), 3),
        "matrix_rate_gflops": round(statistics.median(rates) / 1e9),
    }


def _encode(tokenizer: Any, texts: list[str], targets: list[int], chosen: np.ndarray, padding: bool | str) -> Batch:
    batch = tokenizer(
        [texts[i] for i in chosen], padding=padding, truncation=True, max_length=GUIDE_LENGTH, return_tensors="pt"
    )
    return {**batch, "labels": torch.tensor([targets[i] for i in chosen])}


def main() -> None:
    """Measure every case on the given data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--text")
    parser.add_argument("--label")
    arguments = parser.parse_args()
    if arguments.data is None:
        sys.stderr.write("engine: skipped; it needs --data, a file of labelled texts\n")
        return
    settings = DataSettings(text=arguments.text, label=arguments.label)
    splits, _ = load_splits(str(arguments.data), settings, "classification", True)
    texts, names = splits["train"].texts, [str(label) for label in splits["train"].labels]
    index = {name: i for i, name in enumerate(sorted(set(names)))}
    targets = [index[name] for name in names]
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TUNESMITH_CACHE"] = cache
        cases = [measure(list(texts), targets, len(index), rows, frozen) for rows, frozen in CASES]
    result = {
        "data": arguments.data.name,
        "cases": cases,
        "versions": versions(),
        "machine": machine(torch.get_num_threads()),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(cases, indent=2) + "\n")


if __name__ == "__main__":
    main()
