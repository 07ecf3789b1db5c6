"""What the checks find, and that they are silent about good data."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from tunesmith.data.checks import CHECKS, Finding, run_checks
from tunesmith.data.layout.answers import ANSWER_LISTS
from tunesmith.data.layout.spans import SPAN_LISTS
from tunesmith.data.records import Label, Records
from tunesmith.data.shapes import SHAPES
from tunesmith.errors import DataError
from tunesmith.tasks.base import LabelSpace
from tunesmith.tasks.classification import Classification, MultiLabel


def make(rows: list[tuple[str, Label | None]], first: int = 1, notes: tuple[str, ...] = ()) -> Records:
    several = any(isinstance(label, tuple) for _, label in rows)
    numbers = range(first, first + len(rows))
    columns = {
        "id": [str(number) for number in numbers],
        "text": [text for text, _ in rows],
        "row": pa.array(numbers, pa.int64()),
        "label": pa.array([label for _, label in rows], pa.list_(pa.string()) if several else pa.string()),
    }
    return Records(pa.table(columns), "a.csv", notes)


def good(count: int, start: int = 0) -> list[tuple[str, Label | None]]:
    return [(f"text {i}", "ab"[i % 2]) for i in range(start, start + count)]


def found(code: str, kind: str = "classification", **splits: list[tuple[str, Label | None]]) -> list[Finding]:
    findings = run_checks({name: make(rows) for name, rows in splits.items()}, SHAPES[kind])
    return [finding for finding in findings if finding.code == code and finding.level != "good"]


def test_good_data() -> None:
    findings = run_checks(
        {"train": make(good(20)), "valid": make(good(6, 20)), "test": make(good(6, 30))}, SHAPES["classification"]
    )
    assert [(finding.level, finding.code) for finding in findings] == [("good", code) for code in CHECKS]


def test_findings_are_plain_values() -> None:
    (finding,) = found("empty_text", train=[*good(5), ("", "a")])
    assert json.loads(json.dumps(finding.to_dict())) == {
        "level": "failure", "code": "empty_text", "message": "1 text empty (16.7%); at most 1% may be",
        "advice": "remove these rows, or check data.text", "split": "train", "rows": [6], "count": 1,
    }  # fmt: skip


@pytest.mark.parametrize(("count", "level"), [(50, "failure"), (500, "warning")])
def test_empty_texts(count: int, level: str) -> None:
    (finding,) = found("empty_text", train=[*good(count), (" \n", "a")])
    assert (finding.level, finding.rows) == (level, (count + 1,))


def test_missing_labels() -> None:
    (finding,) = found("missing_label", train=good(4), test=[("x", None), ("y", "a")])
    assert (finding.level, finding.split, finding.rows) == ("failure", "test", (1,))


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_one_class_only(kind: str) -> None:
    (finding,) = found("single_class", kind, train=[("x", "1"), ("y", "1")])
    assert (finding.level, finding.message) == ("failure", "every row has the label '1'")
    (finding,) = found("single_class", kind, train=[("x", "1"), ("y", "2")], test=[("z", "1"), ("w", "1")])
    assert (finding.level, finding.split) == ("warning", "test")


def test_rare_classes() -> None:
    (finding,) = found("rare_class", train=[*good(6), ("x", "once")])
    assert (finding.rows, finding.level) == ((7,), "warning") and "'once'" in finding.message


def test_duplicates_and_conflicts() -> None:
    rows: list[tuple[str, Label | None]] = [*good(6), ("text 0", "a"), ("text 0", "a"), ("text 1", "a")]
    (finding,) = found("duplicate", train=rows)
    assert (finding.rows, finding.count) == ((7, 8), 2)
    (finding,) = found("conflict", train=rows)
    assert (finding.rows, finding.message) == ((2, 9), "1 text with more than one label")


def test_copies_are_found_apart_from_case_and_spaces_which_is_told() -> None:
    rows: list[tuple[str, Label | None]] = [
        *good(6),
        ("text 0 ", "a"),
        ("TEXT 0", "a"),
        ("text\u00a0 1", "a"),
        ("text 2", "a"),
    ]
    (finding,) = found("duplicate", train=rows)
    assert finding.rows == (7, 8, 10) and finding.message.endswith("(30.0%), 2 of them apart from case and spaces")
    (finding,) = found("conflict", train=rows)
    assert finding.message == "1 text with more than one label, 1 of them apart from case and spaces"
    (finding,) = found("leak", train=good(6), test=[("text 0", "a"), (" Text 1\n", "b"), ("text 9", "a")])
    assert finding.rows == (1, 2) and "also in train, 1 of them apart from case and spaces; scores" in finding.message
    span = {"start": 0, "end": 3, "label": "A"}
    spaced = annotated("ner", [("Ada", [span]), (" Ada", [span | {"start": 1, "end": 4}])])
    assert not [one for one in run_checks({"train": spaced}, SHAPES["ner"]) if one.code == "conflict" and one.count]


def test_order_of_labels_is_no_conflict() -> None:
    rows: list[tuple[str, Label | None]] = [("x", ("a", "b")), ("x", ("b", "a")), ("y", ()), ("z", ("a",))]
    assert not found("conflict", "multilabel", train=rows)
    assert found("duplicate", "multilabel", train=rows)[0].rows == (2,)


def test_leaks() -> None:
    (finding,) = found("leak", train=good(10), valid=good(4, 20), test=good(4, 8))
    assert (finding.split, finding.rows, finding.count) == ("test", (1, 2), 2)
    assert "also in train" in finding.message


def test_pairs_leak_only_whole() -> None:
    def pairs(second: str) -> Records:
        records = make(good(4))
        return Records(records.table.append_column("text_pair", pa.array([second] * 4)), "a.csv")

    codes = {finding.code for finding in run_checks({"train": pairs("x"), "test": pairs("y")}, SHAPES["classification"])
             if finding.level != "good"}  # fmt: skip
    assert "leak" not in codes
    codes = {finding.code for finding in run_checks({"train": pairs("x"), "test": pairs("x")}, SHAPES["classification"])
             if finding.level != "good"}  # fmt: skip
    assert "leak" in codes


def test_unseen_labels() -> None:
    (finding,) = found("unseen_label", train=good(6), test=[*good(2, 6), ("x", "new")])
    assert (finding.split, finding.rows) == ("test", (3,)) and "'new'" in finding.message
    assert not found("unseen_label", "regression", train=[("x", "1"), ("y", "2")], test=[("z", "3"), ("w", "4")])


def test_imbalance() -> None:
    (finding,) = found("imbalance", train=[*((f"a {i}", "many") for i in range(20)), ("x", "few"), ("y", "few")])
    assert finding.level == "note" and "'many' has 20" in finding.message


def test_null_words() -> None:
    (finding,) = found("null_label", train=[*good(4), ("x", "NA"), ("y", "NA"), ("z", "None")])
    assert finding.rows == (5, 6, 7) and "'NA', 'None'" in finding.message


def test_similar_labels() -> None:
    (finding,) = found("similar_labels", train=[("x", "Good"), ("y", "good "), ("w", "good "), ("z", "bad")])
    assert "'Good' 1, 'good␣' 2" in finding.message and "data.strip=true" not in finding.advice
    (finding,) = found("similar_labels", train=[("x", "ship"), ("y", "ship ")], test=[("z", "ship")])
    assert "'ship' 2, 'ship␣' 1" in finding.message and "data.strip=true trims" in finding.advice


def test_an_unknown_label_that_trimming_mends_says_so() -> None:
    space = LabelSpace(("bill", "ship"))
    with pytest.raises(DataError) as caught:
        Classification().targets(make([("x", "ship "), ("y", "Bill"), ("z", "new"), ("w", "ship")]), space)
    trimmed, cased, new = caught.value.problems
    assert "data.strip=true trims it to 'ship'" in trimmed and "correct" not in trimmed
    assert "there is 'bill'" in cased and "there is" not in new
    with pytest.raises(DataError, match="correct the label"):
        MultiLabel().targets(make([("x", ("ship ",))]), space)


def test_reader_notes_are_passed_on() -> None:
    findings = run_checks({"train": make(good(4), notes=("the header was trimmed",))}, SHAPES["classification"])
    assert findings[0] == Finding("note", "reading", "a.csv: the header was trimmed")


def test_rows_are_the_first_twenty() -> None:
    (finding,) = found("duplicate", train=[("x", "a")] * 100)
    assert (finding.rows, finding.count) == (tuple(range(2, 22)), 99)


def test_no_rows() -> None:
    assert [finding.level for finding in run_checks({"train": make([])}, SHAPES["classification"])] == ["failure"]


def annotated(kind: str, rows: list[tuple[str, Any]], pair: list[str] | None = None) -> Records:
    columns: dict[str, Any] = {
        "id": [str(i) for i in range(len(rows))],
        "text": [text for text, _ in rows],
        "label": pa.array([label for _, label in rows], SPAN_LISTS if kind == "ner" else ANSWER_LISTS),
        "row": list(range(1, len(rows) + 1)),
    }
    return Records(pa.table(columns | ({"text_pair": pair} if pair else {})), "made")


def warned(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.code: finding for finding in findings if finding.level != "good"}


def test_checks_of_entities() -> None:
    def ada(kind: str) -> list[dict[str, Any]]:
        return [{"start": 0, "end": 3, "label": kind}]

    # Entities at one place in every text are no sign of a mistake.
    assert not warned(
        run_checks({"train": annotated("ner", [(f"Ada {i}", ada("PER")) for i in range(4)])}, SHAPES["ner"])
    )
    rows = [("Ada a", ada("PER")), ("Ada a", ada("ORG")), *((f"Ada {i}", ada("PER")) for i in range(20)), ("c", [])]
    found = warned(
        run_checks({"train": annotated("ner", rows), "test": annotated("ner", [("Ada a", ada("X"))])}, SHAPES["ner"])
    )
    assert set(found) == {"rare_class", "conflict", "leak", "unseen_label", "imbalance"}
    assert "1 name with different types: 'Ada'" in found["conflict"].message and found["conflict"].count == 22
    twice = [("Ada Ada", [*ada("PER"), {"start": 4, "end": 7, "label": "ORG"}]), ("Bob", ada("PER"))]
    assert warned(run_checks({"train": annotated("ner", twice)}, SHAPES["ner"]))["conflict"].rows == (1,)
    assert "class-weights" not in found["imbalance"].advice
    (nothing,) = run_checks({"train": annotated("ner", [("a", []), ("b", [])])}, SHAPES["ner"])[3:4]
    assert nothing.level == "failure" and nothing.message == "no row has an entity"


def test_checks_of_questions() -> None:
    answer = [{"start": 0, "text": "Ada"}]
    train = annotated("qa", [(f"q{i}", answer if i % 2 else []) for i in range(4)], ["Ada x", "Ada y"] * 2)
    test = annotated("qa", [("q0", []), ("new", answer), ("q9", answer)], ["Ada x", "Ada y", "Ada z"])
    found = run_checks({"train": train, "test": test}, SHAPES["qa"])
    leaks = [finding.message for finding in found if finding.code == "leak"]
    assert ["1 text of test" in leaks[0], "1 question of test (33.3%) on contexts" in leaks[1]] == [True, True]
    missing = warned(
        run_checks({"train": annotated("qa", [("q", None), ("r", answer)], ["Ada", "Ada z"])}, SHAPES["qa"])
    )
    assert missing["missing_label"].advice == "write [] for a question without an answer"
