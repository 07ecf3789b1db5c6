"""Tables in memory: every kind gives the same rows, other types are refused by name, what was read has a hash."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith.config.schema import DataSettings
from tunesmith.data import read
from tunesmith.data.layout import Layout
from tunesmith.data.reading import load_records, load_splits, read_new
from tunesmith.data.records import text_records
from tunesmith.data.shapes import ONE_LABEL
from tunesmith.data.sources import source_facts
from tunesmith.errors import DataError
from tunesmith.tasks import shape_of

PLAIN = DataSettings()
COLUMNS: dict[str, list[Any]] = {
    "text": ["a", "b", None],
    "label": ["007", "x", "NA"],
    "number": [1.0, 2.5, None],
    "whole": [1, 2, 3],
    "flag": [True, False, True],
    "list": [["a"], [], ["b", "c"]],
}
ROWS = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]


class Stream:
    """A table of another library: nothing but the protocol."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return pa.table(COLUMNS).__arrow_c_stream__(requested_schema)


SOURCES: dict[str, Any] = {
    "DataFrame": pd.DataFrame(COLUMNS),
    "Dataset": datasets.Dataset.from_dict(COLUMNS),
    "Table": pa.table(COLUMNS),
    "Stream": Stream(),
    "list of dicts": ROWS,
    "dict of columns": COLUMNS,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_table_reads_as_its_parquet_file(tmp_path: Path, kind: str) -> None:
    pq.write_table(pa.table(COLUMNS), tmp_path / "a.parquet")
    expected, raw = read(tmp_path / "a.parquet", PLAIN), read(SOURCES[kind], PLAIN)
    assert raw.table.to_pydict() == expected.table.to_pydict()
    assert raw.rows.tolist() == [1, 2, 3] and raw.path == f"{kind} in memory"
    assert raw.sha256 == read(COLUMNS, PLAIN).sha256


def hash_of(columns: dict[str, list[str]]) -> str:
    """Names, lengths and bytes, however they lie in memory."""
    parts = [
        sha256(part).digest()
        for name, values in columns.items()
        for part in (
            name.encode(),
            b"".join(len(value.encode()).to_bytes(8, "little") for value in values),
            "".join(values).encode(),
        )
    ]
    return sha256(b"".join(parts)).hexdigest()


def test_facts_are_stable_and_tell_contents_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(40)]
    records, _ = load_records(rows, PLAIN)
    facts = source_facts(records)
    assert facts == {
        "path": "list of dicts in memory",
        "sha256": hash_of({name: [row[name] for row in rows] for name in rows[0]}),
        "rows": 40,
    }
    monkeypatch.setattr("tunesmith.data.table.BATCH_ROWS", 7)
    assert source_facts(load_records(rows, PLAIN)[0]) == facts
    for other in (
        rows[::-1],
        [*rows[:-1], {"text": "text 39", "label": None}],
        [*rows[:-1], {"text": "text 3", "label": "9b"}],
    ):
        assert read(other, PLAIN).sha256 != facts["sha256"]
    assert read([{"a": None}], PLAIN).sha256 != read([{"a": ""}], PLAIN).sha256


def test_order_names_and_splits_of_datasets() -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    whole = datasets.Dataset.from_dict({"text": [f"t{i}" for i in range(9)], "label": [0, 1, 1] * 3}, features=features)
    chosen = whole.shuffle(seed=3).filter(lambda row: row["text"] != "t4")
    raw = read(chosen, PLAIN)
    assert raw.table["text"].to_pylist() == chosen["text"][:] and "pos" in raw.table["label"].to_pylist()
    both = datasets.DatasetDict({"train": chosen, "test": whole})
    raw = read(both, PLAIN, split="train")
    assert len(raw.rows) == 8 and raw.notes == ("the split 'train' of 'test', 'train'",)
    with pytest.raises(DataError, match=r"holds the splits 'test', 'train'; give one of them, as in data\['test'\]"):
        read(both, PLAIN, split="dev")
    assert len(read(datasets.DatasetDict({"dev": whole}), PLAIN, split="train").rows) == 9


def test_the_row_labels_of_pandas_are_no_data() -> None:
    frame = pd.DataFrame({"ticket": ["a", "b", "c", "d"], "label": ["x", "y"] * 2}).sample(frac=1, random_state=1)
    records, layout = load_records(frame, PLAIN)
    assert layout.text == "ticket" and records.texts == list(frame["ticket"])
    assert read(frame.set_index("ticket"), PLAIN).table["ticket"].to_pylist() == list(frame["ticket"])


def test_values_of_python_become_text() -> None:
    values = [
        None,
        float("nan"),
        np.nan,
        pd.NA,
        pd.NaT,
        "x",
        3,
        np.int64(3),
        2.0,
        np.float32(0.5),
        True,
        np.bool_(False),
    ]
    values += [Decimal("1.50"), date(2024, 1, 2), b"ab", {"k": np.int64(1)}, (1, "é"), np.array([1, 2])]
    texts = [None] * 5 + ["x", "3", "3", "2.0", "0.5", "true", "false", "1.50", "2024-01-02", "ab", '{"k": 1}']
    texts += ['[1, "é"]', "[1, 2]"]
    assert read([{"v": value} for value in values], PLAIN).table["v"].to_pylist() == texts


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "read from int; give a path, a table"),
        (None, "read from NoneType"),
        (b"a.csv", "read from bytes"),
        ({"a", "b"}, "read from set; give a list of dicts"),
        (np.array(["a"]), r"read from numpy\.ndarray; give a list of dicts"),
        ((row for row in ROWS), "read from generator; give a list of dicts"),
        (["a", "b"], "read from list of str; give a list of dicts"),
        ([{"text": "a"}, "b"], "read from list of str"),
        ([], "no rows"),
        ({}, "no rows"),
        (pd.DataFrame(), "no rows"),
        ({"text": "abc"}, r"column 'text' is str, expected a list of values; a single row goes into a list: \[\{…\}\]"),
        ({"text": 3}, "column 'text' is int"),
        ({"a": [1, 2], "b": [1]}, "different lengths: 'a' has 2, 'b' has 1"),
        (pd.Series(["a"]), "Series in memory: cannot be read as a table with named columns"),
        (pd.DataFrame([["a", "b"]], columns=["t", "t"]), "Duplicate column names"),
        (pa.table([["a"], ["b"]], names=["text", "text"]), "two columns have the same name among 'text', 'text'"),
        ([{"1": "x", 1: "y"}], "row 1: two columns have the same name"),
        ({"1": ["x"], 1: ["y"]}, "two columns have the same name"),
        (datasets.Dataset.from_dict({"a": [1]}).to_iterable_dataset(), r"read from datasets\.IterableDataset"),
    ],
)
def test_what_is_no_table_is_refused_by_its_type(source: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(source, PLAIN)


def test_an_open_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,b\n")
    with (tmp_path / "a.csv").open() as stream, pytest.raises(DataError, match="TextIOWrapper; give its path"):
        read(stream, PLAIN)


def test_tables_in_memory_are_split_checked_and_read_anew() -> None:
    rows = [{"ticket": f"text {i}", "label": "ab"[i % 2]} for i in range(40)]
    splits, layout = load_splits({"train": pd.DataFrame(rows)}, PLAIN, shape_of("classification"))
    assert len(splits["train"]) == 40
    new = read_new([{"date": 3, "ticket": "x", "label": "a"}], layout, PLAIN, PLAIN).records
    assert (new.texts, new.labels, new.ids) == (["x"], ["a"], ["1"])


UNION = pa.UnionArray.from_sparse(pa.array([0, 0], pa.int8()), [pa.array(["a", "b"])])
UNREADABLE: dict[str, Callable[[str], Any]] = {
    "mixed": lambda name: pd.DataFrame({"text": ["a", "b"], name: [1, "b"]}),
    "complex": lambda name: pd.DataFrame({"text": ["a", "b"], name: [1j, 2]}),
    "sparse": lambda name: pd.DataFrame({"text": ["a", "b"], name: pd.arrays.SparseArray([0, 1])}),
    "bytes": lambda name: pa.table({"text": ["a", "b"], name: [b"\xff", b"a"]}),
    "union": lambda name: pa.table({"text": pa.array(["a", "b"]), name: UNION}),
    "objects": lambda name: [{"text": "a", name: object()}, {"text": "b", name: "c"}],
    "columns": lambda name: {"text": ["a", "b"], name: [b"\xff", "c"]},
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_columns_without_text_matter_only_where_they_are_needed(kind: str) -> None:
    layout = Layout(ONE_LABEL, "text", labels=("label",))
    new = read_new(UNREADABLE[kind]("extra"), layout, PLAIN, PLAIN, need_label=False).records
    assert new.texts == ["a", "b"] and "without the columns that cannot be read as text: 'extra'" in new.notes
    for settings in (PLAIN, DataSettings(label="label")):
        with pytest.raises(DataError, match=r"column 'label'.* not text"):
            read_new(UNREADABLE[kind]("label"), layout, settings, settings)
    with pytest.raises(DataError, match=r"column 'label'.* not text"):
        load_records(UNREADABLE[kind]("label"), PLAIN)
    assert load_records(UNREADABLE[kind]("extra"), PLAIN, need_label=False)[0].texts == ["a", "b"]


def test_values_that_do_not_become_text_are_told() -> None:
    with pytest.raises(DataError, match="row 2: column 'text': a value of type object"):
        load_records([{"text": "a"}, {"text": object()}, {"text": b"\xff"}], PLAIN, need_label=False)


def test_run_end_encoded_columns_are_text() -> None:
    labels = pa.RunEndEncodedArray.from_arrays([2, 3], ["good", "bad"])
    raw = read(pa.table({"text": pa.array(["a", "b", "c"]), "label": labels}), PLAIN)
    assert raw.table["label"].to_pylist() == ["good", "good", "bad"]


@pytest.mark.parametrize("text", ["a\ud800b", ("good", "a\ud800")])
def test_half_a_character_is_told_with_its_place(text: Any) -> None:
    with pytest.raises(DataError) as caught:
        text_records(["good", text], "predict")
    said = "half of a surrogate pair (\\ud800 alone); remove it or write the whole character"
    assert str(caught.value) == f"predict: item 2, character 2: {said}"
