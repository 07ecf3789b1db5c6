"""How cost grows with the length and the number of texts, and what the engine costs where it cannot help.

    python benchmarks/scaling.py [--data train.csv] [--text COLUMN] [--label COLUMN]

``lengths``: training steps of a model of MiniLM's shape with random weights on batches of 16 random texts of n / 2 to
n tokens, engine and stock (padded to the longest, bfloat16, fused AdamW) in turns: the median of the ratios of pairs of
steps, with its bootstrap interval. ``fall_back``: the same for a model
that cannot be packed (MPNet), the engine on it and not. ``rows`` (needs ``--data``): `tunesmith train --method
features` as a process of its own on ever more rows, made unlike by a number at the end of each text: seconds and peak
memory. The result goes to ``results/scaling.json``.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _labelled import Texts, given_texts
from _processes import run_process
from _results import write_result
from engine import stepper
from transformers import AutoModelForSequenceClassification, BertConfig, MPNetConfig

from tunesmith.engine import Engine

SHAPE: dict[str, Any] = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "vocab_size": 30_527,
    "max_position_embeddings": 514,
}
LENGTHS = (16, 32, 64, 128, 256, 512)
ROWS = (1_000, 10_000, 100_000)
BATCH, STEPS, WARM_UP = 16, 9, 2


def make_batch(longest: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Random tokens; the longest text has `longest` of them, the others half as many or more."""
    lengths = torch.randint(longest // 2, longest + 1, (BATCH, 1), generator=generator)
    lengths[0] = longest
    mask = torch.arange(longest) < lengths
    ids = torch.randint(1_000, 30_000, mask.shape, generator=generator).masked_fill(~mask, 1)
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": torch.arange(BATCH) % 2}


def compare(config: Any, longest: int, count: int = STEPS) -> dict[str, Any]:
    """Median seconds a step without the engine and with it, in turns, and whether it packs."""
    generator = torch.Generator().manual_seed(0)
    models: list[Any] = [AutoModelForSequenceClassification.from_config(config).train() for _ in range(2)]
    engine = Engine(models[1])
    loops = {"stock": stepper(models[0], True, None), "engine": stepper(models[1], True, engine)}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    tokens = []
    for number in range(count):
        batch = make_batch(longest, generator)
        for name in sorted(loops, reverse=number % 2 == 0):
            start = time.perf_counter()
            loops[name](batch)
            seconds[name].append(time.perf_counter() - start)
        tokens.append(int(batch["attention_mask"].sum()))
    rate = {name: sum(tokens[WARM_UP:]) / sum(values[WARM_UP:]) for name, values in seconds.items()}
    ratios = np.array(seconds["stock"])[WARM_UP:] / np.array(seconds["engine"])[WARM_UP:]
    draws = np.random.default_rng(0).choice(ratios, (2_000, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return {
        "longest": longest,
        "packed": engine.packed,
        "real_tokens_a_second": {name: round(value) for name, value in rate.items()},
        "times_faster": round(float(np.median(ratios)), 3),
        "times_faster_95": [round(float(low), 3), round(float(high), 3)],
    }


def whole_command(data: Texts, rows: int, folder: Path) -> dict[str, Any]:
    """Seconds and peak memory of `tunesmith train --method features`."""
    file = folder / f"{rows}.csv"
    order = np.random.default_rng(0).integers(len(data.texts), size=rows)
    with file.open("w", newline="", encoding="utf-8") as target:
        pairs = ((f"{data.texts[row]} {number}", data.labels[data.targets[row]]) for number, row in enumerate(order))
        csv.writer(target).writerows([("text", "label"), *pairs])
    words = ["-m", "tunesmith", "train", str(file), "--method", "features", "--quiet"]
    words += ["--out", str(folder / f"run-{rows}")]
    _, cost = run_process(words)
    return {"rows": rows, **cost}


def main() -> None:
    """Measure; the part that needs texts only where they are given."""
    data = given_texts("scaling: rows", __doc__.splitlines()[0])
    result: dict[str, Any] = {"lengths": [compare(BertConfig(**SHAPE), longest) for longest in LENGTHS]}
    result["fall_back"] = compare(MPNetConfig(**SHAPE), 64, 201)
    if data is not None:
        with tempfile.TemporaryDirectory() as folder:
            result["rows"] = [whole_command(data, rows, Path(folder)) for rows in ROWS]
    if data is None:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        write_result("scaling", result)


if __name__ == "__main__":
    main()
