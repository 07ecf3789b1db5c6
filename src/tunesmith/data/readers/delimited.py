"""CSV and TSV, strictly: a header, the same number of values in each row, and every value as it stands."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from tunesmith.config.schema import DataSettings, Quoting
from tunesmith.data.expansion import Expanding
from tunesmith.data.files import LINE_LIMIT, SAMPLE_BYTES, Lines
from tunesmith.data.records import Dialect, RawTable
from tunesmith.data.table import FIELD_LIMIT, NoRows, TableBuilder, column_names, without_unused
from tunesmith.errors import DataError, UsageError
from tunesmith.text import counted, name_list, row_list

DELIMITER_NAMES = {"tab": "\t", "\\t": "\t"}
LIKELY_DELIMITERS = ";\t|,"
SAMPLE_LINES = 50
DOUBLED = re.compile(r'"[^"]*(?:""[^"]*)+"')  # quotes inside a value that quotes enclose
SAID = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # a first line, as Excel writes and reads it


def read(path: str, settings: DataSettings) -> RawTable:
    """A CSV file. See `tunesmith.data.read`."""
    return _read(path, settings, "csv", ",")


def read_tabs(path: str, settings: DataSettings) -> RawTable:
    """A file with tabs between the values; quotes work as in CSV. See `tunesmith.data.read`."""
    return _read(path, settings, "tsv", "\t")


def _read(path: str, settings: DataSettings, format: str, usual: str) -> RawTable:
    """Where no setting says whether quotes enclose values or are text, the file decides: see `_decided`."""
    csv.field_size_limit(LINE_LIMIT)  # columns with a value beyond `FIELD_LIMIT` matter where they are needed
    given = settings.delimiter
    if given is not None:
        given = DELIMITER_NAMES.get(given, given)
        if len(given) != 1 or given in '"\r\n':
            raise UsageError(f"data.delimiter: expected one character (or tab), found {given!r}")
    source = _Source(path, settings, format, given or usual, settings.quoting != "off")
    if given is None and (found := source.likely_delimiter()) != usual:
        shown = "tab" if found == "\t" else repr(found)
        source = replace(source, delimiter=found, notes=(f"the values are separated by {shown}",))
    table, quoting = _decided(source) if settings.quoting is None else (source.table(), settings.quoting)
    return replace(table, dialect=Dialect(format, given, quoting) if given or quoting else None)


def _decided(source: _Source) -> tuple[RawTable, Quoting | None]:
    """The table with quotes that enclose values; or that are text, where a TSV file can only be read so.

    Raises:
        DataError: the file can be read in both ways, and lines would be merged in one of them; or in neither.
    """
    problem: DataError | None = None
    try:
        table = source.table()
        if not source.merged:
            return table, None
    except (NoRows, Expanding):
        raise
    except DataError as error:
        problem = error
    unquoted = source.if_quotes_are_text()
    if unquoted is None:
        if problem is not None:
            raise problem
        if source.delimiter != ",":
            what = "a value holds line ends and separators; look whether it is one"
            table = replace(table, notes=(*table.notes, f"{row_list(source.merged)}: {what}"))
        return table, None
    if problem is None:
        two = f"{counted(len(table.rows), 'row')} where quotes enclose values, {unquoted.rows:,} where they are text"
        what = f"line {source.merged[0]}: a value in quotes holds line ends and separators; the file has {two}"
        raise DataError(f"{source.path}: {what}: give data.quoting=on or data.quoting=off")
    if source.format != "tsv" or unquoted.doubled:
        fits = "where quotes are text, each line has a value for each column"
        raise DataError([*problem.problems, f"{source.path}: {fits}; if they are, give data.quoting=off"])
    what = "quotes are read as text, since they cannot enclose values; data.quoting=on says where"
    return replace(source, quotes=False, notes=(*source.notes, what)).table(), "off"


class _Unquoted(NamedTuple):
    """A file in which quotes are text: its rows, and whether it has values that are quoted as CSV has it."""

    rows: int
    doubled: bool


@dataclass(frozen=True)
class _Source:
    """A delimited file.

    Attributes:
        quotes: whether they enclose values; else they are text.
        notes: what the user should know.
        merged: lines of the rows with a value in which there are line ends and separators; known after `table`.
    """

    path: str
    settings: DataSettings
    format: str
    delimiter: str
    quotes: bool
    notes: tuple[str, ...] = ()
    merged: list[int] = field(default_factory=list)

    def table(self) -> RawTable:
        notes, cut, blank, again = list(self.notes), list[int](), list[int](), list[int]()
        with Lines(Path(self.path), self.settings) as lines:
            rows = self._rows(lines)
            first = next(((line, row) for line, row in rows if row), None)
            several = first is not None and lines.number > first[0]
            header, unnamed = self._header(first, notes)
            with TableBuilder(self.path, "line", header) as builder:
                before, waiting = lines.characters, list[int]()
                for line, row in rows:
                    if not row:
                        waiting.append(line)
                        continue
                    several = several or lines.number > line
                    blank += waiting
                    waiting.clear()
                    if len(row) > len(header) and not any(row[len(header) :]):
                        cut.append(line)
                        row = row[: len(header)]
                    if row == header and len(row) > 1:
                        again.append(line)
                    elif len(row) == len(header):
                        builder.append(line, row, lines.characters - before)
                        before = lines.characters
                    else:
                        builder.fault(line, self._what_is_wrong(row, header))
                if again:
                    notes.append(f"{row_list(again)}: the header stands there again and was left out")
                if cut:
                    notes.append(f"{row_list(cut)}: separators after the last value were left out")
                if blank and len(header) == 1:
                    notes.append(f"{row_list(blank)}: lines without any character are no rows and were left out")
                return replace(without_unused(builder.finish(self.format, notes), unnamed), several_lines=several)

    def if_quotes_are_text(self) -> _Unquoted | None:
        """What there is then; None without quotes, where the header has some, or a row too few or too many values."""
        source, width, rows, quoted, doubled = replace(self, quotes=False), 0, 0, False, False
        with Lines(Path(self.path), self.settings) as lines:
            for _, row in source._rows(lines):
                width = width or len(row)
                if row and (len(row) < width or any(row[width:]) or (not rows and any('"' in name for name in row))):
                    return None
                rows += bool(row)
                with_quotes = [value for value in row if '"' in value]
                quoted, doubled = quoted or bool(with_quotes), doubled or any(map(DOUBLED.fullmatch, with_quotes))
        return _Unquoted(rows - 1, doubled) if quoted else None

    def likely_delimiter(self) -> str:
        """The one that Excel's first line names, or by which each of the first rows has the values of the header."""
        with Lines(Path(self.path), self.settings) as lines:
            head = list[str]()
            for line in lines:
                head.append(line)
                if len(head) > SAMPLE_LINES or lines.characters > SAMPLE_BYTES:
                    head.pop()  # what may be the beginning of a row that goes on
                    break
        if head and (said := SAID.fullmatch(head[0])):
            return str(said[1])
        for delimiter in self.delimiter + LIKELY_DELIMITERS:
            rows = [row for row in csv.reader(head, delimiter=delimiter) if row]
            width = len(rows[0]) if rows else 0
            if width > 1 and all(len(row) >= width and not any(row[width:]) for row in rows[1:-1] or rows[1:]):
                return delimiter
        return self.delimiter

    def _rows(self, lines: Lines) -> Iterator[tuple[int, list[str]]]:
        """Each row with the line on which it begins; of a line without any character nothing."""
        first = [line for line in (next(lines, ""),) if not SAID.fullmatch(line)]
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE
        reader = csv.reader(chain(first, lines), delimiter=self.delimiter, quoting=quoting, strict=True)
        start = lines.number + 1 - len(first)
        try:
            for row in reader:
                if lines.number > start and any(self.delimiter in value and set("\r\n") & set(value) for value in row):
                    self.merged.append(start)
                yield start, row
                start = lines.number + 1
        except csv.Error as error:
            opened = self._open_quote(start)
            if opened is None:
                raise DataError(f"{self.path}: line {start}: not valid CSV ({error})") from None
            raise DataError(
                f"{self.path}: line {opened}: the quote that opens here is not closed properly (noticed on line "
                f'{lines.number}: {error}); close it, and write a quote inside quoted text twice ("")'
            ) from None

    def _open_quote(self, start: int) -> int | None:
        """The line of the last quote that opens a value in the row that begins on line `start`.

        Follows the states of a CSV parser: a quote opens only at the beginning of a value; inside, a doubled quote is
        text.
        """
        opened, state, seen = None, "start", 0
        with Lines(Path(self.path), self.settings) as lines:
            for line in lines:
                if lines.number < start:
                    continue
                for character in line:
                    if character == '"' and state in ("start", "quoted", "closed"):
                        opened = lines.number if state == "start" else opened
                        state = "closed" if state == "quoted" else "quoted"
                    elif state == "closed" and character not in self.delimiter + "\r\n":
                        return opened
                    elif state != "quoted":
                        state = "start" if character == self.delimiter else "plain"
                seen += len(line)
                if state != "quoted" or seen > 2 * FIELD_LIMIT:
                    break
        return opened

    def _header(self, first: tuple[int, list[str]] | None, notes: list[str]) -> tuple[list[str], list[str]]:
        if first is None:
            raise NoRows(f"{self.path}: no rows; expected a header with column names and at least one example")
        line, found = first
        likely = next((other for other in LIKELY_DELIMITERS if other != self.delimiter and other in found[0]), None)
        if len(found) == 1 and likely:
            shown = "tab" if likely == "\t" else likely
            raise DataError(
                f"{self.path}: line {line}: one column {found[0].strip()[:80]!r}; the separator looks like {likely!r}: "
                f"give data.delimiter='{shown}'"
            )
        return column_names(self.path, f"line {line}", found, notes)

    def _what_is_wrong(self, row: list[str], header: list[str]) -> str:
        found = f"{counted(len(row), 'value')} for {counted(len(header), 'column')}"
        if len(row) < len(header):
            missing = name_list(header[len(row) :])
            return f"{found}; {missing} missing (an empty value still needs its separator)"
        advice = "put quotes around a value that contains the separator"
        if not self.quotes:
            advice += ", and do not give data.quoting=off"
        return f"{found}, too many from {row[len(header)][:40]!r}; {advice}"
