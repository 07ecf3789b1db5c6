"""Hostile names, places, addresses and configurations."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.campaigns.hostile import (
    BIG,
    EITHER,
    MANY,
    USAGE,
    Case,
    Content,
    Make,
    csv,
    fifo,
    holes,
    lines,
    link,
    of_each,
    of_odd,
    said,
    text,
)


def classes(name: str = "", put: Callable[[Path], Any] = str) -> Make:
    """A folder of classes, with something odd in the first one."""

    def make(folder: Path) -> Path:
        root = folder / "texts"
        for kind in ("one", "two"):
            (root / kind).mkdir(parents=True)
            for number in range(30):
                (root / kind / f"{number}.txt").write_text(f"this is text {number} of {kind}")
        put(root / "one" / name)
        return root

    return make


def _many_files(path: Path) -> None:
    for number in range(5_000):
        path.with_name(f"x{number}.txt").write_text(f"text {number}")


def _large(path: Path) -> None:
    path.write_text("a")
    os.truncate(path, BIG)


def _socket(folder: Path) -> Path:
    here = os.getcwd()
    os.chdir(folder)
    socket.socket(socket.AF_UNIX).bind("data.csv")
    os.chdir(here)
    return folder / "data.csv"


def _folder(folder: Path) -> Path:
    (folder / "data.csv").mkdir()
    return folder / "data.csv"


def _class(odd: str) -> Make:
    def make(folder: Path) -> Path:
        classes()(folder)
        (folder / "texts" / "one").rename(folder / "texts" / odd.replace("/", ""))
        return folder / "texts"

    return make


def _link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _span(odd: str, end: int) -> str:
    return lines(spans=[{"start": 0, "end": end, "label": odd}])


def _studio(odd: str) -> str:
    result = {"type": odd, "from_name": odd, "value": {"start": 0}}
    return json.dumps([{"data": {"text": "a b"}, "annotations": [{"result": [result]}]}] * 9)


NAMES = [
    *of_odd("a label", lambda odd: text("data.csv", csv(f'"{odd}"'))),
    *of_odd("a label of JSON", lambda odd: text("data.jsonl", lines(label=odd))),
    *of_odd("a label, with --json", lambda odd: text("data.jsonl", lines(label=odd)), arguments=("--json",)),
    *of_odd("a column", lambda odd: text("data.jsonl", lines(**{odd: "x"}))),
    *of_odd("the only column", lambda odd: text("data.jsonl", json.dumps({odd: "x"}) + "\n")),
    *of_odd("an entity", lambda odd: text("data.jsonl", _span(odd, 4))),
    *of_odd("a span that is wrong", lambda odd: text("data.jsonl", _span(odd, 400))),
    *of_odd("a tag", lambda odd: text("data.conll", f"a B-{odd}\nb O\n\n" * 60)),
    *of_odd("a fastText label", lambda odd: text("data.txt", f"__label__{odd} text\n__label__b text\n" * 30)),
    *of_odd("Label Studio", lambda odd: text("data.json", _studio(odd))),
    *of_odd("Prodigy", lambda odd: text("data.jsonl", lines(answer="accept", label=odd, _view_id="ner", spans=[]))),
    *of_odd("a file name", lambda odd: text(f"a{odd}.csv", csv("a"))),
    *of_odd("the name of what is no file", lambda odd: lambda folder: str(folder / f"no{odd}.csv")),
    *of_odd("a class folder", _class),
    *of_odd("a text to predict", lambda odd: text("data.txt", f"some {odd} text\n"), command="predict", stdin=True),
    *of_odd(
        "an id to predict",
        lambda odd: text("data.jsonl", json.dumps({"id": odd, "text": "a"}) + "\n"),
        command="predict",
    ),
    *of_odd("a setting", lambda odd: said(f"data.text={odd}"), (0, 2, 3), command="set"),
]
PLACES = [
    Case("a pipe", fifo("data.csv"), says="pipe"),
    Case("a socket", _socket, says="socket"),
    Case("a device", said("/dev/zero")),
    Case("memory of the process", said("/proc/self/mem")),
    *of_each(
        {
            "a link to a device": link("data.csv", "/dev/zero"),
            "a link to itself": link("data.csv", "data.csv"),
            "a folder called as a file": _folder,
            "a device in a folder of classes": classes("a.txt", _link_to("/dev/zero")),
            "a link out of a folder of classes": classes("a.txt", _link_to("../../../outside/secret.txt")),
            "a link to a folder outside": classes("../three", _link_to("../../outside")),
            "a file of 3 GB in a folder of classes": classes("a.txt", _large),
        }
    ),
    *of_each(
        {
            "a pipe in a folder of classes": classes("a.txt", os.mkfifo),
            "a folder that holds itself": classes("b", _link_to("..")),
            "5,000 files of a class": classes("b", _many_files),
        },
        EITHER,
    ),
]
ADDRESSES = (
    "http://localhost:1/data.csv",
    "https://example.org/data.csv",
    "ftp://localhost/data.csv",
    "file:///etc/passwd",
    "s3://bucket/data.csv",
    "zip://a.csv::http://localhost:1/a.zip",
    "simplecache::http://localhost:1/a.csv",
    "hf://datasets/a/b",
)
HUB = ("owner/name", "name:train", "../../x", "owner/name:../x", "a" * MANY, "http://localhost/x")
NETWORK = [
    *of_each({f"an address: {address}": said(address) for address in ADDRESSES}),
    *of_each({f"the Hub: {name[:20]}": said(f"hub:{name}") for name in HUB}, (2, 3), arguments=("--local",)),
    Case(
        "the Hub as validation data", text("data.csv", csv("a")), USAGE, arguments=("--local", "--valid", "hub:owner/x")
    ),
]
LETTERS = "abcdefghijklmno"
LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{one}: &{one} [{', '.join([f'*{other}'] * 10)}]\n" for other, one in pairwise(LETTERS)
)
MERGES = "a: &a {x: 1, y: 2}\n" + "".join(
    f"{one}: &{one} {{<<: [{', '.join([f'*{other}'] * 10)}]}}\n" for other, one in pairwise(LETTERS)
)
CONFIGURATIONS: dict[str, Content] = {
    "a billion laughs": LAUGHS,
    "merges of merges": MERGES,
    "a merge": "data: {<<: {text: a}}\n",
    "a merge of many": "x: &x {text: a}\ndata:\n  <<: [" + "*x, " * 9_000 + "*x]\n",
    "an alias of itself": "data: &a {text: *a}\n",
    "an alias": "data: {text: &a text, label: *a}\n",
    "anchors of one name": "data: {text: &a text, label: &a label}\n",
    "brackets without end": "[" * 60_000,
    "braces without end": "{a: " * 16_000,
    "lists in lines": "".join(" " * n + "-\n" for n in range(340)),
    "dashes": "- " * 30_000,
    "questions": "? " * 30_000,
    "depth of 200": "data: " + "[" * 200 + "]" * 200,
    "too large": "#" * 2**17,
    "colons": ":" * 60_000,
    "quotes": '"' * 60_000,
    "spaces": "data:" + " " * 60_000 + "a\n",
    "digits": f"training: {{epochs: {'9' * 60_000}}}\n",
    "digits of a float": f"training: {{lr: 1.{'9' * 60_000}e999}}\n",
    "sixties": f"training: {{epochs: {':'.join(['59'] * 9_000)}}}\n",
    "thousands of keys": "data: {" + ", ".join(f"k{n}: 1" for n in range(5_000)) + "}\n",
    "thousands of sections": "".join(f"k{n}: 1\n" for n in range(6_000)),
    "a tag of Python": "data: !!python/object/apply:os.system ['touch $CANARY_FILE']\n",
    "a tag of a module": "data: !!python/module:antigravity\n",
    "a tag of its own": "data: !x {text: a}\n",
    "binary": f"data: {{text: !!binary {'A' * 50_000}}}\n",
    "a set": "data: !!set {text, label}\n",
    "an ordered map": "data: !!omap [text: a]\n",
    "a date": "data: {text: !!timestamp 2001-01-01}\n",
    "a float that is none": "data: {valid_fraction: .nan}\n",
    "a key twice": "data: {text: text, text: label}\n",
    "a key that is a list": "? [a, b]\n: c\n",
    "several documents": "data: {}\n---\ndata: {}\n",
    "a directive for tags": "%TAG ! tag:yaml.org,2002:python/\n---\ndata: !object/apply:os.system [id]\n",
    "an escape in a key": '"\\e[2J": 1\n',
    "an escape in a value": 'training: {epochs: "\\e]0;owned\\a"}\n',
    "bidi in a key": "data: {\u202etxet: a}\n",
    "line separators in a key": 'data: {"a\\Lb": a}\n',
    "NUL": b"data: {text: a\0b}\n",
    "UTF-16": "data: {}\n".encode("utf-16"),
    "no UTF-8": b"data: {text: \xff}\n",
    "an include": "data: !include /etc/passwd\n",
}
ASSIGNMENTS = {
    "laughs": "data.text={a: &a [x], b: [*a, *a]}",
    "depth": "data.text=" + "[" * 50_000,
    "digits": "training.epochs=" + "9" * 50_000,
    "a tag": "data.text=!!python/name:os.system",
    "no key": "=" * 50_000,
    "a long key": "a" * 50_000 + "=1",
    "an escape": "data.text=\x1b[2J",
}
CONFIGS = [
    *of_each(
        {name: text("config.yaml", content) for name, content in CONFIGURATIONS.items()},
        USAGE,
        "a configuration: ",
        command="config",
    ),
    *of_each(
        {
            "a pipe": fifo("config.yaml"),
            "a device": said("/dev/zero"),
            "a link to a device": link("config.yaml", "/dev/zero"),
            "3 GB": holes("config.yaml", "data: {}\n"),
            "a folder": lambda folder: folder,
        },
        USAGE,
        "a configuration: ",
        command="config",
    ),
    Case("a configuration: comments", text("config.yaml", "#\n" * 30_000), (0,), "config"),
    Case("a configuration: a word", text("config.yaml", f"data: {{text: {'a' * 60_000}}}\n"), (3,), "config"),
    Case("a configuration: words", text("config.yaml", f"data: {{text: {'a ' * 30_000}}}\n"), (3,), "config"),
    Case("a configuration: a variable", text("config.yaml", "data: {text: $HOME}\n"), (3,), "config"),
    *of_each({name: said(words) for name, words in ASSIGNMENTS.items()}, USAGE, "an assignment: ", command="set"),
]
CASES = [*NAMES, *PLACES, *NETWORK, *CONFIGS]
