"""A `DatasetDict`, in memory or saved: which of its splits is read for what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest

from tunesmith.config.schema import DataSettings
from tunesmith.data.layout import Layout
from tunesmith.data.parts import set_name
from tunesmith.data.reading import load_splits, read_new
from tunesmith.data.shapes import ONE_LABEL
from tunesmith.data.texts import read_texts
from tunesmith.errors import DataError, UsageError

PLAIN = DataSettings()
LAYOUT = Layout(ONE_LABEL, "text", None, ("label",))


def part(name: str, rows: int, labelled: bool = True) -> datasets.Dataset:
    labels = [("x", "y")[i % 2] if labelled else None for i in range(rows)]
    return datasets.Dataset.from_dict({"text": [f"{name} {i}" for i in range(rows)], "label": labels})


def parts(**sizes: int) -> datasets.DatasetDict:
    return datasets.DatasetDict({name: part(name, rows) for name, rows in sizes.items()})


@pytest.fixture(params=["memory", "saved", "hub"])
def given(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """How a set of splits is given."""

    def saved(splits: datasets.DatasetDict) -> str:
        splits.save_to_disk(tmp_path / "set")
        return str(tmp_path / "set")

    def online(splits: datasets.DatasetDict) -> str:
        monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name: list(splits))
        monkeypatch.setattr(datasets, "load_dataset", lambda name, split: splits[split])
        return "hub:owner/name"

    if request.param == "hub":
        return online
    return saved if request.param == "saved" else lambda splits: splits


def place(source: Any, name: str) -> str:
    """How one of its splits is called."""
    if not isinstance(source, str):
        return f"data[{name!r}]"
    return f"{source}:{name}" if source.startswith("hub:") else f"{source}/{name}"


@pytest.mark.parametrize("valid", ["validation", "valid", "dev"])
def test_its_own_splits_are_those_of_training(given: Any, valid: str) -> None:
    source = given(parts(**{"train": 8, valid: 4, "test": 2, "extra": 3}))
    splits, _ = load_splits({"train": source}, PLAIN)
    assert {name: records.texts[-1] for name, records in splits.items()} == {
        "train": "train 7",
        "valid": f"{valid} 3",
        "test": "test 1",
    }
    (note,) = splits["train"].notes
    assert f"{valid!r} is read as data.valid, 'test' is read as data.test, 'extra' is not read (" in note
    advice = f"{'data.' if isinstance(source, str) else ''}valid={place(source, 'NAME')}"
    assert note.endswith(f"({advice} takes another)")
    assert not splits["test"].notes


def test_what_is_given_takes_their_place(given: Any) -> None:
    source = given(parts(train=8, validation=4, test=2))
    splits, _ = load_splits({"train": source, "test": part("mine", 5)}, PLAIN)
    assert {name: len(records) for name, records in splits.items()} == {"train": 8, "valid": 4, "test": 5}
    assert "data.test" not in splits["train"].notes[0]


def test_a_test_split_whose_labels_are_held_back_is_none(given: Any) -> None:
    splits = parts(train=8, validation=4)
    splits["test"] = part("test", 5, labelled=False).cast_column("label", datasets.Value("string"))
    read, _ = load_splits({"train": given(splits)}, PLAIN)
    assert set(read) == {"train", "valid"}
    assert "its own test split has no labels, so test rows are split off" in read["train"].notes[1]
    given_too = {"train": parts(train=8), "test": splits["test"]}
    with pytest.raises(DataError, match="column 'label' is empty"):
        load_splits(given_too, PLAIN)


def test_texts_to_adapt_to_are_those_of_train(given: Any) -> None:
    splits = given(parts(train=30, validation=4, test=2))
    found = read_texts({"train": splits}, PLAIN, None, 1, False)
    assert len(found.train) == 30 and set(found.held_out.to_pylist()) == {f"validation {i}" for i in range(4)}
    assert sum("'validation' is read as data.valid" in note for note in found.notes) == 1
    plain = datasets.DatasetDict({name: part(name, 9).remove_columns("label") for name in ("train", "dev")})
    found = read_texts({"train": plain}, PLAIN, None, 1, True)
    assert len(found.train) == 9 and set(found.held_out.to_pylist()) == {f"dev {i}" for i in range(9)}
    assert sum("'dev' is read as data.valid" in note for note in found.notes) == 1


def test_new_data_is_its_test_split_or_is_named(given: Any) -> None:
    source = given(parts(train=8, validation=4, test=2))
    records = read_new(source, LAYOUT, PLAIN, PLAIN).records
    assert records.texts == ["test 0", "test 1"]
    assert records.notes == ("the split 'test' of 'test', 'train', 'validation'",)
    with pytest.raises(DataError) as caught:
        read_new(source, LAYOUT, PLAIN, PLAIN, need_label=False)
    assert str(caught.value).endswith(
        f"holds the splits 'test', 'train', 'validation'; give one of them, as in {place(source, 'test')}"
    )


def test_the_hub_is_not_asked_where_it_must_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name: pytest.fail("asked"))
    for ask in (
        lambda: load_splits({"train": "hub:owner/name"}, PLAIN, local=True),
        lambda: read_texts({"train": "hub:owner/name"}, PLAIN, None, 1, True),
    ):
        with pytest.raises(UsageError, match="refuses the Hub"):
            ask()


def test_several_splits_and_none_for_it(given: Any) -> None:
    source = given(parts(dev=8, validation=4))
    for read in (lambda: read_new(source, LAYOUT, PLAIN, PLAIN).records, lambda: load_splits({"train": source}, PLAIN)):
        with pytest.raises(DataError, match="holds the splits 'dev', 'validation'; give one of them"):
            read()


def test_the_only_split_is_it(given: Any) -> None:
    source = given(parts(dev=8))
    assert len(read_new(source, LAYOUT, PLAIN, PLAIN, need_label=False).records) == 8
    assert (
        len(read_new(source, LAYOUT, PLAIN, PLAIN).records)
        == len(load_splits({"train": source}, PLAIN)[0]["train"])
        == 8
    )


def write(folder: Path, **files: str) -> str:
    """A folder with these files; ``__`` in their names stands for a slash, and a file without ending is ``.txt``."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_csv", ".csv")
        path = path if path.suffix else path.with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return str(folder)


def classes(split: str, *more: str) -> dict[str, str]:
    return {f"{split}__{label}__{i}": f"{split} {label} {i}" for label in ("neg", "pos", *more) for i in range(2)}


def test_a_folder_of_splits_with_class_folders_is_read_as_them(tmp_path: Path) -> None:
    files = {**classes("train", "unsup"), **classes("test"), "train__urls": "http", "test__urls": "http", "README": "x"}
    path = write(tmp_path / "aclImdb", **files)
    splits, _ = load_splits({"train": path}, PLAIN)
    assert {name: sorted(set(records.labels)) for name, records in splits.items()} == {
        "train": ["neg", "pos"],
        "test": ["neg", "pos"],
    }
    notes = "\n".join(splits["train"].notes)
    assert "'test' is read as data.test" in notes and "no split: 'README.txt'" in notes
    assert "skipped, not text files of the folder: 'urls.txt'" in notes
    assert "left out, since the texts there have no class: 'unsup'" in notes
    assert (
        read_new(path, LAYOUT, PLAIN, PLAIN).records.texts[0] == "test neg 0" and set_name(f"{path}/train") == "aclImdb"
    )
    assert len(read_texts({"train": path}, PLAIN, None, 1, True).train) > 4  # texts without a class as well


def test_files_of_a_folder_that_are_called_as_splits_are_them(tmp_path: Path) -> None:
    rows = {f"{name}_csv": f"text,label\n{name} 1,x\n{name} 2,y\n" for name in ("train", "test", "val")}
    path = write(tmp_path / "set", **rows, notes="about it")
    splits, _ = load_splits({"train": path}, PLAIN)
    assert {name: records.texts[0] for name, records in splits.items()} == {
        "train": "train 1",
        "valid": "val 1",
        "test": "test 1",
    }
    assert "'notes.txt'" in splits["train"].notes[1]
    (tmp_path / "set" / "train.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"more than one file for a split: 'test\.csv', 'train\.csv', 'train\.jsonl'"):
        load_splits({"train": path}, PLAIN)


def test_folders_of_class_folders_that_are_no_splits_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "set", **classes("one"), **classes("two"))
    with pytest.raises(DataError, match=rf"subfolders of 'one', 'two'; name one, as in {path}/one with data.test="):
        load_splits({"train": path}, PLAIN)
    means = write(tmp_path / "means", train__1="the night train", plane__1="the jet", train__2="late", plane__2="sky")
    assert sorted(set(load_splits({"train": means}, PLAIN)[0]["train"].labels)) == ["plane", "train"]
    with pytest.raises(DataError, match=r"found none; name one of its files: 'tickets\.csv'"):
        load_splits({"train": write(tmp_path / "flat", tickets_csv="text,label\na,x\n")}, PLAIN)
