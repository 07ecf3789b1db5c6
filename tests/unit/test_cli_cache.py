"""`tunesmith cache`: what is stored, and how it is removed."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch

from tunesmith.cli import main
from tunesmith.engine.cache import Budget, StateStore


@pytest.fixture
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two sets of states, of 2 and 1 rows."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path))
    for layers, rows in ((4, 2), (5, 1)):
        store = StateStore({"model": "bert", "layers": layers}, 8, torch.float32, Budget(10**6))
        store.put([bytes([i] * 16) for i in range(rows)], [3] * rows, torch.zeros(3 * rows, 8))
        store.commit()
        os.utime(store.path, (0, 1_700_000_000 + layers))
    return tmp_path / "states"


def tunesmith(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["tunesmith", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    captured = capsys.readouterr()
    return int(str(stopped.value.code)), captured.out, captured.err


def test_it_shows_what_is_stored(
    states: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, shown, _ = tunesmith(monkeypatch, capsys, "cache")
    first, second, total = shown.splitlines()
    assert code == 0 and "2 rows" in first and "used 2023-11-14T22:13" in first
    assert "layers 4, model bert" in first and "1 row " in second and "layers 5" in second
    assert total.startswith(f"{states}: ") and total.endswith(" kB")


def test_it_shows_the_same_as_json(
    states: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (states / ("0" * 64 + ".sqlite")).write_text("")  # nothing is known about it
    os.utime(states / ("0" * 64 + ".sqlite"), (0, 0))
    _, shown, _ = tunesmith(monkeypatch, capsys, "cache", "--json")
    found = json.loads(shown)
    assert found["folder"] == str(states)
    assert found["bytes"] == sum(file.stat().st_size for file in states.rglob("*") if file.is_file())
    unknown, *known = found["stores"]
    assert (unknown["identity"], unknown["rows"], unknown["bytes"]) == (None, 0, 0)
    assert [(store["identity"], store["width"], store["dtype"], store["rows"]) for store in known] == [
        ({"model": "bert", "layers": 4}, 8, "float32", 2),
        ({"model": "bert", "layers": 5}, 8, "float32", 1),
    ]


def test_facts_that_somebody_changed_are_not_shown(
    states: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in states.iterdir():
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE rows SET states = ? WHERE key = ?", [b'{"identity": {"model": "gone"}}', b""])
    _, shown, _ = tunesmith(monkeypatch, capsys, "cache")
    assert "gone" not in shown and shown.count("an unknown model") == 2


def test_it_removes_everything(
    states: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    used = sum(file.stat().st_size for file in states.rglob("*") if file.is_file())
    _, shown, _ = tunesmith(monkeypatch, capsys, "cache", "--clear", "--json")
    assert json.loads(shown) == {"folder": str(states), "removed": 2, "bytes": used, "left": []}
    assert not states.exists() and states.parent.exists()
    code, shown, _ = tunesmith(monkeypatch, capsys, "cache")
    assert code == 0 and shown == f"{states}: 0 bytes\n"
    assert tunesmith(monkeypatch, capsys, "cache", "--clear")[0] == 0


def test_it_leaves_alone_what_is_not_its_own(
    states: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (states / "notes.txt").write_text("mine")
    (states / "my.sqlite").write_text("mine")
    (states / ("b" * 64 + ".sqlite")).mkdir()
    other = tmp_path / "other"
    other.write_text("mine")
    (states / ("a" * 64 + ".sqlite")).symlink_to(other)
    code, shown, message = tunesmith(monkeypatch, capsys, "cache", "--clear")
    assert code == 0 and "removed 2 stores," in shown
    left = {"notes.txt", "my.sqlite", "a" * 64 + ".sqlite", "b" * 64 + ".sqlite"}
    assert all(name in message for name in left) and {path.name for path in states.iterdir()} == left
    assert (states / "notes.txt").read_text() == (states / "my.sqlite").read_text() == other.read_text() == "mine"


def test_what_is_being_computed_meanwhile_is_stored(
    states: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = StateStore({"model": "bert", "layers": 6}, 8, torch.float32, Budget(10**6))
    store.put([b"k" * 16], [1], torch.ones(1, 8))
    store.commit()
    store.put([b"l" * 16], [1], torch.ones(1, 8))
    assert tunesmith(monkeypatch, capsys, "cache", "--clear")[0] == 0 and not states.exists()
    store.commit()
    found = StateStore({"model": "bert", "layers": 6}, 8, torch.float32, Budget(10**6)).get([b"l" * 16])
    assert found is not None and torch.equal(found, torch.ones(1, 8))


def test_listing_loads_no_torch(states: Path) -> None:
    code = "import sys; from tunesmith.cli import main; sys.argv = ['tunesmith', 'cache']\ntry: main()\n"
    code += "except SystemExit: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n") and "2 rows" in done.stdout


def test_a_folder_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path))
    (tmp_path / "states").write_text("")
    for arguments in (["cache"], ["cache", "--clear"]):
        code, shown, message = tunesmith(monkeypatch, capsys, *arguments)
        assert code == 2 and not shown and message.count("\n") == 1 and "TUNESMITH_CACHE" in message


def test_a_store_that_has_just_been_made_is_shown_empty(
    states: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in states.iterdir():
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("DELETE FROM rows")
    code, shown, _ = tunesmith(monkeypatch, capsys, "cache")
    assert code == 0 and shown.count("0 rows") == 2
