"""JSON lines and JSON arrays of objects: numbers as written, nested values as JSON text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.config.schema import DataSettings
from tunesmith.data.files import Lines
from tunesmith.data.jsontext import parse, parse_at
from tunesmith.data.records import RawTable
from tunesmith.data.table import TableBuilder
from tunesmith.errors import DataError

WHOLE_LIMIT = 2**30  # characters; what is no list of lines is parsed from one string
SPACE = " \t\r\n"


def read(path: str, settings: DataSettings, format: str = "jsonl", notes: tuple[str, ...] = ()) -> RawTable:
    """A file with one JSON object a line. See `tunesmith.data.read`."""
    with Lines(Path(path), settings.encoding) as lines, TableBuilder(path, "line") as builder:
        for line in lines:
            if line.strip(SPACE):
                try:
                    _add(builder, lines.number, parse(line), len(line))
                except ValueError as error:
                    _add(builder, lines.number, error)
        return builder.finish(format, notes)


def read_array(path: str, settings: DataSettings) -> RawTable:
    """A JSON array of objects; a file that begins with an object is read as JSON lines, with a note.

    Where several objects begin on one line, rows have the positions of the objects.
    """
    with Lines(Path(path), settings.encoding) as lines:
        first = next((line.strip(SPACE) for line in lines if line.strip(SPACE)), "")
    if first.startswith("{"):
        return read(path, settings, "json", ("the file is not an array; it was read as JSON lines",))
    text = whole_text(path, settings, "a JSON array; write JSON lines (one object a line, .jsonl)")
    with TableBuilder(path, "line") as builder:
        for line, value, characters in _elements(path, text):
            _add(builder, line, value, characters)
        raw = builder.finish("json")
    on_one_line = len(np.unique(raw.rows)) < len(raw.rows)
    return replace(raw, rows=np.arange(1, len(raw.rows) + 1)) if on_one_line else raw


def whole_text(path: str, settings: DataSettings, what: str) -> str:
    """All of a file as one string.

    Args:
        what: it is, and what to write where it is too large for that.

    Raises:
        DataError: it is too large; see also `tunesmith.data.read`.
    """
    pieces = []
    with Lines(Path(path), settings.encoding) as lines:
        for line in lines:
            pieces.append(line)
            if lines.characters > WHOLE_LIMIT:
                raise DataError(f"{path}: too large for {what}")
    return "".join(pieces)


def _elements(path: str, text: str) -> Iterator[tuple[int, Any, int]]:
    """Line, value and size in characters of each element of an array.

    After a fault, which is given as the value, nothing that follows can be placed, so it ends there.
    """

    def skip(position: int) -> int:
        while position < len(text) and text[position] in SPACE:
            position += 1
        return position

    position = skip(0)
    if text[position : position + 1] != "[":
        found = ", found another value" if text.strip() else ""
        raise DataError(f"{path}: no rows; expected a JSON array of objects{found}")
    position, line, counted = skip(position + 1), 1, 0
    while text[position : position + 1] != "]":
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, end = parse_at(text, position)
        except ValueError as error:
            yield line, ValueError(f"{error} (in the element that begins here)"), 0
            return
        yield line, value, end - position
        position = skip(end)
        if text[position : position + 1] == ",":
            position = skip(position + 1)
        elif text[position : position + 1] != "]":
            yield line, ValueError("expected ',' or ']' after this element"), 0
            return


def _add(builder: TableBuilder, line: int, value: Any, characters: int = 0) -> None:
    if isinstance(value, dict):
        builder.append(line, value, characters)
        return
    if not isinstance(value, ValueError):
        value = f'expected an object such as {{"text": …}}, found {type(value).__name__}'
    builder.fault(line, f"not a valid row: {value}; write one complete object per example")
