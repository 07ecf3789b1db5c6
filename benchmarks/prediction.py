"""Prediction of 10,000 short texts: `Predictor.predict` against `transformers.pipeline`, in turns, chunk by chunk.

    python benchmarks/prediction.py --data train.csv [--text COLUMN] [--label COLUMN]

All have the packaged MiniLM with the same new head, and the texts in the same order, in chunks of 2,000. The pipeline
takes batches of 32, in float32 and under bfloat16 autocast; the predictor has the precisions ``float32`` and ``auto``.
How far its answers are from the pipeline's in float32 is reported. The result goes to ``results/prediction.json``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from _labelled import given_texts
from _results import write_result
from transformers import AutoModelForSequenceClassification, pipeline

from tunesmith.config.schema import ModelSettings
from tunesmith.data.layout import Layout
from tunesmith.data.shapes import ONE_LABEL
from tunesmith.engine import Engine
from tunesmith.models.heads import quiet_library
from tunesmith.models.loading import load_tokenizer
from tunesmith.models.source import find_source
from tunesmith.predictor import Predictor
from tunesmith.tasks.base import LabelSpace
from tunesmith.tasks.classification import Classification
from tunesmith.tasks.encoding import Truncation
from tunesmith.training.backend import TorchModel
from tunesmith.training.precision import choose_precision

TEXTS, CHUNK, LENGTH = 10_000, 2_000, 128
Answers = list[tuple[str, float]]


def measure(texts: list[str], labels: list[str]) -> dict[str, Any]:
    """Texts a second (median of the chunks) of every side, and how its answers differ."""
    source = find_source(ModelSettings())
    models: list[Any] = []
    with quiet_library():
        for _ in range(2):
            torch.manual_seed(0)
            names = dict(enumerate(labels))
            models.append(AutoModelForSequenceClassification.from_pretrained(source.location, id2label=names).eval())
    tokenizer = load_tokenizer(source)
    stock = pipeline("text-classification", model=models[0], tokenizer=tokenizer, batch_size=32, device="cpu")
    Engine(models[1])
    space, layout = LabelSpace(tuple(labels)), Layout(ONE_LABEL, "text")
    exact = Predictor(TorchModel(models[1], tokenizer), Classification(), space, Truncation(LENGTH), layout)
    fastest = replace(exact, precision=choose_precision("auto").state)

    def stock_in(dtype: torch.dtype, chunk: list[str]) -> Answers:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
            found: Any = stock(chunk, truncation=True, max_length=LENGTH)
        return [(answer["label"], answer["score"]) for answer in found]

    def ours(predictor: Predictor, chunk: list[str]) -> Answers:
        return [(str(answer.label), answer.score) for answer in predictor.predict(chunk)]

    sides: dict[str, Callable[[list[str]], Answers]] = {
        "pipeline float32": partial(stock_in, torch.float32),
        "pipeline bfloat16": partial(stock_in, torch.bfloat16),
        "predictor float32": partial(ours, exact),
        f"predictor auto ({fastest.precision})": partial(ours, fastest),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    answers: dict[str, Answers] = {name: [] for name in sides}
    for start in range(0, len(texts), CHUNK):
        for name, side in sides.items():
            began = time.perf_counter()
            answers[name] += side(texts[start : start + CHUNK])
            seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "texts": len(texts),
        "sides": {
            name: {
                "texts_a_second": round(CHUNK / value),
                "times_faster_than_pipeline_float32": round(medians["pipeline float32"] / value, 2),
                **_against(answers[name], answers["pipeline float32"]),
            }
            for name, value in medians.items()
        },
    }


def _against(found: Answers, wanted: Answers) -> dict[str, Any]:
    pairs = list(zip(found, wanted, strict=True))
    return {
        "same_label": sum(one[0] == other[0] for one, other in pairs),
        "largest_difference_of_probability": float(f"{max(abs(one[1] - other[1]) for one, other in pairs):.2g}"),
    }


def main() -> None:
    """Measure on the given data."""
    data = given_texts("prediction", __doc__.splitlines()[0])
    if data is None:
        return
    texts = (data.texts * (TEXTS // len(data.texts) + 1))[:TEXTS]
    result = measure(texts, data.labels)
    write_result("prediction", result | {"data": data.name})


if __name__ == "__main__":
    main()
