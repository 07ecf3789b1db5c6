"""Inputs that `fuzz` begins with, small ones of each format, and words that such files often have."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

CSV = b'text,label\ngood film,pos\n"bad, ""so"" bad\nfilm",neg\n'
LINES = b'{"text": "good film", "label": "pos", "n": 1.50}\n{"text": "bad \\u00e9", "label": null}\n'
ARRAY = b'[{"text": "good", "label": "pos"},\n {"text": "bad", "label": ["a", "b"]}]'
SPAN_LINES = (
    b'{"text": "Ada met Bo.", "spans": [{"start": 0, "end": 3, "label": "PER"}]}\n{"text": "No", "spans": []}\n'
)
COLUMNS = b"# id = 1\n-DOCSTART- O\n\nAda B-PER\nmet O\nBo\tI-PER\n\n. O\n"
FASTTEXT = b"__label__pos good film\n__label__neg __label__sad bad film\n"
SQUAD = json.dumps(
    {
        "data": [
            {
                "title": "t",
                "paragraphs": [
                    {
                        "context": "Ada met Bo.",
                        "qas": [
                            {"id": "1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]},
                            {"id": "2", "question": "When?", "is_impossible": True, "answers": []},
                        ],
                    }
                ],
            }
        ]
    }
).encode()
STUDIO = json.dumps(
    [
        {
            "id": 1,
            "data": {"text": "Ada met Bo."},
            "annotations": [
                {
                    "was_cancelled": False,
                    "result": [
                        {
                            "from_name": "label",
                            "to_name": "text",
                            "type": "labels",
                            "value": {"start": 0, "end": 3, "text": "Ada", "labels": ["PER"]},
                        },
                        {"from_name": "t", "to_name": "text", "type": "choices", "value": {"choices": ["a"]}},
                    ],
                }
            ],
        },
        {"id": 2, "text": "x", "label": [{"start": 0, "end": 1, "text": "x", "labels": ["PER"]}], "area": "a"},
    ]
).encode()
DOCCANO = b"""{"id": 1, "text": "Ada met Bo.", "label": [[0, 3, "PER"]]}
{"id": 2, "text": "x", "entities": [{"id": 1, "start_offset": 0, "end_offset": 1, "label": "PER"}], "relations": []}
{"id": 3, "data": "y", "label": ["a"], "cats": ["b"]}
"""
PRODIGY = b"""{"text": "Ada met Bo.", "spans": [{"start": 0, "end": 3, "label": "PER"}], "answer": "accept"}
{"text": "x", "label": "a", "answer": "reject", "tokens": [{"text": "x", "start": 0, "end": 1, "id": 0}]}
{"text": "y", "options": [{"id": "a", "text": "A"}], "accept": ["a"], "answer": "ignore"}
"""
CONFIG = b"""training:
  lr: 1e-4
  epochs: 3 # three
data: {label: "a b", strip: true, label_separator: '|'}
method:
  name: lora
"""
JSON_TOKENS = (b"null", b"NaN", b"1e999", b"-0", b"true", b'"text": ', b'"\\ud800"', b"[]", b"{}", b"{}, ", b"1" * 400)
CSV_TOKENS = (b'""', b'","', b"\r\n", b"sep=;", b"text", b"label", b"\xef\xbb\xbf", b"\0", b"NA", b'["a", "b"]', b"1.0")
STUDIO_TOKENS = (b'"choices"', b'"labels"', b'"start"', b'"end"', b'"text"', b'"annotations"', b'"result"', b'"value"')
TAG_TOKENS = (b"B-PER", b"I-", b"E-X", b"S-X", b"O", b"-DOCSTART-", b"# a = b", b"\n\n", b"\t", b" ", b"\xc2\xa0")
YAML_TOKENS = (
    b"!!python/name:os.system",
    b"&a",
    b"*a",
    b"<<: ",
    b"? ",
    b"|\n",
    b">-\n",
    b"!!binary ",
    b"!!set ",
    b"---\n",
)


def arrow(table: pa.Table, stream: bool) -> bytes:
    sink = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def tables() -> list[pa.Table]:
    """Small typed tables: strings, numbers, lists, structs, dictionaries, times, unions of what Arrow has."""
    text = pa.array(["good", None, "bad é"])
    return [
        pa.table({"text": text, "label": [1, 2, None]}),
        pa.table({"text": text, "label": pa.array([["a"], [], None]), "x": pa.array([{"a": 1}, {"a": None}, None])}),
        pa.table({"text": text.dictionary_encode(), "label": pa.array([1.5, float("nan"), 2.0])}),
        pa.table({"text": text.cast(pa.large_string()), "when": pa.array([0, 1, None], pa.timestamp("us", "UTC"))}),
        pa.table({"text": text.cast(pa.string_view()), "d": pa.array([b"\xff", None, b"a"]), "n": pa.nulls(3)}),
        pa.table({"text": pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", "b"]))}),
        pa.table({"text": text, "m": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64()))}),
    ]


SHEET = (
    b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData><row r="1">'
    b'<c r="A1" t="inlineStr"><is><t>text</t></is></c><c r="B1" t="str"><v>label</v></c></row><row r="2" hidden="1">'
    b'<c r="A2" t="inlineStr"><is><t xml:space="preserve"> a_x0041_&amp; </t></is></c><c r="B2"><v>1.5</v></c></row>'
    b'<row r="3"><c r="A3" t="b"><v>1</v></c><c r="B3" t="e"><f>1/0</f><v>#DIV/0!</v></c></row></sheetData>'
    b'<mergeCells count="1"><mergeCell ref="A2:A3"/></mergeCells></worksheet>'
)
SAVED_STATE = json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "train"}).encode()
SAVED_INFO = json.dumps(
    {"features": {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": ["a", "b"], "_type": "ClassLabel"}}}
).encode()
ARROW_STREAM = arrow(pa.table({"text": ["x", "y"], "label": [0, 1]}), stream=True)
