"""Where a run goes on: the newest checkpoint that, with the best state it names, is what was written.

A checkpoint whose best state is damaged would be trained to an end that cannot be had; from an earlier one the best
state is made again, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers

from tunesmith.errors import ModelError
from tunesmith.manifest import Manifest
from tunesmith.training import checkpoint, state_files
from tunesmith.training.finite import FiniteSteps
from tunesmith.training.state_files import STATE_FILE

logger = transformers.logging.get_logger(__name__)
LOSS = "tunesmith.loss"


@dataclass(frozen=True)
class ResumePoint:
    """Where to go on.

    Attributes:
        folder: the checkpoint; None for the first step.
        passed_over: one line for each newer checkpoint, why it is not used.
    """

    folder: Path | None
    passed_over: list[str]


class Resumable(FiniteSteps):
    """The part of `Trainer` that makes the log and the end of a resumed run those of a run in one piece."""

    control: Any
    _tunesmith_verified: Path | None = None
    _tunesmith_sums: Any = None

    def _load_callback_state(self) -> None:
        stored: Any = self.state.stateful_callbacks
        self._tunesmith_sums = stored.pop(LOSS, None)
        callbacks: Any = [*self.callback_handler.callbacks, self.control]
        state_files.require_own_states(Path(str(self.args.output_dir)), stored, callbacks)
        super()._load_callback_state()

    def _finalize_training(self, trial: Any, *positional: Any, **options: Any) -> Any:
        take_up_loss(self)
        find_best(self, trial)
        return super()._finalize_training(trial, *positional, **options)  # type: ignore[no-untyped-call]

    def log(self, logs: dict[str, Any], *positional: Any, **options: Any) -> None:
        """See `transformers.Trainer.log`; the loss of a whole run is that of all of its steps."""
        if "train_loss" in logs and self.state.global_step:
            logs["train_loss"] = self._total_loss_scalar / self.state.global_step
        super().log(logs, *positional, **options)


def newest(trainer: Any) -> ResumePoint:
    """Where the run in a trainer's output folder goes on; its files are not read again when it is loaded."""
    passed_over: list[str] = []
    known: dict[Path, str | None] = {}
    for folder in checkpoint.checkpoints(trainer._tunesmith_folder(), trainer._tunesmith_prefix):
        problem = refusal(trainer, folder, known)
        if problem is None:
            trainer._tunesmith_verified = folder
            return ResumePoint(folder, passed_over)
        passed_over.append(f"{folder}: {problem}; it is passed over")
    return ResumePoint(None, passed_over)


def chosen(trainer: Any, asked: Any) -> str | bool:
    """What stock code is given to resume from; True where there is nothing, of which it says so.

    Args:
        asked: a folder, or True for the newest checkpoint that can be used.

    Raises:
        ModelError: the checkpoint, or every one of the run, cannot be used.
    """
    if asked is not True:
        problem = None if Path(asked) == trainer._tunesmith_verified else refusal(trainer, Path(asked), {})
        if problem is None:
            _warn_of_changes(trainer, Path(asked))
            return str(asked)
        advice = "To go on from its weights alone, load them with from_pretrained"
        raise ModelError(f"{asked}: {problem}; it cannot be resumed. {advice}")
    point = newest(trainer)
    if point.folder is None and point.passed_over:
        none = f"{trainer._tunesmith_folder()}: no checkpoint that can be resumed; train from the start"
        raise ModelError([*point.passed_over, none])
    for problem in point.passed_over:
        logger.warning(problem)
    if point.folder is None:
        return True
    _warn_of_changes(trainer, point.folder)
    return str(point.folder)


def circumstances(trainer: Any) -> dict[str, str | int]:
    """What a checkpoint is known by: its run, or, in somebody else's program, what it depends on at least."""
    if trainer._tunesmith_identity:
        return dict(trainer._tunesmith_identity)
    found: dict[str, str | int] = {name: version(name) for name in ("tunesmith", "torch", "transformers")}
    names = "seed", "learning_rate", "weight_decay", "per_device_train_batch_size", "gradient_accumulation_steps"
    found |= {name: str(getattr(trainer.args, name)) for name in names}
    return found | {"threads": torch.get_num_threads()}


def _warn_of_changes(trainer: Any, folder: Path) -> None:
    """Stock code resumes whatever changed; so is it here, but not in silence."""
    if trainer._tunesmith_identity or not folder.is_dir():
        return
    before, now = Manifest.load(folder).identity, circumstances(trainer)
    pairs = ((name, before.get(name, value), value) for name, value in now.items())
    changed = [f"{name} was {old} and is {value}" for name, old, value in pairs if old != value]
    if changed:
        logger.warning(f"{folder}: {', '.join(changed)}; the run goes on, but not as it would have without a break")


def refusal(trainer: Any, folder: Path, known: dict[Path, str | None]) -> str | None:
    """Why a run cannot go on from a checkpoint, or None.

    Args:
        known: verdicts on checkpoints, each of which is read once.
    """
    identity = trainer._tunesmith_identity
    problem = _verified(folder, identity, known)
    if problem is not None or not trainer.args.load_best_model_at_end:
        return problem
    best = _best_of(folder, trainer._tunesmith_prefix)
    if best is None or best == folder:
        return None
    problem = _verified(best, identity, known) if best.is_dir() else "nothing is left"
    return None if problem is None else f"its best state is {best.name}, of which {problem}"


def find_best(trainer: Any, trial: Any, about_to_be: Path | None = None) -> None:
    """Let the state name the best checkpoint where it lies now: the folder of a run may have been moved, or copied.

    Args:
        about_to_be: a checkpoint that is about to be written.
    """
    run, step = trainer._tunesmith_folder(trial), trainer.state.best_global_step
    best = run / f"{trainer._tunesmith_prefix}-{step}"
    if step and (best == about_to_be or best.is_dir()):
        trainer.state.best_model_checkpoint = str(best)


def keep_loss(trainer: Any) -> None:
    """Put the loss since the last event of the log, and that of all steps, into the state that is about to be saved."""
    since, total = trainer._globalstep_last_logged, trainer._total_loss_scalar
    sums = {"since": since, "pending": trainer._tr_loss.item(), "total": total}
    trainer.state.stateful_callbacks[LOSS] = {"args": {}, "attributes": sums}


def take_up_loss(trainer: Any) -> None:
    """Go on with the sums of the checkpoint; without them a resumed run would log other losses than one in one piece.

    Raises:
        ModelError: they are none.
    """
    kept, trainer._tunesmith_sums = trainer._tunesmith_sums, None
    if kept is None:
        return
    try:
        sums = {name: float(kept["attributes"][name]) for name in ("since", "pending", "total")}
    except (LookupError, TypeError, ValueError):
        raise ModelError(f"{trainer._tunesmith_folder()}: {STATE_FILE} has no sums of losses; remove it") from None
    trainer._globalstep_last_logged, trainer._total_loss_scalar = int(sums["since"]), sums["total"]
    trainer._tr_loss = torch.tensor(sums["pending"], device=trainer.args.device)


def _best_of(folder: Path, prefix: str) -> Path | None:
    """The checkpoint beside a verified one that holds the best state so far; None where none is best yet."""
    step = state_files.read(folder / STATE_FILE).best_global_step
    return folder.with_name(f"{prefix}-{step}") if step else None


def _verified(folder: Path, identity: dict[str, Any], known: dict[Path, str | None]) -> str | None:
    if folder not in known:
        known[folder] = "it is a link" if folder.is_symlink() else checkpoint.verify(folder, identity)
    return known[folder]
