"""Nodes of a network: made, put in the place of others, and left out. A network is a graph of `onnx_ir`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def constant(graph: Any, name: str, array: np.ndarray) -> Any:
    import onnx_ir

    tensor = onnx_ir.tensor(array, name=name)
    value = onnx_ir.Value(name=name, const_value=tensor)
    value.shape, value.dtype = onnx_ir.Shape(array.shape), tensor.dtype
    graph.register_initializer(value)
    return value


def nodes(*steps: tuple[str, Iterable[Any], dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Nodes and their outputs.

    Args:
        steps: operator (``domain::name`` where it is not a standard one), inputs (numbers stand for outputs of earlier
            steps), attributes.
    """
    import onnx_ir

    made: list[Any] = []
    for operator, inputs, attributes in steps:
        given = [made[one].outputs[0] if isinstance(one, int) else one for one in inputs]
        domain, _, name = operator.rpartition("::")
        made.append(onnx_ir.node(name, given, attributes=attributes, domain=domain))
    return made, [node.outputs[0] for node in made]


def replace(old: Any, new: Any) -> None:
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def forget_unused(graph: Any) -> None:
    for value in list(graph.initializers.values()):
        if not value.uses() and not value.is_graph_output():
            graph.initializers.pop(value.name)
