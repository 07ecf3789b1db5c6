"""Token states on disk: what comes back is what was put, or nothing."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.engine import cachedir, segment
from tunesmith.engine.store import StateStore, estimate

IDENTITY = {"model": "bert", "layers": 4}
WIDTH = 8
BUDGET = 10**7
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
LENGTHS = [3, 1, 5]


def make(
    folder: Path, layers: int = 4, budget: int = BUDGET, dtype: torch.dtype = torch.bfloat16, width: int = WIDTH
) -> StateStore:
    return StateStore(IDENTITY | {"layers": layers}, width, dtype, budget, folder)


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")  # ends in zeros, which a string type of numpy would cut off


def values(lengths: list[int], first: int = 0, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(first)
    return torch.randn(sum(lengths), WIDTH, generator=generator).to(dtype)


def fill(store: StateStore, lengths: list[int], first: int = 0) -> tuple[list[bytes], torch.Tensor]:
    keys, states = [key(first + i) for i in range(len(lengths))], values(lengths, first, store.dtype)
    store.put(keys, lengths, states)
    return keys, states


def committed(folder: Path, layers: int = 4, lengths: list[int] = LENGTHS) -> tuple[list[bytes], torch.Tensor, Path]:
    """A folder with one segment: its keys, its states and its file."""
    store = make(folder, layers)
    keys, states = fill(store, lengths)
    store.commit()
    (file,) = store.folder.glob("*.states")
    return keys, states, file


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
    more, other = fill(store, [2, 7], first=100)  # goes on in a second segment
    store.commit()
    for reader in (store, make(folder, dtype=dtype)):
        assert same(reader.get(order), wanted) and same(reader.get(more), other)
        assert len(reader) == len(lengths) + 2 and not reader.damaged
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
    assert (store.hits, store.misses, store.stored) == (3, 1, 3)
    assert keys[0] in store and key(99) not in store


def test_a_row_is_stored_once(tmp_path: Path) -> None:
    store = make(tmp_path)
    keys, states = fill(store, LENGTHS)
    store.put([*keys, keys[0]], [*LENGTHS, LENGTHS[0]], torch.cat([states, states[: LENGTHS[0]]]) + 1)
    assert store.stored == 3 and same(store.get(keys), states)


@pytest.mark.parametrize(
    ("keys", "lengths", "shape"),
    [
        ([b"short"], [2], (2, WIDTH)),
        ([key(1)], [2], (3, WIDTH)),
        ([key(1)], [2], (2, WIDTH + 1)),
        ([key(1), key(2)], [2, 0], (2, WIDTH)),
        ([key(1), key(2)], [2], (2, WIDTH)),
    ],
)
def test_what_does_not_fit_together_is_refused(
    tmp_path: Path, keys: list[bytes], lengths: list[int], shape: tuple[int, int]
) -> None:
    with pytest.raises(ValueError):
        make(tmp_path).put(keys, lengths, torch.zeros(shape, dtype=torch.bfloat16))


def test_a_type_that_cannot_be_stored_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="float64"):
        make(tmp_path, dtype=torch.float64)


def test_the_estimate_is_what_is_written(tmp_path: Path) -> None:
    _, _, file = committed(tmp_path)
    assert file.stat().st_size == estimate(len(LENGTHS), sum(LENGTHS), WIDTH, torch.bfloat16)


# ---- damage


def test_a_changed_byte_anywhere_is_noticed_and_healed(tmp_path: Path) -> None:
    keys, states, file = committed(tmp_path)
    good = file.read_bytes()
    for position in range(len(good)):
        file.write_bytes(good[:position] + bytes([good[position] ^ 0x10]) + good[position + 1 :])
        reader = make(tmp_path)
        assert reader.get(keys) is None and file.name in reader.damaged, position
        if position % 40 == 0:
            reader.put(keys, LENGTHS, states)
            assert same(reader.get(keys), states)
            reader.commit()
            assert same(make(tmp_path).get(keys), states), "the damaged copy must not win"
            for other in set(file.parent.glob("*.states")) - {file}:
                other.unlink()


@given(st.integers(0, 400))
def test_a_segment_that_is_cut_short_is_ignored(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    folder = tmp_path_factory.mktemp("states")
    keys, _, file = committed(folder)
    size = min(size, file.stat().st_size - 1)
    os.truncate(file, size)
    reader = make(folder)
    assert reader.get(keys) is None and file.name in reader.damaged and len(reader) == 0


def test_a_segment_that_is_cut_while_it_is_open_does_no_harm(tmp_path: Path) -> None:
    keys, _, file = committed(tmp_path, lengths=[3, 1, 500])
    reader = make(tmp_path)
    assert reader.get(keys) is not None
    os.truncate(file, 100)
    assert reader.get(keys) is None and file.name in reader.damaged
    assert (reader.hits, reader.misses) == (5, 1) and keys[2] not in reader


def test_a_segment_of_another_identity_is_ignored(tmp_path: Path) -> None:
    keys, _, file = committed(tmp_path, layers=4)
    other = make(tmp_path, layers=5)
    assert other.get(keys) is None and not other.damaged
    fill(other, [2], first=50)
    shutil.copy(file, other.folder / file.name)
    reader = make(tmp_path, layers=5)
    assert reader.get(keys) is None and reader.damaged == {file.name: "it holds the states of another model"}
    wider = StateStore(IDENTITY, 2 * WIDTH, torch.bfloat16, BUDGET, tmp_path)
    assert wider.get(keys) is None, "the width is part of the identity"


def seal(header: bytes, rows: bytes, index: bytes, end: int, count: int) -> bytes:
    """A whole file by the documented format, with a valid seal whatever it says."""
    numbers = struct.pack("<QQ", end, count)
    checked = hashlib.blake2b(header + index + numbers, digest_size=8).digest()
    return header + rows + index + numbers + checked + b"TSSEALED"


class Forged(NamedTuple):
    offset: int = 44
    length: int = 2
    end: int = 44 + 2 * WIDTH * 2
    count: int = 1
    version: int = 1


@pytest.mark.parametrize(
    ("forged", "reason"),
    [
        (Forged(), None),
        (Forged(version=2), "version 2"),
        (Forged(offset=43), "outside"),
        (Forged(offset=45), "outside"),
        (Forged(offset=2**64 - 1), "outside"),
        (Forged(offset=2**64 - 32), "outside"),
        (Forged(length=0), "outside"),
        (Forged(length=3), "outside"),
        (Forged(length=2**32 - 1), "outside"),
        (Forged(end=0), "footer"),
        (Forged(end=2**64 - 1), "footer"),
        (Forged(count=2**64 - 1), "footer"),
        (Forged(count=2), "footer"),
    ],
)
def test_an_index_is_not_believed(tmp_path: Path, forged: Forged, reason: str | None) -> None:
    _, _, file = committed(tmp_path)
    rows = bytes(range(2 * WIDTH * 2))
    header = struct.pack("<8sI32s", b"TSSTATES", forged.version, bytes.fromhex(file.parent.name))
    entry = key(7) + struct.pack("<QII", forged.offset, forged.length, 0x91267E8A)  # crc32 of bytes(range(32))
    file.write_bytes(seal(header, rows, entry, forged.end, forged.count))
    reader = make(tmp_path)
    found = reader.get([key(7)])
    if reason is None:
        assert same(found, torch.frombuffer(bytearray(rows), dtype=torch.bfloat16).view(2, WIDTH))
    else:
        assert found is None and reason in reader.damaged[file.name]


def test_links_and_other_things_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    keys, _, file = committed(tmp_path / "cache")
    elsewhere = tmp_path / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    (file.parent / "folder.states").mkdir()
    os.mkfifo(file.parent / "pipe.states")
    (file.parent / "notes.txt").write_text("mine")
    assert make(tmp_path / "cache").get(keys) is None
    whole = file.parent.rename(tmp_path / "whole")
    file.parent.symlink_to(whole)
    store = make(tmp_path / "cache")
    fill(store, [2], first=50)
    assert store.refused == 1 and "not a folder" in str(store.reason)


# ---- several processes

PROCESS = """
import sys, torch
from pathlib import Path
from tunesmith.engine.store import StateStore
store = StateStore({"model": "bert", "layers": 4}, 8, torch.bfloat16, 10**7, Path(sys.argv[1]))
for i in range(int(sys.argv[2]), int(sys.argv[2]) + 40):
    store.put([i.to_bytes(16, "little")], [i % 5 + 1], torch.full((i % 5 + 1, 8), float(i)))
print("written", flush=True)
sys.stdin.readline()
store.commit()
"""


@contextmanager
def process(folder: Path, first: int) -> Iterator[subprocess.Popen[str]]:
    """Puts rows `first` to `first` + 39, and commits them when its input ends."""
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
        fill(make(tmp_path), [1], first=500)  # sweeps the folder while both are writing, and is given up
        for running in (one, two):
            running.communicate("\n", timeout=60)
            assert running.returncode == 0
    reader = make(tmp_path)
    assert len(reader) == 60
    for i in range(60):
        assert same(reader.get([key(i)]), torch.full((i % 5 + 1, WIDTH), float(i), dtype=torch.bfloat16))
    assert not list(reader.folder.glob(".*")), "nothing unsealed stays"


def test_a_killed_process_leaves_nothing_that_is_read_or_stays(tmp_path: Path) -> None:
    with process(tmp_path, 0) as running:
        wait_for_rows(running)
        running.send_signal(signal.SIGKILL)
        running.wait(timeout=60)
    store = make(tmp_path)
    assert len(store) == 0 and not store.damaged
    (left,) = store.folder.glob(".*")
    keys, states = fill(store, LENGTHS)
    assert not left.exists() and same(store.get(keys), states)


def test_a_segment_in_the_making_is_abandoned_by_age_where_there_are_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", no_locks)
    store = make(tmp_path)
    keys, _ = fill(store, LENGTHS)
    (unsealed,) = store.folder.glob(".*")
    assert not segment.is_abandoned(unsealed)
    os.utime(unsealed, (0, time.time() - segment.ABANDONED_SECONDS - 1))
    assert segment.is_abandoned(unsealed)


def test_a_store_that_is_given_up_takes_its_unsealed_segment_along(tmp_path: Path) -> None:
    store = make(tmp_path)
    fill(store, LENGTHS)
    folder = store.folder
    assert list(folder.glob(".*"))
    del store
    assert not list(folder.glob(".*"))


def test_many_segments_do_not_use_up_the_descriptors(tmp_path: Path) -> None:
    many = segment.OPEN_FILES + 20
    store = make(tmp_path)
    for first in range(many):
        fill(store, [1], first)
        store.commit()
    reader = make(tmp_path)
    assert len(os.listdir("/proc/self/fd")) < 2 * segment.OPEN_FILES + 50
    assert same(reader.get([key(i) for i in range(many)]), torch.cat([values([1], i) for i in range(many)]))


# ---- room


def test_the_budget_covers_the_whole_folder(tmp_path: Path) -> None:
    size = estimate(1, 40, WIDTH, torch.bfloat16) + 200  # the facts of an identity beside it
    store = make(tmp_path, budget=3 * size)
    keys, states = fill(store, [40] * 6)
    store.commit()
    assert 0 < store.stored < 6 and store.stored + store.refused == 6
    assert total_bytes(tmp_path) <= 3 * size
    assert same(make(tmp_path).get(keys[: store.stored]), states[: 40 * store.stored])
    assert "budget" in str(store.reason) and "\n" not in str(store.reason)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=10), st.integers(0, 3000))
def test_no_budget_is_exceeded(tmp_path_factory: pytest.TempPathFactory, lengths: list[int], budget: int) -> None:
    folder = tmp_path_factory.mktemp("states")
    for layers in (1, 2):
        store = make(folder, layers, budget)
        fill(store, lengths)
        store.commit()
        assert total_bytes(folder) <= budget and store.stored + store.refused == len(lengths)


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
    assert "disk is full" in str(store.reason) and store.get(keys) is None
    assert [path.name for path in store.folder.iterdir()] == [cachedir.FACTS]
    store.commit()


# ---- the folder


def test_a_folder_that_cannot_be_made_stores_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        store = make(folder)
        keys, _ = fill(store, LENGTHS)
        assert store.get(keys) is None and store.refused == 3
        assert str(folder) in str(store.reason) and store.refuses(1) == store.reason
        store.commit()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_read(tmp_path: Path) -> None:
    keys, states, file = committed(tmp_path)
    for folder in (file.parent, tmp_path):
        folder.chmod(0o500)
    store = make(tmp_path)
    assert same(store.get(keys), states)
    fill(store, [1], first=50)
    assert store.refused == 1 and "written" in str(store.reason)
    for folder in (tmp_path, file.parent):
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
        _, _, file = committed(tmp_path / "states")
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


def test_the_index_holds_its_rows_as_documented(tmp_path: Path) -> None:
    _, _, file = committed(tmp_path)
    assert (
        segment.ENTRY.itemsize == 32
        and np.frombuffer(file.read_bytes()[-96 - 32 : -32], segment.ENTRY)["length"].tolist() == LENGTHS
    )
