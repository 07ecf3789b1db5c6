"""Runs that must be the same run bit for bit, with deterministic kernels."""

from __future__ import annotations

import pytest

from tests.contract.test_shortage import (  # noqa: F401
    test_a_run_goes_on_as_it_was_cut,
    test_a_run_without_memory_equals_one_that_was_told_so,
)
from tests.contract.test_steps import (  # noqa: F401
    test_a_resumed_run_equals_the_straight_one_bit_for_bit,
    test_losses_that_were_not_logged_yet_are_not_lost,
)
from tests.unit.test_engine_vocabulary import (  # noqa: F401
    bert,
    test_a_resumed_run_equals_the_straight_one_in_every_bit,
)

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("deterministic")]
