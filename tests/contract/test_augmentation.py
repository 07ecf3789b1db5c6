"""Augmentation on the whole path of every task, with tiny models; masked words and mix-up by themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tunesmith
from tunesmith import pipeline
from tunesmith.errors import ModelError, UsageError
from tunesmith.methods.features import FeatureExtraction
from tunesmith.progress import Progress
from tunesmith.run.record import Run

QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 8, "precision": "float32", "progress": Progress(quiet=True)}
WORDS = ["film", "book", "card", "bank", "money", "late", "lost", "new", "old", "fast", "cat"]
TASKS = ("classification", "multilabel", "regression", "ner", "qa")


def write(path: Path, kind: str, rows: int = 60) -> Path:
    """Examples of a task whose first word is the entity, the answer, or decides the label."""
    draw, lines = np.random.default_rng(0), []
    for row in range(rows):
        name = ("good", "bad")[row % 2]
        text = " ".join([name, *map(str, draw.choice(WORDS, 7)), str(row)])
        labels: dict[str, Any] = {
            "classification": {"text": text, "label": name},
            "multilabel": {"text": text, "label": [name, "all"]},
            "regression": {"text": text, "label": f"{row % 2 + row / 1000}"},
            "ner": {"text": text, "spans": [{"start": 0, "end": len(name), "label": name}]},
            "qa": {"context": text, "question": "good or bad ?", "answers": [{"text": name, "answer_start": 0}]},
        }
        lines.append(json.dumps(labels[kind]))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def augmented(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.folder / "augmented.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("kind", TASKS)
def test_every_task_learns_from_more_rows(kind: str, tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    data = write(tmp_path / "a.jsonl", kind)
    names = "delete,swap,insert,punctuation,typo" + (",entity" if kind == "ner" else "")
    options = QUICK | {"model": str(tiny_model_folder("bert")), "method": "full", "task": kind, "max_length": 128}
    run = tunesmith.train(data, out=str(tmp_path / "run"), augment=names, augment_factor=2, **options)
    plain = tunesmith.train(data, out=str(tmp_path / "plain"), **options)
    facts, lines = run.record["data"]["augmentation"], augmented(run)
    assert facts["names"] == names.split(",") and facts["factor"] == 2.0
    assert facts["rows"] == len(lines) > 60 and facts["rows"] + facts["dropped"] == 2 * 48
    assert sum(facts["by_technique"].values()) == len(lines) and set(facts["by_technique"]) <= set(names.split(","))
    # What is held out, counted and compared knows nothing of the new rows.
    for key in ("splits", "files", "labels"):
        assert run.record["data"][key] == plain.record["data"][key]
    assert run.record["identity"] == plain.record["identity"]
    assert run.record["baselines"][0]["metrics"] == plain.record["baselines"][0]["metrics"]
    assert run.record["best"]["steps"] == -(-(48 + len(lines)) // 8)
    sentence = f"{len(lines)} more training rows by delete, swap"
    assert all(sentence in (run.folder / name).read_text(encoding="utf-8") for name in ("report.html", "README.md"))
    assert "augmentation" not in plain.record["data"] and not (plain.folder / "augmented.jsonl").exists()
    for line in lines:
        if kind == "ner":
            (span,) = line["label"]
            assert line["text"][span["start"] : span["end"]] == span["label"]
        elif kind == "qa":
            (answer,) = line["label"]
            assert line["text_pair"][answer["start"] :].startswith(answer["text"])
        assert "~" in line["id"] and line["of"] == line["id"].split("~")[0]


def interrupted(monkeypatch: pytest.MonkeyPatch, data: Path, **options: Any) -> None:
    """A run that is stopped once its rows are made."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(pipeline, "fit", stop)
        tunesmith.train(data, **options)


def test_an_interrupted_run_goes_on_with_the_same_rows(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, folder = write(tmp_path / "a.jsonl", "classification"), tmp_path / "run"
    options = QUICK | {"model": str(tiny_model_folder("bert")), "method": "full", "out": str(folder)}
    interrupted(monkeypatch, data, augment="typo", **options)
    before = (folder / "augmented.jsonl").read_bytes()
    (folder / "augmented.jsonl").unlink()
    with pytest.raises(UsageError, match=r"`augment` was 'typo' and is now 'swap'"):
        tunesmith.train(data, augment="swap", resume=True, **options)
    run = tunesmith.train(data, augment="typo", resume=True, **options)
    assert (folder / "augmented.jsonl").read_bytes() == before
    assert run.record["status"] == "done" and run.record["data"]["augmentation"]["rows"] == len(augmented(run))


def test_only_original_rows_choose_the_regularisation(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, solve, seen = write(tmp_path / "a.jsonl", "classification"), FeatureExtraction.solve, list[tuple[int, int]]()

    def watched(self: FeatureExtraction, model: Any, vectors: np.ndarray, *others: Any) -> dict[str, float]:
        seen.append((len(vectors), others[-1]))  # what was not made from others comes last
        return solve(self, model, vectors, *others)

    monkeypatch.setattr(FeatureExtraction, "solve", watched)
    options = QUICK | {"model": str(tiny_model_folder("bert")), "out": str(tmp_path / "run")}
    run = tunesmith.train(data, method="features", augment="typo", **options)
    added = run.record["data"]["augmentation"]["by_technique"]["typo"]
    assert 0 < added <= 48 and seen == [(48 + added, 48)]


def test_what_does_not_suit_is_refused_before_anything_is_written(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path]
) -> None:
    data, folder = write(tmp_path / "a.jsonl", "classification"), tmp_path / "run"
    options = QUICK | {"model": str(tiny_model_folder("bert")), "out": str(folder)}
    with pytest.raises(UsageError, match="augment='entity': replaces"):
        tunesmith.train(data, augment="entity", method="full", task="classification", **options)
    with pytest.raises(UsageError) as caught:
        tunesmith.train(tmp_path / "not-read.csv", augment="eta,synonym", **options)
    assert [problem.split(";")[0] for problem in caught.value.problems] == [
        "`augment`: unknown augmentation 'eta'",
        "augment='synonym': needs synonyms",
    ]
    assert "did you mean 'eda'?" in caught.value.problems[0]
    with pytest.raises(UsageError, match="augment='entity': replaces"):
        tunesmith.train(data, augment="entity", **options)
    with pytest.raises(ModelError, match="no masked-language head; make one with `tunesmith adapt"):
        tunesmith.train(data, augment="masked", **options)
    assert not folder.exists()


@pytest.mark.parametrize("key", ["lexicon", "masked_model"])
def test_what_new_rows_are_made_with_is_not_overwritten(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tmp_path / "config.yaml"
    for path in (tmp_path / "run" / "inside", "~/run/inside"):
        config.write_text(f"augmentation:\n  {key}: {path}\n", encoding="utf-8")
        with pytest.raises(UsageError, match="run/inside, which it reads"):
            tunesmith.train("a.csv", config, augment="typo", out=str(tmp_path / "run"), overwrite=True)


def test_a_run_without_any_new_row_says_so(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    data = write(tmp_path / "a.jsonl", "classification")
    options = QUICK | {"model": str(tiny_model_folder("bert")), "method": "features", "out": str(tmp_path / "run")}
    run = tunesmith.train(data, augment="typo", augment_factor=0.01, **options)
    assert run.record["warnings"][-1].startswith("augmentation: no row could be added to 48; choose other techniques")
