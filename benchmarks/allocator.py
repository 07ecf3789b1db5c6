"""Training steps in a process that keeps freed memory, as the `tunesmith` command does, and in one that does not.

    python benchmarks/allocator.py --data train.csv [--text COLUMN] [--label COLUMN]

Each process trains the packaged MiniLM with the engine for 40 steps of 32 random texts; six processes of each kind, in
turns. The result, the median step of each process, goes to ``results/allocator.json``.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from _labelled import Texts, given_texts
from engine import Case, encode, make_model, stepper

from tunesmith.config import ModelSettings
from tunesmith.engine import Engine
from tunesmith.memory import keep_freed_memory
from tunesmith.models.loading import find_source, load_tokenizer
from tunesmith.run import machine, versions

RESULT = Path(__file__).parent / "results" / "allocator.json"
PROCESSES, STEPS, ROWS, WARM_UP = 6, 40, 32, 5


def median_step(data: Texts) -> float:
    """Milliseconds."""
    tokenizer = load_tokenizer(find_source(ModelSettings()))
    order = np.random.default_rng(0).permutation(len(data.texts))[: STEPS * ROWS].reshape(STEPS, ROWS)
    batches = [encode(tokenizer, data.select(rows), 128, True) for rows in order]
    model = make_model(Case("short", ROWS), len(data.labels))
    ids = np.unique(np.concatenate([batch["input_ids"].numpy().reshape(-1) for batch in batches]))
    step, seconds = stepper(model, True, Engine(model, token_ids=ids)), []
    for batch in batches:
        start = time.perf_counter()
        step(batch)
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds[WARM_UP:])


def main() -> None:
    """Measure on the given data; with ``--keep`` or ``--give-back`` first (our own call), one process."""
    mode = sys.argv.pop(1) if sys.argv[1:2] in (["--keep"], ["--give-back"]) else None
    if mode == "--keep" and not keep_freed_memory():
        sys.exit("the C library cannot be told to keep memory")
    data = given_texts("allocator", __doc__.splitlines()[0])
    if data is None:
        return
    if mode:
        sys.stdout.write(f"{median_step(data)}\n")
        return
    found: dict[str, list[float]] = {"--keep": [], "--give-back": []}
    for _ in range(PROCESSES):
        for side, values in found.items():
            words = [sys.executable, __file__, side, *sys.argv[1:]]
            values.append(round(float(subprocess.run(words, capture_output=True, check=True).stdout.split()[-1]), 1))
    median = {side: statistics.median(values) for side, values in found.items()}
    result = {
        "milliseconds_a_step": {side.lstrip("-"): values for side, values in found.items()},
        "times_faster": round(median["--give-back"] / median["--keep"], 2),
        "data": data.name,
        "versions": versions(),
        "machine": machine(torch.get_num_threads()),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
