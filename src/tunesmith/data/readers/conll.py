"""CoNLL columns: a token and its tag a line, an empty line between sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tunesmith.config import DataSettings
from tunesmith.data.files import Lines
from tunesmith.data.jsontext import as_text
from tunesmith.data.records import RawTable
from tunesmith.data.spool import BATCH_ROWS, TableBuilder

TAG = re.compile(r"O|[BIESLU][-_]\S+")
DOCUMENT = "-DOCSTART-"

Sentence = tuple[int, list[str], list[str], int]
"""Line, tokens, tags, number of the document."""


def read(path: str, settings: DataSettings) -> RawTable:
    """Columns ``tokens`` and ``tags`` (JSON lists), and ``document`` where the file marks documents.

    The first column of a line is the token, the last one its tag. Columns are separated by tabs where the line has
    any, else by spaces; lines such as ``# id = 3`` before a sentence are left out, unless they end with a tag.

    Raises:
        DataError: lines that have no tag, with their numbers; see also `tunesmith.data.read`.
    """
    with Lines(Path(path), settings.encoding) as lines, TableBuilder(path, "line") as builder:
        sentences = _sentences(lines, builder)
        documents = 0
        while batch := list(islice(sentences, BATCH_ROWS)):
            numbers, tokens, tags, of = zip(*batch, strict=True)
            documents = max(documents, of[-1])
            columns = {"tokens": [as_text(words) for words in tokens], "tags": [as_text(names) for names in tags]}
            if documents:
                columns["document"] = [str(number) for number in of]
            builder.extend(columns, numbers)
        return builder.finish("conll")


def looks_like(head: str) -> bool:
    """Whether the first lines of a file are a token and a tag each."""
    lines = [_columns(line) for line in head.splitlines()[:-1] if line.strip() and not line.startswith("#")]
    words = [columns for columns in lines[:50] if columns[0] != DOCUMENT]
    return bool(words) and all(len(columns) > 1 and TAG.fullmatch(columns[-1]) for columns in words)


def _columns(line: str) -> list[str]:
    line = line.rstrip("\r\n")
    return [part.strip() for part in line.split("\t")] if "\t" in line else line.split()


def _is_comment(line: str, columns: list[str]) -> bool:
    """Whether a line is a remark such as ``# id = 3``, and not the token ``#`` with its tag."""
    return line.startswith("# ") and ("=" in line or not TAG.fullmatch(columns[-1]))


def _sentences(lines: Lines, builder: TableBuilder) -> Iterator[Sentence]:
    start, document = 1, 0
    tokens: list[str] = []
    tags: list[str] = []
    for line in lines:
        columns = _columns(line) if line.strip() else []
        opens = bool(columns) and columns[0] == DOCUMENT
        if opens:
            columns = []
        elif not tokens and _is_comment(line, columns):
            continue
        if columns:
            if len(columns) < 2 or not columns[-1]:
                builder.fault(lines.number, f"expected a token and a tag, found {line.strip()!r:.80}")
                continue
            if not tokens:
                start = lines.number
            tokens.append(columns[0])
            tags.append(columns[-1])
        elif tokens:
            yield start, tokens, tags, document
            tokens, tags = [], []
        document += opens
    if tokens:
        yield start, tokens, tags, document
