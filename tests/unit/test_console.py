"""What the commands show to a person."""

from __future__ import annotations

from tunesmith import console
from tunesmith.api import Evaluation
from tunesmith.config.schema import Config
from tunesmith.data.checks import Finding
from tunesmith.data.layout import Layout
from tunesmith.data.shapes import ONE_LABEL
from tunesmith.evaluation.entity_scores import SPAN_METRICS
from tunesmith.evaluation.intervals import Score
from tunesmith.evaluation.metrics import CLASSIFICATION_METRICS
from tunesmith.run.record import Baseline, Best, DataPart, Machine, ModelPart, RunRecord, Timing, Titles

SCORE = Score(0.5, 0.25, 0.75, 8)


def test_a_finished_run_is_a_line_beside_its_baselines() -> None:
    record = RunRecord(
        task="classification",
        method="full",
        titles=Titles(task="text classification", method="full fine-tuning"),
        model=ModelPart(name="m", revision=None),
        data=DataPart(files=[], splits=[], labels=[], layout=Layout(ONE_LABEL, "text")),
        config=Config(),
        requested=Config(),
        seed=1,
        machine=Machine.here(1),
        engine={},
        timing=Timing(seconds=252.4, stages={}, tokens_per_second=1.0),
        metrics={"test": {"accuracy": SCORE}},
        described=dict(CLASSIFICATION_METRICS),
        baselines=[Baseline(name="majority", title="majority", metrics={"accuracy": SCORE}, seconds=0.002)],
        best=Best(step=1, metric="roc_auc", value=0.9),  # the test rows lack a class
        warnings=[],
        identity={},
    )
    assert console.summary(record).splitlines() == [
        "test accuracy 50.0 % (25.0 – 75.0)  n=8  full, 4 min 12 s",
        "  beside it: majority 50.0 % (25.0 – 75.0), 2 ms",
    ]


def test_scores_stand_below_each_other_and_labels_hide_nothing() -> None:
    label = "[red]a\x1b[31mb" + "c" * 200
    result = Evaluation({"span_precision": SCORE, "span_f1": SCORE}, 8, {label: {"span_f1": SCORE}}, SPAN_METRICS)
    first, second, third = console.evaluation_text(result, None).splitlines()
    width = len("[red]a␛[31mb" + "c" * 200)
    assert first == "span_precision".rjust(width) + "  50.0 % (25.0 – 75.0)  n=8"
    assert second == "span_f1".rjust(width) + "  50.0 % (25.0 – 75.0)  n=8"
    assert third == "[red]a␛[31mb" + "c" * 200 + "  span_f1 50.0 % (25.0 – 75.0)"


def test_a_finding_hides_nothing() -> None:
    finding = Finding("warning", "x", "label 'a\x1b[2J' is rare", "collect more", "train", (1, 2, 3, 4, 5, 6), 6)
    assert (
        console.finding_text(finding) == " warning [train] label 'a␛[2J' is rare (rows 1, 2, 3, 4, 5, …); collect more"
    )
