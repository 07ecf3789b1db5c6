"""Exported models against the pipelines of transformers and plain onnxruntime: size, speed, accuracy, cold start.

    python benchmarks/export.py --data FOLDER [--quick] [--tasks classification,ner,qa] [--runs FOLDER]

The folder holds ``banking77/train.csv`` and ``test.csv``, ``wnut17/train.conll``, ``dev.conll`` and ``test.conll``, and
``xquad/en.json``, which is split by article. The packaged MiniLM is fine-tuned on each, with heads that transformers
loads, and every run is exported in float32 and in int8. All sides have two threads, and answer in turns, chunk by
chunk:

``pipeline B``      `transformers.pipeline` on the run with batches of B texts, as they come, not sorted; for questions,
                    for which transformers 5 has none, the usual script in torch (that of ``questions.py``)
``plain P``         the tokenizer of transformers, batches of 32 padded texts, and a session of onnxruntime on the
                    artefact's own network of precision P
``tunesmith P``     the artefact; ``run`` is the run itself

Texts are 10,000 of Banking77, 2,000 sentences of WNUT-17 and 500 questions; with ``--quick`` one of five. Answers
are compared with those of the run. Accuracy is that of the test rows, with the difference to the run on the same rows.
A cold start is a new process that answers one text. Runs and artefacts that ``--runs`` has already are not made again.
The result goes to ``results/export.json``, with the load of the machine at the end; a quick one is only shown.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _processes import run_process
from _results import write_result
from _sides import Answer, Side, piped, plain
from entities import read as read_tagged
from questions import read as read_questions
from questions import split

import tunesmith
from tunesmith.models.heads import quiet_library
from tunesmith.predictor import Predictor
from tunesmith.progress import Progress

THREADS, CHUNKS = 2, 5
STARTS, STARTS_IF_QUICK = 5, 3
QUICK = 5
"""With ``--quick`` one text of so many is answered."""
PRECISIONS, SIZES = ("float32", "int8"), (1, 8, 32)
LATENCIES = {1: 20, 32: 10}
"""Texts at once → how many turns."""
PAUSE = 0.1
"""Seconds in which the threads of the side before stop waiting for work."""
WARM = 32
"""Texts that every side answers before it is timed."""
SAME = {"method": "full", "warmup": 0}
COLD = """
import sys
from transformers import pipeline
print(pipeline(sys.argv[1], sys.argv[2])(open(sys.argv[3]).read()))
"""
COLD_QUESTION = """
import json, sys, torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer
item, tokenizer = json.load(open(sys.argv[3])), AutoTokenizer.from_pretrained(sys.argv[2])
pieces = tokenizer(item["question"], item["context"], truncation=True, max_length=384, return_tensors="pt")
found = AutoModelForQuestionAnswering.from_pretrained(sys.argv[2])(**pieces)
start, end = int(found.start_logits.argmax()), int(found.end_logits.argmax())
print(tokenizer.decode(pieces["input_ids"][0, start : end + 1]))
"""


@dataclass(frozen=True)
class Trial:
    """One of the three tasks.

    Attributes:
        files: of ``tunesmith train``: the training file, and others by option.
        options: of training.
        items: what is answered, five equal chunks of it.
        pipeline: its name in transformers.
    """

    task: str
    files: Mapping[str, Path]
    options: Mapping[str, Any]
    items: Sequence[Any]
    pipeline: str

    @property
    def test(self) -> Path:
        return self.files["test"]


def trials(data: Path, folder: Path, share: int) -> list[Trial]:
    """The tasks on the files of a folder, with one text of so many."""
    with (data / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    bank = {name: data / "banking77" / f"{name}.csv" for name in ("train", "test")}
    names = {"train": "train", "valid": "dev", "test": "test"}
    tagged = {name: data / "wnut17" / f"{of}.conll" for name, of in names.items()}
    sentences = [" ".join(words) for name in ("test", "valid") for words, _ in read_tagged(tagged[name])]
    split(data / "xquad" / "en.json", folder)
    asked = {name: folder / f"{name}.json" for name in names}
    pairs = [
        (one["question"], one["context"]) for name in ("test", "valid", "train") for one in read_questions(asked[name])
    ]
    head = {"epochs": 1, "pooling": "head", "batch-size": 32, "lr": 2e-4}
    tags = {"epochs": 1, "batch-size": 16, "lr": 5e-4, "head-lr": 5e-4, "max-length": 128}
    answers = {"epochs": 2, "batch-size": 8, "lr": 3e-4, "head-lr": 3e-4, "max-length": 384}
    return [
        Trial("classification", bank, head, texts[: 10_000 // share], "text-classification"),
        Trial("ner", tagged, tags, sentences[: 2_000 // share], "token-classification"),
        Trial("qa", asked, answers, pairs[: 500 // share], "question-answering"),
    ]


def train(trial: Trial, run: Path) -> None:
    """Fine-tune the packaged MiniLM, unless the run is there."""
    if (run / "run.json").exists():
        return
    words = ["-m", "tunesmith", "train", str(trial.files["train"]), "--out", str(run), "--quiet"]
    others = {name: path for name, path in trial.files.items() if name != "train"}
    for name, value in {**others, **SAME, **trial.options}.items():
        words += [f"--{name}", str(value)]
    run_process(words)


def ours(predictor: Predictor, items: Sequence[Any]) -> list[Answer]:
    """What `Predictor.predict` answers, in the form that all sides share."""
    found: list[Answer] = []
    for one in predictor.predict(list(items)):
        spans = one.spans is not None and tuple((span.start, span.end, span.label) for span in one.spans)
        found.append((one.label if spans is False else spans, one.score))
    return found


def in_turns(
    sides: Mapping[str, Side], inputs: Sequence[Sequence[Any]]
) -> tuple[dict[str, float], dict[str, list[Answer]]]:
    """Median seconds of every side for an input, and all its answers; the first input warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    answers: dict[str, list[Answer]] = {name: [] for name in sides}
    for side in sides.values():
        side(inputs[0][:WARM])
    for items in inputs:
        for name, side in sides.items():
            time.sleep(PAUSE)
            begun = time.perf_counter()
            answers[name] += side(items)
            seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(taken) for name, taken in seconds.items()}, answers


def speeds(sides: Mapping[str, Side], items: Sequence[Any]) -> tuple[dict[str, Any], dict[str, list[Answer]]]:
    """Texts a second, milliseconds for one text and for 32 of every side, and their answers."""
    size = len(items) // CHUNKS
    taken, answers = in_turns(sides, [items[at : at + size] for at in range(0, len(items), size)])
    best = min((name for name in sides if name.startswith("pipeline")), key=lambda name: taken[name])
    found: dict[str, Any] = {
        name: {"texts_a_second": round(size / seconds, 1), "times_the_best_pipeline": round(taken[best] / seconds, 2)}
        for name, seconds in taken.items()
    }
    for count, turns in LATENCIES.items():
        inputs = [[items[(turn * count + at) % len(items)] for at in range(count)] for turn in range(turns)]
        for name, seconds in in_turns(sides, inputs)[0].items():
            found[name][f"milliseconds_for_{count}"] = round(1000 * seconds, 2)
    return found, answers


def against(found: Sequence[Answer], wanted: Sequence[Answer]) -> dict[str, Any]:
    """How many answers are the same, and the largest difference of a score where both have one."""
    pairs = list(zip(found, wanted, strict=True))
    furthest = [abs(a[1] - b[1]) for a, b in pairs if a[1] is not None and b[1] is not None]
    same = {"same_answer_as_the_run": sum(a[0] == b[0] for a, b in pairs)}
    return same | ({"largest_difference_of_a_score": float(f"{max(furthest):.2g}")} if furthest else {})


def exported(trial: Trial, run: Path, folder: Path) -> dict[str, Any]:
    """Make the artefacts that are not there; their sizes, and their scores on the test rows beside the run's."""
    found: dict[str, Any] = {"megabytes": {"run": _megabytes(run / "model")}}
    for precision in PRECISIONS:
        place = folder / precision
        if not place.exists():
            tunesmith.export(run, place, precision, Progress(False), max_loss=1.0)
        judged = tunesmith.evaluate(place, trial.test, run, Progress(False))
        metric = judged.main_metric
        assert judged.comparison is not None
        found["megabytes"][precision] = _megabytes(place)
        found[precision] = {
            "metric": metric,
            "test_rows": judged.rows,
            "score": judged.metrics[metric].to_dict(),
            "run": judged.comparison["metrics"][metric],
            "difference": judged.comparison["difference"][metric],
        }
    return found


def _megabytes(folder: Path) -> float:
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 1)


def cold_starts(trial: Trial, run: Path, folder: Path, starts: int) -> dict[str, Any]:
    """Seconds of new processes that answer one text, in turns: the median, and all of them."""
    item, file, alone = trial.items[0], folder / "one.txt", folder / "item.txt"
    named = {"question": item[0], "context": item[1]} if trial.task == "qa" else {"text": item}
    file.write_text(json.dumps(named) + "\n", encoding="utf-8")
    alone.write_text(json.dumps(named) if trial.task == "qa" else item, encoding="utf-8")
    script = COLD_QUESTION if trial.task == "qa" else COLD
    ours = ["-m", "tunesmith", "predict"]
    commands = {
        "pipeline": ["-c", script, trial.pipeline, str(run / "model"), str(alone)],
        "tunesmith run": [*ours, str(run), str(file)],
        **{f"tunesmith {name}": [*ours, str(folder / name), str(file)] for name in PRECISIONS},
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(starts + 1):  # the first fills the file cache
        for name, words in commands.items():
            begun = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            if turn:
                seconds[name].append(round(time.perf_counter() - begun, 3))
    return {name: {"seconds": round(statistics.median(taken), 2), "all": taken} for name, taken in seconds.items()}


def measure(trial: Trial, run: Path, folder: Path, starts: int) -> dict[str, Any]:
    """Everything about one task."""
    found = exported(trial, run, folder)
    of_run = Predictor.load(run)
    length, names = of_run.truncation.max_tokens, of_run.space.names
    with quiet_library():
        sides: dict[str, Side] = {f"pipeline {size}": piped(trial.task, run, length, size) for size in SIZES}
        for name in PRECISIONS:
            sides[f"plain {name}"] = plain(trial.task, run, folder / name, names, length, THREADS)
    sides["tunesmith run"] = partial(ours, of_run)
    for name in PRECISIONS:
        sides[f"tunesmith {name}"] = partial(ours, Predictor.load(folder / name))
    speed, answers = speeds(sides, trial.items)
    for name, values in speed.items():
        values |= against(answers[name], answers["tunesmith run"])
    return {"texts": len(trial.items), **found, "speed": speed, "cold_start": cold_starts(trial, run, folder, starts)}


def main() -> None:
    """Measure on the given data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tasks", default="classification,ner,qa")
    parser.add_argument("--runs", type=Path)
    chosen = parser.parse_args()
    if chosen.data is None:
        sys.stderr.write("export: skipped; it needs --data, the folder of the three data sets\n")
        return
    os.environ |= {"OMP_NUM_THREADS": str(THREADS), "TOKENIZERS_PARALLELISM": "true", "HF_HUB_OFFLINE": "1"}
    torch.set_num_threads(THREADS)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kept = chosen.runs or folder / "runs"
        for trial in trials(chosen.data, folder, QUICK if chosen.quick else 1):
            if trial.task in chosen.tasks.split(","):
                train(trial, kept / trial.task)
                own = kept / "artefacts" / trial.task
                own.mkdir(parents=True, exist_ok=True)
                starts = STARTS_IF_QUICK if chosen.quick else STARTS
                result[trial.task] = measure(trial, kept / trial.task, own, starts)
                sys.stderr.write(f"{trial.task} {json.dumps(result[trial.task])}\n")
    if chosen.quick:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        write_result("export", {"threads": THREADS, "load": os.getloadavg(), "tasks": result})


if __name__ == "__main__":
    main()
