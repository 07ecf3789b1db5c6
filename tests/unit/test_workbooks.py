"""Workbooks: which sheet, where the header stands, what a cell says, what is refused."""

from __future__ import annotations

import io
import zipfile
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from tunesmith.config.schema import DataSettings
from tunesmith.data import read
from tunesmith.data.layout import Layout
from tunesmith.data.reading import load_records, read_new
from tunesmith.data.records import RawTable
from tunesmith.data.shapes import ONE_LABEL
from tunesmith.errors import DataError

PLAIN = DataSettings()
ROWS = [("text", "label"), ("a", "x"), ("b", "y")]


def workbook(path: Path, **sheets: list[Any]) -> Workbook:
    """A workbook with these rows in its sheets, saved and given back."""
    book = Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return book


def rows_of(raw: RawTable) -> list[tuple[str, ...]]:
    return list(zip(*raw.table.to_pydict().values(), strict=True))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.xlsx"


def test_values_are_what_the_sheet_shows(path: Path) -> None:
    shown = {
        5: "5", 0.1 + 0.2: "0.3", -2.5: "-2.5", 1e20: "1e+20", date(2024, 1, 2): "2024-01-02",
        datetime(2024, 1, 2, 3, 4, 5): "2024-01-02 03:04:05", "007": "007", "NA": "NA", "two\nlines": "two\nlines",
    }  # fmt: skip
    workbook(path, S=[("text", "label"), *((value, True) for value in shown)])
    raw = read(str(path), PLAIN)
    assert rows_of(raw) == [(text, "true") for text in shown.values()]
    assert raw.rows.tolist() == list(range(2, 2 + len(shown))) and raw.notes == ()


def test_titles_empty_rows_and_columns_are_left_out_and_rows_keep_their_numbers(path: Path) -> None:
    book = Workbook()
    for address, value in {"C2": "Tickets of May", "C4": "text", "D4": "label", "C5": "a", "D5": 1, "C8": "b"}.items():
        book.active[address] = value
    book.active["D8"], book.active["F20"].number_format, book.active["D21"].number_format = 2, "0%", "0%"
    book.save(path)
    raw = read(str(path), PLAIN)
    assert rows_of(raw) == [("a", "1"), ("b", "2")] and raw.rows.tolist() == [5, 8]
    assert raw.notes == ("the header is row 4; above it, rows 1 to 3 left out: 'Tickets of May'",)
    book.active["D8"] = None
    book.save(path)
    with pytest.raises(DataError, match="row 8: column 'label' is empty"):
        load_records(str(path), PLAIN)


def test_the_header_is_the_row_with_the_columns_that_are_named(path: Path) -> None:
    workbook(path, S=[("Report", "May"), ("words", "group"), ("a", "x")])
    assert rows_of(read(str(path), DataSettings(text="words", label="group"))) == [("a", "x")]


def test_an_index_without_a_name_is_a_column(path: Path) -> None:
    workbook(path, S=[(None, "text", "label"), (0, "a", "x")])
    raw = read(str(path), PLAIN)
    assert raw.table.to_pydict() == {"column 1": ["0"], "text": ["a"], "label": ["x"]}
    assert raw.notes == ("the header gives no name for column 1",)


def test_a_value_of_merged_cells_stands_in_each_of_their_rows(path: Path) -> None:
    book = workbook(path, S=[("May", None), ("label", "text"), ("x", "a"), (None, "b"), (None, "c"), ("y", "d")])
    book["S"].merge_cells("A1:B1")
    book["S"].merge_cells("A3:A5")
    book.save(path)
    raw = read(str(path), PLAIN)
    assert rows_of(raw) == [("x", "a"), ("x", "b"), ("x", "c"), ("y", "d")]
    assert raw.notes[-1] == "the value of cells that are merged down a column stands in each of their rows"


def test_several_sheets_are_named_unless_one_is_meant(path: Path) -> None:
    other = [("name", "meaning"), ("x", "good")]
    book = workbook(path, Data=ROWS, Empty=[], Codes=other, Old=ROWS)
    book["Old"].sheet_state = "hidden"
    book.save(path)
    with pytest.raises(DataError, match=r"hold something: 'Data' \(3 rows\), 'Codes' \(2 rows\); give data.sheet=NAME"):
        read(str(path), PLAIN)
    for sheet, column in (("Codes", "name"), ("3", "name"), (1, "text"), ("Old", "text")):
        raw = read(str(path), DataSettings(sheet=sheet))
        assert raw.table.column_names[0] == column and "is read, not" in raw.notes[0]
    assert read(str(path), DataSettings(text="text")).table.num_rows == 2
    for sheet in ("Dat", "4", "0"):
        with pytest.raises(DataError, match=f"no sheet '{sheet}'; sheets there: 'Data', 'Empty', 'Codes', 'Old'"):
            read(str(path), DataSettings(sheet=sheet))
    with pytest.raises(DataError, match="no rows; expected a sheet"):
        read(str(path), DataSettings(sheet="Empty"))


def test_the_sheet_of_training_is_read_where_there_is_one(path: Path, tmp_path: Path) -> None:
    layout = Layout(ONE_LABEL, "text", None, ("label",))
    workbook(path, One=ROWS, Two=[("text", "label"), ("c", "x")])
    assert read_new(str(path), layout, DataSettings(sheet="Two"), PLAIN).records.texts == ["c"]
    workbook(tmp_path / "new.xlsx", Tabelle1=ROWS)
    records = read_new(str(tmp_path / "new.xlsx"), layout, DataSettings(sheet="Two"), PLAIN).records
    assert records.texts == ["a", "b"] and records.notes == ("no sheet 'Two'; the only one, 'Tabelle1', is read",)


def test_hidden_rows_are_read_and_told(path: Path) -> None:
    book = workbook(path, Data=[("text", "label"), ("one", "a"), ("two", "b")])
    book["Data"].row_dimensions[3].hidden = True
    book.save(path)
    raw = read(str(path), DataSettings())
    assert len(raw.rows) == 2 and "hidden rows are read as all others (row 3)" in raw.notes


def test_errors_and_formulas_without_value_are_told(path: Path) -> None:
    workbook(path, S=[("text", "label"), ("a", "#N/A"), ("b", "=1+1"), ("c", "x")])
    raw = read(str(path), PLAIN)
    assert rows_of(raw) == [("a", ""), ("b", ""), ("c", "x")]
    assert raw.notes == (
        "cells with an error such as #N/A are read as empty: 'B2'",
        "formulas that were never computed are read as empty; open the workbook and save it once",
    )


def test_what_is_no_workbook_is_refused(path: Path, tmp_path: Path) -> None:
    workbook(path, S=ROWS)
    whole = path.read_bytes()
    for content, message in {
        b"": "but an empty file",
        b"text,label\na,b\n": "but text; rename it",
        b"<html><table>": "but a page of HTML",
        b"%PDF-1.7": "but a PDF document",
        whole[:-100]: "not a readable workbook",
        whole[:40] + b"\0" * 200 + whole[240:]: "not a readable workbook",
        b"\xd0\xcf\x11\xe0" + b"\0" * 2000: "not a readable workbook",
    }.items():
        path.write_bytes(content)
        with pytest.raises(DataError, match=message) as caught:
            read(str(path), PLAIN)
        assert len(caught.value.problems) == 1 and "\n" not in str(caught.value)
    for name in ("b.csv", "b.txt"):
        (tmp_path / name).write_bytes(whole)
        with pytest.raises(DataError, match=r"a document: give data.format=workbook"):
            read(str(tmp_path / name), DataSettings(format="csv"))
    assert read(str(tmp_path / "b.txt"), DataSettings(format="workbook")).table.num_rows == 2


def test_a_workbook_that_expands_beyond_measure_is_refused(path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(65 * 2**20))
    path.write_bytes(content.getvalue())
    with pytest.raises(DataError, match="expands to more than 100 times its size"):
        read(str(path), PLAIN)


def test_a_cell_far_from_the_table_is_named_before_memory_is_asked_for(path: Path) -> None:
    book = workbook(path, S=ROWS)
    book["S"].cell(1_048_576, 16_384, "x")
    book.save(path)
    with pytest.raises(DataError, match=r"row 1,048,576 or column 16,384 lies far from the others"):
        read(str(path), PLAIN)


def test_a_sheet_with_nothing_but_errors_holds_nothing(path: Path) -> None:
    workbook(path, S=[("#N/A", "#DIV/0!")])
    with pytest.raises(DataError, match="no rows"):
        read(str(path), PLAIN)
    workbook(path, S=[("#N/A",)], T=ROWS)
    assert rows_of(read(str(path), PLAIN)) == ROWS[1:]


def test_whole_numbers_keep_their_digits(path: Path) -> None:
    workbook(path, S=[("text", "label"), (10**15 + 1, "a"), (2**53 - 1, "b")])
    assert rows_of(read(str(path), PLAIN)) == [("1000000000000001", "a"), ("9007199254740991", "b")]


def test_merged_cells_beside_the_table_change_nothing(path: Path) -> None:
    book = Workbook()
    for row, cells in enumerate(ROWS, 1):
        for column, value in enumerate(cells, 2):
            book.active.cell(row, column, value)
    for merged in ("A2:A3", "F2:F3", "B9:B12"):
        book.active.merge_cells(merged)
    book.save(path)
    assert rows_of(read(str(path), PLAIN)) == ROWS[1:]


def with_xml(path: Path, xml: bytes, first: bytes, last: bytes) -> None:
    """Replaces what stands from `first` to `last` in the sheet."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = parts["xl/worksheets/sheet1.xml"]
    parts["xl/worksheets/sheet1.xml"] = sheet[: sheet.index(first)] + xml + sheet[sheet.index(last) + len(last) :]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    "xml",
    [
        b"<sheetData><row r='1'><c r='A1'><v>1</v></c><c r='XFD1048576'><v>1</v></c></row></sheetData>",
        b'<sheetData><row r="1"><c r="xfd1"><v>1</v></c></row><row r="1048576"><c><v>1</v></c></row></sheetData>',
        b'<sheetData><row r="1"><c r="A1"><v>1</v></c><c r="ggggggA2"><v>1</v></c></row></sheetData>',
    ],
)
def test_a_sheet_that_no_memory_holds_ends_nothing(xml: bytes, path: Path) -> None:
    workbook(path, S=ROWS)
    with_xml(path, xml, b"<sheetData>", b"</sheetData>")
    with pytest.raises(DataError, match=r"MB of memory.*save the sheet as CSV"):
        read(str(path), PLAIN)


def test_merged_cells_that_overlap_are_refused(path: Path) -> None:
    workbook(path, S=[ROWS[0], *[("a", "b")] * 50])
    merged = b"".join(b'<mergeCell ref="A%d:A51"/>' % row for row in range(2, 40))
    with_xml(path, b"</sheetData><mergeCells>" + merged + b"</mergeCells>", b"</sheetData>", b"</sheetData>")
    with pytest.raises(DataError, match="merged cells overlap"):
        read(str(path), PLAIN)


@pytest.mark.parametrize("xml", [b"<row ", b' r="A1"', b'<c r="A1" t=""', b'<row hidden="1" ', b"</f> <v", b"</f> "])
def test_tags_without_an_end_are_looked_at_once(xml: bytes, path: Path) -> None:
    workbook(path, S=ROWS)
    with_xml(path, b"<sheetData>" + xml * (2**20 // len(xml)), b"<sheetData>", b"</sheetData>")
    with pytest.raises(DataError):
        read(str(path), PLAIN)
