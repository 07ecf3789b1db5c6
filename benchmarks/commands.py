"""Whole commands, start to finish: the guide's recipe and the best stock settings against `tunesmith train`.

    python benchmarks/commands.py --data train.csv [--text COLUMN] [--label COLUMN] [--rows N] [--batch-sizes 8,32]
        [--sides guide,tunesmith] [--seeds 3]

Every side is a process that reads the same files (a random sample: N rows to train on, 500 to validate and 2,000 to
test), fine-tunes the packaged MiniLM completely for two epochs with the same batch size and learning rate, evaluates
after each epoch and scores the test rows. The stock sides do no more than that; `tunesmith train` also checks the
data, scores a baseline, makes intervals, a report and a model card. ``guide`` pads to 128 in float32; ``stock`` pads
to the longest of the batch, in bfloat16 with fused AdamW; ``grouped`` is the latter with ``group_by_length``;
``drop_in`` is the program of ``stock`` with `tunesmith.Trainer`; ``off`` is `tunesmith train --engine off`.
Scores of ``stock`` and ``drop_in``, and those of ``off`` and ``tunesmith``, differ by rounding and by the draws of
dropout alone; between the two pairs, pooling and the head's learning rate differ, too. All but the guide run with three
seeds (or `--seeds`), in turns. The result, with the peak memory of each process, goes to
``results/commands-N-B.json`` for each batch size B.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _labelled import Texts, given_texts
from _processes import compared, run_process, train_command
from _results import write_result
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

import tunesmith
from tunesmith.config.schema import ModelSettings
from tunesmith.models.loading import load_tokenizer
from tunesmith.models.source import find_source

HELD_OUT = {"valid": 500, "test": 2_000}
EPOCHS, LENGTH, LEARNING_RATE = 2, 128, 2e-4
SIDES = ("guide", "stock", "grouped", "drop_in", "off", "tunesmith")


def stock(side: str, folder: Path, batch_size: int, seed: int) -> float:
    """Train with `transformers.Trainer` on the files in `folder`; test accuracy."""
    set_seed(seed)
    guide = side == "guide"
    source = find_source(ModelSettings())
    tokenizer = load_tokenizer(source)
    rows = {
        name: list(csv.reader((folder / f"{name}.csv").open(encoding="utf-8")))[1:] for name in ("train", *HELD_OUT)
    }
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
    trainer_class: Any = tunesmith.Trainer if side == "drop_in" else Trainer
    trainer = trainer_class(
        model,
        arguments,
        data_collator=None if guide else DataCollatorWithPadding(tokenizer),
        train_dataset=sets["train"],
        eval_dataset=sets["valid"],
    )
    trainer.train()
    found = trainer.predict(sets["test"])
    return float((found.predictions.argmax(axis=-1) == found.label_ids).mean())


def command(side: str, folder: Path, batch_size: int, seed: int) -> dict[str, float]:
    """Run one side as a process of its own: seconds, peak memory and test accuracy."""
    if side in ("tunesmith", "off"):
        options = {"method": "full", "epochs": EPOCHS, "warmup": 0, "batch-size": batch_size, "lr": LEARNING_RATE}
        options |= {"max-length": LENGTH, "seed": seed} | ({"engine": "off"} if side == "off" else {})
        files = {name: folder / f"{name}.csv" for name in ("train", *HELD_OUT)}
        record, cost = train_command(files, folder / f"run-{side}-{batch_size}-{seed}", options)
        accuracy = record["metrics"]["test"]["accuracy"]["value"]
    else:
        text, cost = run_process([__file__, "--side", side, str(folder), str(batch_size), str(seed)])
        accuracy = float(text.split()[-1])
    return cost | {"accuracy": round(accuracy, 4)}


def measure(folder: Path, batch_size: int, names: list[str], seeds: int) -> dict[str, Any]:
    """Every side named, at one batch size."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in names}
    for seed in range(1, seeds + 1):
        for side in names:
            if side != "guide" or seed == 1:
                found[side].append(command(side, folder, batch_size, seed))
                sys.stderr.write(f"batch {batch_size}, seed {seed}: {side} {found[side][-1]}\n")
    return {"batch_size": batch_size, **compared(found)}


def write_sample(data: Texts, rows: int, folder: Path) -> dict[str, int]:
    """A random sample of the rows as three files, and how many rows each has."""
    sizes = {"train": min(rows, len(data.texts) - sum(HELD_OUT.values())), **HELD_OUT}
    order = np.random.default_rng(0).permutation(len(data.texts))[: sum(sizes.values())]
    for name, chosen in zip(sizes, np.split(order, np.cumsum(list(sizes.values()))[:-1]), strict=True):
        sample = data.select(chosen)
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            pairs = zip(sample.texts, (sample.labels[target] for target in sample.targets), strict=True)
            csv.writer(file).writerows([("text", "label"), *pairs])
    return sizes


def main() -> None:
    """Measure on the given data; with ``--side`` (our own call), one of the stock sides."""
    if sys.argv[1:2] == ["--side"]:
        side, folder, batch_size, seed = sys.argv[2:]
        sys.stdout.write(f"{stock(side, Path(folder), int(batch_size), int(seed))}\n")
        return
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--batch-sizes", default="8,32")
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--seeds", type=int, default=3)
    chosen, sys.argv[1:] = parser.parse_known_args()
    data = given_texts("commands", __doc__.splitlines()[0])
    if data is None:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = write_sample(data, chosen.rows, folder)
        names = chosen.sides.split(",")
        for size in map(int, chosen.batch_sizes.split(",")):
            result = {"data": data.name, "rows": sizes, "epochs": EPOCHS}
            result |= measure(folder, size, names, chosen.seeds)
            write_result(f"commands-{sizes['train']}-{size}", result)


if __name__ == "__main__":
    main()
