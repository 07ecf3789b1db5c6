"""Where the benchmarks leave what they measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tunesmith.run.record import Machine, versions


def write_result(program: str, figures: Mapping[str, Any]) -> None:
    """Write ``results/<program>.json``: the figures, the versions and the machine; print the same."""
    result = {**figures, "versions": versions(), "machine": Machine.here(torch.get_num_threads()).model_dump()}
    text = json.dumps(result, indent=2) + "\n"
    (Path(__file__).parent / "results" / f"{program}.json").write_text(text, encoding="utf-8")
    sys.stdout.write(text)
