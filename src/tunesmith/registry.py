"""Lookup of parts by name: plain tables of lazy strings, so that listing names imports nothing heavy.

A table maps a name to ``"module:Attribute"``. Third parties add names through entry points of the group
``tunesmith.<table>``; a built-in name cannot be replaced.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from tunesmith.errors import UsageError

TABLES = {"tasks": "tunesmith.tasks:TASKS", "methods": "tunesmith.methods:METHODS"}
"""The tables whose names are settings, which are checked before any part is imported."""
BASES = {"tasks": "tunesmith.tasks.base:Task", "methods": "tunesmith.methods.base:Method"}
"""What a foreign part of a table is made from."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint with the nearest known names, or all of them when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name[:100], known, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"known: {', '.join(known)}"


def table_of(group: str) -> Mapping[str, str]:
    """The table of a group in `TABLES`."""
    table: Mapping[str, str] = _imported(TABLES[group])
    return table


def names(table: Mapping[str, str], group: str) -> list[str]:
    """All names of a table, built-in ones first, then those of installed extensions."""
    extra = sorted(point.name for point in entry_points(group=f"tunesmith.{group}") if point.name not in table)
    return [*table, *extra]


def lookup(table: Mapping[str, str], group: str, name: str) -> Any:
    """The object registered under `name`.

    Args:
        table: the built-in names of this group.
        group: what the table holds, in the plural: ``"tasks"``, ``"methods"``, ``"formats"``.
        name: the name asked for.

    Raises:
        UsageError: the name is unknown; the message offers the nearest ones.
    """
    if name in table:
        return _imported(table[name])
    for point in entry_points(group=f"tunesmith.{group}"):
        if point.name == name:
            return _loaded(point, group)
    raise UsageError(f"unknown {group.removesuffix('s')} {name!r}; {did_you_mean(name, names(table, group))}")


def require(part: type, *attributes: str) -> None:
    """Refuse to make a part that does not say what it is; its abstract methods are refused by Python itself.

    Raises:
        TypeError: an attribute is missing.
    """
    if missing := [attribute for attribute in attributes if not hasattr(part, attribute)]:
        raise TypeError(f"{part.__qualname__}: {', '.join(missing)} missing; it has {', '.join(attributes)}")


def _loaded(point: EntryPoint, group: str) -> Any:
    """What an installed package brings, which must be whole."""
    package = point.dist.name if point.dist else "?"
    where = f"{group.removesuffix('s')} {point.name!r} of package {package} ({point.value})"
    try:
        part = point.load()
    except Exception as error:  # whatever a foreign module does when it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"{where}: cannot be loaded ({reason}); update or remove the package") from error
    if group in BASES:
        base = _imported(BASES[group])
        if not (isinstance(part, type) and issubclass(part, base)):
            raise UsageError(f"{where}: no subclass of {BASES[group].replace(':', '.')}; update or remove the package")
        absent = [name for name in base.required if not hasattr(part, name)]
        if absent := [*absent, *sorted(getattr(part, "__abstractmethods__", ()))]:
            raise UsageError(f"{where}: {', '.join(absent)} missing; update or remove the package")
        if part.name != point.name:  # type: ignore[attr-defined]
            raise UsageError(f"{where}: its name is {part.name!r}; update or remove the package")  # type: ignore[attr-defined]
    return part


def _imported(part: str) -> Any:
    module, _, attribute = part.partition(":")
    return getattr(import_module(module), attribute)
