"""Files that expand beyond all measure, or whose parts contradict each other: one line, soon, in little memory."""

from __future__ import annotations

import gzip
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith.config.schema import DataSettings
from tunesmith.data import expansion, read
from tunesmith.data.workbook import BEGIN, END, HEAD, PARTS
from tunesmith.errors import DataError

LONG = "word " * 200_000
ROWS = 100_000


def _write_arrow(path: Path, table: pa.Table, compression: str | None = None) -> None:
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)


def _labelled(text: pa.Array) -> pa.Table:
    return pa.table({"text": text, "label": pa.nulls(len(text), pa.string())})


def _runs(value: str) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array([ROWS], pa.int32()), pa.array([value]))


def _views(value: list[str]) -> pa.Array:
    zeros, sizes = pa.array(np.zeros(ROWS, np.int32)), pa.array(np.full(ROWS, len(value), np.int32))
    return pa.ListViewArray.from_arrays(zeros, sizes, pa.array(value))


ONE_FOR_ALL = pa.array(np.zeros(ROWS, np.int32))
ARROW: dict[str, Callable[[], pa.Array]] = {
    "a dictionary of one text": lambda: pa.DictionaryArray.from_arrays(ONE_FOR_ALL, pa.array([LONG])),
    "one run": lambda: _runs(LONG),
    "views of one list": lambda: _views([LONG]),
    "lists of a dictionary": lambda: pa.ListArray.from_arrays(
        pa.array(np.arange(ROWS + 1, dtype=np.int32)), pa.DictionaryArray.from_arrays(ONE_FOR_ALL, pa.array([LONG]))
    ),
    "nothing, many times": lambda: pa.nulls(10**9),
    "lists of nothing": lambda: pa.FixedSizeListArray.from_arrays(pa.nulls(10**9), 10_000),
}


@pytest.mark.parametrize("name", ARROW)
def test_arrow_expands_only_so_far(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data.arrow"
    _write_arrow(path, pa.table({"text": ARROW[name]()}))
    with pytest.raises(DataError, match=r"expands to more than 100 times its size; .* data.expansion=1000"):
        read(str(path), DataSettings())


def test_arrow_buffers_expand_only_so_far(tmp_path: Path) -> None:
    path = tmp_path / "data.arrow"
    _write_arrow(path, _labelled(pa.array(["a" * 10**6] * 100)), "zstd")
    assert path.stat().st_size < 10**6
    with pytest.raises(DataError, match="more than 100 times"):
        read(str(path), DataSettings())
    assert len(read(str(path), DataSettings(expansion=100_000)).rows) == 100


PARQUET: dict[str, dict[str, Any]] = {
    "a dictionary": {"compression": "zstd"},
    "pages": {"compression": "zstd", "use_dictionary": False},
    "values by those before": {
        "compression": "zstd",
        "use_dictionary": False,
        "column_encoding": {"text": "DELTA_BYTE_ARRAY"},
    },
}


@pytest.mark.parametrize("name", PARQUET)
def test_parquet_expands_only_so_far(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data.parquet"
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())]), **PARQUET[name]) as writer:
        for _ in range(10):
            writer.write_table(pa.table({"text": [LONG] * 10}))
    assert path.stat().st_size < 10**6
    with pytest.raises(DataError, match="more than 100 times"):
        read(str(path), DataSettings())
    assert len(read(str(path), DataSettings(expansion=100_000)).rows) == 100


def test_parquet_without_values_is_not_laid_out(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"text": pa.nulls(20_000_000, pa.string())}), path)
    with pytest.raises(DataError, match="more than 100 times"):
        read(str(path), DataSettings())


def test_gzip_has_the_same_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansion, "HARMLESS_BYTES", 2**20)
    with gzip.open(tmp_path / "data.csv.gz", "wt") as file:
        file.write("text,label\n" + "a,b\n" * 10**6)
    with pytest.raises(DataError, match="more than 100 times"):
        read(str(tmp_path / "data.csv.gz"), DataSettings())
    assert len(read(str(tmp_path / "data.csv.gz"), DataSettings(expansion=10_000)).rows) == 10**6


def test_rows_before_a_sheet_are_not_counted(tmp_path: Path) -> None:
    workbook = tmp_path / "data.xlsx"
    with zipfile.ZipFile(workbook, "w") as archive:
        for name, part in PARTS.items():
            archive.writestr(name, HEAD + part)
        archive.writestr("xl/worksheets/sheet1.xml", f'{BEGIN}<row r="4294967295"><c><v>1</v></c></row>{END}')
    with pytest.raises(DataError, match=r"data\.xlsx: not a readable workbook \(a cell in row 4,294,967,295"):
        read(str(workbook), DataSettings())


def _damaged(kind: str) -> pa.Array:
    """Arrays that contradict themselves, and crash what follows them."""
    text = pa.array(["one", "two", "three"])
    if kind == "offsets":
        wild = pa.py_buffer(np.array([0, 3, 2**30, 11], np.int32))
        return pa.Array.from_buffers(pa.string(), 3, [None, wild, text.buffers()[2]])
    if kind == "nested offsets":
        wild = pa.py_buffer(np.array([0, 1, 2**30, 3], np.int32))
        return pa.Array.from_buffers(pa.list_(pa.string()), 3, [None, wild], children=[text])
    if kind == "indices":
        return pa.DictionaryArray.from_arrays(pa.array([0, 99, 10**6], pa.int32()), text, safe=False)
    wild = pa.py_buffer(np.array([5, 2, 10**6], np.int32))
    ends = pa.Array.from_buffers(pa.int32(), 3, [None, wild])
    return pa.Array.from_buffers(pa.run_end_encoded(pa.int32(), pa.string()), 3, [None], children=[ends, text])


@pytest.mark.parametrize("kind", ["offsets", "nested offsets", "indices", "runs"])
def test_damaged_arrow_is_refused_before_it_is_decoded(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data.arrow"
    _write_arrow(path, pa.table({"text": _damaged(kind), "label": pa.array(["a", "b", "a"])}))
    with pytest.raises(DataError, match=r"data\.arrow: not a readable Arrow"):
        read(str(path), DataSettings())


def test_views_of_missing_values_are_not_followed(tmp_path: Path) -> None:
    text = pa.array(["a text that is longer than twelve", None, "short"]).cast(pa.string_view())
    valid, views, data = text.buffers()
    wild = np.frombuffer(views, np.int32).reshape(-1, 4).copy()
    wild[1] = 10**9, 1, 10**9, 10**9
    text = pa.Array.from_buffers(pa.string_view(), 3, [valid, pa.py_buffer(wild), data])
    path = tmp_path / "data.arrow"
    _write_arrow(path, pa.table({"text": text, "label": ["a", "b", "a"]}))
    assert read(str(path), DataSettings()).table["text"].to_pylist() == [
        "a text that is longer than twelve",
        None,
        "short",
    ]


def test_runs_dictionaries_and_views_hold_the_same_text(tmp_path: Path) -> None:
    text = pa.array(["a", "a", None, "c"] * 5)
    ends = pa.array(np.arange(1, 21, dtype=np.int32))
    runs = pa.RunEndEncodedArray.from_arrays(ends, text)
    columns = {"plain": text, "runs": runs, "words": text.dictionary_encode(), "views": text.cast(pa.string_view())}
    for name, table in {"whole": pa.table(columns), "part": pa.table(columns).slice(3, 9)}.items():
        path = tmp_path / f"{name}.arrow"
        _write_arrow(path, table)
        found = read(str(path), DataSettings()).table
        assert all(found[column].to_pylist() == found["plain"].to_pylist() for column in columns)


def test_what_is_validated_again_and_again_counts_as_expansion(tmp_path: Path) -> None:
    _, views, data = pa.array([LONG]).cast(pa.string_view()).buffers()
    many = pa.py_buffer(np.tile(np.frombuffer(views, np.int32)[:4], ROWS))
    shared = pa.Array.from_buffers(pa.string_view(), ROWS, [None, many, data])
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(9_000, np.int32)), pa.array([""] * 200_000))
    for column, rows in (pa.ListArray.from_arrays([0, ROWS], shared), None), (words, 1):
        path, table = tmp_path / "data.arrow", pa.table({"text": column})
        with pa.ipc.new_stream(str(path), table.schema) as writer:
            writer.write_table(table, rows)
        begin = time.process_time()
        with pytest.raises(DataError, match="expands to more than 100 times its size"):
            read(str(path), DataSettings())
        assert time.process_time() - begin < 5


def test_a_cut_arrow_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.arrow"
    table = pa.table({"text": [f"text {n}" for n in range(100)], "label": ["a", "b"] * 50})
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, 10)
    whole = path.read_bytes()
    for size in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError):
            read(str(path), DataSettings())
