"""JSON whose numbers stay the text that stood in the file, and whose faults are errors instead of guesses."""

from __future__ import annotations

import json
from typing import Any

MAX_DEPTH = 100
MAX_VALUES = 10**7
"""Of a text, by its commas: each may take a hundred bytes of memory."""


class Number(str):
    """A JSON number, as it was written."""

    __slots__ = ()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set[str]()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice[:100]!r} stands twice in one object")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON; write null or a number")


_decoder = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=Number, parse_float=Number, parse_constant=_refuse, strict=True
)

_encode = json.JSONEncoder(ensure_ascii=False).encode


def parse(text: str) -> Any:
    """The value of a JSON text: dict, list, str, `Number`, bool or None.

    Raises:
        ValueError: what is wrong, and at which column where that is known.
    """
    if len(text) > MAX_VALUES and text.count(",") > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES:,} values")
    start = len(text) - len(text.lstrip(" \t\r\n"))
    value, end = parse_at(text, start)
    if text[end:].strip(" \t\r\n"):
        raise ValueError(f"column {end + 1}: more text after the end of the value")
    return value


def parse_at(text: str, start: int) -> tuple[Any, int]:
    """The value that begins at `start`, and the position after it.

    Raises:
        ValueError: as `parse`.
    """
    try:
        value, end = _decoder.raw_decode(text, start)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"{line}column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if text.count("[", start, end) + text.count("{", start, end) > MAX_DEPTH:
        _refuse_depth(value)
    return value, end


def _refuse_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        inside = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [one for values in inside for one in values if isinstance(one, dict | list)]
        if not level:
            return
    raise ValueError(f"nested more than {MAX_DEPTH} levels deep")


def as_text(value: Any) -> str | None:
    """The text of a cell: strings and numbers as they are, ``true``/``false``, None for null, else JSON."""
    if value is None or isinstance(value, str):
        return value
    return _dump(value)


def _dump(value: Any) -> str:
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_dump, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_dump(key)}: {_dump(item)}' for key, item in value.items())}}}"
    return _encode(value)
