"""What a case of `bad_data` is, and ways to write a table that are not Tunesmith's own."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

Rows = Sequence[Sequence[Any]]
NAMES = ("text", "label")


@dataclass(frozen=True)
class Refused:
    """The file is refused.

    Attributes:
        row: the line or row that must be named, if one is at fault.
        column: the column that must be named.
        says: what else must be said.
    """

    row: int | None = None
    column: str | None = None
    says: tuple[str, ...] = ()

    def missing(self, said: str) -> list[str]:
        """What is wanted and not said."""
        wanted = {part: part in said for part in self.says}
        if self.column is not None:
            wanted[f"column {self.column!r}"] = repr(self.column) in said
        if self.row is not None:
            place = rf"\b(?:line|row)s? (?:[\d, ]*, )?{self.row}\b"
            wanted[f"row {self.row}"] = re.search(place, said.replace(f"{self.row:,}", str(self.row))) is not None
        return [part for part, there in wanted.items() if not there]


@dataclass(frozen=True)
class File:
    """A file, and what is wanted of it.

    Attributes:
        name: of the case.
        file: of the file; its ending tells the format.
        content: its bytes, or what makes it (a folder, a link, a pipe) where it should be.
        wanted: text (second text) and label of every row, or that it is refused.
        clean: where it is read, no check fails.
    """

    name: str
    file: str
    content: bytes | Callable[[Path], object]
    wanted: list[tuple[Any, ...]] | Refused
    settings: dict[str, Any] = field(default_factory=dict)
    task: str | None = None
    clean: bool = True

    def __repr__(self) -> str:
        return self.name

    def write(self, folder: Path) -> Path:
        path = folder / self.file
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
        else:
            self.content(path)
        return path


def csv(rows: Rows, names: Sequence[str] = NAMES, delimiter: str = ",", end: str = "\n") -> bytes:
    """Every value that needs it in quotes, as RFC 4180 says."""

    def cell(value: str) -> str:
        return '"' + value.replace('"', '""') + '"' if set(value) & {'"', "\r", "\n", delimiter} else value

    return "".join(delimiter.join(map(cell, row)) + end for row in [names, *rows]).encode()


def tsv(rows: Rows, names: Sequence[str] = NAMES) -> bytes:
    return csv(rows, names, "\t")


def objects(rows: Rows, names: Sequence[str] = NAMES) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in rows]


def jsonl(rows: Rows, names: Sequence[str] = NAMES) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in objects(rows, names)).encode()


def escaped_jsonl(rows: Rows, names: Sequence[str] = NAMES) -> bytes:
    return "".join(json.dumps(row) + "\r\n" for row in objects(rows, names)).encode()


def array(rows: Rows, names: Sequence[str] = NAMES) -> bytes:
    """One object a line, so that lines can be named."""
    return ("[\n" + ",\n".join(json.dumps(row) for row in objects(rows, names)) + "\n]").encode()


def columns(rows: Rows, names: Sequence[str] = NAMES) -> pa.Table:
    return pa.table({name: [row[at] for row in rows] for at, name in enumerate(names)})


def parquet(rows: Rows, names: Sequence[str] = NAMES, **options: Any) -> bytes:
    return parquet_of(columns(rows, names), **options)


def parquet_of(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def arrow(rows: Rows, names: Sequence[str] = NAMES, stream: bool = False) -> bytes:
    return arrow_of(columns(rows, names), stream)


def arrow_of(table: pa.Table, stream: bool = False) -> bytes:
    sink = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def workbook(rows: Rows, names: Sequence[str] = NAMES, **sheets: Rows) -> bytes:
    """Text only as text: what looks like a formula or a number is none."""
    book = openpyxl.Workbook()
    for title, content in {"Sheet": [names, *rows], **sheets}.items():
        sheet = book.active if title == "Sheet" else book.create_sheet(title)
        for number, row in enumerate(content, 1):
            for at, value in enumerate(row, 1):
                cell = sheet.cell(number, at, value)
                if isinstance(value, str) and value:
                    cell.data_type = "s"
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


TABLES: dict[str, Any] = {
    "a.csv": csv,
    "a.tsv": tsv,
    "a.jsonl": jsonl,
    "b.jsonl": escaped_jsonl,
    "a.json": array,
    "a.parquet": parquet,
    "a.arrow": arrow,
    "a.xlsx": workbook,
}
"""Functions that write a table, by the name of the file: rows, names of the columns → bytes."""
