"""The folder of stored states: its budget, the disk below it, who may use it."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.engine import cachedir
from tunesmith.engine.store import StateStore, estimate

WIDTH, BUDGET = 8, 10**7
LENGTHS = [3, 1, 5]


def make(folder: Path, layers: int = 4, budget: int = BUDGET) -> StateStore:
    return StateStore({"layers": layers}, WIDTH, torch.bfloat16, budget, folder)


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")


def fill(store: StateStore, lengths: list[int], first: int = 0) -> tuple[list[bytes], torch.Tensor]:
    keys = [key(first + i) for i in range(len(lengths))]
    states = torch.arange(sum(lengths) * WIDTH).view(-1, WIDTH).to(torch.bfloat16)
    store.put(keys, lengths, states)
    return keys, states


def committed(folder: Path, layers: int = 4, lengths: list[int] = LENGTHS) -> tuple[list[bytes], torch.Tensor, Path]:
    """A folder with one segment: its keys, its states and the folder of its identity."""
    store = make(folder, layers)
    keys, states = fill(store, lengths)
    store.commit()
    return keys, states, store.folder


def same(found: torch.Tensor | None, wanted: torch.Tensor) -> bool:
    return found is not None and torch.equal(found, wanted)


def total_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_budget_covers_the_whole_folder(tmp_path: Path) -> None:
    size = estimate(1, 40, WIDTH, torch.bfloat16) + 200  # the facts of an identity beside it
    store = make(tmp_path, budget=3 * size)
    keys, states = fill(store, [40] * 6)
    store.commit()
    assert 0 < len(store) < 6 and len(store) + store.refused == 6
    assert total_bytes(tmp_path) <= 3 * size
    assert same(make(tmp_path).get(keys[: len(store)]), states[: 40 * len(store)])
    assert "budget" in str(store.reason) and "\n" not in str(store.reason)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=10), st.integers(0, 3000))
def test_no_budget_is_exceeded(tmp_path_factory: pytest.TempPathFactory, lengths: list[int], budget: int) -> None:
    folder = tmp_path_factory.mktemp("states")
    for layers in (1, 2):
        store = make(folder, layers, budget)
        fill(store, lengths)
        store.commit()
        assert total_bytes(folder) <= budget and len(store) + store.refused == len(lengths)


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    stores = [make(tmp_path, layers) for layers in range(3)]
    rows = []
    for age, store in zip((30, 10, 20), stores, strict=True):
        rows.append(fill(store, [100]))
        store.commit()
        os.utime(store.folder / cachedir.FACTS, (0, time.time() - age))
    budget = total_bytes(tmp_path) + 100
    make(tmp_path, 0)  # opening it counts as use, so it is now the youngest
    store = make(tmp_path, 9, budget)
    keys, states = fill(store, [100])
    store.commit()
    assert same(make(tmp_path, 9).get(keys), states)
    found = [make(tmp_path, layers).get(rows[layers][0]) is not None for layers in range(3)]
    assert found == [True, True, False]
    assert same(stores[2].get(rows[2][0]), rows[2][1]), "who has it open may read on"
    assert total_bytes(tmp_path) <= budget


def test_nothing_is_evicted_for_what_cannot_fit(tmp_path: Path) -> None:
    keys, states, _ = committed(tmp_path, layers=1)
    store = make(tmp_path, 2, budget=2_000)
    fill(store, [1000])
    assert store.refused == 1 and same(make(tmp_path, 1).get(keys), states)


def test_a_size_can_be_asked_for_before_anything_is_computed(tmp_path: Path) -> None:
    committed(tmp_path, layers=1, lengths=[100])
    used = total_bytes(tmp_path)
    store = make(tmp_path, 2, budget=used + 1_000)
    assert store.refuses(900) is None
    assert store.refuses(used + 500) is None, "the other identity can go"
    assert "budget" in str(store.refuses(used + 1_001))
    assert "of the disk" in str(make(tmp_path, 2, budget=2**80).refuses(2**70))
    assert store.reason is None and not store.folder.exists(), "asking changes nothing"


def test_the_last_part_of_the_disk_stays_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for total, kept in ((10**12, 2**30), (10**9, 5 * 10**7)):
        disk = type(shutil.disk_usage("/"))(total, 0, kept + 1_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, disk=disk: disk)
        store = make(tmp_path / str(total))
        assert store.refuses(1_000) is None and "of the disk" in str(store.refuses(1_001))


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The system refuses to write files beyond that size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_storing_and_nothing_else(tmp_path: Path) -> None:
    store = make(tmp_path)
    kept, states = fill(store, LENGTHS)
    with largest_file(1_000):
        fill(store, [500], first=50)
    assert store.refused == 1 and "disk is full" in str(store.reason)
    assert same(store.get(kept), states)
    fill(store, [1], first=60)
    assert store.refused == 2, "it does not try again"
    store.commit()
    assert same(make(tmp_path).get(kept), states), "what was whole is kept"


def test_a_full_disk_when_committing_frees_the_space(tmp_path: Path) -> None:
    store = make(tmp_path)
    keys, _ = fill(store, LENGTHS)
    with largest_file(100):
        store.commit()
    assert "disk is full" in str(store.reason) and len(store) == 0 and store.get(keys) is None
    assert [path.name for path in store.folder.iterdir()] == [cachedir.FACTS]
    store.commit()


def test_a_folder_that_cannot_be_made_stores_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        store = make(folder)
        keys, _ = fill(store, LENGTHS)
        assert store.get(keys) is None and store.refused == 3
        assert str(folder) in str(store.reason) and store.refuses(1) == store.reason
        store.commit()


def test_a_folder_that_may_not_be_written_is_read(tmp_path: Path) -> None:
    keys, states, below = committed(tmp_path)
    for folder in (below, tmp_path):
        folder.chmod(0o500)
    try:
        if os.access(below, os.W_OK):
            pytest.skip("this user may write anywhere")
        store = make(tmp_path)
        assert same(store.get(keys), states)
        fill(store, [1], first=50)
        assert store.refused == 1 and "written" in str(store.reason)
    finally:
        for folder in (tmp_path, below):
            folder.chmod(0o700)


def test_a_folder_that_others_may_write_to_is_not_trusted(tmp_path: Path) -> None:
    folder = tmp_path / "states"
    keys, _, _ = committed(folder)
    folder.chmod(0o770)
    store = make(folder)
    assert store.get(keys) is None and "chmod 700" in str(store.reason)


def test_states_are_for_this_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        committed(tmp_path / "states")
    finally:
        os.umask(before)
    for path in (tmp_path / "states", *(tmp_path / "states").rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_nothing_is_made_before_something_is_stored(tmp_path: Path) -> None:
    store = make(tmp_path / "states")
    assert store.get([key(1)]) is None
    store.commit()
    assert not (tmp_path / "states").exists()


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TUNESMITH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    assert cachedir.cache_folder() == Path("/home/me/.cache/tunesmith/states")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cachedir.cache_folder() == Path("/caches/tunesmith/states")
    monkeypatch.setenv("TUNESMITH_CACHE", "~/mine")
    assert cachedir.cache_folder() == Path("/home/me/mine/states")
    assert cachedir.objection(Path("~/states")) is not None, "no home is known"
