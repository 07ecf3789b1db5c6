"""Training steps in a process that keeps freed memory, as the `tunesmith` command does, and in one that does not.

    python benchmarks/allocator.py --data train.csv [--text COLUMN] [--label COLUMN]

Each process trains the packaged MiniLM with the engine for 40 steps of 32 random texts; six processes of each kind, in
turns. The result, the median step of each process, goes to ``results/allocator.json``.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from _labelled import Texts, given_texts
from _results import write_result
from engine import Case, make_model, random_batches, stepper, tokens_of

from tunesmith.commandline import keep_freed_memory
from tunesmith.engine import Engine

PROCESSES, STEPS, ROWS, WARM_UP = 6, 40, 32, 5


def median_step(data: Texts) -> float:
    """Milliseconds."""
    batches = random_batches(data, ROWS, 128, STEPS)
    model = make_model(Case("short", ROWS), len(data.labels))
    step, seconds = stepper(model, True, Engine(model, token_ids=tokens_of(batches))), []
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
    }
    write_result("allocator", result)


if __name__ == "__main__":
    main()
