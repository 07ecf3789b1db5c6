"""What a run needs of disk and memory, from its model and settings: asked before it begins and before its steps."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from tunesmith.resources import folder_bytes, require_disk, require_memory
from tunesmith.training import checkpoint
from tunesmith.training.arguments import TrainingArguments

LESS = "give a smaller model, or train less of it (method.name=lora)"


def require_result(folder: Path, model: nn.Module) -> None:
    """Refuse a run whose model alone has no room in its folder, what is there now being replaced.

    Raises:
        ResourceError: it has none.
    """
    size = checkpoint.weight_bytes(model)
    require_disk(folder, size, size, folder_bytes(folder), "the model")


def require_steps(model: nn.Module, arguments: TrainingArguments, phase: str) -> None:
    """Refuse steps whose checkpoints have no room on the disk, or whose gradients and moments have none in memory.

    Args:
        phase: what its checkpoints are called.

    Raises:
        ResourceError: there is no room.
    """
    weights, moments = checkpoint.weight_bytes(model), checkpoint.moment_bytes(model)
    run = Path(str(arguments.output_dir))
    run.mkdir(parents=True, exist_ok=True)
    largest, at_once = max(weights, moments), checkpoint.expected_bytes(model)
    saved = 0 if arguments.save_strategy == "no" else round(arguments.num_train_epochs)
    kept = min(saved, 2 if arguments.load_best_model_at_end else 1)
    need = max(min(saved, kept + 1) * at_once, kept * at_once + weights)  # the last one is written before one goes
    there = sum(map(folder_bytes, checkpoint.checkpoints(run, phase)))
    require_disk(run.parent, need, largest if saved else weights, there, "the run, with its checkpoints,")
    device = next(model.parameters()).device
    need, what = moments * 3 // 2, "training, for gradients and the state of the optimizer,"
    if device.type == "cpu":
        require_memory(need, what, LESS)
