"""A column that says of each row whether it is for training, validation or test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunesmith.config.schema import Config, DataSettings
from tunesmith.data.reading import load_splits, read_new
from tunesmith.data.texts import read_texts
from tunesmith.errors import DataError, UsageError
from tunesmith.opening import _with_own_parts, read_splits

VALUES = ["train"] * 16 + ["dev"] * 4 + ["test"] * 4


def rows(values: list[Any], name: str = "split", **more: list[Any]) -> dict[str, list[Any]]:
    texts = [f"some text {number}" for number in range(len(values))]
    return {"text": texts, "label": ["ab"[at % 2] for at in range(len(values))], name: values, **more}


def numbers(splits: Any) -> dict[str, list[int]]:
    return {name: records.table["row"].to_pylist() for name, records in splits.items()}


@pytest.mark.parametrize("name", ["split", "Split", "fold", "set", "partition", "subset"])
@pytest.mark.parametrize("valid", ["dev", "Validation", "val", "valid"])
def test_rows_go_to_the_splits_that_a_column_names(name: str, valid: str) -> None:
    values = [valid if value == "dev" else value.upper() for value in VALUES]
    splits, _ = load_splits({"train": rows(values, name)}, DataSettings())
    assert numbers(splits) == {"train": [*range(1, 17)], "valid": [*range(17, 21)], "test": [*range(21, 25)]}
    told = f"16 rows 'train' as train, 4 rows '{valid.lower()}' as valid, 4 rows 'test' as test"
    assert [note for note in splits["train"].notes if told in note]


@pytest.mark.parametrize("missing", ["dev", "test"])
def test_a_part_that_the_column_lacks_is_split_off_the_train_rows(missing: str) -> None:
    values = ["train" if value == missing else value for value in VALUES]
    splits, _, files = read_splits({"train": rows(values)}, Config())
    assert list(splits) == ["train", "valid", "test"] and all(map(len, splits.values()))
    kept = {"dev": "test", "test": "valid"}[missing]
    assert len(splits[kept]) == 4 and set(files) == {"train", kept}
    other = "valid" if kept == "test" else "test"
    assert set(numbers(splits)[other]) <= {at for at, value in enumerate(values, 1) if value == "train"}


def test_test_rows_without_labels_are_no_test_rows() -> None:
    source = rows(VALUES)
    source["label"][20:] = [None] * 4
    splits, _ = load_splits({"train": source}, DataSettings())
    assert list(splits) == ["train", "valid"]
    assert any("its own test split has no labels" in note for note in splits["train"].notes)


@pytest.mark.parametrize(
    ("values", "flags", "message"),
    [
        (["test"] * 4, {}, r"column 'split' has no rows for training \(4 rows 'test' as test\); data\.split=none"),
        (["train", "train", "", "test"], {}, r"row 3: column 'split' is empty in 1 row; expected train, valid, test"),
        (["x", "y"], {"split": "split"}, r"data\.split=split: its values are 'x', 'y'; expected train, valid, test"),
        (["x", "y"], {"split": "use"}, r"data\.split: no column 'use'; columns there"),
    ],
)
def test_what_a_column_of_splits_must_say(values: list[str], flags: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_splits({"train": rows(values)}, DataSettings(**flags))


def test_a_file_beside_the_column_is_refused_with_both_ways_out() -> None:
    sources = {"train": rows(VALUES), "test": rows(["x"] * 4, "kind")}
    with pytest.raises(
        UsageError, match=r"data\.test given, and column 'split' divides the rows, too .*data\.split=none"
    ):
        load_splits(sources, DataSettings())
    assert numbers(load_splits(sources, DataSettings(split="none"))[0]) == {
        "train": [*range(1, 25)],
        "test": [1, 2, 3, 4],
    }


def test_other_columns_of_such_names_are_left_alone() -> None:
    for name, values in {"split": ["train"] * 4, "set": ["a", "b"] * 2, "kind": VALUES}.items():
        splits, layout = load_splits({"train": rows(values, name)}, DataSettings())
        assert list(splits) == ["train"] and len(splits["train"]) == len(values) and not layout.notes
    splits, _ = load_splits({"train": rows(["0", "1", "2", "3"], "fold")}, DataSettings())
    assert "column 'fold' has numbers, which do not tell the test rows; it is not read" in splits["train"].notes[0]
    assert len(load_splits({"train": rows(VALUES, "kind")}, DataSettings(split="kind"))[0]) == 3
    grouped, _ = load_splits({"train": rows(VALUES)}, DataSettings(group="split"))
    assert list(grouped) == ["train"]


def test_values_that_name_no_split_are_not_read_and_that_is_told() -> None:
    splits, _ = load_splits({"train": rows([*VALUES, "extra", "extra"])}, DataSettings())
    assert sum(map(len, splits.values())) == 24
    assert any("2 rows 'extra' not read" in note for note in splits["train"].notes)


def test_the_settings_of_a_run_repeat_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    source = rows(VALUES)
    path.write_text("\n".join(",".join(map(str, row)) for row in [list(source), *zip(*source.values(), strict=True)]))
    sources = {"train": str(path)}
    first, _, files = read_splits(sources, Config())
    config = _with_own_parts(Config(), sources, files)
    assert config.data.test is None
    assert numbers(read_splits(sources, config)[0]) == numbers(first)


def test_scored_are_the_rows_for_test() -> None:
    source = rows(VALUES)
    _, layout = load_splits({"train": source}, DataSettings())
    records = read_new(source, layout, DataSettings(), DataSettings()).records
    assert records.table["row"].to_pylist() == [21, 22, 23, 24]
    assert any("scored are the rows for test of column 'split'" in note for note in records.notes)
    assert len(read_new(source, layout, DataSettings(), DataSettings(split="none")).records) == 24
    assert len(read_new(source, layout, DataSettings(), DataSettings(), need_label=False).records) == 24
    assert len(read_new(rows(["dev"] * 4), layout, DataSettings(), DataSettings()).records) == 4
    named = DataSettings(split="use")
    assert len(read_new(rows(VALUES, "use"), layout, named, DataSettings()).records) == 4
    assert len(read_new(rows(["x"] * 3, "kind"), layout, named, DataSettings()).records) == 3
    with pytest.raises(
        DataError, match=r"column 'split' has no rows for test .*; give data\.split=none to take all rows"
    ):
        read_new(rows(VALUES[:20]), layout, DataSettings(), DataSettings())


@pytest.mark.parametrize("labelled", [True, False])
def test_adapting_learns_from_no_row_for_test(labelled: bool) -> None:
    source = rows(VALUES)
    if not labelled:
        del source["label"]
    found = read_texts({"train": source}, DataSettings(), None, 1, False)
    assert found.train.to_pylist() == [f"some text {number}" for number in range(16)]
    assert found.held_out.to_pylist() == [f"some text {number}" for number in range(16, 20)]


def test_a_column_of_splits_is_no_column_of_labels() -> None:
    source = rows(VALUES)
    del source["label"]
    with pytest.raises(DataError, match="no label column"):
        load_splits({"train": source}, DataSettings())
