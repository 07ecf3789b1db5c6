"""What each task says of its own answers: confusion, scores by label, mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.records import Records
from tunesmith.evaluation.evidence import MISSED, SHOWN_CHARACTERS, WRONG, Evidence
from tunesmith.tasks.base import LabelSpace, Task
from tunesmith.tasks.classification import Classification, MultiLabel, Regression
from tunesmith.tasks.entities import NamedEntities
from tunesmith.tasks.predictions import FoundSpan
from tunesmith.tasks.questions import Candidates, QuestionAnswering


def make_records(texts: list[str], labels: list[Any], pairs: list[str] | None = None) -> Records:
    rows = range(1, len(texts) + 1)
    columns = {"id": [f"r{row}" for row in rows], "text": texts, "label": labels, "row": list(rows)}
    return Records(pa.table(columns | ({"text_pair": pairs} if pairs else {})), "data.jsonl")


def evidence_of(task: Task, records: Records, outputs: Any, space: LabelSpace) -> Evidence:
    return task.evidence(records, outputs, task.targets(records, space), space)


def test_labels_are_confused_and_confident_mistakes_come_first() -> None:
    records = make_records(list("abcd"), ["x", "y", "y", "x"])
    outputs = np.log(np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.7, 0.3]], dtype=np.float32))
    found = evidence_of(Classification(), records, outputs, LabelSpace(("x", "y")))
    assert found.confusion is not None
    assert found.confusion.tolist() == [[2, 0], [2, 0]]
    assert [(one.gold, one.prediction, one.count, one.share) for one in found.most_confused()] == [("y", "x", 2, 1.0)]
    assert [(one.id, one.excerpt.text, one.gold, one.prediction) for one in found.mistakes] == [
        ("r3", "c", "y", "x"),
        ("r2", "b", "y", "x"),
    ]
    assert np.allclose([one.score for one in found.mistakes], [0.8, 0.6])
    assert (found.rows, found.mistake_count, found.labels) == (4, 2, ["x", "y"])
    assert sum(one.count for one in found.bins) == 4


def test_sets_of_labels_have_no_matrix() -> None:
    records = make_records(["a", "b"], [["x", "y"], []])
    found = evidence_of(MultiLabel(), records, np.array([[3.0, -3.0], [-3.0, -3.0]]), LabelSpace(("x", "y")))
    assert found.confusion is None
    assert found.bins == []
    assert [(one.gold, one.prediction) for one in found.mistakes] == [("x, y", "x")]


def test_numbers_are_kept_in_pairs_and_the_farthest_come_first() -> None:
    records = make_records(list("abc"), ["1.0", "2.0", "3.5"])
    found = evidence_of(Regression(), records, np.array([[1.0], [4.0], [3.0]]), LabelSpace(("value",)))
    assert found.values is not None
    assert [side.tolist() for side in found.values] == [[1.0, 2.0, 3.5], [1.0, 4.0, 3.0]]
    assert [(one.id, one.gold, one.prediction, one.score) for one in found.mistakes] == [
        ("r2", "2.0", "4", 2.0),
        ("r3", "3.5", "3", 0.5),
    ]


def test_an_entity_that_is_missed_is_shown_wherever_it_stands() -> None:
    text = "word " * 500 + "in Berlin, with Ada" + " word" * 500
    start = text.index("Berlin")
    person = {"start": text.index("Ada"), "end": text.index("Ada") + 3, "label": "PER"}
    records = make_records([text], [[{"start": start, "end": start + 6, "label": "LOC"}, person]])
    space = LabelSpace(("O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER"))
    found_spans = [(FoundSpan(0, 4, "ORG", "word", 0.9), FoundSpan(**person, text="Ada", score=0.8))]
    found = evidence_of(NamedEntities(), records, found_spans, space)
    (mistake,) = found.mistakes
    assert (mistake.gold, mistake.prediction) == ("Berlin (LOC)", "word (ORG)") and "Berlin" in mistake.excerpt.text
    missed = evidence_of(NamedEntities(), records, [found_spans[0][1:]], space).mistakes[0]
    assert (missed.gold, missed.prediction) == ("Berlin (LOC)", "–")
    assert missed.excerpt.pieces[1] == ("Berlin", MISSED)
    assert len(missed.excerpt.text) <= SHOWN_CHARACTERS + 2


def test_a_wrong_answer_is_shown_with_its_question_and_the_place_of_the_true_one() -> None:
    context = "word " * 500 + "It is 42." + " word" * 500
    answer = {"start": context.index("42"), "text": "42"}
    records = make_records(["What is it?", "Who?"], [[answer], []], [context, "Nobody is here."])
    outputs = [Candidates(((0, "word", 1.0),), 0.0), Candidates(((0, "Nobody", 1.0),), 0.0)]
    found = evidence_of(QuestionAnswering(), records, outputs, LabelSpace(("start", "end")))
    first, second = sorted(found.mistakes, key=lambda one: one.id)
    assert (first.gold, first.prediction, second.gold, second.prediction) == ("42", "word", "–", "Nobody")
    assert first.excerpt.text.startswith("What is it? ‖ …")
    assert "It is 42." in first.excerpt.text and ("42", MISSED) in first.excerpt.pieces
    assert second.excerpt.pieces == [("Who? ‖ ", ""), ("Nobody", WRONG), (" is here.", "")]
