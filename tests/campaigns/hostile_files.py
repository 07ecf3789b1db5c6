"""Hostile text files: lines, quotes, columns, digits, brackets, depth, compression."""

from __future__ import annotations

import gzip
import json
import os
import struct

from tests.campaigns.hostile import DATA, EITHER, MANY, USAGE, Case, csv, holes, lines, of_each, said, text, zipped

SPAN = {"start": 0, "end": 4, "label": "A"}
NEVER_OVER = {
    "data.csv": "text,label\na",
    "data.tsv": "text\tlabel\na",
    "data.jsonl": '{"text": "a',
    "data.json": '[{"text": "a',
    "data.conll": "word O\nb",
    "data.txt": "__label__a b",
    "data.arrow": "ARROW1",
    "data.parquet": "PAR1",
    "data.xlsx": "PK\x03\x04",
}
LINES = [
    *of_each({f"a line of 3 GB in {name}": holes(name, head) for name, head in NEVER_OVER.items()}),
    Case("a line of 3 GB to predict", holes("data.txt", "some text " * 9999), command="predict"),
    Case("a line of 3 GB as standard input", holes("data.txt", "some text " * 9999), command="predict", stdin=True),
    Case("standard input without end", said("/dev/zero"), command="predict", stdin=True),
    *of_each(
        {
            "a line of 100 MB": text("data.csv", lambda: "text,label\n" + "a" * 10**8),
            "a value of 60 MB": text("data.csv", lambda: f"text,label\n{'a' * 6 * 10**7},b\n" + "a,b\n" * 50),
            "a quote that is never closed": text("data.csv", lambda: 'text,label\n"' + "a b c,d\n" * 5 * 10**6),
            "quotes alone": text("data.csv", lambda: "text,label\n" + '"' * 3 * 10**6),
            "quotes and separators": text("data.csv", lambda: "text,label\n" + '",' * 10**6),
            "quotes in every row": text("data.tsv", lambda: "text\tlabel\n" + '"a" b" "\t"\n' * MANY),
            "100,000 columns": text("data.csv", lambda: ",".join(f"c{n}" for n in range(MANY)) + "\n" + "," * MANY),
            "100,000 columns of one name": text("data.csv", lambda: "text," * MANY + "label\na\n"),
            "100,000 columns without a name": text("data.csv", lambda: "text,label" + "," * MANY + "\na,b\n"),
            "9,999 columns": text(
                "data.csv", lambda: ",".join(f"c{n}" for n in range(9999)) + "\n" + ("," * 9998 + "\n") * 500
            ),
            "the header in every row": text("data.csv", lambda: "text,label\n" * 10**6),
            "ten million empty lines": text("data.csv", lambda: "text,label\n" + "\n" * 10**7),
            "ten million line ends of a Mac": text("data.csv", lambda: "text,label\n" + "\r" * 10**7),
            "a million separators": text("data.csv", lambda: "text,label\n" + "," * 10**6),
            "rows of all widths": text(
                "data.csv", lambda: "text,label\n" + "".join("a," * (n % 999) + "\n" for n in range(10**4))
            ),
            "NUL in a label": text("data.csv", csv("a\0b")),
            "cut UTF-8": text("data.csv", csv("a").encode() + b"\xe2\x82"),
            "overlong UTF-8": text("data.csv", csv("a").encode() + b"\xc0\xaf,b\n"),
            "surrogates in UTF-8": text("data.csv", csv("\ud800")),
        }
    ),
    Case("a NUL in a header", text("data.csv", csv("a", "text,la\0bel")), EITHER),
    Case(
        "UTF-16 with half a character",
        text("data.csv", csv("a").encode("utf-16") + b"\x00\xd8"),
        arguments=("--encoding", "utf-16"),
    ),
    Case(
        "UTF-32 beyond Unicode",
        text("data.csv", csv("a").encode("utf-32") + struct.pack("<I", 2**31)),
        arguments=("--encoding", "utf-32"),
    ),
    Case("a codec that is none", text("data.csv", csv("a")), USAGE, arguments=("--encoding", "zip")),
    Case("separated by an escape", text("data.csv", "sep=\x1b\n" + csv("a")), EITHER),
]
CELLS = {
    "numbers of 32,000 digits": csv("9" * 32_000),
    "a label of 32,000 digits and x": csv("1" * 32_000 + "x"),
    "labels of digits and a letter": csv("1" * 32_000 + "x").replace(",a\n", f",{'2' * MANY}y\n"),
    "numbers with 100,000 decimals": csv("1." + "0" * MANY),
    "groups of three without end": csv("1" + "'000" * MANY + "x"),
    "numbers beyond all": csv("1e999"),
    "white space without end": csv(" " * MANY + "x" + " " * MANY),
    "brackets without end": csv("[" * MANY),
    "brackets and quotes": csv('"' + "[('" * MANY + '"'),
    "a list of 100,000": csv('"[' + "'a', " * MANY + "'b']\""),
    "100,000 separators in a label": csv("a|b;" * MANY),
    "100,000 labels in a cell": csv("|".join(map(str, range(MANY)))),
    "array( without end": csv('"array([' + " " * MANY + '"'),
    "a date without end": csv("1-1-" + "1" * MANY),
    "a sentence as a name": csv("a", "text " * MANY + ",label"),
    "a word as a name": csv("a", "text" * MANY + ",label"),
    "Chinese without end": csv("\u4e00" * MANY + "x"),
}
OTHERS = [
    *of_each({name: text("data.csv", content) for name, content in CELLS.items()}, EITHER),
    Case(
        "a regression of 32,000 digits", text("data.csv", csv("9" * 32_000)), EITHER, arguments=("--task", "regression")
    ),
    Case(
        "a list of 100,000 as several labels",
        text("data.csv", csv('"[' + "'a', " * MANY + "'b']\"")),
        EITHER,
        arguments=("--task", "multilabel"),
    ),
    *of_each(
        {
            "a class a row": text(
                "data.csv", lambda: "text,label\n" + "".join(f"text {n},c{n}\n" for n in range(MANY))
            ),
            "long classes a row": text(
                "data.csv", lambda: "text,label\n" + "".join(f"text {n},{n}{'c' * 500}\n" for n in range(20_000))
            ),
            "one sentence of a million tokens": text("data.conll", lambda: "word O\n" * 10**6),
            "a token of 10 MB": text("data.conll", lambda: "a" * 10**7 + " O\n\n" + "word B-A\n\n" * 50),
            "tags without end": text("data.conll", "a B-" + "B-" * MANY + "\n" + "b O\n\n" * 50),
            "100,000 labels in fastText": text("data.txt", "__label__a " * MANY + "text\n" + "__label__b text\n" * 50),
            "marks without end": text("data.jsonl", lambda: lines(text="a\u0300" * MANY, spans=[SPAN | {"end": 1}])),
            "an address without end": text("data.jsonl", lambda: lines(data={"text": "/data/upload/" + "a " * MANY})),
        },
        EITHER,
    ),
]
COMPRESSED = [
    *of_each(
        {
            "gzip of zeros": zipped("data.csv.gz", lambda: bytes(2 * 10**8)),
            "gzip of one line": zipped("data.csv.gz", lambda: b"text,label\n" + b"a" * 2 * 10**8),
            "gzip of short lines": zipped("data.jsonl.gz", lambda: b'{"text":"a","label":"b"}\n' * 4 * 10**6),
            "gzip of a JSON array": zipped("data.json.gz", lambda: b"[" + b"[]," * 2 * 10**7 + b"[]]"),
            "gzip in gzip": zipped("data.csv.gz", lambda: gzip.compress(csv("a").encode())),
            "gzip that was cut": text("data.csv.gz", lambda: gzip.compress(os.urandom(10**5))[:-99]),
            "gzip with a rest": text("data.csv.gz", lambda: gzip.compress(csv("a").encode()) + b"rest"),
            "100,000 parts of gzip": text("data.csv.gz", lambda: gzip.compress(b"a,b\n") * MANY),
        }
    ),
    Case("gzip to predict", zipped("data.csv.gz", lambda: b"text\n" + b"a b c\n" * 2 * 10**7), command="predict"),
]
JSON = [
    *of_each(
        {
            "brackets a million deep": text("data.json", "[" * 10**6),
            "objects 100,000 deep": text("data.jsonl", '{"text":' * MANY + "\n"),
            "lists 900 deep": text("data.jsonl", '{"text": "a", "label": ' + "[" * 900 + "]" * 900 + "}\n"),
            "100,000 keys": text("data.jsonl", lambda: json.dumps({f"k{n}": n for n in range(MANY)}) + "\n"),
            "100,000 times one key": text("data.jsonl", lambda: '{"text": "a"' + ', "k": 1' * MANY + "}\n"),
            "100,000 keys, the last twice": text(
                "data.jsonl", lambda: "{" + "".join(f'"k{n}": 1, ' for n in range(MANY)) + '"z": 1, "z": 2}\n'
            ),
            "other keys in each row": text(
                "data.jsonl", lambda: "".join(f'{{"text": "a", "label": "b", "k{n}": 1}}\n' for n in range(9_900))
            ),
            "other keys in each of many rows": text(
                "data.jsonl", lambda: "".join(f'{{"text": "a", "k{n % 9000}": 1}}\n' for n in range(MANY))
            ),
            "NaN": text("data.jsonl", lines(label=0).replace('"label": 0', '"label": NaN')),
            "infinity": text("data.jsonl", lines(label=0).replace('"label": 0', '"label": -Infinity')),
            "half a character": text("data.jsonl", lines(label="\ud83d")),
            "half a character in a key": text("data.jsonl", lines(**{"\ud83d": 1})),
            "text after an array": text("data.json", '[{"text": "a", "label": "b"}] {"text": "c"}'),
            "an array that was cut": text("data.json", '[{"text": "a", "label": "b"}, {"te'),
            "two million lists": text("data.json", lambda: "[" + "[]," * 2 * 10**6 + "[]]"),
            "thirty million numbers in a row": text("data.jsonl", lambda: '{"text": [' + "1," * 3 * 10**7 + "1]}\n"),
            "thirty million numbers in an array": text("data.json", lambda: '[{"a": [' + "1," * 3 * 10**7 + "1]}]"),
            "thirty million numbers in an object": text("data.json", lambda: '{"data": [[' + "1," * 3 * 10**7 + "1]]}"),
            "two million nulls": text("data.json", lambda: "[" + "null," * 2 * 10**6 + "null]"),
            "a million objects": text("data.json", lambda: "[" + "{}," * 10**6 + "{}]"),
            "spaces without end": text("data.json", lambda: " " * 5 * 10**7 + "[]"),
            "SQuAD without end": text("data.json", '{"data": [{"paragraphs": ' + '[{"context": "a", "qas": ' * MANY),
            "spans that quote another place": text(
                "data.jsonl", lambda: lines(text="ab" * MANY, spans=[SPAN | {"text": "a" * 50_000}])
            ),
            "Label Studio of other kinds": text(
                "data.json",
                json.dumps([{"data": {"text": 1}, "annotations": [{"result": [{"type": "labels", "value": 5}]}]}] * 9),
            ),
        }
    ),
    *of_each(
        {
            "a number of 100,000 digits": text(
                "data.jsonl", lines(label=0).replace('"label": 0', '"label": ' + "9" * MANY)
            ),
            "offsets of 10,000 digits": text(
                "data.jsonl", lambda: lines(spans=[SPAN]).replace('"end": 4', f'"end": {"9" * 10_000}')
            ),
            "NUL in a key": text("data.jsonl", lines(**{"a\0": 1})),
            "a million escapes": text(
                "data.jsonl", lambda: '{"text": "' + "\\u0041" * 10**6 + '", "label": "a"}\n' * 2 + lines()
            ),
            "100,000 spans": text(
                "data.jsonl", lambda: lines(spans=[SPAN] * MANY).split("\n")[0] + "\n" + lines(spans=[])
            ),
        },
        EITHER,
    ),
]
TWICE = '{"text": "a", "text": "b"}\n'
PREDICTED = {
    "a key twice": text("data.jsonl", TWICE),
    "objects 100,000 deep": text("data.jsonl", '{"text":' * MANY + "\n"),
    "100,000 keys": text("data.jsonl", lambda: json.dumps({f"k{n}": n for n in range(MANY)}) + "\n"),
}
CASES = [
    *LINES,
    *OTHERS,
    *COMPRESSED,
    *JSON,
    *of_each(PREDICTED, DATA, "to predict: ", command="predict"),
    *of_each(PREDICTED, DATA, "standard input: ", command="predict", stdin=True),
]
