"""What the README says about figures, commands and options is what the programs say."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from tunesmith.config.loading import flags

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("program", "page"), [("banking77", "README.md"), ("small", "docs/small.md")])
def test_a_table_is_the_one_that_the_benchmark_makes(program: str, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    benchmark = importlib.import_module(program)
    results = json.loads(benchmark.RESULT.read_text(encoding="utf-8"))
    table = f"{benchmark.BEGIN}\n{benchmark.table(results)}\n{benchmark.END}"
    assert table in (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("flag", sorted(set(re.findall(r"`(--[a-z-]+)", README))))
def test_every_flag_in_it_exists(flag: str) -> None:
    known = {f"--{name.replace('_', '-')}" for name in flags()}
    assert flag in known | {"--json", "--quiet", "--debug", "--help", "--set", "--config", "--against", "--no-deps"}
