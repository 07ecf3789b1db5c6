"""Texts to adapt a model to: folders, files of lines or paragraphs, labelled files; which are held out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tunesmith
from tunesmith.config.schema import DataSettings
from tunesmith.data.readers import folder, plain
from tunesmith.data.texts import DomainTexts, read_texts
from tunesmith.errors import DataError
from tunesmith.progress import Progress

WORDS = ["good", "bad"]


def read(path: Path, **settings: Any) -> Any:
    others = {name: settings.pop(name) for name in ("valid", "test") if name in settings}
    return read_texts({"train": str(path), **others}, DataSettings(**settings), None, 1, True)


def test_folders_paragraphs_and_lines(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("one\n\ntwo")
    (folder / "deep" / "b.txt.gz").write_bytes(gzip.compress(b"three"))
    (folder / "picture.png").write_bytes(b"x")
    found = read(folder)
    assert sorted([*found.train.to_pylist(), *found.held_out.to_pylist()]) == ["one\n\ntwo", "three"]
    (tmp_path / "p.txt").write_text("one\nmore\n\n\ntwo\n\n")
    found = read(tmp_path / "p.txt")
    assert sorted([*found.train.to_pylist(), *found.held_out.to_pylist()]) == ["one\nmore", "two"]
    (tmp_path / "l.txt").write_text("one\ntwo\nthree\n")
    found = read(tmp_path / "l.txt")
    assert sorted([*found.train.to_pylist(), *found.held_out.to_pylist()]) == ["one", "three", "two"]
    (tmp_path / "same.txt").write_text("one\none\none\n")
    with pytest.raises(DataError, match="1 different text cannot be split"):
        read(tmp_path / "same.txt")


def test_duplicates_are_never_on_both_sides(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"text {i % 30}"}) for i in range(120)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = read(tmp_path / "a.jsonl")
    train, held_out = set(found.train.to_pylist()), set(found.held_out.to_pylist())
    assert len(train) + len(held_out) == 30 and not train & held_out and held_out
    assert not any("unlabelled" in note for note in found.notes)  # nothing to tell where nothing looks like a label


def test_a_labelled_file_is_split_as_train_splits_it(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"{WORDS[i % 2]} film {i},{WORDS[i % 2]}\n" for i in range(60)))
    out = str(tmp_path / "run")
    options = {"method": "features", "seed": 1, "progress": Progress(quiet=True)}
    tunesmith.train(path, model=str(tiny_model_folder("bert")), out=out, **options)
    parts = {}
    for name in ("valid", "test"):
        lines = (tmp_path / "run" / "predictions" / f"{name}.jsonl").read_text().splitlines()
        parts[name] = {json.loads(line)["text"] for line in lines}
    found = read(path)
    assert set(found.held_out.to_pylist()) == parts["valid"]
    assert len(found.train) == 48 and not set(found.train.to_pylist()) & (parts["valid"] | parts["test"])


def test_texts_of_the_test_file_are_not_learned_from(tmp_path: Path) -> None:
    for name, numbers in (("train", range(40)), ("test", range(30, 50)), ("valid", range(25, 31))):
        rows = [json.dumps({"text": f"text {i}", "label": WORDS[i % 2]}) for i in numbers]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    found = read(tmp_path / "train.jsonl", test=str(tmp_path / "test.jsonl"), valid=str(tmp_path / "valid.jsonl"))
    assert set(found.train.to_pylist()) == {f"text {i}" for i in range(25)}
    assert set(found.held_out.to_pylist()) == {f"text {i}" for i in range(25, 31)}
    assert any("left out 15 texts" in note for note in found.notes)


def texts_of(found: DomainTexts) -> list[str]:
    return sorted([*found.train.to_pylist(), *found.held_out.to_pylist()])


def test_stray_empty_lines_do_not_make_paragraphs(tmp_path: Path) -> None:
    lines = [f"text {i}" for i in range(400)]
    (tmp_path / "a.txt").write_text("\n".join([*lines[:200], "", *lines[200:]]))
    assert texts_of(read(tmp_path / "a.txt")) == sorted(lines)


@pytest.mark.parametrize(
    ("name", "how"),
    [("a.txt", "characters; part it by empty lines"), ("texts/a.txt.gz", "bytes; part it into several files")],
)
def test_a_text_that_is_too_long_is_refused_while_it_is_read(
    name: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reader in (folder, plain):
        monkeypatch.setattr(reader, "FIELD_LIMIT", 100)
    content = ("word\n" * 50 + "\n" + "other\n").encode()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(DataError, match=f"a text of more than 100 {how}"):
        read(tmp_path / "texts" if name.endswith(".gz") else tmp_path / name)


def test_a_file_of_a_folder_in_another_encoding_is_read_with_a_note(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("caf\xe9".encode("cp1252"))
    (tmp_path / "b.txt").write_text("tea", encoding="utf-8")
    found = read(tmp_path)
    assert texts_of(found) == ["café", "tea"]
    assert any("read as Windows-1252" in note for note in found.notes)


@pytest.mark.parametrize("column", ["label", "score"])
def test_labels_that_cannot_be_used_make_a_file_unlabelled(column: str, tmp_path: Path) -> None:
    """Most rows without a label; numbers that may be classes or quantities."""
    values = [""] * 38 + ["a", "b"] if column == "label" else [str(i * 37 % 1000) for i in range(40)]
    path = tmp_path / "a.csv"
    path.write_text(f"text,{column}\n" + "".join(f"text {i},{value}\n" for i, value in enumerate(values)))
    found = read(path)
    assert len(texts_of(found)) == 40 and len(found.held_out) == 4
    assert any("read as unlabelled texts, since its labels cannot be used" in note for note in found.notes)
    with pytest.raises(DataError, match=column):
        read(path, label=column)


def test_models_are_measured_on_the_texts_that_adapt_reads(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path]
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("good film")
    model = str(tiny_model_folder("bert"))
    found = tunesmith.find_models(data=tmp_path / "texts", folders=[model])
    assert any(one.name == model and one.fit is not None for one in found)
