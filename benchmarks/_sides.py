"""What others run a trained model with, as the sides that ours is compared with: pipelines, and plain onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from questions import answers, windows
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, pipeline

BATCH = 32
Answer = tuple[Any, float | None]
"""Label, text or spans, and how sure the model is of a label."""
Side = Callable[[Sequence[Any]], list[Answer]]
"""From texts, or pairs of question and context, to answers in their order."""
Network = Callable[[dict[str, np.ndarray]], np.ndarray]
"""From arrays (n, length) to logits."""


def piped(task: str, folder: Path, length: int, size: int) -> Side:
    """A pipeline of transformers on a run, in float32, texts in the order in which they come.

    transformers 5 has none for questions; the usual script stands for it.

    Args:
        length: tokens that are read.
        size: of its batches.
    """
    where = str(folder / "model")
    if task == "qa":
        return asked(AutoTokenizer.from_pretrained(where), _torch_network(where), size)
    tokenizer = AutoTokenizer.from_pretrained(where, model_max_length=length)
    if task == "ner":
        tag: Any = pipeline(
            "token-classification", where, tokenizer=tokenizer, aggregation_strategy="first", device="cpu"
        )
        return lambda texts: [
            (tuple((one["start"], one["end"], one["entity_group"]) for one in found), None)
            for found in tag(list(texts), batch_size=size)
        ]
    label: Any = pipeline("text-classification", where, tokenizer=tokenizer, device="cpu")
    return lambda texts: [
        (found["label"], found["score"]) for found in label(list(texts), batch_size=size, truncation=True)
    ]


def plain(task: str, run: Path, artefact: Path, names: Sequence[str], length: int, threads: int) -> Side:
    """Code as it is written around a session of onnxruntime: the tokenizer of transformers, batches of 32 texts in the
    order in which they come, padded to the longest of each, and the best of the logits.

    Args:
        run: whose tokenizer it is.
        artefact: whose network it is.
        names: of the labels, or tags.
    """
    tokenizer = AutoTokenizer.from_pretrained(str(run / "model"), model_max_length=length)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(artefact / "model.onnx"), options, providers=["CPUExecutionProvider"])
    inputs = [one.name for one in session.get_inputs()]

    def network(batch: dict[str, np.ndarray]) -> np.ndarray:
        return np.asarray(session.run(None, {name: batch[name] for name in inputs})[0])

    if task == "qa":
        return asked(tokenizer, network, BATCH)

    def side(texts: Sequence[str]) -> list[Answer]:
        found: list[Answer] = []
        for start in range(0, len(texts), BATCH):
            batch = tokenizer(
                list(texts[start : start + BATCH]),
                padding=True,
                truncation=True,
                return_tensors="np",
                return_offsets_mapping=task == "ner",
            )
            logits = network({name: batch[name] for name in inputs})
            best = logits.argmax(axis=-1)
            if task == "ner":
                tags = [[names[tag] for tag in row] for row in best]
                found += [(_spans(*row), None) for row in zip(tags, batch["offset_mapping"].tolist(), strict=True)]
            else:
                shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
                shares /= shares.sum(axis=-1, keepdims=True)
                found += [(names[one], float(row[one])) for one, row in zip(best, shares, strict=True)]
        return found

    return side


def asked(tokenizer: Any, network: Network, size: int) -> Side:
    """The usual script for questions: windows over the contexts, and the best of 20 beginnings and ends.

    Args:
        size: questions at once.
    """

    def side(pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        found: list[Answer] = []
        for start in range(0, len(pairs), size):
            part = [{"question": question, "context": context} for question, context in pairs[start : start + size]]
            cut = windows(part, tokenizer, False)
            columns = {name: cut[name] for name in tokenizer.model_input_names}
            logits = network(dict(tokenizer.pad(columns, return_tensors="np")))
            found += [(text, None) for text in answers(part, cut, (logits[..., 0], logits[..., 1]))]
        return found

    return side


def _torch_network(where: str) -> Network:
    model: Any = AutoModelForQuestionAnswering.from_pretrained(where).eval()

    def network(batch: dict[str, np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            found = model(**{name: torch.from_numpy(array) for name, array in batch.items()})
        return np.stack([found.start_logits.numpy(), found.end_logits.numpy()], axis=-1)

    return network


def _spans(tags: list[str], offsets: list[list[int]]) -> tuple[tuple[int, int, str], ...]:
    """Runs of tags of one type, piece by piece."""
    spans: list[tuple[int, int, str]] = []
    before = "O"
    for tag, (start, end) in zip(tags, offsets, strict=True):
        if end > start:
            if tag != "O" and before[2:] == tag[2:] and (tag[0] == "I" or spans[-1][1] == start):
                spans[-1] = (spans[-1][0], end, tag[2:])
            elif tag != "O":
                spans.append((start, end, tag[2:]))
            before = tag
    return tuple(spans)
