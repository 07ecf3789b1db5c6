"""What could be read without a word, and wrongly: it is refused or told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunesmith.config.schema import DataSettings
from tunesmith.data.checks import run_checks
from tunesmith.data.reading import load_records, load_splits, read_new
from tunesmith.data.shapes import SHAPES
from tunesmith.errors import DataError


def test_a_file_for_test_gives_the_rows_that_its_column_says_to_train_and_to_evaluate(tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text("text,label,split\none,a,train\ntwo,b,test\nthree,a,valid\n")
    train = {"text": [f"t{n}" for n in range(6)], "label": [*"ababab"]}
    splits, layout = load_splits({"train": train, "valid": str(new), "test": str(new)}, DataSettings())
    assert (splits["valid"].texts, splits["test"].texts) == (["three"], ["two"])
    assert any("scored are the rows for valid of column 'split'" in note for note in splits["valid"].notes)
    assert read_new(str(new), layout, DataSettings(), DataSettings()).records.texts == splits["test"].texts
    everything = DataSettings(split="none")
    assert len(load_splits({"train": train, "test": str(new)}, everything)[0]["test"]) == 3
    new.write_text("text,label,split\none,a,train\ntwo,b,test\n")
    with pytest.raises(DataError, match=r"has no rows for valid .*; give data\.split=none to take all rows"):
        load_splits({"train": train, "valid": str(new)}, DataSettings())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            '{"text": "x", "label": "b"}\n{"text": "y", "label": {"name": "a"}}',
            "(line|row) 2: .* JSON object",
        ),
        (
            "a.json",
            '{"text": ["x", "y", "z"], "label": ["a", "b"]}',
            "'text' with 3 values, 'label' with 2 values; give",
        ),
        ("a.conll", "Question_ID: 37\nAda B-PER\n", "line 1: expected a token and a tag, found 'Question_ID: 37'"),
        (
            "a.conll",
            "Ada B-PER\n\nQuestion_ID : 3\nBob O\n",
            "line 3: expected a token and a tag, found 'Question_ID : 3'",
        ),
    ],
)
def test_what_is_no_label_column_or_token_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        load_records(str(tmp_path / name), DataSettings())


def test_a_first_line_that_is_an_example_is_proposed_as_no_column_and_told_where_it_is_named(tmp_path: Path) -> None:
    path, first = tmp_path / "a.csv", "Wow this place is loved."
    path.write_text(f"{first},1\nCrust was not good at all.,0\nIt was tasty and fine.,1\n")
    with pytest.raises(DataError, match="the first line looks like an example") as caught:
        load_records(str(path), DataSettings())
    assert f"data.text={first}" not in str(caught.value)
    records, _ = load_records(str(path), DataSettings(text=first, label="1"))
    assert any("the first line looks like an example, and is read as the names" in note for note in records.notes)


@pytest.mark.parametrize("value", [["a", "b"], {"title": "a", "body": "b"}])
def test_texts_that_are_lists_or_objects_are_told(tmp_path: Path, value: object) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": value, "label": label}) + "\n" for label in "xyxy"))
    records, _ = load_records(str(path), DataSettings())
    assert "the texts in 'text' are lists or objects, read as the JSON that stands there" in records.notes


def test_lines_without_a_label_beside_those_with_several_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("__label__a __label__b one\ntwo\n__label__a three\n")
    records, _ = load_records(str(path), DataSettings(format="fasttext"))
    assert records.labels == [("a", "b"), (), ("a",)]
    assert any(note.startswith("line 2: no __label__") for note in records.notes)


def test_spans_that_are_all_empty_are_spans(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"t{n}", "spans": []}) + "\n" for n in range(3)))
    records, layout = load_records(str(path), DataSettings())
    assert layout.form == "spans" and records.labels == [(), (), ()]
    assert any("no row has an" in one.message for one in run_checks({"train": records}, SHAPES["ner"]))
