"""JSON lines and JSON arrays of objects: numbers as written, nested values as JSON text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.config.schema import DataSettings
from tunesmith.data.files import Lines, codec_name, explained
from tunesmith.data.jsontext import parse, parse_at
from tunesmith.data.records import RawTable
from tunesmith.data.table import TableBuilder
from tunesmith.errors import DataError

ARRAY_LIMIT = 2**30  # characters; an array is parsed from one string
SPACE = " \t\r\n"


def read(path: str, settings: DataSettings) -> RawTable:
    """A file with one JSON object a line. See `tunesmith.data.read`."""
    return _read_lines(path, settings, "jsonl", ())


def read_array(path: str, settings: DataSettings) -> RawTable:
    """A JSON array of objects; a file that begins with an object is read as JSON lines, with a note.

    Where several objects begin on one line, rows have the positions of the objects.
    """
    codec = codec_name(settings.encoding)
    with Lines(Path(path), settings.encoding) as lines, explained(Path(path), codec):
        first = next((line.strip(SPACE) for line in lines if line.strip(SPACE)), "")
    if first.startswith("{"):
        return _read_lines(path, settings, "json", ("the file is not an array; it was read as JSON lines",))
    with Lines(Path(path), settings.encoding) as lines, TableBuilder(path, "line") as builder:
        pieces = []
        for line in lines:
            pieces.append(line)
            if lines.characters > ARRAY_LIMIT:
                raise DataError(f"{path}: too large for a JSON array; write JSON lines (one object a line, .jsonl)")
        _collect(_elements(path, "".join(pieces)), builder)
        raw = builder.finish("json")
    on_one_line = len(np.unique(raw.rows)) < len(raw.rows)
    return replace(raw, rows=np.arange(1, len(raw.rows) + 1)) if on_one_line else raw


def _read_lines(path: str, settings: DataSettings, format: str, notes: tuple[str, ...]) -> RawTable:
    with Lines(Path(path), settings.encoding) as lines, TableBuilder(path, "line") as builder:
        _collect(_objects(lines), builder)
        return builder.finish(format, notes)


Item = tuple[int, int, Any, str | None]  # line, size in characters, value, what is wrong with it


def _objects(lines: Lines) -> Iterator[Item]:
    for line in lines:
        if line.strip(SPACE):
            try:
                yield lines.number, len(line), parse(line), None
            except ValueError as error:
                yield lines.number, 0, None, f"{error}"


def _elements(path: str, text: str) -> Iterator[Item]:
    """The elements of an array; after a fault nothing that follows can be placed, so it ends there."""
    position = _skip(text, 0)
    if text[position : position + 1] != "[":
        found = ", found another value" if text.strip() else ""
        raise DataError(f"{path}: no rows; expected a JSON array of objects{found}")
    position, line, counted = _skip(text, position + 1), 1, 0
    while text[position : position + 1] != "]":
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, end = parse_at(text, position)
        except ValueError as error:
            yield line, 0, None, f"{error} (in the element that begins here)"
            return
        yield line, end - position, value, None
        position = _skip(text, end)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
        elif text[position : position + 1] != "]":
            yield line, 0, None, "expected ',' or ']' after this element"
            return


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in SPACE:
        position += 1
    return position


def _collect(items: Iterator[Item], builder: TableBuilder) -> None:
    for line, characters, value, fault in items:
        if fault is None and not isinstance(value, dict):
            fault = f'expected an object such as {{"text": …}}, found {type(value).__name__}'
        if fault is None:
            builder.append(line, value, characters)
        else:
            builder.fault(line, f"not a valid row: {fault}; write one complete object per example")
