"""Tables of text that are built batch by batch, and kept on disk (memory-mapped) when they are large."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.jsontext import as_text
from tunesmith.data.records import RawTable
from tunesmith.errors import DataError, ResourceError
from tunesmith.text import counted

SPOOL_BYTES = 256 * 2**20
BATCH_ROWS = 16_384
BATCH_CHARACTERS = 32 * 2**20
FIELD_LIMIT = 10 * 2**20
MAX_COLUMNS = 10_000
MAX_FAULTS = 1000
SURROGATE = re.compile("[\ud800-\udfff]")
TEXT = pa.large_string()  # 64-bit offsets: a column may hold more than 2 GiB


class Spool:
    """Record batches in memory, or beyond `SPOOL_BYTES` in files of a private temporary folder.

    Batches may gain columns on the way; earlier rows then have null in them. Used as a context manager: on leaving,
    the folder's entry is removed (its content lives on as long as a table maps it).
    """

    def __init__(self) -> None:
        self._pending: list[pa.RecordBatch] = []
        self._bytes = 0
        self._folder: Path | None = None
        self._files: list[Path] = []
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._schema: pa.Schema | None = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_writer()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, batch: pa.RecordBatch) -> None:
        self._pending.append(batch)
        self._bytes += batch.nbytes
        if self._bytes > SPOOL_BYTES or self._folder:
            self._write()

    def table(self) -> pa.Table:
        """All batches as one table."""
        self._close_writer()
        tables = [pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in self._files]
        tables += [pa.Table.from_batches([batch]) for batch in self._pending]
        return pa.concat_tables(tables, promote_options="default")

    def _write(self) -> None:
        try:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="tunesmith-"))  # readable by this user alone
            for batch in self._pending:
                if self._writer is None or batch.schema != self._schema:
                    self._close_writer()
                    self._files.append(self._folder / f"{len(self._files)}.arrow")
                    self._writer = pa.ipc.new_file(str(self._files[-1]), batch.schema)
                    self._schema = batch.schema
                self._writer.write_batch(batch)
        except OSError as error:
            raise ResourceError(
                f"{self._folder or tempfile.gettempdir()}: cannot hold a copy of the data ({error.strerror or error}); "
                "free space there, or set TMPDIR to a folder on a larger disk"
            ) from None
        self._pending.clear()

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class TableBuilder(Spool):
    """A `RawTable` in the making. Used as a context manager by every reader.

    Args:
        path: what the user named; stands at the head of every error.
        unit: what `rows` counts: ``"line"`` or ``"row"``.
    """

    def __init__(self, path: str, unit: str = "row") -> None:
        super().__init__()
        self._path, self._unit = path, unit
        self._columns: dict[str, None] = {}
        self._rows: list[np.ndarray] = []
        self._waiting: list[Mapping[str, Any]] = []
        self._waiting_numbers: list[int] = []
        self._waiting_characters = 0
        self._faults: list[str] = []

    def __enter__(self) -> TableBuilder:
        return self

    def extend(self, columns: Mapping[str, Iterable[str | None] | pa.Array], rows: Sequence[int] | np.ndarray) -> None:
        """Adds rows.

        Args:
            columns: for each name, a text (or None) per row.
            rows: int (n,), the line or position at which each row begins.

        Raises:
            DataError: a value is too long or is not valid Unicode; too many columns.
        """
        self._columns.update(dict.fromkeys(columns))
        if len(self._columns) > MAX_COLUMNS:
            raise DataError(f"{self._path}: more than {MAX_COLUMNS:,} columns; is it a table with one example a row?")
        numbers = np.asarray(rows, dtype=np.int64)
        missing = pa.nulls(len(numbers), TEXT)
        arrays = [self._array(name, columns[name], numbers) if name in columns else missing for name in self._columns]
        self._rows.append(numbers)
        self.add(pa.RecordBatch.from_arrays(arrays, names=list(self._columns)))

    def append(self, number: int, row: Mapping[str, Any], characters: int = 0) -> None:
        """Adds one row, when enough of them have come together.

        Args:
            number: the line or position at which it begins.
            row: its values by name, nested ones as JSON holds them; of names that only other rows have it is null.
            characters: its size, by which long rows are passed on sooner.

        Raises:
            DataError: as `extend`.
        """
        self._waiting.append(row)
        self._waiting_numbers.append(number)
        self._waiting_characters += characters
        if len(self._waiting) == BATCH_ROWS or self._waiting_characters > BATCH_CHARACTERS:
            self._pass_on()

    def fault(self, number: int, message: str) -> None:
        """Keeps what is wrong with a row, so that all is told at once when the table is finished.

        Raises:
            DataError: so much is wrong that reading on would tell nothing new.
        """
        self._faults.append(f"{self._path}: {self._unit} {number}: {message}")
        if len(self._faults) == MAX_FAULTS:
            raise DataError(self._faults)

    def finish(self, format: str, notes: Iterable[str] = ()) -> RawTable:
        """The table.

        Raises:
            DataError: there are faults, or no rows were added.
        """
        if self._faults:
            raise DataError(self._faults)
        if self._waiting:
            self._pass_on()
        if not any(len(rows) for rows in self._rows):
            raise DataError(f"{self._path}: no rows; expected a header or keys and at least one example")
        return RawTable(self.table(), np.concatenate(self._rows), self._path, format, tuple(notes))

    def _pass_on(self) -> None:
        rows, numbers = self._waiting, self._waiting_numbers
        names = dict.fromkeys(name for row in rows for name in row)
        self.extend({name: [as_text(row.get(name)) for row in rows] for name in names}, numbers)
        self._waiting, self._waiting_numbers, self._waiting_characters = [], [], 0

    def _array(self, name: str, values: Iterable[str | None] | pa.Array, rows: np.ndarray) -> pa.Array:
        if isinstance(values, pa.Array):
            array = values
        else:
            values = list(values)
            try:
                name.encode()
                array = pa.array(values, TEXT)
            except UnicodeEncodeError:
                bad = [int(row) for row, value in zip(rows, values, strict=True) if value and SURROGATE.search(value)]
                raise DataError(
                    [
                        f"{self._path}: {self._unit} {row}, column {name!a}: half of a surrogate pair (\\ud800 to "
                        "\\udfff alone); remove it or write the whole character"
                        for row in bad or rows[:1]
                    ]
                ) from None
        lengths = pc.binary_length(array)
        if (pc.max(lengths).as_py() or 0) > FIELD_LIMIT:
            at = int(np.argmax(lengths.fill_null(0).to_numpy(zero_copy_only=False)))
            raise DataError(
                f"{self._path}: {self._unit} {rows[at]}, column {name!r}: {counted(lengths[at].as_py(), 'byte')}, more "
                f"than the limit of {FIELD_LIMIT:,} for one value; cut it into several examples"
            )
        return array


def is_empty(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bool (n,): null, or nothing but white space."""
    return pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True)


def take(table: pa.Table, indices: np.ndarray) -> pa.Table:
    """The rows at `indices` (int64 array), in that order; kept on disk where they are too large for memory."""
    if table.nbytes * len(indices) <= SPOOL_BYTES * max(1, table.num_rows):
        return table.take(pa.array(indices))
    with Spool() as spool:
        for start in range(0, len(indices), BATCH_ROWS):
            part = table.take(pa.array(indices[start : start + BATCH_ROWS])).combine_chunks()
            for batch in part.to_batches():
                spool.add(batch)
        return spool.table()
