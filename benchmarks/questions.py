"""Extractive questions: `tunesmith train` as whole commands, against a question-answering script of the usual kind.

    python benchmarks/questions.py --data en.json [--seeds N] [--epochs N]

The file has the layout of SQuAD 1.1, as XQuAD has; it is split by article: the last 10 are for testing, the 5 before
them for validation. Every side is a process that reads the same three files, fine-tunes all of the packaged MiniLM
(which has not seen a question before) with the same epochs, batch size, learning rate (of the head, too), length and
decay, and answers the test questions. The script cuts contexts into windows of 384 tokens with a stride of 128, takes
the 20 best beginnings and ends of each and answers of at most 30 tokens. ``usual`` pads to 384, in float32; ``stock``
pads to the longest of the batch, in bfloat16 with fused AdamW. Both keep the model of the last epoch and answer once,
as such scripts do; ``tunesmith`` scores the validation questions after each epoch and keeps the best, checks the data,
scores a baseline, and makes intervals and a report. The seeds run in turns. ``usual`` runs once, for one epoch, and
beside it so does ``one_epoch`` of ours: the ratio of these two is ``usual_times_as_long``.

Answers are scored by `tunesmith.evaluation.answer_scores`, which counts as the SQuAD script does. The result goes to
``results/questions.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _processes import OURS, compared, figures_of, run_process, train_command
from _results import write_result
from transformers import (
    AutoModelForQuestionAnswering,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from tunesmith.config.schema import ModelSettings
from tunesmith.evaluation.answer_scores import answer_scores
from tunesmith.models.loading import load_tokenizer
from tunesmith.models.source import find_source

EPOCHS, SEEDS = 4, 1
BATCH, LENGTH, STRIDE, LEARNING_RATE, WEIGHT_DECAY = 8, 384, 128, 3e-4, 0.01
N_BEST, MAX_ANSWER = 20, 30
HELD_OUT = {"valid": 5, "test": 10}
"""Articles, from the end of the file."""
SETTINGS = {
    "batch-size": BATCH,
    "max-length": LENGTH,
    "lr": LEARNING_RATE,
    "head-lr": LEARNING_RATE,
    "warmup": 0,
    "weight-decay": WEIGHT_DECAY,
}
SCORES = ("exact_match", "answer_f1")


def split(path: Path, folder: Path) -> dict[str, int]:
    """Write the articles as ``train.json``, ``valid.json`` and ``test.json``; how many questions each has."""
    content = json.loads(path.read_text(encoding="utf-8"))
    articles = content["data"]
    held_out = sum(HELD_OUT.values())
    if len(articles) <= held_out:
        raise SystemExit(f"questions: {path} has {len(articles)} articles; more than {held_out} are needed")
    parts = {
        "train": articles[:-held_out],
        "valid": articles[-held_out : -HELD_OUT["test"]],
        "test": articles[-HELD_OUT["test"] :],
    }
    for name, part in parts.items():
        (folder / f"{name}.json").write_text(json.dumps({**content, "data": part}), encoding="utf-8")
    return {name: len(read(folder / f"{name}.json")) for name in parts}


def read(path: Path) -> list[dict[str, Any]]:
    """The questions of a file, each with its context."""
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    return [question | {"context": one["context"]} for one in paragraphs for question in one["qas"]]


def windows(questions: list[dict[str, Any]], tokenizer: Any, padded: bool) -> Any:
    """Windows over the contexts, with the offsets of their tokens and the question each belongs to."""
    return tokenizer(
        [one["question"].strip() for one in questions],
        [one["context"] for one in questions],
        truncation="only_second",
        max_length=LENGTH,
        stride=STRIDE,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding="max_length" if padded else False,
    )


def inputs(found: Any, i: int) -> dict[str, Any]:
    """What the model reads of a window."""
    return {key: found[key][i] for key in ("input_ids", "token_type_ids", "attention_mask")}


def targets(found: Any, i: int, question: dict[str, Any]) -> dict[str, int]:
    """First and last token of the answer; the first token of the window where the answer is not in it."""
    answer = question["answers"][0]
    start, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
    offsets, context = found["offset_mapping"][i], [k for k, part in enumerate(found.sequence_ids(i)) if part == 1]
    if not context or offsets[context[0]][0] > start or offsets[context[-1]][1] < end:
        return {"start_positions": 0, "end_positions": 0}
    first = max(k for k in context if offsets[k][0] <= start)
    last = min(k for k in context if offsets[k][1] >= end)
    return {"start_positions": first, "end_positions": last}


def answers(questions: list[dict[str, Any]], found: Any, logits: tuple[np.ndarray, np.ndarray]) -> list[str]:
    """The answer of the best beginning and end of each question's windows."""
    best = [(-np.inf, "")] * len(questions)
    for i, of in enumerate(found["overflow_to_sample_mapping"]):
        offsets, parts = found["offset_mapping"][i], found.sequence_ids(i)
        starts, ends = (part[i, : len(offsets)] for part in logits)
        for start in np.argsort(starts)[: -N_BEST - 1 : -1]:
            for end in np.argsort(ends)[: -N_BEST - 1 : -1]:
                if parts[start] != 1 or parts[end] != 1 or not 0 <= end - start < MAX_ANSWER:
                    continue
                text = questions[of]["context"][offsets[start][0] : offsets[end][1]]
                best[of] = max(best[of], (float(starts[start] + ends[end]), text))
    return [text for _, text in best]


def stock(side: str, folder: Path, seed: int, epochs: int) -> dict[str, float]:
    """Train with `transformers.Trainer` on the files in `folder`; test scores."""
    set_seed(seed)
    padded = side == "usual"
    source = find_source(ModelSettings())
    tokenizer = load_tokenizer(source)
    train, test = read(folder / "train.json"), read(folder / "test.json")
    of_train, of_test = windows(train, tokenizer, padded), windows(test, tokenizer, padded)
    train_set = [
        inputs(of_train, i) | targets(of_train, i, train[of])
        for i, of in enumerate(of_train["overflow_to_sample_mapping"])
    ]
    test_set = [inputs(of_test, i) for i in range(len(of_test["input_ids"]))]
    arguments = TrainingArguments(
        output_dir=str(folder / side),
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=32,
        num_train_epochs=epochs,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        save_strategy="no",
        bf16=not padded,
        optim="adamw_torch" if padded else "adamw_torch_fused",
        seed=seed,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(
        AutoModelForQuestionAnswering.from_pretrained(source.location),
        arguments,
        data_collator=default_data_collator if padded else DataCollatorWithPadding(tokenizer),
        train_dataset=train_set,
    )
    trainer.train()
    logits = trainer.predict(test_set).predictions
    gold = [[answer["text"] for answer in one["answers"]] for one in test]
    exact, overlap = answer_scores(answers(test, of_test, logits), gold)
    return {"exact_match": float(exact.mean()), "answer_f1": float(overlap.mean())}


def command(side: str, folder: Path, seed: int, epochs: int) -> dict[str, Any]:
    """Run one side as a process of its own: seconds, peak memory and test scores, ours with their intervals."""
    if side != OURS:
        text, cost = run_process([__file__, "--side", side, str(folder), str(seed), str(epochs)])
        return cost | figures_of(text)
    files = {name: folder / f"{name}.json" for name in ("train", *HELD_OUT)}
    options = {"method": "full", "seed": seed, "epochs": epochs, **SETTINGS}
    record, cost = train_command(files, folder / f"run-{len(list(folder.iterdir()))}", options)
    test = record["metrics"]["test"]
    found = {name: round(test[name]["value"], 4) for name in SCORES}
    intervals = {f"{name}_interval": [round(test[name][bound], 4) for bound in ("low", "high")] for name in SCORES}
    return cost | found | intervals


def measure(folder: Path, seeds: int, epochs: int) -> dict[str, Any]:
    """Every side, and the two that run for one epoch."""
    found: dict[str, list[dict[str, Any]]] = {"stock": [], OURS: []}
    for seed in range(1, seeds + 1):
        for side, runs in found.items():
            runs.append(command(side, folder, seed, epochs))
            sys.stderr.write(f"seed {seed}: {side} {runs[-1]}\n")
    short = {"usual": command("usual", folder, 1, 1), "one_epoch": command(OURS, folder, 1, 1)}
    ratio = round(short["usual"]["seconds"] / short["one_epoch"]["seconds"], 2)
    return {**compared(found), "for_one_epoch": short, "usual_times_as_long": ratio}


def main() -> None:
    """Measure on the given file; with ``--side`` (our own call), one of the stock sides."""
    if sys.argv[1:2] == ["--side"]:
        side, folder, seed, epochs = sys.argv[2:]
        sys.stdout.write("\n" + json.dumps(stock(side, Path(folder), int(seed), int(epochs))) + "\n")
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    chosen = parser.parse_args()
    if chosen.data is None:
        sys.stderr.write("questions: skipped; it needs --data, a file of questions in the layout of SQuAD 1.1\n")
        return
    with tempfile.TemporaryDirectory() as name:
        sizes = split(chosen.data, Path(name))
        measured = measure(Path(name), chosen.seeds, chosen.epochs)
    settings = {"epochs": chosen.epochs, **SETTINGS}
    result = {"data": chosen.data.name, "questions": sizes, "articles_held_out": HELD_OUT, "settings": settings}
    write_result("questions", result | measured)


if __name__ == "__main__":
    main()
