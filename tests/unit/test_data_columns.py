"""Which column is what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tunesmith.config.schema import DataSettings
from tunesmith.data import keys
from tunesmith.data.layout import Layout, find_layout, to_records
from tunesmith.data.reading import load_splits
from tunesmith.data.records import RawTable
from tunesmith.data.shapes import ONE_LABEL, SHAPES
from tunesmith.data.table import is_empty
from tunesmith.errors import DataError


def raw(**columns: list[str | None]) -> RawTable:
    table = pa.table({name.replace("__", " "): pa.array(values, pa.large_string()) for name, values in columns.items()})
    return RawTable(table, np.arange(2, 2 + table.num_rows), "a.csv", "csv")


def layout(table: RawTable, task: str | None = None, need_label: bool = True, **flags: Any) -> Layout:
    return find_layout(table, DataSettings(**flags), SHAPES[task] if task else None, need_label)


def test_names_by_priority() -> None:
    found = layout(raw(title=["a"], body=["b"], score=["x"], category=["y"]))
    assert (found.text, found.labels) == ("body", ("category",))


@pytest.mark.parametrize(
    ("first", "second"),
    [("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("Question1", "Question2")],
)
def test_pairs_by_name(first: str, second: str) -> None:
    table = raw(**{first: ["a"], second: ["b"], "label": ["x"]})
    found = layout(table)
    assert (found.text, found.text_pair) == (first, second)
    (record,) = to_records(table, found)
    assert (record.text, record.text_pair, record.label) == ("a", "b", "x")


def test_flags_decide() -> None:
    table = raw(text=["a"], other=["b"], third=["c"], label=["x"], target=["y"], who=["z"], key=["k"])
    found = layout(table, text="other", text_pair="third", label="target", group="who", id="key")
    assert found == Layout(ONE_LABEL, "other", "third", ("target",), group="who", id="key")
    (record,) = to_records(table, found)
    assert (record.id, record.text, record.text_pair, record.label, record.row) == ("k", "b", "c", "y", 2)


def test_all_missing_columns_at_once() -> None:
    with pytest.raises(DataError) as caught:
        layout(raw(a=["x"], b=["y"]), text="t", label="l", group="g", id="i")
    flags = [problem.split(":")[1].strip() for problem in caught.value.problems]
    assert flags == ["data.label", "data.text", "data.group", "data.id"]


def test_no_label_needed() -> None:
    table = raw(message=["a", "b"])
    found = layout(table, need_label=False)
    assert found.labels == ()
    assert to_records(table, found).labels == [None, None]
    with pytest.raises(DataError, match="no column 'gone'"):  # what is named must be there
        layout(table, need_label=False, label="gone")


def test_labels_are_not_read_where_none_are_needed() -> None:
    blank = raw(text=["a", "b"], label=["x", ""])
    assert to_records(blank, layout(blank, need_label=False)).labels == [None, None]


@pytest.mark.parametrize("task", ["classification", "regression", "multilabel"])
def test_task_decides(task: str) -> None:
    assert layout(raw(text=["a", "b"], label=["1", "0"]), task).shape.task == task


def test_task_and_several_label_columns() -> None:
    with pytest.raises(DataError, match=r"task\.name=regression needs one label column"):
        layout(raw(text=["a"], x=["1"], y=["0"]), "regression", label="x,y")


def test_multilabel_with_commas_when_said() -> None:
    table = raw(text=["a", "b"], label=["x, y,x", "z"])
    found = layout(table, "multilabel")
    assert found.separator == ","
    assert to_records(table, found).labels == [("x", "y"), ("z",)]


def test_regression_says_so() -> None:
    assert "read as regression (task.name=classification" in layout(raw(text=["a"], label=["0.5"])).notes[0]


def test_layout_of_the_training_file_is_used_for_others() -> None:
    found = layout(raw(text=["a", "b", "c"], label=["x|y", "x", "y"]))
    assert to_records(raw(text=["d"], label=["x"]), found).labels == [("x",)]
    with pytest.raises(DataError, match="no column 'label'; columns there: 'text', 'other'"):
        to_records(raw(text=["d"], other=["x"]), found)


def test_usual_id_columns() -> None:
    assert layout(raw(ID=["1", "2"], text=["a", "b"], label=["x", "y"])).id == "ID"
    found = layout(raw(id=["1", "1"], text=["a", "b"], label=["x", "y"]))
    assert found.id is None and "rows are named by their number" in found.notes[0]


def test_identifiers_that_no_flag_names_need_not_be_in_every_file(tmp_path: Path) -> None:
    train, bare, repeated = (tmp_path / f"{name}.csv" for name in ("train", "bare", "repeated"))
    train.write_text("id,text,label\n7,a,x\n8,b,y\n")
    bare.write_text("text,label\nc,x\n")
    repeated.write_text("id,text,label\n1,c,x\n1,d,y\n")
    splits, _ = load_splits({"train": str(train), "valid": str(bare), "test": str(repeated)}, DataSettings())
    assert [records.ids for records in splits.values()] == [["7", "8"], ["2"], ["2", "3"]]
    with pytest.raises(DataError, match="repeats an identifier"):
        load_splits({"train": str(train), "test": str(repeated)}, DataSettings(id="id"))


@pytest.mark.parametrize("same_key", [False, True])
def test_repeated_values_are_found_whatever_their_keys(same_key: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    column = pa.chunked_array([["a", "b", None, "ab"], [], ["b", "c", "", "B"]], pa.large_string())
    if same_key:
        monkeypatch.setattr(keys, "column_keys", lambda column: np.zeros(len(column), dtype=np.uint64))
    assert keys.repeated(column).tolist() == [False, True, True, False, True, False, True, False]
    assert keys.repeated(column.slice(5, 1)).tolist() == [False] and not len(keys.repeated(column.slice(8)))


def test_what_is_blank() -> None:
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    column = pa.chunked_array([every, ["", None, " \t\n", "\xa0 \u3000", " a"]], pa.large_string())
    found = is_empty(column).to_pylist()
    blank = {one for one, empty in zip(every, found, strict=False) if empty}
    assert blank == {one for one in every if one.isspace()} and found[len(every) :] == [True, True, True, True, False]


def test_rows_without_id_are_named_by_their_line() -> None:
    records = to_records(raw(text=["a", None], label=["x", "y"]), Layout(ONE_LABEL, "text", labels=("label",)))
    assert (records.ids, records.texts) == (["2", "3"], ["a", ""])


@pytest.mark.parametrize("cell", ["1", '{"1": 2}', "x"])
def test_a_cell_of_another_file_that_is_no_list_of_zeros_and_ones_is_refused(cell: str) -> None:
    train = [{"text": f"text {i}", "label": ["[0, 1]", "[1, 0]"][i % 2]} for i in range(10)]
    valid = [{"text": "a", "label": "[1, 1]"}, {"text": "b", "label": cell}]
    with pytest.raises(DataError, match="row 2: column 'label' is not a list of labels"):
        load_splits({"train": train, "valid": valid}, DataSettings(), SHAPES["multilabel"])
