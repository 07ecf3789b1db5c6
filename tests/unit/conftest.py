"""What several unit tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import tunesmith
from tests import tiny


@pytest.fixture(scope="session")
def trained(
    tiny_model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Kind of task → run of a tiny model, beside its ``rows.jsonl``; shared, and not to be changed."""
    made: dict[str, Path] = {}

    def train(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            rows = tiny.write_rows(kind, folder / "rows.jsonl")
            model = str(tiny_model_folder("bert"))
            run = tunesmith.train(rows, model=model, method="full", epochs=1, out=str(folder / "run"))
            made[kind] = run.folder
        return made[kind]

    return train
