"""Pickles that do something when they are read, where a library might look for weights or state."""

from __future__ import annotations

import builtins
import ctypes
import importlib
import io
import json
import os
import pickle
import pty
import runpy
import shutil
import socket
import subprocess
import timeit
import webbrowser
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.campaigns.hostile_folders import Change, all_of, edit, gone, write


class _Does:
    """Pickled, it is a call."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call, self.arguments


def payloads(mark: str) -> list[bytes]:
    """Pickles that leave a mark, reach the network or start a program; each in another way."""
    touch, code = f"touch {mark}", f"open({mark!r}, 'w').close()"
    calls = [
        _Does(os.system, touch),
        _Does(os.popen, touch),
        _Does(subprocess.Popen, ["touch", mark]),
        _Does(subprocess.check_output, ["touch", mark]),
        _Does(subprocess.getoutput, touch),
        _Does(exec, code),
        _Does(eval, code),
        _Does(open, mark, "w"),
        _Does(os.mkdir, mark),
        _Does(os.symlink, "/etc", mark),
        _Does(pty.spawn, ["touch", mark]),
        _Does(runpy.run_path, mark),
        _Does(importlib.import_module, "antigravity"),
        _Does(builtins.__import__, "this"),
        _Does(webbrowser.open, "http://127.0.0.1:9"),
        _Does(timeit.timeit, code),
        _Does(socket.create_connection, ("127.0.0.1", 9)),
        _Does(socket.getaddrinfo, "model.invalid", 80),
        _Does(ctypes.CDLL, "libc.so.6"),
        _Does(shutil.copy, "/etc/passwd", mark),
        _Does(Path, _Does(os.getcwd)),
        _Does(np.load, mark),
        _Does(getattr, Path, "unlink"),
        _Does(map, eval, [code]),
        _Does(torch.load, mark),
    ]
    return [pickle.dumps({"weight": call}) for call in calls]


def _archive(payload: bytes) -> bytes:
    """As torch writes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def pickles(mark: str) -> Iterator[tuple[str, Change]]:
    """Each payload in the places where a library, or a person in haste, would look for it."""
    for number, payload in enumerate(payloads(mark)):
        content = payload if number % 2 else _archive(payload)
        yield (
            f"pickle {number}: the weights alone",
            all_of(gone("model.safetensors"), write("pytorch_model.bin", content)),
        )
        yield f"pickle {number}: called safetensors", write("model.safetensors", content)
        index = json.dumps({"metadata": {}, "weight_map": {"embeddings": "pytorch_model.bin"}})
        named = all_of(write("pytorch_model.bin", content), write("model.safetensors.index.json", index))
        yield f"pickle {number}: named by an index", all_of(named, gone("model.safetensors"))
        key = edit("config.json", transformers_weights=("adapter_model.bin", "x.safetensors")[number % 2])
        yield f"pickle {number}: named by the configuration", all_of(write("adapter_model.bin", content), key)
        yield f"pickle {number}: a training checkpoint", all_of(write(".metadata", payload), _distributed)
        names = ("optimizer.pt", "training_args.bin", "rng_state.pth", "scheduler.pt", "tokenizer.pkl")
        yield f"left alone: pickle {number} in {names[number % 5]}", write(names[number % 5], content)


def _distributed(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "shard-00001-model-00001-of-00001.safetensors")
