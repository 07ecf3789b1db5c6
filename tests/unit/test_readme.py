"""What the README says about figures, commands and options is what the programs say."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from tunesmith.config.loading import flags

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_is_the_one_that_the_benchmark_makes() -> None:
    spec = importlib.util.spec_from_file_location("banking77", ROOT / "benchmarks" / "banking77.py")
    assert spec is not None and spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    results = json.loads(benchmark.RESULT.read_text())
    assert f"{benchmark.BEGIN}\n{benchmark.table(results)}\n{benchmark.END}" in README


@pytest.mark.parametrize("flag", sorted(set(re.findall(r"`(--[a-z-]+)", README))))
def test_every_flag_in_it_exists(flag: str) -> None:
    known = {f"--{name.replace('_', '-')}" for name in flags()}
    assert flag in known | {"--json", "--quiet", "--debug", "--help", "--set", "--config", "--against", "--no-deps"}
