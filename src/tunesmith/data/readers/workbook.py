"""Workbooks of Excel and OpenDocument: the table of one sheet, every value as the sheet shows it."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

from python_calamine import (
    CalamineError,
    CalamineSheet,
    CalamineWorkbook,
    PasswordError,
    SheetTypeEnum,
    SheetVisibleEnum,
    load_workbook,
)

from tunesmith.config.schema import DataSettings
from tunesmith.data.expansion import Budget
from tunesmith.data.files import CHUNK_BYTES, SAMPLE_BYTES, contents_name
from tunesmith.data.readers.memory import cell_text
from tunesmith.data.records import RawTable
from tunesmith.data.table import NoRows, TableBuilder, column_names, without_unused
from tunesmith.data.workbook import MAX_ROWS
from tunesmith.errors import DataError
from tunesmith.text import counted, name_list, row_list

MAX_CELLS = 2**25  # a sheet is laid out in memory from its first to its last cell, 32 bytes for each
TAIL_BYTES = 64  # more than the beginning of a cell has, which two chunks may share
HEADER_ROWS = 50  # within which the header stands
# These look at each tag once, however it goes on.
ADDRESS = re.compile(rb'<(?:\w+:)?c\b[^<>]*?\br="([A-Z]{1,3})(\d{1,7})"([^<>]* t="e")?')
NOT_COMPUTED = re.compile(rb"</f>\s*(?:<v\s*/>|<v></v>|</c>)")
HIDDEN = re.compile(rb'<(?:\w+:)?row\b(?=[^<>]*\bhidden="(?:1|true)")[^<>]*?\br="(\d{1,7})"')
EXACT = 2**53  # from here on not every whole number has a floating-point number of its own
TRIAL_BYTES, TRIAL_RATIO = (
    5 * 2**28,
    32,
)  # memory that a workbook may take to be opened: so much, and so many times its size
TRIAL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
from python_calamine import load_workbook
with open(sys.argv[1], "rb") as stream:
    workbook = load_workbook(stream)
    for name in workbook.sheet_names:
        workbook.get_sheet_by_name(name)
"""


def read(path: str, settings: DataSettings) -> RawTable:
    """The table of one sheet, by its numbers of rows.

    The header is the first row that names the columns of the settings, or else the first with more than one value, if
    any has; rows above it are left out, with a note. Rows and columns without any value are left out. A value of cells
    that are merged down a column stands in each of their rows.

    Raises:
        DataError: several sheets hold something and no setting says which; there is no such sheet; the workbook is
            damaged, needs a password, or expands beyond all measure.
    """
    notes = _examined(Path(path), settings)
    _try_in_another_process(Path(path))
    with _damage_explained(path), open(path, "rb") as stream:
        workbook = load_workbook(stream)  # by its content, not by its ending
        sheet, header = _chosen(path, workbook, settings, notes)
        if header.above:
            place = "row 1" if header.row == 2 else f"rows 1 to {header.row - 1}"
            notes.append(f"the header is row {header.row}; above it, {place} left out: {name_list(header.above)}")
        place = f"sheet {sheet.name!r}, row {header.row}"
        names, unnamed = column_names(path, place, header.cells, notes)
        merged = _merged(path, sheet, header.row)
        if merged:
            notes.append("the value of cells that are merged down a column stands in each of their rows")
        with TableBuilder(path, "row", names) as builder:
            for number, cells in _rows(sheet, merged):
                if number > header.row and any(cells):
                    builder.append(number, cells, sum(map(len, cells)))
            raw = builder.finish("workbook", notes)
    return without_unused(raw, unnamed)


def _examined(path: Path, settings: DataSettings) -> list[str]:
    """What the user should know of the parts of a workbook, after a look at whether it can be opened without harm.

    Raises:
        DataError: it is no workbook, its parts expand too much, or a cell lies so far away that no memory holds the
            sheet.
    """
    with path.open("rb") as stream:
        head = stream.read(SAMPLE_BYTES)
    if not head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        text = "a page of HTML; save it as CSV" if head.lstrip()[:1] == b"<" else "text; rename it, as in data.csv"
        raise DataError(f"{path}: not a workbook but {(contents_name(head) or text) if head else 'an empty file'}")
    if not head.startswith(b"PK"):
        return []
    budget, found = Budget(path, settings), _Contents()
    with _damage_explained(str(path)), zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            part.file_size = 2**62  # read to the end of what is there, not of what is said to be there
            rest = b""
            with archive.open(part) as stream:
                while data := stream.read(CHUNK_BYTES):
                    budget.spend(len(data))
                    if part.filename.startswith("xl/worksheets/"):
                        found.add(path, rest + data)
                        rest = data[-TAIL_BYTES:]
            found.last_row = found.last_column = 0
    return found.notes()


def _try_in_another_process(path: Path) -> None:
    """Opens all sheets where no harm is done: the library ends its process when there is no memory for a sheet, which a
    few bytes can ask for (a cell that lies far away, a text that thousands of cells share).

    Raises:
        DataError: the process ended so. Any other error is met again when the workbook is read.
    """
    most = TRIAL_BYTES + TRIAL_RATIO * path.stat().st_size
    command = [sys.executable, "-I", "-c", TRIAL, str(path.absolute()), str(most)]
    tried = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if tried.returncode < 0 or b"MemoryError" in tried.stderr:
        raise DataError(
            f"{path}: opening it takes more than {most >> 20:,} MB of memory, or ends the program that does; delete "
            "what stands beyond the table (Ctrl+End shows it), or save the sheet as CSV (UTF-8)"
        )


class _Contents:
    """What the XML of the sheets of an Excel workbook tells, and the library that reads it does not."""

    def __init__(self) -> None:
        self.last_row = self.last_column = 0
        self._errors = dict[str, None]()
        self._hidden = dict[int, None]()
        self._not_computed = False

    def add(self, path: Path, xml: bytes) -> None:
        self._hidden.update(dict.fromkeys(map(int, HIDDEN.findall(xml))))
        for letters, row, error in set(ADDRESS.findall(xml)):
            self.last_row = max(self.last_row, int(row))
            self.last_column = max(self.last_column, reduce(lambda number, one: 26 * number + one - 64, letters, 0))
            if error:
                self._errors[(letters + row).decode()] = None
        if self.last_row * self.last_column > MAX_CELLS:
            far = f"a cell in row {self.last_row:,} or column {self.last_column:,}"
            raise DataError(
                f"{path}: {far} lies far from the others; delete what stands beyond the table (Ctrl+End shows it), or "
                "save the sheet as CSV (UTF-8)"
            )
        self._not_computed = self._not_computed or NOT_COMPUTED.search(xml) is not None

    def notes(self) -> list[str]:
        told = (
            [f"cells with an error such as #N/A are read as empty: {name_list(self._errors)}"] if self._errors else []
        )
        if self._hidden:
            told.append(f"hidden rows are read as all others ({row_list(list(self._hidden))})")
        if self._not_computed:
            told.append("formulas that were never computed are read as empty; open the workbook and save it once")
        return told


@contextmanager
def _damage_explained(path: str) -> Iterator[None]:
    try:
        yield
    except PasswordError:
        raise DataError(f"{path}: protected by a password; save a copy without one") from None
    except (
        CalamineError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        OSError,
        RuntimeError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not a readable workbook ({reason}); save it again, or as CSV (UTF-8)") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of the library, which is written in Rust
            raise
        raise DataError(f"{path}: not a readable workbook; save it again, or as CSV (UTF-8)") from None


class _Header(NamedTuple):
    """The row with the names of the columns, and what stands above it."""

    row: int
    cells: list[str]
    above: list[str]


def _chosen(
    path: str, workbook: CalamineWorkbook, settings: DataSettings, notes: list[str]
) -> tuple[CalamineSheet, _Header]:
    """The sheet that is read: the one that is named, the only one that holds anything, or has the columns named."""
    sheets = [sheet for sheet in workbook.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
    visible = [sheet.name for sheet in sheets if sheet.visible == SheetVisibleEnum.Visible]
    everything, wanted = [sheet.name for sheet in sheets], None if settings.sheet is None else str(settings.sheet)
    number = int(wanted) if wanted is not None and wanted.isdecimal() and wanted not in everything else 0
    named = visible[number - 1 : number] if number else [wanted] if wanted in everything else []
    if wanted is not None and not named:
        found = f"no sheet {wanted!r}"
        if len(everything) > 1:
            raise DataError(f"{path}: data.sheet: {found}; sheets there: {name_list(everything)}")
        notes.append(f"{found}; the only one, {everything[0]!r}, is read")
    filled = _filled(workbook, named or visible) or _filled(workbook, named or everything)
    if not filled:
        raise NoRows(f"{path}: no rows; expected a sheet with a header and at least one example")
    columns = [name for name in (settings.text, settings.text_pair, settings.label) if name is not None]
    headers = {name: _header(sheet, columns) for name, sheet in filled.items()}
    if len(filled) > 1 and columns:
        headers = {name: header for name, header in headers.items() if _names_all(header.cells, columns)} or headers
    if len(headers) > 1:
        sizes = ", ".join(f"{name!r} ({counted(filled[name].height, 'row')})" for name in headers)
        raise DataError(f"{path}: several sheets hold something: {sizes}; give data.sheet=NAME")
    ((name, header),) = headers.items()
    if others := [other for other in everything if other != name]:
        notes.append(f"the sheet {name!r} is read, not {name_list(others)}")
    return filled[name], header


def _filled(workbook: CalamineWorkbook, names: list[str]) -> dict[str, CalamineSheet]:
    """The sheets of these names that hold anything."""
    sheets = {name: workbook.get_sheet_by_name(name) for name in names}
    return {name: sheet for name, sheet in sheets.items() if any(any(cells) for _, cells in _rows(sheet, {}))}


def _header(sheet: CalamineSheet, columns: list[str]) -> _Header:
    found = list[tuple[int, list[str]]]()
    for number, cells in _rows(sheet, {}):
        if any(cells):
            found.append((number, cells))
        if len(found) == HEADER_ROWS:
            break
    several = max(sum(map(bool, cells)) for _, cells in found) > 1
    by_name = (at for at, (_, cells) in enumerate(found) if columns and _names_all(cells, columns))
    by_form = (at for at, (_, cells) in enumerate(found) if sum(map(bool, cells)) > several)
    at = next(by_name, None)
    at = next(by_form) if at is None else at
    above = [cell for _, cells in found[:at] for cell in cells if cell]
    return _Header(*found[at], above)


def _names_all(cells: list[str], columns: list[str]) -> bool:
    there = {cell.strip() for cell in cells}
    return all(name in there or {part.strip() for part in name.split(",")} <= there for name in columns)


def _merged(path: str, sheet: CalamineSheet, header_row: int) -> dict[tuple[int, int], int]:
    """The first row of each cell (row, column) that continues one above it; rows from 1, columns from the sheet's.

    Raises:
        DataError: there are more of them than the sheet has cells.
    """
    (_, left), (last, right), found = sheet.start or (0, 0), sheet.end or (0, 0), dict[tuple[int, int], int]()
    inside = [
        (top, min(bottom, last), column - left)
        for (top, column), (bottom, _) in set(sheet.merged_cell_ranges or ())
        if header_row <= top <= last and left <= column <= right
    ]
    if sum(bottom - top for top, bottom, _ in inside) > last * sheet.width:
        raise DataError(f"{path}: merged cells overlap; undo the merging, or save the sheet as CSV (UTF-8)")
    for top, bottom, column in sorted(inside):
        found.update(((row + 1, column), top + 1) for row in range(top + 1, bottom + 1))
    return found


def _rows(sheet: CalamineSheet, merged: Mapping[tuple[int, int], int]) -> Iterator[tuple[int, list[str]]]:
    """Each row with its number."""
    if sheet.end is not None and sheet.end[0] >= MAX_ROWS:  # the rows before its first cell are counted one by one
        raise RuntimeError(f"a cell in row {sheet.end[0] + 1:,}, and no sheet has more than {MAX_ROWS:,}")
    columns, held = {column for _, column in merged}, dict[int, str]()
    for number, row in enumerate(sheet.iter_rows(), 1):
        cells = [_shown(value) for value in row]
        for column in columns:
            if (number, column) in merged:
                cells[column] = held[column]
            held[column] = cells[column]
        yield number, cells


def _shown(value: Any) -> str:
    """A value as the sheet shows it: whole numbers without a point, dates as 2024-01-31, true and false."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < EXACT else f"{value:.15g}"
    return cell_text(value) or ""
