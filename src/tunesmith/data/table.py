"""Tables of text that are built batch by batch, and kept on disk (memory-mapped) when they are large."""

from __future__ import annotations

import mmap
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import IO, Any, NamedTuple, TypeVar
from weakref import ref

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.jsontext import as_text
from tunesmith.data.records import SURROGATE, RawTable
from tunesmith.errors import DataError, ResourceError
from tunesmith.text import counted, name_list, row_list

MEMORY_BYTES = 16 * 2**20
BATCH_ROWS = 16_384
BATCH_CHARACTERS = 32 * 2**20
FIELD_LIMIT = 10 * 2**20
MAX_COLUMNS = 10_000
MAX_EMPTY_CELLS, MAX_EMPTY_SHARE = 2**25, 100
"""Cells of a table of rows with different keys: so many in any case, or so many times the values."""
MAX_FAULTS = 1000
TEXT = pa.large_string()  # 64-bit offsets: a column may hold more than 2 GiB
Part = TypeVar("Part")


class NoRows(DataError):
    """Nothing is wrong but that there are no rows."""


class _Stored(NamedTuple):
    """A temporary file without a name, and what writes tables of one schema into it."""

    file: IO[bytes]
    schema: pa.Schema
    writer: pa.RecordBatchFileWriter


class BatchStore:
    """Parts of a table in memory; whenever they pass `MEMORY_BYTES` they go to a temporary file without a name.

    So nothing is left of it, whatever ends the process; its content lives on as long as a table maps it. Parts may gain
    columns on the way, and then go on in another file; earlier rows have null in them.
    """

    def __init__(self) -> None:
        self._pending: list[pa.Table] = []
        self._pending_bytes = 0
        self._files: list[_Stored] = []

    def __enter__(self) -> BatchStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._pending.clear()
        for stored in self._files:
            with suppress(OSError):  # of a full disk, which was told; what is not written is not needed either
                stored.file.close()

    def add(self, part: pa.Table) -> None:
        self._pending.append(part)
        self._pending_bytes += part.nbytes
        if self._pending_bytes > MEMORY_BYTES:
            with _disk_explained():
                self._write()

    def _write(self) -> None:
        table = pa.concat_tables(self._pending, promote_options="default")
        if not self._files or self._files[-1].schema != table.schema:
            file = tempfile.TemporaryFile(prefix="tunesmith-")  # noqa: SIM115  closed in `__exit__`
            self._files.append(_Stored(file, table.schema, pa.ipc.new_file(file, table.schema)))
        self._files[-1].writer.write_table(table)
        self._pending.clear()
        self._pending_bytes = 0

    def table(self) -> pa.Table:
        """All parts, of which there is at least one, as one table. No more are added."""
        on_disk = list[pa.Table]()
        for stored in self._files:
            with _disk_explained():
                stored.writer.close()
                stored.file.flush()
                mapped = mmap.mmap(stored.file.fileno(), 0, access=mmap.ACCESS_READ)
            _mapped.append(ref(mapped, _mapped.remove))
            on_disk.append(pa.ipc.open_file(pa.py_buffer(mapped)).read_all())
        return pa.concat_tables([*on_disk, *self._pending], promote_options="default")


_mapped = list["ref[mmap.mmap]"]()
"""The files of all tables; see `in_turn`."""


@contextmanager
def _disk_explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"{tempfile.tempdir or 'temporary files'}: cannot hold a copy of the data ({error.strerror or error}); "
            "free space there, or set TMPDIR to a folder on a larger disk"
        ) from None


def in_turn(parts: Iterable[Part]) -> Iterator[Part]:
    """Parts of a table, one after the other: what was read from disk for one leaves memory before the next one."""
    for part in parts:
        yield part
        for one in _mapped:
            if (mapped := one()) is not None:
                mapped.madvise(mmap.MADV_DONTNEED)  # it is read again where it is used again


def each_cell(column: pa.ChunkedArray) -> Iterator[str | None]:
    """The values of a column, of which one chunk is in memory at a time."""
    for chunk in in_turn(column.chunks):
        yield from chunk.to_pylist()


def by_chunk(function: Callable[[pa.Array], pa.Array], column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """What a function makes of a column, of whose texts one chunk is in memory at a time.

    Args:
        kind: the type of what it makes.
    """
    return pa.chunked_array([function(chunk) for chunk in in_turn(column.chunks)], kind)


class TableBuilder(BatchStore):
    """A `RawTable` in the making. Used as a context manager by every reader.

    Args:
        path: what the user named; stands at the head of every error.
        unit: what the numbers of rows count: ``"line"`` or ``"row"``.
        columns: names of the values of rows that come as lists.
    """

    def __init__(self, path: str, unit: str = "row", columns: Sequence[str] = ()) -> None:
        super().__init__()
        self._path, self._unit = path, unit
        self._columns = dict.fromkeys(columns)
        self._numbers: list[np.ndarray] = []
        self._rows: list[Any] = []
        self._row_numbers: list[int] = []
        self._characters = self._values = 0
        self._faults: dict[str, list[int]] = {}
        self._fault_count = 0
        self._unread: dict[str, str] = {}

    def __enter__(self) -> TableBuilder:
        return self

    def append(self, number: int, row: Mapping[str, Any] | Sequence[str], characters: int = 0) -> None:
        """Adds one row, when enough of them have come together.

        Args:
            number: the line or position at which it begins.
            row: its values by name, nested ones as JSON holds them; of names that only other rows have it is null. Or
                the texts of `columns`.
            characters: its size, by which long rows are passed on sooner.

        Raises:
            DataError: as `extend`.
        """
        self._rows.append(row)
        self._row_numbers.append(number)
        self._characters += characters
        if len(self._rows) >= BATCH_ROWS or self._characters > BATCH_CHARACTERS:
            self._pass_on()

    def _pass_on(self) -> None:
        rows, numbers = self._rows, self._row_numbers
        self._rows, self._row_numbers, self._characters = [], [], 0
        if rows and not isinstance(rows[0], Mapping):
            self.extend(dict(zip(self._columns, zip(*rows, strict=True), strict=True)), numbers)
        elif rows:
            names = dict.fromkeys(name for row in rows for name in row)
            self._values += sum(map(len, rows))
            self._refuse_many(names, len(rows) + sum(map(len, self._numbers)))
            columns: dict[str, list[str | None]] = {name: [None] * len(rows) for name in names}
            for at, row in enumerate(rows):
                for name, value in row.items():
                    columns[name][at] = as_text(value)
            self.extend(columns, numbers)

    def extend(self, columns: Mapping[str, Iterable[str | None] | pa.Array], numbers: Sequence[int]) -> None:
        """Adds rows.

        Args:
            columns: for each name, a text (or None) per row.
            numbers: the line or position at which each row begins.

        Raises:
            DataError: too many columns, or the name of one is not valid Unicode.
        """
        self._columns.update(dict.fromkeys(columns))
        if bad := [name for name in columns if SURROGATE.search(name)]:
            what = "half of a surrogate pair (\\ud800 to \\udfff alone) in the name of a column"
            raise DataError(f"{self._path}: {self._unit} {numbers[0]}: {what}: {bad[0]!a}; write it anew")
        self._refuse_many()
        missing = pa.nulls(len(numbers), TEXT)
        arrays = [self._array(name, columns[name], numbers) if name in columns else missing for name in self._columns]
        self._numbers.append(np.asarray(numbers, dtype=np.int64))
        self.add(pa.table(arrays, names=list(self._columns)))

    def _refuse_many(self, names: Iterable[str] = (), rows: int = 0) -> None:
        """
        Args:
            names: further columns.
            rows: whose values may be few, for so many columns.

        Raises:
            DataError: too many columns, or too many cells without a value.
        """
        count = len(self._columns.keys() | names)
        if count > MAX_COLUMNS:
            raise DataError(f"{self._path}: more than {MAX_COLUMNS:,} columns; is it a table with one example a row?")
        if count * rows > max(MAX_EMPTY_CELLS, MAX_EMPTY_SHARE * self._values):
            what = f"{count:,} different keys in its rows, of which each has few"
            raise DataError(f"{self._path}: {what}; write the same keys in every row")

    def _array(self, name: str, values: Iterable[str | None] | pa.Array, numbers: Sequence[int]) -> pa.Array:
        """The texts of a column; without any where one is none or too long, which is told where they are needed."""
        try:
            array = values if isinstance(values, pa.Array) else pa.array(values, TEXT)
        except UnicodeEncodeError:
            bad = [number for number, value in zip(numbers, values, strict=True) if value and SURROGATE.search(value)]
            what = "half of a surrogate pair (\\ud800 to \\udfff alone); remove it or write the whole character"
            self.leave_out(name, self._at(name, bad[0], what))
            return pa.nulls(len(numbers), TEXT)
        lengths = pc.binary_length(array)
        if (pc.max(lengths).as_py() or 0) > FIELD_LIMIT:
            at = int(np.argmax(lengths.fill_null(0).to_numpy(zero_copy_only=False)))
            self.leave_out_large(name, numbers[at], lengths[at].as_py())
            return pa.nulls(len(numbers), TEXT)
        return array

    def leave_out_large(self, name: str, number: int, size: int) -> None:
        """A value of a column is too large; see `leave_out`."""
        size_and_limit = f"{counted(size, 'byte')}, more than the limit of {FIELD_LIMIT:,} for one value"
        self.leave_out(name, self._at(name, number, f"{size_and_limit}; cut it into several examples"))

    def _at(self, name: str, number: int, what: str) -> str:
        return f"{self._path}: {self._unit} {number}, column {name!r}: {what}"

    def leave_out(self, name: str, why: str) -> None:
        """A column cannot be read as text: an error where it is needed, else a note."""
        self._unread.setdefault(name, why)

    def fault(self, number: int, message: str) -> None:
        """Keeps what is wrong with a row, so that all is told at once when the table is finished, each kind once.

        Raises:
            DataError: so much is wrong that reading on would tell nothing new.
        """
        self._faults.setdefault(message, []).append(number)
        self._fault_count += 1
        if self._fault_count == MAX_FAULTS:
            raise self._faulty()

    def _faulty(self) -> DataError:
        told = ((list(dict.fromkeys(rows)), what) for what, rows in self._faults.items())  # several may begin on a line
        return DataError(f"{self._path}: {row_list(rows, self._unit)}: {what}" for rows, what in told)

    def finish(self, format: str, notes: Iterable[str] = ()) -> RawTable:
        """The table.

        Raises:
            DataError: there are faults, or (`NoRows`) no rows were added.
        """
        if self._faults:
            raise self._faulty()
        self._pass_on()
        if not any(map(len, self._numbers)):
            raise NoRows(f"{self._path}: no rows; expected a header or keys and at least one example")
        if self._unread:
            notes = *notes, f"without the columns that cannot be read as text: {name_list(self._unread)}"
        numbers = np.concatenate(self._numbers)
        return RawTable(self.table(), numbers, self._path, format, tuple(notes), unread=self._unread, unit=self._unit)


def column_names(path: str, place: str, found: Sequence[str], notes: list[str]) -> tuple[list[str], list[str]]:
    """The names of the columns by the cells of a header, and those of columns that it leaves without one.

    Args:
        place: of the header in the file.
        notes: where it is noted what was done to the names.

    Raises:
        DataError: a name stands there twice.
    """
    header = [name.strip() for name in found]
    trimmed = [name for name, original in zip(header, found, strict=True) if name != original and name]
    if trimmed:
        notes.append(f"spaces around the column names {name_list(trimmed)} were removed")
    unnamed = {at: f"column {at + 1}" for at, name in enumerate(header) if not name}
    header = [unnamed.get(at, name) for at, name in enumerate(header)]
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(f"{path}: {place}: the header has {name_list(twice)} more than once; rename or remove one")
    return header, list(unnamed.values())


def without_unused(raw: RawTable, unnamed: Iterable[str]) -> RawTable:
    """A table without those of some columns that the header gives no name and that hold nothing; others are noted."""
    empty = [name for name in unnamed if pc.all(pc.equal(raw.table[name], "")).as_py()]
    notes = [f"the header gives no name for {name}" for name in unnamed if name not in empty]
    return replace(raw, table=raw.table.drop_columns(empty), notes=(*raw.notes, *notes))


def is_empty(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bool (n,): null, or nothing but white space."""

    def empty(chunk: pa.Array) -> pa.Array:
        return pc.fill_null(pc.or_(pc.equal(chunk, ""), pc.utf8_is_space(chunk)), True)

    return by_chunk(empty, column, pa.bool_())


def filled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same with empty texts in place of nulls; kept on disk where it is large."""
    if not column.null_count:
        return column
    with BatchStore() as store:
        for chunk in in_turn(column.chunks):
            store.add(pa.table({"": pc.fill_null(chunk, "")}))
        return store.table()[""]


def take(table: pa.Table, indices: np.ndarray) -> pa.Table:
    """The rows at `indices` (int64 array), in that order; kept on disk where they are too large for memory."""
    if table.nbytes * len(indices) <= MEMORY_BYTES * max(1, table.num_rows):
        return table.take(pa.array(indices))
    with BatchStore() as store:
        for start in range(0, len(indices), BATCH_ROWS):
            store.add(table.take(pa.array(indices[start : start + BATCH_ROWS])).combine_chunks())
        return store.table()
