"""The scores of a run in words and rows, shared by the page and the card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from tunesmith.evaluation import METRICS
from tunesmith.evaluation.intervals import Score
from tunesmith.report.text import METHODS, TASKS, duration, title, value_text

Run = Mapping[str, Any]

SPLITS = {"test": "test", "valid": "validation"}


@dataclass(frozen=True)
class Column:
    """A column of the table of scores: the model on a split, or a baseline."""

    name: str
    scores: Mapping[str, Score]
    seconds: float | None = None
    is_model: bool = False


def main_split(run: Run) -> str | None:
    """The split that scores are told for: test, else validation, else none."""
    return next((split for split in SPLITS if run.get("metrics", {}).get(split)), None)


def main_metric(run: Run, scores: Mapping[str, Score]) -> str:
    """The metric that chose the best checkpoint, where it was scored, else the first of the table."""
    chosen = str((run.get("best") or {}).get("metric", "")).removeprefix("eval_")
    return chosen if chosen in scores else next(name for name in METRICS if name in scores)


def columns(run: Run) -> list[Column]:
    """The model on each split, then each baseline on the main split; a metric outside `METRICS` is left out."""
    split = main_split(run)
    found = [
        Column(f"this model, {words}", _scores(run["metrics"][name]), is_model=True)
        for name, words in SPLITS.items()
        if run.get("metrics", {}).get(name)
    ]
    for baseline in run.get("baselines") or []:
        metrics = baseline["metrics"]
        scores = _scores(metrics.get(split, metrics))
        if scores:
            name = str(baseline["name"])
            found.append(Column(METHODS.get(name, name), scores, baseline.get("seconds")))
    return found


def headline(metric: str, score: Score, split: str) -> str:
    """What the main score means, in a sentence."""
    pattern = METRICS[metric].sentence
    words = {"n": f"{score.n:,}", "split": SPLITS[split], "value": value_text(metric, score.value)}
    return pattern.format(title=title(metric), **words)


def comparison(metric: str, score: Score, baselines: list[Column]) -> str | None:
    """How the model stands to the best of what was scored beside it, and what the intervals allow to say."""
    rivals = [column for column in baselines if metric in column.scores]
    if not rivals:
        return None
    sign = 1 if METRICS[metric].higher_is_better else -1
    rival = max(rivals, key=lambda column: sign * column.scores[metric].value)
    other = rival.scores[metric]
    gain = sign * (score.value - other.value)
    size = f"{abs(100 * gain):.1f} points" if METRICS[metric].is_proportion else f"{abs(gain):.3f}"
    reached = f"Beside it, {rival.name} reaches {value_text(metric, other.value)}"
    if not gain:
        return f"{reached}, the same."
    apart = score.low > other.high or other.low > score.high
    verdict = "the intervals do not overlap" if apart else "the intervals overlap, so the difference may be chance"
    return f"{reached}: the model is {size} {'better' if gain > 0 else 'worse'}; {verdict}."


def is_done(run: Run) -> bool:
    return run.get("status") == "done"


def data_file(run: Run) -> str | None:
    """Path of the first file of examples, as the user named it."""
    files = run.get("data", {}).get("files") or []
    return str(files[0]["path"]) if files else None


def name_of(run: Run) -> str:
    """``MiniLM on tickets.csv``: the last parts of the model's name and of the data's path."""
    model, data = PurePath(str(run["model"]["name"])).name, data_file(run)
    return f"{model} on {PurePath(data).name}" if data else model


def labels(run: Run) -> list[str]:
    """What the model tells apart: labels, or types of entities; none for questions, whose answers are any text."""
    names = [str(label) for label in run.get("data", {}).get("labels") or []]
    if run["task"] == "ner":
        return list(dict.fromkeys(name.partition("-")[2] for name in names if "-" in name))
    return [] if run["task"] == "qa" else names


def facts(run: Run) -> list[tuple[str, str]]:
    """What was trained, as (name, value) pairs; unknown values are left out."""
    model, timing = run["model"], run.get("timing") or {}
    total, trainable = model.get("parameters"), model.get("trainable")
    rows = [f"{split['rows']:,} {split['name']}" for split in run.get("data", {}).get("splits", [])]
    known, things = labels(run), "types" if run["task"] == "ner" else "labels"
    added = run.get("data", {}).get("augmentation")
    speed = timing.get("tokens_per_second")
    found = [
        ("Task", TASKS.get(run["task"], str(run["task"])) + (f", {len(known)} {things}" if known else "")),
        ("Method", METHODS.get(run["method"], str(run["method"]))),
        ("Model", str(model["name"]) + (f" @ {model['revision']}" if model.get("revision") else "")),
        ("Rows", " · ".join(rows)),
        ("Augmentation", f"{added['rows']:,} more training rows by {', '.join(added['names'])}" if added else ""),
        ("Parameters", f"{total:,}" if total else ""),
        ("Trained", f"{trainable:,} ({100 * trainable / total:.3g} %)" if total and trainable is not None else ""),
        ("Time", duration(timing["seconds"]) if timing.get("seconds") is not None else ""),
        ("Speed", f"{speed:,.0f} tokens a second" if speed else ""),
        ("Seed", str(run["seed"]) if run.get("seed") is not None else ""),
    ]
    return [(name, value) for name, value in found if value]


def is_sentence_model(folder: Path) -> bool:
    """Whether the saved model is a sentence-transformers folder (pooled head) and not a plain transformers one."""
    return (folder / "model" / "modules.json").is_file()


def _scores(metrics: Mapping[str, Any]) -> dict[str, Score]:
    return {name: Score(**metrics[name]) for name in METRICS if isinstance(metrics.get(name), Mapping)}
