"""Whole commands, start to finish: the guide's recipe and the best stock settings against `tunesmith train`.

    python benchmarks/commands.py --data train.csv [--text COLUMN] [--label COLUMN]

Every side is a process that reads the same files (a random sample: 2,000 rows to train on, 500 to validate and 2,000 to
test), fine-tunes the packaged MiniLM completely for two epochs with the same batch size and learning rate, evaluates
after each epoch and scores the test rows. The stock sides do no more than that; `tunesmith train` also checks the
data, scores a baseline, makes intervals, a report and a model card. ``guide`` pads to 128 in float32; ``stock`` pads
to the longest of the batch, in bfloat16 with fused AdamW; ``grouped`` is the latter with ``group_by_length``; ``off``
is `tunesmith train --engine off`, whose scores differ from those with the engine by rounding and by the draws of
dropout alone (those of the stock sides differ by pooling and by the head's learning rate, too). All but the guide run
with three seeds, in turns. The result goes to ``results/commands.json``.
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _labelled import Texts, given_texts
from _results import write_result
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from tunesmith.config import ModelSettings
from tunesmith.models.loading import find_source, load_tokenizer

SIZES = {"train": 2_000, "valid": 500, "test": 2_000}
EPOCHS, LENGTH, LEARNING_RATE = 2, 128, 2e-4
SEEDS = (1, 2, 3)
BATCH_SIZES = (8, 32)


def stock(side: str, folder: Path, batch_size: int, seed: int) -> float:
    """Train with `transformers.Trainer` on the files in `folder`; test accuracy."""
    set_seed(seed)
    guide = side == "guide"
    source = find_source(ModelSettings())
    tokenizer = load_tokenizer(source)
    rows = {name: list(csv.reader((folder / f"{name}.csv").open(encoding="utf-8")))[1:] for name in SIZES}
    labels = sorted({label for _, label in rows["train"]})
    sets = {}
    for name, pairs in rows.items():
        padding = "max_length" if guide else False
        encoded = tokenizer([text for text, _ in pairs], truncation=True, max_length=LENGTH, padding=padding)
        targets = [labels.index(label) for _, label in pairs]
        sets[name] = [
            {key: encoded[key][i] for key in encoded} | {"labels": target} for i, target in enumerate(targets)
        ]
    model = AutoModelForSequenceClassification.from_pretrained(source.location, num_labels=len(labels))
    arguments = TrainingArguments(
        output_dir=str(folder / "stock"),
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=32,
        num_train_epochs=EPOCHS,
        learning_rate=LEARNING_RATE,
        weight_decay=0.01,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        bf16=not guide,
        optim="adamw_torch" if guide else "adamw_torch_fused",
        train_sampling_strategy="group_by_length" if side == "grouped" else "random",
        seed=seed,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    trainer: Any = Trainer(
        model,
        arguments,
        data_collator=None if guide else DataCollatorWithPadding(tokenizer),
        train_dataset=sets["train"],
        eval_dataset=sets["valid"],
    )
    trainer.train()
    found = trainer.predict(sets["test"])
    return float((found.predictions.argmax(axis=-1) == found.label_ids).mean())


def command(side: str, folder: Path, batch_size: int, seed: int) -> tuple[float, float]:
    """Run one side as a process of its own: seconds, test accuracy."""
    environment = os.environ | {"TUNESMITH_CACHE": str(folder / f"cache-{batch_size}-{seed}")}
    if ours := side in ("tunesmith", "off"):
        out = folder / f"run-{side}-{batch_size}-{seed}"
        words = ["-m", "tunesmith", "train", str(folder / "train.csv"), "--valid", str(folder / "valid.csv")]
        words += ["--test", str(folder / "test.csv"), "--method", "full", "--epochs", str(EPOCHS), "--warmup", "0"]
        words += ["--batch-size", str(batch_size), "--lr", str(LEARNING_RATE), "--max-length", str(LENGTH)]
        words += ["--seed", str(seed), "--out", str(out), "--quiet"]
        words += ["--engine", "off"] * (side == "off")
    else:
        words = [__file__, "--side", side, str(folder), str(batch_size), str(seed)]
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{side} failed: {done.stderr[-2000:]}")
    if ours:
        return seconds, json.loads((out / "run.json").read_text())["metrics"]["test"]["accuracy"]["value"]
    return seconds, float(done.stdout.split()[-1])


def measure(folder: Path) -> list[dict[str, Any]]:
    """Every side at every batch size."""
    cases = []
    for batch_size in BATCH_SIZES:
        seconds: dict[str, list[float]] = {}
        scores: dict[str, list[float]] = {}
        for seed in SEEDS:
            for side in ("guide", "stock", "grouped", "off", "tunesmith"):
                if side != "guide" or seed == SEEDS[0]:
                    took, score = command(side, folder, batch_size, seed)
                    seconds.setdefault(side, []).append(round(took, 1))
                    scores.setdefault(side, []).append(round(score, 4))
                    sys.stderr.write(f"batch {batch_size}, seed {seed}: {side} {took:.1f} s, accuracy {score:.4f}\n")
        median = {side: statistics.median(values) for side, values in seconds.items()}
        ratios = {side: round(value / median["tunesmith"], 2) for side, value in median.items()}
        cases.append({"batch_size": batch_size, "seconds": seconds, "accuracy": scores, "times_as_long": ratios})
    return cases


def write_sample(data: Texts, folder: Path) -> None:
    """A random sample of the rows as three files."""
    order = np.random.default_rng(0).permutation(len(data.texts))[: sum(SIZES.values())]
    for name, rows in zip(SIZES, np.split(order, np.cumsum(list(SIZES.values()))[:-1]), strict=True):
        sample = data.select(rows)
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            pairs = zip(sample.texts, (sample.labels[target] for target in sample.targets), strict=True)
            csv.writer(file).writerows([("text", "label"), *pairs])


def main() -> None:
    """Measure on the given data; with ``--side`` (our own call), one of the stock sides."""
    if sys.argv[1:2] == ["--side"]:
        side, folder, batch_size, seed = sys.argv[2:]
        sys.stdout.write(f"{stock(side, Path(folder), int(batch_size), int(seed))}\n")
        return
    data = given_texts("commands", __doc__.splitlines()[0])
    if data is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        write_sample(data, Path(folder))
        cases = measure(Path(folder))
    write_result("commands", {"data": data.name, "rows": SIZES, "epochs": EPOCHS, "cases": cases})


if __name__ == "__main__":
    main()
