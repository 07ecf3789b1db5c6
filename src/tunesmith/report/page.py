"""The report of a run: one self-contained HTML page."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.evaluation import METRICS
from tunesmith.evaluation.intervals import Score
from tunesmith.report import charts, summary
from tunesmith.report.evidence import Evidence, gather, label_counts, read_lines
from tunesmith.report.summary import Column, Run
from tunesmith.report.text import interval_text, template, title, value_text, visible

MAX_MATRIX = 30
MAX_BARS = 30
LEVELS = ("failure", "warning", "note", "good")
OPTIONAL = ("status", "warnings", "best", "config", "engine", "timing", "versions", "machine", "data")
NO_FINDING: dict[str, Any] = {"level": "note", "message": "", "advice": "", "split": None, "rows": [], "count": 0}


def write_report(folder: Path, run: Run) -> Path:
    """Write ``report.html`` into a run folder.

    Args:
        folder: the run folder; predictions, findings and the training log are read from it where they are there.
        run: the content of ``run.json``.

    Returns:
        The path of the page. It needs no other file, no network and no script.

    Raises:
        ModelError: a file of the run is damaged.
    """
    split = summary.main_split(run)
    evidence = gather(folder, run, split) if split else None
    content = {
        "name": summary.name_of(run),
        "run": dict.fromkeys(OPTIONAL) | dict(run),
        "done": summary.is_done(run),
        "facts": summary.facts(run),
        **_scores(run, split),
        **_learning(folder, run),
        "evidence": evidence,
        **(_pictures(evidence, run) if evidence else {"matrix": None, "reliability": None, "ranked": []}),
        "distribution": _distribution(label_counts(folder, run)),
        "findings": sorted((NO_FINDING | row for row in read_lines(folder / "findings.jsonl")), key=_severity),
        "commands": _commands(folder, run),
    }
    path = folder / "report.html"
    _write(path, template("report.html.j2").render(content))
    return path


def _write(path: Path, text: str) -> None:
    """Replace the page in one step; a lone surrogate, which UTF-8 cannot hold, becomes a question mark."""
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_text(text, encoding="utf-8", errors="replace")
    os.replace(aside, path)


def _scores(run: Run, split: str | None) -> dict[str, Any]:
    """The headline, the table of scores and the chart of the main metric."""
    columns = summary.columns(run)
    if split is None or not columns[0].scores:
        return {"headline": None, "table": None, "intervals": None}
    scores = columns[0].scores
    metric = summary.main_metric(run, scores)
    headline = {
        "title": title(metric),
        "value": value_text(metric, scores[metric].value),
        "interval": interval_text(metric, scores[metric]),
        "sentence": summary.headline(metric, scores[metric], split),
        "comparison": summary.comparison(metric, scores[metric], [c for c in columns if not c.is_model]),
    }
    rows = [
        {
            "title": title(name),
            "meaning": METRICS[name].meaning,
            "is_main": name == metric,
            "cells": [_cell(name, column.scores.get(name)) for column in columns],
        }
        for name in (metric, *(name for name in scores if name != metric))
    ]
    return {
        "headline": headline,
        "table": {"columns": columns, "rows": rows},
        "intervals": _intervals(metric, columns),
    }


def _cell(metric: str, score: Score | None) -> tuple[str, str] | None:
    return (value_text(metric, score.value), interval_text(metric, score)) if score else None


def _intervals(metric: str, columns: list[Column]) -> str:
    rows = [
        charts.Interval(visible(c.name), s.value, s.low, s.high, s.text(METRICS[metric]), is_main=index == 0)
        for index, c in enumerate(columns)
        if (s := c.scores.get(metric))
    ]
    return charts.interval_bars(rows, f"{title(metric)} with 95 % intervals", METRICS[metric].is_proportion)


def _learning(folder: Path, run: Run) -> dict[str, Any]:
    """(caption, chart) of the losses and of the validation metric by step, and the step whose model was kept.

    The step is None where the log lacks it: with ``--method auto`` a method without steps may be the better one.
    """
    log = [row for row in read_lines(folder / "metrics.jsonl") if isinstance(row.get("step"), int)]

    def line(name: str, key: str) -> charts.Line:
        # By step: the lines of a resumed run may repeat, and the last one holds.
        return charts.Line(
            name, sorted({row["step"]: float(row[key]) for row in log if _is_number(row.get(key))}.items())
        )

    metric = str((run.get("best") or {}).get("metric", "accuracy")).removeprefix("eval_")
    losses = [found for found in (line("training", "loss"), line("validation", "eval_loss")) if found.points]
    scores = [found for found in (line("validation", f"eval_{metric}"),) if found.points]
    curves: list[tuple[str, str]] = []
    if losses:
        curves.append(("Loss", charts.line_chart(losses, "Loss by step", "step")))
    if scores:
        share = metric in METRICS and METRICS[metric].is_proportion
        curves.append((title(metric), charts.line_chart(scores, f"{title(metric)} by step", "step", percent=share)))
    kept = (run.get("best") or {}).get("step")
    return {
        "curves": curves,
        "kept_step": kept if any(kept == step for line in scores for step, _ in line.points) else None,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) < float("inf")


def _pictures(evidence: Evidence, run: Run) -> dict[str, Any]:
    labels = [visible(label) for label in evidence.labels]
    matrix = None
    if evidence.confusion is not None and 1 < len(labels) <= MAX_MATRIX:
        matrix = charts.confusion_matrix(evidence.confusion, labels, "Confusion matrix: true label by predicted label")
    diagram = (
        charts.reliability_diagram(evidence.bins, "Reliability: accuracy by confidence") if evidence.bins else None
    )
    known = (run.get("by_label") or {}).get(evidence.split, {})
    scores = [known.get(label, {}).get("span_f1") for label in evidence.labels]
    limits = [interval_text("span_f1", Score(**score)) if score else "" for score in scores]
    ranked = sorted(zip(labels, evidence.per_label, limits, strict=False), key=lambda row: row[1].f1)
    return {"matrix": matrix, "reliability": diagram, "ranked": ranked}


def _distribution(counts: Mapping[str, Counter[str]]) -> dict[str, Any] | None:
    """Chart of the commonest labels by split; None where rows are nearly as varied as numbers."""
    total: Counter[str] = sum(counts.values(), Counter())
    if not total or len(total) * 2 > total.total():
        return None
    rows = [(visible(label), [split[label] for split in counts.values()]) for label, _ in total.most_common(MAX_BARS)]
    chart = charts.bars(rows, list(counts), "Labels by split")
    return {"chart": chart, "more": max(0, len(total) - MAX_BARS)}


def _severity(finding: Mapping[str, Any]) -> int:
    level = finding.get("level")
    return LEVELS.index(level) if level in LEVELS else len(LEVELS)


def _commands(folder: Path, run: Run) -> list[tuple[str, str]]:
    here, data = shlex.quote(str(folder)), summary.data_file(run)
    new = "new-questions.jsonl" if run["task"] == "qa" else "new-texts.csv"
    found = [("Predict new texts, one JSON line each", f"tunesmith predict {here} {new}")]
    if data:
        config = shlex.quote(str(folder / "config.yaml"))
        found.append(
            (
                "Score it on new labelled data",
                f"tunesmith evaluate {here} new-labelled.{'jsonl' if run['task'] in ('ner', 'qa') else 'csv'}",
            )
        )
        again = f"tunesmith train {shlex.quote(data)} --config {config} --out {shlex.quote(f'{folder}-again')}"
        found.append(("Repeat this run", again))
    return [(words, visible(command)) for words, command in found]
