"""JSON lines and JSON arrays of objects: numbers as written, nested values as JSON text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.config.schema import DataSettings
from tunesmith.data.files import Lines
from tunesmith.data.jsontext import parse, parse_at
from tunesmith.data.readers.nested import one_row, rows_inside
from tunesmith.data.readers.squad import FORM, holds_questions, questions
from tunesmith.data.records import RawTable
from tunesmith.data.table import TableBuilder
from tunesmith.errors import DataError
from tunesmith.text import counted

ROW_LIMIT = 12 * 2**20  # characters; a value of the largest size that is read, and more
WHOLE_LIMIT = 2**28  # characters; what has its rows inside of an object is parsed from one string
SPACE = " \t\r\n"
_SPACES = re.compile(f"[{SPACE}]*+")


def read(path: str, settings: DataSettings, format: str = "jsonl", notes: tuple[str, ...] = ()) -> RawTable:
    """A file with one JSON object a line. See `tunesmith.data.read`."""
    with Lines(Path(path), settings, ROW_LIMIT) as lines:
        return of_lines(path, ((lines.number, line) for line in lines), format, notes)


def of_lines(
    path: str, lines: Iterable[tuple[int, str]], format: str = "jsonl", notes: tuple[str, ...] = ()
) -> RawTable:
    """The same of numbered lines."""
    with _Rows(path) as rows:
        for number, line in lines:
            if line.strip(SPACE):
                try:
                    rows.take(number, parse(line), len(line))
                except ValueError as error:
                    rows.take(number, error)
        return rows.finished(format, notes)


def read_array(path: str, settings: DataSettings) -> RawTable:
    """A JSON array of objects, or an object that has the rows under a key; JSON lines are read as such, with a note.

    Where several objects begin on one line, rows have the positions of the objects.

    Raises:
        DataError: the file is neither; several keys have rows; see also `tunesmith.data.read`.
    """
    with Lines(Path(path), settings) as lines:
        window = _Window(lines)
        if window.next() != "{":
            with _Rows(path) as rows:
                for line, value, characters in _elements(path, window):
                    rows.take(line, value, characters)
                return rows.finished("json")
        first, _, rest = window.text[window.at :].partition("\n")
        if rest.strip(SPACE) and _is_json(first):
            return read(path, settings, "json", ("the file is not an array; it was read as JSON lines",))
    with _Rows(path, "row") as rows:
        try:
            whole = parse(
                whole_text(path, settings, "one object of JSON; write JSON lines (one object a line, .jsonl)")
            )
        except ValueError as error:
            raise DataError(f"{path}: not valid JSON: {error}; write the file again") from None
        inside, notes = ([whole], ()) if one_row(whole) else rows_inside(path, whole)
        for number, value in enumerate(inside, 1):
            rows.take(number, value)
        return rows.finished("json", notes)


def read_squad(path: str, settings: DataSettings) -> RawTable:
    """SQuAD: one row a question in their order, with ``id``, ``title`` (of an article), ``context``, ``question`` and
    ``answers`` (JSON; null where the file has none, as for questions that are still to be answered).

    Raises:
        DataError: the file is not JSON, or not of this form; with the place.
    """
    raw = read_array(path, settings)
    if not {"question", "context"} <= set(raw.table.column_names):
        raise DataError(f"{path}: not of SQuAD's form; {FORM}")
    return raw


def _is_json(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def whole_text(path: str, settings: DataSettings, what: str) -> str:
    """All of a file as one string.

    Args:
        what: it is, and what to write where it is too large for that.

    Raises:
        DataError: it is too large; see also `tunesmith.data.read`.
    """
    pieces = []
    with Lines(Path(path), settings, WHOLE_LIMIT) as lines:
        for line in lines:
            pieces.append(line)
            if lines.characters > WHOLE_LIMIT:
                raise DataError(f"{path}: too large for {what}")
    return "".join(pieces)


class _Window:
    """A part of the text of a file, that moves on.

    Attributes:
        text, at: what was read, and the position in it from which on it was not passed yet.
        line: of that position.
    """

    def __init__(self, lines: Lines) -> None:
        self.text, self.at, self.line = "", 0, 1
        self._lines, self._over = lines, False

    def grow(self) -> bool:
        """Read on, up to `ROW_LIMIT` characters from the position; whether anything came."""
        self.text, self.at = self.text[self.at :], 0
        room = ROW_LIMIT - len(self.text)
        more = "" if self._over or not room else self._lines.text(room)
        self._over = self._over or len(more) < room
        self.text += more
        return bool(more)

    def next(self) -> str:
        """The next character that is no space, to which it moves; empty at the end."""
        while True:
            self.move(_SPACES.match(self.text, self.at).end())  # type: ignore[union-attr]
            if self.at < len(self.text) or not self.grow():
                return self.text[self.at : self.at + 1]

    def move(self, at: int) -> None:
        self.line += self.text.count("\n", self.at, at)
        self.at = at

    def value(self) -> tuple[Any, int]:
        """The JSON value that begins here, and the position after it.

        Raises:
            ValueError: there is none.
        """
        try:
            value, end = parse_at(self.text, self.at)
        except ValueError:
            if not self.grow():
                if len(self.text) == ROW_LIMIT:
                    raise ValueError(f"more than {ROW_LIMIT:,} characters") from None
                raise
            return self.value()
        return self.value() if end == len(self.text) and self.grow() else (value, end)  # a number may go on


def _elements(path: str, window: _Window) -> Iterator[tuple[int, Any, int]]:
    """Line, value and size in characters of each element of an array.

    After a fault, which is given as the value, nothing that follows can be placed, so it ends there.

    Raises:
        DataError: there is no array, or something after it.
    """
    found = window.next()
    if found != "[":
        what = ", found another value" if found else ""
        raise DataError(f"{path}: no rows; expected a JSON array of objects{what}")
    window.move(window.at + 1)
    while window.next() != "]":
        line = window.line
        try:
            value, end = window.value()
        except ValueError as error:
            yield line, ValueError(f"{error} (in the element that begins here)"), 0
            return
        yield line, value, end - window.at
        window.move(end)
        found = window.next()
        if found == ",":
            window.move(window.at + 1)
        elif found != "]":
            yield line, ValueError("expected ',' or ']' after this element"), 0
            return
    window.move(window.at + 1)
    if window.next():
        what = f"more text after the end of the array: {window.text[window.at : window.at + 40]!r}"
        advice = "write one array, or JSON lines (one object a line, .jsonl)"
        raise DataError(f"{path}: line {window.line}: {what}; {advice}")


class _Rows:
    """A table in the making, of JSON values: objects, articles of SQuAD, and pairs of a text and its annotations."""

    def __init__(self, path: str, unit: str = "line") -> None:
        self._builder = TableBuilder(path, unit)
        self._articles = self._pairs = self._empty = 0

    def __enter__(self) -> _Rows:
        self._builder.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._builder.__exit__()

    def take(self, line: int, value: Any, characters: int = 0) -> None:
        """Adds the rows of a value that begins on a line, or keeps what is wrong with it."""
        if isinstance(value, dict) and holds_questions(value):
            try:
                for row in questions(value, self._articles):
                    self._builder.append(line, row, characters)
            except ValueError as error:
                value = error
            else:
                self._articles += 1
                return
        if isinstance(value, dict):
            self._builder.append(line, value, characters)
        elif isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], dict):
            self._pairs += 1
            self._builder.append(line, {"text": value[0]} | value[1], characters)
        elif value is None:
            self._empty += 1
        else:
            if not isinstance(value, ValueError):
                kind = {bool: "true or false", list: "a list", str: "a text"}.get(type(value), "a number")
                value = f'expected an object such as {{"text": …}}, found {kind}'
            self._builder.fault(line, f"not a valid row: {value}; write one complete object per example")

    def finished(self, format: str, notes: tuple[str, ...] = ()) -> RawTable:
        """The table; rows that begin on one line are numbered by their position instead."""
        if self._pairs:
            notes = *notes, "each row is a text and its annotations, as spaCy has them"
        if self._empty:
            notes = *notes, f"{counted(self._empty, 'element')} that are null left out"
        raw = self._builder.finish(format, notes)
        on_lines_of_their_own = np.diff(raw.rows).all()
        return raw if on_lines_of_their_own else replace(raw, rows=np.arange(1, len(raw.rows) + 1))
