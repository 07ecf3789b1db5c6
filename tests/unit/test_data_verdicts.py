"""One row a file: its bytes, and either exactly what is read or what the error says; its name says what is odd."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.config.schema import DataSettings
from tunesmith.data.reading import load_records
from tunesmith.data.shapes import SHAPES
from tunesmith.errors import DataError, TunesmithError, UsageError

Verdict = list[tuple[str, Any]] | set[str]  # (text, label) of every row, or what the error contains


def csv_of(*labels: str, text: str = "some text") -> bytes:
    return "\n".join(["text,label", *(f"{text} {i},{label}" for i, label in enumerate(labels))]).encode()


def rows_of(*labels: Any, text: str = "some text") -> list[tuple[str, Any]]:
    return [(f"{text} {i}", label) for i, label in enumerate(labels)]


def jsonl_of(*labels: Any) -> bytes:
    return "\n".join(json.dumps({"text": f"some text {i}", "label": label}) for i, label in enumerate(labels)).encode()


GOOD = b"text,label\ngood film,pos\nbad film,neg\n"
READ = [("good film", "pos"), ("bad film", "neg")]
BOMB = gzip.compress(GOOD + (b" " * 10**6 + b"\n") * 70, 1)
LATIN = "text,label\ncafé,pos\nthé,neg\n"
ARRAY = b'[{"text": "good film", "label": "pos"},\n {"text": "bad film", "label": "neg"}]'
LINES = b'{"text": "good film", "label": "pos"}\n{"text": "bad film", "label": "neg"}\n'
FAST = b"__label__pos good film\n__label__neg bad film\n"

ENCODINGS: list[tuple[str, str, bytes, dict[str, Any], Verdict]] = [
    ("plain", "a.csv", GOOD, {}, READ),
    ("no last line end", "a.csv", GOOD.rstrip(), {}, READ),
    ("windows line ends", "a.csv", GOOD.replace(b"\n", b"\r\n"), {}, READ),
    ("old mac line ends", "a.csv", GOOD.replace(b"\n", b"\r"), {}, READ),
    ("mixed line ends", "a.csv", b"text,label\r\ngood film,pos\nbad film,neg\r", {}, READ),
    ("byte order mark", "a.csv", b"\xef\xbb\xbf" + GOOD, {}, READ),
    ("utf-16, not said", "a.csv", LATIN.encode("utf-16"), {}, {"a.csv", "line 1, byte 0", "data.encoding=utf-16"}),
    ("utf-16, said", "a.csv", LATIN.encode("utf-16"), {"encoding": "utf-16"}, [("café", "pos"), ("thé", "neg")]),
    ("utf-16 without mark", "a.csv", GOOD.decode().encode("utf-16-le"), {}, {"line 1", "data.encoding=utf-16-le"}),
    ("utf-16 with a mark, said with its order", "a.csv", b"\xff\xfe" + GOOD.decode().encode("utf-16-le"),
     {"encoding": "utf-16-le"}, READ),
    ("utf-16 big endian without mark", "a.csv", GOOD.decode().encode("utf-16-be"), {}, {"data.encoding=utf-16-be"}),
    ("utf-16 said, no mark", "a.csv", GOOD, {"encoding": "utf-16"}, {"a.csv", "utf-16"}),
    ("utf-32, not said", "a.csv", GOOD.decode().encode("utf-32"), {}, {"data.encoding=utf-32"}),
    ("latin-1, not said", "a.csv", LATIN.encode("latin-1"), {}, {"line 2, byte 14", "0xe9", "data.encoding=cp1252"}),
    ("latin-1, said", "a.csv", LATIN.encode("latin-1"), {"encoding": "latin-1"}, [("café", "pos"), ("thé", "neg")]),
    ("latin-1 after a mark", "a.csv", b"\xef\xbb\xbf" + LATIN.encode("latin-1"), {},
     {"line 2, byte 17", "data.encoding="}),
    ("not cp1252 either", "a.csv", GOOD + b"x\x81\xff,pos", {}, {"line 4", "data.encoding=latin-1"}),
    ("utf-8 read as ascii", "a.csv", LATIN.encode(), {"encoding": "ascii"}, {"line 2", "data.encoding=utf-8"}),
    ("utf-8 cut in a character", "a.csv", LATIN.encode()[:15], {}, {"line 2, byte 14", "data.encoding"}),
    ("surrogate bytes", "a.csv", b"text,label\nx \xed\xa0\x80,pos\n", {}, {"line 2, byte 13", "not UTF-8"}),
    ("unknown encoding", "a.csv", GOOD, {"encoding": "utf-9"}, {"data.encoding", "utf-9"}),
    ("encoding that makes no text", "a.csv", GOOD, {"encoding": "zip"}, {"data.encoding", "zip"}),
    ("gzip named so", "a.csv.gz", gzip.compress(GOOD), {}, READ),
    ("gzip not named so", "a.csv", gzip.compress(GOOD), {}, {"gzip", "rename it to a.csv.gz"}),
    ("named gzip, is not", "a.csv.gz", GOOD, {}, {"not a complete gzip file"}),
    ("gzip cut", "a.csv.gz", gzip.compress(GOOD)[:-9], {}, {"not a complete gzip file", "again"}),
    ("gzip damaged", "a.csv.gz", gzip.compress(GOOD)[:15] + b"\xff" * 30, {}, {"not a complete gzip file"}),
    ("gzip bomb", "a.csv.gz", BOMB, {}, {"expands to more than 100 times"}),
    ("gzip of json lines", "a.jsonl.gz", gzip.compress(LINES), {}, READ),
    ("binary junk", "a.csv", bytes(range(256)) * 20, {}, {"not a text file"}),
    ("control characters", "a.csv", bytes([1, 2, 3, 4, 5]) * 100, {}, {"not a text file"}),
    ("png", "a.csv", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(20), {}, {"not a text file"}),
    ("zip", "a.csv", b"PK\x03\x04rest", {}, {"zip archive", "CSV"}),
    ("pdf", "a.csv", b"%PDF-1.7 rest", {}, {"PDF"}),
    ("parquet named csv", "a.csv", b"PAR1rest", {}, {"data.format=parquet"}),
    ("emoji", "a.csv", "text,label\n👍🏽,pos\n日本語,neg".encode(), {}, [("👍🏽", "pos"), ("日本語", "neg")]),
    ("line separators are no line ends", "a.jsonl", json.dumps({"text": "a\u2028b\u0085c", "label": "x"},
     ensure_ascii=False).encode(), {}, [("a\u2028b\u0085c", "x")]),
]  # fmt: skip

STRUCTURE: list[tuple[str, str, bytes, dict[str, Any], Verdict]] = [
    ("quoted line break", "a.csv", b'text,label\n"good\nfilm",pos\nbad film,neg\n', {},
     [("good\nfilm", "pos"), READ[1]]),
    ("quoted windows line break", "a.csv", b'text,label\r\n"a\r\nb",pos\r\n', {}, [("a\r\nb", "pos")]),
    ("quoted comma and quote", "a.csv", b'text,label\n"a, ""b""",pos\n', {}, [('a, "b"', "pos")]),
    ("quote inside a value", "a.csv", b'text,label\n5" screen,pos\n', {}, [('5" screen', "pos")]),
    ("blank lines", "a.csv", b"text,label\n\ngood film,pos\n\n\nbad film,neg\n\n", {}, READ),
    ("the header again", "a.csv", GOOD + b"text,label\nmore,neg\n", {}, [*READ, ("more", "neg")]),
    ("no header", "a.csv", b"I did not like it,neg\ngood film,pos\nbad,neg\n", {},
     {"no label column", "the first line looks like an example", "such as text,label"}),
    ("no header, labels said", "a.csv", b"so so,neg\nThis is good.,pos\nbad,neg\n", {"label": "neg"}, [
        ("This is good.", "pos"), ("bad", "neg")]),
    ("no header, a sentence is the only text left", "a.csv", b"A very good film.,label\nbad film,neg\n", {},
     {"no text column but 'A very good film.'", "looks like an example"}),
    ("short row", "a.csv", GOOD + b"only text\n", {}, {"line 4", "1 value for 2 columns", "'label' missing"}),
    ("long row", "a.csv", GOOD + b"one, two,pos\n", {}, {"line 4", "3 values for 2 columns", "quotes", "'pos'"}),
    ("several ragged rows", "a.csv", b"text,label\na\nb,pos\nc,d,e\n", {}, {"line 2", "line 4"}),
    ("row after a quoted line break", "a.csv", b'text,label\n"a\nb",pos\nc\n', {}, {"line 4"}),
    ("open quote", "a.csv", b'text,label\ngood,pos\n"bad film,neg\nmore,pos\n', {},
     {"line 3", "quote that opens here"}),
    ("open quote late in a row", "a.csv", b'text,label\n"a\nb","c\nd,neg\n', {}, {"line 3", "quote that opens here"}),
    ("quote closed too soon", "a.csv", b'text,label\n"bad" film,neg\n', {},
     {"line 2", "quote that opens here", "twice"}),
    ("duplicate header", "a.csv", b"text,label,text\na,b,c\n", {}, {"line 1", "'text' more than once", "rename"}),
    ("duplicate after trimming", "a.csv", b"text,label, text\na,b,c\n", {}, {"line 1", "'text' more than once"}),
    ("spaced header", "a.csv", b"text, label\na,pos\n", {}, [("a", "pos")]),
    ("nameless column", "a.csv", b",text,label\n0,a,pos\n", {}, [("a", "pos")]),
    ("semicolons", "a.csv", b"text;label\na, b;pos\n", {}, [("a, b", "pos")]),
    ("semicolons, not in each row", "a.csv", b"text;label\na;pos\nb\nc;neg\n", {},
     {"line 1", "looks like ';'", "data.delimiter=';'"}),
    ("semicolons, said by Excel", "a.csv", b"sep=;\r\ntext;label\r\na;pos\r\n", {}, [("a", "pos")]),
    ("a fault after what Excel says", "a.csv", b"\xef\xbb\xbfsep=;\ntext;label\na;pos\nb\n", {}, {"line 4", "1 value"}),
    ("semicolons, said", "a.csv", b"text;label\na;pos\n", {"delimiter": ";"}, [("a", "pos")]),
    ("tabs in csv", "a.csv", b"text\tlabel\na\tpos\n", {}, [("a", "pos")]),
    ("tabs, said", "a.csv", b"text\tlabel\na\tpos\n", {"delimiter": "tab"}, [("a", "pos")]),
    ("bars", "a.csv", b"text|label\na|pos\n", {}, [("a", "pos")]),
    ("tsv", "a.tsv", b"text\tlabel\na, b\tpos\n", {}, [("a, b", "pos")]),
    ("commas in tsv", "a.tsv", GOOD, {}, READ),
    ("separators after the last value", "a.csv", b"text,label\na,pos,\nb,neg,,\n", {}, [("a", "pos"), ("b", "neg")]),
    ("separators after every last value", "a.csv", b"text,label,\na,pos,\n", {}, [("a", "pos")]),
    ("quotes as text in tsv", "a.tsv", b'text\tlabel\n"Good" film\tpos\n"bad\tneg\nso "so"\tpos\n', {},
     [('"Good" film', "pos"), ('"bad', "neg"), ('so "so"', "pos")]),
    ("one quote as text in tsv", "a.tsv", b'label\ttext\npos\t"good\nneg\tbad\n', {},
     [('"good', "pos"), ("bad", "neg")]),
    ("a typing slip in a quoted tsv", "a.tsv", b'text\tlabel\n"a ""b"""\tpos\n"c" d\tneg\n', {},
     {"line 3", "not closed properly", "data.quoting=off"}),
    ("lines merged by quotes in tsv", "a.tsv", b'text\tlabel\n"A joke\tneg\nof a shop"\tpos\nb\tneg\n', {},
     {"line 2", "2 rows where quotes enclose values, 3 where they are text", "data.quoting=on or data.quoting=off"}),
    ("lines merged by quotes in csv", "a.csv", b'label,text\n1,"x\n2,-\n3,y"\n', {},
     {"line 2", "1 row where", "data.quoting=on or data.quoting=off"}),
    ("lines merged by quotes, off", "a.tsv", b'text\tlabel\n"A joke\tneg\nof a shop"\tpos\n', {"quoting": "off"},
     [('"A joke', "neg"), ('of a shop"', "pos")]),
    ("lines merged by quotes, on", "a.tsv", b'text\tlabel\n"A joke\tneg\nof a shop"\tpos\n', {"quoting": "on"},
     [("A joke\tneg\nof a shop", "pos")]),
    ("quotes as text in csv", "a.csv", b'text,label\n"Good" film,pos\nbad film,neg\n', {},
     {"line 2", "not closed properly", "data.quoting=off"}),
    ("quotes as text in csv, off", "a.csv", b'text,label\n"Good" film,pos\n', {"quoting": "off"},
     [('"Good" film', "pos")]),
    ("a separator in text with quotes off", "a.csv", b'text,label\n"a, b",pos\n', {"quoting": "off"},
     {"line 2", "3 values", "do not give data.quoting=off"}),
    ("several lines with separators in a value", "a.csv", b'text,label\n"Dear all, hi\nbye",pos\n"b, c",neg\n', {},
     [("Dear all, hi\nbye", "pos"), ("b, c", "neg")]),
    ("delimiter of two characters", "a.csv", GOOD, {"delimiter": "::"}, {"data.delimiter", "one character"}),
    ("quote as delimiter", "a.csv", GOOD, {"delimiter": '"'}, {"data.delimiter"}),
    ("header only", "a.csv", b"text,label\n", {}, {"a.csv", "no rows"}),
    ("empty file", "a.csv", b"", {}, {"a.csv", "no rows"}),
    ("only a mark", "a.csv", b"\xef\xbb\xbf", {}, {"no rows"}),
    ("only line ends", "a.csv", b"\n\n\n", {}, {"no rows"}),
    ("too many columns", "a.csv", ",".join(f"c{i}" for i in range(20_000)).encode() + b"\n" + b"," * 19_999, {},
     {"more than 10,000 columns"}),
    ("no known column", "a.csv", b"one,two,three\na,b,c\n", {}, {"data.text", "data.label", "'one', 'two', 'three'"}),
    ("misspelt flag", "a.csv", GOOD, {"text": "txet"}, {"data.text", "'txet'", "did you mean 'text'?"}),
    ("misspelt label flag", "a.csv", GOOD, {"label": "lable"}, {"data.label", "did you mean 'label'?"}),
    ("one column left", "a.csv", b"ticket,label\na,pos\n", {}, [("a", "pos")]),
    ("upper case names", "a.csv", b"Text,LABEL\na,pos\n", {}, [("a", "pos")]),
    ("unknown ending", "a.dat", GOOD, {}, {"'.dat'", "data.format"}),
    ("unknown ending, format said", "a.dat", GOOD, {"format": "csv"}, READ),
    ("unknown format", "a.csv", GOOD, {"format": "cvs"}, {"'cvs'", "'csv'"}),
    ("folder format on a file", "a.csv", GOOD, {"format": "folder"}, {"needs a folder", "data.format"}),
    ("0/1 columns, not said", "a.csv", b"text,toxic,rude\na,0,1\nb,1,0\n", {}, {"data.label=toxic,rude"}),
]  # fmt: skip

VALUES: list[tuple[str, str, bytes, dict[str, Any], Verdict]] = [
    ("null words as labels", "a.csv", csv_of("NA", "None", "null", "nan"), {}, rows_of("NA", "None", "null", "nan")),
    ("null words as texts", "a.csv", b"text,label\nnull,a\nNA,b\nnan,a\n", {},
     [("null", "a"), ("NA", "b"), ("nan", "a")]),
    ("leading zeros", "a.csv", csv_of("007", "010"), {}, rows_of("007", "010")),
    ("bool words", "a.csv", csv_of("true", "false"), {}, rows_of("true", "false")),
    ("numbers as texts", "a.csv", b"text,label\n1.0,a\n2.50,b\n1e5,a", {}, [("1.0", "a"), ("2.50", "b"), ("1e5", "a")]),
    ("23 digits", "a.csv", b"text,label\n12345678901234567890123,a", {}, [("12345678901234567890123", "a")]),
    ("date", "a.csv", b"text,label\n2024-01-02,a", {}, [("2024-01-02", "a")]),
    ("formula", "a.csv", b"text,label\n=1+1,a", {}, [("=1+1", "a")]),
    ("spaces stay", "a.csv", b"text,label\n  a  , pos\n", {}, [("  a  ", " pos")]),
    ("NUL in a text", "a.csv", b"text,label\nfirst\0second and more,a", {}, [("first\0second and more", "a")]),
    ("NUL in a label", "a.csv", b"text,label\nsome longer text,a\0b", {}, {"row 2", "'label'", "NUL"}),
    ("300 kB value", "a.csv", b"text,label\n" + b"x" * 300_000 + b",a", {}, [("x" * 300_000, "a")]),
    ("11 MB value", "a.csv", b"text,label\n" + b"x" * (11 * 2**20) + b",a", {}, {"line 2", "limit"}),
    ("11 MB value in a column of no use", "a.csv", b"text,label,more\na,x," + b"x" * (11 * 2**20) + b"\n", {},
     [("a", "x")]),
    ("11 MB value in json", "a.jsonl", b'{"text": "' + b"x" * (11 * 2**20) + b'", "label": "a"}', {},
     {"line 1", "'text'", "limit"}),
    ("bidi and zero width", "a.csv", "text,label\na\u202eb\u200bc,x".encode(), {}, [("a\u202eb\u200bc", "x")]),
    ("empty text", "a.csv", b"text,label\n,a\nx,b", {}, [("", "a"), ("x", "b")]),
]  # fmt: skip

LABELS: list[tuple[str, str, bytes, dict[str, Any], Verdict]] = [
    ("empty label", "a.csv", csv_of("1", "", "0"), {}, {"row 3", "'label'", "empty"}),
    ("many empty labels", "a.csv", csv_of("1", *[""] * 30), {}, {"rows 3, 4, 5", "(30 in all)"}),
    ("blank label", "a.csv", csv_of("1", "  ", "0"), {}, {"row 3", "empty"}),
    ("missing label in json", "a.jsonl", LINES + b'{"text": "x"}', {}, {"row 3", "'label'", "empty"}),
    ("null label in json", "a.jsonl", jsonl_of("a", None), {}, {"row 2", "'label'", "empty"}),
    ("whole numbers from 0", "a.csv", csv_of(*"0123"), {}, rows_of(*"0123")),
    ("whole numbers from 1", "a.csv", csv_of(*map(str, range(1, 40))), {}, rows_of(*map(str, range(1, 40)))),
    ("few whole numbers", "a.csv", csv_of("-1", "1", "5"), {}, rows_of("-1", "1", "5")),
    ("many whole numbers", "a.csv", csv_of(*(str(i * 7) for i in range(30))), {},
     {"'label'", "30 different", "task.name=classification or task.name=regression"}),
    ("decimals", "a.csv", csv_of("1.5", "2", "3e-1"), {}, rows_of("1.5", "2", "3e-1")),
    ("whole decimals", "a.csv", csv_of("1.0", "0.0"), {},
     {"'1.0'", "task.name=classification or task.name=regression"}),
    ("versions", "a.csv", csv_of("1.0.1", "2.3.4"), {}, rows_of("1.0.1", "2.3.4")),
    ("bars", "a.csv", csv_of("a|b", "b", "a"), {}, rows_of(("a", "b"), ("b",), ("a",))),
    ("semicolons", "a.csv", csv_of("a; b", "b;c", "a;c"), {}, rows_of(("a", "b"), ("b", "c"), ("a", "c"))),
    ("bars that do not recur", "a.csv", csv_of("a|b", "c|d", "e"), {}, rows_of("a|b", "c|d", "e")),
    ("some recur", "a.csv", csv_of("a|b", "a|d", "e|f"), {}, {"task.name=classification or task.name=multilabel"}),
    ("commas that recur", "a.csv", csv_of('"a,b"', "b", "a"), {},
     {"','", "task.name=classification or task.name=multilabel"}),
    ("json lists", "a.jsonl", jsonl_of(["a", "b"], [], ["b"]), {}, rows_of(("a", "b"), (), ("b",))),
    ("json lists of numbers", "a.jsonl", jsonl_of([3, 14], [14]), {}, rows_of(("3", "14"), ("14",))),
    ("json 0/1 lists", "a.jsonl", jsonl_of([0, 1, 1], [1, 0, 0]), {}, rows_of(("1", "2"), ("0",))),
    ("json lists in csv", "a.csv", csv_of('"[""a"", ""b""]"', '"[""b""]"'), {}, rows_of(("a", "b"), ("b",))),
    ("json list of lists", "a.jsonl", jsonl_of([["a"]], ["b"]), {}, {"row 1", "'label'", "not a list of labels"}),
    ("0/1 columns", "a.csv", b"text,toxic,rude\na,0,1\nb,1,1\nc,0,0\n", {"label": "toxic,rude"},
     [("a", ("rude",)), ("b", ("toxic", "rude")), ("c", ())]),
    ("0/1 columns with a 2", "a.csv", b"text,toxic,rude\na,0,1\nb,1,2\n", {"label": "toxic,rude"},
     {"row 3", "'rude'", "neither 0 nor 1"}),
    ("0/1 column misspelt", "a.csv", b"text,toxic,rude\na,0,1\n", {"label": "toxic,rdue"}, {"did you mean 'rude'?"}),
    ("bool labels in json", "a.jsonl", jsonl_of(True, False), {}, rows_of("true", "false")),
    ("numbers in json", "a.jsonl", b'{"text": "x", "label": 1.50}\n{"text": "y", "label": 2e0}', {},
     [("x", "1.50"), ("y", "2e0")]),
    ("repeated id", "a.csv", b"key,text,label\n1,a,x\n1,b,y\n", {"id": "key"}, {"rows 2, 3", "'key'", "unique"}),
    ("empty id", "a.csv", b"key,text,label\n1,a,x\n,b,y\n", {"id": "key"}, {"row 3", "'key'", "empty"}),
    ("empty group", "a.csv", b"who,text,label\n1,a,x\n,b,y\n", {"group": "who"}, {"row 3", "'who'", "empty"}),
    ("repeated column called id", "a.csv", b"id,text,label\n1,a,x\n1,b,y\n", {}, [("a", "x"), ("b", "y")]),
]  # fmt: skip

JSON: list[tuple[str, str, bytes, dict[str, Any], Verdict]] = [
    ("lines", "a.jsonl", LINES, {}, READ),
    ("array", "a.json", ARRAY, {}, READ),
    ("lines named json", "a.json", LINES, {}, READ),
    ("array in one line", "a.json", ARRAY.replace(b"\n", b""), {}, READ),
    ("blank lines", "a.jsonl", b"\n" + LINES.replace(b"\n", b"\r\n\r\n"), {}, READ),
    ("cut line", "a.jsonl", LINES[:-12], {}, {"line 2", "column"}),
    ("two broken lines", "a.jsonl", b"{\n" + LINES + b"]\n", {}, {"line 1", "line 4"}),
    ("two objects in a line", "a.jsonl", LINES.replace(b"\n", b" "), {}, {"line 1", "more text after"}),
    ("not an object", "a.jsonl", LINES + b'"text"\n', {}, {"line 3", "expected an object"}),
    ("array in lines", "a.jsonl", ARRAY, {}, {"line 1"}),
    ("NaN", "a.jsonl", LINES + b'{"text": "x", "label": NaN}', {}, {"line 3", "NaN"}),
    ("Infinity", "a.jsonl", LINES + b'{"text": "x", "label": -Infinity}', {}, {"line 3", "-Infinity"}),
    ("duplicate key", "a.jsonl", LINES + b'{"text": "x", "text": "y", "label": "a"}', {},
     {"line 3", "'text'", "twice"}),
    ("lone surrogate", "a.jsonl", LINES + b'{"text": "x \\ud800", "label": "a"}', {},
     {"line 3", "'text'", "surrogate"}),
    ("lone surrogate in a column of no use", "a.jsonl", b'{"text": "x", "label": "a", "more": "\\ud800"}', {},
     [("x", "a")]),
    ("lone surrogate in a key", "a.jsonl", b'{"text": "x", "\\udc00": "a"}', {}, {"line 1", "surrogate"}),
    ("surrogate pair", "a.jsonl", b'{"text": "\\ud83d\\ude00", "label": "a"}', {}, [("😀", "a")]),
    ("raw control character", "a.jsonl", b'{"text": "a\tb", "label": "a"}', {}, {"line 1", "control character"}),
    ("depth bomb", "a.jsonl", b"[" * 100_000, {}, {"line 1", "nested too deeply"}),
    ("depth bomb in a value", "a.jsonl", b'{"text": ' + b"[" * 100_000, {}, {"line 1", "nested too deeply"}),
    ("depth bomb in an array", "a.json", b"[" * 100_000, {}, {"line 1", "nested too deeply"}),
    ("5,000 digits", "a.jsonl", b'{"text": ' + b"7" * 5000 + b', "label": "a"}', {}, [("7" * 5000, "a")]),
    ("nested value stays json", "a.jsonl", b'{"text": {"a": [1.50, null, true, "\\u00e9"]}, "label": "a"}', {},
     [('{"a": [1.50, null, true, "é"]}', "a")]),
    ("null text", "a.jsonl", b'{"text": null, "label": "a"}', {}, [("", "a")]),
    ("keys come late", "a.jsonl",
     b'{"id": "1", "text": "x", "label": "a"}\n{"label": "b", "text": "y", "id": "2", "more": 1}',
     {}, [("x", "a"), ("y", "b")]),
    ("empty array", "a.json", b"[]", {}, {"no rows"}),
    ("empty json", "a.json", b"", {}, {"no rows"}),
    ("a text", "a.json", b'"text"', {}, {"expected a JSON array"}),
    ("array cut", "a.json", ARRAY[:-1], {}, {"line 2", "expected ',' or ']'"}),
    ("array with a broken element", "a.json", ARRAY.replace(b'"neg"', b"neg"), {}, {"line 2"}),
    ("array of texts", "a.json", b'["a", "b"]', {}, {"line 1", "expected an object"}),
    ("empty lines", "a.jsonl", b"", {}, {"no rows"}),
    ("latin-1 lines", "a.jsonl", '{"text": "é"}'.encode("latin-1"), {}, {"line 1, byte 10", "data.encoding"}),
    ("fasttext", "a.ft", FAST, {}, READ),
    ("fasttext, several labels", "a.txt", FAST + b"__label__pos __label__neg mixed\n", {},
     [("good film", ("pos",)), ("bad film", ("neg",)), ("mixed", ("pos", "neg"))]),
    ("fasttext, white space behind labels", "a.ft", FAST.replace(b" ", b"\t", 1), {}, READ),
    ("fasttext without label", "a.txt", FAST + b"no label here\n", {}, {"row 3", "'label'", "empty"}),
    ("fasttext with no label at all", "a.txt", b"just text\n", {"format": "fasttext"},
     {"no rows that begin with __label__"}),
    ("damaged parquet", "a.parquet", b"PAR1 and no more", {}, {"a.parquet", "not a readable Parquet"}),
    ("damaged arrow", "a.arrow", b"ARROW1\0\0 and no more", {}, {"a.arrow", "not a readable Arrow"}),
    ("empty parquet", "a.parquet", b"", {}, {"not a readable Parquet"}),
    ("compressed parquet", "a.parquet.gz", b"", {}, {"not read as .gz"}),
]  # fmt: skip


def table(*parts: Iterable[tuple[str, str, bytes, dict[str, Any], Verdict]]) -> list[Any]:
    return [pytest.param(*row[1:], id=row[0]) for part in parts for row in part]


@pytest.mark.parametrize(("name", "content", "settings", "verdict"), table(ENCODINGS, STRUCTURE, VALUES, LABELS, JSON))
def test_verdict(tmp_path: Path, name: str, content: bytes, settings: dict[str, Any], verdict: Verdict) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    if isinstance(verdict, list):
        records, _ = load_records(str(path), DataSettings(**settings))
        assert [(record.text, record.label) for record in records] == verdict
    else:
        with pytest.raises(TunesmithError) as caught:
            load_records(str(path), DataSettings(**settings))
        assert isinstance(caught.value, DataError | UsageError)
        message = str(caught.value)
        assert all(part in message for part in verdict), message


REGRESSION = [
    ("not a number", csv_of("1.5", "two", "3"), {"row 3", "'label'", "not a finite number"}),
    ("infinite", csv_of("1.5", "inf"), {"row 3", "not a finite number"}),
    ("nan", csv_of("1.5", "nan"), {"row 3", "not a finite number"}),
    ("too large", csv_of("1.5", "1e999"), {"row 3", "not a finite number"}),
    ("underscore", csv_of("1.5", "1_000"), {"row 3", "not a finite number"}),
    ("decimal comma", csv_of('"1,5"'), rows_of("1.5")),
    ("good", csv_of("1", " 2.50", "-3e-2"), rows_of("1", " 2.50", "-3e-2")),
]


@pytest.mark.parametrize(("content", "verdict"), [pytest.param(*row[1:], id=row[0]) for row in REGRESSION])
def test_regression_values(tmp_path: Path, content: bytes, verdict: Verdict) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    if isinstance(verdict, list):
        records, _ = load_records(str(path), DataSettings(), SHAPES["regression"])
        assert [(record.text, record.label) for record in records] == verdict
    else:
        with pytest.raises(DataError) as caught:
            load_records(str(path), DataSettings(), SHAPES["regression"])
        assert all(part in str(caught.value) for part in verdict), str(caught.value)
