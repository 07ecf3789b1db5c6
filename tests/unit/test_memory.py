"""Memory that was freed stays with a process that asked for it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

MEGABYTES = 200
PROGRAM = """
import sys
import numpy as np
from tunesmith.commandline import keep_freed_memory

def resident():
    lines = open("/proc/self/status", encoding="utf-8").read().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))

if sys.argv[1] == "keep":
    assert keep_freed_memory()
before = resident()
block = np.ones(int(sys.argv[2]) << 20, dtype=np.uint8)
del block
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or sys.platform != "linux", reason="a setting of glibc")
def test_freed_memory_is_kept_where_asked_for() -> None:
    left = {}
    for mode in ("keep", "give back"):
        words = [sys.executable, "-c", PROGRAM, mode, str(MEGABYTES)]
        left[mode] = int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert left["keep"] > MEGABYTES * 0.9
    assert left["give back"] < MEGABYTES * 0.1
