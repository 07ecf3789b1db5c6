"""The report of a run: one self-contained HTML page."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from tunesmith.data.checks import Finding
from tunesmith.evaluation.evidence import Evidence
from tunesmith.evaluation.intervals import Score
from tunesmith.evaluation.metrics import Metric
from tunesmith.report import charts, summary
from tunesmith.report.summary import Column
from tunesmith.report.text import template
from tunesmith.run.record import RunRecord
from tunesmith.text import visible

if TYPE_CHECKING:
    from tunesmith.tasks.base import Task

MAX_MATRIX = 30
MAX_BARS = 30
LEVELS = ("failure", "warning", "note", "good")
CONFUSION = "Confusion matrix: true label by predicted label"
RELIABILITY = "Reliability: accuracy by confidence"


class Cell(NamedTuple):
    """A score of a table: its value and limits as text, and the value itself."""

    value: str
    limits: str
    share: float


def page(
    folder: Path,
    record: RunRecord,
    task: Task,
    evidence: Evidence,
    findings: Sequence[Finding],
    log: Sequence[Mapping[str, Any]],
) -> str:
    """The page about a finished run. It needs no other file, no network and no script.

    Args:
        folder: of the run, for the commands that are shown.
        evidence: of the test rows.
        log: the lines of ``metrics.jsonl``.
    """
    labels = [visible(label) for label in evidence.labels]
    matrix = evidence.confusion if 1 < len(labels) <= MAX_MATRIX else None
    content = summary.content(record, task)
    content |= {
        "intervals": _intervals(content["metric"], record.main_metric, content["columns"]),
        **_learning(record, log),
        "evidence": evidence,
        "matrix": None if matrix is None else charts.confusion_matrix(matrix, labels, CONFUSION),
        "by_label": _by_label(record, evidence),
        "reliability": charts.reliability_diagram(evidence.bins, RELIABILITY) if evidence.bins else None,
        "scatter": charts.scatter(*evidence.values, "Prediction by target") if evidence.values else None,
        "distribution": _distribution(record),
        "findings": sorted(findings, key=lambda finding: LEVELS.index(finding.level)),
        "commands": _commands(folder, record, task),
        "settings": {
            **record.config.model_dump(),
            "what the engine did": {part: found.model_dump() for part, found in record.engine.items()},
            "seconds by stage": record.timing.stages if record.timing else {},
            "versions": record.versions,
            "machine": record.machine.model_dump(),
        },
    }
    return template("report.html.j2").render(content)


def _intervals(metric: Metric, name: str, columns: Sequence[Column]) -> Markup:
    rows = [
        charts.Interval(visible(c.name), s.value, s.low, s.high, s.text(metric), is_main=c is columns[0])
        for c in columns
        if (s := c.scores.get(name))
    ]
    return charts.interval_bars(rows, f"{metric.title} with 95 % intervals", metric.is_proportion)


def _by_label(record: RunRecord, evidence: Evidence) -> dict[str, Any]:
    """Each label on its own, weakest first: with intervals where the task scores labels, else from the evidence."""
    support = {label: scores.support for label, scores in zip(evidence.labels, evidence.per_label, strict=True)}
    if found := record.by_label.get("test"):
        names = list(next(iter(found.values())))
        main = record.main_metric if record.main_metric in names else names[-1]
        titles, at = [record.described[name].title for name in names], names.index(main)

        def cell(name: str, score: Score) -> Cell:
            metric = record.described[name]
            return Cell(metric.value_text(score.value), score.limits(metric), score.value)

        rows = [
            (label, [cell(name, scores[name]) for name in names], support.get(label, scores[main].n))
            for label, scores in found.items()
        ]
    else:
        titles, at = ["Precision", "Recall", "F1"], 2
        rows = [
            (label, [Cell(f"{100 * v:.1f} %", "", v) for v in (one.precision, one.recall, one.f1)], one.support)
            for label, one in zip(evidence.labels, evidence.per_label, strict=True)
        ]
    return {"titles": titles, "at": at, "rows": sorted(rows, key=lambda row: row[1][at].share)}


def _learning(record: RunRecord, log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """(caption, chart) of the losses and of the validation metric by step, and the step whose model was kept.

    The step is None where the log lacks it: of the methods that were tried one without steps may be the better one.
    """
    assert record.best
    metric = record.described[record.best.metric]

    def lines(**keys: str) -> list[charts.Line]:
        points = {name: [(row["step"], row[key]) for row in log if key in row] for name, key in keys.items()}
        return [charts.Line(name, found) for name, found in points.items() if found]

    losses = lines(training="loss", validation="eval_loss")
    scores = lines(validation=f"eval_{record.best.metric}")
    curves = [("Loss", charts.line_chart(losses, "Loss by step", "step"))] if losses else []
    if scores:
        chart = charts.line_chart(scores, f"{metric.title} by step", "step", percent=metric.is_proportion)
        curves.append((metric.title, chart))
    kept = record.best.step
    known = any(step == kept for line in scores for step, _ in line.points)
    return {"curves": curves, "kept_step": kept if known else None}


def _distribution(record: RunRecord) -> dict[str, Any] | None:
    """Chart of the commonest labels by split; None where labels are not counted."""
    counts = {split.name: split.label_counts for split in record.data.splits}
    total: Counter[str] = sum(map(Counter, counts.values()), Counter())
    if not total:
        return None
    rows = [
        (visible(label), [split.get(label, 0) for split in counts.values()]) for label, _ in total.most_common(MAX_BARS)
    ]
    return {"chart": charts.bars(rows, list(counts), "Labels by split"), "more": max(0, len(total) - MAX_BARS)}


def _commands(folder: Path, record: RunRecord, task: Task) -> list[tuple[str, str]]:
    here, data, (new, labelled) = shlex.quote(str(folder)), record.data.files[0].path, task.example_files
    found = [
        ("Predict new texts, one JSON line each", f"tunesmith predict {here} {new}"),
        ("Score it on new labelled data", f"tunesmith evaluate {here} {labelled}"),
    ]
    if Path(data).exists() or data.startswith("hub:"):
        config, out = shlex.quote(str(folder / "config.yaml")), shlex.quote(f"{folder}-again")
        again = f"tunesmith train {shlex.quote(data)} --config {config} --out {out}"
        found.append(("Repeat this run", again))
    return [(words, visible(command)) for words, command in found]
