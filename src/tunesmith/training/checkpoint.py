"""Checkpoints that are complete or absent: written aside, listed with hashes, renamed into place, verified on load.

A checkpoint folder holds the model's files, ``optimizer.safetensors`` with ``optimizer.json`` (moments and settings, no
pickle), ``trainer_state.json``, and ``manifest.json`` with the size and hash of every file and the run it belongs to.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from transformers.trainer_callback import ExportableState

from tunesmith.disk import file_sha256, sync
from tunesmith.errors import ModelError, ResourceError, is_disk_full

MANIFEST = "manifest.json"
OPTIMIZER_TENSORS, OPTIMIZER_VALUES = "optimizer.safetensors", "optimizer.json"
MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")
"""State of an optimizer that has the shape of its parameter."""


@contextmanager
def commit(folder: Path, identity: dict[str, Any], resuming: str) -> Iterator[Path]:
    """Yield a folder to write into; on success it becomes `folder` in one rename, else it is removed.

    Args:
        folder: where the checkpoint will be; a leftover of that name is replaced.
        identity: what the checkpoint belongs to (run, step), stored in the manifest.
        resuming: how the user continues a run.

    Raises:
        ResourceError: the disk is full; nothing half-written stays.
    """
    aside = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f".{folder.name}.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        _write_manifest(aside, identity)
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
        sync(folder.parent)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if not is_disk_full(error):
            raise
        free = shutil.disk_usage(folder.parent).free
        raise ResourceError(
            f"{folder}: the checkpoint cannot be written, the disk is full ({free:,} bytes are free without it); "
            f"free some space and continue with {resuming}; earlier checkpoints are intact"
        ) from error


@contextmanager
def own_names(model: Any) -> Iterator[None]:
    """While it lasts, a model saves its weights by the names that it has itself, by which checkpoints are loaded.

    Else transformers writes those of some architectures as their authors first published them.
    """
    if not isinstance(model, PreTrainedModel):
        yield
        return
    own: Any = model
    kept = getattr(model, "_weight_conversions", None)
    own._weight_conversions = []
    try:
        yield
    finally:
        own._weight_conversions = kept


def untied(model: Any, weights: dict[str, torch.Tensor] | None) -> dict[str, torch.Tensor] | None:
    """Weights to save: of a model that does not save itself without those that are another name of one before them.

    A file of tensors cannot hold two names of one.
    """
    if weights is not None or isinstance(model, PreTrainedModel | PeftModel):
        return weights
    first: dict[Any, str] = {}
    weights = model.state_dict()
    for name, weight in weights.items():
        first.setdefault((weight.data_ptr(), weight.shape, weight.stride()) if weight.numel() else name, name)
    return {name: weights[name] for name in first.values()}


def require_known(folder: Path, loaded: Any) -> None:
    """Refuse a checkpoint with weights of other names, without which stock code would go on. Tied ones may be missing.

    Args:
        loaded: the names of those that are missing and unexpected.

    Raises:
        ModelError: there are such.
    """
    if loaded.missing_keys and loaded.unexpected_keys:
        raise ModelError(
            f"{folder}: {len(loaded.missing_keys)} weights of the model are not in its checkpoint, which has others "
            f"(first: {loaded.unexpected_keys[0]}); train again"
        )


def verify(folder: Path, identity: dict[str, Any] | None = None) -> str | None:
    """Why a checkpoint cannot be used, or None when every file is what the manifest says.

    Where there is no such folder, or `transformers.Trainer` wrote it, nothing is known against it.

    Args:
        identity: if given, its values must be those of the manifest.
    """
    if not identity and (is_stock(folder) or not folder.exists()):
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"].items()
    except (OSError, ValueError, KeyError, AttributeError) as error:
        return f"{MANIFEST} is missing or unreadable ({type(error).__name__})"
    for key, value in (identity or {}).items():
        if manifest["identity"].get(key) != value:
            return f"it belongs to another run ({key} is {manifest['identity'].get(key)!r}, expected {value!r})"
    return next((problem for name, facts in files if (problem := _damage(folder, name, facts))), None)


def verify_weights(folder: Path) -> str | None:
    """What is wrong with the weights in a checkpoint, or None; others than this Trainer may have written into it."""
    if not (folder / MANIFEST).is_file():
        return None
    files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    weights = {name: facts for name, facts in files.items() if name.endswith(".safetensors")}
    weights.pop(OPTIMIZER_TENSORS, None)
    return next((problem for name, facts in weights.items() if (problem := _damage(folder, name, facts))), None)


def _damage(folder: Path, name: str, facts: dict[str, Any]) -> str | None:
    path = folder / name
    if not path.is_file() or path.stat().st_size != facts["bytes"]:
        return f"{name} is missing or has the wrong size"
    return f"{name} is damaged (its hash differs from the manifest)" if file_sha256(path) != facts["sha256"] else None


def is_stock(folder: Path) -> bool:
    """Whether `transformers.Trainer` wrote a checkpoint."""
    ours = any((folder / name).exists() for name in (MANIFEST, OPTIMIZER_VALUES, OPTIMIZER_TENSORS))
    return (folder / "trainer_state.json").is_file() and not ours


def has_optimizer(folder: Path) -> bool:
    """Whether a checkpoint lists the state of an optimizer; with `save_only_model` it has none."""
    return OPTIMIZER_VALUES in json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]


def checkpoints(folder: Path, prefix: str) -> list[Path]:
    """Folders ``<prefix>-<step>`` in `folder`, highest step first."""
    pattern = re.compile(rf"{re.escape(prefix)}-(\d+)")
    found = [(int(match[1]), path) for path in folder.glob(f"{prefix}-*") if (match := pattern.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def rotate(folder: Path, prefix: str, limit: int, needed: Collection[Path]) -> None:
    """Remove the oldest checkpoints but `limit`; those `needed` are never removed, and count."""
    found = checkpoints(folder, prefix)
    kept = [path for path in found if path in needed]
    kept += [path for path in found if path not in needed][: max(0, limit - len(kept))]
    for path in set(found).difference(kept):
        shutil.rmtree(path)


def last_valid(folder: Path, prefix: str, identity: dict[str, Any] | None = None) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that verifies, and one line for each newer one that was passed over."""
    passed_over: list[str] = []
    for path in checkpoints(folder, prefix):
        problem = verify(path, identity)
        if problem is None:
            return path, passed_over
        passed_over.append(f"{path}: {problem}; using an earlier checkpoint")
    return None, passed_over


def states(callbacks: Iterable[Any]) -> dict[str, Any]:
    """What callbacks keep, by the name of their class; a list where there are several of one."""
    found: dict[str, list[Any]] = {}
    for callback in callbacks:
        if isinstance(callback, ExportableState):
            found.setdefault(type(callback).__name__, []).append(callback.state())
    return {name: of_class[0] if len(of_class) == 1 else of_class for name, of_class in found.items()}


def save_optimizer(folder: Path, optimizer: torch.optim.Optimizer, scheduler: Any, scaler: Any = None) -> None:
    """Write the optimizer's tensors to safetensors; its settings, the schedule and the loss scale to JSON."""
    state = optimizer.state_dict()
    tensors, values = {}, {}
    for index, entry in state["state"].items():
        for key, value in entry.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{key}"] = value.detach().contiguous().cpu()
            else:
                values[f"{index}.{key}"] = value
    schedule = {key: value for key, value in scheduler.state_dict().items() if key != "lr_lambdas"}
    save_file(tensors, folder / OPTIMIZER_TENSORS)
    content = {"values": values, "param_groups": state["param_groups"], "schedule": schedule}
    content["scaler"] = None if scaler is None else scaler.state_dict()
    (folder / OPTIMIZER_VALUES).write_text(json.dumps(content), encoding="utf-8")


def load_optimizer(folder: Path, optimizer: torch.optim.Optimizer, scheduler: Any, scaler: Any = None) -> None:
    """Restore what `save_optimizer` wrote.

    Raises:
        ModelError: a file is missing, or the state is of another set of parameters.
    """
    try:
        tensors = load_file(folder / OPTIMIZER_TENSORS)
        content = json.loads((folder / OPTIMIZER_VALUES).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder}: the optimizer's state cannot be read ({error}); it cannot be resumed exactly"
        ) from None
    state: dict[int, dict[str, Any]] = {}
    for name, value in [*tensors.items(), *content["values"].items()]:
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    try:
        optimizer.load_state_dict({"state": state, "param_groups": content["param_groups"]})
    except ValueError as error:
        raise ModelError(f"{folder}: the optimizer's state is of another model or method ({error})") from None
    for parameter, entry in optimizer.state.items():
        if any(entry[key].shape != parameter.shape for key in MOMENTS if isinstance(entry.get(key), torch.Tensor)):
            raise ModelError(
                f"{folder}: the optimizer's state is of another model, method or set of tokens (it has the shape "
                f"{tuple(next(entry[key] for key in MOMENTS if key in entry).shape)}, {tuple(parameter.shape)} was "
                "expected); resume with the data, callbacks and engine that it was written with"
            )
    # The shape of the schedule is a function, which is made anew; only its position is state.
    lambdas = {"lr_lambdas": [None] * len(scheduler.lr_lambdas)} if hasattr(scheduler, "lr_lambdas") else {}
    scheduler.load_state_dict(content["schedule"] | lambdas)
    if scaler is not None and content["scaler"]:
        scaler.load_state_dict(content["scaler"])


def _write_manifest(folder: Path, identity: dict[str, Any]) -> None:
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        sync(path)
        files[str(path.relative_to(folder))] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"version": 1, "identity": identity, "files": files}, indent=1), encoding="utf-8")
    sync(manifest)
    sync(folder)
