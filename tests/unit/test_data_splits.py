"""Splits: a partition, decided by seed and content, with every label in proportion and no unit divided."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.config.schema import DataSettings
from tunesmith.data.records import Label, Records
from tunesmith.data.shapes import SHAPES
from tunesmith.data.splits import fingerprint, split
from tunesmith.errors import DataError

TENTH = DataSettings(valid_fraction=0.1, test_fraction=0.1)
quick = settings(max_examples=100, deadline=None, derandomize=True)


def make(
    texts: list[str], labels: list[Label | None], groups: list[str] | None = None, ids: list[str] | None = None
) -> Records:
    rows = list(range(1, len(texts) + 1))
    several = any(isinstance(label, tuple) for label in labels)
    columns = {
        "id": pa.array(ids or [str(row) for row in rows], pa.large_string()),
        "text": pa.array(texts, pa.large_string()),
        "label": pa.array(labels, pa.large_list(pa.large_string()) if several else pa.large_string()),
        "row": pa.array(rows, pa.int64()),
    }
    if groups:
        columns["group"] = pa.array(groups, pa.large_string())
    return Records(pa.table(columns), "a.csv")


def parts_of_texts(parts: dict[str, Records]) -> dict[str, list[str]]:
    return {name: sorted(records.texts) for name, records in parts.items()}


def test_texts_that_differ_only_in_case_and_spaces_stay_together() -> None:
    plain = [f"text é {number}" for number in range(40)]
    copies = [*(f"{text.upper()}  " for text in plain), *(text.replace("é", "e\u0301") for text in plain)]
    labels: list[Label | None] = ["ab"[number % 2] for number in range(40)] * 3
    parts = split(make(plain + copies, labels), SHAPES["classification"], TENTH, seed=1)
    numbers = [{text.split()[-1] for text in records.texts} for records in parts.values()]
    assert sum(map(len, numbers)) == 40 and all(len(records) % 3 == 0 for records in parts.values())


rows = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from("aaaabbc"), st.integers(0, 9)), min_size=30, max_size=120
).filter(lambda rows: len({row[0] for row in rows}) > 15 and len({row[2] for row in rows}) > 5)


@given(rows=rows, seed=st.integers(0, 5), kind=st.sampled_from(["classification", "multilabel", "regression"]),
       grouped=st.booleans(), named=st.booleans(), shuffle=st.randoms(use_true_random=False))  # fmt: skip
@quick
def test_split_properties(rows, seed, kind, grouped, named, shuffle) -> None:  # type: ignore[no-untyped-def]
    def records(order: list[int]) -> Records:
        chosen = [rows[i] for i in order]
        several = [tuple(sorted({label, "abc"[group % 3]})) for _, label, group in chosen]
        numbers = [str(text / 7) for text, _, _ in chosen]
        labels = {"multilabel": several, "regression": numbers}.get(kind, [label for _, label, _ in chosen])
        texts = [f"text {text}" for text, _, _ in chosen]
        groups = [f"group {group}" for _, _, group in chosen] if grouped else None
        return make(texts, labels, groups, [f"id {i}" for i in order] if named else None)

    straight = records(list(range(len(rows))))
    try:
        parts = split(straight, SHAPES[kind], TENTH, seed)
    except DataError:
        assert grouped  # texts that tie all groups together
        return
    assert list(parts) == ["train", "valid", "test"]
    assert all(len(part) for part in parts.values())
    together = [row for part in parts.values() for row in part.table["row"].to_pylist()]
    assert sorted(together) == list(range(1, len(rows) + 1))
    for column in ["text", "group"] if grouped else ["text"]:
        values = [set(part.table[column].to_pylist()) for part in parts.values()]
        assert sum(map(len, values)) == len(set.union(*values))
    assert parts_of_texts(split(straight, SHAPES[kind], TENTH, seed)) == parts_of_texts(parts)
    order = list(range(len(rows)))
    shuffle.shuffle(order)
    assert parts_of_texts(split(records(order), SHAPES[kind], TENTH, seed)) == parts_of_texts(parts)


def test_exact_proportions() -> None:
    labels = ["a"] * 600 + ["b"] * 300 + ["c"] * 100
    parts = split(make([f"text {i}" for i in range(1000)], labels), SHAPES["classification"], TENTH, 3)
    assert Counter(parts["test"].labels) == Counter(parts["valid"].labels) == {"a": 60, "b": 30, "c": 10}
    assert Counter(parts["train"].labels) == {"a": 480, "b": 240, "c": 80}


def test_sizes_are_exact_where_shares_are_not_whole() -> None:
    labels = [f"class {i % 77}" for i in range(1003)]
    parts = split(make([f"text {i}" for i in range(1003)], labels), SHAPES["classification"], TENTH, 3)
    assert [len(part) for part in parts.values()] == [803, 100, 100]


def test_rare_classes_stay_in_train() -> None:
    labels = ["a"] * 60 + ["once"] + ["twice"] * 2
    for seed in range(20):
        parts = split(make([f"text {i}" for i in range(63)], labels), SHAPES["classification"], TENTH, seed)
        assert {"a", "once", "twice"} == set(parts["train"].labels)


def test_seed_and_which() -> None:
    records = make([f"text {i}" for i in range(100)], list("ab") * 50)
    tests = {fingerprint(split(records, SHAPES["classification"], TENTH, seed)["test"]) for seed in range(5)}
    assert len(tests) == 5
    parts = split(records, SHAPES["classification"], TENTH, 1, which=("valid",))
    assert {name: len(part) for name, part in parts.items()} == {"train": 90, "valid": 10}
    assert split(records, SHAPES["classification"], TENTH, 1, which=())["train"].ids == records.ids


def test_identifiers_hold_rows_in_place() -> None:
    ids = [f"id {i}" for i in range(100)]
    labels: list[Label | None] = list("ab") * 50
    before = split(make([f"text {i}" for i in range(100)], labels, ids=ids), SHAPES["classification"], TENTH, 1)
    after = split(make([f"corrected {i}" for i in range(100)], labels, ids=ids), SHAPES["classification"], TENTH, 1)
    assert before["test"].ids == after["test"].ids


def test_pairs_are_told_apart_by_both_texts() -> None:
    records = make(["same"] * 40, list("ab") * 20)
    table = records.table.append_column("text_pair", pa.array([f"other {i}" for i in range(40)]))
    assert [len(part) for part in split(Records(table, "a.csv"), SHAPES["classification"], TENTH, 1).values()] == [
        32,
        4,
        4,
    ]


def test_regression_by_quantile() -> None:
    records = make([f"text {i}" for i in range(400)], [f"{i / 10:.1f}" for i in range(400)])
    for part in split(records, SHAPES["regression"], TENTH, 1).values():
        values = np.array([float(str(label)) for label in part.labels])
        assert np.histogram(values, bins=10, range=(0, 40))[0].tolist() == [len(part) // 10] * 10


def test_multilabel_proportions() -> None:
    draw = np.random.default_rng(1)
    labels: list[Label | None] = [
        tuple(name for name, share in zip("abcd", (0.5, 0.2, 0.1, 0.02), strict=True) if draw.random() < share)
        for _ in range(1000)
    ]
    parts = split(make([f"text {i}" for i in range(1000)], labels), SHAPES["multilabel"], TENTH, 1)
    wanted = Counter(name for label in labels for name in label or ())
    for part in ("valid", "test"):
        found = Counter(name for label in parts[part].labels for name in label or ())
        assert all(abs(found[name] - wanted[name] / 10) <= 1 for name in "abcd")
        assert abs(len(parts[part]) - 100) <= 2


def test_groups_share_the_labels() -> None:
    labels: list[Label | None] = ["a" if i % 3 else "b" for i in range(900)]
    groups = [f"group {i // 9}" for i in range(900)]
    parts = split(make([f"text {i}" for i in range(900)], labels, groups), SHAPES["classification"], TENTH, 1)
    for part in ("valid", "test"):
        counts = Counter(parts[part].labels)
        assert 80 <= len(parts[part]) <= 100
        assert counts["a"] == 2 * counts["b"]


@pytest.mark.parametrize(
    ("texts", "groups", "said"),
    [
        (["a", "b"], None, "2 different texts cannot be split into train, valid and test"),
        (["a"] * 50, None, "1 different text "),
        (["a", "b", "c", "d"], None, "too few examples of each label to split off"),
        ([f"text {i}" for i in range(50)], ["x", "y"] * 25, "2 groups cannot"),
    ],
)
def test_too_few(texts: list[str], groups: list[str] | None, said: str) -> None:
    with pytest.raises(DataError, match=said):
        split(make(texts, [f"label {text}" for text in texts], groups), SHAPES["classification"], TENTH, 1)


def test_fingerprint() -> None:
    one, two = make(["a", "b"], ["x", "y"]), make(["c", "d"], ["x", "y"])
    assert fingerprint(one) == fingerprint(two) and len(fingerprint(one)) == 64
    assert fingerprint(make(["a", "b"], ["x", "y"], ids=["1", "23"])) != fingerprint(
        make(["a", "b"], ["x", "y"], ids=["12", "3"])
    )


def test_the_split_of_these_rows_is_fixed() -> None:
    """A split is part of a published result: the same rows and seed give it again with any version of the libraries."""
    parts = split(make([f"text {i}" for i in range(30)], list("abc") * 10), SHAPES["classification"], TENTH, 7)
    assert (parts["valid"].ids, parts["test"].ids) == (["10", "12", "26"], ["5", "9", "25"])


def test_questions_on_one_context_stay_together_across_groups() -> None:
    rows = range(1, 81)
    contexts = [f"context {row // 2}" for row in rows]
    columns = {"text": [f"question {row}" for row in rows], "text_pair": contexts, "group": [f"g{row}" for row in rows]}
    answers = pa.array([[]] * 80, pa.large_list(pa.struct([("start", pa.int64()), ("text", pa.large_string())])))
    table = pa.table({"id": list(map(str, rows)), **columns, "label": answers, "row": pa.array(rows, pa.int64())})
    parts = split(Records(table, "made"), SHAPES["qa"], DataSettings(), 1)
    found = [set(part.table["text_pair"].to_pylist()) for part in parts.values()]
    assert sum(map(len, found)) == len(set(contexts))


def test_parts_far_from_their_shares_are_told() -> None:
    texts, labels = [f"text {i}" for i in range(90)], ["ab"[i % 2] for i in range(90)]
    coarse = make(texts, labels, [f"title {i % 3}" for i in range(90)])
    told = split(coarse, SHAPES["classification"], TENTH, 1)["train"].notes
    assert len(told) == 1 and told[0].startswith(
        "train has 33% of the rows, not 80%, as no group is divided (3 in all)"
    )
    assert split(make(texts, labels), SHAPES["classification"], TENTH, 1)["train"].notes == ()
