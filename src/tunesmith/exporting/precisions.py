"""Networks with less in them: int8, and weights in half precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.artefact.folder import MODEL
from tunesmith.artefact.onnx_file import DATA

LEAST_VALUES = 256
"""Smaller tensors stay as they are."""


def write(program: Any, precision: str, folder: Path) -> None:
    """Write a network as ``model.onnx``, its weights beside it.

    Args:
        program: of `onnx_ir`, in float32; it is changed.
    """
    if precision == "int8":
        program = in_int8(program)
    elif precision == "float16":
        halve(program)
    save(program, folder / MODEL)


def save(program: Any, file: Path) -> None:
    """Write an `onnx_ir` model, its weights in a file beside it."""
    import onnx_ir

    onnx_ir.save(program, file, external_data=DATA)


def in_int8(program: Any) -> Any:
    """The network with its matrix products in int8: weights per output channel, what reaches them as it comes."""
    from onnxruntime.quantization import QuantType
    from transformers.exporters.configs import ExportFormat
    from transformers.exporters.quantizers.quantizer_onnxruntime import OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer

    config = OnnxRuntimeDynamicConfig(per_channel=True, weight_type=QuantType.QInt8)
    return OnnxRuntimeQuantizer(config).quantize(program, {}, ExportFormat.ONNX)


def halve(program: Any) -> None:
    """Keep weights in half precision; the network computes in float32, with what they are made on loading."""
    import onnx_ir

    for value in list(program.graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != onnx_ir.DataType.FLOAT or tensor.size < LEAST_VALUES:
            continue
        weights = tensor.numpy()
        if np.abs(weights).max(initial=0.0) > np.finfo(np.float16).max:
            continue
        half = onnx_ir.Value(name=f"{value.name}_half", const_value=onnx_ir.tensor(weights.astype(np.float16)))
        half.shape, half.dtype = value.shape, onnx_ir.DataType.FLOAT16
        cast = onnx_ir.node("Cast", [half], attributes={"to": onnx_ir.DataType.FLOAT.value})
        widened = cast.outputs[0]
        widened.shape, widened.dtype = value.shape, onnx_ir.DataType.FLOAT
        value.replace_all_uses_with(widened)
        program.graph.initializers.pop(value.name)
        program.graph.register_initializer(half)
        program.graph.insert_before(program.graph[0], cast)
