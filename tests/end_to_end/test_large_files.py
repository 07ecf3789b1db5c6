"""Every command on files larger than every block in which rows are worked on: twice the block, and one more."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith import api, predicting, using
from tunesmith.data import table
from tunesmith.progress import Progress
from tunesmith.tasks import encoding

ROWS = 2 * max(predicting.ROWS, encoding.CHUNK) + 1
READ_ROWS = 2 * table.BATCH_ROWS + 1
QUIET = Progress(quiet=True)
NAMES = ("good", "bad", "fine")


def write_examples(path: Path, rows: int, label: bool = True) -> Path:
    lines = [f"{NAMES[row % 3]} card number {row}" + (f",{NAMES[row % 3]}" if label else "") for row in range(rows)]
    path.write_text("\n".join(["text,label" if label else "text", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def run(tiny_model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained, tested and reported on more rows than a block has."""
    folder = tmp_path_factory.mktemp("large")
    options = {"model": str(tiny_model_folder("bert")), "method": "features", "max_length": 8, "precision": "float32"}
    data = write_examples(folder / "train.csv", ROWS)
    trained = api.train(data, None, QUIET, test=str(data), out=str(folder / "run"), **options)
    assert trained.metrics["test"]["accuracy"].n == ROWS
    return trained.folder


def test_predict_answers_every_row_of_a_table(run: Path, tmp_path: Path) -> None:
    answers = list(using.predict(run, str(write_examples(tmp_path / "new.csv", ROWS, label=False))))
    assert [answer["id"] for answer in answers] == [str(line) for line in range(2, ROWS + 2)]
    alone = list(using.predict(run, str(write_examples(tmp_path / "few.csv", 3, label=False))))
    assert [answer["label"] for answer in alone] == [answer["label"] for answer in answers[:3]]


def test_predict_answers_every_line_and_object(run: Path, tmp_path: Path) -> None:
    texts = [f"{NAMES[row % 3]} card number {row}" for row in range(ROWS)]
    lines, objects = tmp_path / "new.txt", tmp_path / "new.jsonl"
    lines.write_text("\n".join(texts) + "\n")
    objects.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    for file in (lines, objects):
        assert len(list(using.predict(run, str(file)))) == ROWS


def test_evaluate_scores_every_row(run: Path, tmp_path: Path) -> None:
    data = write_examples(tmp_path / "new.csv", ROWS)
    assert using.evaluate(run, data, against=run).metrics["accuracy"].n == ROWS


def test_check_reads_every_row(tmp_path: Path) -> None:
    data = write_examples(tmp_path / "all.csv", READ_ROWS)
    with data.open("a") as file:
        file.write("the last one,\n")
    with pytest.raises(Exception, match=f"row {READ_ROWS + 2}: column 'label' is empty"):
        api.check(data)


def test_adapt_and_models_read_every_row(tiny_model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    texts, model = write_examples(tmp_path / "texts.csv", ROWS, label=False), str(tiny_model_folder("bert"))
    options = {"model": model, "epochs": 1, "max_length": 64, "precision": "float32", "lr": 1e-3, "head_lr": 1e-3}
    adapted = api.adapt(texts, None, QUIET, out=str(tmp_path / "adapted"), **options)
    assert sum(adapted.record["data"]["texts"].values()) == ROWS
    assert api.find_models(data=texts, folders=[model])[0].fit is not None
