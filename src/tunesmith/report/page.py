"""The report of a run: one self-contained HTML page."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.data.checks import Finding
from tunesmith.evaluation.evidence import Evidence
from tunesmith.report import charts, summary
from tunesmith.run.record import RunRecord
from tunesmith.text import visible

if TYPE_CHECKING:
    from tunesmith.tasks.base import Task

MAX_MATRIX = 30
MAX_BARS = 30
LEVELS = ("failure", "warning", "note", "good")


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
    labels = [visible(label, exact=True) for label in evidence.labels]
    matrix = evidence.confusion if 1 < len(labels) <= MAX_MATRIX else None
    content, name = summary.content(record, task), record.main_metric
    main = {visible(column.name): column.scores[name] for column in content["columns"] if name in column.scores}
    content |= {
        "intervals": charts.interval_bars(main, content["metric"]),
        **_learning(record, log),
        "evidence": evidence,
        "matrix": None if matrix is None else charts.confusion_matrix(matrix, labels),
        "reliability": charts.reliability_diagram(evidence.bins) if evidence.bins else None,
        "scatter": charts.scatter(*evidence.values) if evidence.values else None,
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
    return summary.template("report.html.j2").render(content)


def _learning(record: RunRecord, log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """(caption, chart) of the losses and of the validation metric by step, and the step whose model was kept.

    The step is None where the log lacks it: of the methods that were tried one without steps may be the better one.
    """
    assert record.best
    metric = record.described[record.best.metric]

    def lines(**keys: str) -> dict[str, charts.Points]:
        points = {name: [(row["step"], row[key]) for row in log if key in row] for name, key in keys.items()}
        return {name: found for name, found in points.items() if found}

    losses = lines(training="loss", validation="eval_loss")
    scores = lines(validation=f"eval_{record.best.metric}")
    curves = [("Loss", charts.line_chart(losses, "Loss by step"))] if losses else []
    if scores:
        curves.append((metric.title, charts.line_chart(scores, f"{metric.title} by step", metric.is_proportion)))
    kept = record.best.step
    return {"curves": curves, "kept_step": kept if kept in dict(scores.get("validation", ())) else None}


def _distribution(record: RunRecord) -> dict[str, Any] | None:
    """Chart of the commonest labels by split; None where labels are not counted."""
    splits = record.data.splits
    total = sum((Counter(split.label_counts) for split in splits), Counter[str]())
    if not total:
        return None
    labels = [label for label, _ in total.most_common(MAX_BARS)]
    counts = {split.name: [split.label_counts.get(label, 0) for label in labels] for split in splits}
    return {
        "chart": charts.label_bars([visible(label, exact=True) for label in labels], counts),
        "more": len(total) - len(labels),
    }


def _commands(folder: Path, record: RunRecord, task: Task) -> list[tuple[str, str]]:
    data, (new, labelled) = record.data.files[0].path, task.example_files
    run, config, again, source = map(shlex.quote, (f"{folder}", f"{folder}/config.yaml", f"{folder}-again", data))
    found = [
        ("Predict new texts, one JSON line each", f"tunesmith predict {run} {new}"),
        ("Score it on new labelled data", f"tunesmith evaluate {run} {labelled}"),
    ]
    if Path(data).exists() or data.startswith("hub:"):
        found.append(("Repeat this run", f"tunesmith train {source} --config {config} --out {again}"))
    return [(words, visible(command)) for words, command in found]
