"""CSV and TSV, strictly: a header, the same number of values in each row, and every value as it stands."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tunesmith.config.schema import DataSettings
from tunesmith.data.files import Lines
from tunesmith.data.records import RawTable
from tunesmith.data.table import FIELD_LIMIT, TableBuilder, column_names, without_unused
from tunesmith.errors import DataError, UsageError
from tunesmith.text import counted, name_list

DELIMITER_NAMES = {"tab": "\t", "\\t": "\t"}
LIKELY_DELIMITERS = ";\t|,"


def read(path: str, settings: DataSettings) -> RawTable:
    """A CSV file. See `tunesmith.data.read`."""
    return _read(path, settings, "csv", ",")


def read_tabs(path: str, settings: DataSettings) -> RawTable:
    """A file with tabs between the values; quotes work as in CSV. See `tunesmith.data.read`."""
    return _read(path, settings, "tsv", "\t")


def _read(path: str, settings: DataSettings, format: str, delimiter: str) -> RawTable:
    if settings.delimiter is not None:
        delimiter = DELIMITER_NAMES.get(settings.delimiter, settings.delimiter)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise UsageError(f"data.delimiter: expected one character (or tab), found {delimiter!r}")
    csv.field_size_limit(FIELD_LIMIT)
    notes: list[str] = []
    with Lines(Path(path), settings.encoding) as lines:
        rows = _rows(path, lines, delimiter, settings)
        header, unnamed = _header(path, next(rows, None), delimiter, notes)
        with TableBuilder(path, "line", header) as builder:
            before = lines.characters
            for line, row in rows:
                if len(row) == len(header):
                    builder.append(line, row, lines.characters - before)
                    before = lines.characters
                    continue
                found = f"{counted(len(row), 'value')} for {counted(len(header), 'column')}"
                if len(row) < len(header):
                    missing = name_list(header[len(row) :])
                    builder.fault(line, f"{found}; {missing} missing (an empty value still needs its separator)")
                else:
                    advice = "put quotes around a value that contains the separator"
                    builder.fault(line, f"{found}, too many from {row[len(header)][:40]!r}; {advice}")
            return without_unused(builder.finish(format, notes), unnamed)


def _rows(path: str, lines: Lines, delimiter: str, settings: DataSettings) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line on which it begins; lines without any character are no rows."""
    quoting: Literal[0, 3] = csv.QUOTE_NONE if settings.quoting == "off" else csv.QUOTE_MINIMAL
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    start = 1
    try:
        for row in reader:
            if row:
                yield start, row
            start = reader.line_num + 1
    except csv.Error as error:
        opened = _open_quote(path, settings.encoding, delimiter, start)
        if opened is None:
            raise DataError(f"{path}: line {start}: not valid CSV ({error})") from None
        raise DataError(
            f"{path}: line {opened}: the quote that opens here is not closed properly (noticed on line "
            f'{reader.line_num}: {error}); close it, and write a quote inside quoted text twice ("")'
        ) from None


def _open_quote(path: str, encoding: str, delimiter: str, start: int) -> int | None:
    """The line of the last quote that opens a value in the row that begins on line `start`.

    Follows the states of a CSV parser: a quote opens only at the beginning of a value; inside, a doubled quote is text.
    """
    opened, state, seen = None, "start", 0
    with Lines(Path(path), encoding) as lines:
        for line in lines:
            if lines.number < start:
                continue
            for character in line:
                if character == '"' and state in ("start", "quoted", "closed"):
                    opened = lines.number if state == "start" else opened
                    state = "closed" if state == "quoted" else "quoted"
                elif state == "closed" and character not in delimiter + "\r\n":
                    return opened
                elif state != "quoted":
                    state = "start" if character == delimiter else "plain"
            seen += len(line)
            if state != "quoted" or seen > 2 * FIELD_LIMIT:
                break
    return opened


def _header(
    path: str, first: tuple[int, list[str]] | None, delimiter: str, notes: list[str]
) -> tuple[list[str], list[str]]:
    if first is None:
        raise DataError(f"{path}: no rows; expected a header with column names and at least one example")
    line, found = first
    header = [name.strip() for name in found]
    likely = next((other for other in LIKELY_DELIMITERS if other != delimiter and other in header[0]), None)
    if len(header) == 1 and likely:
        shown = "tab" if likely == "\t" else likely
        raise DataError(
            f"{path}: line {line}: one column {header[0][:80]!r}; the separator looks like {likely!r}: "
            f"give data.delimiter='{shown}'"
        )
    return column_names(path, f"line {line}", found, notes)
