"""Tables that are wrong, or odd but right, in every format that holds tables: values, labels, structure, encodings."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator, Sequence
from typing import Any

from tests.campaigns.bad_file import TABLES, File, Refused, csv, jsonl, tsv, workbook

WORDS = ["the", "card", "has", "not", "arrived", "yet", "refund", "late", "parcel", "broken", "good", "help", "thanks"]
ODD_VALUES: dict[str, str] = {
    **{f"word {word}": word for word in ("NA", "None", "null", "nan", "NaN", "N/A", "true", "FALSE", "yes", "inf")},
    **{f"number {word}": word for word in ("007", "010", "1.0", "2.50", "1e5", "-0", "1_000", "0x1F", "1,5", "50%")},
    "23 digits": "12345678901234567890123", "date": "2024-01-02", "time": "22:30", "formula": "=1+1",
    "at": "@SUM(A1)", "plus": "+1", "minus": "-", "wide digits": "１２", "hash": "# not a remark",
    "percent": "%s %(x)s {0}", "outer spaces": "  two  ", "tab": "a\tb", "line end": "a\nb",
    "windows line end": "a\r\nb", "old line end": "a\rb", "quote": 'say "so"', "only a quote": '"',
    "two quotes": '""', "quote first": '"a" b', "comma": "a, b", "semicolons": "a; b;c", "bars": "a | b",
    "backslash": "C:\\new\\table", "json object": '{"a": [1.50, null]}', "json list": '["a", "b"]',
    "python list": "['a' 'b']", "fasttext": "__label__x a", "tag": "<b>&amp;</b>", "emoji": "👍🏽 so",
    "cjk": "日本語の文", "combining": "e\u0301 \u0041\u030a", "composed": "é Å", "arabic": "مرحبا",
    "line separator": "a\u2028b\u2029c", "next line": "a\u0085b", "no-break space": "a\u00a0b", "form feed": "a\x0cb",
    "zero width": "a\u200bb\u200d", "direction": "a\u202eb\u2066c", "mark inside": "a\ufeffb", "NUL": "a\0b and more",
    "control": "a\x01b\x1b[31mc and more", "delete": "a\x7fb", "c1": "a\x9bb", "replacement": "a\ufffdb",
    "escape": "_x0041_", "private use": "a\ue000b", "nonspeaking": "\u3164", "long": "word " * 60_000,
    "one long word": "x" * 300_000, "escaped u": "a\\u00e9b", "entity": "a&#65;b", "yaml": "!!python/none",
    "path": "/etc/passwd", "address": "http://a.b",
}  # fmt: skip
NOT_IN_LABELS = {"NUL", "long", "one long word", "nonspeaking", "json list", "python list", "json object"}
OPENPYXL_KEEPS_NOT = {"NUL", "control", "form feed", "old line end", "windows line end", "escape"}
LONGEST_CELL = 32_767
KINDS = ("complaint", "praise")


class Maker:
    """Rows with words and labels by chance, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def text(self) -> str:
        return " ".join(self.chance.choices(WORDS, k=self.chance.randint(4, 9))) + f" {self.chance.randint(0, 10**9)}"

    def rows(self, count: int = 12) -> list[list[Any]]:
        return [[self.text(), KINDS[number % 2]] for number in range(count)]

    def place(self, count: int = 12) -> int:
        """Of what is wrong: in one of three first, in one of three last files."""
        return self.chance.choice((0, self.chance.randrange(count), count - 1))


def files(seed: int) -> Iterator[File]:
    make = Maker(seed)
    for part in (_odd_texts, _odd_labels, _faults_in_rows, _headers, _dialects, _encodings):
        yield from part(make)


def _odd_texts(make: Maker) -> Iterator[File]:
    """Every odd value as a text, in every format that can hold it."""
    for (name, value), (file, write) in ((a, b) for a in ODD_VALUES.items() for b in TABLES.items()):
        if file == "a.xlsx" and (name in OPENPYXL_KEEPS_NOT or len(value) > LONGEST_CELL):
            continue
        rows = make.rows()
        rows[make.place()][0] = value
        yield File(f"text, {name}, {file}", file, write(rows), [tuple(row) for row in rows])


def _odd_labels(make: Maker) -> Iterator[File]:
    """Every odd value as a label, twice as each of the others, where the task is said."""
    for name, value in ODD_VALUES.items():
        for file in make.chance.sample(sorted(set(TABLES) - {"a.xlsx"}), 3):
            rows = make.rows()
            for at in make.chance.sample(range(12), 3):
                rows[at][1] = value
            if name == "NUL":
                first = 1 + min(at for at, row in enumerate(rows) if row[1] == value)
                wanted: Any = Refused(_line(file, first), "label", ("NUL",))
            elif name in NOT_IN_LABELS:
                continue
            else:
                wanted = [tuple(row) for row in rows]
            yield File(f"label, {name}, {file}", file, TABLES[file](rows), wanted, task="classification", clean=False)


def _line(file: str, row: int) -> int:
    """What the row, counted from 1, is called in a file without values of several lines."""
    return row if file in ("a.jsonl", "b.jsonl", "a.parquet", "a.arrow") else row + 1


def _faults_in_rows(make: Maker) -> Iterator[File]:
    """One row is wrong, first, last or between; its place and the column must be named."""
    for file, write in TABLES.items():
        for turn in range(3):
            at = (0, 11, make.chance.randrange(1, 11))[turn]
            line = _line(file, at + 1)

            def changed(column: int, value: Any, at: int = at) -> list[list[Any]]:
                rows = make.rows()
                rows[at][column] = value
                return rows

            name = f"{file}, row {at + 1}"
            yield File(f"empty label, {name}", file, write(changed(1, "")), Refused(line, "label", ("empty",)))
            yield File(f"blank label, {name}", file, write(changed(1, " \u00a0 ")), Refused(line, "label", ("empty",)))
            yield File(f"empty text, {name}", file, write(changed(0, "")), Refused(line, None, ("empty",)))
            yield File(f"skipped, {name}", file, write(skipped := changed(1, "")),
                       [tuple(row) for row in skipped if row[1]], {"unlabelled": "skip"})  # fmt: skip
            numbers = [[make.text(), f"{make.chance.randint(0, 99)}.{n}"] for n in range(12)]
            yield File(f"numbers, {name}", file, write(numbers), [tuple(row) for row in numbers], task="regression")
            numbers[at][1] = make.chance.choice(("many", "1.2.3", "nan", "inf", "--1", "1e999", "0x10"))
            wanted = Refused(line, "label", ("number",))
            yield File(f"no number, {name}", file, write(numbers), wanted, task="regression")
            ids = [[str(n), *row] for n, row in enumerate(make.rows())]
            ids[at][0] = ids[(at + 5) % 12][0]
            content = write(ids, ("key", "text", "label"))
            yield File(f"id twice, {name}", file, content, Refused(line, "key", ("unique",)), {"id": "key"})
            ids[at][0] = ""
            content = write(ids, ("key", "text", "label"))
            yield File(f"id empty, {name}", file, content, Refused(line, "key", ("empty",)), {"id": "key"})
            marks = [[make.text(), str(n % 2), str(n // 2 % 2)] for n in range(12)]
            marks[at][2] = make.chance.choice(("2", "perhaps", "-1", "0.5"))
            content = write(marks, ("text", "rude", "late"))
            yield File(
                f"neither 0 nor 1, {name}", file, content, Refused(line, "late", ("0", "1")), {"label": "rude,late"}
            )


def _headers(make: Maker) -> Iterator[File]:
    """What the first line may be."""
    rows, more = make.rows(), [["x", *row] for row in make.rows()]
    wanted = [tuple(row) for row in rows]
    for file, write in {"a.csv": csv, "a.tsv": tsv, "a.xlsx": workbook}.items():
        yield File(
            f"spaces around names, {file}",
            file,
            write(rows, (" text ", "label\t" if file == "a.csv" else "label ")),
            wanted,
        )
        yield File(f"upper case, {file}", file, write(rows, ("TEXT", "Label")), wanted)
        yield File(f"name twice, {file}", file, write(more, ("text", "text", "label")), Refused(1, "text"))
        yield File(
            f"name twice after trimming, {file}", file, write(more, ("text ", "text", "label")), Refused(1, "text")
        )
        yield File(f"no name, {file}", file, write(more, ("", "text", "label")), [tuple(row[1:]) for row in more])
        yield File(f"header only, {file}", file, write([]), Refused(says=("no rows",)))
        yield File(f"no such text, {file}", file, write(rows), Refused(says=("txt", "text")), {"text": "txt"})
        yield File(f"no such label, {file}", file, write(rows), Refused(says=("labl", "label")), {"label": "labl"})
        yield File(f"unknown names, {file}", file, write(more, ("a", "b", "c")), Refused(says=("'a', 'b', 'c'",)))
        yield File(f"another order, {file}", file, write([row[::-1] for row in rows], ("label", "text")), wanted)
        yield File(
            f"others beside, {file}", file, write(more, ("split_no", "text", "label")), [tuple(row[1:]) for row in more]
        )
    for file, write in TABLES.items():
        pairs = [[f"first {n}", f"second {n}", KINDS[n % 2]] for n in range(12)]
        content = write(pairs, ("text", "text_pair", "label"))
        yield File(f"pairs, {file}", file, content, [tuple(row) for row in pairs])
        renamed = write(rows, ("Ticket no. 1", "Art / Typ"))
        settings = {"text": "Ticket no. 1", "label": "Art / Typ"}
        yield File(f"odd names that are said, {file}", file, renamed, wanted, settings)


def _dialects(make: Maker) -> Iterator[File]:
    """Separators, quotes, line ends, rows of other lengths, and blank lines in delimited files."""
    for end, file in ((e, f) for e in ("\n", "\r\n", "\r") for f in ("a.csv", "a.tsv")):
        delimiter, shown = ("," if file == "a.csv" else "\t"), f"{end!r}, {file}"
        for turn in range(3):
            rows = make.rows()
            at = (0, 11, make.chance.randrange(1, 11))[turn]
            whole = csv(rows, delimiter=delimiter, end=end).decode()
            lines = whole.split(end)
            yield File(f"line ends {shown} {turn}", file, whole.encode(), [tuple(row) for row in rows])
            for name, line in {
                "short": lines[at + 1].split(delimiter)[0],
                "long": f"{lines[at + 1]}{delimiter}more",
            }.items():
                content = end.join([*lines[: at + 1], line, *lines[at + 2 :]])
                says = ("'label'",) if name == "short" else ("'more'",)
                yield File(f"{name} row {shown} {turn}", file, content.encode(), Refused(at + 2, None, says))
            late = [["two" + end + "lines", "praise"], *rows[1:]]
            if at:
                late_lines = csv(late, delimiter=delimiter, end=end).decode().split(end)
                late_lines[at + 2] = late_lines[at + 2].split(delimiter)[0]
                content = end.join(late_lines)
                yield File(
                    f"short row below two lines {shown} {turn}",
                    file,
                    content.encode(),
                    Refused(at + 3, None, ("'label'",)),
                )
            blank = end.join([*lines[: at + 1], "", *lines[at + 1 :]])
            yield File(f"blank line {shown} {turn}", file, blank.encode(), [tuple(row) for row in rows])
            opened = end.join([*lines[: at + 1], '"' + lines[at + 1].replace(" ", '""', 1), *lines[at + 2 :]])
            if file == "a.csv":
                yield File(f"quote not closed {shown} {turn}", file, opened.encode(), Refused(at + 2, None, ("quote",)))
    for delimiter, settings in (
        (";", {}),
        ("|", {}),
        ("\t", {}),
        ("~", {"delimiter": "~"}),
        ("\x1f", {"delimiter": "\x1f"}),
    ):
        rows = make.rows()
        rows[3][0] = f"with {delimiter} in it"
        yield File(
            f"separator {delimiter!r}", "a.csv", csv(rows, delimiter=delimiter), [tuple(row) for row in rows], settings
        )
        yield File(f"separator {delimiter!r}, gzip", "a.csv.gz", gzip.compress(csv(rows, delimiter=delimiter)),
                   [tuple(row) for row in rows], settings)  # fmt: skip


def _encodings(make: Maker) -> Iterator[File]:
    """Files in an encoding that is said, not said, or wrong from some row on."""
    codecs = (
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "utf-32",
        "cp1252",
        "latin-1",
        "shift_jis",
        "gb18030",
        "koi8-r",
        "cp037",
    )
    for codec in codecs:
        odd = {"shift_jis": "日本語", "gb18030": "中文", "koi8-r": "Привет"}.get(codec, "café für")
        rows = [[f"{row[0]} {odd}", row[1]] for row in make.rows()]
        wanted = [tuple(row) for row in rows]
        for file, write in {"a.csv": csv, "a.jsonl": jsonl, "a.tsv": tsv, "a.json": _plain_array}.items():
            content = write(rows).decode().encode(codec)
            yield File(f"{codec}, said, {file}", file, content, wanted, {"encoding": codec})
            if codec != "cp037" or file == "a.csv":
                yield File(f"{codec}, not said, {file}", file, content, Refused(says=(file,)))
    for file, write in {"a.csv": csv, "a.tsv": tsv, "a.jsonl": jsonl, "a.json": _plain_array}.items():
        rows = make.rows()
        at = make.place()
        rows[at][0] += " café"
        broken = write(rows).replace("é".encode(), b"\xe9")
        line = _line(file, at + 1)
        yield File(f"one byte of Latin-1, {file}", file, broken, Refused(line, None, ("byte", "0xe9", "encoding=")))
        yield File(
            f"cut in a character, {file}", file, write(rows)[: write(rows).index("é".encode()) + 1], Refused(line)
        )
        yield File(f"half a surrogate, {file}", file, write(rows).replace("é".encode(), b"\xed\xa0\x80"), Refused(line))
        good = write(rows)
        yield File(f"with a mark, {file}", file, b"\xef\xbb\xbf" + good, [tuple(row) for row in rows])
        packed, plain = gzip.compress(good), [tuple(row) for row in rows]
        yield File(f"gzip, {file}", f"{file}.gz", packed, plain)
        yield File(
            f"gzip in two parts, {file}", f"{file}.gz", gzip.compress(good[:99]) + gzip.compress(good[99:]), plain
        )
        yield File(f"gzip, {file}, upper case", f"{file.upper()}.GZ", packed, plain)
        yield File(f"gzip cut, {file}", f"{file}.gz", packed[:-5], Refused(says=("gzip",)))
        yield File(
            f"gzip, wrong sum, {file}", f"{file}.gz", packed[:-8] + b"\0\0\0\0" + packed[-4:], Refused(says=("gzip",))
        )
        yield File(f"gzip, flipped, {file}", f"{file}.gz", _flipped(packed, make), Refused(says=(f"{file}.gz",)))
        yield File(f"gzip twice, {file}", f"{file}.gz", gzip.compress(packed), Refused(says=(f"{file}.gz",)))
        yield File(f"gzip of nothing, {file}", f"{file}.gz", gzip.compress(b""), Refused(says=("no rows",)))
        yield File(f"gzip not named so, {file}", file, packed, Refused(says=("gzip",)))
        bomb = gzip.compress(good + (b" " * 10**6 + b"\n") * 70, 1)
        yield File(f"gzip bomb, {file}", f"{file}.gz", bomb, Refused(says=("100 times",)))


def _plain_array(rows: Sequence[Sequence[Any]], names: Sequence[str] = ("text", "label")) -> bytes:
    lines = jsonl(rows, names).decode().splitlines()
    return ("[\n" + ",\n".join(lines) + "\n]").encode()


def _flipped(data: bytes, make: Maker) -> bytes:
    at = make.chance.randrange(len(data) // 3, len(data) - 12)
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
