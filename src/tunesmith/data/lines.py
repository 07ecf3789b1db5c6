"""Standard input or a text file, some lines at a time: a text, or a JSON object with columns of its own, a line."""

from __future__ import annotations

import codecs
import io
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain, count, islice
from typing import TypeVar

from tunesmith.config.schema import DataSettings
from tunesmith.data.files import codec_name, local_path
from tunesmith.data.idle import LINES, refuse_idle
from tunesmith.data.layout import Layout, to_records
from tunesmith.data.layout.exports import plain_table
from tunesmith.data.readers.jsonlines import ROW_LIMIT, of_lines
from tunesmith.data.reading import INPUT_NAME, STANDARD_INPUT, NewData, layout_of_new, needs_pairs, settings_of_new
from tunesmith.data.records import RawTable, text_records
from tunesmith.data.table import BATCH_CHARACTERS, NoRows
from tunesmith.errors import DataError
from tunesmith.text import name_list

Line = TypeVar("Line", str, bytes)
SEPARATORS = re.compile("[,;|\t]")


class LineReader:
    """Lines that are read once, in the order of the input; the first one that is not blank says what all of them are.

    Objects are read as a file of JSON lines is. Their columns are found in the first ones, which also decide whether
    they have identifiers; later ones that are not alike are refused.

    Args:
        source: standard input (``-``) or a file.
        layout: of the training file.
        trained, given: as of `tunesmith.data.reading.read_new`.

    Attributes:
        name: of the source, for messages.
        objects: whether its lines are JSON objects.

    Raises:
        DataError: the lines are texts, and the model needs pairs of them.
        UsageError: a setting has no effect on such lines.
    """

    def __init__(self, source: str, layout: Layout, trained: DataSettings, given: DataSettings) -> None:
        self.name = INPUT_NAME if source == STANDARD_INPUT else source
        self._settings, self._layout = settings_of_new(trained, given), layout
        lines, first = enumerate(self._decoded(source, codec_name(given.encoding)), 1), list[tuple[int, str]]()
        while not first or not first[-1][1].strip():
            if (line := next(lines, None)) is None:
                break
            first.append(line)
        self._lines, said = chain(first, lines), first[-1][1] if first else ""
        self.objects = said.lstrip().startswith("{")
        refuse_idle(given, {"jsonl" if self.objects else LINES}, layout.shape, need_label=False)
        if said and not self.objects and layout.text_pair:
            form = f'{{"{layout.text}": "…", "{layout.text_pair}": "…"}}'
            raise DataError(f"{self.name}: {needs_pairs(layout)}, found lines of text; give JSON lines such as {form}")
        self._told = frozenset[str]()
        self._notes = () if self.objects else self._about_header(said)

    def chunks(self, size: int) -> Iterator[NewData]:
        """The rows of `size` lines at a time, of fewer where they are long.

        Raises:
            DataError: a line is not of the form of the first one, or cannot be decoded; it is named.
        """
        found = None
        while lines := self._next(size):
            if not self.objects:
                yield self._of_texts(lines)
                continue
            try:
                raw = self._table(lines)
            except NoRows:
                continue
            later = found is not None
            found = found or layout_of_new(raw, self._layout, self._settings, need_label=False)
            try:
                records = to_records(raw, found, self._settings)
            except DataError as error:
                advice = "lines before have other columns, or values; data.format=jsonl reads all before it answers"
                raise DataError([*error.problems, f"{self.name}: {advice}"] if later else error.problems) from None
            told, self._told = self._told, self._told.union(records.notes)
            notes = tuple(note for note in records.notes if note not in told)
            yield NewData(replace(records, notes=notes), raw.table, found)

    def _next(self, size: int) -> list[tuple[int, str]]:
        lines, characters = list[tuple[int, str]](), 0
        for number, line in islice(self._lines, size):
            lines.append((number, line))
            characters += len(line)
            if characters > BATCH_CHARACTERS:
                break
        return lines

    def whole(self) -> NewData:
        """All rows of objects together; see `tunesmith.data.reading.read_new`."""
        raw = self._table(self._lines)
        found = layout_of_new(raw, self._layout, self._settings, need_label=False)
        return NewData(to_records(raw, found, self._settings), raw.table, found)

    def _table(self, lines: Iterator[tuple[int, str]] | list[tuple[int, str]]) -> RawTable:
        return plain_table(of_lines(self.name, lines), self._settings)

    def _of_texts(self, lines: list[tuple[int, str]]) -> NewData:
        for number, line in lines:
            if line.startswith("{"):
                what = "begins as a JSON object does, the first line is a text"
                raise DataError(f"{self.name}, line {number}: {what}; give objects alone, or texts alone")
        texts = text_records([line for _, line in lines], self.name, lines[0][0])
        notes, self._notes = self._notes, ()
        return NewData(replace(texts, notes=notes), texts.table.select(["text"]), self._layout)

    def _about_header(self, line: str) -> tuple[str, ...]:
        """A note, where the first line of text looks like the header of a table."""
        cells = [cell.strip(" \"'\r\n") for cell in SEPARATORS.split(line)]
        if self._layout.text not in cells or not all(map(str.isidentifier, cells)):
            return ()
        format = "tsv" if "\t" in line else "csv"
        what = f"every line is read as a text, the first one, {name_list(cells)}, too"
        return (f"{what}; if it is the header of a table, give data.format={format}",)

    def _decoded(self, source: str, codec: str) -> Iterator[str]:
        """The lines without their ends."""
        with nullcontext(sys.stdin.buffer) if source == STANDARD_INPUT else local_path(source).open("rb") as stream:
            if codec.startswith(("utf-16", "utf-32")):
                number = 1
                try:
                    for at, line in self._bounded(io.TextIOWrapper(stream, codec, newline="\n").readline):
                        yield line.rstrip("\r\n")
                        number = at + 1
                except UnicodeError:
                    raise self._not_text(number, codec) from None
                return
            for number, data in self._bounded(stream.readline):
                try:
                    text = (data.removeprefix(codecs.BOM_UTF8) if number == 1 else data).decode(codec)
                except UnicodeError:
                    raise self._not_text(number, codec) from None
                yield text.rstrip("\r\n")

    def _bounded(self, read_line: Callable[[int], Line]) -> Iterator[tuple[int, Line]]:
        """Numbered lines, none of which is longer than a row may be."""
        for number in count(1):
            line = read_line(ROW_LIMIT)
            if len(line) == ROW_LIMIT:
                what = f"more than {ROW_LIMIT:,} characters in one line"
                raise DataError(f"{self.name}, line {number}: {what}; is it a text file?")
            if not line:
                return
            yield number, line

    def _not_text(self, number: int, codec: str) -> DataError:
        wrong = f"not {'UTF-8' if codec == 'utf-8-sig' else codec}"
        return DataError(f"{self.name}, line {number}: {wrong}; say what it is, as in data.encoding=cp1252")
