"""Work that cannot change the result is not done. Knows no task, no method and no Trainer."""

from tunesmith.engine.core import Engine, attached

__all__ = ["Engine", "attached"]
