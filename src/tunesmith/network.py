"""No network where none is asked for, whatever a library is told by a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCHES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "TRANSFORMERS_OFFLINE")
READ_AT_IMPORT = (("huggingface_hub.constants", "HF_HUB_OFFLINE"), ("datasets.config", "HF_HUB_OFFLINE"))
"""Where libraries keep what they read of these when they were imported."""


@contextmanager
def offline(asked: bool) -> Iterator[None]:
    """While it lasts, if it is asked for, libraries do not reach the Hub: those imported already, and later ones."""
    if not asked:
        yield
        return
    before = {name: os.environ.get(name) for name in SWITCHES}
    was = {place: _kept(*place) for place in READ_AT_IMPORT}
    os.environ.update(dict.fromkeys(SWITCHES, "1"))
    for place in READ_AT_IMPORT:
        _keep(*place, True)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        for place in READ_AT_IMPORT:
            own = was[place]
            _keep(*place, _is_set(before["HF_HUB_OFFLINE"]) if own is None else own)


def _kept(module: str, name: str) -> bool | None:
    return getattr(sys.modules.get(module), name, None)


def _keep(module: str, name: str, value: bool) -> None:
    if module in sys.modules:
        setattr(sys.modules[module], name, value)


def _is_set(value: str | None) -> bool:
    return (value or "").upper() in ("1", "ON", "TRUE", "YES")
