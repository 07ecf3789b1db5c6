"""Every method on Banking77's official test set, with default settings: score, interval and seconds.

    python benchmarks/banking77.py --train train.csv --test test.csv [METHOD ...]

Runs ``tunesmith train`` once a method and keeps what its ``run.json`` says in ``results/banking77.json``. Methods that
are not named keep their earlier result. ``--readme`` writes the committed result into the README instead.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "banking77.json"
METHODS = ("features", "full", "freeze", "gradual", "lora")
METRIC = "accuracy"
README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- banking77: made by benchmarks/banking77.py --readme -->", "<!-- end of banking77 -->"


def measure(method: str, train: Path, test: Path) -> dict[str, Any]:
    """One run of the command line with defaults; the part of its record that matters here."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tunesmith", "train", str(train), "--test", str(test), "--json"]
        command += ["--method", method, "--out", f"{folder}/run"]
        environment = os.environ | {"TUNESMITH_CACHE": f"{folder}/cache"}  # nothing is known from an earlier run
        run = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout)
    training = run["config"]["training"]
    return {
        "command": f"tunesmith train train.csv --test test.csv --method {method}",
        "test": run["metrics"]["test"][METRIC],
        "valid": run["metrics"]["valid"][METRIC],
        "baselines": {b["name"]: b["metrics"][METRIC] | {"seconds": b["seconds"]} for b in run["baselines"]},
        "timing": run["timing"],
        "engine": run["engine"],
        "trainable": run["model"]["trainable"],
        "settings": {
            key: training[key] for key in ("epochs", "batch_size", "lr", "head_lr", "layer_decay", "precision")
        },
        "versions": run["versions"],
        "machine": run["machine"],
    }


def table(results: dict[str, Any]) -> str:
    """The results as Markdown, weakest cost first."""
    lines = [
        "| method | trained parameters | test accuracy (95 % interval) | seconds, whole command |",
        "|---|---|---|---|",
    ]
    first = next(iter(results.values()))
    for name, score in first["baselines"].items():
        if name != "majority":
            lines.append(f"| {name} (baseline) | – | {_percent(score)} | {score['seconds']:.0f} |")
    for method in METHODS:
        if method in results:
            found = results[method]
            seconds = found["timing"]["seconds"]
            lines.append(f"| {method} | {found['trainable']:,} | {_percent(found['test'])} | {seconds:.0f} |")
    return "\n".join(lines)


def _percent(score: dict[str, float]) -> str:
    return f"{100 * score['value']:.1f} % ({100 * score['low']:.1f} – {100 * score['high']:.1f})"


def main() -> None:
    """Measure the named methods, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", default=[], choices=[*METHODS, []])
    parser.add_argument("--train", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--readme", action="store_true")
    arguments = parser.parse_args()
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if arguments.readme:
        before, _, rest = README.read_text().partition(BEGIN)
        README.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{rest.partition(END)[2]}")
    else:
        if arguments.train is None or arguments.test is None:
            sys.stderr.write("banking77: skipped; it needs --train and --test, the two files of the data set\n")
            return
        for method in arguments.methods or METHODS:
            results[method] = measure(method, arguments.train, arguments.test)
            RESULT.write_text(json.dumps(results, indent=1) + "\n")
    sys.stdout.write(table(results) + "\n")


if __name__ == "__main__":
    main()
