"""Annotated files that are wrong, or odd but right: spans, CoNLL, fastText, SQuAD, Label Studio, doccano, Prodigy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from tests.campaigns.bad_file import File, Refused
from tests.campaigns.bad_tables import Maker
from tunesmith.data.records import Answer, Span

PLACES = (0, 5, 11)
dump = json.dumps


def files(seed: int) -> Iterator[File]:
    make = Maker(seed + 2)
    for part in (_spans, _columns, _fasttext, _questions, _studio, _doccano, _prodigy):
        yield from part(make)


def _lines(rows: list[Any]) -> bytes:
    return "\n".join(map(dump, rows)).encode()


def _array(rows: list[Any]) -> bytes:
    return ("[\n" + ",\n".join(map(dump, rows)) + "\n]").encode()


def _marked(make: Maker, count: int = 12) -> tuple[list[str], list[tuple[Span, ...]]]:
    """Texts, and the first and the third word of each as entities."""
    texts, spans = [make.text() for _ in range(count)], list[tuple[Span, ...]]()
    for text in texts:
        first, second, third = text.split(" ")[:3]
        at = len(first) + len(second) + 2
        spans.append((Span(0, len(first), "PER"), Span(at, at + len(third), "LOC")))
    return texts, spans


Row = Callable[[str, tuple[Span, ...], int], dict[str, Any]]


def _span_row(text: str, spans: tuple[Span, ...], number: int) -> dict[str, Any]:
    return {"text": text, "spans": [one._asdict() for one in spans]}


def _span_faults(text: str) -> dict[str, list[dict[str, Any]]]:
    return {
        "beyond the end": [{"start": 0, "end": len(text) + 1, "label": "PER"}],
        "turned around": [{"start": 5, "end": 2, "label": "PER"}],
        "empty": [{"start": 3, "end": 3, "label": "PER"}],
        "negative": [{"start": -3, "end": 2, "label": "PER"}],
        "without a label": [{"start": 0, "end": 3}],
        "with an empty label": [{"start": 0, "end": 3, "label": ""}],
        "without an end": [{"start": 0, "label": "PER"}],
        "of texts": [{"start": "a", "end": "b", "label": "PER"}],
        "of fractions": [{"start": 0.5, "end": 3, "label": "PER"}],
        "overlapping": [{"start": 0, "end": 6, "label": "PER"}, {"start": 2, "end": 8, "label": "LOC"}],
    }


def _spans(make: Maker) -> Iterator[File]:
    texts, spans = _marked(make)
    rows = [_span_row(text, found, 0) for text, found in zip(texts, spans, strict=True)]
    wanted = list(zip(texts, spans, strict=True))
    yield File("spans", "a.jsonl", _lines(rows), wanted, clean=False)
    yield File("spans, array", "a.json", _array(rows), wanted, clean=False)
    some = [{"text": row["text"], "spans": row["spans"] if n % 2 else []} for n, row in enumerate(rows)]
    yield File("spans, some rows without", "a.jsonl", _lines(some),
               [(text, found if n % 2 else ()) for n, (text, found) in enumerate(wanted)], clean=False)  # fmt: skip
    moved = [(f"👍🏽 {text}", tuple(Span(s.start + 3, s.end + 3, s.label) for s in found)) for text, found in wanted]
    astral = [_span_row(text, found, 0) for text, found in moved]
    yield File("spans after an emoji", "a.jsonl", _lines(astral), moved, clean=False)
    for name in _span_faults(""):
        for at in PLACES:
            bad = [*rows]
            bad[at] = {"text": texts[at], "spans": _span_faults(texts[at])[name]}
            yield File(f"span {name}, {at}", "a.jsonl", _lines(bad), Refused(at + 1, "spans"), clean=False)
            yield File(f"span {name}, {at}, array", "a.json", _array(bad), Refused(at + 2, "spans"), clean=False)
    for name, value in {"a number": 7, "an object": {}, "a text": "PER", "null in the list": [None]}.items():
        bad = [*rows]
        bad[4] = {"text": texts[4], "spans": value}
        yield File(f"spans are {name}", "a.jsonl", _lines(bad), Refused(5, "spans"), clean=False)


def _columns(make: Maker) -> Iterator[File]:
    sentences = [make.text().split(" ") for _ in range(12)]
    tags = [["B-PER", "O", "B-LOC", *["O"] * (len(one) - 3)] for one in sentences]

    def content(separator: str = " ", end: str = "\n", tagged: list[list[str]] = tags) -> list[str]:
        return [
            separator.join(pair) + end
            for one, its in zip(sentences, tagged, strict=True)
            for pair in [*zip(one, its, strict=True), ()]
        ]

    def starts() -> list[int]:
        found, line = [], 1
        for one in sentences:
            found.append(line)
            line += len(one) + 1
        return found

    wanted: list[tuple[Any, ...]] = []
    for one in sentences:
        at = len(one[0]) + len(one[1]) + 2
        wanted.append((" ".join(one), (Span(0, len(one[0]), "PER"), Span(at, at + len(one[2]), "LOC"))))
    for separator, end in ((" ", "\n"), ("\t", "\n"), ("\t", "\r\n"), ("   ", "\n"), ("\t", "\r")):
        text = "".join(content(separator, end))
        yield File(f"CoNLL {separator!r} {end!r}", "a.conll", text.encode(), wanted, clean=False)
        yield File(
            f"CoNLL {separator!r} {end!r}, mark", "a.conll", b"\xef\xbb\xbf" + text.encode(), wanted, clean=False
        )
    single = [["S-PER", "O", "S-LOC", *its[3:]] for its in tags]
    yield File("CoNLL, BIOES", "a.conll", "".join(content(tagged=single)).encode(), wanted, clean=False)
    inside = [["I-PER", "O", "I-LOC", *its[3:]] for its in tags]
    yield File("CoNLL, IOB1", "a.conll", "".join(content(tagged=inside)).encode(), wanted, clean=False)
    remarks = "".join(f"# sent_id = {n}\n{part}\n\n" for n, part in enumerate("".join(content()).split("\n\n")[:12]))
    yield File("CoNLL, remarks", "a.conll", remarks.encode(), wanted, clean=False)
    yield File(
        "CoNLL, marks of documents", "a.conll", ("-DOCSTART- O\n\n" + "".join(content())).encode(), wanted, clean=False
    )
    faults = {"no tag": "alone", "no token": "\tO", "three columns": "a b O",
              "a tag without a type": "word B-"}  # fmt: skip
    for name, fault in faults.items():
        for sentence in PLACES:
            lines, line = content("\t" if name == "no token" else " "), starts()[sentence] + 1
            lines[line - 1] = f"{fault}\n"
            place = starts()[sentence] if "a tag" in name else line
            yield File(f"CoNLL, {name}, {sentence}", "a.conll", "".join(lines).encode(), Refused(place), clean=False)
    broken = "".join(content()).encode()
    at = broken.index(b" ", 60)
    line = broken[:at].count(b"\n") + 1
    yield File(
        "CoNLL, one byte of Latin-1", "a.conll", broken[:at] + b"\xe9" + broken[at:], Refused(line, None, ("0xe9",))
    )


def _fasttext(make: Maker) -> Iterator[File]:
    rows = make.rows()
    lines = [f"__label__{label} {text}" for text, label in rows]
    wanted = [tuple(row) for row in rows]
    for end in ("\n", "\r\n"):
        yield File(f"fastText {end!r}", "a.txt", end.join(lines).encode(), wanted)
    yield File("fastText, blank lines", "a.txt", "\n\n".join(lines).encode(), wanted)
    several = [f"__label__late {line}" if n % 2 else line for n, line in enumerate(lines)]
    tuples = [(text, ("late", label) if n % 2 else (label,)) for n, (text, label) in enumerate(rows)]
    yield File("fastText, several labels", "a.txt", "\n".join(several).encode(), tuples, clean=False)
    tabs = [line.replace(" ", "\t", 1) for line in lines]
    yield File("fastText, tabs", "a.txt", "\n".join(tabs).encode(), wanted)
    for at in PLACES:
        bad = [*lines]
        bad[at] = rows[at][0]
        yield File(f"fastText, no label {at}", "a.txt", "\n".join(bad).encode(), Refused(at + 1, "label", ("empty",)),
                   {"format": "fasttext"})  # fmt: skip
        bad[at] = f"__label__ {rows[at][0]}"
        wanted_empty = Refused(at + 1, "label", ("empty",))
        yield File(
            f"fastText, empty label {at}", "a.txt", "\n".join(bad).encode(), wanted_empty, {"format": "fasttext"}
        )


def _questions(make: Maker) -> Iterator[File]:
    contexts = [make.text() for _ in range(12)]
    words = [context.split(" ")[1] for context in contexts]

    def asked(n: int, **changed: Any) -> dict[str, Any]:
        answers = [{"text": words[n], "answer_start": contexts[n].index(" ") + 1}]
        question = {"id": str(n), "question": f"What is {n}?", "answers": answers} | changed
        return {"context": contexts[n], "qas": [{k: v for k, v in question.items() if v is not ...}]}

    def squad(paragraphs: list[dict[str, Any]]) -> bytes:
        articles = [{"title": f"t{n}", "paragraphs": [one]} for n, one in enumerate(paragraphs)]
        return dump({"version": "1.1", "data": articles}).encode()

    def row(n: int, answers: tuple[Answer, ...] | None = None) -> tuple[Any, ...]:
        own = (Answer(contexts[n].index(" ") + 1, words[n]),)
        return (f"What is {n}?", contexts[n], own if answers is None else answers)

    good, wanted = [asked(n) for n in range(12)], [row(n) for n in range(12)]
    yield File("SQuAD", "a.json", squad(good), wanted, clean=False)
    yield File("SQuAD, a list of paragraphs", "a.json", dump(good).encode(), wanted, clean=False)
    some = [asked(n, answers=[], is_impossible=True) if n % 3 == 0 else one for n, one in enumerate(good)]
    none = [row(n, ()) if n % 3 == 0 else row(n) for n in range(12)]
    yield File("SQuAD 2.0", "a.json", squad(some), none, clean=False)
    faults: dict[str, dict[str, Any]] = {
        "not there": {"answers": [{"text": "nowhere", "answer_start": 0}]},
        "beyond": {"answers": [{"text": "nowhere", "answer_start": 10_000}]},
        "of numbers": {"answers": [{"text": 5, "answer_start": 0}]},
        "without a text": {"answers": [{"answer_start": 0}]},
        "a word": {"answers": "nowhere"},
        "impossible with an answer": {"is_impossible": True},
    }
    for name, change in faults.items():
        for at in PLACES:
            bad = [asked(n, **(change if n == at else {})) for n in range(12)]
            yield File(f"SQuAD, answers {name}, {at}", "a.json", squad(bad), Refused(at + 1), clean=False)
    wrong: dict[str, dict[str, Any]] = {"no question": {"question": ...}, "question is a list": {"question": ["a"]}}
    for name, change in wrong.items():
        for at in PLACES:
            bad = [asked(n, **(change if n == at else {})) for n in range(12)]
            yield File(
                f"SQuAD, {name}, {at}", "a.json", squad(bad), Refused(says=(f"'t{at}'", "question")), clean=False
            )


def _studio(make: Maker) -> Iterator[File]:
    texts, spans = _marked(make)

    def task(n: int, *regions: dict[str, Any]) -> dict[str, Any]:
        found = [
            {"start": s.start, "end": s.end, "text": texts[n][s.start : s.end], "labels": [s.label]} for s in spans[n]
        ]
        results = [
            {"from_name": "label", "to_name": "text", "type": "labels", "value": value} for value in regions or found
        ]
        return {"id": n, "data": {"text": texts[n]}, "annotations": [{"result": results}]}

    tasks = [task(n) for n in range(12)]
    wanted = list(zip(texts, spans, strict=True))
    yield File("Label Studio, spans", "a.json", _array(tasks), wanted, clean=False)
    yield File("Label Studio, one line", "a.json", dump(tasks).encode(), wanted, clean=False)
    short = [{"id": n, "text": text, "label": [{"start": s.start, "end": s.end, "labels": [s.label]} for s in found]}
             for n, (text, found) in enumerate(wanted)]  # fmt: skip
    yield File("Label Studio, JSON-MIN", "a.json", _array(short), wanted, clean=False)
    chosen = [{"id": n, "data": {"text": text}, "annotations": [{"result": [
        {"from_name": "t", "to_name": "text", "type": "choices", "value": {"choices": [("a", "b")[n % 2]]}}]}]}
        for n, text in enumerate(texts)]  # fmt: skip
    yield File(
        "Label Studio, choices", "a.json", _array(chosen), [(text, ("a", "b")[n % 2]) for n, text in enumerate(texts)]
    )
    for at in PLACES:
        regions: dict[str, dict[str, Any]] = {
            "beyond the end": {"start": 0, "end": 10_000, "labels": ["PER"]},
            "without an end": {"start": 0, "labels": ["PER"]},
            "of another text": {"start": 0, "end": 4, "text": "no such words", "labels": ["PER"]},
        }
        for name, region in regions.items():
            bad = [task(n, *([region] if n == at else [])) for n in range(12)]
            yield File(f"Label Studio, region {name}, {at}", "a.json", _array(bad), Refused(at + 2), clean=False)


def _doccano(make: Maker) -> Iterator[File]:
    texts, spans = _marked(make)
    wanted = list(zip(texts, spans, strict=True))
    lists = [
        {"id": n, "text": text, "label": [[s.start, s.end, s.label] for s in found]}
        for n, (text, found) in enumerate(wanted)
    ]
    yield File("doccano, lists", "a.jsonl", _lines(lists), wanted, clean=False)
    objects = [{"id": n, "text": text, "relations": [], "entities": [
        {"id": 9, "start_offset": s.start, "end_offset": s.end, "label": s.label} for s in found]}
        for n, (text, found) in enumerate(wanted)]  # fmt: skip
    yield File("doccano, entities", "a.jsonl", _lines(objects), wanted, clean=False)
    classes = [{"id": n, "text": text, "label": [("a", "b")[n % 2]]} for n, text in enumerate(texts)]
    several = [(text, (("a", "b")[n % 2],)) for n, text in enumerate(texts)]
    yield File("doccano, classes", "a.jsonl", _lines(classes), several, task="multilabel", clean=False)
    for at in PLACES:
        for name, span in {
            "beyond": [0, 10_000, "PER"],
            "turned": [5, 2, "PER"],
            "short": [0, 3],
            "no label": [0, 3, ""],
        }.items():
            bad = [row | {"label": [span]} if n == at else row for n, row in enumerate(lists)]
            yield File(f"doccano, span {name}, {at}", "a.jsonl", _lines(bad), Refused(at + 1, "label"), clean=False)


def _prodigy(make: Maker) -> Iterator[File]:
    texts, spans = _marked(make)
    answers = ["accept"] * 9 + ["reject", "ignore", "accept"]
    rows = [_span_row(text, found, n) | {"answer": answer} for n, (text, found, answer) in
            enumerate(zip(texts, spans, answers, strict=True))]  # fmt: skip
    kept = [one for one, answer in zip(zip(texts, spans, strict=True), answers, strict=True) if answer == "accept"]
    yield File("Prodigy, spans", "a.jsonl", _lines(rows), kept, clean=False)
    options = [{"id": "a", "text": "A"}, {"id": "b", "text": "B"}]
    chosen = [
        {"text": text, "options": options, "accept": [("a", "b")[n % 2]], "answer": answers[n]}
        for n, text in enumerate(texts)
    ]
    labels = [(text, ("a", "b")[n % 2]) for n, text in enumerate(texts) if answers[n] == "accept"]
    yield File("Prodigy, choices", "a.jsonl", _lines(chosen), labels, clean=False)
    for at in PLACES:
        bad = [
            row | {"spans": [{"start": 0, "end": 10_000, "label": "PER"}]} if n == at else row
            for n, row in enumerate(rows)
        ]
        yield File(f"Prodigy, span beyond the end, {at}", "a.jsonl", _lines(bad), Refused(at + 1, "spans"), clean=False)
