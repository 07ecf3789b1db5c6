"""What is left out when a process starts; nothing of it changes a result.

Some of it a host's process may want: it is for commands alone.

transformers imports torch's compiler for decorators of functions that stay uncompiled, tensors that lie on several
machines for `isinstance`, and a solver for the losses of image models; torch imports a library of symbolic algebra to
check the shapes of tensors without memory. For a command that answers texts and ends that is a third of the time before
its first answer.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import PathFinder
from operator import eq
from pathlib import Path
from types import ModuleType
from typing import Any

PARTS = ("is_accelerate_available", "is_scipy_available", "is_torch_distributed_available")
"""What transformers asks before it imports them."""
READ_FOLDER = "create_import_structure_from_path"
"""How transformers learns what its modules hold."""

CONCRETE: Mapping[str, Any] = {
    **dict.fromkeys(("expect_true", "guard_or_false", "guard_or_true", "guard_size_oblivious"), bool),
    "sym_eq": eq,
    "is_nested_int": lambda size: False,
}
"""What torch asks of shapes, answered for those that are plain numbers."""

_only_answers = False


def only_answers() -> None:
    """This process will train nothing and compile nothing; see `import_transformers`."""
    global _only_answers
    _only_answers = True


@contextmanager
def uncollected() -> Iterator[None]:
    """While modules are imported, nothing is garbage, and the search for it takes a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def spare_pandas() -> None:
    """Let pyarrow not look for pandas, whose columns it need not know where none are given to it."""
    import pyarrow

    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        pyarrow.array([])
    finally:
        sys.meta_path.remove(absent)


class _Absent:
    def find_spec(self, name: str, *_: Any) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def import_transformers() -> None:
    """Import what all models of transformers need; where the process only answers, without what is then never used."""
    if not _only_answers or "transformers" in sys.modules:
        return
    import torch
    from torch import nn

    draw = nn.Embedding.reset_parameters

    def reset(module: nn.Embedding) -> None:
        if not module.weight.is_meta:
            draw(module)

    nn.Embedding.reset_parameters = reset  # type: ignore[method-assign, assignment]
    _put_stand_in("torch._dynamo", dict.fromkeys(("disable", "allow_in_graph", "assume_constant_result"), _unmarked))
    _put_stand_in("torch.fx.experimental.symbolic_shapes", CONCRETE)
    torch._dynamo = sys.modules["torch._dynamo"]
    amending = _Amending("transformers.utils.import_utils", _spare_searches)
    sys.meta_path.insert(0, amending)
    try:
        importlib.import_module("transformers.modeling_utils")
    finally:
        sys.meta_path.remove(amending)


def _put_stand_in(name: str, known: Mapping[str, Any]) -> None:
    if name not in sys.modules:
        sys.modules[name] = _StandIn(name, known)


class _StandIn(ModuleType):
    """In the place of a module until something else of it is asked for than what is known; then that takes its place.

    Its own modules can be imported all the while.
    """

    def __init__(self, name: str, known: Mapping[str, Any]) -> None:
        super().__init__(name)
        package, _, last = name.rpartition(".")
        self.__path__ = [f"{path}/{last}" for path in sys.modules[package].__path__]
        self._known = known

    def __getattr__(self, name: str) -> Any:
        if name in self._known:
            return self._known[name]
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def _unmarked(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
    """In the place of a decorator, with arguments or without."""
    return (lambda marked: marked) if function is None else function


class _Amending:
    """Finds one module, as it would be found without, and changes it as soon as it is imported."""

    def __init__(self, name: str, change: Callable[[ModuleType], None]) -> None:
        self.name, self.change = name, change

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self.name or (spec := PathFinder.find_spec(name, path, target)) is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_change(module: ModuleType) -> None:
            run(module)
            self.change(module)

        spec.loader.exec_module = run_and_change  # type: ignore[method-assign]
        return spec


def _spare_searches(imports: ModuleType) -> None:
    """Change what transformers knows of imports: some parts are not there, and its folders are read once, not twice."""
    for name in PARTS:
        if hasattr(imports, name):
            setattr(imports, name, lambda *_: False)
    if hasattr(imports, READ_FOLDER):
        read, found = getattr(imports, READ_FOLDER), dict[str, Any]()

        def read_once(path: str | Path) -> Any:
            folder = os.path.dirname(path) if os.path.isfile(path) else str(path)
            if folder not in found:
                found[folder] = read(folder)
            return found[folder]

        setattr(imports, READ_FOLDER, read_once)
