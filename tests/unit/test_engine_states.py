"""Token states on disk: what comes back is what was put, or nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.engine.states import StateStore, clear, stores

IDENTITY = {"weights": "abc", "layers": 2}
WIDTH, BUDGET = 8, 10**7


def make(folder: Path, identity: dict[str, object] | None = None, budget: int = BUDGET) -> StateStore:
    return StateStore(identity or IDENTITY, WIDTH, torch.bfloat16, budget, folder)


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")


def fill(store: StateStore, lengths: list[int], first: int = 0) -> tuple[list[bytes], torch.Tensor]:
    keys = [key(first + i) for i in range(len(lengths))]
    generator = torch.Generator().manual_seed(first)
    states = torch.randn(sum(lengths), WIDTH, generator=generator).to(torch.bfloat16)
    store.put(keys, lengths, states)
    return keys, states


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12), data=st.data())
def test_states_come_back_in_the_order_asked_for(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("states")
    store = make(folder)
    keys, states = fill(store, lengths)
    pieces = dict(zip(keys, states.split(lengths), strict=True))
    order = data.draw(st.permutations(keys))
    wanted = torch.cat([pieces[k] for k in order])
    before = store.get(order)
    assert before is not None and torch.equal(before, wanted)
    assert make(folder).get(order) is None, "not committed yet"
    store.commit()
    for reader in (store, make(folder)):
        found = reader.get(order)
        assert found is not None and torch.equal(found, wanted)


def test_a_missing_row_makes_the_answer_empty(tmp_path: Path) -> None:
    store = make(tmp_path)
    keys, _ = fill(store, [3, 4])
    assert store.get([*keys, key(99)]) is None
    assert (store.hits, store.misses) == (2, 1)


def test_another_identity_sees_nothing(tmp_path: Path) -> None:
    store = make(tmp_path)
    keys, _ = fill(store, [3])
    store.commit()
    other = make(tmp_path, {"weights": "abd", "layers": 2})
    assert other.get(keys) is None
    (segment,) = store.folder.glob("*.seg")
    other.folder.mkdir()
    segment.rename(other.folder / segment.name)
    foreign = make(tmp_path, {"weights": "abd", "layers": 2})
    assert foreign.get(keys) is None and foreign.damaged == 1


def test_damage_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    store = make(tmp_path)
    keys, states = fill(store, [3, 5, 1])
    store.commit()
    (segment,) = store.folder.glob("*.seg")
    content = segment.read_bytes()
    for position in range(0, len(content), 7):
        segment.write_bytes(content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :])
        reader = make(tmp_path)
        assert reader.get(keys) is None and reader.damaged, position
        reader.put(keys, [3, 5, 1], states)
        found = reader.get(keys)
        assert found is not None and torch.equal(found, states)
    for size in range(0, len(content), 11):
        segment.write_bytes(content[:size])
        reader = make(tmp_path)
        assert reader.get(keys) is None and reader.damaged, size


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    store = make(tmp_path / "a")
    keys, _ = fill(store, [3])
    store.commit()
    (segment,) = store.folder.glob("*.seg")
    elsewhere = tmp_path / "elsewhere"
    segment.rename(elsewhere)
    segment.symlink_to(elsewhere)
    assert make(tmp_path / "a").get(keys) is None


def test_the_budget_covers_all_stores(tmp_path: Path) -> None:
    first = make(tmp_path, budget=2_000)
    keys, _ = fill(first, [50, 80])
    assert first.get(keys[:1]) is not None and first.get(keys[1:]) is None
    assert first.refused == 1 and first.reason == "the budget for kept states is used up"
    first.commit()
    second = make(tmp_path, {"weights": "other"}, budget=2_000)
    fill(second, [70])
    assert second.refused == 1
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.seg")) <= 2_000


def test_a_folder_that_cannot_be_made_keeps_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    store = make(blocked)
    keys, _ = fill(store, [3])
    assert store.get(keys) is None and store.reason is not None and "cannot write" in store.reason
    store.commit()


def test_states_are_private(tmp_path: Path) -> None:
    store = make(tmp_path / "states")
    fill(store, [3])
    assert store.folder.stat().st_mode & 0o077 == 0


WRITER = """
import sys, torch
from pathlib import Path
from tunesmith.engine.states import StateStore
store = StateStore({"weights": "abc", "layers": 2}, 8, torch.bfloat16, 10**7, Path(sys.argv[1]))
for i in range(int(sys.argv[2]), int(sys.argv[2]) + 40):
    store.put([i.to_bytes(16, "little")], [i % 5 + 1], torch.full((i % 5 + 1, 8), float(i)))
print("written", flush=True)
sys.stdin.readline()
store.commit()
"""


def writer(folder: Path, first: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(first)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_are_both_right_and_a_killed_one_leaves_nothing(tmp_path: Path) -> None:
    processes = [writer(tmp_path, 0), writer(tmp_path, 20), writer(tmp_path, 100)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "written\n"
    os.kill(processes[2].pid, signal.SIGKILL)
    for process in processes:
        process.communicate("\n")
    reader = make(tmp_path)
    for i in range(60):
        found = reader.get([key(i)])
        assert found is not None and torch.equal(found, torch.full((i % 5 + 1, 8), float(i), dtype=torch.bfloat16))
    assert reader.get([key(100)]) is None
    fill(reader, [2], first=500)
    assert len(list(reader.folder.glob("*.tmp"))) == 1, "the one being written; the killed one's is gone"


def test_stores_are_listed_and_cleared_and_nothing_else(tmp_path: Path) -> None:
    store = make(tmp_path)
    fill(store, [3])
    store.commit()
    foreign = tmp_path / "notes.txt"
    foreign.write_text("mine")
    (found,) = stores(tmp_path)
    assert found["made_with"]["weights"] == "abc" and found["bytes"] > 3 * WIDTH * 2
    assert clear(tmp_path) == found["bytes"]
    assert stores(tmp_path) == [] and foreign.exists()
