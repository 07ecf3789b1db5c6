"""Every example of docs/annotations.md is read as the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tunesmith.config.schema import DataSettings
from tunesmith.data.reading import load_records

PAGE = (Path(__file__).parents[2] / "docs" / "annotations.md").read_text(encoding="utf-8")
ENTITIES, QUESTIONS, LABELS = (
    re.findall(r"^```(\w+)\n(.*?)^```", PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0], re.M | re.S)
    for title in ("Entities", "Questions", "Labels")
)


@pytest.mark.parametrize(("ending", "content"), ENTITIES)
def test_entities(ending: str, content: str, tmp_path: Path) -> None:
    (tmp_path / f"a.{ending}").write_text(content, encoding="utf-8")
    records, layout = load_records(str(tmp_path / f"a.{ending}"), DataSettings())
    (record,) = records
    assert layout.shape.task == "ner"
    assert [(record.text[span.start : span.end], span.label) for span in record.label] == [
        ("Ada", "PER"), ("Alan Turing", "PER"), ("Paris", "LOC"),
    ]  # fmt: skip


@pytest.mark.parametrize(("ending", "content"), QUESTIONS)
def test_questions(ending: str, content: str, tmp_path: Path) -> None:
    (tmp_path / f"a.{ending}").write_text(content, encoding="utf-8")
    records, layout = load_records(str(tmp_path / f"a.{ending}"), DataSettings())
    (record,) = records
    assert layout.shape.task == "qa" and record.text == "Who met Ada?"
    assert [(answer.start, answer.text) for answer in record.label] == [(8, "Alan Turing")]


@pytest.mark.parametrize(("ending", "content"), LABELS)
def test_labels(ending: str, content: str, tmp_path: Path) -> None:
    (tmp_path / f"a.{ending}").write_text(content, encoding="utf-8")
    records, layout = load_records(str(tmp_path / f"a.{ending}"), DataSettings())
    assert layout.shape.task == "classification"
    assert [(record.text, record.label) for record in records] == [
        ("I would buy it again.", "good"), ("It broke.", "bad"),
    ]  # fmt: skip


def test_the_page_has_every_layout() -> None:
    assert len(ENTITIES) == 9 and len(QUESTIONS) == 5 and len(LABELS) == 4
