"""What the tests on a GPU share: those of `tests/contract` are run there as they are, with the same fixtures.

``TUNESMITH_GPU_TESTS=cpu`` runs them on the processor, to try out the tests themselves.
"""

from __future__ import annotations

import os

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first product: deterministic ones need it

from collections.abc import Iterator

import pytest
import torch

from tests.contract.conftest import make_problem, without_dropout  # noqa: F401

torch.set_float32_matmul_precision("highest")  # no TF32, whose products keep ten bits


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Kernels that give the same bits each time; an operator that has none raises an error with its name."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def card() -> torch.device:
    """For tests of the card's own memory."""
    if not torch.cuda.is_available():
        pytest.skip("needs the memory of a GPU")
    return torch.device("cuda")
