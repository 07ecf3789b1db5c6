"""Python, as its users write it: what the functions take, and what comes back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pandas
import pyarrow
import pytest

import tunesmith
import tunesmith.cli  # whose commands they are
from tunesmith.commandline import options_of
from tunesmith.config.loading import resolve
from tunesmith.config.options import ReadOptions
from tunesmith.config.schema import AdaptConfig, Config
from tunesmith.errors import UsageError
from tunesmith.progress import Progress

QUICK: dict[str, Any] = {"method": "features", "precision": "float32", "progress": Progress(quiet=True)}
KINDS = ["good", "bad", "great"]
ROWS = [{"body": f"{KINDS[i % 3]} film number {i}", "topic": KINDS[i % 3]} for i in range(60)]


class Streams:
    """A table of a library that we do not know."""

    def __init__(self, table: pyarrow.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


FORMS: dict[str, Callable[[list[dict[str, str]]], Any]] = {
    "list of dicts": list,
    "dict of columns": lambda rows: {name: [row[name] for row in rows] for name in rows[0]},
    "pandas": pandas.DataFrame,
    "pyarrow": pyarrow.Table.from_pylist,
    "stream": lambda rows: Streams(pyarrow.Table.from_pylist(rows)),
    "datasets": datasets.Dataset.from_list,
    "splits": lambda rows: datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)}),
}
NEW = ["the good film", "a bad book", "great"]


@pytest.fixture(scope="module")
def model(tiny_model_folder: Callable[[str], Path]) -> str:
    return str(tiny_model_folder("bert"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.csv"
    path.write_text("body,topic\n" + "".join(f"{row['body']},{row['topic']}\n" for row in ROWS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(file: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> tunesmith.Run:
    return tunesmith.train(file, model=model, out=tmp_path_factory.mktemp("runs") / "a", text="body", **QUICK)


def test_what_comes_back_is_shown_in_a_line(run: tunesmith.Run, file: Path) -> None:
    predictor = tunesmith.load(run)
    answers = predictor.predict(NEW)
    scores = tunesmith.evaluate(run, file)
    shown = [repr(one) for one in (run, predictor, answers[0], scores, *tunesmith.find_models("finance"))]
    assert all(len(line) < 250 and "\n" not in line for line in shown)
    assert shown[0].startswith(f"Run('{run.folder}': classification, features, done, test accuracy ")
    assert shown[1].startswith("Predictor(classification, 3 labels, ") and "scores" not in shown[2]
    assert shown[3].startswith("Evaluation(60 rows: accuracy ") and shown[4].startswith("Suggestion('")


def test_new_data_may_be_read_in_another_way_than_those_of_training(run: tunesmith.Run, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    lines = "".join(f"{row['topic']};{row['body']}\n" for row in ROWS)
    other.write_text("kind;words\n" + lines, encoding="utf-16")
    options: ReadOptions = {"text": "words", "format": "csv", "delimiter": ";", "encoding": "utf-16"}
    assert tunesmith.evaluate(run, other, label="kind", **options).rows == 60
    answers = list(tunesmith.predict(run, other, **options))
    assert len(answers) == 60 and answers[0]["label"] in KINDS
    with pytest.raises(tunesmith.UsageError, match="unknown option 'txt'"):
        next(tunesmith.predict(run, other, txt="words"))  # type: ignore[call-arg]
    for command in ("evaluate", "predict", "models"):
        assert {f"--{name.replace('_', '-')}" for name in ReadOptions.__annotations__} <= options_of(command)


@pytest.mark.parametrize("form", FORMS)
def test_examples_in_memory_are_those_of_the_file(
    form: str, run: tunesmith.Run, file: Path, model: str, tmp_path: Path
) -> None:
    examples = FORMS[form](ROWS)
    plain = [finding.to_dict() | {"rows": finding.count} for finding in tunesmith.check(file, text="body")]
    found = [finding.to_dict() | {"rows": finding.count} for finding in tunesmith.check(examples, text="body")]
    assert [one["code"] for one in found] == [one["code"] for one in plain]
    again = tunesmith.train(examples, model=model, out=tmp_path / "run", text="body", **QUICK)
    assert again.metrics == run.metrics
    (source,) = again.record["data"]["files"]
    assert source["rows"] == 60 and len(source["sha256"]) == 64 and "in memory" in source["path"]
    assert tunesmith.evaluate(run, examples).metrics == tunesmith.evaluate(run, file).metrics
    usual = tunesmith.load(run).predict([row["body"] for row in ROWS])
    assert tunesmith.load(run).predict(FORMS[form]([{"body": row["body"]} for row in ROWS])) == usual
    assert [one["label"] for one in tunesmith.predict(run, examples)] == [answer.label for answer in usual]
    assert tunesmith.find_models("legal", data=examples, folders=[model])[0].fit


def test_splits_in_memory_and_in_files_go_together(file: Path, model: str, tmp_path: Path) -> None:
    valid, test = pandas.DataFrame(ROWS[:12]), [{"body": f"{row['body']} again", "topic": row["topic"]} for row in ROWS]
    run = tunesmith.train(file, model=model, out=tmp_path / "a", valid=valid, test=test, text="body", **QUICK)
    assert [part["rows"] for part in run.record["data"]["files"]] == [60, 12, 60]
    assert [part["rows"] for part in run.record["data"]["splits"]] == [60, 12, 60]
    assert run.record["config"]["data"]["valid"] is None
    codes = {finding.code for finding in tunesmith.check(ROWS, valid=str(file), text="body")}
    assert any("leak" in code or "shared" in code or "overlap" in code for code in codes), codes
    run.content.status = "stopped"
    run.content.save(run.folder)
    with pytest.raises(tunesmith.UsageError, match="data file: list of dicts in memory changed"):
        tunesmith.train(
            file, model=model, out=tmp_path / "a", valid=valid, test=test[:30], text="body", resume=True, **QUICK
        )


@pytest.mark.parametrize("saved", [False, True])
def test_the_splits_of_a_data_set_are_its_own(
    saved: bool, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"train": ROWS, "validation": ROWS[:12], "test": ROWS[:30]}
    splits: Any = datasets.DatasetDict({name: datasets.Dataset.from_list(part) for name, part in rows.items()})
    if saved:
        splits.save_to_disk(tmp_path / "topics")
        splits = tmp_path / "topics"
    run = tunesmith.train(splits, model=model, out=tmp_path / "run", text="body", **QUICK)
    assert [part["rows"] for part in run.record["data"]["splits"]] == [60, 12, 30]
    assert len({part["sha256"] for part in run.record["data"]["files"]}) == 3
    assert run.record["config"]["data"]["valid"] == (f"{splits}/validation" if saved else None)
    if saved:  # what the report says repeats the run
        config = resolve(run.folder / "config.yaml", {"out": str(tmp_path / "again")})
        again = tunesmith.train(run.record["data"]["files"][0]["path"], config, QUICK["progress"])
        assert again.metrics == run.metrics
        assert "name: topics" in (run.folder / "README.md").read_text(encoding="utf-8")
    capsys.readouterr()
    assert tunesmith.evaluate(run, splits).rows == 30
    assert "note: " in (told := capsys.readouterr().err) and "the split 'test' of 'test', 'train', " in told
    tunesmith.evaluate(run, [ROWS[0] | {"body": "film " * 300}] * 2, text="body")
    assert "2 texts longer than 128 tokens, read in part; " in capsys.readouterr().err
    example = re.escape(f"{splits}/test" if saved else "data['test']")
    for asked in (lambda: next(tunesmith.predict(run, splits)), lambda: tunesmith.load(run).predict(splits)):
        with pytest.raises(tunesmith.DataError, match=f"holds the splits .*; give one of them, as in {example}$"):
            asked()


@pytest.mark.parametrize("form", ["lines", "csv", "txt", "stdin", "pandas", "dicts"])
def test_rows_without_a_text_are_told_once_and_answered(
    form: str,
    run: tunesmith.Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tunesmith.predicting.ROWS", 2)
    texts: list[str | None] = ["the good film", None, "a bad book", " ", "great"]
    source: Any = [{"id": i, "body": text} for i, text in enumerate(texts)]
    name, rows, written = "list of dicts in memory", "2, 4", ""
    if form == "lines":
        name, written = (
            "new.jsonl",
            "".join(json.dumps(row) + "\n" for row in source),
        )
        written = written.replace(', "body": null', "")
    elif form == "csv":
        name, written, rows = "new.csv", "id,body\n" + "".join(f"{i},{t or ''}\n" for i, t in enumerate(texts)), "3, 5"
    elif form in ("txt", "stdin"):
        name, written = "new.txt", "".join(f"{text or ''}\n" for text in texts)
    elif form == "pandas":
        name, source = "DataFrame in memory", pandas.DataFrame(source)
    if written:
        source = tmp_path / name
        source.write_text(written)
    if form == "stdin":
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=BytesIO(source.read_bytes())))
        source, name = "-", "standard input"
    assert len(list(tunesmith.predict(run, source))) == 5
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("warning: ") and f"{name}: 2 rows without a text (rows {rows}); " in told
    if form != "stdin" and form != "txt":
        assert len(tunesmith.load(run).predict(source)) == 5
        assert capsys.readouterr().err.splitlines() == [told]


def test_a_model_adapts_to_texts_in_memory(model: str, tmp_path: Path) -> None:
    texts = pandas.DataFrame({"text": [f"the film of customer {i} was good" for i in range(60)]})
    options: dict[str, Any] = {"max_length": 16, "epochs": 1, "precision": "float32", "progress": Progress(quiet=True)}
    adapted = tunesmith.adapt(texts, model=model, out=tmp_path / "adapted", **options)
    assert adapted.perplexity["after"].value > 1
    assert repr(adapted).startswith(f"AdaptedModel('{tmp_path / 'adapted'}': ") and len(repr(adapted)) < 250
    assert adapted.record["data"]["files"][0]["path"] == "DataFrame in memory"


def test_nothing_to_read_is_told() -> None:
    for function in (tunesmith.train, partial(tunesmith.adapt, out="out")):
        with pytest.raises(tunesmith.UsageError, match="the examples are missing"):
            function(None, progress=Progress(quiet=True))


@pytest.mark.parametrize(
    "wrong",
    [3, 2.5, {1, 2}, [1, 2], ["a text"], object(), iter(ROWS), b"bytes", []],
    ids=lambda wrong: type(wrong).__name__,
)
def test_what_is_no_table_is_refused_by_its_type(wrong: Any, model: str, tmp_path: Path) -> None:
    out, progress = tmp_path / "run", Progress(quiet=True)
    for function in (
        tunesmith.check,
        partial(tunesmith.train, model=model, out=out, progress=progress),
        partial(tunesmith.adapt, model=model, out=out, progress=progress),
    ):
        with pytest.raises(tunesmith.DataError) as caught:
            function(wrong)
        (problem,) = caught.value.problems
        assert type(wrong).__name__ in problem and len(problem) < 300


def test_predict_takes_texts_and_tables_and_refuses_the_rest(
    run: tunesmith.Run, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor = tunesmith.load(run)
    usual = predictor.predict(NEW)
    of_datasets = datasets.Dataset.from_dict({"body": NEW})["body"]
    for column in (tuple(NEW), pandas.Series(NEW), pyarrow.array(NEW), pyarrow.chunked_array([NEW]), of_datasets):
        assert predictor.predict(column) == usual
    for empty in ([], {}, {"body": []}, pandas.DataFrame({"body": []}), pandas.DataFrame()):
        assert predictor.predict(empty) == list(tunesmith.predict(run, empty)) == []
    for name, content in {"empty.csv": "", "header.csv": "body\n", "empty.txt": ""}.items():
        (file.parent / name).write_text(content)
        assert list(tunesmith.predict(run, str(file.parent / name))) == []
        assert f"warning: {file.parent / name}: no rows" in capsys.readouterr().err
    with pytest.raises(tunesmith.DataError, match="expected a column of texts, found a row"):
        predictor.predict(pandas.DataFrame(ROWS).iloc[0])
    assert predictor.predict([]) == [] and len(predictor.predict(file)) == 60
    frame = pandas.DataFrame({"date": ["today"] * 3, "body": NEW, "topic": ["never seen"] * 3})
    assert predictor.predict(frame) == usual
    for wrong, message in {
        "text": "put it into a list",
        3: "int",
        (1, 2): "item 1 is int",
        frozenset(NEW): "frozenset",
        (text for text in NEW): "generator",
    }.items():
        with pytest.raises(tunesmith.DataError, match=message):
            predictor.predict(wrong)  # type: ignore[arg-type]
    with pytest.raises(tunesmith.DataError, match="no text column"):
        predictor.predict(pandas.DataFrame({"a": [1], "b": ["x"]}))


def test_pairs_and_entities_are_predicted_from_tables(model: str, tmp_path: Path) -> None:
    pairs = [{"premise": f"{KINDS[i % 3]} film {i}", "hypothesis": "book", "label": KINDS[i % 2]} for i in range(40)]
    run = tunesmith.train(pairs, model=model, out=tmp_path / "pairs", **QUICK)
    predictor = tunesmith.load(run)
    usual = predictor.predict([(row["premise"], row["hypothesis"]) for row in pairs])
    assert predictor.predict(pandas.DataFrame(pairs)[["hypothesis", "premise"]]) == usual
    with pytest.raises(tunesmith.DataError, match="pairs of texts, found single texts"):
        predictor.predict(["one text"])
    rows = [{"text": f"Anna paid {i}", "spans": [{"start": 0, "end": 4, "label": "PER"}]} for i in range(40)]
    run = tunesmith.train(rows, model=model, out=tmp_path / "spans", epochs=1, **QUICK | {"method": "full"})
    predictor = tunesmith.load(run)
    frame = pandas.DataFrame({"text": [row["text"] for row in rows]})
    assert predictor.predict(frame) == predictor.predict(list(frame["text"]))
    assert tunesmith.evaluate(run, datasets.Dataset.from_list(rows)).rows == 40


def test_a_configuration_of_another_command_is_refused(file: Path) -> None:
    calls: list[tuple[Callable[..., Any], Any, str]] = [
        (tunesmith.train, AdaptConfig(), "expected a Config or a file, found AdaptConfig"),
        (tunesmith.check, {"training": {}}, "expected a Config or a file, found dict"),
        (tunesmith.adapt, Config(), "expected an AdaptConfig or a file, found Config"),
    ]
    for function, config, told in calls:
        with pytest.raises(UsageError, match=f"`config`: {told}"):
            function(file, config)


@pytest.fixture(scope="module")
def adapted(file: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that was adapted on the training rows of the file, with seed 1."""
    options: dict[str, Any] = {"max_length": 16, "epochs": 1, "precision": "float32", "progress": Progress(quiet=True)}
    folder = tmp_path_factory.mktemp("adapted") / "model"
    return str(tunesmith.adapt(file, model=model, text="body", label="topic", seed=1, out=folder, **options))


@pytest.mark.parametrize(
    ("options", "given", "told"),
    [
        ({"seed": 1}, (), False),
        ({"seed": 2}, (), True),
        ({"seed": 1}, ("valid",), False),  # split otherwise, but its test rows were none of those
        ({"seed": 1}, ("test",), False),
        ({"seed": 2}, ("valid", "test"), False),
        ({"seed": 1, "test_is_file": True}, ("test",), True),
        ({"seed": 2, "plain": True}, (), False),
    ],
)
def test_a_model_that_saw_what_is_tested_on_is_told(
    options: dict[str, Any],
    given: tuple[str, ...],
    told: bool,
    adapted: str,
    model: str,
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    others = {name: tmp_path / f"{name}.csv" for name in given}
    for name, path in others.items():
        path.write_text(
            "body,topic\n" + "".join(f"{kind} book {i} {name},{kind}\n" for i in range(9) for kind in KINDS)
        )
    train = file
    if options.pop("test_is_file", False):
        train, others["test"] = tmp_path / "other.csv", file
        train.write_text("body,topic\n" + "".join(f"{kind} card {i},{kind}\n" for i in range(20) for kind in KINDS))
    start = model if options.pop("plain", False) else adapted
    quick = QUICK | {"progress": Progress()}
    run = tunesmith.train(
        train, model=start, text="body", label="topic", out=tmp_path / "run", **options, **others, **quick
    )
    sign = f"model {start} has learned from "
    assert (f"warning: test: {sign}" in capsys.readouterr().err) is told
    assert any(warning.startswith(sign) for warning in run.record["warnings"]) is told
