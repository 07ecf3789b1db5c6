"""What annotation tools export, and tables with a token a row: each is read as it was meant, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith.config.schema import DataSettings
from tunesmith.data.reading import load_records, read_new
from tunesmith.data.records import Records, Span
from tunesmith.data.shapes import SHAPES
from tunesmith.errors import DataError

TEXT = "Ada met Alan\nTuring in Paris."


def load(path: Path, content: Any, need_label: bool = True, **options: Any) -> Records:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    task = options.pop("task", None)
    return load_records(str(path), DataSettings(**options), SHAPES.get(task), need_label)[0]


def refused(path: Path, content: Any, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(path, content, **options)
    return str(caught.value)


def lines(*rows: Any) -> str:
    return "\n".join(json.dumps(row) for row in rows)


def result(name: str, type_: str, value: Any) -> dict[str, Any]:
    return {"from_name": name, "to_name": "text", "type": type_, "value": value}


def region(start: int, end: int, label: str, quoted: str) -> dict[str, Any]:
    return result("label", "labels", {"start": start, "end": end, "text": quoted, "labels": [label]})


def chosen(*names: str, control: str = "topic") -> dict[str, Any]:
    return result(control, "choices", {"choices": list(names)})


def task(number: int, *results: dict[str, Any], text: str = TEXT, **more: Any) -> dict[str, Any]:
    return {"id": number, "data": {"text": text}, "annotations": [{"result": list(results)}]} | more


@pytest.mark.parametrize(
    "quoted", ["Alan\\nTuring", "Alan\nTuring", "Alan Turing", "Alan\\r\\nTuring", "Alan\\tTuring"]
)
def test_a_region_over_a_line_end(tmp_path: Path, quoted: str) -> None:
    records = load(tmp_path / "a.json", [task(1, region(8, 19, "PER", quoted))])
    assert records.labels == [(Span(8, 19, "PER"),)] and not records.notes
    moved = load(tmp_path / "a.json", [task(1, region(9, 20, "PER", "Alan\\nTuring"))])
    assert moved.labels == [(Span(8, 19, "PER"),)] and "an offset was wrong" in moved.notes[0]
    literal = task(1, region(0, 6, "PER", "C:\\new"), text="C:\\new is a folder")
    assert load(tmp_path / "a.json", [literal]).labels == [(Span(0, 6, "PER"),)]


def test_choices_are_labels(tmp_path: Path) -> None:
    one = [task(1, chosen("good")), task(2, chosen("bad"))]
    assert load(tmp_path / "a.json", one).labels == ["good", "bad"]
    assert load(tmp_path / "a.json", one, task="multilabel").labels == [("good",), ("bad",)]
    several = [*one, task(3, chosen("good", "bad")), task(4)]
    records = load(tmp_path / "a.json", several)
    assert records.labels == [("good",), ("bad",), ("good", "bad"), ()] and records.ids == ["1", "2", "3", "4"]
    assert "for one label a text" in refused(tmp_path / "a.json", several, task="classification")
    assert load(tmp_path / "a.json", several, need_label=False).labels == [None] * 4


def test_choices_in_the_other_exports(tmp_path: Path) -> None:
    rows = [{"id": 1, "text": "x", "area": {"choices": ["a", "b"]}}, {"id": 2, "text": "y", "area": "a"}]
    assert load(tmp_path / "a.json", rows).labels == [("a", "b"), ("a",)]
    assert load(tmp_path / "a.json", [*rows, {"text": "z", "area": [{"choices": ["c"]}, "a"]}]).labels[2] == ("c", "a")
    table = 'text,id,area\nx,1,"{""choices"": [""a"", ""b""]}"\ny,2,a\n'
    assert load(tmp_path / "a.csv", table).labels == [("a", "b"), ("a",)]
    assert "is not the choices" in refused(tmp_path / "a.json", [{"text": "x", "area": {"choices": "a"}}])


def test_spans_beside_choices_are_chosen_by_the_task(tmp_path: Path) -> None:
    tasks = [task(1, region(0, 3, "PER", "Ada"), chosen("good")), task(2, chosen("bad"))]
    message = refused(tmp_path / "a.json", tasks)
    assert "'label' (ner) and 'topic' (classification)" in message
    assert "task.name=ner or task.name=classification" in message
    assert load(tmp_path / "a.json", tasks, task="ner").labels == [(Span(0, 3, "PER"),), ()]
    assert load(tmp_path / "a.json", tasks, task="classification").labels == ["good", "bad"]
    assert load(tmp_path / "a.json", tasks, label="topic").labels == ["good", "bad"]
    both = [task(1, chosen("good"), chosen("en", control="language"))]
    assert "data.label=topic or data.label=language" in refused(tmp_path / "a.json", both)
    assert load(tmp_path / "a.json", both, label="language").labels == ["en"]
    plain = {"text": TEXT, "spans": [{"start": 0, "end": 3, "label": "PER"}], "intent": "meet"}
    assert "task.name=ner or task.name=classification" in refused(tmp_path / "a.jsonl", lines(plain))
    assert load(tmp_path / "a.jsonl", lines(plain), task="classification").labels == ["meet"]


def test_ratings_are_numbers(tmp_path: Path) -> None:
    tasks = [task(n, result("stars", "rating", {"rating": n})) for n in (1, 4)]
    records, layout = load_records(tasks, DataSettings())
    assert layout.shape.task == "regression" and records.labels == ["1", "4"]
    assert load(tmp_path / "a.json", [{"text": "x", "stars": [{"rating": 4}]}]).labels == ["4"]
    assert "is not one number" in refused(tmp_path / "a.json", [{"text": "x", "stars": [{"rating": 4}, {"rating": 5}]}])


def test_a_choice_of_a_region_and_other_results_are_told(tmp_path: Path) -> None:
    part = result("mood", "choices", {"start": 0, "end": 3, "text": "Ada", "choices": ["glad"]})
    relation = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
    records = load(tmp_path / "a.json", [task(1, region(0, 3, "PER", "Ada"), part, relation)])
    assert records.labels == [(Span(0, 3, "PER"),)] and "'choices', 'relation'" in records.notes[0]
    taxonomy = result("tree", "taxonomy", {"taxonomy": [["a", "b"]]})
    message = refused(tmp_path / "a.json", [task(1, taxonomy)])
    assert "'tree'" in message and "types that are not read" in message and "Choices" in message


@pytest.mark.parametrize("address", ["/data/upload/3/ab12-letter.txt", "s3://bucket/a.txt", ["https://host/a", "b"][0]])
def test_addresses_in_place_of_texts_are_refused(tmp_path: Path, address: str) -> None:
    message = refused(tmp_path / "a.json", [task(1, chosen("a"), text=address), task(2, chosen("b"), text=address)])
    assert address in message and "import the texts themselves" in message
    assert address in refused(tmp_path / "a.json", [task(1, text=address)], need_label=False)


def test_tasks_that_nobody_annotated(tmp_path: Path) -> None:
    skipped = task(2, annotations=[{"was_cancelled": True, "result": []}])
    guessed = task(3, annotations=[], predictions=[{"result": [chosen("bad")]}])
    records = load(tmp_path / "a.json", [task(1, chosen("good")), skipped, guessed])
    assert records.labels == ["good"]
    assert "2 rows without an annotation" in " ".join(records.notes) and "predictions of 1 task" in records.notes[0]
    assert "no rows: 1 row without an annotation" in refused(tmp_path / "a.json", [guessed])
    assert load(tmp_path / "a.json", [{"data": {"ticket": "x"}}], need_label=False).texts == ["x"]


def test_keys_of_the_data_and_controls_of_one_name(tmp_path: Path) -> None:
    data = {"text": TEXT, "topic": "old", "id": "own"}
    records = load(tmp_path / "a.json", [task(7, chosen("good"), data=data)])
    assert records.labels == ["good"] and records.ids == ["7"]


def test_new_files_keep_the_labels_of_training(tmp_path: Path) -> None:
    one, several = [task(1, chosen("a")), task(2, chosen("b"))], [task(1, chosen("a", "b")), task(2, chosen("b"))]
    _, first = load_records(several, DataSettings())
    assert read_new(one, first, DataSettings(), DataSettings()).records.labels == [("a",), ("b",)]
    _, first = load_records(one, DataSettings())
    with pytest.raises(DataError, match="several labels in a row, for one label a text"):
        read_new(several, first, DataSettings(), DataSettings())


def answer(text: str, label: str, verdict: str) -> dict[str, Any]:
    return {"text": text, "label": label, "answer": verdict, "_task_hash": 1}


def test_rejected_labels_of_prodigy(tmp_path: Path) -> None:
    rows = [
        answer("a", "X", "accept"),
        answer("b", "Y", "accept"),
        answer("c", "X", "reject"),
        answer("d", "Z", "reject"),
    ]
    records = load(tmp_path / "a.jsonl", lines(*rows, answer("e", "X", "ignore")))
    assert records.texts == ["a", "b"] and records.labels == ["X", "Y"]
    assert "3 rows rejected or ignored" in records.notes[2] and "never accepted: 'Z'" in records.notes
    only = [answer("a", "X", "accept"), answer("b", "X", "reject"), answer("c", "X", "ignore")]
    records = load(tmp_path / "a.jsonl", lines(*only))
    assert records.labels == ["X", "not X"] and "where it was rejected read as 'not X'" in records.notes[0]
    assert len(load(tmp_path / "a.jsonl", lines(*only), need_label=False)) == 3
    assert "no rows: 1 row rejected" in refused(tmp_path / "a.jsonl", lines(only[1]))


def test_options_of_prodigy(tmp_path: Path) -> None:
    def option(text: str, *names: str, verdict: str = "accept", **more: Any) -> dict[str, Any]:
        return {"text": text, "options": [{"id": "X"}, {"id": "Y"}], "accept": list(names), "answer": verdict} | more

    one = [option("a", "X"), option("b", "Y"), option("c", verdict="ignore")]
    assert load(tmp_path / "a.jsonl", lines(*one)).labels == ["X", "Y"]
    assert load(tmp_path / "a.jsonl", lines(*one, option("d", "X", "Y"), option("e"))).labels[2:] == [("X", "Y"), ()]
    style = {"config": {"choice_style": "multiple"}}
    assert load(tmp_path / "a.jsonl", lines(option("a", "X", **style))).labels == [("X",)]
    assert "is empty" in refused(tmp_path / "a.jsonl", lines(option("a"), option("b", "X")))
    words = [{"question": "Is it?", "context": "accept it", "answer": "accept"}]
    assert load(tmp_path / "a.jsonl", lines(*words))[0].label[0].text == "accept"


def test_texts_beside_annotations_as_spacy_has_them(tmp_path: Path) -> None:
    rows = [[TEXT, {"entities": [[0, 3, "PER"]]}], ["Eve", {"entities": []}]]
    for content in (json.dumps(rows), lines(*rows), json.dumps({"classes": ["PER"], "annotations": [*rows, None]})):
        assert load(tmp_path / ("a.json" if content[0] == "{" or content[1] == "[" else "a.jsonl"), content).labels == [
            (Span(0, 3, "PER"),), (),
        ]  # fmt: skip
    cats = [["a", {"cats": {"X": 1.0, "Y": 0.0}}], ["b", {"cats": {"X": False, "Y": True}}]]
    assert load(tmp_path / "a.json", cats).labels == ["X", "Y"]
    assert load(tmp_path / "a.json", [*cats, ["c", {"cats": {"X": 1, "Y": 1}}]]).labels == [("X",), ("Y",), ("X", "Y")]
    assert "neither 0 nor 1" in refused(tmp_path / "a.json", [["c", {"cats": {"X": 0.7}}]])


def test_many_rows_with_one_fault_are_told_once(tmp_path: Path) -> None:
    message = refused(tmp_path / "a.jsonl", lines(*([["x", "y"]] * 30)))
    assert message.count("\n") == 0 and "lines 1, 2, 3" in message and "(30 in all)" in message


ROWS = [("1", "Ada", "B-PER"), ("1", "met", "O"), ("1", "Alan", "B-PER"), ("2", "Paris", "B-LOC"), ("2", "is", "O")]
READ = [(Span(0, 3, "PER"), Span(8, 12, "PER")), (Span(0, 5, "LOC"),)]


@pytest.mark.parametrize("names", ["sentence_id,words,labels", "Sentence #,Word,Tag", "sent_id,token,ner_tag"])
def test_a_token_a_row(tmp_path: Path, names: str) -> None:
    numbers = ["Sentence: 1", "", "", "Sentence: 2", ""] if "#" in names else [row[0] for row in ROWS]
    table = [(number, *row[1:]) for number, row in zip(numbers, ROWS, strict=True)]
    records = load(tmp_path / "a.csv", "\n".join([names, *map(",".join, table)]))
    assert records.texts == ["Ada met Alan", "Paris is"] and records.labels == READ
    assert [record.row for record in records] == [2, 5] and "2 sentences by" in records.notes[0]
    assert load(tmp_path / "a.tsv", "\n".join([names.replace(",", "\t"), *map("\t".join, table)])).labels == READ
    columns = dict(zip(names.split(","), map(list, zip(*table, strict=True)), strict=True))
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    records, layout = load_records(str(tmp_path / "a.parquet"), DataSettings())
    assert records.labels == READ and layout.shape.task == "ner"
    without = {name: cells for name, cells in columns.items() if name != names.split(",")[2]}
    assert read_new(without, layout, DataSettings(), DataSettings(), need_label=False).records.texts == records.texts
    mixed = {name: columns[name] for name in columns} | {"POS": ["NN"] * 5}
    assert load_records(mixed, DataSettings())[0].labels == READ


def test_tags_of_single_words_are_no_classes(tmp_path: Path) -> None:
    table = "\n".join(["word,label", *(f"{word},{tag}" for _, word, tag in ROWS)])
    message = refused(tmp_path / "a.csv", table)
    assert "tags of tokens" in message and "sentence_id" in message and "task.name=classification" in message
    assert load(tmp_path / "a.csv", table, task="classification").labels[0] == "B-PER"
    words = "\n".join(["word,label", "cat,noun", "run,verb", "dog,noun"])
    assert load(tmp_path / "a.csv", words).labels == ["noun", "verb", "noun"]
    texts = "\n".join(["sentence,word,label", "a cat,cat,1", "a cat,a,0"])  # no numbers of sentences
    assert len(load(tmp_path / "a.csv", texts, text="sentence")) == 2


@pytest.mark.parametrize(
    ("tokens", "tags"),
    [
        ("['Ada', \"isn't\"]", "['B-PER', 'O']"),
        ("['Ada' \"isn't\"]", "['B-PER' 'O']"),
        ("array(['Ada', \"isn't\"], dtype=object)", "('B-PER', 'O')"),
    ],
)
def test_lists_of_tokens_as_python_shows_them(tokens: str, tags: str) -> None:
    records, layout = load_records([{"tokens": tokens, "ner_tags": tags}], DataSettings())
    assert records.texts == ["Ada isn't"] and records.labels == [(Span(0, 3, "PER"),)] and layout.form == "tags"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": "['a' ... 'b']", "ner_tags": "['O' ... 'O']"}, "was cut by NumPy"),
        ({"text": "Ada", "entities": "[(0, 3, 'PER')]"}, "as Python shows it; write JSON"),
        ({"text": "Ada", "spans": "[{'start': 0, 'end': 3, 'label': 'PER'}]"}, "as Python shows it; write JSON"),
    ],
)
def test_cells_that_python_wrote_otherwise_are_refused(row: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_records([row], DataSettings())


QUESTION = {"id": "1", "question": "Whom?", "answers": [{"text": "Alan", "answer_start": 8}]}
PARAGRAPH = {"context": "Ada met Alan.", "qas": [QUESTION]}


@pytest.mark.parametrize(
    "content",
    [
        [PARAGRAPH],
        PARAGRAPH,
        [{"paragraphs": [PARAGRAPH]}],
        {"paragraphs": [PARAGRAPH]},
        {"version": "2", "data": [PARAGRAPH]},
        {"data": [{"paragraphs": [PARAGRAPH | {"document_id": 3}]}]},
        {"data": {"paragraphs": [PARAGRAPH]}},
    ],
)
def test_forms_of_squad(tmp_path: Path, content: Any) -> None:
    for options in ({}, {"format": "squad"}):
        records = load(tmp_path / "a.json", content, **options)
        assert [(record.text, record.label[0].text, record.id) for record in records] == [("Whom?", "Alan", "1")]
    path = tmp_path / "a.jsonl"
    assert load(path, lines(content)).texts == ["Whom?"] if "qas" in content else True


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"rows": [{"text": "a", "label": "x"}]}, "under the key 'rows'"),
        ({"about": {"by": "me"}, "set": {"examples": [{"text": "a", "label": "x"}]}}, "under the key 'set.examples'"),
        ({"text": {"0": "a"}, "label": {"0": "x"}}, "each key is a column"),
        ({"text": ["a"], "label": ["x"]}, "each key is a column"),
        ({"columns": ["text", "label"], "index": [0], "data": [["a", "x"]]}, "each key is a column"),
    ],
)
def test_rows_under_a_key(tmp_path: Path, content: Any, found: str) -> None:
    for indent in (None, 1):
        records = load(tmp_path / "a.json", json.dumps(content, indent=indent))
        assert [(record.text, record.label) for record in records] == [("a", "x")] and found in records.notes[0]


def test_rows_under_several_keys_are_named(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": "x"}]
    assert "'train', 'test'; write each to a file" in refused(tmp_path / "a.json", {"train": rows, "test": rows})
    assert "'one', 'two'; write those to be read" in refused(tmp_path / "a.json", {"one": rows, "two": rows})
    single = {"text": TEXT, "spans": [{"start": 0, "end": 3, "label": "PER"}]}
    assert load(tmp_path / "a.json", single).labels == [(Span(0, 3, "PER"),)]
    assert load(tmp_path / "a.json", task(1, region(0, 3, "PER", "Ada"))).labels == [(Span(0, 3, "PER"),)]
    assert "not valid JSON" in refused(tmp_path / "a.json", '{\n "rows": [\n  {"text": 1}')


def test_a_layout_of_an_export_is_used_again() -> None:
    raw_rows = [task(1, chosen("a")), task(2, chosen("b"))]
    _, first = load_records(raw_rows, DataSettings())
    assert (first.text, first.labels, first.id, first.form) == ("text", ("topic",), "id", "plain")


SENTENCE = "Ada met Alan."


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "#FORMAT=WebAnno TSV 3.3\n\n1-1\t0-3\tAda\tPER\n", "annotations of WebAnno"),
        ("a.ann", "T1\tPER 0 3\tAda\n", "annotations of brat"),
        ("a.xmi", "<?xml version='1.0'?>", "annotations of UIMA"),
        ("a.json", {"intents": [{"intent": "greet", "examples": [{"text": "hello"}]}]}, "no text column"),
        ("a.json", [{"text": "hi", "mood": [{"user_id": None, "value": "glad"}]}], "no label column"),
    ],
)
def test_what_is_not_read_is_refused(tmp_path: Path, name: str, content: Any, message: str) -> None:
    assert message in refused(tmp_path / name, content)


def test_a_folder_of_brat_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(SENTENCE)
    (tmp_path / "a.ann").write_text("T1\tPER 0 3\tAda\n")
    with pytest.raises(DataError, match="annotations of brat"):
        load_records(str(tmp_path), DataSettings())


@pytest.mark.parametrize(
    "row",
    [
        {"content": SENTENCE, "annotations": [{"tag": "PER", "value": "Ada", "start": 0, "end": 3}]},
        {"document": SENTENCE, "annotation": [{"start": 0, "end": 3, "label": "PER", "text": "Ada"}]},
        {"text": SENTENCE, "ner": [{"start": 0, "end": 3, "text": "Ada", "labels": ["PER"]}]},
        {"text": SENTENCE, "entities": [{"label": "PER", "start_offset": 0, "end_offset": 3}], "relations": []},
        {"sentence": ["Ada", "met", "Alan."], "tags": ["B-PER", "O", "O"]},
    ],
)
def test_spans_of_other_tools(row: dict[str, Any]) -> None:
    assert load_records([row], DataSettings())[0].labels == [(Span(0, 3, "PER"),)]


def test_numbers_for_labels_are_told() -> None:
    row = {"text": SENTENCE, "annotations": [{"label": 7, "start_offset": 0, "end_offset": 3}]}
    assert "are numbers" in load_records([row], DataSettings())[0].notes[0]
