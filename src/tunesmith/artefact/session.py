"""The network of an artefact, run by onnxruntime: no torch is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.artefact.folder import MODEL, PRECISIONS, Artefact
from tunesmith.artefact.tokens import Tokens
from tunesmith.errors import ModelError, UsageError, is_out_of_memory
from tunesmith.models.facts import Facts
from tunesmith.resources import threads

if TYPE_CHECKING:
    from tunesmith.tasks.base import Task
    from tunesmith.tasks.encoding import EncodedTexts

TOKENS_PER_BATCH = 256
"""What is computed of more does not stay in a processor's caches, and more is padding."""
KEPT_TOKENS = 512
"""Memory for larger batches is given back."""
ROWS_PER_BATCH = 256
OUTPUT = "logits"


class OnnxModel:
    """A backend of `tunesmith.predictor.Predictor`.

    Attributes:
        tokenizer: what `tunesmith.tasks.encoding` calls.
        limit: tokens that the model can read at a time.
        precision: ``float32``, ``int8`` or ``float16``.
    """

    def __init__(self, folder: Path, artefact: Artefact) -> None:
        """Raises ModelError where a library does not take the network, or the tokenizer."""
        import onnxruntime

        self.limit, self.precision, self._artefact = artefact.limit, artefact.precision, artefact
        self.tokenizer = Tokens.load(folder, artefact.tokenizer)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads(), 1
        options.log_severity_level = 4
        # What can be fused was when it was made, but for kernels that are slower so.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        try:
            self._session = onnxruntime.InferenceSession(
                str(folder / MODEL), options, providers=["CPUExecutionProvider"]
            )
        except MemoryError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryError(str(error)) from None
            said, made = " ".join(str(error).split())[-90:], artefact.source.versions.get("onnxruntime", "unknown")
            refused = f"onnxruntime {onnxruntime.__version__} refuses it (… {said})"
            remedy = f"install the one that it was made with ({made}), or export the model again"
            raise ModelError(f"{folder / MODEL}: {refused}; {remedy}") from None
        self._long = onnxruntime.RunOptions()
        self._long.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        names = [one.name for one in self._session.get_inputs()], [one.name for one in self._session.get_outputs()]
        if names != (list(artefact.inputs), [OUTPUT]):
            raise ModelError(f"{folder / MODEL}: its inputs or outputs are not those of an artefact ({names})")

    def __repr__(self) -> str:
        return f"OnnxModel({self.precision})"

    @property
    def width(self) -> object:
        """Numbers that the network says of a text, or of a token; a name where its file leaves that open."""
        return self._session.get_outputs()[0].shape[-1]

    def logits(self, encoded: EncodedTexts, task: Task) -> np.ndarray:
        """What the network says of each text, float32: (n, labels); of heads on tokens (tokens, labels), one text after
        the other.

        Raises:
            ModelError: a value is not finite.
        """
        from tunesmith.tasks.batching import batches_by_tokens

        lengths = encoded.lengths.astype(np.int64)
        if not len(lengths):
            return np.empty((0, 0), dtype=np.float32)
        columns: dict[str, np.ndarray] = {
            name: encoded.flat(name) for name in self._artefact.inputs if name != "attention_mask"
        }
        left = task.head == "sequence" and self._artefact.tokenizer.padding_side == "left"
        first, result = np.cumsum(lengths) - lengths, np.empty((0, 0), dtype=np.float32)
        count = lengths if task.on_tokens else np.ones_like(lengths)
        place = np.cumsum(count) - count
        waiting = batches_by_tokens(encoded.lengths, TOKENS_PER_BATCH, ROWS_PER_BATCH)[::-1]
        while waiting:
            rows = waiting.pop()
            at, real = _positions(lengths[rows], left)
            at += first[rows][:, None]
            feed = {"attention_mask": real}
            for name, column in columns.items():
                feed[name] = np.where(real, column[at * real], self._filling(name))
            try:
                found = self._run(feed)
            except MemoryError:
                if len(rows) < 2:
                    raise
                waiting += np.array_split(rows, 2)[::-1]  # its two halves need less
                continue
            if task.on_tokens:
                found, rows = found[real], np.concatenate([np.arange(place[r], place[r] + count[r]) for r in rows])
            if not result.size:
                result = np.empty((int(count.sum()), found.shape[1]), dtype=np.float32)
            result[rows] = found
        if not np.isfinite(result).all():
            raise ModelError("the model's outputs are not finite; export it again, in float32")
        return result

    def _filling(self, name: str) -> int:
        return self._artefact.tokenizer.pad_token_id if name == "input_ids" else 0

    def _run(self, feed: dict[str, np.ndarray]) -> np.ndarray:
        inputs = {name: np.ascontiguousarray(feed[name], dtype=np.int64) for name in self._artefact.inputs}
        # What a text needs grows with the square of its length, and would be kept until the process ends.
        options = self._long if feed["attention_mask"].size > KEPT_TOKENS else None
        try:
            found: Any = self._session.run([OUTPUT], inputs, options)[0]
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryError(str(error)) from None
            said = " ".join(str(error).split())[:300]
            raise ModelError(f"the network failed ({said}); export the model again") from None
        return np.asarray(found, dtype=np.float32)


def load_artefact(name: str, folder: Path, facts: Facts, precision: str) -> OnnxModel:
    """The network of an artefact.

    Args:
        name: what the user calls it.
        facts: what lies beside it.
        precision: what is asked for; an artefact has its own.

    Raises:
        ModelError: the artefact is refused.
        UsageError: another precision is asked for.
    """
    artefact = Artefact.load(folder)
    if precision not in ("float32", "auto", artefact.precision):
        advice = f"export the run in {precision}" if precision in PRECISIONS else "leave it out"
        raise UsageError(f"`precision`: {name} is exported in {artefact.precision}; {advice}")
    if facts.max_length > artefact.limit or facts.task != artefact.source.task:
        raise ModelError(f"{folder / Facts.FILE}: does not fit {Artefact.FILE}; export the model again")
    model, labels = OnnxModel(folder, artefact), len(facts.labels.names)
    if isinstance(model.width, int) and model.width != labels:
        said = f"labels.names: expected {model.width}, as many as the network's outputs, found {labels}"
        raise ModelError(f"{folder / Facts.FILE}: {said}; export the model again")
    return model


def _positions(lengths: np.ndarray, left: bool) -> tuple[np.ndarray, np.ndarray]:
    """Of each place of a padded batch (n, longest): the number of the token in its text, and whether there is one."""
    at = np.arange(max(1, int(lengths.max())))[None, :] - (lengths.max() - lengths if left else 0 * lengths)[:, None]
    return at, (at >= 0) & (at < lengths[:, None])
