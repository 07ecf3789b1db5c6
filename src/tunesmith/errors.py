"""The error tree. Every error a user can cause is a `TunesmithError` and carries the exit code of the command.

    TunesmithError        1   a bug of ours, if it is raised as such
    ├── UsageError        2   a flag, a key of the configuration, a combination of them
    ├── DataError         3   a file of examples, or what is in it
    ├── ModelError        4   a model, run or checkpoint that cannot be used or is refused
    ├── ResourceError     5   disk or memory
    ├── DivergedError     6   training produced a value that is not finite
    └── Interrupted     130   stopped from outside (143 for SIGTERM), in order, with everything saved

A message says what was wanted, what was found and what to do next. Several problems are reported at once, one a line.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tunesmith.text import shortened

if TYPE_CHECKING:
    from pydantic import ValidationError

MAX_PROBLEMS = 20


class TunesmithError(Exception):
    """Base of all errors with a message for the user.

    Args:
        problems: one message, or several that were found together (the first 20 are shown).
    """

    exit_code = 1

    def __init__(self, problems: str | Iterable[str]) -> None:
        found = [problems] if isinstance(problems, str) else list(problems)
        self.problems = [shortened(one) for one in found]
        super().__init__(self._shown())

    def _shown(self) -> str:
        shown = self.problems[:MAX_PROBLEMS]
        if len(self.problems) > MAX_PROBLEMS:
            shown.append(f"… and {len(self.problems) - MAX_PROBLEMS} more problems")
        return "\n".join(shown)

    def change(self, how: Callable[[str], str]) -> None:
        """Write every message anew."""
        self.problems = [how(one) for one in self.problems]
        self.args = (self._shown(),)


class UsageError(TunesmithError):
    """A flag or configuration key that is unknown, of the wrong type, or contradicts another."""

    exit_code = 2


class DataError(TunesmithError):
    """A data file that cannot be read, or whose content cannot be trained on."""

    exit_code = 3


class ModelError(TunesmithError):
    """A model, adapter, run or checkpoint that is missing, damaged, unsafe or does not fit the task."""

    exit_code = 4


OTHER_VERSION = "made by another version of Tunesmith; train it again"
"""What a `ModelError` says of a file that lacks what this version writes."""


def wrong_values(path: object, error: ValidationError) -> ModelError:
    """What is wrong in a file of ours that somebody edited: each key, and what should be there."""
    items = error.errors()
    if any(item["type"] == "json_invalid" for item in items):
        return ModelError(f"{path}: damaged ({items[0]['msg']}); restore the file, or train again")
    if any(item["type"] == "missing" for item in items):
        return ModelError(f"{path}: {OTHER_VERSION}")
    problems = []
    for item in items:
        key = ".".join(map(str, item["loc"])) or "record"
        said = item["msg"].removeprefix("Input ").removeprefix("Value error, ")
        if item["type"] == "not_registered":
            part = f"{item['ctx']['group'].removesuffix('s')} {item['input']!r}"
            problems.append(f"{path}: {key}: the {part} is not installed; install the package that brings it")
        else:
            wrong = "unknown key" if item["type"] in ("extra_forbidden", "unexpected_keyword_argument") else said
            problems.append(f"{path}: {key}: {wrong}; restore the file, or train again")
    return ModelError(problems)


class ResourceError(TunesmithError):
    """Not enough disk or memory."""

    exit_code = 5


BY_NUMPY = "problem writing element", " requested and "
"""In what `numpy.ndarray.tofile` says of a file that does not take it all."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an error means that the disk (or a quota) is full; libraries of native code wrap the system's error."""
    full, said = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG), str(error)
    # The writers of torch and numpy tell no error of the system, only that less was written than they gave.
    by_torch = "inline_container" in said and ("unexpected pos" in said or "failed writing" in said)
    by_numpy = isinstance(error, OSError) and error.errno is None and any(words in said for words in BY_NUMPY)
    told = by_torch or by_numpy or any(f"os error {number})" in said for number in full)
    return getattr(error, "errno", None) in full or told


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory, or room for threads, ran out; torch raises plain RuntimeErrors."""
    signs = (
        "out of memory",
        "can't allocate memory",
        "annot allocate memory",
        "bad_alloc",
        "ALLOC_FAILED",
        "new thread",
    )
    return (
        isinstance(error, MemoryError)
        or getattr(error, "errno", None) == errno.ENOMEM
        or any(sign in str(error) for sign in signs)
    )


def is_out_of_files(error: BaseException) -> bool:
    """Whether an error means that no more files can be opened."""
    most = (errno.EMFILE, errno.ENFILE)
    return getattr(error, "errno", None) in most or any(f"os error {number})" in str(error) for number in most)


def is_shortage(error: BaseException) -> bool:
    """Whether an error is of the machine, whatever was attempted: no memory, disk, threads or files are left."""
    return is_disk_full(error) or is_out_of_memory(error) or is_out_of_files(error)


class DivergedError(TunesmithError):
    """The loss or a gradient is not finite; raised before the step that would spoil the weights."""

    exit_code = 6


class Interrupted(TunesmithError):
    """The run was stopped by a signal after its state was saved.

    Args:
        message: what was saved and how to go on.
        exit_code: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code
