"""CoNLL columns: a token and its tag a line, an empty line between sentences."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import chain
from pathlib import Path

from tunesmith.config.schema import DataSettings
from tunesmith.data.files import Lines
from tunesmith.data.records import RawTable
from tunesmith.data.table import TableBuilder
from tunesmith.errors import DataError

TAG = re.compile(r"O|[BIMESLU][-_]\S+")
DOCUMENT = "-DOCSTART-"
SENTENCE_ENDS = {".", "!", "?"}


def read(path: str, settings: DataSettings) -> RawTable:
    """Columns ``tokens`` and ``tags`` (JSON lists), and ``document`` where the file marks documents.

    The first column of a line is the token, the last one its tag. Columns are separated by tabs where the line has
    any, else by spaces; lines such as ``# id = 3`` before a sentence are left out, unless they end with a tag.

    Raises:
        DataError: lines that have no token, no tag, or more or fewer columns than the first, with their numbers; the
            first column counts the tokens; see also `tunesmith.data.read`.
    """
    counted, longest, first, document, width = True, 0, 0, 0, (0, 0)
    start, ends, tokens, tags = 0, 0, list[str](), list[str]()
    with Lines(Path(path), settings) as lines, TableBuilder(path, "line") as builder:
        for line in chain(lines, ["\n"]):
            columns = _columns(line) if line.strip() else []
            opens = bool(columns) and columns[0] == DOCUMENT
            if opens:
                columns = []
            elif not tokens and line.startswith(("# ", "#\t")) and ("=" in line or not TAG.fullmatch(columns[-1])):
                continue  # a remark such as "# id = 3", and not the token "#" with its tag
            if columns:
                if len(columns) < 2 or not columns[-1] or line.startswith("\t"):
                    builder.fault(lines.number, f"expected a token and a tag, found {line.rstrip()!r:.80}")
                    continue
                if columns[-1].isdecimal() and (columns[1] == ":" or columns[0][1:].endswith(":")):
                    builder.fault(lines.number, f"expected a token and a tag, found {line.strip()!r:.80}; remove it")
                    continue
                width = width if any(width) else (len(columns), lines.number)
                if len(columns) != width[0]:
                    as_first = f"expected {width[0]} columns as in line {width[1]}, found {len(columns)}"
                    builder.fault(lines.number, f"{as_first}; where a token has spaces, separate columns by tabs")
                    continue
                start = start if tokens else lines.number
                tokens.append(columns[0])
                tags.append(columns[-1].strip())
            elif tokens:
                row = {"tokens": tokens, "tags": tags, "document": str(document)}
                builder.append(start, row, sum(map(len, tokens)))
                ends = sum(token in SENTENCE_ENDS for token in tokens)
                first, longest = first or start, max(longest, len(tokens))
                counted = counted and tokens == [str(n + 1) for n in range(len(tokens))]
                tokens, tags = [], []
            document += opens
        if counted and longest > 1:
            raise DataError(
                f"{path}: line {first}: expected the token in the first column and its tag in the last, found numbers "
                "that count the tokens; remove that column, and those after the tags"
            )
        raw = builder.finish("conll")
        if len(raw.rows) == 1 and ends > 1:
            note = (
                f"no empty line between sentences, so all {longest:,} tokens are one text; put one after each sentence"
            )
            raw = replace(raw, notes=(*raw.notes, note))
        return raw if document else replace(raw, table=raw.table.drop_columns(["document"]))


def looks_like_columns(head: str) -> bool:
    """Whether the first lines of a file are a token and a tag each."""
    lines = [_columns(line) for line in head.splitlines()[:-1] if line.strip() and not line.startswith("#")]
    words = [columns for columns in lines[:50] if columns[0] != DOCUMENT]
    return bool(words) and all(len(columns) > 1 and TAG.fullmatch(columns[-1]) for columns in words)


def _columns(line: str) -> list[str]:
    """The values of a line; white space other than tabs and plain spaces is text, as a token of it alone may be."""
    line = line.rstrip("\r\n")
    if "\t" in line:
        return [part.strip(" ") for part in line.split("\t")]
    return [part for part in line.split(" ") if part]
