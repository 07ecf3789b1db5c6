"""JSON, cells and names made to cost time or memory, or to be read otherwise than they are written."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tunesmith.config.schema import DataSettings
from tunesmith.data import lines, read, table
from tunesmith.data.jsontext import MAX_DEPTH, parse
from tunesmith.data.layout import Layout
from tunesmith.data.layout.cells import offset
from tunesmith.data.layout.listed import list_items
from tunesmith.data.layout.numbers import NUMERAL
from tunesmith.data.layout.spans import tagged_columns
from tunesmith.data.readers import jsonlines
from tunesmith.data.reading import load_records
from tunesmith.data.shapes import ONE_LABEL
from tunesmith.errors import DataError
from tunesmith.spelling import spell

MANY = 100_000


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def to_file(text: str, name: str = "data.json") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return to_file


def test_each_of_many_keys_is_looked_at_once() -> None:
    keys = "".join(f'"k{n}": 1, ' for n in range(MANY))
    with pytest.raises(ValueError, match="key 'z' stands twice"):
        parse(f'{{{keys}"z": 1, "z": 2}}')


@pytest.mark.parametrize("depth", [MAX_DEPTH - 2, MAX_DEPTH + 1, 900, MANY])
def test_nested_values_are_read_to_a_depth(write: Any, depth: int) -> None:
    path = write(json.dumps({"text": "a", "label": 0}).replace("0", "[" * depth + "]" * depth), "data.jsonl")
    if depth < MAX_DEPTH:
        assert read(path, DataSettings()).table["label"].to_pylist() == ["[" * depth + "]" * depth]
        return
    with pytest.raises(DataError, match="line 1: not a valid row: nested"):
        read(path, DataSettings())


@pytest.mark.parametrize(
    "cell", ["1" * 32_000 + "x", "1." + "0" * MANY + "x", "[" + "1" * MANY + "x!]", "['a', " * MANY]
)
def test_digits_are_passed_once(cell: str) -> None:
    assert not NUMERAL.fullmatch(cell)
    list_items(cell)


def test_a_list_with_spaces_at_its_end_is_passed_once() -> None:
    assert list_items("[" + "'a', " * MANY + " " * MANY + "]") == ["a"] * MANY


def test_offsets_have_few_digits(write: Any) -> None:
    assert offset(parse("12")) == 12 and offset(parse("9" * 10_000)) is None
    row = json.dumps({"text": "one two", "spans": [{"start": 0, "end": 3, "label": "A"}]})
    with pytest.raises(DataError, match="spans"):
        load_records(write(row.replace("3", "9" * 10_000) + "\n", "data.jsonl"), DataSettings())


def test_an_array_is_read_in_parts(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": f"text {n} " + "x" * (n % 40), "label": n} for n in range(200)]
    for room in (97, 101, 250, 10_000):
        monkeypatch.setattr(jsonlines, "ROW_LIMIT", room)
        apart = json.dumps(rows).replace("}, {", "}   \n\n  ,{") + " \n"
        for text in (json.dumps(rows), json.dumps(rows, indent=1), apart):
            found = read(write(text), DataSettings()).table
            assert found["text"].to_pylist() == [row["text"] for row in rows]
            assert found["label"].to_pylist() == [str(row["label"]) for row in rows]
    monkeypatch.setattr(jsonlines, "ROW_LIMIT", 50)
    with pytest.raises(DataError, match="more than 50 characters"):
        read(write(json.dumps([{"text": "a" * 60}])), DataSettings())
    for text, what in {
        "[1] x": "more text after the end",
        '[{"a": 1} {"a": 2}]': "expected ','",
        '[{"a": 1}, ': "Expecting",
    }.items():
        with pytest.raises(DataError, match=what):
            read(write(text), DataSettings())


def test_other_keys_in_every_row_are_refused(write: Any) -> None:
    rows = "".join(f'{{"text": "a", "k{n}": 1}}\n' for n in range(9_000))
    with pytest.raises(DataError, match="9,001 different keys in its rows, of which each has few"):
        read(write(rows, "data.jsonl"), DataSettings())


def test_a_token_keeps_the_spaces_that_are_part_of_it(write: Any) -> None:
    row = {"tokens": ["10\u00a0000", "\u00a0", "", "New\tYork"], "tags": ["B-N", "O", "O", "B-P"]}
    raw = read(write(json.dumps(row) + "\n", "data.jsonl"), DataSettings())
    text, spans, _ = tagged_columns(raw, "tokens", "tags")
    assert text.to_pylist() == ["10\u00a0000 \u00a0 _ New York"]
    assert [span["label"] for span in spans.to_pylist()[0]] == ["N", "P"]


def test_long_messages_keep_their_beginning_and_their_advice() -> None:
    said = spell(f"data.csv: {'a' * MANY}; give data.text=COLUMN", ["--text"])
    assert len(said) < 5000 and said.startswith("data.csv: aaa") and said.endswith("give --text COLUMN")


def test_a_line_without_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "ROW_LIMIT", 100)
    for encoding in ("utf-8", "utf-16"):
        (tmp_path / "data.txt").write_text("short\n" + "a" * 1000, encoding=encoding)
        settings = DataSettings(encoding=encoding)
        reader = lines.LineReader(str(tmp_path / "data.txt"), Layout(ONE_LABEL, "text"), DataSettings(), settings)
        with pytest.raises(DataError, match=r"data\.txt, line 2: more than 100 characters in one line"):
            list(reader.chunks(10))


def test_what_is_put_on_disk_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, make = list[str](), tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda prefix: made.append(prefix) or make(prefix=prefix))
    monkeypatch.setattr(table, "MEMORY_BYTES", 1000)
    with table.BatchStore() as store:
        for number in range(5):
            store.add(pa.table({"text": [f"{number} {'x' * 100}"] * 20}))
        assert not list(tmp_path.iterdir())
        assert "".join(text[0] for text in store.table()["text"].to_pylist()) == "".join(20 * str(n) for n in range(5))
    assert len(made) == 1  # a process may not have many open


def test_long_lines_come_fewer_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BATCH_CHARACTERS", 100)
    (tmp_path / "data.txt").write_text("short\n" * 4 + f"{'a' * 101}\n" * 3 + "short\n")
    reader = lines.LineReader(str(tmp_path / "data.txt"), Layout(ONE_LABEL, "text"), DataSettings(), DataSettings())
    assert [data.records.ids for data in reader.chunks(3)] == [["1", "2", "3"], ["4", "5"], ["6"], ["7"], ["8"]]
