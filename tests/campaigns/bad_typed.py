"""Files with types of their own (JSON, Parquet, Arrow, workbooks), folders, and what is no file of examples at all."""

from __future__ import annotations

import gzip
import io
import json
import os
import socket
import zipfile
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.campaigns.bad_file import (
    NAMES,
    File,
    Refused,
    array,
    arrow,
    arrow_of,
    columns,
    csv,
    jsonl,
    objects,
    parquet,
    parquet_of,
    workbook,
)
from tests.campaigns.bad_tables import Maker

JSON_FAULTS = {
    "cut": '{"text": "abc", "label": "pra',
    "no object": '"only a text"',
    "a number": "17",
    "a list": '["abc", "praise"]',
    "NaN": '{"text": "abc", "label": NaN}',
    "Infinity": '{"text": "abc", "label": -Infinity}',
    "key twice": '{"text": "abc", "text": "d", "label": "praise"}',
    "half a surrogate": '{"text": "abc \\ud800", "label": "praise"}',
    "half a surrogate in a label": '{"text": "abc", "label": "pra\\udc00ise"}',
    "raw control character": '{"text": "a\x01c", "label": "praise"}',
    "raw tab": '{"text": "a\tc", "label": "praise"}',
    "single quotes": "{'text': 'abc', 'label': 'praise'}",
    "no quotes": "{text: abc, label: praise}",
    "comma at the end": '{"text": "abc", "label": "praise",}',
    "remark": '{"text": "abc", "label": "praise"} // why',
    "two objects": '{"text": "abc", "label": "praise"} {"text": "d", "label": "praise"}',
    "Python's words": '{"text": "abc", "label": None}',
    "bad escape": '{"text": "a\\qc", "label": "praise"}',
    "short escape": '{"text": "a\\u12", "label": "praise"}',
    "leading zero": '{"text": "abc", "label": 007}',
    "point first": '{"text": "abc", "label": .5}',
    "depth": '{"text": ' + "[" * 100_000 + "]" * 100_000 + ', "label": "praise"}',
    "open depth": '{"text": ' + '{"a":' * 50_000,
}
JSON_LABELS = {
    "missing": '{"text": "abc"}',
    "null": '{"text": "abc", "label": null}',
    "empty": '{"text": "abc", "label": ""}',
}
CELLS: dict[str, tuple[list[Any], list[str]]] = {
    "integers": ([1, 20, -3], ["1", "20", "-3"]),
    "64 bits": ([2**63 - 1, -(2**63), 0], ["9223372036854775807", "-9223372036854775808", "0"]),
    "floats": ([1.0, 2.5, 1e20], ["1.0", "2.5", "1e+20"]),
    "booleans": ([True, False, True], ["true", "false", "true"]),
    "dates": ([date(2024, 1, 2), date(1999, 12, 31), date(2024, 2, 29)], ["2024-01-02", "1999-12-31", "2024-02-29"]),
    "decimals": ([Decimal("1.50"), Decimal("-2.25"), Decimal("0.01")], ["1.50", "-2.25", "0.01"]),
}


def files(seed: int) -> Iterator[File]:
    make = Maker(seed + 1)
    for part in (_json_rows, _json_files, _typed_columns, _damaged, _workbooks, _folders, _no_examples):
        yield from part(make)


def _json_rows(make: Maker) -> Iterator[File]:
    """One line of JSON is wrong; its number must be named."""
    for name, fault in JSON_FAULTS.items():
        for turn in range(2):
            at = make.place()
            lines = jsonl(make.rows()).decode().splitlines()
            lines[at] = fault
            end = "\n" if turn else "\r\n"
            content = end.join(lines).encode("utf-8", "surrogatepass")
            yield File(f"{name}, lines {turn}", "a.jsonl", content, Refused(at + 1))
            blank = "\n\n".join(lines).encode("utf-8", "surrogatepass")
            yield File(f"{name}, lines with blank ones {turn}", "a.jsonl", blank, Refused(2 * at + 1))
            whole = "[\n" + ",\n".join(lines) + "\n]"
            if name not in ("two objects",):
                yield File(f"{name}, array {turn}", "a.json", whole.encode("utf-8", "surrogatepass"), Refused(at + 2))
    for name, fault in JSON_LABELS.items():
        at, lines = make.place(), jsonl(make.rows()).decode().splitlines()
        lines[at] = fault
        yield File(f"{name} label, lines", "a.jsonl", "\n".join(lines).encode(), Refused(at + 1, "label", ("empty",)))
        whole = "[\n" + ",\n".join(lines) + "\n]"
        yield File(f"{name} label, array", "a.json", whole.encode(), Refused(at + 2, "label", ("empty",)))


def _json_files(make: Maker) -> Iterator[File]:
    """Other shapes of a JSON file."""
    rows = make.rows()
    wanted, listed, lines = [tuple(row) for row in rows], objects(rows), jsonl(rows)
    dump = json.dumps
    good = {
        "in one line": dump(listed), "indented": dump(listed, indent=4), "under a key": dump({"data": listed}),
        "under another key": dump({"version": 1, "examples": listed}), "lines named json": lines.decode(),
        "columns": dump({"text": [row[0] for row in rows], "label": [row[1] for row in rows]}),
        "columns by number": dump({k: {n: row[i] for n, row in enumerate(rows)} for i, k in enumerate(NAMES)}),
        "split, as pandas": dump({"columns": ["text", "label"], "index": list(range(12)), "data": rows}),
        "null elements": dump([None, *listed]), "white space around": "\n\n  " + dump(listed) + " \r\n\n",
        "a mark before": "\ufeff" + dump(listed),
    }  # fmt: skip
    for name, text in good.items():
        yield File(f"json, {name}", "a.json", text.encode(), wanted)
        yield File(f"json, {name}, gzip", "a.json.gz", gzip.compress(text.encode()), wanted)
    bad: dict[str, tuple[str, Refused]] = {
        "text after the array": (dump(listed) + "\n" + dump(listed), Refused(says=("more text after",))),
        "not closed": (array(rows)[:-2].decode(), Refused(13)),
        "no comma": (array(rows).decode().replace("},", "}", 1), Refused(2)),
        "empty": ("", Refused(says=("no rows",))), "empty array": ("[]", Refused(says=("no rows",))),
        "empty object": ("{}", Refused()), "only null": ("null", Refused()), "a text": ('"abc"', Refused()),
        "arrays of arrays": (dump(rows), Refused(1)),
        "two lists": (dump({"train": listed, "test": listed}), Refused(says=("'train', 'test'",))),
        "columns of two lengths": (dump({"text": ["a", "b"], "label": ["x"]}), Refused(says=("different lengths",))),
        "open": ("[" * 200_000, Refused(1)), "only a brace": ("{", Refused()), "html": ("<html>", Refused()),
    }  # fmt: skip
    for name, (text, refusal) in bad.items():
        yield File(f"json, {name}", "a.json", text.encode(), refusal, clean=False)
    several = [[row[0], [row[1], "late"] if n % 3 else []] for n, row in enumerate(make.rows())]
    yield File("labels as lists", "a.jsonl", jsonl(several), [(text, tuple(labels)) for text, labels in several])
    late = [
        {"id": 1, "text": "abc", "label": "praise"},
        *({"label": row[1], "more": [1], "text": row[0]} for row in rows),
    ]
    content = "\n".join(map(dump, late)).encode()
    yield File("keys in another order, and more", "a.jsonl", content, [("abc", "praise"), *wanted])


def _typed_columns(make: Maker) -> Iterator[File]:
    """Columns of Parquet and Arrow that are no strings become the text that a reader expects; null labels are named."""
    for name, (cells, texts) in CELLS.items():
        rows, values = make.rows(), cells * 4
        table = columns(rows).append_column("n", pa.array(values))
        wanted = [(text, row[1]) for text, row in zip(texts * 4, rows, strict=True)]
        for file, content in {
            "a.parquet": parquet_of(table),
            "a.arrow": arrow_of(table),
            "a.feather": arrow_of(table),
        }.items():
            yield File(f"{name} as text, {file}", file, content, wanted, {"text": "n"}, clean=False)
    kinds: dict[str, pa.DataType] = {
        "large": pa.large_string(),
        "view": pa.string_view(),
        "dictionary": pa.dictionary(pa.int32(), pa.string()),
    }
    for name, kind in kinds.items():
        rows = make.rows()
        both = columns(rows)
        text = both["text"] if name == "dictionary" else both["text"].cast(kind)
        table = pa.table({"text": text, "label": both["label"].cast(kind)})
        yield File(f"strings as {name}, arrow", "a.arrow", arrow_of(table), [tuple(row) for row in rows])
        yield File(f"strings as {name}, stream", "a.arrow", arrow_of(table, stream=True), [tuple(row) for row in rows])
    for at in (0, 11, make.place()):
        rows = make.rows()
        rows[at][1] = None
        wanted_null = Refused(at + 1, "label", ("empty",))
        yield File(f"null label {at}, parquet {len(rows[at][0])}", "a.parquet", parquet(rows), wanted_null)
        yield File(f"null label {at}, arrow {len(rows[at][0])}", "a.arrow", arrow(rows), wanted_null)
    rows = make.rows()
    for codec in ("snappy", "gzip", "zstd", "lz4", "brotli", "none"):
        yield File(f"parquet, {codec}", "a.parquet", parquet(rows, compression=codec), [tuple(row) for row in rows])
    small = parquet(rows, row_group_size=1, use_dictionary=False)
    yield File("parquet, a group a row", "a.parquet", small, [tuple(row) for row in rows])
    blob = columns(rows).append_column("b", pa.array([b"\xff\xfe"] * 12))
    yield File("binary beside", "a.parquet", parquet_of(blob), [tuple(row) for row in rows])
    yield File("binary as text", "a.parquet", parquet_of(blob), Refused(1, "b", ("text",)), {"text": "b"})
    twice = pa.Table.from_arrays([*columns(rows).columns, columns(rows)["text"]], ["text", "label", "text"])
    yield File("name twice, arrow", "a.arrow", arrow_of(twice), Refused(says=("'text'",)))
    yield File("no rows, parquet", "a.parquet", parquet([]), Refused(says=("no rows",)))
    yield File("no columns, arrow", "a.arrow", arrow_of(pa.table({})), Refused())
    ends = pa.RunEndEncodedArray.from_arrays(pa.array([6, 12], pa.int32()), pa.array(["complaint", "praise"]))
    table = pa.table({"text": [row[0] for row in rows], "label": ends})
    expected = [(row[0], "complaint" if n < 6 else "praise") for n, row in enumerate(rows)]
    yield File("labels run-end encoded", "a.arrow", arrow_of(table), expected)


def _damaged(make: Maker) -> Iterator[File]:
    """Binary files that are cut or have other bytes: refused, or read as they were where the bytes do not matter."""
    rows = make.rows()
    for file, content in {"a.parquet": parquet(rows), "a.arrow": arrow(rows), "b.arrow": arrow(rows, stream=True),
                          "a.xlsx": workbook(rows)}.items():  # fmt: skip
        for size in sorted({0, 1, 7, 12, *(make.chance.randrange(len(content)) for _ in range(6))}):
            yield File(f"{file} cut to {size}", file, content[:size], Refused(says=(file,)))
        yield File(f"{file} of zeros", file, bytes(len(content)), Refused(says=(file,)))
        yield File(f"{file} with text in it", file, csv(rows), Refused(says=(file,)))
        yield File(f"{file} as gzip", f"{file}.gz", gzip.compress(content), Refused(says=("gz",)))
        other = "a.csv"
        yield File(f"{file} named csv", other, content, Refused(says=(other,)))


def _workbooks(make: Maker) -> Iterator[File]:
    """What sheets may hold."""
    rows = make.rows()
    wanted = [tuple(row) for row in rows]
    yield File("a title above", "a.xlsx", workbook([["text", "label"], *rows], ("Tickets",)), wanted)
    yield File("empty rows between", "a.xlsx", workbook([row for one in rows for row in ([], one)]), wanted)
    two = workbook(rows, Other=[["text", "label"], ["a", "b"]])
    yield File("two sheets", "a.xlsx", two, Refused(says=("'Sheet'", "'Other'", "data.sheet")))
    yield File("two sheets, one said", "a.xlsx", two, wanted, {"sheet": "Sheet"})
    yield File("no such sheet", "a.xlsx", two, Refused(says=("'Sheet', 'Other'",)), {"sheet": "Third"})
    yield File("an empty sheet beside", "a.xlsx", workbook(rows, Other=[]), wanted)
    values: list[list[Any]] = [
        [1.5, 1],
        [2, 0],
        [True, 1],
        [0.1, 0],
        [date(2024, 1, 2), 1],
        [10**15 + 1, 0],
        [2**53 - 1, 1],
    ]
    shown = ["1.5", "2", "true", "0.1", "2024-01-02", "1000000000000001", "9007199254740991"]
    typed = [(text, str(row[1])) for text, row in zip(shown, values, strict=True)]
    yield File("numbers as shown", "a.xlsx", workbook(values), typed, clean=False)
    at = make.place()
    rows[at][1] = None
    yield File("empty label in a sheet", "a.xlsx", workbook(rows), Refused(at + 2, "label", ("empty",)))
    for name in ("xls", "ods", "xlsb", "xlsm"):
        yield File(f"text named {name}", f"a.{name}", csv(make.rows()), Refused(says=(f"a.{name}",)))
        yield File(f"a zip named {name}", f"a.{name}", _zip({"a.txt": b"abc"}), Refused(says=(f"a.{name}",)))
    rows[at][1] = "praise"
    bomb = _zip({"xl/worksheets/sheet1.xml": b"<c>" * 25_000_000})
    yield File("a workbook that expands", "a.xlsx", bomb, Refused(says=("100 times",)))
    yield File("a workbook named csv", "a.csv", workbook(rows), Refused(says=("workbook",)))


def _zip(parts: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return sink.getvalue()


def _tree(parts: dict[str, bytes]) -> Any:
    def make(path: Path) -> None:
        path.mkdir()
        for name, content in parts.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)

    return make


def _folders(make: Maker) -> Iterator[File]:
    """A folder with a subfolder for each class."""
    texts = {f"{kind}/{n}.txt": f"{make.text()}\n".encode() for kind in ("complaint", "praise") for n in range(6)}
    wanted = [(content.decode(), name.partition("/")[0]) for name, content in sorted(texts.items())]
    yield File("classes", "d", _tree(texts), wanted)
    yield File("classes, hidden files beside", "d", _tree({**texts, ".git/x": b"x", "praise/.DS_Store": b"\0"}), wanted)
    yield File(
        "classes, other files beside", "d", _tree({**texts, "README.md": b"x", "praise/a.png": b"\x89PNG"}), wanted
    )
    packed = {f"{name}.gz": gzip.compress(content) for name, content in texts.items()}
    yield File("classes, gzip", "d", _tree(packed), wanted)
    odd = {**texts, "praise/5.txt": "café\n".encode("latin-1")}
    yield File("classes, one in Windows-1252", "d", _tree(odd), [*wanted[:-1], ("café\n", "praise")])
    wrong = {name: "café".encode("latin-1") for name in texts}
    yield File("classes, all in Latin-1", "d", _tree(wrong), Refused(says=("data.encoding=", "praise/0.txt")))
    bad = {**texts, "praise/3.txt.gz": gzip.compress(b"x")[:-3]}
    yield File("classes, a cut gzip", "d", _tree(bad), Refused(says=("3.txt.gz",)))
    yield File(
        "classes, a long text", "d", _tree({**texts, "praise/9.txt": b"x" * 11_000_000}), Refused(says=("9.txt",))
    )
    yield File("an empty folder", "d", _tree({}), Refused(says=("subfolder",)))
    yield File("empty classes", "d", _tree({"a/x.png": b"", "b/y.png": b""}), Refused(says=("no text file",)))
    yield File("only files", "d", _tree({"a.csv": b"text,label\n", "b.csv": b""}), Refused(says=("'a.csv', 'b.csv'",)))
    splits = {f"{split}/{name}": content for split in ("train", "test") for name, content in texts.items()}
    yield File("splits of classes", "d", _tree(splits), wanted)

    def linked(path: Path) -> None:
        _tree(texts)(path)
        (path.parent / "secret.txt").write_text("secret")
        (path / "praise" / "link.txt").symlink_to(path.parent / "secret.txt")

    yield File("a link out of the folder", "d", linked, Refused(says=("link.txt",)))


def _no_examples(make: Maker) -> Iterator[File]:
    """What is no file of examples."""
    rows = csv(make.rows())
    starts = {
        "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "pdf": b"%PDF-1.7\n", "zip": _zip({"a.csv": rows}),
        "elf": b"\x7fELF\2\1\1\0",
        "sqlite": b"SQLite format 3\0", "bzip2": b"BZh91AY", "xz": b"\xfd7zXZ\0", "zeros": b"",
        "zstd": b"\x28\xb5\x2f\xfd",
        "office": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "pickle": b"\x80\x04\x95\0\0\0\0\0\0\0\0",
        "npy": b"\x93NUMPY\1\0",
    }  # fmt: skip
    for name, start in starts.items():
        junk = start + make.chance.randbytes(3000) if name != "zeros" else bytes(3000)
        for file in ("a.csv", "a.tsv", "a.jsonl", "a.json", "a.conll", "a.txt", "a.bin"):
            yield File(f"{name} named {file}", file, junk, Refused(says=(file,)))

    def unreadable(path: Path) -> None:
        path.symlink_to("/dev/zero")

    def listening(path: Path) -> None:
        here = os.open(".", os.O_RDONLY)
        os.chdir(path.parent)  # the name of a socket is short
        socket.socket(socket.AF_UNIX).bind(path.name)
        os.fchdir(here)

    yield File("a pipe", "a.csv", lambda path: os.mkfifo(path), Refused(says=("pipe",)))
    yield File("a device", "a.csv", unreadable, Refused(says=("device",)))
    yield File("a socket", "a.csv", listening, Refused(says=("socket",)))
    yield File("nothing", "a.csv", lambda path: None, Refused(says=("no such file",)))
    yield File("a loop of links", "a.csv", lambda path: path.symlink_to(path), Refused(says=("a.csv",)))
    yield File("a folder named csv", "a.csv", lambda path: path.mkdir(), Refused(says=("a.csv",)))
    yield File("no ending", "data", rows, Refused(says=("format",)))
    yield File("no ending, format said", "data", rows, [tuple(row) for row in _rows_of(rows)], {"format": "csv"})
    yield File("another ending", "a.doc", rows, Refused(says=("format",)))


def _rows_of(content: bytes) -> list[list[str]]:
    return [line.split(",") for line in content.decode().splitlines()[1:]]
