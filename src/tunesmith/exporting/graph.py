"""From a model of torch to a network in ONNX, fused for onnxruntime on processors; see `tunesmith.artefact.folder`."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tunesmith.artefact.folder import Input
from tunesmith.artefact.session import OUTPUT
from tunesmith.errors import ModelError, is_shortage
from tunesmith.exporting.nodes import nodes, replace
from tunesmith.models.heads import quiet_library
from tunesmith.tasks.base import Task

INPUTS: tuple[Input, ...] = ("input_ids", "attention_mask", "token_type_ids")
DRAWN_FROM = (3, 17)
"""Rows and tokens of the batch that shows how the model computes; any other may follow."""
MOST_REASON = 120
"""Characters that are told of what the exporter says, which may be pages."""


class Answering(nn.Module):
    """What the network computes: pooling, and all that a task makes of a head, inside.

    Args:
        model: in eval mode.
    """

    def __init__(self, model: nn.Module, task: Task) -> None:
        super().__init__()
        self.model, self.task, self.config = model, task, model.config

    def forward(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {OUTPUT: self.task.infer(self.model, batch)}


@dataclass(frozen=True)
class Drawn:
    """A network.

    Attributes:
        program: of `onnx_ir`, in float32; nothing in it tells where or from which lines it was drawn.
        inputs: their names, in order.
    """

    program: Any
    inputs: list[Input]

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return int(self.program.opset_imports[""])


def draw(model: nn.Module, task: Task, tokenizer: Any) -> Drawn:
    """A model as a network for any number of texts of any length.

    Args:
        model: in eval mode, float32; it is moved to the processor.
        tokenizer: whose tokens it reads.

    Raises:
        ModelError: it cannot be drawn in operators of ONNX.
    """
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    names: list[Input] = [name for name in INPUTS if name in tokenizer.model_input_names or name == "attention_mask"]
    automatic = torch.export.Dim.AUTO
    shapes: dict[str, Any] = {name: {0: automatic, 1: automatic} for name in names}
    settings = OnnxConfig(dynamic=True, dynamic_shapes=shapes, ort_fusions="cpu")
    shown: Any = Answering(model.cpu().eval(), task)
    exporter: Any = OnnxExporter
    try:
        with _quiet():
            exported = exporter().export(shown, example(names, tokenizer, *DRAWN_FROM), config=settings)
            _part_norms(exported.program.graph)
            ClearMetadataAndDocStringPass()(exported.program)  # among it the paths of this machine's files
    except Exception as error:
        if is_shortage(error):
            raise
        raise ModelError(_refusal(model.config, error)) from error
    return Drawn(exported.program, names)


def example(names: Sequence[str], tokenizer: Any, rows: int, tokens: int) -> dict[str, torch.Tensor]:
    """A batch of random tokens; every row but the first is padded.

    Returns:
        int64 (rows, tokens) by name.
    """
    draw = np.random.default_rng(0)
    ordinary = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)) or [0]
    ids = draw.choice(ordinary, (rows, tokens))
    mask = np.ones((rows, tokens), dtype=np.int64)
    mask[1:, tokens // 2 + 1 :] = 0
    if tokenizer.padding_side == "left":
        mask = mask[:, ::-1].copy()
    arrays = {"input_ids": np.where(mask, ids, tokenizer.pad_token_id), "attention_mask": mask}
    return {name: torch.from_numpy(arrays.get(name, np.zeros_like(mask)).astype(np.int64)) for name in names}


def _part_norms(graph: Any) -> None:
    """Write sums and their norms as nodes of their own: onnxruntime's fused kernel is slower than both."""
    for node in [node for node in graph if node.op_type == "SkipLayerNormalization"]:
        *parts, scale, shift, bias = [*node.inputs, None][:5]
        steps: list[tuple[str, list[Any], dict[str, Any]]] = [("Add", parts, {})]
        if bias is not None:
            steps = [("Add", [parts[0], bias], {}), ("Add", [0, parts[1]], {})]
        total = len(steps) - 1
        epsilon = node.attributes["epsilon"].as_float()
        steps.append(("LayerNormalization", [total, scale, shift], {"axis": -1, "epsilon": epsilon}))
        made, found = nodes(*steps)
        for old, new in zip(node.outputs, [found[-1], None, None, found[total]], strict=False):
            if new is not None:
                new.name, new.shape, new.dtype = old.name, old.shape, old.dtype
                replace(old, new)
        graph.insert_before(node, made)
        graph.remove(node, safe=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The libraries write of their own versions and progress, and the whole graph of what they cannot draw."""
    talkers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir")]
    levels = [one.level for one in talkers]
    for one in talkers:
        one.setLevel(logging.ERROR)
    try:
        unread = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(unread), contextlib.redirect_stderr(unread):
            warnings.simplefilter("ignore")
            with quiet_library():
                yield
    finally:
        for one, level in zip(talkers, levels, strict=True):
            one.setLevel(level)


def _refusal(config: Any, error: Exception) -> str:
    """What is said of an architecture that cannot be drawn: which, the first words of why, and what to do."""
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    scaled = "" if rope == "default" else f" with rope_type {rope!r}"
    first = next(filter(None, (" ".join(line.split()) for line in str(error).splitlines())), type(error).__name__)
    reason = first if len(first) <= MOST_REASON else f"{first[: MOST_REASON - 1]}…"
    what = f"model type {config.model_type!r}{scaled} cannot be exported; the exporter of torch says: {reason}"
    return f"{what}; predict, evaluate and serve take a run without export, or train another model for it"
