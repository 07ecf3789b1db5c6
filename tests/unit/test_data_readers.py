"""Readers: round trips, typed formats, folders, sources that are refused, tables kept on disk."""

from __future__ import annotations

import csv
import gzip
import json
import os
import string
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith.config.schema import DataSettings
from tunesmith.data import ENDINGS, FORMATS, read, table
from tunesmith.data.layout import find_layout, to_records
from tunesmith.data.reading import load_records
from tunesmith.errors import DataError, TunesmithError
from tunesmith.registry import lookup

PLAIN = DataSettings()
CLASS_FEATURES = {
    "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
    "text": {"dtype": "string", "_type": "Value"},
}
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\r\t\",;'|"), max_size=30)
tables = st.lists(st.tuples(texts, texts), min_size=1, max_size=8)
in_one_folder = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_every_format_is_there() -> None:
    assert all(callable(lookup(FORMATS, "formats", name)) for name in FORMATS)
    assert set(ENDINGS.values()) <= set(FORMATS)


@given(rows=tables, delimiter=st.sampled_from(",;\t|"), end=st.sampled_from(["\n", "\r\n"]), everything=st.booleans())
@in_one_folder
def test_csv_round_trip(
    tmp_path: Path, rows: list[tuple[str, str]], delimiter: str, end: str, everything: bool
) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        # with "\n" as line end, Python's writer does not quote a lone "\r"
        quoting = csv.QUOTE_ALL if everything or end == "\n" else csv.QUOTE_MINIMAL
        writer = csv.writer(stream, delimiter=delimiter, lineterminator=end, quoting=quoting)
        writer.writerows([("first", "second"), *rows])
    table = read(str(path), DataSettings(delimiter=delimiter)).table
    assert list(zip(table["first"].to_pylist(), table["second"].to_pylist(), strict=True)) == rows


@given(rows=tables, ascii_only=st.booleans(), array=st.booleans())
@in_one_folder
def test_json_round_trip(tmp_path: Path, rows: list[tuple[str, str]], ascii_only: bool, array: bool) -> None:
    objects = [json.dumps({"first": one, "second": two}, ensure_ascii=ascii_only) for one, two in rows]
    path = tmp_path / ("a.json" if array else "a.jsonl")
    path.write_text(f"[{', '.join(objects)}]" if array else "\n".join(objects), encoding="utf-8")
    table = read(str(path), PLAIN).table
    assert list(zip(table["first"].to_pylist(), table["second"].to_pylist(), strict=True)) == rows


@given(data=st.binary(max_size=200) | st.text(string.printable, max_size=200).map(str.encode))
@pytest.mark.parametrize("format", ["csv", "tsv", "jsonl", "json", "fasttext", "parquet", "arrow"])
@settings(parent=in_one_folder, max_examples=60)
def test_only_our_errors_escape(tmp_path: Path, format: str, data: bytes) -> None:
    path = tmp_path / "any"
    path.write_bytes(data)
    try:
        load_records(str(path), DataSettings(format=format))
    except TunesmithError as error:
        assert str(path) in str(error)


def test_rows_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"a\nb",x\n\nc,y\n', encoding="utf-8")
    raw = read(str(path), PLAIN)
    assert raw.rows.tolist() == [2, 5]
    records, _ = load_records(str(path), PLAIN)
    assert [(record.id, record.row) for record in records] == [("2", 2), ("5", 5)]


def test_header_notes(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(", text ,label\n0,a,x\n", encoding="utf-8")
    raw = read(str(path), PLAIN)
    assert raw.table.column_names == ["column 1", "text", "label"]
    assert "'text'" in raw.notes[0] and "column 1" in raw.notes[1]


def test_columns_that_come_later_are_null_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.data.table.BATCH_ROWS", 1)
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"b": 2.0}\n{"a": "x", "b": false}', encoding="utf-8")
    assert read(str(path), PLAIN).table.to_pydict() == {"a": ["1", None, "x"], "b": [None, "2.0", "false"]}


TYPED = {
    "text": pa.array(["a", None, "c"]),
    "whole": pa.array([1, 2, None]),
    "real": pa.array([1.0, 0.5, None]),
    "single": pa.array([0.1, 2.0, None], pa.float32()),
    "flag": pa.array([True, False, None]),
    "words": pa.array(["x", "y", "x"]).dictionary_encode(),
    "list": pa.array([["a", "b"], [], None]),
    "record": pa.array([{"k": 1}, None, {"k": 2}]),
    "bytes": pa.array([b"ab", "é".encode(), None]),
}
AS_TEXT = {
    "text": ["a", None, "c"],
    "whole": ["1", "2", None],
    "real": ["1.0", "0.5", None],
    "single": ["0.1", "2.0", None],
    "flag": ["true", "false", None],
    "words": ["x", "y", "x"],
    "list": ['["a", "b"]', "[]", None],
    "record": ['{"k": 1}', None, '{"k": 2}'],
    "bytes": ["ab", "é", None],
}


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "stream.arrow"])
def test_typed_columns_become_text(tmp_path: Path, name: str) -> None:
    table, path = pa.table(TYPED), str(tmp_path / name)
    if name == "a.parquet":
        pq.write_table(table, path)
    else:
        with (pa.ipc.new_stream if "stream" in name else pa.ipc.new_file)(path, table.schema) as writer:
            writer.write_table(table)
    raw = read(path, PLAIN)
    assert raw.table.to_pydict() == AS_TEXT
    assert raw.rows.tolist() == [1, 2, 3]


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": pa.array([b"\xff\xfe"])}), path)
    with pytest.raises(DataError, match=r"column 'text': values of type binary are not text"):
        load_records(path, PLAIN, need_label=False)


def saved(folder: Path, numbers: list[Any], features: dict[str, Any] = CLASS_FEATURES) -> None:
    """A folder as `datasets` saves it."""
    folder.mkdir(parents=True)
    table = pa.table({"text": [f"text {i}" for i in range(len(numbers))], "label": numbers})
    with pa.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))


def test_saved_dataset(tmp_path: Path) -> None:
    saved(tmp_path / "set", [1, 0, 1])
    records, _ = load_records(str(tmp_path / "set"), PLAIN)
    assert records.labels == ["pos", "neg", "pos"]


def test_saved_dataset_without_labels(tmp_path: Path) -> None:
    saved(tmp_path / "set", [1, -1, None])
    assert read(str(tmp_path / "set"), PLAIN).table["label"].to_pylist() == ["pos", None, None]
    with pytest.raises(DataError, match="rows 2, 3: column 'label' is empty"):
        load_records(str(tmp_path / "set"), PLAIN)


def test_saved_dataset_class_out_of_range(tmp_path: Path) -> None:
    saved(tmp_path / "set", [1, 2])
    with pytest.raises(DataError, match="row 2, column 'label': no name"):
        load_records(str(tmp_path / "set"), PLAIN)


def test_saved_dataset_lists_of_classes(tmp_path: Path) -> None:
    features = {"label": {"feature": CLASS_FEATURES["label"], "_type": "List"}}
    saved(tmp_path / "set", [[0, 1], [1], []], features)
    records, layout = load_records(str(tmp_path / "set"), PLAIN)
    assert layout.shape.task == "multilabel"
    assert records.labels == [("neg", "pos"), ("pos",), ()]


def test_saved_splits(tmp_path: Path) -> None:
    saved(tmp_path / "set" / "train", [1, 0])
    saved(tmp_path / "set" / "test", [1])
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    raw = read(str(tmp_path / "set"), PLAIN, split="train")
    assert raw.table.num_rows == 2 and raw.notes == ("the split 'train' of 'test', 'train'",)
    with pytest.raises(DataError, match=rf"set: holds the splits 'test', 'train'; .*, as in {tmp_path}/set/test$"):
        read(str(tmp_path / "set"), PLAIN)


@pytest.mark.parametrize(
    ("names", "problem"),
    [(["../other.arrow"], "outside the folder; refused"), (["data-00000-of-00001.arrow"] * 2, "names a file twice")],
)
def test_saved_dataset_that_names_other_files(tmp_path: Path, names: list[str], problem: str) -> None:
    saved(tmp_path / "set", [1])
    (tmp_path / "set" / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    with pytest.raises(DataError, match=problem):
        read(str(tmp_path / "set"), PLAIN)


def test_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    made = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: asked.append((name, split)) or made)
    records, _ = load_records("hub:owner/name:test", PLAIN)
    assert asked == [("owner/name", "test")]
    assert records.labels == ["pos", "neg"]


@pytest.mark.parametrize("path", ["hub:", "hub:a/b/c", "hub:../x", "hub:a b"])
def test_hub_name_is_checked(path: str) -> None:
    with pytest.raises(DataError, match="expected hub:owner/name"):
        read(path, PLAIN)


def folder_of(tmp_path: Path, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(content)
    return str(tmp_path / "set")


def test_folder(tmp_path: Path) -> None:
    files = {"pos/2.txt": b"good\nfilm", "neg/1.txt": b"bad", "pos/1": b"", "neg/x.png": b"", "readme.txt": b""}
    records, layout = load_records(folder_of(tmp_path, files), PLAIN)
    rows = [(record.id, record.text, record.label) for record in records]
    assert rows == [("neg/1.txt", "bad", "neg"), ("pos/1", "", "pos"), ("pos/2.txt", "good\nfilm", "pos")]
    assert layout.id == "id"
    assert any("'neg/x.png'" in note and "'readme.txt'" in note for note in records.notes)


def test_folder_with_one_file_in_another_encoding(tmp_path: Path) -> None:
    packed = gzip.compress("¥".encode("latin-1") + b"\n")
    path = folder_of(tmp_path, {"a/1.txt": "10 £".encode("latin-1"), "b/2.txt": "£".encode(), "b/3.txt.gz": packed})
    with pytest.raises(DataError, match=r"'a/1\.txt', 'b/3\.txt\.gz'"):
        read(path, PLAIN)
    (tmp_path / "set/b/3.txt.gz").write_bytes(gzip.compress("¥\n".encode()))
    records, _ = load_records(path, PLAIN)
    assert records.texts == ["10 £", "£", "¥\n"]
    assert any("'a/1.txt'" in note for note in records.notes)


def test_folder_in_another_encoding(tmp_path: Path) -> None:
    path = folder_of(tmp_path, {f"a/{i}.txt": "£".encode("latin-1") for i in range(5)})
    with pytest.raises(DataError, match=r"5 files not utf-8.*data.encoding"):
        read(path, PLAIN)


def test_folder_with_a_link_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    path = folder_of(tmp_path, {"a/1.txt": b"x"})
    (Path(path) / "a" / "2.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match=r"a/2\.txt is a link out of the folder"):
        read(path, PLAIN)


def test_folder_without_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one subfolder per class"):
        read(folder_of(tmp_path, {"1.txt": b"x"}), PLAIN)


@pytest.mark.parametrize("path", ["http://host/a.csv", "s3://bucket/a.csv", "zip://a.csv::http://host/a", "file:///a"])
def test_addresses_are_refused(path: str) -> None:
    with pytest.raises(DataError, match="found an address"):
        read(path, PLAIN)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    for path in (str(tmp_path / "a.csv"), "/dev/zero"):
        with pytest.raises(DataError, match="expected a regular file"):
            read(path, DataSettings(format="csv"))


def test_missing_file_names_a_near_one(tmp_path: Path) -> None:
    (tmp_path / "tickets.csv").write_text("text,label\na,b\n")
    with pytest.raises(DataError, match=r"did you mean 'tickets\.csv'\?"):
        read(str(tmp_path / "tickest.csv"), PLAIN)
    with pytest.raises(DataError, match="no such file"):
        read(str(tmp_path / "none" / "a.csv"), PLAIN)
    with pytest.raises(DataError):
        read(str(tmp_path / ("x" * 5000)), PLAIN)


@pytest.mark.parametrize("after", ['[{"text": "b"}]', "junk", "]", '{"text": "b"}', ","])
def test_what_stands_after_an_array_is_refused(tmp_path: Path, after: str) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"text": "a"},\n {"text": "b"}]\n \n')
    assert read(str(path), PLAIN).table.num_rows == 2
    with path.open("a") as file:
        file.write(after)
    with pytest.raises(DataError, match=r"line 4: more text after the end of the array: .*; write one array, or JSON"):
        read(str(path), PLAIN)


def test_large_tables_are_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MEMORY_BYTES", 1000)
    monkeypatch.setattr("tunesmith.data.table.BATCH_ROWS", 10)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rows = [{"text": f"text number {i}", "label": "ab"[i % 2], **({"more": "x"} if i > 70 else {})} for i in range(100)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    before = pa.total_allocated_bytes()
    raw = read(str(path), PLAIN)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.jsonl"]  # the temporary folder is gone
    assert pa.total_allocated_bytes() - before < raw.table.nbytes
    records = to_records(raw, find_layout(raw, PLAIN))
    assert [(record.text, record.label) for record in records] == [(row["text"], row["label"]) for row in rows]
    some = np.arange(99, -1, -2)
    assert table.take(records.table, some).equals(records.table.take(pa.array(some)))


def test_a_failed_read_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MEMORY_BYTES", 10)
    monkeypatch.setattr("tunesmith.data.table.BATCH_ROWS", 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": "long enough to be kept on disk"}\n{"a": "again"}\n[', encoding="utf-8")
    with pytest.raises(DataError, match="line 3"):
        read(str(path), PLAIN)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,label\n" + "alone\n" * 5),
        ("a.jsonl", '{"text": "a", "label": "b"}\n' + "[]\n" * 5),
        ("a.conll", "EU B-ORG\n" + "alone\n" * 5),
    ],
)
def test_faults_are_told_together_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    for limit, told in ((1000, 5), (3, 3)):
        monkeypatch.setattr(table, "MAX_FAULTS", limit)
        with pytest.raises(DataError) as caught:
            read(str(path), PLAIN)
        (place,) = [problem.split(": ")[1] for problem in caught.value.problems]
        assert place == f"lines {', '.join(str(number) for number in range(2, 2 + told))}"
