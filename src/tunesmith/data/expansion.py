"""How far files may expand: what they hold is counted while it is read, whatever they say of themselves."""

from __future__ import annotations

from pathlib import Path

from tunesmith.config.schema import DataSettings
from tunesmith.errors import DataError
from tunesmith.text import counted

HARMLESS_BYTES = 32 * 2**20
"""No file is refused that expands to less than this."""
MOST_BYTES = 64 * 2**30
"""More than this none may expand to with the usual `expansion`, however large it is."""


class Expanding(DataError):
    """A file expands too far, however it is read."""


class Budget:
    """The bytes that a file may still expand to; `spend` counts them."""

    def __init__(self, path: str | Path, settings: DataSettings, size: int | None = None) -> None:
        """
        Args:
            size: of the file in bytes, where `path` does not tell.
        """
        self._path, self._times = path, settings.expansion
        usual = type(settings).model_fields["expansion"].default
        size = Path(path).stat().st_size if size is None else size
        self.left: float = max(HARMLESS_BYTES, min(size, MOST_BYTES / usual) * self._times)

    def spend(self, size: int) -> None:
        """
        Raises:
            Expanding: the file expands to more than the setting allows.
        """
        self.left -= size
        if self.left < 0:
            what = f"expands to more than {counted(int(self._times), 'time')} its size"
            advice = f"if you trust it, give data.expansion={10 * int(self._times)}, or more"
            raise Expanding(f"{self._path}: {what}; {advice}")
