"""What a person sees while a command works: lines and progress bars on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich import progress as bars
from rich.console import Console

from tunesmith.text import harmless


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Nobody reads the lines any more, and the work goes on; by default rich ends the process."""
        self.quiet = True


class Progress:
    """Lines and progress bars of a command, on standard error; nothing when `quiet`.

    Args:
        spell: how the settings that a line names are written.
    """

    def __init__(self, quiet: bool = False, spell: Callable[[str], str] = str) -> None:
        self._spell = spell
        self.console = _Console(stderr=True, quiet=quiet, highlight=False)

    def line(self, text: str) -> None:
        """One line for the user."""
        try:
            self.console.print(harmless(self._spell(text)), markup=False, soft_wrap=True)
        except OSError:
            self.console.quiet = True

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Bar]:
        """A bar that disappears when its work is done; on a terminal only."""
        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}"),
        )
        disable = not self.console.is_terminal
        with bars.Progress(*columns, console=self.console, transient=True, disable=disable) as shown:
            yield Bar(shown, shown.add_task(harmless(title), total=total, note=""))


@dataclass(frozen=True)
class Bar:
    """One running bar."""

    shown: bars.Progress
    task: bars.TaskID

    def advance(self, amount: int = 1) -> None:
        self.shown.advance(self.task, amount)

    def update(self, completed: int, note: str) -> None:
        self.shown.update(self.task, completed=completed, note=harmless(note))
