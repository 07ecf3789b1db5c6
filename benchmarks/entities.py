"""Named entities: `tunesmith train` as whole commands, against a token-classification script of the usual kind.

    python benchmarks/entities.py --train train.conll --valid dev.conll --test test.conll [--seeds N] [--epochs N]

Files have a token, a tab and an IOB2 tag a line, and an empty line between sentences, as WNUT-17 has. Every side is a
process that reads them, fine-tunes all of the packaged MiniLM with the same epochs, batch size, learning rate (of the
head, too), length and decay, scores the validation sentences after each epoch, and the test sentences with the best.
The script labels the first piece of each word, leaves the others out, pads to the longest of the batch and decodes
each word by itself. ``usual`` is it in float32; ``stock`` in bfloat16 with fused AdamW. ``tunesmith`` also checks the
data, scores a baseline, and makes intervals and a report. The seeds (three) run in turns; ``usual`` has the first
alone, as its scores differ from those of ``stock`` by rounding, and so have ``freeze`` and ``lora``, which keep the
learning rates that are their defaults.

The script's spans are read off its tags as the CoNLL script does (a word that was cut off counts as outside), and
counted by `tunesmith.evaluation.entity_scores`. The result goes to ``results/entities.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _processes import OURS, compared, figures_of, run_process, train_command
from _results import write_result
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)

from tunesmith.config.schema import ModelSettings
from tunesmith.data.layout.tags import entities
from tunesmith.evaluation.entity_scores import span_counts, span_statistics
from tunesmith.models.loading import load_tokenizer
from tunesmith.models.source import find_source

EPOCHS, SEEDS = 2, 3
BATCH, LENGTH, LEARNING_RATE, WEIGHT_DECAY = 16, 128, 5e-4, 0.01
ONCE = ("usual", "freeze", "lora")
SIDES = ("usual", "stock", OURS, "freeze", "lora")
SAME = {"batch-size": BATCH, "max-length": LENGTH, "warmup": 0, "weight-decay": WEIGHT_DECAY}
RATES = {"lr": LEARNING_RATE, "head-lr": LEARNING_RATE}
IGNORED = -100
FILES = ("train", "valid", "test")
SCORES = ("span_precision", "span_recall", "span_f1")

Sentence = tuple[list[str], list[str]]
"""Words and their tags."""


def read(path: Path) -> list[Sentence]:
    """The sentences of a file."""
    sentences: list[Sentence] = [([], [])]
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip():
            word, _, tag = line.partition("\t")
            sentences[-1][0].append(word)
            sentences[-1][1].append(tag)
        elif sentences[-1][0]:
            sentences.append(([], []))
    return [sentence for sentence in sentences if sentence[0]]


def scores(gold: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> dict[str, float]:
    """Precision, recall and F1 of the entities in IOB2 tags."""
    spans = [[entities(tags)[0] for tags in side] for side in (gold, found)]
    types = sorted({span[2] for side in spans for row in side for span in row})
    statistics = span_statistics(*span_counts(spans[0], spans[1], types), np.ones((len(gold), 1)))
    return {name: float(value[0]) for name, value in statistics.items()}


def encoded(sentences: list[Sentence], tokenizer: Any, labels: list[str]) -> list[dict[str, Any]]:
    """Pieces of each sentence; the first piece of a word carries its label."""
    pieces = tokenizer([words for words, _ in sentences], is_split_into_words=True, truncation=True, max_length=LENGTH)
    rows = []
    for i, (_, tags) in enumerate(sentences):
        of = pieces.word_ids(i)
        first = [word is not None and word != before for word, before in zip(of, [None, *of[:-1]], strict=True)]
        targets = [labels.index(tags[word]) if opens else IGNORED for word, opens in zip(of, first, strict=True)]
        rows.append({key: pieces[key][i] for key in pieces} | {"labels": targets})
    return rows


def tagged(logits: np.ndarray, targets: np.ndarray, sentences: list[Sentence], labels: list[str]) -> list[list[str]]:
    """The best tag of every word; those that were cut off are outside."""
    best = logits.argmax(axis=-1)
    found = []
    for row, wanted, (words, _) in zip(best, targets, sentences, strict=True):
        tags = [labels[tag] for tag in row[wanted != IGNORED]]
        found.append(tags + ["O"] * (len(words) - len(tags)))
    return found


def stock(side: str, files: dict[str, Path], folder: Path, seed: int, epochs: int) -> dict[str, float]:
    """Train with `transformers.Trainer`; test scores."""
    set_seed(seed)
    source = find_source(ModelSettings())
    tokenizer = load_tokenizer(source)
    data = {name: read(path) for name, path in files.items()}
    labels = sorted({tag for sentences in data.values() for _, tags in sentences for tag in tags})
    sets = {name: encoded(sentences, tokenizer, labels) for name, sentences in data.items()}
    model = AutoModelForTokenClassification.from_pretrained(source.location, num_labels=len(labels))

    def scored(name: str) -> Callable[[Any], dict[str, float]]:
        gold = [tags for _, tags in data[name]]
        return lambda outputs: scores(gold, tagged(outputs.predictions, outputs.label_ids, data[name], labels))

    best = side == "stock"
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=32,
        num_train_epochs=epochs,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="span_f1",
        bf16=best,
        optim="adamw_torch_fused" if best else "adamw_torch",
        seed=seed,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(
        model,
        arguments,
        data_collator=DataCollatorForTokenClassification(tokenizer),
        train_dataset=sets["train"],
        eval_dataset=sets["valid"],
        compute_metrics=scored("valid"),
    )
    trainer.train()
    trainer.compute_metrics = None  # it knows the validation sentences alone
    return scored("test")(trainer.predict(sets["test"]))


def command(side: str, files: dict[str, Path], folder: Path, seed: int, epochs: int) -> dict[str, Any]:
    """Run one side as a process of its own: seconds, peak memory and test scores, ours with the interval of F1."""
    if side in ("usual", "stock"):
        paths = map(str, (folder / side, *files.values()))
        text, cost = run_process([__file__, "--side", side, str(seed), str(epochs), *paths])
        return cost | figures_of(text)
    options = {"method": "full" if side == OURS else side, "seed": seed, "epochs": epochs, **SAME}
    record, cost = train_command(files, folder / f"{side}-{seed}", options | (RATES if side == OURS else {}))
    test, training = record["metrics"]["test"], record["config"]["training"]
    found = {name: round(test[name]["value"], 4) for name in SCORES}
    interval = [round(test["span_f1"][bound], 4) for bound in ("low", "high")]
    return cost | found | {"span_f1_interval": interval, "lr": training["lr"], "head_lr": training["head_lr"]}


def main() -> None:
    """Measure on the given files; with ``--side`` (our own call), one of the stock sides."""
    if sys.argv[1:2] == ["--side"]:
        side, seed, epochs, folder, *paths = sys.argv[2:]
        files = dict(zip(FILES, map(Path, paths), strict=True))
        found = stock(side, files, Path(folder), int(seed), int(epochs))
        sys.stdout.write("\n" + json.dumps(found) + "\n")
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in FILES:
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    chosen = parser.parse_args()
    files = {name: getattr(chosen, name) for name in FILES}
    if None in files.values():
        sys.stderr.write("entities: skipped; it needs --train, --valid and --test, three files of tagged words\n")
        return
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1, chosen.seeds + 1):
            for side in SIDES:
                if side not in ONCE or seed == 1:
                    found[side].append(command(side, files, Path(folder), seed, chosen.epochs))
                    sys.stderr.write(f"seed {seed}: {side} {found[side][-1]}\n")
    sizes = {name: len(read(path)) for name, path in files.items()}
    data = {name: path.name for name, path in files.items()}
    settings = {"epochs": chosen.epochs, **SAME, **RATES}
    write_result("entities", {"data": data, "sentences": sizes, "settings": settings, **compared(found)})


if __name__ == "__main__":
    main()
