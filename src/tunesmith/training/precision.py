"""Where a model runs, and in which arithmetic: chosen by measurement, as on some processors bfloat16 is the slower."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch

ROWS, INNER, OUTER, REPEATS = 512, 384, 1536, 7
"""Shape of the trial product: one feed-forward layer of a small model over a batch of short texts."""
WORTH_IT = 1.3
"""bfloat16 must win by this factor on bare products, since casting the weights at every step costs some of it."""

ASKED = "asked for"


@dataclass(frozen=True)
class Precision:
    """A choice and its reason.

    Attributes:
        state: ``float32``, ``bfloat16`` or ``float16``.
        reason: why, for the run's record.
    """

    state: str
    reason: str


def choose_device() -> torch.device:
    """Where models are trained and run: the GPU if there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_precision(wanted: str) -> Precision:
    """What was asked for, or for ``auto`` the fastest that is safe on this machine.

    bfloat16 where the hardware has it and it is measured to be faster; float16 (with loss scaling) on older GPUs;
    else float32. The GPU branches follow the libraries' own capability flags and were not run in the project's tests.
    """
    if wanted != "auto":
        return Precision(wanted, ASKED)
    if choose_device().type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bfloat16", "the GPU has bfloat16")
        return Precision("float16", "the GPU has no bfloat16")
    ratio = _seconds(torch.float32) / _seconds(torch.bfloat16)
    found = f"bfloat16 products took 1/{ratio:.1f} of the time of float32" if ratio > 1 else "bfloat16 is not faster"
    return Precision("bfloat16" if ratio >= WORTH_IT else "float32", f"measured: {found}")


def _seconds(dtype: torch.dtype) -> float:
    left, right = torch.ones(ROWS, INNER, dtype=dtype), torch.ones(INNER, OUTER, dtype=dtype)
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - start)
    return statistics.median(times)
