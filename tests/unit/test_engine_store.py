"""Token states on disk: what comes back is what was put, or nothing."""

from __future__ import annotations

import hashlib
import os
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

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.engine import segment
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
    assert len(store) == 3 and store.get(keys) is not None and store.get([key(99)]) is None


def test_a_row_is_stored_once(tmp_path: Path) -> None:
    store = make(tmp_path)
    keys, states = fill(store, LENGTHS)
    store.put([*keys, keys[0]], [*LENGTHS, LENGTHS[0]], torch.cat([states, states[: LENGTHS[0]]]) + 1)
    assert len(store) == 3 and same(store.get(keys), states)


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


def test_nothing_is_stored_when_not_all_would_fit(tmp_path: Path) -> None:
    whole = estimate(len(LENGTHS), sum(LENGTHS), WIDTH, torch.bfloat16)
    small = make(tmp_path / "small", budget=whole - 1)
    small.expect(len(LENGTHS), sum(LENGTHS))
    keys, _ = fill(small, LENGTHS)
    assert small.get(keys) is None and small.refused == len(LENGTHS)
    assert small.reason is not None and "do not fit" in small.reason

    enough = make(tmp_path / "enough", budget=BUDGET)
    enough.expect(len(LENGTHS), sum(LENGTHS))
    keys, states = fill(enough, LENGTHS)
    found = enough.get(keys)
    assert found is not None and torch.equal(found, states)
    enough.commit()
    again = make(tmp_path / "enough", budget=BUDGET)
    again.expect(len(LENGTHS), sum(LENGTHS))
    assert again.reason is None


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
    os.truncate(file, 120)  # within the last row
    assert reader.get(keys) is None and file.name in reader.damaged
    assert reader.get(keys[2:]) is None and reader.get(keys[:2]) is not None


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
    fill(store, LENGTHS)
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
