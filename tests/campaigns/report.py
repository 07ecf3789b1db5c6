"""Makes ``docs/reliability.md`` from the results of the campaigns: ``python -m tests.campaigns.report``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.campaigns.audit import sentence
from tests.campaigns.common import RESULTS, ROOT

PAGE = ROOT / "docs" / "reliability.md"
HEAD = """\
# Reliability: what was tried

`make prove` runs these programs (`tests/campaigns/`) one after the other and writes this page from their results
(`tests/campaigns/results/`); a sample of each runs with the tests. Each case runs in a process of its own, with tiny
models that are built in code. A case counts as good only where the goal was met to the letter; a process that dies,
hangs or ends in an unexpected exception is never good. What is promised stands in `SECURITY.md`.

| campaign | what is tried | goal | tried | good | verdicts | date, commit |
|---|---|---|---|---|---|---|
"""


def page(results: Path = RESULTS) -> str:
    """The text of the page."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))}
    advisories = found.pop("audit", None)
    lines = [_row(name, result) for name, result in found.items()]
    text = HEAD + "".join(lines)
    if advisories:
        text += f"\n{sentence(advisories)}\n"
    if bad := {name: result for name, result in found.items() if result["bad"]}:
        text += "\n## Not good\n\n"
        for name, result in bad.items():
            text += "".join(f"- {name}: {_cell(one['name'])}: {_cell(one['verdict'])}\n" for one in result["bad"])
    machines = sorted({_machine(result["machine"]) for result in found.values() if "machine" in result})
    return text + "".join(f"\nMeasured on {machine}.\n" for machine in machines)


def _row(name: str, result: dict[str, Any]) -> str:
    counts = {**result["verdicts"], **result["facts"]}
    said = "; ".join(f"{key}: {_number(value)}" for key, value in counts.items())
    cells = [f"`{name}`", result["title"], result["goal"], _number(result["total"]), _number(result["good"]), said]
    return "| " + " | ".join(map(_cell, [*cells, f"{result['date']}, {result['commit']}"])) + " |\n"


def _machine(facts: dict[str, Any]) -> str:
    shown = f"{facts['system']} {facts['processor']}, {facts['cores']} cores, {facts['memory_gib']} GiB"
    return f"{shown}, {', '.join(f'{name} {version}' for name, version in facts['versions'].items())}"


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
