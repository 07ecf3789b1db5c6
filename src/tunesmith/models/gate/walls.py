"""While a library loads: no module of a folder is imported, nobody answers a question, the Hub is out of reach."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import dynamic_module_utils

from tunesmith.errors import ModelError
from tunesmith.network import offline

_lock = threading.RLock()


@contextmanager
def walled(local: bool = False) -> Iterator[None]:
    """While it lasts, no library imports a module of a model folder, asks a question, or reads standard input.

    Args:
        local: the Hub is not reached, either.
    """
    closed = {"get_cached_module_file": _refuse, "get_class_in_module": _refuse, "TIME_OUT_REMOTE_CODE": 0}
    with _lock, offline(local):
        own, stdin = {part: getattr(dynamic_module_utils, part) for part in closed}, sys.stdin
        sys.stdin = io.StringIO()
        try:
            for part, replacement in closed.items():
                setattr(dynamic_module_utils, part, replacement)
            yield
        finally:
            sys.stdin = stdin
            for part, value in own.items():
                setattr(dynamic_module_utils, part, value)


def _refuse(*_: Any, **__: Any) -> Any:
    raise ModelError("the model asks for code of its own to be run, which is never done; give a model without it")
