"""What predict writes: every format, the columns of the input as they stood, and a file that is whole or not there."""

from __future__ import annotations

import errno
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import transformers

import tunesmith
from tunesmith.cli import main
from tunesmith.config.schema import DataSettings
from tunesmith.data import read, workbook
from tunesmith.data.layout import Layout
from tunesmith.data.shapes import ANSWERS, NUMBER, ONE_LABEL, SEVERAL_LABELS, SPANS
from tunesmith.data.writing import WRITTEN, Target
from tunesmith.models.heads import quiet_library
from tunesmith.predictor import Predictor
from tunesmith.progress import Progress
from tunesmith.registry import lookup
from tunesmith.tasks import TASKS
from tunesmith.tasks.base import LabelSpace
from tunesmith.tasks.encoding import Truncation
from tunesmith.tasks.predictions import FoundAnswer, FoundSpan, Prediction, rounded
from tunesmith.training.backend import TorchModel

QUIET = Progress(quiet=True)
KINDS = ("bad", "good", "great")
HEADS = {
    "classification": ("SequenceClassification", KINDS, Layout(ONE_LABEL, "body", None, ("topic",))),
    "multilabel": ("SequenceClassification", KINDS, Layout(SEVERAL_LABELS, "text", None, ("label",), "json")),
    "regression": ("SequenceClassification", ("value",), Layout(NUMBER, "text", None, ("label",))),
    "ner": ("TokenClassification", ("O", "B-PER", "I-PER"), Layout(SPANS, "text", None, ("spans",), "spans")),
    "qa": ("QuestionAnswering", ("start", "end"), Layout(ANSWERS, "question", "context", ("answers",), "answers")),
}
ODD = [
    "a\rb",
    "007",
    "NA",
    "1.0",
    "=1+2",
    "@x",
    ' two\nlines, "quoted"\r\n ',
    "<r>&amp;</r>",
    "🎉 ü",
    "_x0041_",
    "\x01",
]
ROWS = [{"body": f"a film {row}", "score": text, "topic": "bad"} for row, text in enumerate(ODD)]
Models = Callable[[str], Path]


@pytest.fixture(scope="module")
def models(tiny_model_folder: Models, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Task → folder of a model that has learned nothing, but answers."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            head, names, layout = HEADS[name]
            task: Any = lookup(TASKS, "tasks", name)()
            kind, base = getattr(transformers, f"AutoModelFor{head}"), tiny_model_folder("bert")
            with quiet_library():
                model = kind.from_pretrained(base, id2label=dict(enumerate(names)), problem_type=task.problem_type)
            tokenizer = transformers.AutoTokenizer.from_pretrained(base)
            made[name] = tmp_path_factory.mktemp(name) / name
            Predictor(TorchModel(model.eval(), tokenizer), task, LabelSpace(names), Truncation(32), layout).save(
                made[name]
            )
        return made[name]

    return make


def sheet(path: Path) -> list[dict[str, Any]]:
    """The rows of a workbook by the names in its first one; numbers as such, all else text."""
    space = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for name in archive.namelist():
            ElementTree.fromstring(archive.read(name))
        tree = ElementTree.fromstring(archive.read("xl/worksheets/sheet1.xml"))
    assert not list(tree.iter(f"{space}f"))  # no formula
    rows = [
        {
            str(cell.get("r")).rstrip("0123456789"): float(value)
            if (value := cell.findtext(f"{space}v"))
            else cell.findtext(f"{space}is/{space}t")
            for cell in row
        }
        for row in tree.iter(f"{space}row")
    ]
    return [{str(rows[0][letter]): value for letter, value in row.items()} for row in rows[1:]]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet", ".xlsx"])
def test_the_columns_of_the_input_are_kept_as_they_stood(ending: str, models: Models, tmp_path: Path) -> None:
    out = tmp_path / f"p{ending}"
    written = tunesmith.write_predictions(models("classification"), ROWS, out, progress=QUIET)
    assert written.rows == len(ROWS) and written.columns[:2] == ("prediction", "new_score")
    answers = list(tunesmith.predict(models("classification"), ROWS, progress=QUIET))
    if ending == ".xlsx":
        found = sheet(out)
        escapes = {"_x005F_x0041_": "_x0041_", "_x0001_": "\x01"}
        assert [escapes.get(row["score"], row["score"]) for row in found] == ODD
    elif ending == ".parquet":
        found = pq.read_table(out).to_pylist()
    else:
        found = read(out, DataSettings()).table.to_pylist()
    assert list(found[0])[:5] == ["body", "score", "topic", "prediction", "new_score"]
    if ending != ".xlsx":
        assert [row["score"] for row in found] == ODD
    assert [row["prediction"] for row in found] == [answer["label"] for answer in answers]
    assert [float(row["new_score"]) for row in found] == [float(f"{answer['score']:.4g}") for answer in answers]
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("name", HEADS)
def test_every_task_is_written_in_every_format(name: str, models: Models, tmp_path: Path) -> None:
    layout, text = HEADS[name][2], {"qa": "who"}.get(name, "Anna paid")
    rows = [{layout.text: text, layout.text_pair or "n": "the good film ."}] * 3
    options: dict[str, Any] = {} if name in ("regression", "ner") else {"top_k": 2}
    for ending in WRITTEN:
        call = partial(tunesmith.write_predictions, models(name), rows, tmp_path / f"p{ending}", progress=QUIET)
        if ending == ".labelstudio.json" and name in ("regression", "qa"):
            with pytest.raises(tunesmith.UsageError, match=r"hold labels and entities, .*; write \.jsonl instead"):
                call()
        elif ending != ".ndjson":
            assert call(only=ending == ".csv", **options).rows == 3
            with pytest.raises(tunesmith.UsageError, match=r"p\..* is there already; give another name, or add"):
                call()
    (first, *_) = read(tmp_path / "p.csv", DataSettings()).table.to_pylist()
    ranks = ["top_1", "score_1", "top_2", "score_2"] if options else []
    own = {"regression": [], "ner": [], "qa": ["score", "start", "end"]}.get(name, ["score"])
    assert list(first) == ["id", "prediction", *own, *ranks]
    (nested, *_) = map(json.loads, (tmp_path / "p.jsonl").read_text().splitlines())
    types = {"regression": float, "classification": str, "qa": str}
    assert isinstance(nested["prediction"], types.get(name, list)) and list(nested)[:2] == list(rows[0])
    if name == "regression":
        value = next(tunesmith.predict(models(name), rows))["value"]
        assert float(first["prediction"]) == pytest.approx(value) == pytest.approx(nested["prediction"])


def test_tasks_for_label_studio_have_choices_or_labels_where_they_stand(models: Models, tmp_path: Path) -> None:
    text = "🎉 Anna paid"
    for name, kind in (("classification", "choices"), ("multilabel", "choices"), ("ner", "labels")):
        out, key = tmp_path / f"{name}.labelstudio.json", HEADS[name][2].text
        tunesmith.write_predictions(models(name), [{key: text, "n": 7}], out, progress=QUIET, threshold=0.0)
        ((task,), expected) = json.loads(out.read_text()), next(tunesmith.predict(models(name), [{key: text}]))
        assert task["data"] == {key: text, "n": "7"}
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == name and isinstance(prediction["score"], float)
        for part in prediction["result"]:
            assert (part["from_name"], part["to_name"], part["type"]) == ("label", "text", kind)
            if kind == "labels":
                assert text[part["value"]["start"] : part["value"]["end"]] == part["value"]["text"]
                assert part["value"]["labels"] == ["PER"]
        if name != "ner":
            said = expected["label"]
            wanted = KINDS if name == "multilabel" else (said,)
            assert [part["value"]["choices"] for part in prediction["result"]] == [list(wanted)]
    # the tasks of an export have their data again, every value as text
    data = {"body": "Anna paid", "source": "mail", "n": 3}
    (tmp_path / "in.json").write_text(json.dumps([{"id": 1, "data": data, "annotations": []}]))
    out = tmp_path / "again.labelstudio.json"
    tunesmith.write_predictions(models("ner"), tmp_path / "in.json", out, progress=QUIET, text="body")
    assert json.loads(out.read_text())[0]["data"] == {"id": "1", **data, "n": "3"}


def test_a_folder_is_one_of_documents_whose_offsets_are_those_of_the_files(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "docs"
    (folder / "a" / "deep").mkdir(parents=True)
    (folder / "b").mkdir()
    texts = {"a/deep/one.txt": "Anna\r\n\r\n  paid\n", "a/x.md": "the cat", "b/y.txt": "a dog", "z.txt": "Anna"}
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())
    (folder / "scan.pdf").write_bytes(b"%PDF")
    answers = list(tunesmith.predict(models("ner"), folder))
    assert [one["id"] for one in answers] == sorted(texts)
    for one in answers:
        assert all(texts[one["id"]][s["start"] : s["end"]] == s["text"] for s in one["spans"])
    assert capsys.readouterr().err.count("skipped, not text files of the folder: 'scan.pdf'") == 1
    assert [one["id"] for one in tunesmith.predict(models("classification"), folder, progress=QUIET)] == sorted(texts)
    out = tmp_path / "p.csv"
    tunesmith.write_predictions(models("classification"), folder, out, progress=QUIET)
    found = read(out, DataSettings()).table.to_pylist()
    assert {row["id"]: row["text"] for row in found} == texts
    with pytest.raises(tunesmith.DataError, match="the model is trained on pairs of texts, found single texts"):
        next(tunesmith.predict(models("qa"), folder, progress=QUIET))
    with pytest.raises(tunesmith.DataError, match="no text file in the folder or below it"):
        next(
            tunesmith.predict(models("ner"), tmp_path / "docs" / "a" / ".." / ".." / "docs" / "empty_", progress=QUIET)
        ) if ((folder / "empty_").mkdir() or True) else None


SINGLE = Prediction("b", 0.5, {"a": 0.3, "b": 0.5, "c": 0.2})
SEVERAL = Prediction(("b",), 0.6, {"a": 0.4, "b": 0.6, "c": 0.1})
SPANNED = Prediction((), 0.2, {}, spans=(FoundSpan(0, 1, "X", "a", 0.9), FoundSpan(2, 3, "Y", "b", 0.2)))
ANSWER = tuple(FoundAnswer(0, 1, text, 0.4 - rank / 20) for rank, text in enumerate("abcdefg"))
ANSWERED = Prediction("a", 0.4, {}, answer=ANSWER[0], answers=ANSWER)


def test_what_is_kept_of_a_prediction() -> None:
    assert SINGLE.narrowed() == SINGLE and "abstained" not in SINGLE.to_dict()
    assert list(SINGLE.narrowed(top_k=2).scores.items()) == [("b", 0.5), ("a", 0.3)]
    assert list(SINGLE.narrowed(top_k=9).scores) == ["b", "a", "c"]
    sure, unsure = SINGLE.narrowed(threshold=0.5), SINGLE.narrowed(threshold=0.51)
    assert (sure.label, sure.abstained, unsure.label, unsure.score) == ("b", False, None, 0.5)
    assert unsure.to_dict() == {"label": None, "score": 0.5, "abstained": True, "scores": SINGLE.scores}
    assert unsure.narrowed(top_k=1).to_row(nested=False) == {
        "prediction": None, "score": 0.5, "top_1": "b", "score_1": 0.5,
    }  # fmt: skip
    assert SEVERAL.narrowed(threshold=0.4).label == ("a", "b") and SEVERAL.narrowed(threshold=0.7).label == ()
    assert SEVERAL.narrowed(top_k=1, threshold=0.05).label == ("a", "b", "c")
    assert SEVERAL.narrowed(threshold=0.7).score == pytest.approx(0.4)
    (span,) = SPANNED.narrowed(threshold=0.5).to_dict()["spans"]
    assert span["label"] == "X" and SPANNED.narrowed(threshold=0.5).score == 0.9
    assert len(ANSWERED.narrowed().to_dict()["answers"]) == 5 and len(ANSWERED.narrowed(top_k=7).answers or ()) == 7
    none = ANSWERED.narrowed(threshold=0.5).to_dict()
    assert (none["answer"], none["start"], none["abstained"], none["answers"]) == ("", None, True, [])
    value = Prediction("1234567.9", 1234567.9, {"value": 1234567.9}, value=1234567.9)
    assert value.to_dict() == {"value": 1234567.9} and repr(value) == "Prediction(value=1234567.9)"
    assert rounded({"id": "1", "value": 1234567.94}) == {"id": "1", "value": 1234568.0}
    assert rounded(SINGLE.to_dict() | {"score": 0.123456}) == SINGLE.to_dict() | {"score": 0.1235}


def test_python_narrows_as_the_command_does_and_keeps_all_digits(models: Models) -> None:
    predictor = tunesmith.load(models("classification"))
    (usual,), (best,) = predictor.predict(["a film"]), predictor.predict(["a film"], top_k=1, threshold=1.0)
    assert best.label is None and best.scores == {usual.label: usual.score} and best.abstained
    (line,) = tunesmith.predict(models("classification"), [{"body": "a film"}], top_k=1)
    assert line == {"id": "1", "label": usual.label, "score": usual.score, "scores": best.scores}


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("regression", {"top_k": 2}, "`top_k`: means nothing for text regression"),
        ("regression", {"threshold": 0.5}, "`threshold`: means nothing for text regression"),
        ("ner", {"top_k": 2}, "`top_k`: means nothing for named-entity recognition"),
        ("classification", {"top_k": 0}, "`top_k`: expected a number of labels, 1 or more, found 0"),
        ("classification", {"threshold": 50}, "`threshold`: expected a number from 0 to 1, found 50"),
        ("classification", {"threshold": float("nan")}, "`threshold`: expected a number from 0 to 1, found nan"),
        ("multilabel", {"threshold": True}, "`threshold`: expected a number from 0 to 1, found True"),
    ],
)
def test_what_does_not_fit_the_task_is_refused_by_name(
    name: str, options: dict[str, Any], told: str, models: Models, tmp_path: Path
) -> None:
    for call in (
        lambda: next(tunesmith.predict(models(name), ["x"], **options)),
        lambda: tunesmith.load(models(name)).predict(["x"], **options),
        lambda: tunesmith.write_predictions(models(name), [{"text": "x"}], tmp_path / "p.csv", **options),
    ):
        with pytest.raises(tunesmith.UsageError, match=told):
            call()
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "d.csv").mkdir()
    for out, told in {
        "p.txt": r"`out`: .*p\.txt: the ending does not tell a format; expected \.csv, \.tsv, \.jsonl, ",
        "p.json": r"expected .*\.labelstudio\.json",
        "p.csv.gz": "the ending does not tell a format",
        "none/p.csv": "there is no folder .*none; make it",
        "d.csv": "is a folder; name a file in it",
    }.items():
        with pytest.raises(tunesmith.UsageError, match=told):
            tunesmith.write_predictions("no run", "no data", tmp_path / out)


def test_the_limits_of_excel_are_told_before_the_work_or_where_they_are_met(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = models("classification"), tmp_path / "p.xlsx"
    long = [{"body": "a", "n": "x"}, {"body": "a film", "n": "🎉" * 16_384}]
    with pytest.raises(tunesmith.DataError, match=r"row 3 of the workbook, column 'n': 32,768 characters, a cell of"):
        tunesmith.write_predictions(run, long, out, progress=QUIET)
    tunesmith.write_predictions(run, long, out, progress=QUIET, only=True)
    monkeypatch.setattr(workbook, "MAX_ROWS", 4)
    lines = SimpleNamespace(buffer=io.BytesIO(b"one\ntwo\nthree\nfour\n"))
    monkeypatch.setattr("sys.stdin", lines)
    for source in ([{"body": "a"}] * 4, "-"):
        with pytest.raises(tunesmith.DataError, match=r"a sheet of Excel holds 4 rows, .*; write \.csv or \.parquet"):
            tunesmith.write_predictions(run, source, out, progress=QUIET, overwrite=True)
    assert len(sheet(out)) == 2 and [path.name for path in tmp_path.iterdir()] == ["p.xlsx"]
    tunesmith.write_predictions(run, [{"body": "a"}] * 3, out, progress=QUIET, overwrite=True)
    assert len(sheet(out)) == 3


@pytest.mark.parametrize("ending", WRITTEN)
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), BrokenPipeError(), OSError(errno.ENOSPC, "No space")])
def test_what_stops_the_work_leaves_no_file(ending: str, stop: BaseException, tmp_path: Path) -> None:
    target = Target.of(tmp_path / f"p{ending}", overwrite=False)
    full = isinstance(stop, OSError) and not isinstance(stop, BrokenPipeError)
    told = pytest.raises(tunesmith.ResourceError if full else type(stop), match="no space left" if full else None)
    with told, target.opened(pa.schema([("a", pa.string())])) as write:
        write([{"a": "x"}])
        assert len(list(tmp_path.iterdir())) == 1
        raise stop
    assert not list(tmp_path.iterdir())


def test_a_link_stays_one_and_what_is_replaced_is_whole(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    with Target.of(tmp_path / "link.csv", overwrite=True).opened(pa.schema([("a", pa.string())])) as write:
        write([{"a": "x"}])
        assert (tmp_path / "real.csv").read_text() == "old"
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "real.csv").read_text() == "a\nx\n"


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["tunesmith", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code


def test_the_command_writes_lines_or_a_file_with_rounded_scores(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out, run = tmp_path / "in.csv", tmp_path / "p.csv", models("classification")
    file.write_text("body,n\na film,007\n")
    assert run_command(monkeypatch, "predict", run, file, "--top-k", 1, "--threshold", 0.9) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["label"] is None and answer["abstained"] and len(answer["scores"]) == 1
    assert len(f"{answer['score']:g}") <= 6
    assert run_command(monkeypatch, "predict", run, file, "--out", out, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"out": str(out), "rows": 1, "columns": ["prediction", "score"]}
    for arguments, told in (
        (["--out", out], f"--out: {out} is there already; give another name, or add --overwrite to replace it"),
        (["--only"], "--only: needs --out, the file to be written"),
        (["--top-k", "0"], "--top-k: expected a number of labels, 1 or more, found 0"),
    ):
        assert run_command(monkeypatch, "predict", run, file, *arguments) == 2
        assert capsys.readouterr().err == f"tunesmith: {told}\n"


def test_standard_input_is_written_as_it_comes(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.predicting.ROWS", 2)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"one, two\n=x\nthree\n")))
    tunesmith.write_predictions(models("classification"), "-", tmp_path / "p.csv", progress=QUIET)
    rows = read(tmp_path / "p.csv", DataSettings()).table.to_pylist()
    assert [row["text"] for row in rows] == ["one, two", "=x", "three"] and list(rows[0])[1:] == ["prediction", "score"]


class Full(io.StringIO):
    """An output whose disk is full, as is noticed when it is flushed."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_behind_the_output_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", Full())
        assert run_command(patch, "models", "--domain", "legal") == 5
    assert "no space left on the disk" in capsys.readouterr().err


class Closed(io.StringIO):
    """An output that nobody reads any more, as after `head -1`."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    def fileno(self) -> int:
        return self.spare


def test_who_stops_reading_ends_the_command_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "spare").open("w") as spare, monkeypatch.context() as patch:
        closed = Closed()
        closed.spare = spare.fileno()  # type: ignore[attr-defined]
        patch.setattr("sys.stdout", closed)
        assert run_command(patch, "models", "--domain", "legal") == 0


def test_texts_that_are_cut_or_blank_are_told_once(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.predicting.ROWS", 2)
    texts, file, run = ["a film", " ", "film " * 50, "cat " * 40], tmp_path / "new.txt", models("classification")
    file.write_text("\n".join(texts) + "\n", encoding="utf-8")
    predictor = tunesmith.load(run)
    rows = [{"body": text} for text in texts]
    for answers in (
        lambda: predictor.predict(texts),
        lambda: predictor.predict(rows),
        lambda: list(tunesmith.predict(run, file)),
        lambda: list(tunesmith.predict(run, rows)),
    ):
        assert len(answers()) == 4
        told = capsys.readouterr().err
        blank, cut = sorted(line for line in told.splitlines() if line.startswith("warning"))
        assert "1 row without a text (row 2)" in blank
        assert "2 texts longer than 32 tokens, read in part; `tunesmith train --max-length N` makes a model" in cut
    replace(predictor, truncation=Truncation(128)).predict(["film " * 200])
    assert "`tunesmith train --long windows` makes a model that reads all" in capsys.readouterr().err
    replace(predictor, truncation=Truncation(32, "windows")).predict(texts[2:])
    predictor.predict(texts[:1])
    assert capsys.readouterr().err == ""


def given_lines(monkeypatch: pytest.MonkeyPatch, content: str | bytes) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_long_texts_are_answered_fewer_at_a_time(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, blocks, answer = [{"body": f"a film {row} " * 9} for row in range(7)], list[int](), Predictor.predict_records
    wanted = list(tunesmith.predict(models("classification"), rows))
    monkeypatch.setattr("tunesmith.predicting.BATCH_CHARACTERS", 300)
    monkeypatch.setattr(Predictor, "predict_records", lambda self, some: blocks.append(len(some)) or answer(self, some))
    found = list(tunesmith.predict(models("classification"), rows))
    assert len(blocks) > 2 and sum(blocks) == len(rows)
    assert [(one["id"], one["label"]) for one in found] == [(one["id"], one["label"]) for one in wanted]


def test_json_lines_of_standard_input_are_those_of_a_file(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.predicting.ROWS", 2)
    rows = [{"id": f"k{at}", "nr": f"n{at}", "body": text} for at, text in enumerate(("refund", "a film", "late"))]
    rows[2]["late"] = "x"
    content = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(content)
    call = partial(tunesmith.predict, models("classification"), progress=QUIET)
    for options in ({}, {"id": "nr"}, {"text": "nr"}, {"format": "jsonl"}):
        given_lines(monkeypatch, content)
        assert list(call("-", **options)) == list(call(tmp_path / "a.jsonl", **options))
    assert [row["id"] for row in call(tmp_path / "a.jsonl")] == ["k0", "k1", "k2"]
    for source in ("-", tmp_path / "a.jsonl"):
        given_lines(monkeypatch, content)
        out = tmp_path / f"{'in' if source == '-' else 'file'}.csv"
        tunesmith.write_predictions(models("classification"), source, out, progress=QUIET)
    assert (tmp_path / "in.csv").read_text() == (tmp_path / "file.csv").read_text()
    # what the first lines have is asked of the later ones: their answers would have other names
    given_lines(monkeypatch, content.replace('"id": "k2", ', ""))
    with pytest.raises(tunesmith.DataError, match=r"standard input: .*'id'(.|\n)*format='jsonl'"):
        list(call("-"))


def test_a_format_and_an_encoding_of_standard_input_count(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    call = partial(tunesmith.predict, models("classification"), "-", progress=QUIET)
    given_lines(monkeypatch, "nr;body\n7;ein Café\n".encode("cp1252"))
    (found,) = call(format="csv", encoding="cp1252", id="nr")
    (same,) = tunesmith.load(models("classification")).predict(["ein Café"])
    assert (found["id"], found["scores"]) == ("7", same.scores)
    for encoding in ("cp1252", "utf-16"):
        given_lines(monkeypatch, "ein Café\n".encode(encoding))
        assert next(call(encoding=encoding))["scores"] == same.scores
    given_lines(monkeypatch, b"caf\xe9\n")
    with pytest.raises(tunesmith.DataError, match=r"standard input, line 1: not UTF-8; .* encoding='cp1252'"):
        next(call())
    given_lines(monkeypatch, "nr;body\n1;late\n")
    with pytest.raises(tunesmith.DataError, match=r"^standard input: `text`: no column 'x'"):
        next(call(format="csv", text="x"))


@pytest.mark.parametrize("line", ["who paid", '{"text": "who"}', '{"question": "who"}', '["who"]'])
def test_a_model_of_pairs_says_what_it_needs(line: str, models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    given_lines(monkeypatch, f"{line}\n")
    with pytest.raises(tunesmith.DataError, match=r"standard input: .*question.*context"):
        list(tunesmith.predict(models("qa"), "-", progress=QUIET))
    if not line.startswith("{"):
        given_lines(monkeypatch, f'{{"question": "who", "context": "Anna"}}\n{line}\n')
        with pytest.raises(tunesmith.DataError, match="standard input: line 2: not a valid row"):
            list(tunesmith.predict(models("qa"), "-", progress=QUIET))


def test_what_lines_hold_besides_texts_is_told(
    models: Models, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given_lines(monkeypatch, "nr,body\n1,a film\n")
    assert len(list(tunesmith.predict(models("classification"), "-"))) == 2
    assert "the header of a table, give data.format=csv" in capsys.readouterr().err
    given_lines(monkeypatch, '{"text": "a", "text_pair": "b"}\n')
    assert len(list(tunesmith.predict(models("ner"), "-"))) == 1
    assert "'text_pair' beside 'text' is not read" in capsys.readouterr().err


IDLE: list[dict[str, Any]] = [
    {"sheet": 2}, {"decimal": ","}, {"label_separator": "|"}, {"split": "nosuch"}, {"label": "nosuch"},
    {"unlabelled": "skip"}, {"strip": True}, {"id": "nosuch"},
]  # fmt: skip


@pytest.mark.parametrize("options", IDLE, ids=str)
def test_what_makes_no_difference_is_refused_by_name(
    options: dict[str, Any], models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = options
    (tmp_path / "a.csv").write_text("body,topic\na film,bad\nlate,good\n")
    sources = [str(tmp_path / "a.csv"), "-"][: 1 if name == "label" else 2]
    for source in sources:
        given_lines(monkeypatch, "a film\n")
        with pytest.raises(tunesmith.TunesmithError, match=rf"`{name}`|\b{name}="):
            list(tunesmith.predict(models("classification"), source, progress=QUIET, **options))
    if name in ("sheet", "decimal", "label", "id", "split"):
        with pytest.raises(tunesmith.TunesmithError, match=rf"`{name}`|\b{name}="):
            tunesmith.check(tmp_path / "a.csv", **options)
