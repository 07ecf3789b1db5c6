"""Entities and questions in every layout: what is read, what is mended with a note, what is refused with its row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.config.schema import DataSettings
from tunesmith.data.layout.tags import entities, scheme, tag_names
from tunesmith.data.reading import load_records, load_splits
from tunesmith.data.records import Answer, Records, Span
from tunesmith.data.shapes import SHAPES
from tunesmith.data.splits import split
from tunesmith.errors import DataError

TEXT = "Ada met Alan Turing in Paris ."
SPANS = [Span(0, 3, "PER"), Span(8, 19, "PER"), Span(23, 28, "LOC")]
OBJECTS = [{"start": span.start, "end": span.end, "label": span.label} for span in SPANS]
TOKENS = TEXT.split()
IOB2 = ["B-PER", "O", "B-PER", "I-PER", "O", "B-LOC", "O"]
TAGGED = {
    "IOB2": IOB2,
    "IOB1": ["I-PER", "O", "I-PER", "I-PER", "O", "I-LOC", "O"],
    "BIOES": ["S-PER", "O", "B-PER", "E-PER", "O", "S-LOC", "O"],
    "BILOU": ["U-PER", "O", "B-PER", "L-PER", "O", "U-LOC", "O"],
    "bare": ["PER", "O", "PER", "PER", "O", "LOC", "O"],
}
STUDIO = {
    "id": 1,
    "data": {"text": TEXT, "source": 3},
    "annotations": [
        {"was_cancelled": True, "result": []},
        {
            "result": [
                {
                    "type": "labels",
                    "value": {"start": s.start, "end": s.end, "text": TEXT[s.start : s.end], "labels": [s.label]},
                }
                for s in SPANS
            ]
            + [{"type": "textarea", "value": {"text": ["no offset"]}}]
        },
    ],
}
PRODIGY = {
    "text": TEXT,
    "_input_hash": 1,
    "tokens": [{"text": "Ada", "start": 0, "end": 3, "id": 0}],
    "spans": [{**one, "token_start": 0, "token_end": 0} for one in OBJECTS],
    "answer": "accept",
}
FILES: dict[str, tuple[str, str]] = {
    "span lines": ("a.jsonl", json.dumps({"text": TEXT, "spans": OBJECTS})),
    "tokens and tags": ("a.jsonl", json.dumps({"tokens": TOKENS, "ner_tags": IOB2})),
    "label studio": ("a.json", json.dumps([STUDIO])),
    "label studio, short form": (
        "a.json",
        json.dumps(
            [{"id": 1, "text": TEXT, "label": [{"start": s.start, "end": s.end, "labels": [s.label]} for s in SPANS]}]
        ),
    ),
    "doccano": ("a.jsonl", json.dumps({"id": 1, "text": TEXT, "label": [list(span) for span in SPANS]})),
    "doccano, with relations": (
        "a.jsonl",
        json.dumps(
            {
                "text": TEXT,
                "entities": [{"id": 1, "label": s.label, "start_offset": s.start, "end_offset": s.end} for s in SPANS],
                "relations": [],
            }
        ),
    ),
    "doccano, data and labels": (
        "a.jsonl",
        json.dumps({"id": 1, "data": TEXT, "labels": [list(span) for span in SPANS], "Comments": []}),
    ),
    "label studio, completions": (
        "a.json",
        json.dumps([{"data": STUDIO["data"], "completions": STUDIO["annotations"]}]),
    ),
    "prodigy": ("a.jsonl", json.dumps(PRODIGY)),
    **{
        f"columns, {name}": ("a.conll", "".join(f"{w}\t{t}\n" for w, t in zip(TOKENS, tags, strict=True)))
        for name, tags in TAGGED.items()
    },
    "columns, four with spaces": ("a.txt", "".join(f"{w} NN x {t}\n" for w, t in zip(TOKENS, IOB2, strict=True))),
}


def load(path: Path, content: str, **options: Any) -> Records:
    path.write_text(content, encoding="utf-8")
    shape = SHAPES.get(options.pop("task", None))
    return load_records(str(path), DataSettings(**options), shape)[0]


def lines(*rows: dict[str, Any]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


@pytest.mark.parametrize("layout", FILES)
def test_every_layout_gives_the_same_spans(tmp_path: Path, layout: str) -> None:
    name, content = FILES[layout]
    records = load(tmp_path / name, content)
    assert records.texts == [TEXT]
    assert records.labels == [tuple(SPANS)]


def test_tags_with_names_in_parquet(tmp_path: Path) -> None:
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    feature = {"ner_tags": {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "List"}}
    metadata = {"huggingface": json.dumps({"info": {"features": feature}})}
    columns = {"tokens": [TOKENS], "ner_tags": [[names.index(tag) for tag in IOB2]]}
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "a.parquet")
    records, layout = load_records(str(tmp_path / "a.parquet"), DataSettings())
    assert layout.shape.task == "ner" and records.labels == [tuple(SPANS)]
    pq.write_table(pa.table(columns), tmp_path / "b.parquet")
    for number in (-1, len(names)):
        pq.write_table(table.set_column(1, "ner_tags", pa.array([[number] * len(TOKENS)])), tmp_path / "c.parquet")
        with pytest.raises(DataError, match="row 1: column 'ner_tags': the tags are not a list of texts"):
            load_records(str(tmp_path / "c.parquet"), DataSettings())
    with pytest.raises(DataError, match="class numbers instead of tags"):
        load_records(str(tmp_path / "b.parquet"), DataSettings(), SHAPES["ner"])


@pytest.mark.parametrize(
    ("tags", "expected", "name", "broken"),
    [
        ("I-A I-A O I-B", [(0, 2, "A"), (3, 4, "B")], "IOB1", 0),
        ("I-A B-A I-A O", [(0, 1, "A"), (1, 3, "A")], "IOB1", 0),
        ("B-A I-B I-B", [(0, 1, "A"), (1, 3, "B")], "IOB2", 1),
        ("B-A B-A I-A", [(0, 1, "A"), (1, 3, "A")], "IOB2", 0),
        ("B-A E-A S-B", [(0, 2, "A"), (2, 3, "B")], "BIOES", 0),
        ("B-A M-A E-A O", [(0, 3, "A")], "BIOES", 0),
        ("B-A O E-A S-B", [(0, 1, "A"), (2, 3, "A"), (3, 4, "B")], "BIOES", 2),
        ("S-A I-A", [(0, 1, "A"), (1, 2, "A")], "BIOES", 2),
        ("A A O B", [(0, 2, "A"), (3, 4, "B")], "types without prefix", 0),
        ("B-A I-A O B", [(0, 2, "A"), (3, 4, "B")], "IOB2", 1),
        ("A A B-A", [(0, 2, "A"), (2, 3, "A")], "types without prefix", 1),
    ],
)  # fmt: skip
def test_tags_are_read_as_the_conll_script_reads_them(tags: str, expected: list[Any], name: str, broken: int) -> None:
    found, seen = entities(tags.split())
    assert found == expected
    assert scheme(seen) == (name, broken)


@given(st.lists(st.sampled_from([*tag_names(["A", "B"])]), max_size=12))
def test_entities_cover_exactly_the_tagged_tokens(tags: list[str]) -> None:
    found, _ = entities(tags)
    covered = [index for start, end, _ in found for index in range(start, end)]
    assert covered == [index for index, tag in enumerate(tags) if tag != "O"]
    assert all({tag[2:] for tag in tags[start:end]} == {kind} for start, end, kind in found)


def test_a_number_sign_with_a_tag_is_a_token(tmp_path: Path) -> None:
    content = "# text = x O\n# SYM O O\n1 CD O B-NUM\n-DOCSTART- -X- O O\nEU NNP I-NP B-ORG\n"
    records = load(tmp_path / "a.conll", content)
    assert records.texts == ["# 1", "EU"] and records.table["group"].to_pylist() == ["0", "1"]


def test_documents_and_comments_of_columns(tmp_path: Path) -> None:
    content = "-DOCSTART- O\n\n# id = 7\nAda B-PER\nsings O\n\n\n-DOCSTART- O\n\nParis B-LOC\n"
    records = load(tmp_path / "a.conll", content)
    assert records.texts == ["Ada sings", "Paris"]
    assert records.table["group"].to_pylist() == ["1", "2"]
    assert [record.row for record in records] == [4, 10]


def test_one_document_is_no_group(tmp_path: Path) -> None:
    content = "-DOCSTART- -X- O\n" + "".join(f"Ada{i} -X- _ B-PER\nsings -X- _ O\n\n" for i in range(20))
    records = load(tmp_path / "a.conll", content)
    assert not records.has("group")
    assert len(split(records, SHAPES["ner"], DataSettings(), seed=1)["valid"])


def test_documents_need_not_be_marked_in_every_file(tmp_path: Path) -> None:
    (tmp_path / "dev.conll").write_text("Ada B-PER\n\nParis B-LOC\n")
    (tmp_path / "a.conll").write_text("-DOCSTART- O\n\nAda B-PER\n\n-DOCSTART- O\n\nParis B-LOC\n")
    splits, _ = load_splits({"train": str(tmp_path / "a.conll"), "valid": str(tmp_path / "dev.conll")}, DataSettings())
    assert splits["train"].has("group") and not splits["valid"].has("group")
    for layout, (name, content) in FILES.items():
        (tmp_path / name).write_text(content)
        splits, _ = load_splits({"train": str(tmp_path / "dev.conll"), "test": str(tmp_path / name)}, DataSettings())
        assert splits["test"].labels == [tuple(SPANS)], layout


def test_white_space_beside_tabs_and_spaces_is_a_token(tmp_path: Path) -> None:
    for space in ("\u3000", "\xa0"):
        for between in (" ", "\t"):
            content = f"Ada B-PER\n{space} O\n10{space}000 B-NUM\nx O{space}\n".replace(" ", between)
            records = load(tmp_path / "a.conll", content)
            assert records.texts == [f"Ada {space} 10{space}000 x"]
            assert records.labels == [(Span(0, 3, "PER"), Span(6, 12, "NUM"))]


def test_columns_that_count_the_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2: expected the token in the first column"):
        load(tmp_path / "a.conll", "#\thttp://a [2009]\n1\tAda\tB-PER\tO\n2\tsings\tO\tO\n\n1\tNo\tO\tO\n")
    assert load(tmp_path / "a.conll", "1 O\n\n1 O\n").texts == ["1", "1"]


def test_columns_without_a_tag_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2: expected a token and a tag, found 'sings'"):
        load(tmp_path / "a.conll", "Ada B-PER\nsings\nhere O\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Ada B-PER\n\tAda B-PER\n", r"line 2: expected a token and a tag, found '\\tAda B-PER'"),
        ("Ada\tB-PER\n\tBob\tB-PER\n", r"line 2: expected a token and a tag, found '\\tBob\\tB-PER'"),
        ("Ada B-PER\nBob Lee B-PER\n", "line 2: expected 2 columns as in line 1, found 3; where a token has spaces"),
        ("Ada NN B-PER\n\nsings O\nand O\n", "lines 3, 4: expected 3 columns as in line 1, found 2"),
        ("Ada B-\nis O\n", "row 1: column .tags.: has a tag without a type"),
        ("Ada B-PER\nis O\n\nsings o\n", 'row 4: column .tags.: has the tag "o"; write "O"'),
    ],
)
def test_columns_that_are_not_as_the_others_are_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.conll", content)


def test_small_letters_for_outside_are_refused_in_every_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='has the tag "o"; write "O"'):
        load(tmp_path / "a.jsonl", json.dumps({"tokens": ["Ada", "sings"], "tags": ["b-per", "o"]}))


def test_sentences_without_an_empty_line_between_them_are_told(tmp_path: Path) -> None:
    sentence = "Ada B-PER\nsings O\n. O\n"
    told = "no empty line between sentences, so all 9 tokens are one text"
    assert any(told in note for note in load(tmp_path / "a.conll", 3 * sentence).notes)
    for content in (sentence, 3 * f"{sentence}\n"):
        assert not any("no empty line" in note for note in load(tmp_path / "a.conll", content).notes)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([{"start": 0, "end": 99, "label": "A"}], "does not lie in its text"),
        ([{"start": -1, "end": 3, "label": "A"}], "does not lie in its text"),
        ([{"start": 3, "end": 3, "label": "A"}], "empty span"),
        ([{"start": 3, "end": 4, "label": "A"}], "empty span"),
        ([{"start": 0, "end": 7, "label": "A"}, {"start": 4, "end": 9, "label": "B"}], "overlap"),
        ([{"start": 0, "end": 3}], "is not a list of spans"),
        ([{"start": "x", "end": 3, "label": "A"}], "is not a list of spans"),
        ([{"start": 0, "end": 3, "label": " "}], "is not a list of spans"),
        ([{"start": 0, "end": 3, "labels": ["A", "B"]}], "one label each"),
        ([{"start": 0.5, "end": 3, "label": "A"}], "is not a list of spans"),
        ([{"start": 8, "end": 10, "label": "A"}, {"start": 11, "end": 12, "label": "B"}], "overlap"),  # one word's
        ([{"start": 0, "end": 3, "label": "A", "text": "Eve"}], "does not stand beside it"),
        ([{"start": 5, "end": 6, "label": "A", "text": "a"}], "several times"),
    ],
)
def test_spans_that_cannot_be_used_are_refused_with_their_row(tmp_path: Path, spans: list[Any], message: str) -> None:
    content = lines({"text": TEXT, "spans": OBJECTS}, {"text": TEXT, "spans": spans})
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path / "a.jsonl", content, task="ner")
    assert "row 2" in str(caught.value)


def test_what_is_mended_is_said(tmp_path: Path) -> None:
    padded = {"text": TEXT, "spans": [{"start": 0, "end": 4, "label": "A"}, {"start": 0, "end": 3, "label": "A"}]}
    moved = {"text": TEXT, "spans": [{"start": 20, "end": 25, "label": "A", "text": "Paris"}]}
    inclusive = {"text": TEXT, "spans": [{"start": 0, "end": 2, "label": "A", "text": "Ada"}]}
    spaced = {"text": "Ada  met\r\nEve", "spans": [{"start": 0, "end": 13, "label": "A", "text": "Ada met Eve"}]}
    units = {
        "text": "😀😀 Ada Ada",
        "spans": [{"start": at, "end": at + 3, "label": "A", "text": "Ada"} for at in (5, 9)],
    }
    cut = {"text": TEXT, "spans": [{"start": 9.0, "end": 18.0, "label": "A"}]}
    records = load(tmp_path / "a.jsonl", lines(padded, moved, units, cut, spaced, inclusive))
    assert records.labels[:2] == [(Span(0, 3, "A"),), (Span(23, 28, "A"),)]
    assert records.labels[2:4] == [(Span(3, 6, "A"), Span(7, 10, "A")), (Span(8, 19, "A"),)]
    assert records.labels[4:] == [(Span(0, 13, "A"),), (Span(0, 3, "A"),)]
    notes = " ".join(records.notes)
    for part in (
        "row 1: white space",
        "row 1: a span that stands twice",
        "row 2: an offset was wrong",
        "row 3: offsets",
        "row 6: an end was wrong",
        "row 4: a span that began or ended inside a word",
    ):
        assert part in notes, notes


def test_one_bad_cell_or_many_empty_ones_do_not_hide_the_spans(tmp_path: Path) -> None:
    empty = [{"text": TEXT, "label": []}] * 120
    assert load(tmp_path / "a.jsonl", lines(*empty, {"text": TEXT, "label": [[0, 3, "PER"]]})).labels[120]
    with pytest.raises(DataError, match="row 2: column 'spans': is not a list of spans"):
        load(tmp_path / "a.jsonl", lines({"text": TEXT, "spans": OBJECTS}, {"text": TEXT, "spans": [{"start": 0}]}))


def test_an_empty_tag_is_none(tmp_path: Path) -> None:
    records = load(tmp_path / "a.jsonl", lines({"tokens": ["Ada", "", "sings"], "ner_tags": ["B-PER", "", "O"]}))
    assert records.texts == ["Ada _ sings"] and records.labels == [(Span(0, 3, "PER"),)]


def test_tokens_and_tags_under_other_names(tmp_path: Path) -> None:
    content = lines({"pieces": TOKENS, "marks": IOB2})
    assert load(tmp_path / "a.jsonl", content, text="pieces", label="marks").labels == [tuple(SPANS)]
    (tmp_path / "b.jsonl").write_text(lines({"pieces": TOKENS}))
    records, _ = load_records(str(tmp_path / "b.jsonl"), DataSettings(text="pieces"), SHAPES["ner"], need_label=False)
    assert records.texts == [TEXT]


def test_rejected_texts_of_prodigy_are_left_out(tmp_path: Path) -> None:
    records = load(tmp_path / "a.jsonl", lines(PRODIGY, PRODIGY | {"answer": "reject"}, PRODIGY | {"answer": "ignore"}))
    assert len(records) == 1 and "2 rows rejected or ignored" in " ".join(records.notes)


def test_texts_that_nobody_judged_are_left_out_of_training_but_predicted(tmp_path: Path) -> None:
    skipped = STUDIO | {"annotations": [{"was_cancelled": True, "result": []}]}
    tasks = json.dumps([STUDIO, STUDIO | {"annotations": []}, skipped, STUDIO | {"annotations": [{"result": []}]}])
    records = load(tmp_path / "a.json", tasks)
    assert records.labels == [tuple(SPANS), ()]
    assert [record.row for record in records] == [1, 4] and "2 rows without an annotation" in " ".join(records.notes)
    for name, kind in (("a.json", tasks), ("b.jsonl", lines(PRODIGY, PRODIGY | {"answer": "reject"}))):
        (tmp_path / name).write_text(kind)
        unlabelled = load_records(str(tmp_path / name), DataSettings(), SHAPES["ner"], need_label=False)[0]
        assert len(unlabelled) == (4 if name == "a.json" else 2) and set(unlabelled.labels) == {None}
    with pytest.raises(DataError, match="no rows: 1 row rejected or ignored by the annotator left out"):
        load(tmp_path / "b.jsonl", lines(PRODIGY | {"answer": "reject"}))


def test_objects_on_one_line_are_numbered_by_their_position(tmp_path: Path) -> None:
    row, bad = {"text": TEXT, "spans": OBJECTS}, {"text": TEXT, "spans": [{"start": 0, "end": 99, "label": "A"}]}
    assert load(tmp_path / "a.json", json.dumps([row, row, row])).ids == ["1", "2", "3"]
    with pytest.raises(DataError, match="row 3: column 'spans'"):
        load(tmp_path / "a.json", json.dumps([row, row, bad]))
    assert load(tmp_path / "a.json", json.dumps([row, row], indent=0))[0].row == 2


def test_which_annotation_and_which_text_of_label_studio(tmp_path: Path) -> None:
    task = STUDIO | {"annotations": [{"result": []}, STUDIO["annotations"][1] | {"ground_truth": True}]}
    records = load(tmp_path / "a.json", json.dumps([task]))
    assert records.labels == [tuple(SPANS)] and "the one marked as ground truth was read" in " ".join(records.notes)
    task = STUDIO | {"data": {"title": "A", "body": TEXT}}
    assert load(tmp_path / "a.json", json.dumps([task]), text="body").labels == [tuple(SPANS)]


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        (["x"], "list of annotations"),
        ([{"result": ["x"]}], "list of annotations"),
        ([{"result": [{"type": "labels"}]}], "list of annotations"),
        ([{"result": [{"type": "hypertextlabels", "value": {}}]}], "labels of HTML"),
        ({"result": []}, "not a JSON list"),
    ],
)
def test_a_broken_label_studio_file_names_the_row(tmp_path: Path, annotations: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"row 1: .*{message}"):
        load(tmp_path / "a.json", json.dumps([STUDIO | {"annotations": annotations}]))
    with pytest.raises(DataError, match=r"row 1: .*no object with a text"):
        load(tmp_path / "a.json", json.dumps([STUDIO | {"data": ["x"]}]))


CONTEXT = "Ada wrote the first program. Ada knew Charles."
SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Ada",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {"id": "q1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 29}]},
                        {"id": "q2", "question": "When?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}


def test_squad(tmp_path: Path) -> None:
    records = load(tmp_path / "a.json", json.dumps(SQUAD))
    assert records.ids == ["q1", "q2"]
    assert records.labels == [(Answer(29, "Ada"),), ()]
    assert records.table["text_pair"].to_pylist() == [CONTEXT] * 2
    assert records.table["group"].to_pylist() == [CONTEXT] * 2  # all there is on one article stays on one context
    articles = [SQUAD["data"][0], {"title": "Eve", "paragraphs": []}, SQUAD["data"][0] | {"title": "Bob"}]
    content = json.dumps({"data": articles}).replace("q1", "q3", 1).replace("q2", "q4", 1)
    assert load(tmp_path / "b.json", content).table["group"].to_pylist() == ["Ada", "Ada", "Bob", "Bob"]


@pytest.mark.parametrize(
    "answers",
    [
        [{"text": "Charles", "answer_start": 38}],
        {"text": ["Charles"], "answer_start": [38]},
        ["Charles"],
        "Charles",
        [{"text": "Charles", "start": 37}],
        [{"text": "Charles", "answer_start": 38.0}],
        [{"text": " Charles", "answer_start": 37}],
        {"text": "Charles", "answer_start": 38},
    ],
)
def test_answers_in_every_form(tmp_path: Path, answers: Any) -> None:
    content = lines({"context": CONTEXT, "question": "Whom?", "answers": answers})
    assert load(tmp_path / "a.jsonl", content).labels == [(Answer(38, "Charles"),)]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (["Eve"], "does not stand beside it"),
        (["Ada"], "has no offset and stands in its context several times"),
        ([{"text": "Ada", "answer_start": 3}], "several times"),
        ([{"text": ""}], "empty answer"),
        ([3], "is not a list of answers"),
        ([{"text": "Ada", "answer_start": "x"}], "is not a list of answers"),
        ([{"text": "Ada", "answer_start": -46}], "several times"),
        ({"text": ["Ada", "Charles"], "answer_start": [0]}, "not as many starts as texts"),
        ("[Eve]", "does not stand beside it"),
        ("{'text': ['Charles'], 'answer_start': [38]}", "write JSON"),
        ("[{'text': 'Charles', 'answer_start': 38}]", "write JSON"),
    ],
)
def test_answers_that_cannot_be_placed_are_refused(tmp_path: Path, answers: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.jsonl", lines({"context": CONTEXT, "question": "Who?", "answers": answers}), task="qa")


@pytest.mark.parametrize(
    ("answers", "start", "found"),
    [
        ("Ada", 0, [Answer(0, "Ada")]),
        ("Ada", CONTEXT.rfind("Ada"), [Answer(CONTEXT.rfind("Ada"), "Ada")]),
        (["Ada", "Charles"], [0, 38], [Answer(0, "Ada"), Answer(38, "Charles")]),
        ([{"text": "Ada", "answer_start": 0}], 38, [Answer(0, "Ada")]),
        ([], -1, []),
    ],
)
def test_a_column_beside_the_answers_has_their_places(
    tmp_path: Path, answers: Any, start: Any, found: list[Answer]
) -> None:
    row = {"context": CONTEXT, "question": "Who?", "answers": answers, "answer_start": start}
    assert load(tmp_path / "a.jsonl", lines(row), task="qa").labels == [tuple(found)]


@pytest.mark.parametrize("start", ["x", [0, 38], 0.5])
def test_a_place_beside_an_answer_that_is_none_is_refused(tmp_path: Path, start: Any) -> None:
    row = {"context": CONTEXT, "question": "Who?", "answers": "Ada", "answer_start": start}
    with pytest.raises(DataError, match=r"row 1: .*of offsets in column 'answer_start'"):
        load(tmp_path / "a.jsonl", lines(row), task="qa")


def test_questions_on_one_context_stay_together(tmp_path: Path) -> None:
    rows = [{"context": f"{CONTEXT} {i // 4}", "question": f"Who {i}?", "answers": ["Charles"]} for i in range(80)]
    parts = split(load(tmp_path / "a.jsonl", lines(*rows)), SHAPES["qa"], DataSettings(), seed=1)
    contexts = [set(part.table["text_pair"].to_pylist()) for part in parts.values()]
    assert sum(map(len, contexts)) == len(set.union(*contexts)) == 20


def test_a_question_to_be_answered_is_not_one_without_an_answer(tmp_path: Path) -> None:
    questions = [{"id": "1", "question": "Who?"}, {"id": "2", "question": "Whom?", "answers": []}]
    squad = {"data": [{"paragraphs": [{"context": CONTEXT, "qas": questions}]}]}
    assert load(tmp_path / "a.json", json.dumps(squad)).labels == [None, ()]


def test_a_broken_squad_file_names_the_place(tmp_path: Path) -> None:
    broken = {"data": [{"title": "T", "paragraphs": [{"context": "c", "qas": [{"id": 1, "answers": []}]}]}]}
    other = {"data": [{"title": "T", "paragraphs": [{"context": ["c"], "qas": [{"id": 1, "question": "q"}]}]}]}
    with pytest.raises(DataError, match="article 'T', paragraph 1: not of SQuAD's form"):
        load(tmp_path / "a.json", json.dumps(broken))
    with pytest.raises(DataError, match=r"article 'T', paragraph 1: .*not text"):
        load(tmp_path / "a.json", json.dumps(other))


def test_a_task_without_its_columns_says_what_it_needs(tmp_path: Path) -> None:
    content = lines({"body": "a", "kind": "b"})
    with pytest.raises(DataError, match="no questions; expected columns question, context and answers"):
        load(tmp_path / "a.jsonl", content, task="qa")
    with pytest.raises(DataError, match="no answers; expected a column answers"):
        load(tmp_path / "a.jsonl", lines({"question": "a", "context": "b"}), task="qa")
    with pytest.raises(DataError, match="no entities; expected a text with a column of spans"):
        load(tmp_path / "a.jsonl", content, task="ner")


def test_answers_without_offsets_and_empty_contexts(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    lines = [
        {"question": "Who?", "context": "Ada met Alan.", "answers": ["Ada", "Alan"]},
        {"question": "Who?", "context": None, "answers": []},
    ]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    records, _ = load_records(str(file), DataSettings())
    assert records.table["text_pair"].to_pylist() == ["Ada met Alan.", ""]
    note = "row 1: an answer without an offset was put where its text stands, its only place"
    assert [note in found for found in records.notes] == [True]
