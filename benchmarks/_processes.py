"""Whole processes as a benchmark compares them: time, peak memory, and how much longer each side takes than ours."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

OURS = "tunesmith"
POLL_SECONDS = 0.05


def run_process(words: Sequence[str]) -> tuple[str, dict[str, float]]:
    """Run Python with these arguments as a process of its own.

    Nothing that an earlier process cached is known to it.

    Returns:
        What it wrote, and ``seconds`` and ``peak_mebibytes``.
    """
    with tempfile.TemporaryDirectory() as folder, Path(folder, "output").open("w+") as stream:
        environment = os.environ | {"TUNESMITH_CACHE": f"{folder}/cache"}
        start, peak = time.perf_counter(), 0
        process = subprocess.Popen([sys.executable, *words], stdout=stream, stderr=stream, env=environment)
        while process.poll() is None:
            peak = max(peak, _mebibytes(process.pid))
            time.sleep(POLL_SECONDS)
        seconds = time.perf_counter() - start
        stream.seek(0)
        text = stream.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)} failed: {text[-2000:]}")
    return text, {"seconds": round(seconds, 1), "peak_mebibytes": peak}


def _mebibytes(pid: int) -> int:
    """The largest resident set of a process so far, as Linux tells it; what `wait4` tells counts ours as well."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:")), 0)


def train_command(files: Mapping[str, Path], out: Path, options: Mapping[str, Any]) -> tuple[Any, dict[str, float]]:
    """Run ``tunesmith train`` on the files ``train``, ``valid`` and ``test``; its record, and what the process took."""
    words = ["-m", "tunesmith", "train", str(files["train"]), "--valid", str(files["valid"])]
    words += ["--test", str(files["test"]), "--out", str(out), "--quiet"]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    _, cost = run_process(words)
    return json.loads((out / "run.json").read_text()), cost


def figures_of(text: str) -> dict[str, float]:
    """The last line that a stock side wrote, JSON, with four decimals."""
    return {name: round(value, 4) for name, value in json.loads(text.splitlines()[-1]).items()}


def compared(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Sides with the figures of their runs as lists, and the median seconds of each as a multiple of our own."""
    sides = {side: {key: [one[key] for one in runs] for key in runs[0]} for side, runs in found.items()}
    median = {side: statistics.median(values["seconds"]) for side, values in sides.items()}
    ratios = {side: round(value / median[OURS], 2) for side, value in median.items()}
    return {"sides": sides, "times_as_long": ratios}
