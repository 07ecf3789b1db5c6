"""How the process keeps memory that was freed."""

from __future__ import annotations

import ctypes
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of glibc's settings: ``M_TRIM_THRESHOLD`` and ``M_MMAP_THRESHOLD`` of ``malloc.h``."""
LARGE = 1 << 30
"""Bytes."""


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed, instead of giving it back to the system and asking again at the next step.

    A training step frees and allocates the same activations and gradients each time; pages that come back from the
    system are cleared on first touch. For a process of our own, not for a host's.

    Returns:
        Whether the C library took it; other libraries than glibc are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return all(library.mallopt(setting, LARGE) == 1 for setting in (TRIM_THRESHOLD, MMAP_THRESHOLD))
