"""Reads, lays out and checks a CSV file of a million rows; writes seconds and peak memory to results/read_million.json.

Run from the repository: ``python benchmarks/read_million.py``. Timings are of this machine and one run.
"""

from __future__ import annotations

import csv
import json
import platform
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from tunesmith.config.schema import DataSettings
from tunesmith.data import read
from tunesmith.data.checks import run_checks
from tunesmith.data.layout import find_layout, to_records
from tunesmith.data.splits import split

ROWS = 1_000_000
LABELS = [f"class_{i}" for i in range(20)]
RESULT = Path(__file__).parent / "results" / "read_million.json"


def write_rows(path: Path, rows: int) -> None:
    """A CSV file with columns text and label, about 200 bytes a row, quotes and line breaks among them."""
    draw = random.Random(1)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyzäé", k=draw.randint(2, 10))) for _ in range(20_000)]
    words += ['"quoted"', "one,two", "line\nbreak"]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for _ in range(rows):
            writer.writerow([" ".join(draw.choices(words, k=27)), draw.choice(LABELS)])


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(path: Path) -> tuple[dict[str, float], dict[str, int]]:
    """Seconds and peak resident bytes of each stage."""
    settings, start = DataSettings(), time.perf_counter()
    seconds: dict[str, float] = {}
    peaks = {"before": peak_bytes()}

    def lap(stage: str) -> None:
        nonlocal start
        now = time.perf_counter()
        seconds[stage], start = round(now - start, 2), now
        peaks[stage] = peak_bytes()

    raw = read(str(path), settings)
    lap("read")
    layout = find_layout(raw, settings)
    records = to_records(raw, layout)
    lap("to_records")
    run_checks({"train": records}, layout.shape)
    lap("check")
    seconds["read_and_check"] = round(sum(seconds.values()), 2)
    split(records, layout.shape, settings, seed=1)
    lap("split")
    return seconds, peaks


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "million.csv"
        write_rows(path, ROWS)
        file_bytes = path.stat().st_size
        seconds, peaks = measure(path)
    result = {
        "rows": ROWS,
        "file_bytes": file_bytes,
        "seconds": seconds,
        "peak_bytes": peaks,
        "versions": {"python": platform.python_version(), "pyarrow": pa.__version__, "numpy": np.__version__},
        "machine": f"{platform.system()} {platform.machine()}",
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(RESULT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
