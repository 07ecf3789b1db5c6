"""JSON files that are one object: where in it the rows are."""

from __future__ import annotations

from typing import Any

from tunesmith.errors import DataError
from tunesmith.text import counted, name_list

OF_A_ROW = ("text", "content", "context", "sentence", "document", "question", "tokens")
PARTS = ("train", "training", "valid", "validation", "dev", "val", "test")
DEPTH = 3


def one_row(value: dict[str, Any]) -> bool:
    """Whether an object is itself an example, whatever lists it has."""
    data = value.get("data")
    return any(isinstance(value.get(name), str) for name in OF_A_ROW) or (
        isinstance(data, dict) and any(isinstance(one, str) for one in data.values())
    )


def rows_inside(path: str, value: dict[str, Any]) -> tuple[list[Any], tuple[str, ...]]:
    """The rows of an object that has them under one of its keys, or as columns; else the object. And notes.

    Raises:
        DataError: several keys have rows, or keys are columns of different lengths; they are named.
    """
    lists = _lists(value)
    if len(lists) > 1:
        there = f"rows under several keys: {name_list(lists)}"
        if all(key.lower() in PARTS for key in lists):
            advice = "write each to a file of its own, and name them as the data, data.valid and data.test"
        else:
            advice = "write those to be read to a file of their own"
        raise DataError(f"{path}: {there}; {advice}")
    if lists:
        ((key, rows),) = lists.items()
        return rows, () if key == "data" else (f"the rows are those under the key {key!r}",)
    columns = _columns(path, value)
    if columns is None:
        return [value], ()
    names, cells = list(columns), zip(*columns.values(), strict=True)
    return [dict(zip(names, row, strict=True)) for row in cells], ("each key is a column",)


def _lists(value: dict[str, Any], above: str = "", depth: int = DEPTH) -> dict[str, list[Any]]:
    """The lists of rows by their keys, those nearest to the top."""
    found = {f"{above}{key}": one for key, one in value.items() if isinstance(one, list) and _are_rows(one)}
    inner = [(key, one) for key, one in value.items() if isinstance(one, dict)] if not found and depth > 1 else []
    for key, one in inner:
        found |= _lists(one, f"{above}{key}.", depth - 1)
    return found


def _are_rows(items: list[Any]) -> bool:
    rows = [item for item in items if item is not None]
    return bool(rows) and all(
        isinstance(item, dict) or (isinstance(item, list) and len(item) == 2 and isinstance(item[1], dict))
        for item in rows
    )


def _columns(path: str, value: dict[str, Any]) -> dict[str, list[Any]] | None:
    """A table written column by column, as pandas and `datasets` write them."""
    names, data = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(data, list) and all(isinstance(name, str) for name in names):
        if all(isinstance(row, list) and len(row) == len(names) for row in data) and len(set(names)) == len(names):
            return {name: [row[at] for row in data] for at, name in enumerate(names)}
        return None
    if value and all(isinstance(one, dict) for one in value.values()):
        keys = [list(one) for one in value.values()]
        if keys[0] and all(one == keys[0] for one in keys) and all(key.isdecimal() for key in keys[0]):
            return {name: list(one.values()) for name, one in value.items()}
    if len(value) > 1 and all(isinstance(one, list) for one in value.values()):
        if len({len(one) for one in value.values()}) > 1:
            sizes = ", ".join(f"{name!r} with {counted(len(one), 'value')}" for name, one in value.items())
            raise DataError(f"{path}: columns of different lengths: {sizes}; give every row a value in each, or null")
        return value if all(value.values()) else None
    return None
