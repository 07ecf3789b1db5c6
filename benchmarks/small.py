"""Small data with default settings: what `tunesmith train` gives for some fifty to three hundred examples.

    python benchmarks/small.py --banking train.csv test.csv --entities train.conll dev.conll --questions en.json
        [--sets NAME,NAME] [--seeds 1,2] [--side NAME]

The sets are drawn from Banking77 (eight questions of each of some intents; and texts that ask one or two things, with
several labels), WNUT-17 (sentences, documents of five sentences, and as a number the share of a sentence's words that
are names), XQuAD (paragraphs), and the news articles of the demo (the first 128 tokens). The seed decides the rows and
the training. Testing is on others. Everything else is a default: the packaged MiniLM, ``--method auto``, a tenth of the
rows for validation.

Each run enters what its ``run.json`` says, the methods that were tried and not kept among it, into
``results/small.json`` under the name of its side; what is not run stays. The side ``before`` is this program with an
earlier Tunesmith on the path. ``--docs`` writes the table of the committed result into ``docs/small.md`` instead.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tunesmith
from tunesmith.config.loading import resolve
from tunesmith.config.schema import DataSettings
from tunesmith.data.reading import load_splits
from tunesmith.data.records import Records, Span
from tunesmith.data.shapes import SHAPES
from tunesmith.demo import corpus
from tunesmith.progress import Progress
from tunesmith.run.record import versions

RESULT = Path(__file__).parent / "results" / "small.json"
DOCS = Path(__file__).parents[1] / "docs" / "small.md"
BEGIN, END = "<!-- small: made by benchmarks/small.py --docs -->", "<!-- end of small -->"
TEST_ROWS = {"classification": 400, "multilabel": 300, "regression": 300, "ner": 200, "qa": 100}
DOCUMENT = 5
EXAMPLES_A_CLASS = 8
SEVERAL_LABELS = 10
FILES = {"banking": 2, "entities": 2, "questions": 1}
NEEDS = {"WNUT": "entities", "XQuAD": "questions", "Banking77": "banking"}

Row = dict[str, Any]
Draw = Callable[[dict[str, list[str]], int, np.random.Generator], tuple[list[Row], list[Row]]]


@dataclass(frozen=True)
class Set:
    """A small set: what it is called, its task, how many examples are drawn, and how."""

    name: str
    task: str
    rows: int
    draw: Draw
    options: dict[str, Any]


def read(path: str, shape: str) -> Records:
    """A file as `tunesmith train` reads it."""
    return load_splits({"train": path}, DataSettings(), SHAPES[shape], True)[0]["train"]


def intents(files: dict[str, list[str]], number: int, rng: np.random.Generator) -> list[list[Row]]:
    """The questions for training and for testing about `number` intents, in random order."""
    both = [read(path, "classification") for path in files["banking"]]
    chosen = set(rng.permutation(sorted(set(both[1].labels)))[:number])
    rows = [[{"text": one.text, "label": one.label} for one in part if one.label in chosen] for part in both]
    return [[part[i] for i in rng.permutation(len(part))] for part in rows]


def few_of_each(files: dict[str, list[str]], rows: int, rng: np.random.Generator) -> tuple[list[Row], list[Row]]:
    """`EXAMPLES_A_CLASS` questions of each intent."""
    train, test = intents(files, rows // EXAMPLES_A_CLASS, rng)
    taken: dict[str, list[Row]] = {}
    for row in train:
        taken.setdefault(row["label"], []).append(row)
    return [row for own in taken.values() for row in own[:EXAMPLES_A_CLASS]], test


def one_or_two(files: dict[str, list[str]], rows: int, rng: np.random.Generator) -> tuple[list[Row], list[Row]]:
    """Texts of one or two questions, with the intents of both."""

    def joined(part: list[Row], number: int) -> list[Row]:
        drawn = (rng.choice(len(part), rng.integers(1, 3), replace=False) for _ in range(number))
        found = ([part[i] for i in own] for own in drawn)
        return [{"text": " ".join(r["text"] for r in own), "label": sorted({r["label"] for r in own})} for own in found]

    train, test = intents(files, SEVERAL_LABELS, rng)
    return joined(train, rows), joined(test, TEST_ROWS["multilabel"])


def articles(files: dict[str, list[str]], rows: int, rng: np.random.Generator) -> tuple[list[Row], list[Row]]:
    """News articles, each text once."""
    found = {one.text: {"text": one.text, "label": one.label} for one in read(corpus(), "classification")}
    every = list(found.values())
    order = [every[i] for i in rng.permutation(len(every))]
    return order[:rows], order[rows:]


def sentences(files: dict[str, list[str]], rows: int, rng: np.random.Generator, length: int = 1) -> Any:
    """Sentences with their entities, or documents of `length` sentences that follow one another."""
    parts = []
    for path in files["entities"]:
        given = list(read(path, "ner"))
        documents = [given[i : i + length] for i in range(0, len(given) - length + 1, length)]
        parts.append([document(documents[i]) for i in rng.permutation(len(documents))])
    return parts[0][:rows], parts[1]


def document(parts: Sequence[Any]) -> Row:
    """Sentences as one text, with the entities of all."""
    text, spans = "", list[Span]()
    for one in parts:
        start = len(text) + 1 if text else 0
        text = f"{text} {one.text}" if text else one.text
        spans += [Span(start + span.start, start + span.end, span.label) for span in one.label or ()]
    return {"text": text, "spans": [span._asdict() for span in spans]}


def documents(files: dict[str, list[str]], rows: int, rng: np.random.Generator) -> tuple[list[Row], list[Row]]:
    """Documents of `DOCUMENT` sentences."""
    found: tuple[list[Row], list[Row]] = sentences(files, rows, rng, DOCUMENT)
    return found


def shares(files: dict[str, list[str]], rows: int, rng: np.random.Generator) -> tuple[list[Row], list[Row]]:
    """Sentences that have an entity, with the share of their characters that are in one."""

    def numbered(part: list[Row]) -> Iterator[Row]:
        for row in part:
            if row["spans"]:
                named = sum(span["end"] - span["start"] for span in row["spans"])
                yield {"text": row["text"], "score": round(named / len(row["text"]), 3)}

    train, test = (list(numbered(part)) for part in sentences(files, sys.maxsize, rng))
    return train[:rows], test


def questions(files: dict[str, list[str]], rows: int, rng: np.random.Generator) -> tuple[list[Row], list[Row]]:
    """Questions on some paragraphs, and those on others."""
    given: dict[str, list[Row]] = {}
    for one in read(files["questions"][0], "qa"):
        answers = [{"text": answer.text, "answer_start": answer.start} for answer in one.label or ()]
        row = {"question": one.text, "context": one.text_pair, "answers": answers}
        given.setdefault(str(one.text_pair), []).append(row)
    paragraphs = list(given.values())
    order = [row for i in rng.permutation(len(paragraphs)) for row in paragraphs[i]]
    seen = {row["context"] for row in order[:rows]}
    return order[:rows], [row for row in order if row["context"] not in seen]


SETS = {
    f"{one.name} {one.rows}": one
    for one in (
        Set("Banking77", "classification", 80, few_of_each, {}),
        Set("Banking77", "classification", 160, few_of_each, {}),
        Set("BBC News", "classification", 50, articles, {"max_length": 128}),
        Set("BBC News", "classification", 200, articles, {"max_length": 128}),
        Set("Banking77, one or two intents", "multilabel", 150, one_or_two, {}),
        Set("WNUT-17, share of names", "regression", 200, shares, {}),
        Set("WNUT-17 sentences", "ner", 79, sentences, {}),
        Set("WNUT-17 sentences", "ner", 300, sentences, {}),
        Set("WNUT-17 documents", "ner", 79, documents, {}),
        Set("XQuAD", "qa", 100, questions, {}),
        Set("XQuAD", "qa", 300, questions, {}),
    )
}


def measure(one: Set, files: dict[str, list[str]], seed: int) -> dict[str, Any]:
    """One run; what its record says that matters here."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TUNESMITH_CACHE"] = str(folder / "cache")
        train, test = one.draw(files, one.rows, np.random.default_rng(seed))
        paths = {"train": train, "test": test[: TEST_ROWS[one.task]]}
        for part, rows in paths.items():
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"{part}.jsonl").write_text(text, encoding="utf-8")
        options = {"task": one.task, "seed": seed, "test": str(folder / "test.jsonl"), "out": str(folder / "run")}
        run = tunesmith.train(folder / "train.jsonl", resolve(options=options | one.options), Progress(quiet=True))
        log = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    record, metric = run.record, run.content.main_metric
    others = {other["name"]: round(other["metrics"][metric]["value"], 4) for other in record["baselines"]}
    curves: dict[str, list[float]] = {}
    for line in log:
        if f"eval_{metric}" in line:
            curves.setdefault(line["method"], []).append(round(line[f"eval_{metric}"], 4))
    return {
        "metric": metric,
        "kept": record["method"],
        "test": {key: round(record["metrics"]["test"][metric][key], 4) for key in ("value", "low", "high")},
        "valid": round(record["metrics"]["valid"][metric]["value"], 4),
        "beside": others,
        "valid_by_evaluation": curves,
        "best": record["best"],
        "rows": {split["name"]: split["rows"] for split in record["data"]["splits"]},
        "settings": {key: record["config"]["training"][key] for key in ("epochs", "batch_size", "precision")},
        "seconds": record["timing"]["seconds"],
    }


def table(results: dict[str, Any]) -> str:
    """The results as Markdown: a row a set, means over the seeds."""
    sides = {side: found["sets"] for side, found in results.items()}
    lines = [
        f"| set | task, metric | examples | {' | '.join(sides)} | baseline | seeds |",
        f"|---|---|---|{'---|' * len(sides)}---|---|",
    ]
    for name, one in SETS.items():
        runs = {side: found[name] for side, found in sides.items() if name in found}
        if not runs:
            continue
        last = [*runs.values()][-1]
        first = next(iter(last.values()))
        cells = [_mean([run["test"]["value"] for run in own.values()]) for own in map(runs.get, sides) if own]
        baselines = [_baseline(run) for run in last.values()]
        what = f"{one.task}, {first['metric'].replace('_', ' ')}"
        cells = [what, str(one.rows), *cells, _mean(baselines), str(len(last))]
        lines.append(f"| {one.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


METHODS = ("features", "freeze", "full", "lora", "gradual")


def _baseline(run: dict[str, Any]) -> float:
    """The strongest of the cheap models, which comes first."""
    return next(float(value) for name, value in run["beside"].items() if name not in METHODS)


def _mean(values: Sequence[float]) -> str:
    return f"{100 * statistics.mean(values):.1f}"


def main() -> None:
    """Measure the named sets, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, number in FILES.items():
        parser.add_argument(f"--{name}", nargs=number, default=[])
    parser.add_argument("--sets", default=",,".join(SETS))
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--side", default="now")
    parser.add_argument("--docs", action="store_true")
    arguments = parser.parse_args()
    results = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    if arguments.docs:
        before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
        text = f"{before}{BEGIN}\n{table(results)}\n{END}{rest.partition(END)[2]}"
        DOCS.write_text(text, encoding="utf-8")
        return
    files = {name: getattr(arguments, name) for name in FILES}
    if not all(files.values()):
        sys.stderr.write("small: skipped; it needs --banking, --entities and --questions, files of the three sets\n")
        return
    for name in arguments.sets.split(",,"):
        for seed in map(int, arguments.seeds.split(",")):
            found = measure(SETS[name], files, seed)
            sys.stderr.write(f"{arguments.side} {name} seed {seed}: {json.dumps(found)}\n")
            results = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
            side = results.setdefault(arguments.side, {"versions": versions(), "sets": {}})
            side["sets"].setdefault(name, {})[str(seed)] = found
            RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
