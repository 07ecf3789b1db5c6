"""What a run needs of disk and memory, from its model and settings: asked before it begins and before its steps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow.compute as pc
from peft import PeftModel
from torch import nn

from tunesmith.data.records import Records
from tunesmith.models.sealed import PREVIOUS, is_finished
from tunesmith.resources import folder_bytes, require_disk, require_memory
from tunesmith.training import checkpoint
from tunesmith.training.arguments import TrainingArguments

LESS = "give a smaller model, or train less of it (method.name=lora)"


def answer_bytes(splits: Iterable[Records]) -> int:
    """What the predictions for rows take on the disk at least: their texts, which are written beside them."""
    columns = (part.table.column(name) for part in splits for name in ("text", "text_pair") if part.has(name))
    return sum(pc.sum(pc.binary_length(column)).as_py() or 0 for column in columns)


def require_result(folder: Path, model: nn.Module, answers: int = 0) -> None:
    """Refuse a run whose model and predictions have no room in its folder; nothing was written or removed yet.

    An unfinished run there is replaced or goes on; a finished one stays until the new one is done.

    Args:
        answers: see `answer_bytes`.

    Raises:
        ResourceError: they have none.
    """
    size = checkpoint.weight_bytes(model)
    there = 0 if is_finished(folder) else folder_bytes(folder) - folder_bytes(folder / PREVIOUS)
    what = "the model, with the predictions," if answers else "the model"
    require_disk(folder, size + answers, size, there, what)


def require_steps(model: nn.Module, arguments: TrainingArguments, phase: str, answers: int = 0) -> None:
    """Refuse steps whose checkpoints have no room on the disk, or whose gradients and moments have none in memory.

    Args:
        phase: what its checkpoints are called.
        answers: see `answer_bytes`; they are written while the checkpoints are there.

    Raises:
        ResourceError: there is no room.
    """
    weights, moments = checkpoint.weight_bytes(model), checkpoint.moment_bytes(model)
    run = Path(str(arguments.output_dir))
    run.mkdir(parents=True, exist_ok=True)
    largest, at_once = max(weights, moments), checkpoint.expected_bytes(model)
    saved = 0 if arguments.save_strategy == "no" else round(arguments.num_train_epochs)
    kept = min(saved, 2 if arguments.load_best_model_at_end else 1)
    # The last one is written before one goes; an adapter is there three times in the end.
    adapter = 2 * (moments // 2) if isinstance(model, PeftModel) else 0
    need = max(min(saved, kept + 1) * at_once, kept * at_once + weights + adapter + answers)
    there = sum(map(folder_bytes, checkpoint.checkpoints(run, phase)))
    require_disk(run.parent, need, largest if saved else weights, there, "the run, with its checkpoints,")
    device = next(model.parameters()).device
    need, what = moments * 3 // 2, "training, for gradients and the state of the optimizer,"
    if device.type == "cpu":
        require_memory(need, what, LESS)
