"""Work that cannot change the result is not done. Knows no task, no method and no Trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.engine.core import Engine, attached

__all__ = ["Engine", "attached"]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are used: what lists the cache needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tunesmith.engine import core

    return getattr(core, name)
