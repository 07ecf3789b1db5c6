"""Artefacts beside `transformers.pipeline`: short texts in turns, chunk by chunk, and first answers of new processes.

    python benchmarks/artefacts.py --data train.csv [--text COLUMN] [--label COLUMN]

All have the packaged MiniLM with the same new head. The pipeline answers in float32, as it comes (text by text) and in
batches of 32; the artefacts are those of `tunesmith.export` in float32 and int8, given all texts of a chunk. The result
goes to ``results/artefacts.json``.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _labelled import given_texts
from _results import write_result
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

import tunesmith
from tunesmith.config.schema import ModelSettings
from tunesmith.models.heads import quiet_library
from tunesmith.models.source import find_source
from tunesmith.progress import Progress

TEXTS, CHUNK, LENGTH, STARTS = 2_000, 200, 128, 5
FIRST = "import tunesmith, sys; tunesmith.load(sys.argv[1]).predict(['a text'])"


def measure(texts: list[str], labels: list[str], work: Path) -> dict[str, Any]:
    """Texts a second (median of the chunks) of every side, and how its answers differ from the pipeline's."""
    saved, sides = work / "saved", dict[str, Any]()
    source = find_source(ModelSettings())
    with quiet_library():
        torch.manual_seed(0)
        names = dict(enumerate(labels))
        model = AutoModelForSequenceClassification.from_pretrained(source.location, id2label=names).eval()
        tokenizer = AutoTokenizer.from_pretrained(source.location, model_max_length=LENGTH)
        model.save_pretrained(saved)
        tokenizer.save_pretrained(saved)
    for name, batch in (("pipeline, text by text", 1), ("pipeline, batches of 32", 32)):
        stock: Any = pipeline("text-classification", model=model, tokenizer=tokenizer, batch_size=batch, device="cpu")
        sides[name] = lambda chunk, stock=stock: [
            (one["label"], one["score"]) for one in stock(chunk, truncation=True, max_length=LENGTH)
        ]
    sizes, starts = {}, {}
    for precision in ("float32", "int8"):
        made = tunesmith.export(saved, work / precision, precision, Progress(quiet=True), max_loss=1.0)
        light = tunesmith.load(made.folder)
        sides[f"artefact, {precision}"] = lambda chunk, light=light: [(p.label, p.score) for p in light.predict(chunk)]
        sizes[precision] = round(made.measured.bytes.artefact / 1e6, 1)
        starts[precision] = _first_answers(made.folder)
    taken: dict[str, list[float]] = {name: [] for name in sides}
    same: dict[str, list[bool]] = {name: [] for name in sides}
    furthest = dict.fromkeys(sides, 0.0)
    for at in range(0, len(texts), CHUNK):
        chunk, found = texts[at : at + CHUNK], {}
        for name in sides if at // CHUNK % 2 else reversed(sides):
            begin = time.perf_counter()
            found[name] = sides[name](chunk)
            taken[name].append(len(chunk) / (time.perf_counter() - begin))
        wanted = found["pipeline, text by text"]
        for name, answers in found.items():
            same[name] += [one[0] == other[0] for one, other in zip(answers, wanted, strict=True)]
            furthest[name] = max(furthest[name], *(abs(a[1] - b[1]) for a, b in zip(answers, wanted, strict=True)))
    speed = {name: statistics.median(rates) for name, rates in taken.items()}
    slowest = taken["pipeline, text by text"]
    ratio = {name: statistics.median(map(float.__truediv__, rates, slowest)) for name, rates in taken.items()}
    return {
        "texts": len(texts),
        "texts_per_second": {name: round(rate, 1) for name, rate in speed.items()},
        "times_the_pipeline": {name: round(value, 2) for name, value in ratio.items()},
        "same_label": {name: sum(flags) / len(flags) for name, flags in same.items()},
        "largest_difference_of_scores": furthest,
        "megabytes": sizes,
        "seconds_to_first_answer": starts,
    }


def _first_answers(folder: Path) -> dict[str, float]:
    """Seconds of whole processes that answer one text."""
    seconds = []
    for _ in range(STARTS):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", FIRST, str(folder)], check=True)
        seconds.append(time.perf_counter() - begin)
    return {"median": round(statistics.median(seconds), 2), "least": round(min(seconds), 2)}


def main() -> None:
    """Measure on the given data."""
    data = given_texts("artefacts", __doc__.splitlines()[0])
    if data is None:
        return
    with tempfile.TemporaryDirectory() as work:
        write_result("artefacts", measure(data.texts[:TEXTS], data.labels, Path(work)) | {"data": data.name})


if __name__ == "__main__":
    main()
