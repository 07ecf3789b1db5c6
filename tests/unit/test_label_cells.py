"""What stands in the cells of a label column: several labels in any spelling, yes and no, numbers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from tunesmith.config.schema import DataSettings
from tunesmith.data.checks import run_checks
from tunesmith.data.layout import Layout, find_layout, layout_of_other
from tunesmith.data.layout.listed import list_items
from tunesmith.data.reading import load_records, load_splits, read_new
from tunesmith.data.records import Records
from tunesmith.data.shapes import SHAPES
from tunesmith.errors import DataError, UsageError


def table(cells: list[Any], **more: list[str]) -> dict[str, list[Any]]:
    return {"text": [f"text {i}" for i in range(len(cells))], "label": cells, **more}


def read(cells: list[Any], task: str | None = None, **settings: Any) -> tuple[Records, Layout]:
    return load_records(table(cells), DataSettings(**settings), SHAPES[task] if task else None)


SETS = [("delivery", "support"), ("price",), ("support",), ("delivery",), ("support", "price", "delivery")]
WRITTEN = {
    "json": lambda names: '["' + '", "'.join(names) + '"]',
    "python list": lambda names: str(list(names)),
    "python tuple": str,
    "python set": lambda names: "{" + ", ".join(map(repr, names)) + "}",
    "frozenset": lambda names: "frozenset({" + ", ".join(map(repr, names)) + "})",
    "numpy strings": lambda names: "[" + "\n ".join(map(repr, names)) + "]",
    "numpy array": lambda names: f"array({list(names)!r}, dtype='<U8')",
    "numpy 2 scalars": lambda names: "[" + ", ".join(f"np.str_({name!r})" for name in names) + "]",
    "brackets": lambda names: f"[{', '.join(names)}]",
    "postgresql": lambda names: f"{{{','.join(names)}}}",
    **{sign: sign.join for sign in ("|", ";", "; ", "#", "\n", "\r\n")},
}


@pytest.mark.parametrize("task", [None, "multilabel"])
@pytest.mark.parametrize("written", WRITTEN)
def test_several_labels_in_a_cell_however_they_are_written(tmp_path: Path, written: str, task: str | None) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        rows = [(f"text {i}", WRITTEN[written](names)) for i, names in enumerate(SETS)]
        csv.writer(file).writerows([("text", "label"), *rows])
    records, layout = load_records(str(path), DataSettings(), SHAPES[task] if task else None)
    assert layout.shape.task == "multilabel" and records.labels == SETS
    assert layout.contradictions() == {}


@pytest.mark.parametrize(
    "cells",
    [
        ["C#", "F#", "C", "Java"],
        ["R&D, marketing", "sales", "support"],
        ["black/white", "black", "white"],
        ["issue #1", "issue #2", "issue #3"],
        ["[Misc]", "[Sales]", "Misc"],
        ["(other)", "(mine)", "other"],
        ["(1)", "(2)", "[2023]"],
        ["two\nlines", "one"],
        ["{a: 1}", "it's", "'quoted'"],
        ["1.0.1", "10.2.3"],
    ],
)
def test_one_label_that_looks_like_several(cells: list[str]) -> None:
    records, layout = read(cells)
    assert layout.shape.task == "classification" and records.labels == cells


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["R&D, marketing", "sales", "marketing"], r"'R&D, marketing' may be one label, or several separated by ','"),
        (["level #1", "level #2", "room #1", "room #2"], "'level #1' may be one label, or several separated by '#'"),
        (["['a']", "b", "c"], """"\\['a'\\]" is a list of labels and 'b' is none; write all cells the same way"""),
        (["[a, b]", "a", "b"], r"'\[a, b\]' is a list of labels and 'a' is none"),
        (["[0 0 ... 0 1]", "[0 1 ... 1 1]"], r"cut by NumPy where \.\.\. stands; save whole lists"),
        (["[1 0 0]", "[0 1]"], "lists of zeros and ones have lengths of 2 and 3"),
        (["['a', None]", "['b']"], r"row 1: column 'label' is not a list of labels; .*, or \[\] for none"),
        (['["\\ud800"]', '["a"]'], "row 1: column 'label' is not a list of labels"),
        (["['a']", "", "['b']"], r"row 2: .* is empty; write \[\] for no label, or give data\.unlabelled=skip"),
        (["a", "", "b"], r"row 2: .* is empty; write a label, or give data\.unlabelled=skip"),
    ],
)
def test_what_is_ambiguous_is_refused(cells: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(cells)


@pytest.mark.parametrize(
    "cells", [["[1 0 0]", "[0 1 1]"], ["[1. 0. 0.]", "[0. 1. 1.]"], ["[ True False False]", "[False  True True]"]]
)
def test_zeros_and_ones_of_numpy_are_numbered_and_it_is_said(cells: list[str]) -> None:
    records, layout = read(cells)
    assert records.labels == [("0",), ("1", "2")]
    assert "called by their place, 0 to 2" in layout.notes[-1]


def test_labels_of_many_parts_are_noted() -> None:
    cells = ["scab", "rust", "complex", "scab rust", "scab complex", "rust complex"]
    _, layout = read(cells)
    assert layout.shape.task == "classification" and "give data.label_separator=space" in layout.notes[-1]
    assert read(cells, label_separator="space")[0].labels[3] == ("scab", "rust")
    assert read(["new user", "old user", "new admin", "old admin"])[1].notes == ()


@pytest.mark.parametrize(
    "cell", ["[" * 100_000, "['" + "a\\" * 500_000, "[" + " ]" * 500_000 + "x", "[1" + " " * 10**6 + "x"]
)
def test_no_cell_takes_long_or_deep_reading(cell: str) -> None:
    assert list_items(cell) is None
    assert len(list_items("[" + ", ".join(["'abc'"] * 200_000) + "]") or ()) == 200_000


def test_escapes_of_python() -> None:
    assert list_items(r"""['it\'s', "caf\xe9", 'a\nb\\', '\u20ac']""") == ["it's", "café", "a\nb\\", "€"]
    assert list_items("__import__('os')") is list_items("[__import__('os').system('x')]]") is None


def test_the_separator_that_is_named_counts_also_for_new_data() -> None:
    settings = DataSettings(label_separator="/")
    records, layout = load_records(table(["a/b", "b", "a"]), settings)
    assert records.labels == [("a", "b"), ("b",), ("a",)]
    assert read_new(table(["b/a"]), layout, settings, DataSettings()).records.labels == [("b", "a")]
    assert read_new(table(["b;a"]), layout, settings, DataSettings(label_separator=";")).records.labels == [("b", "a")]
    moved = {"text": ["x"], "category": ["b/a"]}
    assert read_new(moved, layout, settings, DataSettings(label="category")).records.labels == [("b", "a")]
    assert "no cell has data.label_separator='/'" in load_records(table(["a", "b"]), settings)[1].notes[-1]
    for task in ("classification", "regression"):
        with pytest.raises(UsageError, match=r"data\.label_separator needs several labels in a cell"):
            find_layout(raw_of(["1", "2"]), settings, SHAPES[task])


def raw_of(cells: list[str]) -> Any:
    from tunesmith.data import read as read_source

    return read_source(table(cells), DataSettings())


@pytest.mark.parametrize("empty", ["", "[]", None])
def test_an_empty_cell_between_separated_labels_is_no_label(empty: str | None) -> None:
    records, _ = read(["a|b", empty, "b", "a"])
    assert records.labels == [("a", "b"), (), ("b",), ("a",)]
    told = "row 2: column 'label': an empty cell is read as no label (data.unlabelled=skip leaves these rows out)"
    assert (told in records.notes) == (empty != "[]")
    assert read(["a", empty, "b"], "multilabel")[0].labels == [("a",), (), ("b",)]


@pytest.mark.parametrize("task", [None, "multilabel", "regression"])
def test_rows_without_label_are_left_out_of_every_split_and_counted(task: str | None) -> None:
    cells = ["1", " ", "2", None] if task != "multilabel" else ["a|b", "", "a", None]
    splits, _ = load_splits(
        {name: table(cells) for name in ("train", "valid", "test")}, DataSettings(unlabelled="skip"),
        SHAPES[task] if task else None,
    )  # fmt: skip
    for records in splits.values():
        assert records.table["row"].to_pylist() == [1, 3]
        assert records.notes[-1] == "2 rows without a label left out (rows 2, 4)"
    with pytest.raises(DataError, match="no rows: 2 rows without a label left out"):
        read([None, ""], "classification", unlabelled="skip")


def test_labels_are_trimmed_when_asked_and_then_also_in_new_data() -> None:
    settings = DataSettings(strip=True)
    records, layout = load_records(table(["a ", "\ta", "b\u200b", "\ufeffb"]), settings)
    assert records.labels == ["a", "a", "b", "b"]
    assert read_new(table([" a"]), layout, settings, DataSettings()).records.labels == ["a"]


@pytest.mark.parametrize("pair", [("a", "a "), ("a", "a\u200b"), ("café", "cafe\u0301"), ("a", "A")])
def test_labels_that_look_the_same_are_found(pair: tuple[str, str]) -> None:
    records, layout = read([*pair * 3])
    (finding,) = [one for one in run_checks({"train": records}, layout.shape) if one.code == "similar_labels"]
    assert finding.level == "warning" and ("data.strip=true" in finding.advice) == (pair[0] == pair[1].strip(" \u200b"))


def bits(*columns: list[str]) -> dict[str, list[str]]:
    return {"text": [f"text {i}" for i in range(len(columns[0]))], **dict(zip("ab", columns, strict=True))}


@pytest.mark.parametrize(
    ("yes", "no"),
    [("1", "0"), ("1.0", "0.0"), ("Yes", "no"), ("TRUE", "FALSE"), ("y", "n"), ("ja", "nein"), ("x", ""), ("X", "")],
)
def test_a_column_for_each_label(yes: str, no: str) -> None:
    source = bits([yes, no, no], [yes, yes, no])
    records, _ = load_records(source, DataSettings(label="a,b"))
    assert records.labels == [("a", "b"), ("b",), ()]
    with pytest.raises(DataError, match=r"data\.label=a,b"):
        load_records(source, DataSettings())


def test_empty_cells_of_a_column_for_each_label() -> None:
    records, _ = load_records(bits(["1", "", "0"], ["0", "1", "0"]), DataSettings(label="a,b"))
    assert records.labels == [("a",), ("b",), ()]
    assert "row 2: an empty cell of 'a', 'b' is read as 0" in records.notes
    gaps = bits(["1", "", "0"], ["0", "", "1"])
    with pytest.raises(DataError, match=r"row 2: column 'a,b' is empty; write 0 or 1, or give data\.unlabelled=skip"):
        load_records(gaps, DataSettings(label="a,b"))
    assert load_records(gaps, DataSettings(label="a,b", unlabelled="skip"))[0].labels == [("a",), ("b",)]
    with pytest.raises(DataError, match=r"row 2: column 'b' is neither 0 nor 1 \(nor false, .*yes.* or empty\)"):
        load_records(bits(["1", "0"], ["0", "maybe"]), DataSettings(label="a,b"))


@pytest.mark.parametrize(
    ("cells", "numerals"),
    [
        (["3,5", "4,25", "-2"], ["3.5", "4.25", "-2"]),
        (["85 %", "70%", "12.5 %"], ["85", "70", "12.5"]),
        (["85,5%", "70,25 %"], ["85.5", "70.25"]),
        (["1,234,567", "12,500"], ["1234567", "12500"]),
        (["1,234.5", "12.25"], ["1234.5", "12.25"]),
        (["1.234,5", "3,25"], ["1234.5", "3.25"]),
        (["1\u202f234,5", "3,25"], ["1234.5", "3.25"]),
        (["1 234", "12 500"], ["1234", "12500"]),
        (["1'234.5", "2'000"], ["1234.5", "2000"]),
        (["0,500", "0,250"], ["0.500", "0.250"]),
        (["1.234", " 2e-3"], ["1.234", " 2e-3"]),
    ],
)
def test_numbers_as_people_write_them(cells: list[str], numerals: list[str]) -> None:
    records, layout = read(cells, "regression")
    assert records.labels == numerals and layout.contradictions() == {}
    table_of_new = table([cells[0]])
    assert (
        load_splits({"train": table(cells), "test": table_of_new}, DataSettings(), SHAPES["regression"])[0][
            "test"
        ].labels
        == numerals[:1]
    )


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1,234", "12,500", "950"], r"'1,234' may be 1234 or 1\.234; give data\.decimal='\.' or data\.decimal=','"),
        (["3,5", "1.5"], "'3,5' and '1.5' are not written the same way; write all as 1234.5"),
        (["85%", "70"], "'85%' is a per cent and '70' is none; write all the same way"),
        (["3,5", "abc", "1,25"], "row 2: column 'label' is not a finite number; write it as 1,5"),
    ],
)
def test_numbers_in_two_readings(cells: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(cells, "regression")


def test_the_mark_that_is_named_decides() -> None:
    assert read(["1,234", "950"], "regression", decimal=",")[0].labels == ["1.234", "950"]
    assert read(["1,234", "950"], "regression", decimal=".")[0].labels == ["1234", "950"]


def test_numbers_with_commas_are_not_classes_nor_lists_unsaid() -> None:
    records, layout = read(["3,75", "4,5", "2,25"])
    assert layout.shape.task == "regression" and records.labels == ["3.75", "4.5", "2.25"]
    assert "'3,75' as 3.75, read as regression" in layout.notes[-1]
    with pytest.raises(DataError, match=r"'3,5' may be a number with a decimal comma, or several labels, or one; give"):
        read(["3", "3,5", "5"])
    assert read(["10%", "50%"])[0].labels == ["10%", "50%"]  # classes, as other whole numbers


def test_new_numbers_are_read_as_in_training() -> None:
    first = find_layout(raw_of(["3,75", "4,5"]), DataSettings())
    for name in ("label", "score"):
        other = raw_of(["1,234"])
        other = type(other)(other.table.rename_columns(["text", name]), other.rows, other.path, other.format)
        found = layout_of_other(other, first, DataSettings())
        assert (found.labels, found.decimal, found.form) == ((name,), ",", "plain")


def test_three_digits_after_a_point_are_as_unsure_as_after_a_comma(tmp_path: Path) -> None:
    def labels(*cells: str, **settings: Any) -> list[Any]:
        (tmp_path / "a.csv").write_text("text\tlabel\n" + "".join(f"t{n}\t{cell}\n" for n, cell in enumerate(cells)))
        return load_records(str(tmp_path / "a.csv"), DataSettings(**settings))[0].labels

    both = r"'1\.000' may be 1\.000 or 1000; give data\.decimal='\.' or data\.decimal=','"
    with pytest.raises(DataError, match=both):
        labels("1.000", "2.500", "3.750")
    with pytest.raises(DataError, match=both):
        load_records(str(tmp_path / "a.csv"), DataSettings(), SHAPES["regression"])
    assert load_records(str(tmp_path / "a.csv"), DataSettings(decimal=","), SHAPES["regression"])[0].labels[0] == "1000"
    assert labels("1.000", "2.500", "3.750", decimal=".") == ["1.000", "2.500", "3.750"]
    assert labels("1.125", "0.250") == ["1.125", "0.250"] and labels("1.125", "2.5") == ["1.125", "2.5"]
    assert read(["1.125", "2.250"])[0].labels == ["1.125", "2.250"]  # no text of people: a point is what it is


@pytest.mark.parametrize(
    ("trained", "new", "told"),
    [
        ("3,75", "4.567", r"'4\.567' may be 4\.567 or 4567, and training has ',' before decimals"),
        ("1,234.5", "4,567", r"'4,567' may be 4567 or 4\.567, and training has '\.' before decimals"),
    ],
)
def test_new_numbers_that_may_be_written_otherwise_are_refused(trained: str, new: str, told: str) -> None:
    splits = {"train": table([trained, trained]), "test": table([new, new])}
    with pytest.raises(DataError, match=f"{told}; give data\\.decimal="):
        load_splits(splits, DataSettings(), SHAPES["regression"])
    splits["test"] = table([new, trained])  # which tells the way it is written
    assert load_splits(splits, DataSettings(), SHAPES["regression"])[0]["test"].labels[0] == "4567"


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        (("text", "number"), r"\('number' is the only column beside 'text': data\.label=number\)"),
        (
            ("remark", "number"),
            r"if 'remark', with the longer values, holds the texts: data\.text=remark and data\.label=number",
        ),
        (
            ("text", "kind", "team", "number"),
            r"look like labels: 'kind' with 2 values, 'team' with 3 values; as in data\.label=kind",
        ),
    ],
)
def test_a_missing_label_column_is_looked_for(columns: tuple[str, ...], hint: str) -> None:
    values = {"kind": "ab", "team": "xyz", "number": "0123456789abc"}
    source = {
        name: [f"some words {i}" if name not in values else values[name][i % len(values[name])] for i in range(12)]
        for name in columns
    }
    with pytest.raises(DataError, match=hint):
        load_records(source, DataSettings())


def test_other_columns_called_like_labels_are_told() -> None:
    _, layout = load_records(table(["x", "y"], category=["a", "b"]), DataSettings())
    assert layout.notes == ("the label is read from 'label', not from 'category' (data.label=COLUMN)",)


WORDY = [f"please send parcel number {i} again" for i in range(12)]
BESIDE = {
    "kind": [*"ab"] * 6,
    "stars": [*"123"] * 4,
    "day": ["2024-05-01", "2024-05-02"] * 6,
    "code": [f"A{i}" for i in range(12)],
    "Answer": [f"it was sent to you on day {i}" for i in range(12)],
    "Mail": [f"person{i}@example.org" for i in range(12)],
    "When": [f"Thu 26 Nov 2026 12:{10 + i}" for i in range(12)],
    "brief": [f"yes {i}" for i in range(12)],
}


@pytest.mark.parametrize("text", ["text", "Message one"])
@pytest.mark.parametrize("label", BESIDE)
def test_of_two_columns_each_is_what_it_looks_like_or_asked_for(text: str, label: str) -> None:
    source = {label: BESIDE[label], text: WORDY}
    if label in ("kind", "stars"):
        layout = load_records(source, DataSettings())[1]
        assert (layout.text, layout.labels) == (text, (label,))
        assert f"the label is read from {label!r}, the only column beside {text!r}" in layout.notes
    else:
        with pytest.raises(DataError, match="no label column"):
            load_records(source, DataSettings())
    with pytest.raises(DataError, match="no label column"):  # of short words nobody can tell
        load_records({"one": BESIDE["brief"], "two": BESIDE["kind"]}, DataSettings())


def test_a_second_text_is_told_and_nothing_else_is_taken_for_one() -> None:
    source = {"Question A": WORDY, "same": [*"01"] * 6, **BESIDE}
    _, layout = load_records(source, DataSettings(text="Question A", label="same"))
    (told,) = [note for note in layout.notes if "second text" in note]
    assert told == "'Answer' looks like a second text, which is not read (data.text_pair=Answer)"
    with pytest.raises(
        DataError, match=r"'Question A', 'B b'; as in data\.text='Question A', and for pairs data\.text_pair='B b'"
    ):
        load_records({"Question A": WORDY, "B b": BESIDE["Answer"], "same": [*"01"] * 6}, DataSettings())
    japanese = {"text": WORDY, "label": [*"01"] * 6, "other": [f"これは長い文章の例です{i}" for i in range(12)]}
    assert any("'other' looks like" in note for note in load_records(japanese, DataSettings())[1].notes)
