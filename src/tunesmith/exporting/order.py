"""What is to be exported, and where to: what cannot be is refused here, before torch is imported."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tunesmith.artefact.folder import PRECISIONS
from tunesmith.data.records import Records
from tunesmith.errors import ModelError, UsageError
from tunesmith.exporting.rows import validation_rows
from tunesmith.manifest import require_outside
from tunesmith.models.sealed import MODEL, RUN_FILE, is_artefact, model_folder
from tunesmith.registry import did_you_mean
from tunesmith.run.record import RunRecord


@dataclass(frozen=True)
class Order:
    """What is wanted; refused where it cannot be.

    Attributes:
        run: folder of a run, or of a model.
        to: the artefact's folder.
        most_loss: see `tunesmith.exporting.measuring.loses_too_much`.
        overwrite: an artefact that is there is replaced.
    """

    run: Path
    to: Path
    precision: str
    most_loss: float
    overwrite: bool

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"`precision`: unknown {self.precision!r}; {did_you_mean(self.precision, PRECISIONS)}")
        if not 0 <= self.most_loss <= 1:
            raise UsageError(f"`max_loss`: expected a share from 0 to 1 (0.01 is one point), found {self.most_loss}")
        if not self.run.is_dir():
            raise ModelError(f"{self.run}: no such folder; give a run, or a model")
        if is_artefact(self.run):
            raise UsageError(f"{self.run}: is an artefact already; give the run that it was made from")
        if os.path.lexists(self.to):
            folder = self.to.is_dir() and not self.to.is_symlink()
            if folder and is_artefact(self.to):
                if not self.overwrite:
                    raise UsageError(f"`to`: {self.to} holds an artefact; give `overwrite`, or another folder")
            elif not folder or any(self.to.iterdir()):
                raise UsageError(f"`to`: {self.to} holds something else than an artefact; give a new folder")
        try:
            require_outside(self.to)
        except ValueError as error:
            raise UsageError(f"`to`: {error}; give a folder outside of it") from None

    @property
    def folder(self) -> Path:
        """Of the model's files."""
        return model_folder(self.run)

    @property
    def home(self) -> Path | None:
        """Folder of the run that the model lies in."""
        above = self.folder.parent
        return above if self.folder.name == MODEL and (above / RUN_FILE).is_file() else None

    @cached_property
    def record(self) -> RunRecord | None:
        """Of the run that the model lies in.

        Raises:
            ModelError: it is damaged.
        """
        return None if self.home is None else RunRecord.load(self.home)

    def own_rows(self) -> Records | None:
        """The run's validation rows; None of a model that lies in no run.

        Raises:
            DataError: they are gone.
        """
        return None if self.home is None or self.record is None else validation_rows(self.home, self.record)
