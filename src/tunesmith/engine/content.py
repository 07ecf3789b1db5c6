"""What frozen modules compute with besides their input: code, settings, parameters and buffers, and one hash of it all.

States are kept by that hash, and it must stay true, but no counter tells of every change: ``parameter.data`` and numpy
write past torch's versions. So `Content.is_same` looks again in two ways. Before every batch it asks whether modules,
attributes and torch's versions are the same, and whether the checksums of the next MB of the weights hold, in turn. A
small model is looked at whole each time; in a large one a change past torch is found some batches later, and on a GPU,
where to look is to wait for all that was launched, only every fiftieth batch has its turn. Wholly, at every byte (40 ms
for 75 MB), it looks whenever training turns to evaluation or back, and before states are written: what stays on disk
was made by what its hash says.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import operator
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import CodeType
from typing import Any

import torch
from torch import nn

LOOK_BYTES = 2**20
"""How much of the weights is looked at before a batch."""
SPREAD = 0x9E3779B97F4A7C15 - 2**64
"""2⁶⁴ divided by the golden ratio, as a signed number: spreads what it is multiplied with over all bits."""
BATCHES_A_LOOK = {"cuda": 50}
"""On a device where it costs more than that; elsewhere every batch is one."""
LIBRARIES = ("torch", "transformers")
"""Their versions stand for their code."""
NO_SETTING = frozenset(vars(nn.Module())) | {"forward", "name_or_path", "warnings_issued"}
"""Attributes of a module that do not say what it computes; a `forward` of its own is an `obstacle`, or the engine's."""
DEPTH = 4
"""How far attributes of attributes are followed."""


class Content:
    """What `modules` compute with.

    Args:
        modules: by name; a child counts where it is listed, too.
        parameters: of the modules, by name. Their buffers need not be listed.
        configuration: of the model.

    Attributes:
        digest: hash of it all.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], parameters: Mapping[str, torch.Tensor], configuration: str
    ) -> None:
        self._modules = list(modules.values())
        buffers = {f"{name}.{key}": b for name, m in modules.items() for key, b in m._buffers.items() if b is not None}
        tensors = buffers | dict(parameters)
        self._tensors = list(tensors.values())
        self._objects, self._versions = self._look()
        digest = hashlib.sha256(configuration.encode())
        for name, module in modules.items():
            settings = sorted(f"{key}={_of(x, DEPTH)}" for key, x in vars(module).items() if key not in NO_SETTING)
            digest.update(f"{name} {_of_class(type(module))} {settings}\n".encode())
        groups: list[list[tuple[torch.Tensor, int]]] = [[]]  # parts of tensors, a megabyte in each group
        size = 0
        for name, tensor in tensors.items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            for start in range(0, tensor.numel() * tensor.itemsize, LOOK_BYTES):
                content = _bytes(tensor, start)
                digest.update(content)
                if size + len(content) > LOOK_BYTES:
                    groups.append([])
                    size = 0
                size += len(content)
                groups[-1].append((tensor, start))
        self.digest = digest.hexdigest()
        self._groups = [(group, checksums(group)) for group in groups]
        device = self._tensors[0].device.type if self._tensors else "cpu"
        pause = BATCHES_A_LOOK.get(device, 1) if len(groups) > 1 else 1
        pauses: list[Any] = [([], [])] * (pause - 1)
        self._turn = itertools.cycle(one for group in self._groups for one in (*pauses, group))

    def is_same(self, wholly: bool = True) -> bool:
        """Whether nothing has changed: of all that there is, or as far as can be seen in a millisecond."""
        objects, versions = self._look()
        looked_at = self._groups if wholly else [next(self._turn)]
        places, known = ([one for group in part for one in group] for part in zip(*looked_at, strict=True))
        return (
            len(objects) == len(self._objects)
            and all(map(operator.is_, objects, self._objects))
            and (wholly or versions == self._versions)
            and checksums(places) == known
        )

    def _look(self) -> tuple[list[Any], list[int | None]]:
        objects: list[Any] = []
        for module in self._modules:
            own = dict(vars(module))  # a copy: another thread may give the module an attribute meanwhile
            objects += [type(module), len(own["_forward_hooks"]), len(own["_forward_pre_hooks"])]
            objects += [value for name, value in own.items() if name not in NO_SETTING]
            objects += [*own["_parameters"].values(), *own["_buffers"].values(), *own["_modules"].values()]
        return objects, [None if tensor.is_inference() else tensor._version for tensor in self._tensors]


def checksums(places: list[tuple[torch.Tensor, int]]) -> list[int]:
    """Of parts of tensors from given bytes on: CRC-32 on a processor; a GPU is waited for once, for sums of its own."""
    if any(not tensor.is_cuda for tensor, _ in places):
        return [zlib.crc32(_bytes(*place)) for place in places]
    return [int(value) for value in torch.stack([_sum(*place) for place in places]).tolist()] if places else []


def _sum(tensor: torch.Tensor, start: int) -> torch.Tensor:
    """Sum, modulo 2⁶⁴, of the bytes of a part, each times a number that depends on its place."""
    part = tensor.detach().reshape(-1).view(torch.uint8)[start : start + LOOK_BYTES]
    factors = torch.arange(1, len(part) + 1, device=part.device) * SPREAD
    return (part * (factors ^ (factors >> 29))).sum()


def obstacle(modules: Iterable[nn.Module]) -> str | None:
    """Why what modules compute cannot be known beforehand, or None."""
    for module in modules:
        own = vars(module)
        strange = [*own["_forward_hooks"].values(), *own["_forward_pre_hooks"].values(), own.get("forward")]
        if any(f is not None and not str(f.__module__).startswith("tunesmith.engine") for f in strange):
            return f"a frozen {type(module).__name__} has a hook, or a forward of its own"
    return None


def _bytes(tensor: torch.Tensor, start: int = 0, size: int | None = None) -> Any:
    """Part of a tensor's content, as something that can be hashed."""
    return tensor.detach().reshape(-1).view(torch.uint8)[start : start + (size or LOOK_BYTES)].cpu().numpy()


def _of_class(kind: type) -> str:
    """The names of a class and of its bases, with the code of those functions that no library brings."""
    functions = [
        f"{name}={_of(value, DEPTH)}"
        for base in kind.__mro__
        for name, value in vars(base).items()
        if hasattr(value, "__code__") and value.__globals__["__name__"].partition(".")[0] not in LIBRARIES
    ]
    return f"{[f'{base.__module__}.{base.__qualname__}' for base in kind.__mro__]} {functions}"


def _of(value: Any, depth: int) -> str:
    """What a setting says, the same in every process; of an object that is not known, its class alone."""
    if value is None or isinstance(value, bool | int | float | str | bytes | torch.dtype | torch.device):
        return repr(value)
    inner = functools.partial(_of, depth=depth - 1)
    if depth == 0:
        return type(value).__qualname__
    if isinstance(value, Mapping):
        return str(sorted(f"{inner(key)}: {inner(one)}" for key, one in value.items()))
    if isinstance(value, list | tuple):
        return str([inner(one) for one in value])
    if isinstance(value, set | frozenset):
        return str(sorted(map(inner, value)))
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(_bytes(value, size=value.numel() * value.itemsize)).hexdigest()
    if isinstance(value, nn.Module):
        return f"{_of_class(type(value))} {inner(value.state_dict())}"
    if isinstance(value, functools.partial):
        return f"{inner(value.func)} {inner(value.args)} {inner(value.keywords)}"
    if isinstance(value, CodeType):
        return f"{value.co_code.hex()} {value.co_names} {inner(value.co_consts)}"
    function = getattr(value, "__func__", value)
    name = getattr(function, "__qualname__", type(value).__qualname__)
    code = getattr(function, "__code__", None)
    if code is None:
        return f"{getattr(function, '__module__', '')}.{name}"
    cells = []
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # it is empty
            cells.append(cell.cell_contents)
    return f"{function.__module__}.{name} {inner(code)} {inner(function.__defaults__)} {inner(cells)}"
