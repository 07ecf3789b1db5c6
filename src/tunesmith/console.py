"""What the commands show to a person, as text; `cli` prints it. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.catalogue.catalogue import Entry, Suggestion, TokenizerFit
from tunesmith.data.checks import Finding
from tunesmith.evaluation.intervals import Score
from tunesmith.evaluation.metrics import Metric
from tunesmith.text import counted

if TYPE_CHECKING:
    from tunesmith.api import Evaluation

SHOWN_ROWS = 5
NOT_STATED = "?"
NUMERIC = ("pieces/word", "unknown", "cut", "99 %", "million", "context")
"""Headings of the columns of `models_text` that are set flush right."""


def finding_text(finding: Finding) -> str:
    """One line: level, split, message, rows, advice."""
    where = f" [{finding.split}]" if finding.split else ""
    shown = ", ".join(map(str, finding.rows[:SHOWN_ROWS])) + (", …" if len(finding.rows) > SHOWN_ROWS else "")
    rows = f" (rows {shown})" if finding.rows else ""
    advice = f"; {finding.advice}" if finding.advice else ""
    return f"{finding.level:>8}{where} {finding.message}{rows}{advice}"


def summary(record: Mapping[str, Any]) -> str:
    """The score line of a finished run: primary metric with its interval, beside the strongest baseline."""
    metric = record["best"]["metric"]
    score = Score(**record["metrics"]["test"][metric])
    seconds = record["timing"]["seconds"]
    means = Metric(**record["described"][metric])
    lines = [f"test {metric} {score.text(means)}  n={score.n}  {record['method']}, {seconds:.0f} s"]
    for baseline in record["baselines"]:
        if metric in baseline["metrics"]:
            beside = Score(**baseline["metrics"][metric]).text(means)
            lines.append(f"  beside it: {baseline['name']} {beside}, {baseline['seconds']:.1f} s")
    return "\n".join(lines)


def evaluation_text(result: Evaluation, against: str | None) -> str:
    """One line a metric, and the comparison with a second run."""
    means = result.described
    lines = [f"{name:>14} {score.text(means[name])}  n={score.n}" for name, score in result.metrics.items()]
    for label, scores in result.by_label.items():
        lines.append(f"{label:>14} {', '.join(f'{name} {score.text(means[name])}' for name, score in scores.items())}")
    if result.comparison:
        for name, difference in result.comparison["difference"].items():
            lines.append(f"{name:>14} {Score(**difference).text(means[name])}  (this run minus {against})")
        if "p_value" in result.comparison:
            lines.append(f"{'McNemar':>14} p = {result.comparison['p_value']:.4g}")
    return "\n".join(lines)


def store_text(store: Mapping[str, Any], size: str) -> str:
    """One line about kept states."""
    identity = store["identity"] or {"of": "an unknown model"}
    facts = ", ".join(f"{name} {value!s:.20}" for name, value in identity.items())
    rows = counted(store["rows"], "row")
    return f"{store['id'][:12]}  {rows:>14}  {size:>9}  used {store['last_used'][:16]}  {facts}"


def models_text(suggestions: Sequence[Suggestion]) -> str:
    """A table with a heading, one model a line; those that were measured come first, with their fit."""
    if not suggestions:
        return "no model in the catalogue is for that domain and that language; leave one of them out"
    measured = [_fit_cells(one.fit) | _facts(one) for one in suggestions if one.fit]
    others = [_facts(one) | ({"not measured": one.reason} if one.reason else {}) for one in suggestions if not one.fit]
    return "\n\n".join(_table(rows) for rows in (measured, others) if rows)


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


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    """Columns as wide as their widest cell, those of numbers flush right."""
    lines = [{name: name for name in rows[0]}, *rows]
    widths = {name: max(len(line[name]) for line in lines) for name in rows[0]}
    padded = (
        [cell.rjust(widths[name]) if name in NUMERIC else cell.ljust(widths[name]) for name, cell in line.items()]
        for line in lines
    )
    return "\n".join("  ".join(cells).rstrip() for cells in padded)
