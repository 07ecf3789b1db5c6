"""Rows out: one function a format, chosen by the ending of the file, which is there as a whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith import signals
from tunesmith.data.workbook import open_workbook, refuse_too_large
from tunesmith.errors import ResourceError, UsageError, is_disk_full
from tunesmith.manifest import require_outside
from tunesmith.resources import disk_words
from tunesmith.text import cell_text, json_text

Write = Callable[[Sequence[Mapping[str, Any]]], None]
"""Adds rows: name of the column → text, number, list, dict or None."""


class Format(NamedTuple):
    """A format that can be written.

    Attributes:
        open: a context in which rows are added to a new file; the columns are known beforehand.
        nested: a cell may be a list or an object.
    """

    open: Callable[[Path, pa.Schema], Any]
    nested: bool


@contextmanager
def _open_csv(path: Path, columns: pa.Schema, delimiter: str = ",") -> Iterator[Write]:
    # not by `csv.writer`, which before Python 3.13 puts no quotes around "\r", so that a reader ends the row there
    special = re.compile(f'["\r\n{delimiter}]')

    def line(values: Iterable[Any]) -> str:
        cells = (
            f'"{cell.replace(QUOTE, 2 * QUOTE)}"' if special.search(cell) else cell for cell in map(cell_text, values)
        )
        return (delimiter.join(cells) or 2 * QUOTE) + "\n"

    with path.open("x", encoding="utf-8", newline="") as file:
        file.write(line(columns.names))
        yield lambda rows: file.writelines(line(map(row.get, columns.names)) for row in rows)


def _open_tsv(path: Path, columns: pa.Schema) -> Any:
    return _open_csv(path, columns, "\t")


@contextmanager
def _open_json_lines(path: Path, columns: pa.Schema) -> Iterator[Write]:
    with path.open("x", encoding="utf-8") as file:
        yield lambda rows: file.writelines(f"{json_text(row)}\n" for row in rows)


@contextmanager
def _open_json_array(path: Path, columns: pa.Schema) -> Iterator[Write]:
    with path.open("x", encoding="utf-8") as file:
        between = iter(("[\n",))

        def write(rows: Sequence[Mapping[str, Any]]) -> None:
            file.writelines(next(between, ",\n") + json_text(row) for row in rows)

        yield write
        file.write(next(between, "\n") + "]\n" if file.tell() else "[]\n")


@contextmanager
def _open_parquet(path: Path, columns: pa.Schema) -> Iterator[Write]:
    with path.open("xb") as file, pq.ParquetWriter(file, columns) as writer:
        yield lambda rows: writer.write_table(pa.Table.from_pylist(list(rows), columns))


WRITTEN: dict[str, Format] = {
    ".csv": Format(_open_csv, nested=False),
    ".tsv": Format(_open_tsv, nested=False),
    ".jsonl": Format(_open_json_lines, nested=True),
    ".ndjson": Format(_open_json_lines, nested=True),
    ".parquet": Format(_open_parquet, nested=False),
    ".xlsx": Format(open_workbook, nested=False),
    ".labelstudio.json": Format(_open_json_array, nested=True),
}
"""By the ending of the file's name."""
QUOTE = '"'
STUDIO, WORKBOOK = ".labelstudio.json", ".xlsx"


@dataclass(frozen=True)
class Target:
    """A file to be written.

    Attributes:
        name: as the user named it.
        ending: a key of `WRITTEN`.
    """

    name: str
    ending: str

    @classmethod
    def of(cls, out: str | Path, overwrite: bool) -> Target:
        """
        Raises:
            UsageError: its format is not known, it is there already, or the folder that it should be in is not.
        """
        path = Path(out)
        ending = next((known for known in WRITTEN if path.name.lower().endswith(known)), None)
        if ending is None:
            raise UsageError(f"`out`: {out}: the ending does not tell a format; expected {', '.join(WRITTEN)}")
        if path.is_dir():
            raise UsageError(f"`out`: {out} is a folder; name a file in it, as {path / f'predictions{ending}'}")
        if not path.resolve().parent.is_dir():
            raise UsageError(f"`out`: {out}: there is no folder {path.parent}; make it, or check the path")
        if path.exists() and not overwrite:
            raise UsageError(f"`out`: {out} is there already; give another name, or add `overwrite` to replace it")
        try:
            require_outside(path)
        except ValueError as error:
            raise UsageError(f"`out`: {out}: {error}; name another folder") from None
        return cls(str(out), ending)

    @property
    def nested(self) -> bool:
        return WRITTEN[self.ending].nested

    def refuse_too_large(self, table: pa.Table) -> None:
        """
        Raises:
            DataError: the format cannot hold the rows; see `tunesmith.data.workbook`.
        """
        if self.ending == WORKBOOK:
            refuse_too_large(self.name, table)

    @contextmanager
    def opened(self, columns: pa.Schema) -> Iterator[Write]:
        """Rows that are added within this context make the file; where it is left by an error there is none.

        Raises:
            ResourceError: the disk is full.
            UsageError: the folder cannot be written to.
        """
        path = Path(self.name).resolve()  # a link stays one
        aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        signals.leftovers.add(str(aside))
        try:
            with WRITTEN[self.ending].open(aside, columns) as write:
                yield write
            aside.replace(path)
            signals.current().saved = f"{self.name} is written"
        except OSError as error:
            if is_disk_full(error):
                raise ResourceError(f"{self.name}: {disk_words(error, path.parent)}, or name another one") from None
            if error.filename == str(aside):
                raise UsageError(f"`out`: {self.name}: cannot be written ({error.strerror})") from None
            raise
        finally:
            aside.unlink(missing_ok=True)
            signals.leftovers.discard(str(aside))
