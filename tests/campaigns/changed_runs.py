"""The runs that `tests.campaigns.changes` stops and goes on with: what they are made from, and their commands."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from tests import tiny
from tests.campaigns.processes import command, fork

SECONDS = 120.0
TRAIN = "train train.csv --config train.yaml --valid valid.csv --test test.csv --model model --out run --method full"
TRAIN += " --epochs 2 --lr 1e-3 --batch-size 8 --augment masked,synonym --id id --precision float32"
FILES = {
    "train": "evaluation: {resamples: 100}\naugmentation: {lexicon: lexicon.txt, masked_model: masked}\n",
    "adapt": "training: {head_steps: 4}\n",
}
ADAPT = "adapt texts.txt --config adapt.yaml --model model --out run --epochs 1 --batch-size 8 --max-length 16"
ADAPT += " --precision float32"
COMMANDS = {"train": TRAIN.split(), "adapt": ADAPT.split()}
TWINS = {"twin-masked": "masked", "twin.txt": "lexicon.txt", "twin": "model"}
"""Copies, and what they are copies of."""


def _material(folder: Path) -> None:
    """A model in the layout of sentence encoders, a masked model, their twins, data, texts, and a lexicon."""
    model = tiny.save_model("bert", folder / "model")
    config = transformers.AutoConfig.from_pretrained(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        auto: Any = transformers.AutoModelForMaskedLM
        auto.from_config(config).save_pretrained(folder / "masked")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model / name, folder / "masked")
    parts = [("Transformer", ""), ("Pooling", "1_Pooling")]
    kinds = [{"idx": n, "path": path, "type": f"sentence_transformers.models.{k}"} for n, (k, path) in enumerate(parts)]
    (model / "modules.json").write_text(json.dumps(kinds))
    (model / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
    (model / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (model / "README.md").write_text("a model")
    shutil.copytree(model, folder / "twin")
    shutil.copytree(folder / "masked", folder / "twin-masked")
    for name, rows, seed in (("train", 40, 0), ("valid", 52, 1), ("test", 20, 2)):
        table = tiny.make_records("classification", rows, seed).table.to_pylist()
        lines = [f"{name}{r['id']},{r['text']} {name} {r['id']},{r['label']},{name}{r['id']}" for r in table]
        (folder / f"{name}.csv").write_text("\n".join(["id,text,label,other", *lines]) + "\n")
    tiny.write_rows("adapt", folder / "texts.txt", 60)
    for name, text in FILES.items():
        (folder / f"{name}.yaml").write_text(text)
    for name in ("lexicon.txt", "twin.txt"):
        (folder / name).write_text("good,great,fine\nbad,poor,awful\n")


def stop(kind: str, folder: Path) -> None:
    """The run, killed right after its first checkpoint."""
    _material(folder)

    def kill() -> None:
        from tunesmith.training import task_trainer

        trainer: Any = task_trainer.TaskTrainer
        save = trainer._save_checkpoint

        def saved(*positional: Any) -> None:
            save(*positional)
            os._exit(9)

        trainer._save_checkpoint = saved

    _go(kind, folder, 9, [kill], "--set", "training.save_minutes=0.00001")


def whole(kind: str, folder: Path) -> None:
    _material(folder)
    _go(kind, folder, 0, [])


def _go(kind: str, folder: Path, code: int, before: Sequence[Callable[[], Any]], *more: str) -> None:
    work = command(*COMMANDS[kind], *more, cwd=folder, before=before)
    ended = fork(work, folder / "output", SECONDS, {"TUNESMITH_CACHE": str(folder / "cache")})
    if ended.code != code:
        raise RuntimeError(f"{kind}: {ended}\n{ended.err}")
    shutil.rmtree(folder / "output")
