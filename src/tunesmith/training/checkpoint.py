"""Checkpoints that are complete or absent: written aside, listed with hashes, renamed into place, verified on load.

A checkpoint folder holds the model's files, ``optimizer.safetensors`` with ``optimizer.json`` (moments and settings, no
pickle), ``trainer_state.json``, and ``manifest.json`` with the size and hash of every file and the run it belongs to.
Nothing else may lie in it, and nothing of it is given to a library before all of it was checked.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.trainer_callback import ExportableState

from tunesmith import manifest
from tunesmith.disk import sync
from tunesmith.errors import ModelError, ResourceError, TunesmithError, is_disk_full
from tunesmith.manifest import Manifest
from tunesmith.resources import disk_words, folder_bytes
from tunesmith.training import state_files
from tunesmith.training.state_files import CONFIG_FILE, OPTIMIZER_FILE, STATE_FILE, WEIGHTS_INDEX
from tunesmith.training.weights import ADAPTER, WEIGHTS

MANIFEST = manifest.FILE
OPTIMIZER_TENSORS = "optimizer.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")
"""State of an optimizer that has the shape of its parameter."""


@contextmanager
def commit(folder: Path, identity: dict[str, Any], resuming: str, need: int = 0) -> Iterator[Path]:
    """Yield a folder to write into; on success it becomes `folder` in one rename, else it is removed.

    Args:
        folder: where the checkpoint will be; a leftover of that name is replaced.
        identity: what the checkpoint belongs to (run, step), stored in the manifest.
        resuming: how the user continues a run.
        need: about how many bytes it takes, if that is known.

    Raises:
        ResourceError: the disk is full; nothing half-written stays.
    """
    aside = folder.with_name(f".{folder.name}.tmp-{secrets.token_hex(8)}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    sync(folder.parent.parent)  # the Trainer may have made it, and a name that is not on disk keeps nothing
    for leftover in folder.parent.glob(f".{folder.name}.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        manifest.write(aside, identity)
        sync(aside)
        _remove(folder)
        aside.rename(folder)
        sync(folder.parent)
    except BaseException as error:
        full = is_disk_full(error)
        words = disk_words(error, folder.parent, need=max(0, need - folder_bytes(aside))) if full else ""
        shutil.rmtree(aside, ignore_errors=True)
        if not full:
            raise
        kept = "; earlier checkpoints are intact" if any(folder.parent.glob(f"*/{manifest.FILE}")) else ""
        raise ResourceError(
            f"{folder}: the checkpoint cannot be written; {words} and continue with {resuming}{kept}"
        ) from error


def expected_bytes(model: nn.Module) -> int:
    """About what a checkpoint of a model takes on the disk."""
    return (moment_bytes(model) // 2 if isinstance(model, PeftModel) else weight_bytes(model)) + moment_bytes(model)


def weight_bytes(model: nn.Module) -> int:
    """Of all weights."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def moment_bytes(model: nn.Module) -> int:
    """Of the state of AdamW, which is twice as large as the weights that are trained."""
    trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
    return 2 * sum(parameter.numel() * parameter.element_size() for parameter in trained)


def _remove(path: Path) -> None:
    """A checkpoint, or whatever has its name; a link is not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def verify(folder: Path, identity: dict[str, Any] | None = None) -> str | None:
    """Why a checkpoint cannot be used, or None when its files are those of the manifest, and what they should be.

    Where there is no such folder, nothing is known against it, unless it should be of a run.

    Args:
        identity: if given, its values must be those of the manifest.
    """
    if not identity and not folder.exists():
        return None
    if is_stock(folder):
        return "transformers.Trainer wrote it, with pickles, which are never read"
    try:
        listed = Manifest.load(folder)
        for key, value in (identity or {}).items():
            if listed.identity.get(key) != value:
                return f"it belongs to another run ({key} is {listed.identity.get(key)!r}, expected {value!r})"
        of_run = bool(identity)
        return _missing(listed.files, of_run) or manifest.refusal(folder, listed) or _odd(folder, listed, of_run)
    except ValueError as error:
        return str(error)


def verify_weights(folder: Path) -> str | None:
    """What is wrong with the weights in a checkpoint, or None; others than this Trainer may have written into it.

    Where they removed the manifest, too, the weights are looked for alone: nothing of it is read as a pickle.
    """
    try:
        names = set(manifest.file_names(folder))
        files = Manifest.load(folder).files if MANIFEST in names else {}
        weights = {name: facts for name, facts in files.items() if name.endswith(".safetensors")}
        weights.pop(OPTIMIZER_TENSORS, None)
        for name, facts in weights.items():
            if problem := "is missing" if name not in names else manifest.damage(folder / name, facts):
                return f"{name} {problem}"
        return _missing_weights(folder, names)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    except ValueError as error:
        return str(error)


def _missing(names: Collection[str], of_run: bool) -> str | None:
    """What no checkpoint is without; a run always saves its optimizer."""
    optimizer = [name in names for name in (OPTIMIZER_TENSORS, OPTIMIZER_FILE)]
    if STATE_FILE not in names or any(optimizer) != all(optimizer) or (of_run and not all(optimizer)):
        wanted = f"{STATE_FILE}, {OPTIMIZER_TENSORS} and {OPTIMIZER_FILE}"
        return f"{MANIFEST} does not list what every checkpoint has ({wanted})"
    return None


def _missing_weights(folder: Path, names: Collection[str]) -> str | None:
    """What is wrong with the files that weights are read from, so that a library finds them and no others."""
    if WEIGHTS_INDEX in names and WEIGHTS[0] not in names:
        shards = set(state_files.read(folder / WEIGHTS_INDEX).weight_map.values())
        strange = [name for name in sorted(shards) if name not in names or not name.endswith(".safetensors")]
        return f"{WEIGHTS_INDEX} names {strange[0]!r}, which is no file of weights there" if strange else None
    adapters = any(name.endswith(f"/{ADAPTER}") for name in names)
    return None if adapters or any(name in names for name in WEIGHTS) else f"it has no weights ({' or '.join(WEIGHTS)})"


def _odd(folder: Path, listed: Manifest, of_run: bool) -> str | None:
    """What the files hold that they never should, though their hashes are right; raises ValueError as well."""
    state = state_files.read(folder / STATE_FILE)
    for name in (OPTIMIZER_FILE, CONFIG_FILE):
        if name in listed.files:
            state_files.read(folder / name)
    if listed.identity.get("step", state.global_step) != state.global_step:
        return f"{STATE_FILE} is of step {state.global_step}, {MANIFEST} of {listed.identity['step']}"
    if of_run:
        if not folder.name.endswith(f"-{state.global_step}"):
            return f"{STATE_FILE} is of step {state.global_step}, which the folder is not named after"
        if problem := state_files.strange_event(state.log_history):
            return f"{STATE_FILE} holds something else than it should ({problem})"
    return _missing_weights(folder, listed.files)


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """While it lasts, what a library says of a checkpoint that it cannot use becomes one `ModelError`."""
    try:
        yield
    except (TunesmithError, MemoryError):
        raise
    except Exception as error:
        if not folder.is_dir():  # as in stock code
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(f"{folder}: cannot be resumed ({reason}); remove it, or train from the start") from error


def is_stock(folder: Path) -> bool:
    """Whether `transformers.Trainer` wrote a checkpoint."""
    ours = any((folder / name).exists() for name in (MANIFEST, OPTIMIZER_FILE, OPTIMIZER_TENSORS))
    return (folder / STATE_FILE).is_file() and not ours


def has_optimizer(folder: Path) -> bool:
    """Whether a checkpoint lists the state of an optimizer; with `save_only_model` it has none."""
    return OPTIMIZER_FILE in Manifest.load(folder).files


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
        _remove(path)


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
    (folder / OPTIMIZER_FILE).write_text(json.dumps(content), encoding="utf-8")


def load_optimizer(folder: Path, optimizer: torch.optim.Optimizer, scheduler: Any, scaler: Any = None) -> None:
    """Restore what `save_optimizer` wrote.

    Raises:
        ModelError: a file is missing, or the state is of another set of parameters.
    """
    try:
        tensors = load_file(folder / OPTIMIZER_TENSORS)
        content = state_files.read(folder / OPTIMIZER_FILE)
        state: dict[int, dict[str, Any]] = {}
        for name, value in [*tensors.items(), *content.values.items()]:
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"{folder}: the optimizer's state cannot be read ({error}); it cannot be resumed exactly"
        ) from None
    # The shape of the schedule is a function, which is made anew; only its position is state.
    schedule = {key: value for key, value in scheduler.state_dict().items() if key != "lr_lambdas"}
    if problem := _other_settings(content, optimizer, schedule, scaler, state):
        raise ModelError(f"{folder}: the optimizer's state is of another model or method ({problem})")
    try:
        optimizer.load_state_dict({"state": state, "param_groups": content.param_groups})
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: the optimizer's state is of another model or method ({error})") from None
    for parameter, entry in optimizer.state.items():
        shapes = [tuple(getattr(entry[key], "shape", ())) for key in MOMENTS if entry.get(key) is not None]
        if (other := next((shape for shape in shapes if shape != parameter.shape), None)) is not None:
            raise ModelError(
                f"{folder}: the optimizer's state is of another model, method or set of tokens (it has the shape "
                f"{other}, {tuple(parameter.shape)} was expected); resume with the data, callbacks and engine that it "
                "was written with"
            )
    lambdas = {"lr_lambdas": [None] * len(scheduler.lr_lambdas)} if hasattr(scheduler, "lr_lambdas") else {}
    scheduler.load_state_dict(content.schedule | lambdas)
    if scaler is not None and content.scaler:
        scaler.load_state_dict(content.scaler)


def _other_settings(
    content: Any, optimizer: Any, schedule: dict[str, Any], scaler: Any, state: Collection[int]
) -> str | None:
    """What is stored of an optimizer, a schedule and a loss scale that these do not have, or have of another kind."""
    own = optimizer.state_dict()["param_groups"]
    if [group.get("params") for group in content.param_groups] != [group["params"] for group in own]:
        return "param_groups should have the parameters that are trained"
    if set(state).difference(*(group["params"] for group in own)):
        return "there are moments of more parameters"
    pairs = [(*pair, f"param_groups.{i}") for i, pair in enumerate(zip(content.param_groups, own, strict=True))]
    pairs.append((content.schedule, schedule, "schedule"))
    if scaler is not None and content.scaler:
        pairs.append((content.scaler, scaler.state_dict(), "scaler"))
    return next((problem for pair in pairs if (problem := state_files.difference(*pair))), None)
