"""Training steps with the engine and without, interleaved on the same batches: examples a second.

    python benchmarks/engine.py --data train.csv [--text COLUMN] [--label COLUMN]

Every case goes through four loops in turn: the guide's recipe (padded to the maximum, float32); stock with padding to
the longest of the batch, bfloat16 and fused AdamW; the same on batches of similar length (transformers'
``group_by_length``, a sample of an epoch's batches that is even over their lengths); and the second with the engine.
Short texts are those of the given file; long texts are the packaged BBC News articles of 100 to 400 tokens. The first
two steps do not count; with frozen layers the first pass over the batches is told apart from the next, which finds
their states. The result goes to ``results/engine.json``, with the share of the machine's matrix rate, measured between
the steps, that the real tokens account for (6 x tokens x parameters of the layers that are trained).
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from _labelled import Texts, given_texts
from _results import write_result
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, BertConfig
from transformers.trainer_pt_utils import LengthGroupedSampler

from tunesmith.config.schema import DataSettings, ModelSettings
from tunesmith.demo import corpus
from tunesmith.engine import Engine
from tunesmith.models.depth import parameter_order
from tunesmith.models.heads import quiet_library
from tunesmith.models.loading import load_tokenizer
from tunesmith.models.source import find_source

BATCHES = 12
LONG = (100, 400)
"""Tokens of the texts of the long set."""


@dataclass(frozen=True)
class Case:
    """What is trained on what.

    Attributes:
        texts: ``"short"`` or ``"long"``.
        rows: examples a step.
        length: tokens at which texts are cut.
        frozen_layers: from below, embeddings included.
        lora: train adapters of rank 8 only.
        shape: ``"minilm"`` (the packaged weights) or ``"bert-base"`` (random weights).
    """

    texts: str
    rows: int
    length: int = 128
    frozen_layers: int = 0
    lora: bool = False
    shape: str = "minilm"


CASES = (
    Case("short", 8),
    Case("short", 32),
    Case("short", 32, frozen_layers=4),
    Case("short", 32, lora=True),
    Case("long", 8),
    Case("long", 32),
    Case("long", 8, length=256),
    Case("short", 8, shape="bert-base"),
)

Batch = dict[str, torch.Tensor]


def make_model(case: Case, labels: int) -> Any:
    """The model of a case with a new head, its lowest layers and embeddings frozen."""
    torch.manual_seed(0)
    with quiet_library():
        if case.shape == "bert-base":
            model: Any = AutoModelForSequenceClassification.from_config(BertConfig(num_labels=labels)).train()
        else:
            folder = find_source(ModelSettings()).location
            model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=labels).train()
    if case.lora:
        return get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=8, target_modules=["query", "value"]))
    if case.frozen_layers:
        blocks = parameter_order(model)
        frozen = blocks.embeddings.union(*blocks.layers[: case.frozen_layers])
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in frozen)
    return model


def stepper(model: Any, lower_precision: bool, engine: Engine | None) -> Callable[[Batch], None]:
    """A function that takes one optimizer step."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-5, weight_decay=0.01, fused=True)
    if engine is not None:
        engine.follow(optimizer)

    def step(batch: Batch) -> None:
        with torch.autocast(trained[0].device.type, torch.bfloat16, enabled=lower_precision):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def matrix_rate() -> float:
    """Operations a second of a bfloat16 product of the shape of the model's feed-forward layer."""
    left, right = torch.ones(512, 384, dtype=torch.bfloat16), torch.ones(1536, 384, dtype=torch.bfloat16)
    start = time.perf_counter()
    for _ in range(20):
        torch.nn.functional.linear(left, right)
    return 20 * 2 * 512 * 384 * 1536 / (time.perf_counter() - start)


def measure(case: Case, data: Texts) -> dict[str, Any]:
    """Seconds a step of each loop: medians, and means for batches of similar length, whose costs differ."""
    tokenizer = load_tokenizer(find_source(ModelSettings()))
    lengths = [len(ids) for ids in tokenizer(data.texts, truncation=True, max_length=case.length)["input_ids"]]
    order = random_rows(data, case.rows)
    dynamic, fixed, grouped = (
        [encode(tokenizer, data.select(rows), case.length, pad) for rows in chosen]
        for chosen, pad in ((order, True), (order, "max_length"), (_grouped(lengths, case.rows), True))
    )
    models = [make_model(case, len(data.labels)) for _ in range(4)]
    engine = Engine(models[3], token_ids=tokens_of(dynamic), prefix_bytes=2**30)
    loops = {
        "guide": (stepper(models[0], False, None), fixed),
        "stock": (stepper(models[1], True, None), dynamic),
        "grouped": (stepper(models[2], True, None), grouped),
        "engine": (stepper(models[3], True, engine), dynamic),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    rates = []
    for number in range(2 * BATCHES if case.frozen_layers else BATCHES):
        for name, (step, batches) in loops.items():
            start = time.perf_counter()
            step(batches[number % BATCHES])
            seconds[name].append(time.perf_counter() - start)
        rates.append(matrix_rate())
    engine.detach()
    tokens = statistics.mean(int(batch["attention_mask"].sum()) for batch in dynamic)
    layers = parameter_order(models[1]).layers[case.frozen_layers :] if not case.lora else []
    sizes = {name: parameter.numel() for name, parameter in models[1].named_parameters()}
    work = 6 * tokens * sum(sizes[name] for layer in layers for name in layer)
    return asdict(case) | {"real_tokens_a_step": round(tokens, 1)} | _figures(case, seconds, work, rates)


def _figures(case: Case, seconds: dict[str, list[float]], work: float, rates: list[float]) -> dict[str, Any]:
    warm = {name: values[BATCHES if case.frozen_layers else 2 :] for name, values in seconds.items()}
    median = {name: statistics.median(values) for name, values in warm.items()}
    mean = {name: statistics.mean(values) for name, values in warm.items()}
    result = {
        "examples_a_second": {name: round(case.rows / value, 1) for name, value in median.items()},
        "times_faster_than_guide": round(median["guide"] / median["engine"], 2),
        "times_faster_than_stock": round(median["stock"] / median["engine"], 2),
        "times_faster_than_grouped": round(mean["grouped"] / mean["engine"], 2),
        "matrix_rate_gflops": round(statistics.median(rates) / 1e9),
    }
    if work:
        result["share_of_matrix_rate"] = round(work / median["engine"] / statistics.median(rates), 3)
    if case.frozen_layers:
        cold = statistics.median(seconds["engine"][2:BATCHES])
        five = cold + 4 * median["engine"]
        result["five_epochs_times_faster_than_stock"] = round(5 * median["stock"] / five, 2)
        result["five_epochs_times_faster_than_grouped"] = round(5 * mean["grouped"] / five, 2)
    return result


def _grouped(lengths: list[int], rows: int) -> list[np.ndarray]:
    """A sample of an epoch's batches under ``group_by_length``, even over their longest texts, in random order."""
    generator = torch.Generator().manual_seed(0)
    order = np.array(list(LengthGroupedSampler(rows, lengths=lengths, generator=generator)))
    batches = [order[i : i + rows] for i in range(0, len(order) - rows + 1, rows)]
    batches.sort(key=lambda batch: max(lengths[i] for i in batch))
    at = (np.arange(BATCHES) + 0.5) * len(batches) / BATCHES
    chosen = [batches[int(i)] for i in at]
    return [chosen[i] for i in np.random.default_rng(1).permutation(BATCHES)]


def random_rows(data: Texts, rows: int, batches: int = BATCHES) -> np.ndarray:
    """(batches, rows) indices of texts, none twice, the same at every call."""
    return np.random.default_rng(0).permutation(len(data.texts))[: rows * batches].reshape(batches, rows)


def random_batches(data: Texts, rows: int, length: int, batches: int = BATCHES) -> list[Batch]:
    """Batches of `rows` texts, cut at `length` tokens and padded to their longest."""
    tokenizer = load_tokenizer(find_source(ModelSettings()))
    return [encode(tokenizer, data.select(chosen), length, True) for chosen in random_rows(data, rows, batches)]


def tokens_of(batches: list[Batch]) -> np.ndarray:
    """Ids of the tokens in them, each once."""
    return np.unique(np.concatenate([batch["input_ids"].cpu().numpy().reshape(-1) for batch in batches]))


def encode(tokenizer: Any, data: Texts, length: int, padding: bool | str) -> Batch:
    batch = tokenizer(data.texts, padding=padding, truncation=True, max_length=length, return_tensors="pt")
    return {**batch, "labels": torch.tensor(data.targets)}


def long_texts() -> Texts:
    """The packaged articles that have between 100 and 400 tokens."""
    data = Texts.of(corpus(), DataSettings())
    tokenizer = load_tokenizer(find_source(ModelSettings()))
    lengths = np.array([len(ids) for ids in tokenizer(data.texts, verbose=False)["input_ids"]])
    return data.select(np.flatnonzero((lengths >= LONG[0]) & (lengths <= LONG[1])))


def main() -> None:
    """Measure every case on the given data."""
    short = given_texts("engine", __doc__.splitlines()[0])
    if short is None:
        return
    sets = {"short": short, "long": long_texts()}
    cases = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["TUNESMITH_CACHE"] = cache
            cases.append(measure(case, sets[case.texts]))
        sys.stdout.write(json.dumps(cases[-1]) + "\n")
        sys.stdout.flush()
    write_result("engine", {"data": short.name, "cases": cases})


if __name__ == "__main__":
    main()
