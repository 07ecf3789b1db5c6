"""What `fuzz` tries: for each target a function that takes the bytes of an input, and inputs to begin with.

The first byte of an input chooses among the settings of the target, the others are the content of its file.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith.config.loading import fields, flags, resolve
from tunesmith.config.schema import AdaptConfig, Config, DataSettings
from tunesmith.data import read
from tunesmith.data.checks import run_checks
from tunesmith.data.jsontext import as_text, parse
from tunesmith.data.layout import Layout
from tunesmith.data.lines import LineReader
from tunesmith.data.reading import load_splits, read_new
from tunesmith.data.shapes import SHAPES
from tunesmith.data.summary import summarise
from tunesmith.data.texts import read_texts
from tunesmith.data.workbook import PARTS
from tunesmith.data.writing import Target as Written
from tunesmith.errors import DataError, TunesmithError

Call = Callable[[bytes, Path], object]
Settings = dict[str, Any]
WHOLE_CHECKS = 4  # of so many inputs one goes through all of `tunesmith check`, the others are read only
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


@dataclass(frozen=True)
class Target:
    """What is tried.

    Attributes:
        share: of all inputs, in relation to the other targets.
        call: takes the bytes of an input and a folder for its files.
        seeds: inputs to begin with.
        tokens: words that its inputs often have.
    """

    share: int
    call: Call
    seeds: tuple[bytes, ...]
    tokens: tuple[bytes, ...]


def check(path: str, settings: DataSettings, task: str | None = None) -> None:
    """What ``tunesmith check`` does with a file, but for the screen."""
    splits, layout = load_splits({"train": path}, settings, SHAPES.get(task or ""))
    for finding in run_checks(splits, layout.shape):
        finding.to_dict()
    summarise(splits, layout, task is not None)


def from_file(ending: str, variants: Sequence[Settings], always: bool = False) -> Call:
    """Reads a file of this ending with one of some settings, of which ``task`` is none of the data's."""
    parsed = [(DataSettings(**{k: v for k, v in one.items() if k != "task"}), one.get("task")) for one in variants]

    def call(data: bytes, folder: Path) -> None:
        settings, task = parsed[data[0] % len(parsed)] if data else parsed[0]
        file = folder / f"a{ending}"
        file.write_bytes(data[1:])
        if always or zlib.crc32(data) % WHOLE_CHECKS == 0:
            check(str(file), settings, task)
        else:
            read(str(file), settings)

    return call


def as_new(data: bytes, folder: Path) -> None:
    """New data for a trained model, in some format, with and without labels."""
    choice, file = data[0] if data else 0, folder / ("a.jsonl" if data[:1] < b"\x80" else "a.csv")
    file.write_bytes(data[1:])
    read_new(str(file), LAYOUTS[choice % len(LAYOUTS)], DataSettings(), DataSettings(), choice % 2 == 0)


def as_lines(data: bytes, folder: Path) -> None:
    """What ``predict`` reads from standard input."""
    file, choice = folder / "a", data[0] if data else 0
    file.write_bytes(data[1:])
    given = DataSettings(encoding="utf-16") if choice == 255 else DataSettings()
    for part in LineReader(str(file), LAYOUTS[choice % len(LAYOUTS)], DataSettings(), given).chunks(2):
        assert len(part.records.texts) == len(part.records.ids)


def as_texts(data: bytes, folder: Path) -> None:
    """What ``adapt`` reads."""
    file = folder / ("a.txt" if data[:1] < b"\x80" else "a.csv")
    file.write_bytes(data[1:])
    read_texts({"train": str(file)}, DataSettings(), None, 0, True)


def as_json(data: bytes, folder: Path) -> None:
    """The JSON of data files, and that what is read is written as it was."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        value = parse(text)
    except ValueError:
        return
    if (shown := as_text(value)) is not None and not isinstance(value, str):
        assert as_text(parse(shown)) == shown


def as_config(data: bytes, folder: Path) -> None:
    file = folder / "a.yaml"
    file.write_bytes(data[1:])
    resolve(file, None, (), Config if data[:1] < b"\x80" else AdaptConfig)


def as_flag(data: bytes, folder: Path) -> None:
    names = sorted(flags())
    resolve(None, {names[data[0] % len(names) if data else 0]: data[1:].decode("utf-8", "surrogateescape")})


def as_set(data: bytes, folder: Path) -> None:
    keys, text = [key for key, _ in fields()], data[1:].decode("utf-8", "surrogateescape")
    key = f"{keys[data[0] % len(keys)]}=" if data and data[0] < 240 else ""
    resolve(None, None, [f"{key}{one}" for one in text.split("\x1e")])


def packed(data: bytes, folder: Path) -> None:
    """A compressed file: its content, or the bytes of the file itself."""
    file = folder / ("a.csv.gz" if data[:1] < b"\xc0" else "a.parquet.gz")
    file.write_bytes(gzip.compress(data[1:], 1) if data[:1] < b"\x20" else data[1:])
    read(str(file), DataSettings())


def in_workbook(data: bytes, folder: Path) -> None:
    """A workbook with this XML as one of its parts, or with these bytes as the file."""
    choice, file = data[0] if data else 0, folder / "a.xlsx"
    if choice < 16:
        file.write_bytes(data[1:])
    else:
        parts = {name: f'<?xml version="1.0"?>\n{text}'.encode() for name, text in PARTS.items()}
        parts["xl/worksheets/sheet1.xml"] = SHEET
        parts[sorted(parts)[choice % len(parts)] if choice > 200 else "xl/worksheets/sheet1.xml"] = data[1:]
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
    read(str(file), DataSettings())


def in_folder(data: bytes, folder: Path) -> None:
    """A folder of text files; the content says how many, and what they are called."""
    root = folder / "classes"
    shutil.rmtree(root, ignore_errors=True)
    for number, part in enumerate(data[1:].split(b"\xff\xff")[:6]):
        name, _, text = part.partition(b"\n")
        place = root / "".join(c for c in name.decode("ascii", "ignore") if c.isalnum() or c in "._-/ ")[:40].strip(
            "/."
        )
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            (place if place != root and not place.is_dir() else root / f"{number}.txt").write_bytes(text)
        except OSError:
            continue  # a file stands where a folder should
    root.mkdir(exist_ok=True)
    (check if data[:1] < b"\x80" else read)(str(root), DataSettings())


def saved_set(data: bytes, folder: Path) -> None:
    """A folder made by ``Dataset.save_to_disk``, with other JSON in it."""
    root, (first, _, second) = folder / "saved", data[1:].partition(b"\xff")
    root.mkdir(exist_ok=True)
    (root / "state.json").write_bytes(first or SAVED_STATE)
    (root / "dataset_info.json").write_bytes(second or SAVED_INFO)
    (root / "data-00000-of-00001.arrow").write_bytes(ARROW_STREAM)
    read(str(root), DataSettings())


def round_trip(data: bytes, folder: Path) -> None:
    """What is written to a file is read from it, to the character."""
    ending = ENDINGS[data[0] % len(ENDINGS)] if data else ".csv"
    names = ["text", "label", "more"]
    cells = [[cell.decode("utf-8", "ignore") for cell in row.split(b"\xfe")[:3]] for row in data[1:].split(b"\xff")]
    rows = [dict(zip(names, [*row, "", ""], strict=False)) for row in cells]
    rows = [row for row in rows if any(row.values()) and list(row.values()) != names]
    file = folder / f"out{ending}"
    try:
        with Written.of(file, overwrite=True).opened(pa.schema([(name, pa.string()) for name in names])) as write:
            write(rows)
    except TunesmithError:
        return
    try:
        table = read(str(file), DataSettings()).table
    except DataError as error:
        if not rows or "control characters" in str(error):
            return
        assert "data.quoting=on" in str(error), f"what was written to {ending} cannot be read: {error}"
        table = read(str(file), DataSettings(quoting="on")).table
    found = [{name: value or "" for name, value in row.items()} for row in table.to_pylist()]
    assert found == rows, f"{ending}: wrote {rows!r:.200}, read {found!r:.200}"


def _arrow(table: pa.Table, stream: bool) -> bytes:
    sink = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _parquet(table: pa.Table, **options: Any) -> bytes:
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
ARROW_STREAM = _arrow(pa.table({"text": ["x", "y"], "label": [0, 1]}), stream=True)
ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet", ".xlsx", ".labelstudio.json")
LAYOUTS = [
    Layout(SHAPES["classification"], "text", labels=("label",)),
    Layout(SHAPES["classification"], "text", "more", labels=("label",)),
    Layout(SHAPES["multilabel"], "text", labels=("label",), form="separated", separator="|"),
    Layout(SHAPES["regression"], "text", labels=("label",)),
    Layout(SHAPES["ner"], "text", labels=("spans",), form="spans"),
    Layout(SHAPES["ner"], "tokens", labels=("tags",), form="tags"),
    Layout(SHAPES["qa"], "question", "context", labels=("answers",), form="answers"),
]
ENCODED = [{"encoding": name} for name in ("utf-16", "utf-16-le", "latin-1", "utf-32", "cp1252", "utf-7", "shift_jis")]
QUOTED = [{}, {}, {"quoting": "on"}, {"quoting": "off"}, {"delimiter": ";"}, {"format": "csv"}, {"label": "a,b"}]
TASKS: list[Settings] = [{"task": name} for name in ("classification", "multilabel", "regression", "ner", "qa")]
LABELS = [{"unlabelled": "skip"}, {"strip": True}, {"label_separator": "|"}, {"decimal": ","}, {"id": "id"}]
FLAGS: list[Settings] = [dict(a) | dict(b) for a, b in product(({}, *TASKS), ({}, *LABELS))]


def _seeds(*contents: bytes, choices: Sequence[int] = (0,)) -> tuple[bytes, ...]:
    return tuple(bytes([choice]) + content for content, choice in product(contents, choices))


def _annotated(share: int, ending: str, *contents: bytes, tokens: tuple[bytes, ...] = ()) -> Target:
    call = from_file(ending, [{}, *TASKS, *LABELS], always=True)
    return Target(share, call, _seeds(*contents, choices=(0, 4)), (*JSON_TOKENS, *tokens))


TARGETS: dict[str, Target] = {
    "csv": Target(100, from_file(".csv", [*QUOTED, *ENCODED]), _seeds(CSV, choices=range(14)), CSV_TOKENS),
    "tsv": Target(60, from_file(".tsv", QUOTED), _seeds(CSV.replace(b",", b"\t"), choices=range(4)), CSV_TOKENS),
    "labels": Target(
        60, from_file(".csv", FLAGS, always=True), _seeds(CSV, choices=range(0, 36, 5)),
        (*CSV_TOKENS, b'"[""a""]"', b"a|b", b"1,5", b"50%", b"['a' 'b']", b"# a", b"id"),
    ),
    "jsonl": Target(100, from_file(".jsonl", [{}, *TASKS, *ENCODED]), _seeds(LINES), JSON_TOKENS),
    "json": Target(80, from_file(".json", [{}]), _seeds(ARRAY, b'{"data": ' + ARRAY + b"}", LINES), JSON_TOKENS),
    "jsontext": Target(150, as_json, (ARRAY, LINES[:50], b"-1.5e+07"), JSON_TOKENS),
    "spans": _annotated(50, ".jsonl", SPAN_LINES, tokens=STUDIO_TOKENS),
    "squad": _annotated(40, ".json", SQUAD, tokens=(b'"qas"', b'"paragraphs"', b'"answers"', b'"answer_start"')),
    "labelstudio": _annotated(50, ".json", STUDIO, tokens=STUDIO_TOKENS),
    "doccano": _annotated(40, ".jsonl", DOCCANO, tokens=STUDIO_TOKENS),
    "prodigy": _annotated(40, ".jsonl", PRODIGY, tokens=(*STUDIO_TOKENS, b'"accept"', b'"reject"', b'"ignore"')),
    "conll": Target(80, from_file(".conll", [{}, *ENCODED]), _seeds(COLUMNS), TAG_TOKENS),
    "fasttext": Target(40, from_file(".txt", [{}, {"format": "fasttext"}]), _seeds(FASTTEXT), (b"__label__", b"\t")),
    "parquet": Target(
        50, from_file(".parquet", [{}]),
        _seeds(*map(_parquet, tables()[:4]), _parquet(tables()[0], compression="gzip")),
        (b"PAR1", b"\x15\x02", b"\xff\xff\xff\xff", b"\x7f"),
    ),
    "arrow": Target(
        50, from_file(".arrow", [{}]), _seeds(*(_arrow(one, way) for one, way in product(tables(), (True, False)))),
        (b"ARROW1\0\0", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"),
    ),
    "saved": Target(20, saved_set, _seeds(SAVED_STATE + b"\xff" + SAVED_INFO), JSON_TOKENS),
    "workbook": Target(
        20, in_workbook, _seeds(SHEET, choices=(16, 201, 202, 203, 204, 205)),
        (b"<row ", b'<c r="ZZZ9999999"', b"<v>", b't="s"', b't="d"', b"_x0000_", b"&amp;", b"<mergeCell ", b"</f>"),
    ),
    "gzip": Target(30, packed, (*_seeds(CSV), b" " + gzip.compress(CSV), b"\xff" + gzip.compress(CSV)), CSV_TOKENS),
    "folder": Target(
        10, in_folder, _seeds(b"a/1.txt\nx\xff\xffb/1.txt\ny\xff\xffb/2.md\nz"),
        (b"\xff\xff", b"train/", b"a/b.txt\n", b".gz\n", b"test.csv\n"),
    ),
    "lines": Target(80, as_lines, _seeds(LINES, b"one\n\ntwo\n", SPAN_LINES, choices=range(7)), JSON_TOKENS),
    "new": Target(50, as_new, _seeds(LINES, SPAN_LINES, choices=range(14)) + _seeds(CSV, choices=(133,)), JSON_TOKENS),
    "texts": Target(30, as_texts, _seeds(b"one\ntwo\n\nthree\n") + _seeds(CSV, choices=(200,)), CSV_TOKENS),
    "config": Target(60, as_config, _seeds(CONFIG), (*YAML_TOKENS, *JSON_TOKENS)),
    "flags": Target(50, as_flag, _seeds(b"1e-4", b"true", b"a,b", choices=range(0, 60, 7)), (b"nan", b"1" * 5000)),
    "sets": Target(60, as_set, _seeds(b"1e-4", b"[a, {b: c}]", choices=range(0, 60, 7)), (*YAML_TOKENS, *JSON_TOKENS)),
    "roundtrip": Target(
        40, round_trip, _seeds(b"a, \"b\"\xfepos\xff\nc\xfe=1+1\xfe007", choices=range(6)),
        (b"\xfe", b"\xff", b'"', b"\r", b"\n", b",", b"\t", b"_x0041_", b"\0", b"sep=;", b" ", b"\xc2\x85"),
    ),
}  # fmt: skip
assert partial  # placeholder until the folders of others are tried here
