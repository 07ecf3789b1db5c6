"""Token states on disk: what comes back is what was put, or nothing; where they are, their budget, who may use them."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.engine import cache
from tunesmith.engine.cache import Budget, StateStore, estimate

IDENTITY = {"model": "bert", "layers": 4}
WIDTH = 8
BUDGET = 10**7
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
LENGTHS = [3, 1, 5]


def make(
    folder: Path,
    layers: int = 4,
    budget: int | Budget = BUDGET,
    dtype: torch.dtype = torch.bfloat16,
    still_true: Callable[[], bool] = lambda: True,
) -> StateStore:
    space = budget if isinstance(budget, Budget) else Budget(budget)
    return StateStore(IDENTITY | {"layers": layers}, WIDTH, dtype, space, folder, still_true)


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")


def values(lengths: list[int], first: int = 0, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(first)
    return torch.randn(sum(lengths), WIDTH, generator=generator).to(dtype)


def fill(store: StateStore, lengths: list[int], first: int = 0) -> tuple[list[bytes], torch.Tensor]:
    keys, states = [key(first + i) for i in range(len(lengths))], values(lengths, first, store.dtype)
    store.put(keys, lengths, states)
    return keys, states


def committed(folder: Path, layers: int = 4, lengths: list[int] = LENGTHS) -> tuple[list[bytes], torch.Tensor, Path]:
    """A folder with one store: its keys, its states and its file."""
    store = make(folder, layers)
    keys, states = fill(store, lengths)
    store.commit()
    return keys, states, store.path


def same(found: torch.Tensor | None, wanted: torch.Tensor) -> bool:
    return found is not None and found.dtype == wanted.dtype and torch.equal(found, wanted)


def total_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.sampled_from(DTYPES), st.data())
def test_states_come_back_in_the_order_asked_for(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], dtype: torch.dtype, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("states")
    store = make(folder, dtype=dtype)
    keys, states = fill(store, lengths)
    order = data.draw(st.lists(st.sampled_from(keys), min_size=1, max_size=20))
    rows = dict(zip(keys, states.split(lengths), strict=True))
    wanted = torch.cat([rows[name] for name in order])
    assert same(store.get(order), wanted), "before they are committed"
    assert make(folder, dtype=dtype).get(order) is None
    store.commit()
    more, other = fill(store, [2, 7], first=100)
    store.commit()
    for reader in (store, make(folder, dtype=dtype)):
        assert same(reader.get(order), wanted) and same(reader.get(more), other)
        assert reader.size == (sum(lengths) + 9) * WIDTH * dtype.itemsize
    assert same(make(folder, dtype=dtype).get([*order, *order]), torch.cat([wanted, wanted])), "twice in one call"


def test_every_bit_pattern_survives(tmp_path: Path) -> None:
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    store = make(tmp_path)
    store.put([key(1)], [len(bits) // WIDTH], bits.view(torch.bfloat16).view(-1, WIDTH))
    store.commit()
    found = make(tmp_path).get([key(1)])
    assert found is not None and torch.equal(found.view(torch.int16).view(-1), bits)


def test_a_missing_row_makes_the_answer_empty(tmp_path: Path) -> None:
    store = make(tmp_path)
    keys, _ = fill(store, LENGTHS)
    assert store.get([*keys, key(99)]) is None
    assert store.get(keys) is not None and store.get([key(99)]) is None


def test_a_row_is_stored_once(tmp_path: Path) -> None:
    store = make(tmp_path)
    keys, states = fill(store, LENGTHS)
    for _ in range(2):
        store.put([*keys, keys[0]], [*LENGTHS, LENGTHS[0]], torch.cat([states, states[: LENGTHS[0]]]) + 1)
        assert same(store.get(keys), states)
        store.commit()
        assert same(make(tmp_path).get(keys), states)
    assert make(tmp_path).size == sum(LENGTHS) * WIDTH * 2


def test_rows_are_written_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "BLOCK_BYTES", 10_000)
    store = make(tmp_path)
    for first in range(0, 1000, 10):
        fill(store, [10] * 10, first)
    reader = make(tmp_path)
    assert reader.get([key(0), key(500)]) is not None and reader.size > 800 * 10 * WIDTH * 2


@pytest.mark.parametrize("length", [1, 3, 20, 127, 129, 250, 1000])
def test_the_estimate_is_about_what_is_written(tmp_path: Path, length: int) -> None:
    rows = 400
    _, _, file = committed(tmp_path, lengths=[length] * rows)
    expected = estimate(rows, rows * length, WIDTH, torch.bfloat16)
    assert 0.5 * expected <= file.stat().st_size <= expected


def test_nothing_is_stored_when_not_all_would_fit(tmp_path: Path) -> None:
    whole = estimate(len(LENGTHS), sum(LENGTHS), WIDTH, torch.bfloat16)
    expected = (len(LENGTHS), sum(LENGTHS))
    small = make(tmp_path / "small", budget=Budget(whole - 1, "engine.cache_gigabytes", expected))
    keys, _ = fill(small, LENGTHS)
    small.commit()
    assert small.get(keys) is None and not (tmp_path / "small").exists()
    assert small.reason is not None and "do not fit" in small.reason
    assert small.reason.endswith("; raise engine.cache_gigabytes")

    enough = make(tmp_path / "enough", budget=Budget(BUDGET, expected=expected))
    keys, states = fill(enough, LENGTHS)
    assert same(enough.get(keys), states)
    enough.commit()
    assert make(tmp_path / "enough", budget=Budget(BUDGET, expected=expected)).reason is None


def test_a_changed_byte_anywhere_is_noticed_and_healed(tmp_path: Path) -> None:
    keys, states, file = committed(tmp_path, lengths=[300, 1, 5])
    good, noticed = file.read_bytes(), 0
    for position in range(0, len(good), 97):
        file.write_bytes(good[:position] + bytes([good[position] ^ 0x10]) + good[position + 1 :])
        reader = make(tmp_path)
        found = [reader.get([name]) for name in keys]
        rows = zip(found, states.split([300, 1, 5]), strict=True)
        assert all(row is None or same(row, wanted) for row, wanted in rows), position
        noticed += any(row is None for row in found)
        reader.put(keys, [300, 1, 5], states)
        assert same(reader.get(keys), states)
        reader.commit()
        assert same(reader.get(keys), states) and same(make(tmp_path).get(keys), states), position
    assert noticed >= 300 * WIDTH * 2 // 97, "every byte of a row matters"


@given(st.integers(0, 30_000))
def test_a_file_that_is_cut_short_gives_nothing_that_is_wrong(
    tmp_path_factory: pytest.TempPathFactory, size: int
) -> None:
    folder = tmp_path_factory.mktemp("states")
    keys, states, file = committed(folder, lengths=[300, 1, 500])
    os.truncate(file, min(size, file.stat().st_size - 1))
    reader = make(folder)
    found = [reader.get([name]) for name in keys]
    rows = zip(found, states.split([300, 1, 500]), strict=True)
    assert all(row is None or same(row, wanted) for row, wanted in rows)
    fill(reader, [300, 1, 500])
    reader.commit()
    assert same(make(folder).get(keys), states)


def test_a_file_that_is_cut_while_it_is_open_does_no_harm(tmp_path: Path) -> None:
    keys, _, file = committed(tmp_path, lengths=[3, 1, 5000])
    reader = make(tmp_path)
    assert reader.get(keys) is not None
    os.truncate(file, file.stat().st_size - 20_000)
    assert reader.get(keys) is None


def test_a_file_that_is_something_else_is_replaced(tmp_path: Path) -> None:
    keys, states, file = committed(tmp_path)
    for content in (b"", b"not a database" * 1000, b"SQLite format 3\0" + b"\7" * 5000):
        file.write_bytes(content)
        store = make(tmp_path)
        assert store.get(keys) is None
        fill(store, LENGTHS)
        store.commit()
        assert same(make(tmp_path).get(keys), states)


def test_a_store_of_another_identity_is_not_believed(tmp_path: Path) -> None:
    keys, _, file = committed(tmp_path, layers=4)
    other = make(tmp_path, layers=5)
    assert other.get(keys) is None
    shutil.copy(file, other.path)
    reader = make(tmp_path, layers=5)
    assert reader.get(keys) is None
    wider = StateStore(IDENTITY, 2 * WIDTH, torch.bfloat16, Budget(BUDGET), tmp_path)
    assert wider.get(keys) is None, "the width is part of the identity"


def test_a_row_under_another_key_is_not_believed(tmp_path: Path) -> None:
    keys, _, file = committed(tmp_path, lengths=[4, 4])
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DELETE FROM rows WHERE key = ?", [keys[0]])
        connection.execute("UPDATE rows SET key = ? WHERE key = ?", keys)
    assert make(tmp_path).get(keys[:1]) is None


def test_links_and_other_things_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    keys, _, file = committed(tmp_path / "cache")
    elsewhere = tmp_path / "elsewhere"
    file.rename(elsewhere)
    before = elsewhere.read_bytes()
    for place in (lambda: file.symlink_to(elsewhere), lambda: file.mkdir(), lambda: os.mkfifo(file)):
        place()
        store = make(tmp_path / "cache")
        fill(store, [2], first=50)
        store.commit()
        assert store.get(keys) is None and "not a file" in str(store.reason) and not cache.stores(tmp_path / "cache")
        file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
    assert elsewhere.read_bytes() == before


def test_states_are_written_only_while_what_made_them_is_still_true(tmp_path: Path) -> None:
    answers = iter([True, False])
    store = make(tmp_path, still_true=lambda: next(answers))
    kept, states = fill(store, LENGTHS)
    store.commit()
    dropped, _ = fill(store, LENGTHS, first=50)
    store.commit()
    for reader in (store, make(tmp_path)):
        assert same(reader.get(kept), states) and reader.get(dropped) is None


PROCESS = """
import sys, torch
from pathlib import Path
from tunesmith.engine import cache
cache.BLOCK_BYTES = 1_000
store = cache.StateStore({"model": "bert", "layers": 4}, 8, torch.bfloat16, cache.Budget(10**7), Path(sys.argv[1]))
for i in range(int(sys.argv[2]), int(sys.argv[2]) + 40):
    store.put([i.to_bytes(16, "little")], [i % 5 + 1], torch.full((i % 5 + 1, 8), float(i)))
print("written", flush=True)
sys.stdin.readline()
store.commit()
"""


@contextmanager
def process(folder: Path, first: int) -> Iterator[subprocess.Popen[str]]:
    """Puts rows `first` to `first` + 39, and commits the last of them when its input ends."""
    command = [sys.executable, "-c", PROCESS, str(folder), str(first)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def wait_for_rows(running: subprocess.Popen[str]) -> None:
    assert running.stdout is not None and running.stdout.readline() == "written\n"


def test_two_processes_that_write_at_once_are_both_right(tmp_path: Path) -> None:
    with process(tmp_path, 0) as one, process(tmp_path, 20) as two:
        for running in (one, two):
            wait_for_rows(running)
        own = make(tmp_path)
        fill(own, [1], first=500)
        own.commit()
        for running in (one, two):
            running.communicate("\n", timeout=60)
            assert running.returncode == 0
    reader = make(tmp_path)
    assert reader.size == (sum(i % 5 + 1 for i in range(60)) + 1) * WIDTH * 2
    for i in range(60):
        assert same(reader.get([key(i)]), torch.full((i % 5 + 1, WIDTH), float(i), dtype=torch.bfloat16))
    assert os.listdir(tmp_path) == [reader.path.name], "nothing else stays"


def test_a_killed_process_leaves_nothing_that_is_wrong(tmp_path: Path) -> None:
    with process(tmp_path, 0) as running:
        wait_for_rows(running)
        running.send_signal(signal.SIGKILL)
        running.wait(timeout=60)
    store = make(tmp_path)
    found = [store.get([key(i)]) for i in range(40)]
    assert found[0] is not None and found[39] is None
    for i, row in enumerate(found):
        assert row is None or same(row, torch.full((i % 5 + 1, WIDTH), float(i), dtype=torch.bfloat16))
    keys, states = fill(store, LENGTHS, first=100)
    store.commit()
    assert same(make(tmp_path).get(keys), states)


def test_a_store_that_another_process_replaced_is_followed(tmp_path: Path) -> None:
    keys, states, _ = committed(tmp_path)
    store = make(tmp_path)
    assert same(store.get(keys), states)
    cache.clear(tmp_path)
    assert same(store.get(keys), states), "who has it open may read on"
    others, other_states, _ = committed(tmp_path, lengths=[7])
    assert store.get(keys[1:]) is None and same(store.get(others), other_states)
    fill(store, LENGTHS, first=50)
    store.commit()
    assert make(tmp_path).get([key(50)]) is not None


def test_the_budget_covers_the_whole_folder(tmp_path: Path) -> None:
    budget = 100_000
    store = make(tmp_path, budget=budget)
    keys, states = fill(store, [500] * 3)
    store.commit()
    more, _ = fill(store, [500] * 30, first=50)
    store.commit()
    assert total_bytes(tmp_path) <= budget
    assert same(make(tmp_path).get(keys), states) and make(tmp_path).get(more[-1:]) is None
    assert "budget" in str(store.reason) and "\n" not in str(store.reason)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=30), st.integers(0, 150_000))
def test_no_budget_is_exceeded(tmp_path_factory: pytest.TempPathFactory, lengths: list[int], budget: int) -> None:
    folder = tmp_path_factory.mktemp("states")
    for layers in (1, 2):
        store = make(folder, layers, budget)
        keys, states = fill(store, lengths)
        store.commit()
        assert total_bytes(folder) <= budget
        assert same(store.get(keys), states) == (store.reason is None)


def test_the_budget_holds_even_where_the_estimate_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_row_bytes", lambda size: 1)
    keys, states, _ = committed(tmp_path)
    store = make(tmp_path, budget=total_bytes(tmp_path) + cache.FILE_BYTES + 10_000)
    fill(store, [500] * 100, first=50)
    store.commit()
    assert "budget is full" in str(store.reason) and total_bytes(tmp_path) <= store.budget.bytes
    assert same(make(tmp_path).get(keys), states)


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    stores = [make(tmp_path, layers) for layers in range(3)]
    rows = []
    for age, store in zip((30, 10, 20), stores, strict=True):
        rows.append(fill(store, [5000]))
        store.commit()
        os.utime(store.path, (0, time.time() - age))
        assert store.get(rows[-1][0]) is not None
    budget = total_bytes(tmp_path) + 50_000
    make(tmp_path, 0)  # opening it counts as use, so it is now the youngest
    store = make(tmp_path, 9, budget)
    keys, states = fill(store, [5000])
    store.commit()
    assert same(make(tmp_path, 9).get(keys), states)
    found = [make(tmp_path, layers).get(rows[layers][0]) is not None for layers in range(3)]
    assert found == [True, True, False]
    assert same(stores[2].get(rows[2][0]), rows[2][1]), "who has it open may read on"
    assert total_bytes(tmp_path) <= budget


def test_nothing_is_evicted_for_what_cannot_fit(tmp_path: Path) -> None:
    keys, states, _ = committed(tmp_path, layers=1)
    store = make(tmp_path, 2, budget=50_000)
    fill(store, [10_000])
    store.commit()
    assert "budget" in str(store.reason) and same(make(tmp_path, 1).get(keys), states)


def test_a_size_can_be_asked_for_before_anything_is_computed(tmp_path: Path) -> None:
    committed(tmp_path, layers=1, lengths=[100])
    used = total_bytes(tmp_path)
    store = make(tmp_path, 2, budget=used + 1_000)
    assert store.refuses(900) is None
    assert store.refuses(used + 500) is None, "the other store can go"
    assert "budget" in str(store.refuses(used + 1_001))
    assert "of the disk" in str(make(tmp_path, 2, budget=2**80).refuses(2**70))
    assert store.reason is None and not store.path.exists(), "asking changes nothing"


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


def test_a_disk_that_takes_no_more_ends_storing_and_nothing_else(tmp_path: Path) -> None:
    store = make(tmp_path)
    kept, states = fill(store, LENGTHS)
    store.commit()
    with largest_file(store.path.stat().st_size):
        more, _ = fill(store, [5000], first=50)
        store.commit()
    assert "cannot be written" in str(store.reason)
    assert same(store.get(kept), states) and store.get(more) is None
    fill(store, [1], first=60)
    store.commit()
    assert store.get([key(60)]) is None, "it does not try again"
    assert same(make(tmp_path).get(kept), states), "what was whole is kept"
    assert os.listdir(tmp_path) == [store.path.name]


def test_a_folder_that_cannot_be_made_stores_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        store = make(folder)
        keys, _ = fill(store, LENGTHS)
        store.commit()
        assert store.get(keys) is None
        assert str(folder) in str(store.reason) and store.refuses(1) == store.reason


def test_a_folder_that_may_not_be_written_is_read(tmp_path: Path) -> None:
    keys, states, file = committed(tmp_path)
    file.chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write anywhere")
        store = make(tmp_path)
        assert same(store.get(keys), states)
        fill(store, [1], first=50)
        store.commit()
        assert "written" in str(store.reason) and same(store.get(keys), states)
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_others_may_write_to_is_not_trusted(tmp_path: Path) -> None:
    folder = tmp_path / "states"
    keys, _, file = committed(folder)
    folder.chmod(0o770)
    store = make(folder)
    assert store.get(keys) is None and "chmod 700" in str(store.reason)
    folder.chmod(0o700)
    file.chmod(0o660)
    store = make(folder)
    assert store.get(keys) is None and "chmod 600" in str(store.reason)


def test_the_folder_of_states_is_no_link_but_the_one_that_was_named_may_be(tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    (tmp_path / "named").symlink_to(tmp_path / "large disk")
    keys, states, _ = committed(tmp_path / "named" / "states")
    assert same(make(tmp_path / "named" / "states").get(keys), states)
    (tmp_path / "states").symlink_to(tmp_path / "named" / "states")
    store = make(tmp_path / "states")
    assert store.get(keys) is None and "is not a folder" in str(store.reason)


def test_what_belongs_to_another_user_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, _, _ = committed(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    store = make(tmp_path)
    assert store.get(keys) is None and "another user" in str(store.reason)


def test_states_are_for_this_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        committed(tmp_path / "states")
    finally:
        os.umask(before)
    paths = [tmp_path / "states", *(tmp_path / "states").rglob("*")]
    assert [oct(path.stat().st_mode & 0o777) for path in paths] == ["0o700", "0o600"]


def test_nothing_is_made_before_something_is_stored(tmp_path: Path) -> None:
    store = make(tmp_path / "states")
    assert store.get([key(1)]) is None and store.size == 0
    store.commit()
    assert not (tmp_path / "states").exists()


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TUNESMITH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    assert cache.cache_folder() == Path("/home/me/.cache/tunesmith/states")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache.cache_folder() == Path("/caches/tunesmith/states")
    monkeypatch.setenv("TUNESMITH_CACHE", "~/mine")
    assert cache.cache_folder() == Path("/home/me/mine/states")
    assert cache.objection(Path("~/states")) is not None, "no home is known"
