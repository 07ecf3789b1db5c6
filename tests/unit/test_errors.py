from __future__ import annotations

import pytest

from tunesmith import errors
from tunesmith.errors import DataError, Interrupted, TunesmithError, UsageError


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("TunesmithError", 1),
        ("UsageError", 2),
        ("DataError", 3),
        ("ModelError", 4),
        ("ResourceError", 5),
        ("DivergedError", 6),
    ],
)
def test_exit_codes_are_those_of_the_contract(name: str, code: int) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, TunesmithError)
    assert kind("wrong").exit_code == code


def test_interrupted_carries_the_code_of_its_signal() -> None:
    assert Interrupted("saved").exit_code == 130
    assert Interrupted("saved", 143).exit_code == 143
    assert Interrupted.exit_code == 1, "the code belongs to the instance"


def test_one_message_is_one_problem() -> None:
    error = DataError("row 3: no label")
    assert error.problems == ["row 3: no label"]
    assert str(error) == "row 3: no label"


def test_problems_are_shown_one_a_line_up_to_the_limit() -> None:
    error = UsageError(f"problem {number}" for number in range(25))
    lines = str(error).splitlines()
    assert len(error.problems) == 25
    assert lines[:2] == ["problem 0", "problem 1"]
    assert lines[-2:] == ["problem 19", "… and 5 more problems"]
    assert len(str(UsageError(["problem"] * 20)).splitlines()) == 20


def test_a_problem_that_quotes_a_long_name_keeps_its_place_and_its_advice() -> None:
    said = str(DataError(f"a.csv: no column '{'x' * 10**6}'; check the header"))
    assert len(said) < 4_000 and said.startswith("a.csv: no column") and said.endswith("; check the header")


def test_a_full_disk_is_known_by_what_libraries_say_of_it() -> None:
    said = "[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"
    assert errors.is_disk_full(RuntimeError(said))
    assert errors.is_disk_full(OSError(28, "No space left on device"))
    assert errors.is_disk_full(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert not errors.is_disk_full(RuntimeError("unexpected pos of a comma"))
    for said in ("problem writing element 3072 to file", "1000 requested and 256 written"):  # by numpy
        assert errors.is_disk_full(OSError(said)) and not errors.is_disk_full(RuntimeError(said))
