"""The card of an artefact: what it is, what was measured, and how it is used."""

from __future__ import annotations

from huggingface_hub import EvalResult, ModelCardData

from tunesmith.artefact.folder import Accuracy, Artefact, Both
from tunesmith.evaluation.metrics import Metric
from tunesmith.predictor import Predictor
from tunesmith.report.card import HUB_METRICS
from tunesmith.report.summary import template
from tunesmith.text import counted

TITLES = {
    "float32": "weights and arithmetic in float32",
    "float16": "weights in half precision, arithmetic in float32",
    "int8": "weights and matrix products in int8",
}

OPPOSITES = {"smaller": "larger", "faster": "slower"}


def measured_rows(artefact: Artefact, metric: Metric | None) -> list[tuple[str, str, str, str]]:
    """The table: what, of the artefact, of the model it was made from, and how they differ.

    Args:
        metric: the one of the accuracy, where that was measured.
    """
    found = artefact.measured
    assert found is not None
    rows: list[tuple[str, str, str, str]] = []
    if found.accuracy is not None and metric is not None:
        own = found.accuracy
        rows.append((metric.title, own.artefact.text(metric), own.model.text(metric), own.difference.verdict(metric)))
    if found.agreement is not None:
        rows.append(("Same answer", f"{100 * found.agreement:.2f} %", "", counted(found.texts, "text")))
    rows += [
        ("Size", _megabytes(found.bytes.artefact), _megabytes(found.bytes.model), _times(found.bytes, "smaller")),
        ("One text", _ms(found.latency_1.artefact), _ms(found.latency_1.model), _times(found.latency_1, "faster")),
        ("32 texts", _ms(found.latency_32.artefact), _ms(found.latency_32.model), _times(found.latency_32, "faster")),
        (
            "Texts a second",
            f"{found.throughput.artefact:,.0f}",
            f"{found.throughput.model:,.0f}",
            _times(Both(artefact=found.throughput.model, model=found.throughput.artefact), "faster"),
        ),
    ]
    return rows


def artefact_card(artefact: Artefact, model: Predictor) -> tuple[str, list[tuple[str, str, str, str]]]:
    """The README.md, Markdown with the metadata of the Hub; and the table in it."""
    measured, task = artefact.measured, model.task
    assert measured is not None
    metric = None if measured.accuracy is None else task.metrics[measured.accuracy.metric]
    pairs = model.layout.text_pair is not None
    base = artefact.source.base
    metadata = ModelCardData(
        model_name=artefact.source.name,
        pipeline_tag=task.pipeline_tag,
        library_name="onnx",
        base_model=base if base and "/" in base else None,
        tags=["tunesmith", "onnx"],
        eval_results=_results(measured.accuracy, metric, task.pipeline_tag),
    )
    rows = measured_rows(artefact, metric)
    text = template("artefact.md.j2").render(
        metadata=metadata.to_yaml(line_break="\n"),
        artefact=artefact,
        measured=measured,
        rows=rows,
        precision=TITLES[artefact.precision],
        task=task,
        kinds=task.kinds(model.space),
        example='("a text", "a second text")' if pairs else '"a text"',
    )
    return text, rows


def _results(accuracy: Accuracy | None, metric: Metric | None, tag: str) -> list[EvalResult] | None:
    """What the Hub reads of the score."""
    if accuracy is None or metric is None:
        return None
    kind, value = HUB_METRICS.get(accuracy.metric, accuracy.metric), accuracy.artefact.value
    return [EvalResult(tag, accuracy.of, accuracy.of, kind, value, metric_name=metric.title)]


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:,.1f} ms"


def _times(both: Both, word: str) -> str:
    if both.ratio >= 1:
        return f"{both.ratio:.1f} × {word}"
    return f"{1 / both.ratio:.1f} × {OPPOSITES[word]}"
