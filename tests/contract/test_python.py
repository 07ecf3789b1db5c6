"""Python, as its users write it: what the functions take, and what comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tunesmith
from tunesmith.cli import options_of
from tunesmith.config.options import ReadOptions
from tunesmith.progress import Progress

QUICK: dict[str, Any] = {"method": "features", "precision": "float32", "progress": Progress(quiet=True)}
KINDS = ["good", "bad", "great"]
ROWS = [{"body": f"{KINDS[i % 3]} film number {i}", "topic": KINDS[i % 3]} for i in range(60)]
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
