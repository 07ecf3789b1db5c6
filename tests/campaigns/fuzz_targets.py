"""What `fuzz` tries: for each target a function that takes the bytes of an input, and inputs to begin with.

The first byte of an input chooses among the settings of the target, the others are the content of its file.
"""

from __future__ import annotations

import gzip
import shutil
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.campaigns.fuzz_seeds import (
    ARRAY,
    ARROW_STREAM,
    COLUMNS,
    CONFIG,
    CSV,
    CSV_TOKENS,
    DOCCANO,
    FASTTEXT,
    JSON_TOKENS,
    LINES,
    PRODIGY,
    SAVED_INFO,
    SAVED_STATE,
    SHEET,
    SPAN_LINES,
    SQUAD,
    STUDIO,
    STUDIO_TOKENS,
    TAG_TOKENS,
    YAML_TOKENS,
    arrow,
    parquet,
    tables,
)
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
ENCODED: list[Settings] = [
    {"encoding": name} for name in ("utf-16", "utf-16-le", "latin-1", "utf-32", "cp1252", "utf-7", "shift_jis")
]
QUOTED: list[Settings] = [
    {},
    {},
    {"quoting": "on"},
    {"quoting": "off"},
    {"delimiter": ";"},
    {"format": "csv"},
    {"label": "a,b"},
]
TASKS: list[Settings] = [{"task": name} for name in ("classification", "multilabel", "regression", "ner", "qa")]
LABELS: list[Settings] = [
    {"unlabelled": "skip"},
    {"strip": True},
    {"label_separator": "|"},
    {"decimal": ","},
    {"id": "id"},
]
FLAGS: list[Settings] = [dict(a) | dict(b) for a, b in product(({}, *TASKS), ({}, *LABELS))]


def _seeds(*contents: bytes, choices: Sequence[int] = (0,)) -> tuple[bytes, ...]:
    return tuple(bytes([choice]) + content for content, choice in product(contents, choices))


def _annotated(share: int, ending: str, *contents: bytes, tokens: tuple[bytes, ...] = ()) -> Target:
    call = from_file(ending, [{}, *TASKS, *LABELS], always=True)
    return Target(share, call, _seeds(*contents, choices=(0, 4)), (*JSON_TOKENS, *tokens))


TARGETS: dict[str, Target] = {
    "csv": Target(130, from_file(".csv", [*QUOTED, *ENCODED]), _seeds(CSV, choices=range(14)), CSV_TOKENS),
    "tsv": Target(60, from_file(".tsv", QUOTED), _seeds(CSV.replace(b",", b"\t"), choices=range(4)), CSV_TOKENS),
    "labels": Target(
        60, from_file(".csv", FLAGS, always=True), _seeds(CSV, choices=range(0, 36, 5)),
        (*CSV_TOKENS, b'"[""a""]"', b"a|b", b"1,5", b"50%", b"['a' 'b']", b"# a", b"id"),
    ),
    "jsonl": Target(140, from_file(".jsonl", [{}, *TASKS, *ENCODED]), _seeds(LINES), JSON_TOKENS),
    "json": Target(110, from_file(".json", [{}]), _seeds(ARRAY, b'{"data": ' + ARRAY + b"}", LINES), JSON_TOKENS),
    "jsontext": Target(300, as_json, (ARRAY, LINES[:50], b"-1.5e+07"), JSON_TOKENS),
    "spans": _annotated(50, ".jsonl", SPAN_LINES, tokens=STUDIO_TOKENS),
    "squad": _annotated(40, ".json", SQUAD, tokens=(b'"qas"', b'"paragraphs"', b'"answers"', b'"answer_start"')),
    "labelstudio": _annotated(50, ".json", STUDIO, tokens=STUDIO_TOKENS),
    "doccano": _annotated(40, ".jsonl", DOCCANO, tokens=STUDIO_TOKENS),
    "prodigy": _annotated(40, ".jsonl", PRODIGY, tokens=(*STUDIO_TOKENS, b'"accept"', b'"reject"', b'"ignore"')),
    "conll": Target(100, from_file(".conll", [{}, *ENCODED]), _seeds(COLUMNS), TAG_TOKENS),
    "fasttext": Target(40, from_file(".txt", [{}, {"format": "fasttext"}]), _seeds(FASTTEXT), (b"__label__", b"\t")),
    "parquet": Target(
        50, from_file(".parquet", [{}]),
        _seeds(*map(parquet, tables()[:4]), parquet(tables()[0], compression="gzip")),
        (b"PAR1", b"\x15\x02", b"\xff\xff\xff\xff", b"\x7f"),
    ),
    "arrow": Target(
        50, from_file(".arrow", [{}]), _seeds(*(arrow(one, way) for one, way in product(tables(), (True, False)))),
        (b"ARROW1\0\0", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"),
    ),
    "saved": Target(20, saved_set, _seeds(SAVED_STATE + b"\xff" + SAVED_INFO), JSON_TOKENS),
    "workbook": Target(
        4, in_workbook, _seeds(SHEET, choices=(16, 201, 202, 203, 204, 205)),
        (b"<row ", b'<c r="ZZZ9999999"', b"<v>", b't="s"', b't="d"', b"_x0000_", b"&amp;", b"<mergeCell ", b"</f>"),
    ),
    "gzip": Target(40, packed, (*_seeds(CSV), b" " + gzip.compress(CSV), b"\xff" + gzip.compress(CSV)), CSV_TOKENS),
    "folder": Target(
        5, in_folder, _seeds(b"a/1.txt\nx\xff\xffb/1.txt\ny\xff\xffb/2.md\nz"),
        (b"\xff\xff", b"train/", b"a/b.txt\n", b".gz\n", b"test.csv\n"),
    ),
    "lines": Target(120, as_lines, _seeds(LINES, b"one\n\ntwo\n", SPAN_LINES, choices=range(7)), JSON_TOKENS),
    "new": Target(50, as_new, _seeds(LINES, SPAN_LINES, choices=range(14)) + _seeds(CSV, choices=(133,)), JSON_TOKENS),
    "texts": Target(30, as_texts, _seeds(b"one\ntwo\n\nthree\n") + _seeds(CSV, choices=(200,)), CSV_TOKENS),
    "config": Target(35, as_config, _seeds(CONFIG), (*YAML_TOKENS, *JSON_TOKENS)),
    "flags": Target(50, as_flag, _seeds(b"1e-4", b"true", b"a,b", choices=range(0, 60, 7)), (b"nan", b"1" * 5000)),
    "sets": Target(30, as_set, _seeds(b"1e-4", b"[a, {b: c}]", choices=range(0, 60, 7)), (*YAML_TOKENS, *JSON_TOKENS)),
    "roundtrip": Target(
        20, round_trip, _seeds(b"a, \"b\"\xfepos\xff\nc\xfe=1+1\xfe007", choices=range(6)),
        (b"\xfe", b"\xff", b'"', b"\r", b"\n", b",", b"\t", b"_x0041_", b"\0", b"sep=;", b" ", b"\xc2\x85"),
    ),
}  # fmt: skip
