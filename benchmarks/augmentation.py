"""What each augmentation does to the score: the same budget with and without it.

    python benchmarks/augmentation.py --data train.csv --test test.csv [--text COLUMN] [--label COLUMN]
    python benchmarks/augmentation.py --entities train.conll --entities-test test.conll
        [--size few|full] [--techniques NAME,NAME] [--lexicon PATH] [--masked-model MODEL]

Runs ``tunesmith.train`` with the packaged MiniLM once a technique and seed, on few rows (10 random ones a class, or
rows until every type has 10 entities; 300 others are the validation rows) and on all. The seed decides the rows, what
is made of them, and the training. Budget: as many optimizer steps for every technique; with F new rows a row the epochs
are divided by 1 + F. The method is ``full``. ``synonym`` and ``eda`` need ``--lexicon``, ``masked`` needs
``--masked-model``; they are left out without. Sizes that are not run keep their earlier result in
``results/augmentation-classification.json`` and ``results/augmentation-entities.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _results import write_result

import tunesmith
from tunesmith.config.loading import resolve
from tunesmith.config.schema import DataSettings
from tunesmith.data.reading import load_splits
from tunesmith.data.records import Records
from tunesmith.data.shapes import SHAPES
from tunesmith.progress import Progress

SEEDS = (1, 2, 3)
EXAMPLES_A_CLASS = 10
VALID_ROWS = 300
FACTOR = 1.0
TASKS = {"data": ("classification", "accuracy"), "entities": ("ner", "span_f1")}
FEW = {
    "classification": ("delete", "swap", "insert", "punctuation", "typo", "synonym", "eda", "masked"),
    "ner": ("delete", "swap", "insert", "punctuation", "typo", "entity", "synonym", "eda", "masked"),
}
FULL = {"classification": ("delete", "typo"), "ner": ("typo", "entity")}
# Epochs without new rows, and batch size.
BUDGET = {
    "few": {"classification": (8, 16), "ner": (20, 8)},
    "full": {"classification": (4, 32), "ner": (6, 16)},
}
NEEDS = {"synonym": "lexicon", "eda": "lexicon", "masked": "masked_model"}


@dataclass(frozen=True)
class Setting:
    """What is compared.

    Attributes:
        size: ``few`` or ``full``.
        options: of `tunesmith.train`, the same for every technique.
        sets: further settings as ``key=value``.
    """

    size: str
    task: str
    metric: str
    options: dict[str, Any]
    sets: tuple[str, ...]

    def score(self, technique: str, train: Path, valid: str | None, seed: int, folder: Path) -> dict[str, Any]:
        """Test score of one run, with what it cost."""
        epochs, batch_size = BUDGET[self.size][self.task]
        changes = technique != "none"
        options = self.options | {"method": "full", "batch_size": batch_size, "seed": seed, "valid": valid}
        options |= {"epochs": round(epochs / (1 + FACTOR)) if changes else epochs}
        options |= {"out": str(folder), "overwrite": True}
        options |= {"augment": technique if changes else "none", "augment_factor": FACTOR}
        run = tunesmith.train(train, resolve(options=options, sets=self.sets), Progress(quiet=True))
        return {
            "score": run.metrics["test"][self.metric].value,
            "steps": run.record["best"].get("steps"),
            "new_rows": run.record["data"].get("augmentation", {}).get("rows", 0),
            "seconds": run.record["timing"]["seconds"],
        }


def few(train: Records, seed: int) -> tuple[list[int], list[int]]:
    """Rows, in random order, until every label (of entities: every type) has its examples; rows for validation."""
    have: Counter[str] = Counter()
    wanted, others, labels = [], [], train.labels
    for row in np.random.default_rng(seed).permutation(len(train)).tolist():
        label = labels[row]
        names = [label] if isinstance(label, str) else [span.label for span in label or ()]
        if any(have[name] < EXAMPLES_A_CLASS for name in names):
            have.update(names)
            wanted.append(row)
        else:
            others.append(row)
    return wanted, others[:VALID_ROWS]


def write(records: Records, file: Path) -> Path:
    """Rows as JSON lines that are read back as they are."""
    with file.open("w", encoding="utf-8") as out:
        for record in records:
            label = {"label": record.label}
            if not isinstance(record.label, str):
                label = {"spans": [span._asdict() for span in record.label or ()]}
            out.write(json.dumps({"text": record.text, **label}, ensure_ascii=False) + "\n")
    return file


def measure(setting: Setting, train: Records, techniques: Sequence[str], folder: Path) -> dict[str, Any]:
    """Technique → scores by seed, their mean and their difference to the same training without it."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in techniques}
    for seed in SEEDS:
        data, valid = folder / "train.jsonl", None
        if setting.size == "few":
            rows, others = few(train, seed)
            write(train.select(rows), data)
            valid = str(write(train.select(others), folder / "valid.jsonl"))
        else:
            write(train, data)
        for name in techniques:
            runs[name].append(setting.score(name, data, valid, seed, folder / "run"))
            sys.stderr.write(f"{setting.task} {setting.size} seed {seed} {name}: {runs[name][-1]}\n")
    found: dict[str, Any] = {}
    for name, results in runs.items():
        scores = [result["score"] for result in results]
        found[name] = {
            "mean": round(statistics.mean(scores), 4),
            "scores": [round(score, 4) for score in scores],
            **{key: [result[key] for result in results] for key in ("steps", "new_rows", "seconds")},
        }
        if name != "none":
            plain = [result["score"] for result in runs["none"]]
            differences = [score - other for score, other in zip(scores, plain, strict=True)]
            found[name]["difference"] = round(statistics.mean(differences), 4)
            found[name]["differences"] = [round(difference, 4) for difference in differences]
    return found


def chosen(task: str, size: str, arguments: argparse.Namespace) -> list[str]:
    """The techniques to run, with what they are compared with first."""
    names = arguments.techniques.split(",") if arguments.techniques else (FEW if size == "few" else FULL)[task]
    names = [name for name in names if name not in NEEDS or getattr(arguments, NEEDS[name])]
    return ["none", *names]


def compare(given: str, data: str, test: str, arguments: argparse.Namespace) -> None:
    """Measure one data set in the sizes asked for, and write the result."""
    task, metric = TASKS[given]
    settings = DataSettings(text=arguments.text, label=arguments.label) if given == "data" else DataSettings()
    train, held_out = (load_splits({"train": path}, settings, SHAPES[task], True)[0]["train"] for path in (data, test))
    found = {name: getattr(arguments, name) for name in ("lexicon", "masked_model")}
    known = [f"augmentation.{name}={value}" for name, value in found.items() if value is not None]
    sets = ("evaluation.baseline=false", *known)
    program = f"augmentation-{'classification' if given == 'data' else 'entities'}"
    earlier = Path(__file__).parent / "results" / f"{program}.json"
    sizes = json.loads(earlier.read_text(encoding="utf-8"))["sizes"] if earlier.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TUNESMITH_CACHE"] = str(folder / "cache")
        options = {"task": task, "test": str(write(held_out, folder / "test.jsonl"))}
        for size in [arguments.size] if arguments.size else ("few", "full"):
            setting = Setting(size, task, metric, options, sets)
            epochs, batch_size = BUDGET[size][task]
            sizes[size] = {
                "epochs": epochs,
                "batch_size": batch_size,
                "techniques": measure(setting, train, chosen(task, size, arguments), folder),
            }
            figures = {"data": Path(data).name, "metric": metric, "factor": FACTOR, "seeds": SEEDS, "sizes": sizes}
            write_result(program, figures)


def main() -> None:
    """Measure on the given data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for flag in ("data", "test", "text", "label", "entities", "entities-test", "techniques", "lexicon", "masked-model"):
        parser.add_argument(f"--{flag}")
    parser.add_argument("--size", choices=("few", "full"))
    arguments = parser.parse_args()
    pairs = {"data": (arguments.data, arguments.test), "entities": (arguments.entities, arguments.entities_test)}
    given = {name: pair for name, pair in pairs.items() if None not in pair}
    if not given:
        sys.stderr.write("augmentation: skipped; it needs --data and --test, or --entities and --entities-test\n")
    for name, (data, test) in given.items():
        compare(name, data, test, arguments)


if __name__ == "__main__":
    main()
