"""The whole path for entities and questions, with tiny models, from Python."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForQuestionAnswering, AutoModelForTokenClassification

import tunesmith
from tunesmith.config.schema import DataSettings
from tunesmith.data.reading import load_records
from tunesmith.data.shapes import SHAPES
from tunesmith.errors import DataError, UsageError
from tunesmith.progress import Progress
from tunesmith.using import predict

QUICK: dict[str, Any] = {"precision": "float32", "progress": Progress(quiet=True)}
WORDS = ["film", "book", "card", "bank", "money", "late", "lost", "new", "old", "fast", "cat"]
NAMES = {"good": "praise", "bad": "blame"}


def sentences(rows: int, tail: str = "") -> list[dict[str, Any]]:
    """Texts with one praising or blaming word somewhere, which is the entity, with `tail`."""
    draw = np.random.default_rng(0)
    found = []
    for row in range(rows):
        words = [str(word) for word in draw.choice(WORDS, 8)]
        at = int(draw.integers(8))
        words[at] = name = list(NAMES)[row % 2] + tail
        start = len(" ".join(words[:at])) + (at > 0)
        text = " ".join(words)
        found.append(
            {"text": text, "spans": [{"start": start, "end": start + len(name), "label": NAMES[name.split()[0]]}]}
        )
    return found


def questions(rows: int, unanswered: bool, tail: str = "") -> list[dict[str, Any]]:
    found = []
    for row, one in enumerate(sentences(rows, tail)):
        start, end = (one["spans"][0][key] for key in ("start", "end"))
        answers = [{"text": one["text"][start:end], "answer_start": start}]
        if unanswered and row % 3 == 0:
            one["text"], answers = one["text"].replace("good", "card").replace("bad", "card"), []
        found.append({"context": f"{one['text']} {row}", "question": "good or bad ?", "answers": answers})
    return found


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_entities(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    data = write(tmp_path / "a.jsonl", sentences(120))
    model = str(tiny_model_folder("bert"))
    options = QUICK | {"epochs": 25, "batch_size": 8, "lr": 5e-3, "head_lr": 2e-2}
    run = tunesmith.train(data, model=model, method="full", out=str(tmp_path / "run"), **options)
    assert run.record["task"] == "ner"
    score = run.metrics["test"]["span_f1"]
    assert score.value > 0.8 and score.low <= score.value <= score.high
    assert [row["name"] for row in run.record["baselines"]] == ["names of the training texts"]
    predictor = tunesmith.load(run)
    spans = predictor.predict(["the card is bad", "lost"])[0].spans
    assert spans is not None
    assert [(s.start, s.end, s.label, s.text) for s in spans] == [(12, 15, "blame", "bad")]
    with pytest.raises(DataError, match="expected a list of texts, found one text"):
        predictor.predict("the card is bad")
    line = json.loads((run.folder / "predictions" / "test.jsonl").read_text().splitlines()[0])
    assert set(line["gold"][0]) == {"start", "end", "label"}
    assert "praise" in (run.folder / "report.html").read_text(encoding="utf-8")
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    assert "It knows 2 entity types: blame, praise." in card and "\n| praise | " in card and "B-praise" not in card
    by_type = run.record["by_label"]["test"]
    assert set(by_type) == {"praise", "blame"}
    for scores in by_type.values():
        assert set(scores["metrics"]) == {"precision", "recall", "f1"} and scores["support"] and scores["predicted"]
        assert all(one["low"] <= one["value"] <= one["high"] for one in scores["metrics"].values())
    plain = AutoModelForTokenClassification.from_pretrained(run.folder / "model")
    assert plain.config.id2label == {0: "O", 1: "B-blame", 2: "I-blame", 3: "B-praise", 4: "I-praise"}
    again = tunesmith.evaluate(run, data)
    assert again.metrics["span_f1"].value > 0.8 and again.rows == 120
    assert set(again.to_dict()["by_label"]["blame"]) == {"support", "predicted", "metrics"}


def test_entities_are_found_in_what_holds_only_texts(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": one["text"], "names": one["spans"]} for one in sentences(30)]
    data = write(tmp_path / "a.jsonl", rows).rename(tmp_path / "a.lines")
    options = QUICK | {"epochs": 1, "batch_size": 8, "format": "jsonl", "label": "names", "out": str(tmp_path / "run")}
    run = tunesmith.train(data, model=str(tiny_model_folder("bert")), method="features", **options)
    assert tunesmith.evaluate(run, data).rows == 30  # as the training file was read
    (tmp_path / "b.csv").write_text("remark\nthe card is bad\n")
    assert [found["id"] for found in predict(run, str(tmp_path / "b.csv"))] == ["2"]
    texts = ["the card is bad", "good book"]
    marked = codecs.BOM_UTF8 + "\n".join(texts).encode() + b"\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(marked)))
    expected = [prediction.spans for prediction in tunesmith.load(run).predict(texts)]
    places = [[(span["start"], span["end"]) for span in found["spans"]] for found in predict(run, "-")]
    assert places == [[(span.start, span.end) for span in spans or ()] for spans in expected]


@pytest.mark.parametrize("kind", ["ner", "qa"])
def test_what_crosses_the_border_of_a_window_is_found(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], kind: str
) -> None:
    """Names and answers of three words in texts many times as long as the model reads at once."""
    tail = " tree house"
    data = write(tmp_path / "a.jsonl", sentences(160, tail) if kind == "ner" else questions(160, False, tail))
    model = str(tiny_model_folder("bert"))
    options = QUICK | {"epochs": 30, "batch_size": 8, "lr": 5e-3, "head_lr": 2e-2, "max_length": 32}
    options["early_stopping"] = 30  # so that the best state is kept
    predictor = tunesmith.load(tunesmith.train(data, model=model, method="full", out=str(tmp_path / "run"), **options))
    words = WORDS * 9
    texts = [" ".join([*words[:at], f"good{tail}", *words[at:]]) for at in range(3, 95)]
    found = predictor.predict(texts if kind == "ner" else [("good or bad ?", text) for text in texts])
    for text, one in zip(texts, found, strict=True):
        parts = one.spans if kind == "ner" else [one.answer]
        assert parts and [(part.start, part.text) for part in parts if part] == [(text.index("good"), f"good{tail}")]


def test_methods_are_compared_on_entities(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    data = write(tmp_path / "a.jsonl", sentences(60))
    model = str(tiny_model_folder("bert"))
    run = tunesmith.train(data, model=model, method="auto", out=str(tmp_path / "run"), epochs=1, **QUICK)
    assert {row["name"] for row in run.record["baselines"]} >= {"names of the training texts"}
    worse = "model is worse than names of the training texts by "
    assert (
        any(worse in warning for warning in run.record["warnings"]) and worse in (run.folder / "README.md").read_text()
    )
    beside = tunesmith.evaluate(run, data, against=run).comparison
    assert beside is not None and beside["difference"]["span_f1"]["value"] == 0.0


@pytest.mark.parametrize("unanswered", [False, True])
def test_questions(tmp_path: Path, tiny_model_folder: Callable[[str], Path], unanswered: bool) -> None:
    data = write(tmp_path / "a.jsonl", questions(150, unanswered))
    model = str(tiny_model_folder("bert"))
    options = QUICK | {"epochs": 25, "batch_size": 8, "lr": 5e-3, "head_lr": 2e-2, "early_stopping": 25}
    run = tunesmith.train(data, model=model, method="full", out=str(tmp_path / "run"), **options)
    assert run.record["task"] == "qa"
    assert run.metrics["test"]["exact_match"].value > 0.7
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "of each label by split" not in page and "word overlap (F1)" in page
    assert "It knows" not in card and 'predict([("a question", ' in card
    parts = run.record["by_label"].get("test", {})
    assert set(parts) == ({"answerable", "unanswerable"} if unanswered else set())
    assert ("\n| unanswerable | " in card) is unanswered
    for name, whole in run.metrics["test"].items():
        values = [(scores["metrics"][name]["value"], scores["metrics"][name]["n"]) for scores in parts.values()]
        if values:
            assert sum(n for _, n in values) == whole.n
            assert sum(value * n for value, n in values) / whole.n == pytest.approx(whole.value)
    predictor = tunesmith.load(run)
    context = "the new film was bad today"
    answer = predictor.predict([("good or bad ?", context)])[0]
    assert answer.answer is not None and context[answer.answer.start : answer.answer.end] == answer.label == "bad"
    assert (predictor.space.threshold is None) is not unanswered
    assert (answer.no_answer is None) is not unanswered
    if unanswered:
        assert predictor.predict([("good or bad ?", "the new film was lost")])[0].label == ""
    with pytest.raises(DataError, match="trained on pairs of texts"):
        predictor.predict(["good or bad ?"])
    AutoModelForQuestionAnswering.from_pretrained(run.folder / "model")


def test_a_tiny_random_model_learns_32_questions_by_heart(
    tmp_path: Path, make_problem: Any, without_dropout: None
) -> None:
    """Answers are spans of one to three words anywhere in the context; which one follows from no rule."""
    draw = np.random.default_rng(0)
    rows = []
    for row in range(32):
        words = [str(word) for word in draw.choice(WORDS, 10)]
        first, length = int(draw.integers(8)), int(draw.integers(1, 4))
        text = " ".join(words[first : first + length])
        start = len(" ".join(words[:first])) + (first > 0)
        answers = [{"text": text, "answer_start": start}]
        rows.append({"context": " ".join(words), "question": f"which of {row} ?", "answers": answers})
    records, _ = load_records(str(write(tmp_path / "a.jsonl", rows)), DataSettings(), SHAPES["qa"])
    problem = make_problem("qa", rows=records, method="full", epochs=60, batch_size=4, lr=5e-3, head_lr=1e-2)
    fitted = problem.fit()
    point = problem.begun
    outputs = point.task.outputs(problem.logits(fitted.model), problem.features, point.space)
    assert point.task.quick_score(outputs, problem.features.gold, point.space)["exact_match"] == 1.0


@pytest.mark.parametrize("method", ["features", "full", "freeze", "gradual", "lora"])
def test_the_engine_changes_nothing(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], without_dropout: None, method: str
) -> None:
    model = str(tiny_model_folder("bert"))
    for name, rows in (("ner", sentences(60)), ("qa", questions(60, True))):
        data = write(tmp_path / f"{name}.jsonl", rows)
        losses = []
        for engine in ("auto", "off"):
            folder = str(tmp_path / f"{name}-{engine}")
            options = QUICK | {"epochs": 1, "batch_size": 8, "engine": engine, "method": method}
            run = tunesmith.train(data, model=model, out=folder, **options)
            rows_logged = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
            losses.append([row["loss"] for row in rows_logged if "loss" in row])
        np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_what_does_not_fit_the_task_is_refused(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    data = write(tmp_path / "a.jsonl", sentences(60))
    options: dict[str, Any] = {"model": str(tiny_model_folder("bert")), "out": str(tmp_path / "run"), **QUICK}
    with pytest.raises(UsageError, match=r"pooling='mean': ner needs the states of all tokens"):
        tunesmith.train(data, pooling="mean", **options)
    with pytest.raises(UsageError, match=r"class_weights='balanced': not defined for ner"):
        tunesmith.train(data, class_weights="balanced", **options)
    with pytest.raises(UsageError, match=r"metric='accuracy': not a metric of ner"):
        tunesmith.train(data, metric="accuracy", **options)
