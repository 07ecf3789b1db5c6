"""What `check` says that it read, and `train` in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tunesmith
from tunesmith.cli import main
from tunesmith.config.schema import DataSettings
from tunesmith.console import read_text
from tunesmith.data.reading import load_splits
from tunesmith.data.summary import Summary, summarise, summary_line

TAGGED = {"tokens": ["Ada", "met", "him"], "tags": ["B-PER", "O", "O"]}
CASES: list[tuple[dict[str, Any], dict[str, tuple[str, ...]], tuple[str, ...], str]] = [
    ({"body": "a b", "topic": "x", "day": "1"}, {"text": ("body",), "label": ("topic",)}, ("day",), "classification"),
    ({"text": "a b", "label": '["x"]'}, {"text": ("text",), "label": ("label",)}, (), "multilabel"),
    ({"text": "a b", "label": "1.5"}, {"text": ("text",), "label": ("label",)}, (), "regression"),
    ({"text": "a b", "spans": [[0, 1, "X"]]}, {"text": ("text",), "label": ("spans",)}, (), "ner"),
    (TAGGED, {"text": ("tokens",), "label": ("tags",)}, (), "ner"),
    ({"premise": "a b", "hypothesis": "c", "label": "x"},
     {"text": ("premise",), "text_pair": ("hypothesis",), "label": ("label",)}, (), "classification"),
    ({"question": "a b", "context": "c", "answers": [{"text": "c", "answer_start": 0}]},
     {"text": ("question",), "text_pair": ("context",), "label": ("answers",), "group": ("context",)}, (), "qa"),
]  # fmt: skip


def read(rows: list[dict[str, Any]], **splits: Any) -> Summary:
    records, layout = load_splits({"train": rows, **splits}, DataSettings())
    return summarise(records, layout, asked=False)


@pytest.mark.parametrize(("row", "columns", "ignored", "task"), CASES)
def test_every_column_has_its_role(
    row: dict[str, Any], columns: dict[str, tuple[str, ...]], ignored: tuple[str, ...], task: str
) -> None:
    found = read([row] * 3)
    assert (found.columns, found.ignored, found.task) == (columns, ignored, task) and found.why
    assert found.lengths["text"]["words"].longest == (3 if "tokens" in row else 2)
    assert json.loads(json.dumps(found.to_dict()))["columns"]["text"] == list(columns["text"])
    assert all(repr(name) in read_text(found) for names in (*columns.values(), ignored) for name in names)


def test_labels_are_counted_by_split_and_a_thousand_stay_legible() -> None:
    rows = [{"text": "a " * (row % 100), "label": f"label {row % 1000}"} for row in range(2000)]
    found = read([*rows, *rows[:5]], valid=rows[:3])
    assert len(found.labels) == 1000 and found.labels["label 2"] == {"train": 3, "valid": 1}
    assert found.lengths["text"]["words"][0] in (49, 50) and found.lengths["text"]["characters"][2] == 198
    shown = read_text(found)
    alike = [{"text": "a", "label": label} for label in ("ship", "ship ", "ship")]
    assert read_text(read(alike)).endswith("2 labels: ship 2, ship␣ 1")
    assert "1,000 labels: label 0 4, label 1 4, " in shown and shown.endswith(", and 980 more")
    assert max(map(len, shown.splitlines())) < 500 and len(shown.splitlines()) == 6
    assert len(read_text(read([{"text": "", "label": "x"}]))) < 300


def test_numbers_and_answers_are_told_as_such() -> None:
    assert read([{"text": "a", "label": f"{value}.5"} for value in range(3)]).values == {
        "lowest": 0.5, "median": 1.5, "highest": 2.5,
    }  # fmt: skip
    answers = [
        {"question": "q", "context": "c", "answers": found} for found in ([{"text": "c", "answer_start": 0}], [])
    ]
    assert read(answers).values == {"questions": 2, "answered": 1}


def test_rows_are_numbered_as_the_file_is_seen(tmp_path: Path) -> None:
    plain, odd = tmp_path / "plain.csv", tmp_path / "odd.csv"
    plain.write_text("text,label\na,x\nb,y\n")
    odd.write_text('text,label\n"a\nb",x\nb,y\n')
    for file, differ in ((plain, False), (odd, True)):
        (part,) = tunesmith.check(file).read.splits.values()
        assert (part.numbered, part.lines_differ, part.format, part.rows) == ("line", differ, "csv", 2)
    odd.write_text("text,label,split\na,x,train\n\nb,y,train\nc,,train\nd,x,test\n")
    for part in tunesmith.check(odd, unlabelled="skip").read.splits.values():
        assert not part.lines_differ
    odd.write_text('text,label,split\n"a\nb",x,train\nb,y,train\nd,x,test\n')
    assert all(part.lines_differ for part in tunesmith.check(odd).read.splits.values())
    assert tunesmith.check([{"text": "a", "label": "x"}]).read.splits["train"].numbered == "row"


def test_the_command_tells_it_and_training_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tickets.csv"
    file.write_text("day,body,topic\n" + "".join(f"1,text {row},{'xy'[row % 2]}\n" for row in range(40)))
    records, layout = load_splits({"train": str(file)}, DataSettings())
    told = "read tickets.csv: 40 rows (train 40); text 'body', label 'topic', ignored 'day'; classification, 2 labels"
    assert summary_line(records, layout) == told
    monkeypatch.setattr("sys.argv", ["tunesmith", "check", str(file), "--task", "classification"])
    with pytest.raises(SystemExit, match="0"):
        main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{file}: csv, 40 rows; rows are numbered by line"
    assert "task: classification (as asked for)" in lines and "2 labels: x 20, y 20" in lines
    monkeypatch.setattr("sys.argv", ["tunesmith", "check", str(file), "--json"])
    with pytest.raises(SystemExit, match="0"):
        main()
    read = json.loads(capsys.readouterr().out)["read"]
    assert read["ignored"] == ["day"] and read["labels"] == {"x": {"train": 20}, "y": {"train": 20}}
