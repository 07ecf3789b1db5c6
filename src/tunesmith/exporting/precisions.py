"""Networks with less in them: matrix products in int8, and weights in half precision.

In int8 every weight has a scale for its output channel, and every token that is multiplied with it a scale of its own,
found as it comes. onnxruntime's own quantiser has one scale for all tokens of a batch: answers then depend on what else
is asked at the same time, and are about half as exact (`docs/log.md`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.artefact.folder import MODEL
from tunesmith.artefact.onnx_file import DATA
from tunesmith.exporting.nodes import constant, forget_unused, nodes, replace

LEAST_VALUES = 1_024
"""Smaller tables stay as they are."""
WEIGHT_LIMIT, VALUE_LIMIT, ZERO = 63, 127, 128
"""Largest absolute values, and what stands for 0 in the unsigned values of tokens.

Weights have 7 bits: processors without VNNI add two products in 16 bits, which more would overflow, and the same
artefact would answer otherwise there.
"""
TABLE_LIMIT = 127


def write(program: Any, precision: str, folder: Path) -> None:
    """Write a network as ``model.onnx``, its weights beside it.

    Args:
        program: of `onnx_ir`, in float32; it is changed.
    """
    import onnx_ir

    if precision == "int8":
        program.opset_imports["com.microsoft"] = 1
        _Int8(program.graph).rewrite()
    elif precision == "float16":
        halve(program.graph)
    onnx_ir.save(program, folder / MODEL, external_data=DATA)


def halve(graph: Any) -> None:
    """Keep weights in half precision; the network computes in float32, with what they are made on loading.

    Weights beyond the range of half precision stay as they are.
    """
    for value in list(graph.initializers.values()):
        weights = _weights(value)
        if weights is None or weights.size < LEAST_VALUES or np.abs(weights).max() > np.finfo(np.float16).max:
            continue
        cast, (whole,) = nodes(("Cast", [constant(graph, f"{value.name}.half", weights.astype(np.float16))], _FLOAT))
        replace(value, whole)
        graph.insert_before(graph[0], cast)
    forget_unused(graph)


class _Int8:
    """Rewrites a graph in place.

    Every product of tokens with a matrix becomes: each token divided by its largest absolute value, rounded to 8 bits;
    the product in integers; and the result scaled back. The last layer, whose outputs are the answers, stays as it is.
    """

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self._tokens: dict[str, tuple[Any, Any, Any]] = {}
        self._matrices: dict[str, tuple[Any, Any]] = {}
        self._zero = constant(graph, "int8.zero", np.array(ZERO, np.uint8))
        self._zeros = constant(graph, "int8.zeros", np.array([ZERO], np.uint8))
        self._share = constant(graph, "int8.share", np.array(1 / VALUE_LIMIT, np.float32))
        self._one = constant(graph, "int8.one", np.array(1, np.float32))
        self._least = constant(graph, "int8.least", np.array(1e-10, np.float32))
        self._inner = constant(graph, "int8.axis", np.array([1], np.int64))

    def rewrite(self) -> None:
        products = [node for node in self.graph if node.op_type in ("MatMul", "Gemm") and _is_matrix(node.inputs[1])]
        for node in products[:-1]:
            if node.op_type == "MatMul":
                self._product(node)
        for node in [node for node in self.graph if node.op_type == "Gather" and _is_matrix(node.inputs[0])]:
            if node.attributes.get_int("axis", 0) == 0 and len(node.inputs[0].uses()) == 1:
                self._table(node)
        forget_unused(self.graph)

    def _product(self, node: Any) -> None:
        tokens, matrix = node.inputs
        rounded, scale, shape = self._rounded(node, tokens)
        weights, channels = self._matrix(matrix)
        width = constant(self.graph, f"{node.outputs[0].name}.width", np.array([weights.shape[1]], np.int64))
        made, (_, _, _, _, whole) = nodes(
            ("com.microsoft::MatMulIntegerToFloat", [rounded, weights, self._one, channels, self._zero], {}),
            ("Unsqueeze", [scale, self._inner], {}),
            ("Mul", [0, 1], {}),
            ("Concat", [shape, width], {"axis": 0}),
            ("Reshape", [2, 3], {}),
        )
        self._put(node, made, whole)

    def _rounded(self, node: Any, tokens: Any) -> tuple[Any, Any, Any]:
        """Tokens as uint8 (n, width), the scale of each (n,), and the shape that they had, without the width."""
        if tokens.name not in self._tokens:
            width = node.inputs[1].const_value.shape[0]
            flat = constant(self.graph, f"{tokens.name}.flat", np.array([-1, width], np.int64))
            made, found = nodes(
                ("Reshape", [tokens, flat], {}),
                ("Abs", [0], {}),
                ("ReduceMax", [1, self._inner], {"keepdims": 0}),
                ("Mul", [2, self._share], {}),
                ("Add", [3, self._least], {}),  # tokens of zeros alone have a scale, too
                ("Shape", [4], {}),
                ("Expand", [self._zeros, 5], {}),
                ("QuantizeLinear", [0, 4, 6], {"axis": 0}),
                ("Shape", [tokens], {"end": -1}),
            )
            self.graph.insert_before(node, made)
            self._tokens[tokens.name] = found[7], found[4], found[8]
        return self._tokens[tokens.name]

    def _matrix(self, matrix: Any) -> tuple[Any, Any]:
        """Weights as int8 (in, out), and the scale of each channel (out,)."""
        if matrix.name not in self._matrices:
            rounded, scale = _scaled(matrix.const_value.numpy(), 0, WEIGHT_LIMIT)
            self._matrices[matrix.name] = (
                constant(self.graph, f"{matrix.name}.int8", rounded),
                constant(self.graph, f"{matrix.name}.scale", scale.ravel()),
            )
        return self._matrices[matrix.name]

    def _table(self, node: Any) -> None:
        """Embeddings as int8, with a scale for each row."""
        table, numbers = node.inputs
        rounded, scale = _scaled(table.const_value.numpy(), 1, TABLE_LIMIT)
        if rounded.size < LEAST_VALUES:
            return
        made, (_, _, _, whole) = nodes(
            ("Gather", [constant(self.graph, f"{table.name}.int8", rounded), numbers], {}),
            ("Cast", [0], _FLOAT),
            ("Gather", [constant(self.graph, f"{table.name}.scale", scale), numbers], {}),
            ("Mul", [1, 2], {}),
        )
        self._put(node, made, whole)

    def _put(self, node: Any, made: list[Any], whole: Any) -> None:
        """New nodes in the place of one."""
        before = node.outputs[0]
        whole.name, whole.shape, whole.dtype = f"{before.name}.int8", before.shape, before.dtype
        self.graph.insert_before(node, made)
        replace(before, whole)
        self.graph.remove(node, safe=True)


_FLOAT = {"to": 1}
"""Of a cast: `onnx.TensorProto.FLOAT`."""


def _scaled(weights: np.ndarray, axis: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights as int8 and the scale by which they are multiplied, one for everything along an axis."""
    scale = np.abs(weights).max(axis=axis, keepdims=True) / limit
    scale[scale == 0] = 1
    return np.rint(weights / scale).astype(np.int8), scale.astype(np.float32)


def _weights(value: Any) -> np.ndarray | None:
    """What a constant of floats holds."""
    tensor: Any = value.const_value
    return None if tensor is None or tensor.dtype.name != "FLOAT" else np.asarray(tensor.numpy())


def _is_matrix(value: Any) -> bool:
    weights = None if value is None else _weights(value)
    return weights is not None and weights.ndim == 2
