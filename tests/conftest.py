"""What all tests share: no network, one thread, tiny pretrained models built in code, and where these run."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before any import that reads it
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import functools
import gc
import ipaddress
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tests.fake_hub import TOKEN, FakeHub
from tests.tiny import FAMILIES, save_model, tokenizer

torch.set_num_threads(1)
HAS_GPU = torch.cuda.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is marked `gpu` is skipped where there is none, unless its code shall be tried out on the processor."""
    if HAS_GPU or os.environ.get("TUNESMITH_GPU_TESTS") == "cpu":
        return
    skip = pytest.mark.skip(reason="there is no GPU here (TUNESMITH_GPU_TESTS=cpu tries the tests on the processor)")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _on_the_processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that are not marked `gpu` are the same on every machine: `choose_device` finds no GPU there."""
    if HAS_GPU and not request.node.get_closest_marker("gpu"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache, or another test's."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "tunesmith-cache"))


@pytest.fixture(autouse=True, scope="module")
def _libraries_are_no_garbage() -> None:
    """Each training begins by collecting garbage: most of the time of a tiny one, unless imports are left out of it."""
    gc.freeze()


# The same examples in every run, and none refused because the machine was busy.
hypothesis.settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session")
def families() -> tuple[str, ...]:
    """The common ones among the names that `tiny_model_folder` knows."""
    return tuple(FAMILIES)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A Hub to send to, and a token for it."""
    from huggingface_hub import constants

    with FakeHub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anything but this machine fails at once and says so."""
    connect = socket.socket.connect

    @functools.wraps(connect)
    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(str(address[0])):
            raise RuntimeError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer: about a hundred words, and every other word letter by letter."""
    return tokenizer("input_ids", "token_type_ids", "attention_mask")


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Factory: family (of `FAMILIES` or `UNUSUAL`) → folder with a two-layer model without head, and the tokenizer.

    The weights depend on the family alone. Folders are shared by all tests of a session and must not be changed.
    """

    @functools.cache
    def make(family: str) -> Path:
        return save_model(family, tmp_path_factory.mktemp(family))

    return make
