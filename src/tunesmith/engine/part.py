"""What every part of the engine can be asked."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from types import MethodType
from typing import Any, ClassVar

from torch import nn

SWITCHED_OFF = "switched off"


class Part(abc.ABC):
    """One kind of work that is left out of one model. Making a part changes nothing; `attach` does.

    Attributes:
        name: in reports; an engine has one part of each name.
    """

    name: ClassVar[str]

    @abc.abstractmethod
    def why_not(self) -> str | None:
        """Why it leaves nothing out of this model, or None where it applies."""

    @abc.abstractmethod
    def attach(self) -> None:
        """Leave the work out from now on, where the part applies."""

    @abc.abstractmethod
    def detach(self) -> None:
        """Leave the model as it was found, with the weights it has now; may be called twice, or without `attach`."""

    @abc.abstractmethod
    def save(self) -> dict[str, Any]:
        """What a checkpoint must hold, so that a resumed run equals a straight one; values that JSON can hold."""

    @abc.abstractmethod
    def load(self, kept: dict[str, Any]) -> None:
        """Take over what `save` gave, before the checkpoint's weights are loaded. It may be absent."""

    @abc.abstractmethod
    def figures(self) -> dict[str, Any]:
        """What was left out so far."""

    def report(self) -> dict[str, Any]:
        """State, figures and the reason where it is off, for the record of a run."""
        reason = self.why_not()
        return {"state": "off", "reason": reason} if reason else {"state": "on", **self.figures()}


@dataclass(eq=False)
class Replacement(abc.ABC):
    """What the engine puts in the place of a module's `forward`.

    A copy of the module, and what is pickled of it, has its own `forward` again: the engine belongs to one model.
    """

    module: nn.Module

    @abc.abstractmethod
    def __call__(self, *positional: Any, **named: Any) -> Any:
        """What the module's own `forward` returns."""

    def __reduce__(self) -> Any:
        return own_forward, (self.module,)


def own_forward(module: nn.Module) -> MethodType:
    """What the module's class defines."""
    return MethodType(type(module).forward, module)
