"""What every reader produces and every later stage consumes: rows of text, exactly as they stood in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow as pa

from tunesmith.config.schema import Quoting
from tunesmith.data.shapes import Labels
from tunesmith.errors import DataError


class Span(NamedTuple):
    """A named entity: the characters from `start` up to, not including, `end` of the text."""

    start: int
    end: int
    label: str


class Answer(NamedTuple):
    """An answer as it stands in the context, from the character `start`."""

    start: int
    text: str

    @property
    def end(self) -> int:
        return self.start + len(self.text)


SURROGATE = re.compile("[\ud800-\udfff]")  # half of a character, which no encoding can write
Label = str | tuple[str, ...] | tuple[Span, ...] | tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class TextRecord:
    """One example of a text task.

    Attributes:
        id: the user's identifier, or ``"<row>"`` where none was given; unique within a file.
        text: the text, unchanged.
        text_pair: the second text of a pair, or None.
        label: the label as text; several labels, spans or answers as a tuple; None where the row has none.
        row: the line of the file at which the row begins, or its position (from 1) where there are no lines.
    """

    id: str
    text: str
    text_pair: str | None
    label: Label | None
    row: int


class Origin(NamedTuple):
    """What records were read from: the format, what the numbers of its rows count, all of its columns, and whether any
    row of the file has several lines."""

    format: str
    unit: str
    columns: tuple[str, ...]
    several_lines: bool = False


@dataclass(frozen=True)
class Dialect:
    """How a CSV or TSV file is written, as far as its format does not say.

    Attributes:
        format: of the file; files of another one are written in another way.
        delimiter: what a setting named, or None.
        quoting: whether quotes enclose values (``"on"``) or are text, where a setting said so or the file showed it.
    """

    format: str
    delimiter: str | None = None
    quoting: Quoting | None = None


@dataclass(frozen=True)
class RawTable:
    """A file as it was read: every value is text (or null where the format has nulls).

    Attributes:
        table: one string column per column of the file, in its order.
        rows: int64 array (n,), the line (or position from 1) at which each row begins.
        path: what the user named.
        format: name of the reader in `FORMATS`.
        notes: what the reader did that the user should know (header trimmed, ...).
        sha256: of the content, where it lies in no local file; see `tunesmith.data.sources`.
        dialect: of CSV and TSV, where it is not the usual one.
        unread: columns that have no text, whose cells are not to be used, and what is wrong with each.
        annotated: columns that an annotation tool is known to have filled, and what each holds.
        unjudged: rows that no annotator judged, by their number, and why; without labels they count all the same.
        unit: what the numbers of rows count.
        several_lines: some rows have several lines of the file.
    """

    table: pa.Table
    rows: np.ndarray
    path: str
    format: str
    notes: tuple[str, ...] = ()
    sha256: str | None = None
    dialect: Dialect | None = None
    unread: Mapping[str, str] = field(default_factory=dict)
    annotated: Mapping[str, Labels] = field(default_factory=dict)
    unjudged: Mapping[int, str] = field(default_factory=dict)
    unit: str = "row"
    several_lines: bool = False

    @property
    def origin(self) -> Origin:
        return Origin(self.format, self.unit, tuple(self.table.column_names), self.several_lines)


@dataclass(frozen=True)
class Records(Sequence[TextRecord]):
    """An immutable, Arrow-backed sequence of `TextRecord`; it may be memory-mapped and larger than memory.

    Attributes:
        table: columns ``id`` (string), ``text`` (string), ``label`` (string, list<string> for multi-label, list<struct>
            of spans or of answers; null where missing), ``row`` (int64) and optionally ``text_pair`` and ``group``
            (string).
        path: the file the rows came from, as the user named it, or what a table in memory is called.
        notes: what the user should know of how they were read.
        sha256: of the content of what was read, where it lies in no local file.
        origin: what was read, where it is a table.
    """

    table: pa.Table
    path: str
    notes: tuple[str, ...] = ()
    sha256: str | None = None
    origin: Origin | None = None

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> TextRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Records: ...
    def __getitem__(self, index: int | slice) -> TextRecord | Records:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return self.select(np.arange(len(self))[index])
            return self.with_rows(self.table.slice(start, max(0, stop - start)))  # copies nothing
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return next(self._rows(self.table.slice(index % len(self), 1)))

    def __iter__(self) -> Iterator[TextRecord]:
        for batch in self.table.to_batches(max_chunksize=4096):
            yield from self._rows(pa.Table.from_batches([batch]))

    def _rows(self, table: pa.Table) -> Iterator[TextRecord]:
        pairs = table["text_pair"].to_pylist() if self.has("text_pair") else [None] * table.num_rows
        columns = (table[name].to_pylist() for name in ("id", "text", "label", "row"))
        for (id_, text, label, row), pair in zip(zip(*columns, strict=True), pairs, strict=True):
            yield TextRecord(id_, text, pair, _label(label), row)

    def has(self, column: str) -> bool:
        return column in self.table.column_names

    def select(self, indices: np.ndarray | Sequence[int]) -> Records:
        """The rows at `indices` (int array), in that order, without copying the text where Arrow can avoid it."""
        return self.with_rows(self.table.take(pa.array(np.asarray(indices, dtype=np.int64))))

    def with_rows(self, table: pa.Table) -> Records:
        """Some of the rows, in a table of their own."""
        return Records(table, self.path, self.notes, origin=self.origin)

    @property
    def texts(self) -> list[str]:
        """All texts as Python strings (n,)."""
        return list(self.table["text"].to_pylist())

    @property
    def joined_texts(self) -> list[str]:
        """All texts, the two of a pair joined by a line break (n,)."""
        if not self.has("text_pair"):
            return self.texts
        pairs = self.table["text_pair"].to_pylist()
        return [f"{text}\n{pair or ''}" for text, pair in zip(self.texts, pairs, strict=True)]

    @property
    def labels(self) -> list[Label | None]:
        """All labels as Python values (n,); tuples of texts, of `Span` or of `Answer` where a row may have several."""
        return [_label(value) for value in self.table["label"].to_pylist()]

    @property
    def ids(self) -> list[str]:
        """All identifiers (n,)."""
        return list(self.table["id"].to_pylist())


def _label(value: Any) -> Label | None:
    if not isinstance(value, list):
        return value  # type: ignore[no-any-return]
    if value and isinstance(value[0], dict):
        kind: Any = Span if "label" in value[0] else Answer
        return tuple(kind(**item) for item in value)
    return tuple(value)


def text_records(texts: Sequence[str | tuple[str, str]], source: str, start: int = 1) -> Records:
    """Unlabelled records of texts, or of pairs of texts, that come from a program rather than a file.

    Args:
        source: what errors call them.
        start: number of the first one.

    Raises:
        DataError: something else than text is among them; all such items are named. Or it is one text, no list.
    """
    if isinstance(texts, str):
        raise DataError(f"{source}: expected a list of texts, found one text; put it into a list: [text]")
    rows: list[tuple[str, ...]] = []
    wrong = []
    for number, text in enumerate(texts, start):
        row = tuple(text) if isinstance(text, tuple | list) and len(text) == 2 else (text,)
        halves = [half for part in row if isinstance(part, str) and (half := SURROGATE.search(part))]
        if all(isinstance(part, str) for part in row) and not halves:
            rows.append(row)
        elif halves:
            at, code = halves[0].start() + 1, ord(halves[0][0])
            what = f"half of a surrogate pair (\\u{code:x} alone); remove it or write the whole character"
            wrong.append(f"{source}: item {number}, character {at}: {what}")
        else:
            wrong.append(f"{source}: item {number} is {type(text).__name__}, expected text or a pair of texts")
    if wrong:
        raise DataError(wrong)
    numbers = range(start, start + len(rows))
    columns = {
        "id": pa.array(map(str, numbers), pa.string()),
        "text": pa.array([row[0] for row in rows], pa.string()),
        "label": pa.nulls(len(rows), pa.string()),
        "row": pa.array(numbers, pa.int64()),
    }
    if any(len(row) == 2 for row in rows):
        columns["text_pair"] = pa.array([row[1] if len(row) == 2 else "" for row in rows], pa.string())
    return Records(pa.table(columns), source)
