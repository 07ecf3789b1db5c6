"""What a file is has one answer: found for the training file, kept with the run, used by every command."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import TypeAdapter

import tunesmith
from tunesmith.cli import main
from tunesmith.config.loading import resolve
from tunesmith.config.schema import DataSettings
from tunesmith.data.checks import run_checks
from tunesmith.data.layout import Layout, find_layout, layout_of_other, to_records
from tunesmith.data.lines import LineReader
from tunesmith.data.reading import load_splits, read_new
from tunesmith.data.records import Dialect, RawTable
from tunesmith.data.shapes import ANSWERS, ONE_LABEL, SHAPES, SPANS, RecordShape
from tunesmith.data.texts import read_texts
from tunesmith.errors import DataError, ModelError
from tunesmith.models.sealed import seal
from tunesmith.opening import read_splits, tell
from tunesmith.progress import Progress

ROWS = 40
NAMES = ["Ada", "Alan", "Grace", "Edsger"]
LABELS = ["good", "bad"]


def sentence(row: int) -> str:
    return f"{NAMES[row % 4]} saw film {row}"


def span(row: int, **names: str) -> dict[str, Any]:
    start, end, label = (names.get(name, name) for name in ("start", "end", "label"))
    return {start: 0, end: len(NAMES[row % 4]), label: "PER"}


def json_lines(*rows: dict[str, Any]) -> str:
    return "\n".join(map(json.dumps, rows))


def studio_task(row: int) -> dict[str, Any]:
    value = {"start": 0, "end": len(NAMES[row % 4]), "labels": ["PER"], "text": NAMES[row % 4]}
    return {"data": {"text": sentence(row)}, "annotations": [{"result": [{"type": "labels", "value": value}]}]}


def question(row: int) -> dict[str, Any]:
    answer = {"text": NAMES[row % 4], "answer_start": 0}
    return {"question": f"Who saw film {row}?", "context": sentence(row), "answers": [answer]}


ALL = range(ROWS)
ARTICLES = [
    {"title": f"t{row}", "paragraphs": [{"context": sentence(row), "qas": [{"id": f"q{row}"} | question(row)]}]}
    for row in ALL
]
FILES: dict[str, tuple[str, str]] = {
    "csv": ("a.csv", "text,label\n" + "".join(f"{sentence(row)},{LABELS[row % 2]}\n" for row in ALL)),
    "csv, other names": ("a.csv", "ticket,category\n" + "".join(f"{sentence(row)},{LABELS[row % 2]}\n" for row in ALL)),
    "json lists": ("a.jsonl", json_lines(*({"text": sentence(row), "labels": [LABELS[row % 2]]} for row in ALL))),
    "span lines": ("a.jsonl", json_lines(*({"text": sentence(row), "spans": [span(row)]} for row in ALL))),
    "questions": ("a.jsonl", json_lines(*map(question, ALL))),
    "squad": ("a.json", json.dumps({"data": ARTICLES})),
    "conll": ("a.conll", "\n".join(f"{NAMES[row % 4]} B-PER\nsaw O\nfilm O\n{row} O\n" for row in ALL)),
    "tokens": ("a.jsonl", json_lines(*({"tokens": sentence(r).split(), "ner_tags": ["B-PER", *"OOO"]} for r in ALL))),
    "label studio": ("a.json", json.dumps([studio_task(row) for row in ALL])),
    "doccano": ("a.jsonl", json_lines(*({"text": sentence(row), "label": [list(span(row).values())]} for row in ALL))),
    "prodigy": (
        "a.jsonl",
        json_lines(*({"text": sentence(row), "tokens": [], "spans": [span(row)], "answer": "accept"} for row in ALL)),
    ),
    "fasttext": ("a.txt", "".join(f"__label__{LABELS[row % 2]} {sentence(row)}\n" for row in ALL)),
}


@pytest.mark.parametrize("format", [*FILES, "folder"])
def test_adapt_learns_from_no_test_row_of_train(tmp_path: Path, format: str) -> None:
    if format == "folder":
        path = tmp_path / "set"
        for row in ALL:
            (path / LABELS[row % 2]).mkdir(parents=True, exist_ok=True)
            (path / LABELS[row % 2] / f"{row}.txt").write_text(sentence(row))
        (path / "more" / "deep").mkdir(parents=True)
        (path / "more" / "deep" / "a.txt").write_text("a text of no class")
    else:
        path = tmp_path / FILES[format][0]
        path.write_text(FILES[format][1])
    config = resolve(options={"seed": 3})
    splits, layout, _ = read_splits({"train": str(path)}, config)
    found = read_texts({"train": str(path)}, config.data, None, 3, True)
    learned, held_out = set(found.train.to_pylist()), set(found.held_out.to_pylist())
    both = ("text", "text_pair") if splits["test"].has("text_pair") else ("text",)
    texts = {name: {text for c in both for text in part.table[c].to_pylist()} for name, part in splits.items()}
    assert len(splits["test"]) == ROWS // 10 and layout.labels
    assert not learned & texts["test"]
    assert held_out == texts["valid"]
    assert learned == texts["train"] | ({"a text of no class"} if format == "folder" else set())


def test_adapt_uses_the_flags_of_train(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("who,a,b\n" + "".join(f"{row // 4},{sentence(row)},{LABELS[row % 2]}\n" for row in ALL))
    config = resolve(options={"seed": 2, "text": "a", "label": "b", "group": "who", "task": "classification"})
    splits, _, _ = read_splits({"train": str(path)}, config)
    found = read_texts({"train": str(path)}, config.data, SHAPES["classification"], 2, True)
    assert set(found.train.to_pylist()) == set(splits["train"].texts)


def raw(**columns: list[str | None]) -> RawTable:
    table = pa.table({name: pa.array(values, pa.large_string()) for name, values in columns.items()})
    return RawTable(table, np.arange(2, 2 + table.num_rows), "a.csv", "csv")


def test_a_layout_survives_json() -> None:
    for layout in (
        Layout(ONE_LABEL, "ticket", labels=("label",), group="who", notes=("read",)),
        Layout(RecordShape("foreign", "several", "topic"), "a", "b", ("x", "y"), "columns"),
        Layout(SPANS, "body", labels=("entities",), form="spans"),
        Layout(ANSWERS, "question", "context", ("answers",), "answers", group="context", id="id"),
    ):
        assert TypeAdapter(Layout).validate_json(json.dumps(layout.to_dict())) == layout
        assert not layout.contradictions()


def test_extra_columns_never_matter() -> None:
    first = find_layout(raw(ticket=["a"], label=["x"]), DataSettings())
    other = raw(date=["1"], text=["no"], text_pair=["no"], tags=["no"], ticket=["b"], spans=["[]"], label=["y"])
    for need_label in (True, False):
        found = layout_of_other(other, first, DataSettings(), need_label)
        (record,) = to_records(other, found)
        assert (record.text, record.text_pair, record.label) == ("b", None, "y" if need_label else None)


def test_what_is_said_now_wins() -> None:
    first = find_layout(raw(ticket=["a", "c"], label=["x|y", "y"], id=["1", "2"]), DataSettings(), SHAPES["multilabel"])
    other = raw(ticket=["a"], label=["x"], body=["b"], topics=["x|y"], key=["7"])
    found = layout_of_other(other, first, DataSettings(text="body", label="topics", id="key"))
    (record,) = to_records(other, found)
    assert (record.id, record.text, record.label) == ("7", "b", ("x", "y"))
    found = layout_of_other(other, first, DataSettings(text="body"))
    assert (found.text, found.labels) == ("body", ("label",))
    with pytest.raises(DataError, match=r"data\.text: no column 'gone'"):
        layout_of_other(other, first, DataSettings(text="gone"))


def test_a_column_that_is_not_there_is_looked_for_and_said() -> None:
    first = find_layout(raw(ticket=["a"], label=["x"]), DataSettings())
    found = layout_of_other(raw(message=["b"], date=["1"]), first, DataSettings(), need_label=False)
    assert found.text == "message" and "there is no 'ticket'" in found.notes[-1]
    with pytest.raises(DataError, match="no text column"):
        layout_of_other(raw(one=["b"], two=["1"]), first, DataSettings(), need_label=False)


def test_labels_keep_the_form_of_training() -> None:
    """One row tells nothing of separators, and numbers may be few."""
    first = find_layout(raw(text=["a", "b", "c"], label=["x|y", "x", "y"]), DataSettings())
    other = raw(body=["d"], label=["x|z"])
    assert to_records(other, layout_of_other(other, first, DataSettings())).labels == [("x", "z")]


@pytest.mark.parametrize("format", ["span lines", "tokens", "label studio", "doccano", "questions", "squad"])
def test_new_annotated_files_may_be_in_a_form_of_their_own(tmp_path: Path, format: str) -> None:
    name, content = FILES[format]
    (tmp_path / name).write_text(content)
    _, layout = load_splits({"train": str(tmp_path / name)}, DataSettings())
    for other in ("questions", "squad") if layout.shape == ANSWERS else ("span lines", "tokens", "conll", "doccano"):
        (tmp_path / other).mkdir()
        path = tmp_path / other / FILES[other][0]
        path.write_text(FILES[other][1])
        records = read_new(str(path), layout, DataSettings(), DataSettings()).records
        assert len(records) == ROWS and all(records.labels), other
        assert len(read_new(str(path), layout, DataSettings(), DataSettings(), need_label=False).records) == ROWS


def test_lines_of_objects_have_the_columns_of_training(tmp_path: Path) -> None:
    def lines(content: str) -> LineReader:
        (tmp_path / "a.txt").write_text(content)
        return LineReader(str(tmp_path / "a.txt"), Layout(ONE_LABEL, "ticket"), DataSettings(), DataSettings())

    chunks = list(lines('{"date": 1, "ticket": "named"}\n\n{"ticket": "other", "text": 3}\n').chunks(1))
    assert [chunk.records.texts for chunk in chunks] == [["named"], ["other"]]
    (usual,) = lines('{"text": "usual", "ticket_no": 3}\n').chunks(5)
    assert usual.records.texts == ["usual"] and "no 'ticket'" in usual.records.notes[-1]
    for content, wrong in {
        'fine\n{"text": "x"}\n': "line 2: begins as",
        '{"ticket": "x"}\nfine\n': "2: not a valid",
    }.items():
        with pytest.raises(DataError, match=wrong):
            list(lines(content).chunks(5))


@pytest.fixture(scope="module")
def run(tiny_model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layout")
    (folder / "a.csv").write_text(
        "ticket;category\n" + "".join(f"{LABELS[row % 2]} film {row};{LABELS[row % 2]}\n" for row in range(60))
    )
    options = {"model": str(tiny_model_folder("bert")), "method": "features", "precision": "float32"}
    out = str(folder / "run")
    tunesmith.train(str(folder / "a.csv"), progress=Progress(quiet=True), delimiter=";", out=out, **options)
    return folder / "run"


def test_the_layout_is_kept_with_the_run_and_the_model(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    beside = json.loads((run / "model" / "tunesmith.json").read_text())
    assert record["data"]["layout"] == beside["layout"] and beside["layout"]["labels"] == ["category"]


def test_evaluate_and_predict_read_files_with_more_columns(run: Path, tmp_path: Path) -> None:
    plain, more = tmp_path / "plain.csv", tmp_path / "more.csv"
    rows = [(f"{LABELS[row % 2]} film {row + 70}", LABELS[row % 2]) for row in range(20)]
    plain.write_text("ticket;category\n" + "".join(f"{text};{label}\n" for text, label in rows))
    more.write_text(
        "text;label;ticket;date;category\n" + "".join(f"a;b;{t};{i};{c}\n" for i, (t, c) in enumerate(rows))
    )
    one, other = (tunesmith.evaluate(run, str(path)).metrics for path in (plain, more))
    assert one == other
    answers = [[dict(one) for one in tunesmith.predict(run, str(path))] for path in (plain, more)]
    assert answers[0] == answers[1] and len(answers[0]) == 20


EDITS: list[tuple[dict[str, Any], str]] = [
    ({"layout": {"text": None}}, "layout.text"),
    ({"layout": {"text": ""}}, "layout.labels"),
    ({"layout": {"labels": "label"}}, "layout.labels"),
    ({"layout": {"labels": ["category", "ticket"]}}, "layout.labels"),
    ({"layout": {"labels": ["category", "other"]}}, "layout.labels"),
    ({"layout": {"labels": []}}, "layout.labels"),
    ({"layout": {"form": "odd"}}, "layout.form"),
    *(({"layout": {"form": form}}, "layout.form") for form in ("answers", "spans", "tags", "json")),
    ({"layout": {"separator": ","}}, "layout.separator"),
    ({"layout": {"shape": {}}}, None),
    ({"layout": {"shape": {"task": "ner", "labels": "one", "noun": "label", "whole": "text"}}}, "layout.shape"),
    ({"layout": {"colour": 1}}, "layout.colour"),
    *(({"task": task}, "layout.shape") for task in ("multilabel", "regression", "ner", "qa")),
    ({"task": "stars"}, "task: the task 'stars' is not installed"),
    ({"task": "auto"}, "task"),
    ({"task": 3}, "task"),
    *(({"labels": {"names": names}}, "labels.names") for names in (["bad"], ["bad", "good", "new"], ["good", "good"])),
    *(({"labels": {"names": names}}, "labels.names") for names in (["good", "bad"], [], "bad", [1, 2])),
    ({"labels": {"scale": "wide"}}, "labels.scale"),
    ({"labels": {"scale": 2.0}}, "labels"),
    ({"labels": {"mean": math.nan}}, "damaged (NaN is not JSON)"),
    ({"labels": {"colour": 1}}, "labels.colour"),
    *(({"max_length": length}, "max_length") for length in (0, -5, 3, 100_000, 16.5, "16", True, None)),
    *(({"long": long}, "long") for long in ("quux", None)),
    ({"colour": 1}, "colour: unknown key"),
]


@pytest.mark.parametrize(
    ("edit", "named"), EDITS, ids=lambda value: json.dumps(value) if isinstance(value, dict) else ""
)
def test_what_somebody_wrote_into_the_facts_of_a_model_is_refused_by_its_key(
    run: Path, tmp_path: Path, edit: dict[str, Any], named: str | None
) -> None:
    shutil.copytree(run / "model", tmp_path / "model")
    path = tmp_path / "model" / "tunesmith.json"
    facts = json.loads(path.read_text())
    for key, value in edit.items():
        facts[key] = facts[key] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(facts))
    seal(tmp_path / "model")
    with pytest.raises(ModelError) as refused:
        tunesmith.load(tmp_path / "model")
    shown = str(refused.value).splitlines()
    assert any(line.startswith(f"{path}: {named or 'made by another version'}") for line in shown), shown
    assert all(line.startswith(f"{path}: ") for line in shown) and "pydantic" not in str(refused.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b"null"])
def test_what_is_no_object_is_no_fact_of_a_model(run: Path, tmp_path: Path, text: bytes) -> None:
    (tmp_path / "tunesmith.json").write_bytes(text)
    with pytest.raises(ModelError, match=r"tunesmith\.json: (damaged|record: should be an object)"):
        tunesmith.load(tmp_path)


@pytest.fixture(scope="module")
def plain_run(tiny_model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    rows = [{"text": f"{LABELS[row % 2]} film {row}", "label": LABELS[row % 2]} for row in range(40)]
    options = {"model": str(tiny_model_folder("bert")), "method": "features", "precision": "float32"}
    tunesmith.train(rows, progress=Progress(quiet=True), out=str(folder / "run"), **options)
    return folder / "run"


def test_what_is_read_in_place_of_a_column_of_training_is_told(
    plain_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("title,body,label\n" + "".join(f"x,film {row},{LABELS[row % 2]}\n" for row in ALL))
    moved = f"note: {path}: the text is read from 'body'; there is no 'text', where it was in training\n"
    for call in (lambda: list(tunesmith.predict(plain_run, path)), lambda: tunesmith.evaluate(plain_run, path)):
        call()
        assert capsys.readouterr() == ("", moved)
    tunesmith.load(plain_run).predict(path)
    assert capsys.readouterr().err == moved
    for command in ("evaluate", "predict"):
        for flags, told in ([], moved), (["--quiet"], ""), (["--text", "body"], ""):
            monkeypatch.setattr("sys.argv", ["tunesmith", command, str(plain_run), str(path), "--json", *flags])
            with pytest.raises(SystemExit) as stopped:
                main()
            shown = capsys.readouterr()
            assert (stopped.value.code, shown.err) == (0, told) and json.loads(shown.out)


def test_train_tells_how_its_files_were_read(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": f"{LABELS[row % 2]} film {row}", "label": LABELS[row % 2]} for row in ALL]
    splits, layout = load_splits({"train": rows, "test": [{"body": "a", "topic": "good"}]}, DataSettings())
    with suppress(DataError):
        tell(run_checks(splits, layout.shape), Progress())
    told = capsys.readouterr().err
    for what, new, old in ("text", "body", "text"), ("label", "topic", "label"):
        assert f"note: list of dicts in memory: the {what} is read from {new!r}; there is no {old!r}" in told


def test_scores_are_not_of_another_label_column_unless_it_is_named() -> None:
    first = find_layout(raw(text=["a"], label=["x"]), DataSettings())
    new = {"text": ["a", "b"], "category": ["y", "x"]}
    with pytest.raises(DataError, match=r"no label column 'label', as in training; .* give data\.label=category"):
        read_new(new, first, DataSettings(), DataSettings())
    assert read_new(new, first, DataSettings(), DataSettings(label="category")).records.labels == ["y", "x"]
    assert read_new(new, first, DataSettings(), DataSettings(), need_label=False).records.texts == ["a", "b"]


def test_a_file_without_header_is_not_read_from_its_second_text_on(tmp_path: Path) -> None:
    first = find_layout(raw(text=["a"], label=["x"]), DataSettings())
    path = tmp_path / "h.csv"
    path.write_text("good one\nbad two\npoor three\n")
    with pytest.raises(DataError, match=r"'good one', not 'text' as in training; if the first line is a text, add a"):
        read_new(str(path), first, DataSettings(), DataSettings(), need_label=False)
    said = DataSettings(text="good one")
    assert read_new(str(path), first, DataSettings(), said, need_label=False).records.texts == ["bad two", "poor three"]
    assert len(read_new([{"good one": "a"}], first, DataSettings(), DataSettings(), need_label=False).records) == 1
    spans = Layout(SPANS, "tokens", labels=("tags",), form="tags")
    with pytest.raises(DataError, match="if the first line is a text"):
        read_new(str(path), spans, DataSettings(), DataSettings(), need_label=False)
    for name in ("text", "remark"):
        path.write_text(f"{name}\ngood one\n")
        assert len(read_new(str(path), spans, DataSettings(), DataSettings(), need_label=False).records) == 1
    found = read_new(str(path), first, DataSettings(), DataSettings(), need_label=False).records
    assert found.texts == ["good one"] and any("is read from 'remark'" in note for note in found.notes)


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_files_of_its_format_are_written_as_the_training_file_and_others_as_usual(tmp_path: Path) -> None:
    quotes = written(tmp_path / "train.tsv", 'text\tlabel\n"Good" film\tx\nbad\ty\n')
    enclosed = written(tmp_path / "test.tsv", 'text\tlabel\n"a"\tx\n')
    commas = written(tmp_path / "test.csv", 'text,label\n"a, b",x\n')
    for source, texts in ((enclosed, ['"a"']), (commas, ["a, b"])):
        splits, layout = load_splits({"train": quotes, "test": source}, DataSettings())
        assert layout.dialect == Dialect("tsv", None, "off") and splits["test"].texts == texts
        assert read_new(source, layout, DataSettings(), DataSettings()).records.texts == texts
    assert read_new(enclosed, layout, DataSettings(), DataSettings(quoting="on")).records.texts == ["a"]
    assert any("quotes are read as text" in note for note in splits["train"].notes)
    hats = written(tmp_path / "train.csv", "text^label\na^x\nb^y\n")
    splits, layout = load_splits({"train": hats, "test": enclosed}, DataSettings(delimiter="^"))
    assert layout.dialect == Dialect("csv", "^") and splits["test"].texts == ["a"]
    assert read_new(hats, layout, DataSettings(), DataSettings()).records.texts == ["a", "b"]
    semicolons = written(tmp_path / "more.csv", "text;label\na;x\nb;y\n")
    assert load_splits({"train": semicolons, "test": commas}, DataSettings())[1].dialect is None


@pytest.mark.parametrize("label", [None, "good,bad"])
def test_every_label_of_training_needs_its_column(label: str | None) -> None:
    columns = {"text": ["a", "b"], "good": ["1", "0"], "bad": ["0", "1"]}
    first = find_layout(raw(**columns, poor=["1", "0"]), DataSettings(label="good,bad,poor"))
    with pytest.raises(DataError, match="no label column 'poor', as in training; every label needs its 0/1 column"):
        read_new(columns, first, DataSettings(), DataSettings(label=label))
    lists = {"text": ["a", "b"], "tags": ["good|poor", "bad"]}
    assert read_new(lists, first, DataSettings(), DataSettings(label="tags")).records.labels == [
        ("good", "poor"),
        ("bad",),
    ]


@pytest.mark.parametrize("name", ["valid", "test"])
def test_splits_are_all_of_pairs_or_all_of_single_texts(name: str) -> None:
    single = [{"ticket": f"t{row}", "label": LABELS[row % 2]} for row in ALL]
    pairs = [{"premise": f"t{row}", "hypothesis": "h", "label": LABELS[row % 2]} for row in ALL]
    with pytest.raises(DataError, match="trained on single texts, found pairs of texts"):
        load_splits({"train": single, name: pairs}, DataSettings())
    with pytest.raises(DataError, match="trained on pairs of texts, found single texts"):
        load_splits({"train": pairs, name: [{"text": "a", "label": "good"}]}, DataSettings())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"text_pair": "label"}, r"'label' would be read both as data\.text_pair and as data\.label"),
        ({"text": "label"}, r"'label' would be read both as data\.text and as data\.label"),
        ({"text": "text", "text_pair": "text"}, r"'text' would be read both as data\.text and as data\.text_pair"),
        ({"label": "text"}, r"column (but )?'text'.*data\.label"),
        ({"label": "label,label"}, r"'label' would be read both as data\.label and as data\.label"),
    ],
)
@pytest.mark.parametrize("task", [None, "multilabel"])
def test_no_column_is_read_twice(flags: dict[str, str], message: str, task: str | None) -> None:
    table, settings = raw(text=["a", "b"], label=["x", "y"]), DataSettings(**flags)
    first = find_layout(table, DataSettings())
    with pytest.raises(DataError, match=message):
        find_layout(table, settings, SHAPES[task] if task else None)
    for need_label in (True, False) if "label" not in flags else (True,):
        with pytest.raises(DataError, match=message):
            layout_of_other(table, first, settings, need_label)


def test_no_column_of_entities_is_read_twice() -> None:
    with pytest.raises(DataError, match=r"'label' would be read both as data\.text and as data\.label"):
        find_layout(raw(text=["a"], label=["[]"]), DataSettings(text="label"), SPANS)


def test_every_problem_is_told_once_and_headers_only_of_files() -> None:
    with pytest.raises(DataError) as caught:
        load_splits({"train": [{"text": "a", "kind": "x"}]}, DataSettings(text="nope"))
    assert [problem.count("nope") for problem in caught.value.problems] == [1, 0]
    assert "header" not in str(caught.value)
    with pytest.raises(DataError, match="the first line of a CSV file is its header"):
        find_layout(raw(a=["x"], b=["y"]), DataSettings())
    with pytest.raises(DataError) as caught:
        find_layout(replace(raw(a=["x"], b=["y"]), format="workbook"), DataSettings())
    assert "CSV" not in str(caught.value)


@pytest.mark.parametrize("content", [b"no mark", "two\n\nlines".encode("utf-16")[:-1]])
def test_lines_that_are_not_of_their_encoding_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    given = DataSettings(encoding="utf-16")
    with pytest.raises(DataError, match=r"a.txt, line [13]: not utf-16"):
        list(LineReader(str(tmp_path / "a.txt"), Layout(ONE_LABEL, "text"), DataSettings(), given).chunks(1))
