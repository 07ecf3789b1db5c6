"""What a trained model tells of the texts it has learned from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tunesmith.data.keys import text_keys
from tunesmith.data.records import Records
from tunesmith.errors import ModelError
from tunesmith.models.seen import FILE, remember, seen_keys


def keys(*texts: str) -> np.ndarray:
    return text_keys(Records(pa.table({"text": list(texts), "row": range(len(texts))}), "made.csv"))


def test_texts_are_remembered_over_a_chain_of_models_and_recognised_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    remember(first, seen_keys(None), keys("one", "two", "two"))
    remember(second, seen_keys(first), keys("three"))
    found = seen_keys(second)
    assert found.dtype == np.uint64 and np.array_equal(found, np.sort(keys("one", "two", "three")))
    assert np.isin(keys("two", "Two", "three "), found).tolist() == [True, False, False]
    assert "one" not in (second / FILE).read_text()
    remember(tmp_path, seen_keys(None))
    assert not (tmp_path / FILE).exists() and not len(seen_keys(tmp_path))


@pytest.mark.parametrize("content", ["12", "g" * 16, "é" * 16, "0" * 15 + "\n" + "0" * 17])
def test_a_damaged_list_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"seen\.txt: expected 16 hexadecimal digits in each line; restore"):
        seen_keys(tmp_path)
