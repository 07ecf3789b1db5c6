"""Everything but settings that decides the result of a run, by name; `changes` compares it.

Files count by their content, libraries by their version, and the machine by what makes it sum in another order: the
processor and the number of threads.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from tunesmith.data.records import Records
from tunesmith.disk import file_sha256
from tunesmith.models.source import Source
from tunesmith.run.record import LIBRARIES, FilePart
from tunesmith.training.precision import choose_device

NOT_READ = re.compile(r"\.|README|LICENSE|NOTICE|.*\.(md|png|jpg|gif|bin|pt|pth|ckpt|h5|msgpack|ot|onnx|gguf|tflite)$")
"""Names in a model's folder that nothing here reads."""
PART_OF_A_MODEL = re.compile(r"\d+_\w+")
"""Folders inside a sentence encoder's."""
MORE_LIBRARIES = ("tokenizers", "safetensors", "scipy")
GROUPS = ("tasks", "methods", "formats", "augmentations")
ENVIRONMENT = (
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS"),
    *("CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
)
"""Variables that choose other arithmetic on the same processor, or GPU."""


def surroundings() -> dict[str, str]:
    """What decides every run: code, libraries, machine, threads."""
    found = {"code: Tunesmith": _code_sha256(Path(__file__).parents[1])}
    for group in GROUPS:
        for point in entry_points(group=f"tunesmith.{group}"):
            found[f"extension: {point.module}"] = _module_sha256(point.module)
    found["library: python"] = platform.python_version()
    found |= {f"library: {name}": version(name) for name in (*LIBRARIES, *MORE_LIBRARIES)}
    found["machine: system"] = " ".join([platform.system(), platform.machine(), *platform.libc_ver()]).strip()
    found["machine: processor"] = f"{processor()}, {torch.backends.cpu.get_cpu_capability()}"
    if choose_device().type == "cuda":
        found["machine: GPU"] = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    found |= {f"environment: {name}": value for name in ENVIRONMENT if (value := os.environ.get(name))}
    return found | {"number: training.threads": str(torch.get_num_threads())}


def model_files(source: Source, what: str = "model file") -> dict[str, str]:
    """The files of a model that a library may read, by name; of one of the Hub those of its snapshot here."""
    if source.root is not None:
        return {f"{what}: {name}": file_sha256(path) for name, path in _files_of(source.root, source.inside)}
    snapshot = source.files()
    files = {f"{what}: {name}": file_sha256(path) for name, path in _files_of(snapshot, "")}
    return {f"{what}: revision": snapshot.name} | files


def weights_sha256(files: Mapping[str, str]) -> str | None:
    """One hash for a model's weights, given the hashes of its files."""
    hashes = [files[name] for name in sorted(files) if name.endswith(".safetensors")]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest() if hashes else None


def data_files(files: Iterable[FilePart]) -> dict[str, str]:
    """Hashes of the files that were read; what is no file of this machine counts by its rows alone."""
    return {f"data file: {file.path}": file.sha256 for file in files if file.sha256}


def rows(splits: Mapping[str, Records]) -> dict[str, str]:
    """Hashes of the rows of each split, as they were read."""
    return {f"rows: {name}": _table_sha256(records.table) for name, records in splits.items()}


def texts(sides: Mapping[str, pa.ChunkedArray]) -> dict[str, str]:
    """Hashes of texts, as they were read."""
    return {f"rows: {name}": _table_sha256(pa.table({"text": texts})) for name, texts in sides.items()}


def _files_of(root: Path, inside: str) -> Iterator[tuple[str, Path]]:
    folders = [root, *(path for path in sorted(root.iterdir()) if path.is_dir())]
    for folder in folders:
        if folder is root or folder.name == inside or PART_OF_A_MODEL.fullmatch(folder.name):
            for path in sorted(folder.iterdir()):
                if path.is_file() and not NOT_READ.match(path.name):
                    yield path.relative_to(root).as_posix(), path


def _code_sha256(package: Path) -> str:
    content = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content.update(f"{path.relative_to(package).as_posix()}\0{file_sha256(path)}\n".encode())
    return content.hexdigest()


def _module_sha256(module: str) -> str:
    try:
        spec = find_spec(module)
        return file_sha256(Path(str(spec.origin))) if spec else ""
    except (ImportError, OSError, ValueError):
        return ""


def processor() -> str:
    """What the system calls the processor; `platform` knows no more than the architecture on Linux."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
            return next(names, "") or platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def _table_sha256(table: pa.Table) -> str:
    content = hashlib.sha256()
    for name in table.column_names:
        parts: dict[str, Any] = {}
        for chunk in table[name].chunks:
            _add(parts, name, chunk)
        content.update("".join(f"{part} {parts[part].hexdigest()}\n" for part in sorted(parts)).encode())
    return content.hexdigest()


def _add(parts: dict[str, Any], name: str, values: pa.Array) -> None:
    """Add values of any type to hashes by part, so that it makes no difference how they lie in memory."""

    def add(part: str, content: bytes) -> None:
        parts.setdefault(f"{name} {part}", hashlib.sha256()).update(content)

    add("nulls", np.asarray(values.is_null(), dtype=np.uint8).tobytes())
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        add("lengths", np.asarray(pc.fill_null(pc.list_value_length(values), -1)).astype("<i8").tobytes())
        _add(parts, f"{name}[]", values.flatten())
    elif pa.types.is_struct(values.type):
        for field, inner in zip(values.type, values.flatten(), strict=True):
            _add(parts, f"{name}.{field.name}", inner)
    else:
        text = pc.fill_null(pc.cast(values, pa.large_string()), "")
        add("lengths", np.asarray(pc.binary_length(text)).astype("<i8").tobytes())
        add("values", b"".join(pc.cast(text, pa.large_binary()).to_pylist()))
