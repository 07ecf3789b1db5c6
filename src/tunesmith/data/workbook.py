"""Workbooks out: one sheet of an Excel file (ECMA-376), written row by row in little memory.

Text is written as text only: what begins with ``=`` is no formula, ``007`` no number, and an address no link.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.table import TEXT, by_chunk, each_cell
from tunesmith.errors import DataError
from tunesmith.text import cell_text, counted

MAX_ROWS, MAX_COLUMNS = 2**20, 2**14
MAX_CHARACTERS = 32_767
"""Of a cell, counted in UTF-16 units."""
MAX_BYTES = 2**31 - 1
"""Of the sheet before it is packed: what every program can unpack."""
OTHERS = "write .csv or .parquet instead"
NAMESPACE = "http://schemas.openxmlformats.org"
HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml"
PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{NAMESPACE}/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{TYPES}.sheet.main+xml"/>'
    f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{TYPES}.worksheet+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{NAMESPACE}/package/2006/relationships"><Relationship Id="rId1" '
    f'Type="{NAMESPACE}/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{NAMESPACE}/package/2006/relationships"><Relationship '
    f'Id="rId1" Type="{NAMESPACE}/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/>'
    "</Relationships>",
    "xl/workbook.xml": f'<workbook xmlns="{NAMESPACE}/spreadsheetml/2006/main" '
    f'xmlns:r="{NAMESPACE}/officeDocument/2006/relationships"><sheets>'
    '<sheet name="predictions" sheetId="1" r:id="rId1"/></sheets></workbook>',
}
BEGIN = f'{HEAD}<worksheet xmlns="{NAMESPACE}/spreadsheetml/2006/main"><sheetData>'
END = f"""</sheetData><ignoredErrors><ignoredError sqref="A1:XFD{MAX_ROWS}" numberStoredAsText="1"/></ignoredErrors>
</worksheet>"""
# What XML cannot hold is written as _x0001_; so a text that looks like that is escaped (also with a plus,
# which some readers take for a digit), or would look like it with such a character behind it.
_NOT_IN_XML = "\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff"
_ODD = re.compile(f"[{_NOT_IN_XML}]|_(?=x[0-9A-Fa-f+]{{4}}[_{_NOT_IN_XML}])")


@contextmanager
def open_workbook(path: Path, columns: pa.Schema) -> Iterator[Any]:
    """A context in which rows are added to a new workbook; see `tunesmith.data.writing.Write`.

    Raises:
        DataError: more rows, columns or characters than Excel holds.
    """
    if len(columns) > MAX_COLUMNS:
        raise DataError(f"{path}: {counted(len(columns), 'column')}, Excel holds {MAX_COLUMNS:,}; {OTHERS}")
    letters = [_letters(number) for number in range(1, len(columns) + 1)]
    last = size = 0
    with path.open("xb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, text in PARTS.items():
            archive.writestr(name, HEAD + text)
        with archive.open("xl/worksheets/sheet1.xml", "w") as sheet:

            def write(rows: Sequence[Mapping[str, Any]]) -> None:
                nonlocal last, size
                if last + len(rows) > MAX_ROWS:
                    raise DataError(_too_many_rows("the predictions"))
                for row in rows:
                    last += 1
                    cells = [_cell(row, name, x, last) for x, name in zip(letters, columns.names, strict=True)]
                    size += sheet.write(f'<row r="{last}">{"".join(cells)}</row>'.encode())
                    if size > MAX_BYTES - 1000:
                        raise DataError(f"row {last} of the workbook: more text than Excel opens; {OTHERS}")

            sheet.write(BEGIN.encode())
            write([{name: name for name in columns.names}])
            yield write
            sheet.write(END.encode())


def refuse_too_large(out: str, table: pa.Table) -> None:
    """
    Raises:
        DataError: a table has more rows than a sheet, or a text that is longer than a cell.
    """
    if table.num_rows >= MAX_ROWS:
        raise DataError(_too_many_rows(f"{out}: {counted(table.num_rows, 'row')}"))
    for name in table.column_names:
        lengths = by_chunk(pc.utf8_length, table[name].cast(TEXT), pa.int64())
        if (pc.max(lengths).as_py() or 0) * 2 > MAX_CHARACTERS:  # else none can have too many units
            for row, text in enumerate(each_cell(table[name]), 1):
                _require_short(text or "", name, row + 1)


def _cell(row: Mapping[str, Any], name: str, letters: str, number: int) -> str:
    value = row.get(name)
    if value is None or value == "":
        return ""
    if isinstance(value, int | float):
        return f'<c r="{letters}{number}"><v>{value!r}</v></c>'
    text = cell_text(value)
    _require_short(text, name, number)
    text = escape(_ODD.sub(lambda match: f"_x{ord(match[0]):04X}_", text), {"\r": "&#13;"})
    return f'<c r="{letters}{number}" t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'


def _require_short(text: str, name: str, number: int) -> None:
    if 2 * len(text) > MAX_CHARACTERS and (units := len(text.encode("utf-16-le")) // 2) > MAX_CHARACTERS:
        place = f"row {number} of the workbook, column {name!r}"
        raise DataError(f"{place}: {units:,} characters, a cell of Excel holds {MAX_CHARACTERS:,}; {OTHERS}")


def _too_many_rows(what: str) -> str:
    return f"{what}: a sheet of Excel holds {MAX_ROWS:,} rows, its header included; {OTHERS}"


def _letters(number: int) -> str:
    """1 → A, 27 → AA."""
    found = ""
    while number:
        number, rest = divmod(number - 1, 26)
        found = chr(ord("A") + rest) + found
    return found
