"""What a person sees while a command works: lines and progress bars on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tunesmith.errors import UsageError


def require_tracker(name: str) -> None:
    """Make sure, before slow work, that a tracker, which is called like its package, can be used.

    Raises:
        UsageError: its package is not installed.
    """
    if name != "none" and find_spec(name) is None:
        raise UsageError(f"--tracker {name}: its package is not installed; run `pip install {name}`")


class Stages:
    """Progress bars of a command, on standard error; silent when `quiet`.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)

    def say(self, text: str) -> None:
        """One line for the user."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Bar]:
        """A bar that disappears when its work is done."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        shown = self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=not shown) as progress:
            yield Bar(progress, progress.add_task(title, total=total, note=""))


class Bar:
    """One running bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, amount: int = 1) -> None:
        self._progress.advance(self._task, amount)

    def update(self, completed: int, note: str) -> None:
        self._progress.update(self._task, completed=completed, note=note)
