"""What the commands show to a person, as text; `cli` prints it. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from tunesmith.catalogue.catalogue import Entry, Suggestion, TokenizerFit
from tunesmith.data.checks import Finding
from tunesmith.evaluation.intervals import Score
from tunesmith.run.record import RunRecord
from tunesmith.text import counted, duration, visible

if TYPE_CHECKING:
    from tunesmith.api import Evaluation

SHOWN_ROWS = 5
WIDTH = 10_000
"""No line is wrapped; a terminal does that."""
NOT_STATED = "?"
NUMERIC = ("pieces/word", "unknown", "cut", "99 %", "million", "context")
"""Headings of the columns of `models_text` that are set flush right."""


def finding_text(finding: Finding) -> str:
    """One line: level, split, message, rows, advice."""
    where = f" [{finding.split}]" if finding.split else ""
    shown = ", ".join(map(str, finding.rows[:SHOWN_ROWS])) + (", …" if len(finding.rows) > SHOWN_ROWS else "")
    rows = f" (rows {shown})" if finding.rows else ""
    advice = f"; {finding.advice}" if finding.advice else ""
    return f"{finding.level:>8}{where} {visible(finding.message)}{rows}{advice}"


def summary(record: RunRecord) -> str:
    """The score line of a finished run: primary metric with its interval, and that of the baselines."""
    name = record.main_metric
    metric, score = record.described[name], record.metrics["test"][name]
    assert record.timing
    seconds = duration(record.timing.seconds)
    lines = [f"test {name} {score.text(metric)}  n={score.n}  {record.method}, {seconds}"]
    for baseline in record.baselines:
        if found := baseline.metrics.get(name):
            lines.append(f"  beside it: {baseline.name} {found.text(metric)}, {duration(baseline.seconds)}")
    return "\n".join(lines)


def evaluation_text(result: Evaluation, against: str | None) -> str:
    """One line a metric, and the comparison with a second run."""
    means, compared = result.described, result.comparison or {}
    rows = [(name, f"{score.text(means[name])}  n={score.n}") for name, score in result.metrics.items()]
    for label, scores in result.by_label.items():
        found = ", ".join(f"{name} {score.text(means[name])}" for name, score in scores.items())
        rows.append((visible(label), found))
    for name, difference in compared.get("difference", {}).items():
        rows.append((name, f"{Score(**difference).text(means[name])}  (this run minus {against})"))
    if "p_value" in compared:
        rows.append(("McNemar", f"p = {compared['p_value']:.4g}"))
    return _table([{"name": name, "found": found} for name, found in rows], right=("name",), heading=False)


def stores_text(stores: Sequence[Mapping[str, Any]]) -> str:
    """One line for each set of kept states."""
    rows = [
        {
            "id": store["id"][:12],
            "rows": counted(store["rows"], "row"),
            "size": decimal(store["bytes"]),
            "used": f"used {store['last_used'][:16]}",
            "of": ", ".join(
                f"{name} {value!s:.20}" for name, value in (store["identity"] or {"of": "an unknown model"}).items()
            ),
        }
        for store in stores
    ]
    return _table(rows, right=("rows", "size"), heading=False)


def models_text(suggestions: Sequence[Suggestion]) -> str:
    """A table with a heading, one model a line; those that were measured come first, with their fit."""
    if not suggestions:
        return "no model in the catalogue is for that domain and that language; leave one of them out"
    measured = [_fit_cells(one.fit) | _facts(one) for one in suggestions if one.fit]
    others = [_facts(one) | ({"not measured": one.reason} if one.reason else {}) for one in suggestions if not one.fit]
    return "\n\n".join(_table(rows, NUMERIC) for rows in (measured, others) if rows)


def _fit_cells(fit: TokenizerFit) -> dict[str, str]:
    return {
        "pieces/word": f"{fit.pieces_per_word:.2f}",
        "unknown": f"{fit.unknown:.1%}",
        "cut": f"{fit.cut:.1%}",
        "99 %": str(fit.tokens_99),
    }


def _facts(suggestion: Suggestion) -> dict[str, str]:
    entry = suggestion.entry
    return {name: cell(entry) if entry else "" for name, cell in CATALOGUE_COLUMNS.items()} | {"model": suggestion.name}


def _languages(entry: Entry) -> str:
    more = len(entry.languages) - 2
    return " ".join(entry.languages[:2]) + (f" +{more}" if more > 0 else "")


CATALOGUE_COLUMNS: dict[str, Callable[[Entry], str]] = {
    "million": lambda entry: f"{entry.millions:.1f}",
    "context": lambda entry: str(entry.context),
    "domain": lambda entry: entry.domain,
    "language": _languages,
    "licence": lambda entry: entry.licence or NOT_STATED,
    "family": lambda entry: entry.family,
    "pooling": lambda entry: entry.pooling,
    "weights": lambda entry: {True: "safetensors", False: "pickle", None: NOT_STATED}[entry.safetensors],
}
"""Column of `models_text` → what stands in it."""


def _table(rows: Sequence[Mapping[str, str]], right: Container[str], heading: bool = True) -> str:
    """Columns as wide as their widest cell, those called by `right` flush right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=heading)
    for name in rows[0] if rows else ():
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row.values()))
    console = Console(width=WIDTH, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
