"""What the commands show to a person."""

from __future__ import annotations

from dataclasses import replace

from tunesmith import console
from tunesmith.config.schema import Config
from tunesmith.data.checks import Finding
from tunesmith.data.layout import Layout
from tunesmith.data.shapes import ONE_LABEL
from tunesmith.evaluating import Evaluation
from tunesmith.evaluation.entity_scores import SPAN_METRICS
from tunesmith.evaluation.intervals import AGAINST_WORSE, Difference, Score
from tunesmith.evaluation.labels import LABEL_METRICS, LabelScores
from tunesmith.evaluation.metrics import CLASSIFICATION_METRICS
from tunesmith.run.record import Baseline, Best, DataPart, FilePart, Machine, ModelPart, RunRecord, Timing, Titles

SCORE = Score(0.5, 0.25, 0.75, 8)
WORSE = Difference(-0.2, -0.3, -0.1, 8, 0.001)


def test_a_finished_run_is_a_line_beside_its_baselines() -> None:
    record = RunRecord(
        task="classification",
        method="full",
        titles=Titles(task="text classification", method="full fine-tuning"),
        model=ModelPart(name="m", revision=None),
        data=DataPart(
            files=[FilePart(path="a.csv", sha256=None, rows=8)], splits=[], labels=[], layout=Layout(ONE_LABEL, "text")
        ),
        config=Config(),
        requested=Config(),
        seed=1,
        machine=Machine.here(1),
        engine={},
        timing=Timing(seconds=252.4, stages={}, tokens_per_second=1.0),
        metrics={"test": {"accuracy": SCORE}},
        described=dict(CLASSIFICATION_METRICS),
        baselines=[
            Baseline(name=name, title=name, metrics={"accuracy": SCORE}, difference=difference, seconds=0.002)
            for name, difference in (("majority", Difference(0.2, 0.1, 0.3, 8, 0.001)), ("words", WORSE))
        ],
        best=Best(step=1, metric="roc_auc", value=0.9),  # the test rows lack a class
        warnings=[],
        identity={},
    )
    assert console.summary(record).splitlines() == [
        "test accuracy 50.0 % (25.0 – 75.0)  n=8  full, 4 min 12 s",
        f"  worse than words by 20.0 points (10.0 – 30.0, p = 0.001); {AGAINST_WORSE}",
        "  beside it: majority 50.0 % (25.0 – 75.0), 2 ms; the model is 20.0 points better (10.0 – 30.0, p = 0.001)",
        "  beside it: words 50.0 % (25.0 – 75.0), 2 ms; the model is 20.0 points worse (10.0 – 30.0, p = 0.001)",
    ]


def test_an_evaluation_says_of_what_it_is_and_beside_what() -> None:
    difference = Difference(0.1, 0.02, 0.18, 8, 0.03)
    beside = {"metrics": {"span_f1": vars(SCORE)}, "difference": {"span_f1": vars(difference)}}
    result = Evaluation({"span_precision": SCORE, "span_f1": SCORE}, 8, {}, SPAN_METRICS, "span_f1", {}, beside)
    assert console.evaluation_text(result, "runs/a", "new.csv", "runs/b").splitlines() == [
        "runs/a on new.csv, 8 rows",
        "span_precision  50.0 % (25.0 – 75.0)  n=8",
        "       span_f1  50.0 % (25.0 – 75.0)  n=8",
        "",
        "beside it runs/b, on the same 8 rows",
        "span_f1  50.0 % (25.0 – 75.0)  n=8  runs/a is 10.0 points better (2.0 – 18.0, p = 0.03)",
    ]


def test_the_weakest_labels_are_shown_and_hide_nothing() -> None:
    names = ["[red]a\x1b[31mb" + "c" * 200, *(f"label {i:02}" for i in range(30)), "none"]
    scores = {
        name: LabelScores(5, 4, dict.fromkeys(LABEL_METRICS, replace(SCORE, value=i / 99)))
        for i, name in enumerate(names)
    }
    scores["none"] = LabelScores(0, 0, dict.fromkeys(LABEL_METRICS))
    result = Evaluation({"accuracy": SCORE}, 8, scores, CLASSIFICATION_METRICS, "accuracy", {})
    lines = console.evaluation_text(result, "runs/a", "new.csv", None).splitlines()
    assert lines[3].split() == ["label", "precision", "recall", "f1", "support", "predicted"]
    assert lines[4].startswith("[red]a␛[31mb" + "c" * 200 + "  0.0 % (25.0 – 75.0)")
    assert len(lines) == 25 and lines[-1] == "and 12 labels more with --json"
    few = replace(result, by_label={name: scores[name] for name in (names[1], "none")})
    last = console.evaluation_text(few, "runs/a", "new.csv", None).splitlines()[-1]
    assert last.split() == ["none", "–", "–", "–", "0", "0"]


def test_a_finding_hides_nothing() -> None:
    finding = Finding("warning", "x", "label 'a\x1b[2J' is rare", "collect more", "train", (1, 2, 3, 4, 5, 6), 6)
    assert (
        console.finding_text(finding) == " warning [train] label 'a␛[2J' is rare (rows 1, 2, 3, 4, 5, …); collect more"
    )
