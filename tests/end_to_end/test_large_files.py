"""Every command on files larger than every block in which rows are worked on: twice the block, and one more."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith import api, predicting, using
from tunesmith.data import table
from tunesmith.progress import Progress
from tunesmith.tasks import encoding

ROWS = 2 * max(predicting.ROWS, encoding.CHUNK) + 1
READ_ROWS = 2 * table.BATCH_ROWS + 1
QUIET = Progress(quiet=True)
NAMES = ("good", "bad", "fine")
LONG = 2**19
"""Characters of a text, of which a hundred are looked at to see what they are."""
PEAK = """
import sys
from pathlib import Path
import tunesmith
from tunesmith.data import table
from tunesmith.data.readers import columnar
table.MEMORY_BYTES = table.BATCH_CHARACTERS = columnar.BATCH_CHARACTERS = 2**21  # so that a small file is a large one
run, file, out = sys.argv[1:]
print(tunesmith.write_predictions(run, file, out, progress=tunesmith.progress.Progress(quiet=True)).rows)
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")))
"""
"""Writes predictions; prints how many, and the largest resident set of the process in mebibytes."""


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


def write_long(path: Path, rows: int) -> Path:
    """Rows with a long text, but for some of JSON and Parquet without one."""
    found = [{"id": f"k{row}", "text": f"{NAMES[row % 3]} {row:07} " * (LONG // 13)} for row in range(rows)]
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["id", "text"])
            writer.writeheader()
            writer.writerows(found)
        return path
    empty = [row | {"text": None} if at % 7 == 0 else row for at, row in enumerate(found)]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in empty))
    else:
        pq.write_table(pa.Table.from_pylist(empty), path, use_dictionary=False, write_batch_size=1)  # one row group
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_predict_takes_no_more_memory_for_a_larger_file(ending: str, run: Path, tmp_path: Path) -> None:
    peaks = []
    for rows in (120, 360):
        file = write_long(tmp_path / f"{rows}{ending}", rows)
        words = [sys.executable, "-c", PEAK, str(run), str(file), str(tmp_path / f"out{rows}{ending}")]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        assert int(told[0]) == rows
        peaks.append(int(told[1]))
    assert peaks[1] - peaks[0] < 40  # of 120 more


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
