"""Model folders that mean harm, each an honest one with a change; and honest ones, which must not be taken for such."""

from __future__ import annotations

import base64
import json
import math
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Change = Callable[[Path], None]
HUGE = 10**9


def edit(file: str, **changes: Any) -> Change:
    """Set keys of a JSON file; ``a__b`` is the key ``b`` of ``a``; a function is given the value that was there."""

    def change(folder: Path) -> None:
        path = folder / file
        value = json.loads(path.read_text()) if path.exists() else {}
        for name, new in changes.items():
            *above, key = name.split("__") if not name.startswith("_") else [name]
            inner = value
            for part in above:
                inner = inner.setdefault(part, {})
            inner[key] = new(inner.get(key)) if callable(new) else new
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value))

    return change


def write(file: str, content: str | bytes) -> Change:
    def change(folder: Path) -> None:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)

    return change


def replaced(file: str, make: Callable[[Path], Any]) -> Change:
    """Something else in a file's place; `make` is given the path."""

    def change(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        (folder / file).parent.mkdir(exist_ok=True)
        make(folder / file)

    return change


def weights(change: Callable[[dict[str, torch.Tensor]], Any], file: str = "model.safetensors") -> Change:
    """Other tensors in a file of weights."""

    def apply(folder: Path) -> None:
        tensors = load_file(folder / file)
        change(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / file, {"format": "pt"})

    return apply


def header(change: Callable[[dict[str, Any]], Any], file: str = "model.safetensors") -> Change:
    """Another header of a file of weights, before the same bytes."""

    def apply(folder: Path) -> None:
        raw = (folder / file).read_bytes()
        size = struct.unpack("<Q", raw[:8])[0]
        value = json.loads(raw[8 : 8 + size])
        text = change(value)
        new = (text if isinstance(text, str) else json.dumps(value)).encode()
        (folder / file).write_bytes(struct.pack("<Q", len(new)) + new + raw[8 + size :])

    return apply


def gone(file: str) -> Change:
    return lambda folder: (folder / file).unlink()


def all_of(*changes: Change) -> Change:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def sparse(file: str, size: int, start: bytes = b"") -> Change:
    def change(folder: Path) -> None:
        with open(folder / file, "wb") as opened:
            opened.write(start)
            opened.truncate(size)

    return change


def indices(outside: Path) -> Iterator[tuple[str, Change]]:
    """Shards that an index names."""
    names: list[Any] = [
        f"../{outside.name}/w.safetensors",
        str(outside / "w.safetensors"),
        "./model.safetensors",
        "a/w.safetensors",
        "..",
        "",
        "/",
        "w.bin",
        "no.safetensors",
        "..\\w.safetensors",
        "w\0.safetensors",
        7,
        None,
        ["w.safetensors"],
        {"w": 1},
        "~/w.safetensors",
        "http://model.invalid/w.safetensors",
        "model.safetensors/../../w.safetensors",
    ]
    for name in names:
        content = json.dumps({"metadata": {"total_size": 1}, "weight_map": {"embeddings.x": name}})
        yield f"index: names {name!r}", write("model.safetensors.index.json", content)
    for what, content in {
        "a list": "[]",
        "no map": "{}",
        "an empty map": '{"weight_map": {}}',
        "deep": "[" * 10**5,
        "twice": '{"weight_map": {"a": "b.safetensors", "a": "c.safetensors"}}',
        "a map of lists": '{"weight_map": []}',
    }.items():
        yield f"index: {what}", all_of(gone("model.safetensors"), write("model.safetensors.index.json", content))
    index = json.dumps({"weight_map": {"x": "w.safetensors"}})
    link = replaced("w.safetensors", lambda path: path.symlink_to(outside / "w.safetensors"))
    yield (
        "index: a shard that is a link",
        all_of(gone("model.safetensors"), link, write("model.safetensors.index.json", index)),
    )


def places(outside: Path) -> Iterator[tuple[str, Change]]:
    """What is no plain file."""
    read = (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "generation_config.json",
        "modules.json",
        "chat_template.jinja",
        "seen.txt",
        "vocab.txt",
    )
    for file in read:
        yield f"a pipe: {file}", replaced(file, os.mkfifo)
        yield f"a link outside: {file}", replaced(file, lambda path: path.symlink_to(outside / path.name))
        yield f"a link to a device: {file}", replaced(file, lambda path: path.symlink_to("/dev/zero"))
    yield "a link to itself", replaced("added_tokens.json", lambda path: path.symlink_to(path))
    yield "a folder of links", replaced("1_Pooling", lambda path: path.symlink_to(outside))
    yield "templates elsewhere", replaced("additional_chat_templates", lambda path: path.symlink_to(outside))
    yield (
        "a socket",
        replaced("added_tokens.json", lambda path: socket.socket(socket.AF_UNIX).bind(os.path.relpath(path))),
    )
    yield "more bytes than there are: weights", _longer
    yield "a sparse tokenizer", sparse("tokenizer.json", 3 * 2**30)
    yield "a sparse configuration", sparse("config.json", 3 * 2**30, b"{")
    yield "a sparse vocabulary", sparse("vocab.txt", 3 * 2**30)
    yield "a sparse template", sparse("chat_template.jinja", 3 * 2**30)
    yield "20,000 files", _many
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        for what, content in {
            "deep": "[" * 10**5,
            "deep objects": '{"a":' * 10**5,
            "empty": "",
            "an array": "[]",
            "not text": "\udcff{",
            "text after it": "{} {}",
            "a number": "1",
            "digits": '{"vocab_size": ' + "9" * 32_000 + "}",
            "keys that stand twice": '{"model_type": "bert", "model_type": "rag"}',
            "NaN": '{"model_type": NaN}',
        }.items():
            yield f"no JSON: {file}: {what}", write(file, content)


def _many(folder: Path) -> None:
    for number in range(20_000):
        (folder / f"{number}.txt").touch()


def _longer(folder: Path) -> None:
    """A header of two terabytes that the file has, without a byte of it on the disk."""
    shape = [2**29]
    entry = json.dumps(
        {"embeddings.word_embeddings.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, 2**31]}}
    )
    sparse("model.safetensors", 8 + len(entry) + 2**31, struct.pack("<Q", len(entry)) + entry.encode())(folder)


def headers() -> Iterator[tuple[str, Change]]:
    """Files of weights whose headers lie."""

    def first(value: dict[str, Any]) -> dict[str, Any]:
        return next(entry for name, entry in value.items() if name != "__metadata__")

    changes: dict[str, Callable[[dict[str, Any]], Any]] = {
        "an overlap": lambda h: first(h).update(data_offsets=[0, 4], shape=[1]),
        "a negative size": lambda h: first(h).update(shape=[-1, 4]),
        "a huge size": lambda h: first(h).update(shape=[2**40, 2**40]),
        "a fraction": lambda h: first(h).update(shape=[0.5]),
        "a size that is true": lambda h: first(h).update(shape=[True, True]),
        "many dimensions": lambda h: first(h).update(shape=[1] * 10_000),
        "an unknown type": lambda h: first(h).update(dtype="PICKLE"),
        "a type that is a list": lambda h: first(h).update(dtype=["F32"]),
        "places the wrong way": lambda h: first(h).update(data_offsets=[64, 0]),
        "places far away": lambda h: first(h).update(data_offsets=[2**50, 2**50 + 64]),
        "three places": lambda h: first(h).update(data_offsets=[0, 1, 2]),
        "a key besides": lambda h: first(h).update(file="../w"),
        "an entry that is a list": lambda h: h.update(x=[1, 2]),
        "metadata of numbers": lambda h: h.update(__metadata__={"format": 1}),
        "metadata that is a list": lambda h: h.update(__metadata__=["pt"]),
        "a gap": lambda h: h.pop(next(iter(sorted(set(h) - {"__metadata__"})))),
        "nothing": lambda h: h.clear(),
        "no object": lambda h: "[]",
        "twice": lambda h: '{"a": {}, "a": {}}',
        "no JSON": lambda h: "{" * 1_000,
        "deep": lambda h: '{"a":' * 10**5,
        "a million empty weights": lambda h: h.update(
            {f"e{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(300_000)}
        ),
    }
    for what, change in changes.items():
        yield f"header: {what}", header(change)
    for size in (0, 1, 7, 2**63, 2**62, 10**8):
        yield f"header: of {size} bytes", write("model.safetensors", struct.pack("<Q", size) + b"{}" + b"\0" * 64)
    yield "header: an empty file", write("model.safetensors", b"")
    yield "header: bytes after the last", _appended
    for value in (math.nan, math.inf, -math.inf):
        yield f"weights: {value}", weights(_filled(value))
    yield "weights: none", weights(lambda w: w.clear())
    yield "weights: one is missing", weights(lambda w: w.pop("encoder.layer.1.output.dense.weight"))
    yield (
        "weights: one has another shape",
        weights(lambda w: w.update({"encoder.layer.1.output.dense.weight": torch.ones(3, 3)})),
    )
    yield "weights: of another model", weights(lambda w: [w.update({f"other.{n}": w.pop(n)}) for n in list(w)])
    yield "left alone: weights besides", weights(lambda w: w.update({"cls.predictions.bias": torch.ones(5)}))


def _appended(folder: Path) -> None:
    with open(folder / "model.safetensors", "ab") as file:
        file.write(b"x" * 9)


def _filled(number: float) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda tensors: tensors[min(tensors)].view(-1)[:1].fill_(number)


def table(longest: int) -> str:
    """A table of characters as of SentencePiece, one entry of which is long."""
    return base64.b64encode(struct.pack("<I", 8) + b"\0" * 8 + b"a" * longest + b"\0").decode()
