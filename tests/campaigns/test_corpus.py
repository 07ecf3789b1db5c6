"""The inputs that once found something, tried again; a process for each target, since some killed it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaigns.fuzz import CORPUS
from tests.campaigns.fuzz_worker import MAX_INPUT, find, is_good, outcome
from tests.campaigns.processes import fork

FILES = sorted(CORPUS.glob("*/*"))


@pytest.mark.parametrize("target", sorted({file.parent.name for file in FILES}))
def test_inputs_that_found_something(target: str, tmp_path: Path) -> None:
    files = [file for file in FILES if file.parent.name == target]
    assert all(file.stat().st_size <= MAX_INPUT for file in files)
    ended = fork(lambda: [outcome(find(target).call, file.read_bytes(), tmp_path) for file in files], tmp_path)
    assert ended.code == 0, f"{ended}"
    assert [(file.name, found) for file, found in zip(files, ended.value, strict=True) if not is_good(found[0])] == []
