"""What an ONNX file asks for, read from its bytes: its operators' domains and the files that hold its weights.

A file of a stranger may name other files of the machine as its weights, or operators that go on for ever. Protocol
buffers are a few rules (https://protobuf.dev/programming-guides/encoding/), the numbers of fields are those of
``onnx.proto3``; so the light predictor needs no `onnx`.
"""

from __future__ import annotations

from collections.abc import Iterator

DATA = "model.onnx.data"
"""The file beside ``model.onnx`` that holds its weights."""
DOMAINS = ("", "ai.onnx", "com.microsoft")
REFUSED = ("EPContext", "Loop", "Scan")
"""Operators that read files of their own, or repeat what they hold."""
MOST_LEVELS = 16
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

_PARTS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
"""Message → number of a field → the message in it; others are passed over."""
_TEXTS = {("opset", 1): "domain", ("node", 7): "domain", ("node", 4): "operator", ("function", 10): "domain"}


def objections(content: bytes) -> Iterator[str]:
    """What an ONNX file must not ask for, in a few words each.

    Raises:
        ValueError: it is no such file.
    """
    yield from dict.fromkeys(_objections("model", memoryview(content), MOST_LEVELS))


def _objections(kind: str, content: memoryview, levels: int) -> Iterator[str]:
    if not levels:
        raise ValueError(f"nested more than {MOST_LEVELS} levels deep")
    key = ""
    for number, value in _fields(content):
        if inner := _PARTS.get(kind, {}).get(number):
            yield from _objections(inner, value, levels - 1)
        elif kind == "entry" and number == 1:
            key = _text(value)
        elif kind == "entry" and number == 2 and key == "location" and (place := _text(value)) != DATA:
            yield f"weights in {place[:100]!r}, expected {DATA}"
        elif role := _TEXTS.get((kind, number)):
            text = _text(value)
            if role == "domain" and text not in DOMAINS:
                yield f"operators of {text[:100]!r}, which are not onnxruntime's own"
            elif role == "operator" and text in REFUSED:
                yield f"the operator {text}"


def _fields(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each field that has bytes; numbers are passed over."""
    at, end = 0, len(content)
    while at < end:
        tag, at = _varint(content, at)
        wire = tag & 7
        if wire == VARINT:
            _, at = _varint(content, at)
        elif wire == BYTES:
            length, at = _varint(content, at)
            if length > end - at:
                raise ValueError("cut off")
            yield tag >> 3, content[at : at + length]
            at += length
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
        else:
            raise ValueError("no ONNX file")
    if at > end:
        raise ValueError("cut off")


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(content) and shift < 64:
        byte = content[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("cut off")


def _text(value: memoryview) -> str:
    return str(value, "utf-8", "replace")
