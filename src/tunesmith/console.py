"""What the commands show to a person, as text; `cli` prints it. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from tunesmith.catalogue.catalogue import Entry, Suggestion
from tunesmith.data.checks import Finding
from tunesmith.data.summary import Summary
from tunesmith.evaluation.intervals import Difference, Score
from tunesmith.evaluation.labels import ByLabel, label_titles, weakest_first
from tunesmith.evaluation.metrics import PERPLEXITY, Metric
from tunesmith.run.record import AdaptRecord, RunRecord
from tunesmith.run.runs import RunFacts
from tunesmith.text import SHOWN_NAMES, counted, duration, name_list, visible

if TYPE_CHECKING:
    from tunesmith.adapting import AdaptedModel
    from tunesmith.evaluating import Evaluation
    from tunesmith.exporting.making import Exported

SHOWN_ROWS = 5
SHOWN_LABELS = 20
SHOWN_STORES = 20
ABSENT = "–"
WIDTH = 10_000
"""No line is wrapped; a terminal does that."""
NOT_STATED = "?"
NUMERIC = ("pieces/word", "unknown", "cut", "99 %", "million", "context")
"""Headings of the columns of `models_text` that are set flush right."""


def read_text(read: Summary) -> str:
    """What was read, a line for each split, column, the task and the labels."""
    lines = []
    for name, part in read.splits.items():
        numbered = f"rows are numbered by {part.numbered}"
        if part.lines_differ:
            numbered += " of the file (some have several, so a spreadsheet numbers them otherwise)"
        split = f"{name}: " if len(read.splits) > 1 else ""
        lines.append(f"{split}{visible(part.path)}: {part.format}, {counted(part.rows, 'row')}; {numbered}")
    for role, names in (*read.columns.items(), ("ignored", read.ignored)):
        units = read.lengths.get(role, {})
        size = "; ".join(
            f"{unit}: {one.median:,} (median), {one.percentile_95:,} (95 %), {one.longest:,} (longest)"
            for unit, one in units.items()
        )
        if names:
            lines.append(f"  {role.replace('_', ' '):<9} {name_list(names)}{f'   {size}' if size else ''}")
    lines.append(f"task: {read.task} ({read.why})")
    if read.values:
        lines.append(", ".join(f"{name} {value:,g}".replace(" -", " −") for name, value in read.values.items()))
    if read.labels:
        counts = {name: sum(splits.values()) for name, splits in read.labels.items()}
        most = sorted(counts.items(), key=lambda item: -item[1])
        shown = ", ".join(f"{visible(name, 80, exact=True)} {count:,}" for name, count in most[:SHOWN_NAMES])
        more = f", and {len(most) - SHOWN_NAMES:,} more" if len(most) > SHOWN_NAMES else ""
        lines.append(f"{counted(len(most), 'label')}: {shown}{more}")
    return "\n".join(lines)


def finding_text(finding: Finding) -> str:
    """One line: level, split, message, rows, advice."""
    where = f" [{finding.split}]" if finding.split else ""
    shown = ", ".join(map(str, finding.rows[:SHOWN_ROWS])) + (", …" if len(finding.rows) > SHOWN_ROWS else "")
    rows = f" (row{'s' if len(finding.rows) > 1 else ''} {shown})" if finding.rows else ""
    advice = f"; {finding.advice}" if finding.advice else ""
    return f"{finding.level:>8}{where} {visible(finding.message)}{rows}{advice}"


def summary(record: RunRecord) -> str:
    """The score line of a finished run: primary metric with its interval, what it is not better than, and those beside
    it."""
    name = record.main_metric
    metric, score = record.described[name], record.metrics["test"][name]
    assert record.timing
    lines = [f"test {name} {score.text(metric)}  n={score.n}  {record.method}, {duration(record.timing.seconds)}"]
    lines += [f"  {said}" for said in record.shortfalls]
    for other in record.baselines:
        if found := other.metrics.get(name):
            stands = f"; the model is {other.difference.verdict(metric)}" if other.difference else ""
            lines.append(f"  beside it: {other.name} {found.text(metric)}, {duration(other.seconds)}{stands}")
    return "\n".join(lines)


def evaluation_text(result: Evaluation, run: str, data: str, against: str | None) -> str:
    """What was scored; one line a metric; a table of the labels; the comparison with a second run."""
    means, compared = result.described, result.comparison or {}
    parts = [f"{run} on {data}, {counted(result.rows, 'row')}", _scores_text(result.metrics, means)]
    if result.by_label:
        parts += ["", *_labels_text(result.by_label, means, result.main_metric)]
    if compared:
        scores = {name: Score(**score) for name, score in compared["metrics"].items()}
        told = {name: Difference(**found).verdict(means[name]) for name, found in compared["difference"].items()}
        parts += ["", f"beside it {against}, on the same {counted(result.rows, 'row')}"]
        parts.append(_scores_text(scores, means, {name: f"{run} is {verdict}" for name, verdict in told.items()}))
    return "\n".join(parts)


def exported_text(made: Exported) -> str:
    """What was measured, a line each, and where the artefact is."""
    columns = ("name", "artefact", "model", "more")
    rows = [dict(zip(columns, cells, strict=True)) for cells in [("", "artefact", "model", ""), *made.table]]
    table = _table(rows, right=("name", "artefact", "model"), heading=False)
    return f"{table}\nartefact: {made}   card: {made.folder / 'README.md'}"


def _scores_text(
    scores: Mapping[str, Score], means: Mapping[str, Metric], more: Mapping[str, str] | None = None
) -> str:
    rows = [
        {"name": name, "score": f"{score.text(means[name])}  n={score.n}", "more": (more or {}).get(name, "")}
        for name, score in scores.items()
    ]
    return _table(rows, right=("name",), heading=False)


def _labels_text(by_label: ByLabel, means: Mapping[str, Metric], metric: str) -> list[str]:
    """The weakest labels, a line each."""
    titles = label_titles(by_label, means)
    rows = [
        {
            "label": visible(label, exact=True),
            **{name: one.text(titles[name]) if one else ABSENT for name, one in found.metrics.items()},
            "support": f"{found.support:,}",
            "predicted": f"{found.predicted:,}",
        }
        for label, found in weakest_first(by_label, metric)[:SHOWN_LABELS]
    ]
    more = len(by_label) - len(rows)
    table = _table(rows, right=("support", "predicted"))
    return [table, f"and {counted(more, 'label')} more with --json"] if more else [table]


def stores_text(stores: Sequence[Mapping[str, Any]]) -> str:
    """One line for each set of kept states, those that were used last."""
    rows = []
    for store in stores[-SHOWN_STORES:]:
        identity, used = store["identity"] or {"of": "an unknown model"}, f"used {store['last_used'][:16]}"
        of = ", ".join(f"{name} {value!s:.20}" for name, value in identity.items())
        sizes = {"rows": counted(store["rows"], "row"), "size": decimal(store["bytes"])}
        rows.append({"id": store["id"][:12], **sizes, "used": used, "of": of})
    more = len(stores) - len(rows)
    table = _table(rows, right=("rows", "size"), heading=False)
    return (f"… {more:,} more, used before; --json lists them all\n" if more else "") + table


def runs_text(runs: Sequence[RunFacts]) -> str:
    """One line a run, with a heading."""
    if not runs:
        return "no runs there"
    rows = []
    for run in runs:
        facts = run.to_dict()
        score = data = ""
        if run.record is not None:
            files = run.record.data.files
            others = len({file.path for file in files}) - 1  # a column may divide one file into splits
            data = visible(PurePath(files[0].path).name, 40) + (f" +{others}" if others else "")
            data += f", {counted(sum(facts['rows'].values()), 'row')}"
            if found := facts["score"]:
                metric = PERPLEXITY if isinstance(run.record, AdaptRecord) else run.record.described[found["metric"]]
                measured = Score(**{name: found[name] for name in ("value", "low", "high", "n")})
                score = f"{found['metric']} {measured.text(metric)}"
        rows.append(
            {
                "run": visible(run.folder),
                "state": facts["status"],
                "score": score,
                "method": facts.get("method", ""),
                "model": visible(PurePath(facts.get("model", "")).name, 40),
                "data": data or visible(facts.get("problem", ""), 80),
                "size": decimal(run.bytes),
                "changed": f"{run.changed:%Y-%m-%d %H:%M}",
            }
        )
    return _table(rows, right=("size",))


def adapted_text(model: AdaptedModel) -> str:
    """Perplexity before and after, and what to do with the model."""
    names = {"before": "before", "after_warmup": "after the head's warm-up", "after": "after"}
    lines = [
        f"perplexity on held-out text, {names[name]}: {score.text(PERPLEXITY)}  n={score.n} blocks"
        for name, score in model.perplexity.items()
    ]
    return "\n".join([*lines, f"model: {model}   next: tunesmith train DATA --model {model}"])


def models_text(suggestions: Sequence[Suggestion]) -> str:
    """A table with a heading, one model a line; those that were measured come first, with their fit."""
    if not suggestions:
        return "no model in the catalogue is for that domain and that language; leave one of them out"
    measured, others = list[dict[str, str]](), list[dict[str, str]]()
    for one in suggestions:
        facts = (_facts(one.entry) if one.entry else {}) | {"model": one.name}
        if fit := one.fit:
            shares = {"unknown": f"{fit.unknown:.1%}", "cut": f"{fit.cut:.1%}", "99 %": str(fit.tokens_99)}
            measured.append({"pieces/word": f"{fit.pieces_per_word:.2f}"} | shares | facts)
        else:
            others.append(facts | ({"not measured": one.reason} if one.reason else {}))
    return "\n\n".join(_table(rows, right=NUMERIC) for rows in (measured, others) if rows)


def _facts(entry: Entry) -> dict[str, str]:
    more = len(entry.languages) - 2
    return {
        "million": f"{entry.millions:.1f}",
        "context": str(entry.context),
        "domain": entry.domain,
        "language": " ".join(entry.languages[:2]) + (f" +{more}" if more > 0 else ""),
        "licence": entry.licence or NOT_STATED,
        "family": entry.family,
        "pooling": entry.pooling,
        "weights": {True: "safetensors", False: "pickle", None: NOT_STATED}[entry.safetensors],
    }


def _table(rows: Sequence[Mapping[str, str]], right: Container[str], heading: bool = True) -> str:
    """Columns (those of the longest row) as wide as their widest cell, the ones in `right` flush right."""
    table, columns = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=heading), max(rows, key=len)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(row.get(name, "")) for name in columns))
    console = Console(width=WIDTH, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
