"""Files that somebody else may have written, and files that must outlive a crash."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from tunesmith.disk import (
    parse_json,
    private,
    read_json,
    read_json_lines,
    read_plain,
    remove_leftovers,
    replacing,
    write_text,
)


@pytest.mark.parametrize(
    "text, wrong",
    [
        ('{"a": 1, "a": 2}', "twice"),
        ("NaN", "NaN"),
        ("[" * 100 + "]" * 100, "64 levels"),
        ("[" * 100_000, "too deeply"),
        ("1" * 10_000, "digits"),
        ('{"a": 1} 2', "Extra data"),
        (b"\xff", "decode"),
    ],
)
def test_json_that_is_refused(text: str | bytes, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse_json(text)


def test_json_of_the_usual_kind() -> None:
    value = {"a": [{"b": [1, 2.5, None, True, "x"]}], "c": {}}
    assert parse_json(json.dumps(value)) == value
    assert parse_json("[" * 64 + "]" * 64) is not None


def test_only_plain_files_are_read(tmp_path: Path) -> None:
    file, link, pipe = tmp_path / "file", tmp_path / "link", tmp_path / "pipe"
    file.write_text("12345")
    link.symlink_to(file)
    os.mkfifo(pipe)
    assert read_plain(file, 5) == b"12345"
    for path, wrong in ((link, "link"), (pipe, "regular"), (Path("/dev/zero"), "regular")):
        with pytest.raises(ValueError, match=wrong):
            read_json(path)
    with pytest.raises(ValueError, match="more than 4 bytes"):
        read_plain(file, 4)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / "path"
    other.write_text("old")
    path.symlink_to(other)
    write_text(path, "new")
    assert (path.read_text(), other.read_text(), path.is_symlink()) == ("new", "old", False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "new"
    assert sorted(tmp_path.iterdir()) == [other, path]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    kept = tmp_path / "model" / "config.json"
    kept.parent.mkdir()
    kept.write_text("{}")
    (kept.parent / ".config.json.abc.tmp").write_text("{")
    (kept.parent / ".tmpXINAYu").write_bytes(b"half of the weights")  # so the writer of safetensors calls it
    remove_leftovers(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]


def test_private_files(tmp_path: Path) -> None:
    with private():
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "file").write_text("x")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "in", tmp_path / "in" / "file")]
    assert modes == [0o700, 0o600]
    (tmp_path / "out").write_text("x")
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) & 0o044


def test_half_a_line_at_the_end_is_dropped_and_other_odd_lines_are_named(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"a": 1}\n{"a": 0}\n{"a": 2')
    assert len(read_json_lines(file)) == 2
    for text, problem in {
        '{"a": 1}\n{"a"\n': "line 2: ",
        "[]\n": "line 1: expected an object",
        "1\n{}\n": "1: ",
        '{}\n{"a": NaN}\n': "line 2: NaN is not JSON",
        '{"a": Infinity}\n': "line 1: Infinity is not JSON",
    }.items():
        file.write_text(text)
        with pytest.raises(ValueError, match=problem):
            read_json_lines(file)
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="a link"):
        read_json_lines(file)
