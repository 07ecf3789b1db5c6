"""What a trained model tells of the texts it has learned from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tunesmith.data.keys import column_keys, text_keys
from tunesmith.data.records import Records
from tunesmith.disk import write_json_lines
from tunesmith.errors import ModelError
from tunesmith.models.seen import FILE, about_known_rows, are_seen, known_rows, remember, seen_keys, warn_of_seen


def made(*texts: str, pairs: list[str] | None = None) -> Records:
    columns = {"text": list(texts), "row": range(2, len(texts) + 2)} | ({"text_pair": pairs} if pairs else {})
    return Records(pa.table(columns), "made.csv")


def keys(*texts: str, pairs: list[str] | None = None) -> np.ndarray:
    return text_keys(made(*texts, pairs=pairs))


def test_texts_are_remembered_over_a_chain_of_models_and_recognised_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    remember(first, seen_keys(None), keys("one", "two", "two"))
    remember(second, seen_keys(first), keys("three"))
    found = seen_keys(second)
    assert found.dtype == np.uint64 and np.array_equal(found, np.sort(keys("one", "two", "three")))
    assert np.isin(keys("two", "Two", "three ", "to"), found).tolist() == [True, True, True, False]
    assert "one" not in (second / FILE).read_text()
    remember(tmp_path, seen_keys(None))
    assert not (tmp_path / FILE).exists() and not len(seen_keys(tmp_path))


@pytest.mark.parametrize("content", ["12", "g" * 16, "é" * 16, "0" * 15 + "\n" + "0" * 17])
def test_a_damaged_list_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"seen\.txt: expected 16 hexadecimal digits in each line; restore"):
        seen_keys(tmp_path)


def test_splits_that_the_starting_model_has_seen_are_told_with_their_rows() -> None:
    splits = {"train": made("a", "b"), "valid": made("x"), "test": made("a", "c", "b", "d")}
    (found,) = warn_of_seen("runs/base", keys("a", "b"), splits)
    assert (found.level, found.split, found.rows, found.count) == ("warning", "test", (2, 4), 2)
    assert found.message.startswith("model runs/base has learned from 2 texts of test (50.0%)")
    assert "data.test=FILE" in found.advice
    assert [one.split for one in warn_of_seen("m", keys("x", "c"), splits)] == ["valid", "test"]
    assert warn_of_seen("m", keys("e", "f"), splits) == [] == warn_of_seen("m", seen_keys(None), splits)


def test_texts_are_seen_apart_from_case_and_spaces_and_by_the_exact_keys_of_older_runs() -> None:
    new = made(
        "Caf\u00e9  au lait", "CAFE\u0301 AU LAIT ", "caf\u00e9 au\u00a0la\u00adit", "cafe au lait", pairs=["x"] * 4
    )
    assert are_seen(new, keys("caf\u00e9 au lait")).tolist() == [True, True, True, False]
    assert are_seen(new, keys(*["caf\u00e9 au lait"], pairs=["X "])).tolist() == [True, True, True, False]
    for older in (text_keys(new, exact=True)[:1], column_keys(new.table["text"])[:1]):
        assert are_seen(new, older).tolist() == [True, False, False, False]


def test_pairs_are_seen_whole_or_where_a_text_of_them_was_read_alone() -> None:
    new = made("who", "when", "where", pairs=["one", "one", "two"])
    assert are_seen(new, keys("who", "when", pairs=["two", "one"])).tolist() == [False, True, False]
    assert are_seen(new, keys("two", "else")).tolist() == [False, False, True]  # by a model that was adapted on it


def test_rows_that_a_run_has_learned_from_or_was_chosen_by_are_counted(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    remember(tmp_path / "model", keys("a", "b"))
    new, valid = made("a", "v", "new", "b", "a"), tmp_path / "predictions" / "valid.jsonl"
    assert known_rows(tmp_path, new) == {"train": 3}
    write_json_lines(valid, ({"id": text, "text": text, "gold": "x"} for text in "va"))
    found = known_rows(tmp_path, new)
    assert found == {"train": 3, "valid": 1} and known_rows(tmp_path, made("new")) == {}
    assert about_known_rows("runs/a", found, 5).startswith(
        "runs/a: it has learned from 3 of 5 rows (60.0%) and its best state was chosen by 1 of 5 rows (20.0%); scores"
    )
    valid.write_text("[", encoding="utf-8")
    assert known_rows(tmp_path, new) == {"train": 3}
    write_json_lines(valid, [{"text": "who", "text_pair": "one"}])
    assert known_rows(tmp_path, made("who", pairs=["one"])) == {"valid": 1}
