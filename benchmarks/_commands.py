"""Whole commands as processes of their own: how long they take, and how much memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Ran:
    """A command that came to a good end.

    Attributes:
        seconds: from its start to its end.
        peak_mebibytes: largest resident set.
        output: standard output and standard error.
    """

    seconds: float
    peak_mebibytes: int
    output: str


def run_python(words: Sequence[str], environment: Mapping[str, str] | None = None) -> Ran:
    """Run this Python with `words` as its arguments, and `environment` added to ours.

    Raises:
        RuntimeError: it failed; the end of its output is the message.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as stream:
        start = time.perf_counter()
        variables = os.environ | dict(environment or {})
        process = subprocess.Popen([sys.executable, *words], stdout=stream, stderr=stream, env=variables)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        stream.seek(0)
        output = stream.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(words[:3])} failed: {output[-2000:]}")
    return Ran(round(seconds, 1), usage.ru_maxrss // 1024, output)
