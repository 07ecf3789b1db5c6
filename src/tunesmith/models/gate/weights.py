"""Files of weights: headers that describe them, shards that an index names, and models no larger than they are."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules import module as torch_module

from tunesmith.disk import parse_json
from tunesmith.errors import ModelError
from tunesmith.models.gate.files import MOST_SETTINGS, Inside, is_plain

WEIGHTS, INDEX, PICKLED = "model.safetensors", "model.safetensors.index.json", "pytorch_model"
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
BYTES |= {"U64": 8, "U32": 4, "U16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
MOST_DIMENSIONS = 8
SPARSE_FROM = 64 * 2**20
"""Bytes of a file from which it is looked whether the disk holds them."""

TIMES, ROOM = 4, 2**20
"""A model may have so many times the values that its files hold, and so many more: what is tied counts under each of
its names, and a new head or pooler is not in the files."""
MOST_BUFFERS = 2**26
"""Bytes of what is no parameter (masks of positions, for the most part), and as many as the weights have."""
MOST_MODULES = 100_000

Shapes = dict[str, tuple[int, ...]]


def check_weights(inside: Inside, needed: bool = True) -> Iterator[str]:
    """Problems of the weights of a folder that transformers loads.

    Args:
        needed: there have to be some.
    """
    try:
        index = inside.json(INDEX)
    except ValueError as error:
        yield str(error)
        return
    names = {WEIGHTS} & inside.paths.keys()
    if index is not None:
        shards, problems = _shards(index, inside)
        yield from problems
        names |= shards
    elif not names and needed:
        pickled = any(name.startswith(PICKLED) for name in inside.paths)
        why = "weights that are stored as code are never read; convert them" if pickled else "put the weights there"
        yield f"{inside.shown(WEIGHTS)}: is missing; {why}"
    for name in sorted(names):
        yield from check_file(inside.paths[name], inside.shown(name))


def check_file(path: Path, shown: str) -> Iterator[str]:
    """A problem of one file of weights, if there is one."""
    try:
        read_shapes(path)
    except (OSError, ValueError) as error:
        yield f"{shown}: {' '.join(str(error).split())[:200]}; restore the file"


def read_shapes(path: Path) -> Shapes:
    """Name → shape of each tensor in a safetensors file, from its header, which must describe it to the last byte.

    Raises:
        OSError: it cannot be read.
        ValueError: the header is none, or does not fit the file.
    """
    with open(path, "rb") as file:
        facts = os.fstat(file.fileno())
        length = int.from_bytes(file.read(8), "little")
        if facts.st_size < 10 or not 2 <= length <= min(MOST_SETTINGS, facts.st_size - 8):
            raise ValueError(
                f"no file of safetensors (its header would have {length:,} bytes, the file {facts.st_size:,})"
            )
        header = parse_json(file.read(length), depth=8)
    if facts.st_size > SPARSE_FROM and facts.st_blocks * 512 < facts.st_size // 8:
        raise ValueError(f"most of its {facts.st_size:,} bytes are not on the disk")
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    shapes, places = Shapes(), []
    for name, entry in header.items():
        if name == "__metadata__":
            if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
                raise ValueError("its metadata should be texts")
            continue
        shapes[name] = _shape(name, entry)
        places.append(tuple(entry["data_offsets"]))
    end = 0
    for first, last in sorted(places):
        if first != end:
            raise ValueError("the weights in it overlap, or leave a gap")
        end = last
    if end != facts.st_size - 8 - length:
        raise ValueError(f"its header describes {end:,} bytes of weights, it holds {facts.st_size - 8 - length:,}")
    return shapes


def all_shapes(inside: Inside) -> Shapes:
    """Name → shape of all that the files of an admitted folder hold, as transformers chooses them."""
    if WEIGHTS in inside.paths:
        return read_shapes(inside.paths[WEIGHTS])
    shards, _ = _shards(inside.json(INDEX), inside)
    return {name: shape for shard in sorted(shards) for name, shape in read_shapes(inside.paths[shard]).items()}


def _shape(name: str, entry: Any) -> tuple[int, ...]:
    """The shape of an entry of a header.

    Raises:
        ValueError: it is none.
    """
    shown = repr(name[:80])
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the entry of {shown} should have dtype, shape and data_offsets alone")
    dtype, shape, places = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BYTES:
        raise ValueError(f"{shown} is of type {str(dtype)[:20]!r}, which is not read here")
    if not _sizes(shape) or len(shape) > MOST_DIMENSIONS or not _sizes(places) or len(places) != 2:
        raise ValueError(f"{shown} has a shape or place that is none")
    if places[1] - places[0] != math.prod(shape) * BYTES[dtype]:
        raise ValueError(f"{shown} has another size than its shape says")
    return tuple(shape)


def _sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**60 for value in values)


def _shards(index: Any, inside: Inside) -> tuple[set[str], list[str]]:
    """The files that an index names, of those that may be read; and its problems."""
    shown, weights = inside.shown(INDEX), index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weights, dict) or not weights:
        return set(), [f"{shown}: expected a weight_map with the file of each weight; save the model again"]
    names = {name if isinstance(name, str) else repr(name) for name in weights.values()}
    good, problems = set(), []
    for name in sorted(names):
        if not is_plain(name) or not name.endswith(".safetensors"):
            problems.append(f"{shown}: names {name[:80]!r}, expected the plain name of a .safetensors file beside it")
        elif name not in inside.paths:
            problems.append(f"{shown}: names {name[:80]!r}, which is not in the folder; download it")
        else:
            good.add(name)
    return good, problems[:20]


@contextmanager
def bounded(name: str, shapes: Mapping[str, Iterable[int]], outputs: int = 0) -> Iterator[None]:
    """While it lasts, a model that is built in this thread is no larger than what its files hold, or is not built.

    transformers builds a model without memory for its weights first: that is where it is counted, part by part.

    Args:
        name: of the model, for errors.
        shapes: of what its files hold.
        outputs: of a new head, which is not among them.
    """
    held = [math.prod(shape) for shape in shapes.values()]
    widest = max((shape[-1] for shape in map(tuple, shapes.values()) if shape), default=0)
    most = TIMES * sum(held) + 2 * outputs * min(widest, 65_536) + ROOM
    most_parameters = TIMES * len(held) + 1_000
    thread, counted = threading.get_ident(), {"values": 0, "parameters": 0, "bytes": 0, "modules": 0}

    def too_large(what: str) -> None:
        raise ModelError(
            f"model {name}: config.json describes {what}, far more than the {sum(held):,} values that its files hold; "
            "restore the file"
        )

    def parameter(module: Any, key: str, value: Any) -> None:
        if threading.get_ident() == thread and isinstance(value, torch.Tensor) and value.is_meta:
            counted["values"] += value.numel()
            counted["parameters"] += 1
            if counted["values"] > most or counted["parameters"] > most_parameters:
                too_large(f"a model of more than {counted['values']:,} values")

    def buffer(module: Any, key: str, value: Any) -> None:
        if threading.get_ident() == thread and isinstance(value, torch.Tensor) and value.is_meta:
            counted["bytes"] += value.numel() * value.element_size()
            if counted["bytes"] > MOST_BUFFERS + TIMES * sum(held):
                too_large(f"masks and tables of more than {counted['bytes']:,} bytes")

    def submodule(module: Any, key: str, value: Any) -> None:
        if threading.get_ident() == thread:
            counted["modules"] += 1
            if counted["modules"] > MOST_MODULES:
                too_large(f"a model of more than {MOST_MODULES:,} parts")

    hooks = [
        torch_module.register_module_parameter_registration_hook(parameter),
        torch_module.register_module_buffer_registration_hook(buffer),
        torch_module.register_module_module_registration_hook(submodule),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
