"""States of frozen layers in front of those on disk. With stand-ins for what needs a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contract.conftest import make_problem  # noqa: F401
from tests.contract.test_steps import test_a_resumed_run_equals_the_straight_one_bit_for_bit  # noqa: F401
from tunesmith.engine import nearby
from tunesmith.engine.cache import Budget, StateStore
from tunesmith.engine.nearby import Nearby

WIDTH, LENGTHS = 4, [3, 2]


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def coming(states: torch.Tensor) -> Callable[[], torch.Tensor]:
        copy = states.clone()
        return lambda: time.sleep(0.002) or copy  # type: ignore[func-returns-value]

    monkeypatch.setattr(nearby, "on_gpu", lambda states: True)
    monkeypatch.setattr(nearby, "coming_to_host", coming)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**9, 10**9))


def store(folder: Path) -> StateStore:
    return StateStore({"a": 1}, WIDTH, torch.float32, Budget(10**8), folder)


def keys(batch: int) -> list[bytes]:
    return [bytes([batch, row] * 8) for row in range(2)]


def states(batch: int) -> torch.Tensor:
    return torch.full((sum(LENGTHS), WIDTH), float(batch))


@pytest.mark.parametrize("room", [10**9, 400, 0])
def test_what_was_put_is_found_here_and_on_disk(tmp_path: Path, monkeypatch: Any, room: int) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (room, room))
    near = Nearby(store(tmp_path))
    for batch in range(30):
        assert near.get(keys(batch)) is None
        near.put(keys(batch), LENGTHS, states(batch))
    for batch in range(30):
        found = near.get(keys(batch))
        if found is None:  # it is still on its way
            near.settle()
            found = near.get(keys(batch))
        assert found is not None and torch.equal(found, states(batch))
    mixed = near.get([keys(1)[1], keys(2)[0]])
    assert mixed is not None and mixed[:, 0].tolist() == [1, 1, 2, 2, 2]
    near.settle()
    near.store.commit()
    later = Nearby(store(tmp_path))
    assert torch.equal(later.get(keys(7)), states(7))
    near.free()
    assert torch.equal(near.get(keys(7)), states(7))


def test_an_error_of_the_thread_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near = Nearby(store(tmp_path))

    def put(*given: Any) -> None:
        raise RuntimeError("of the thread")

    monkeypatch.setattr(near.store, "put", put)
    near.put(keys(1), LENGTHS, states(1))
    with pytest.raises(RuntimeError, match="of the thread"):
        near.settle()
