"""Lines that begin with ``__label__`` words, followed by the text."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from tunesmith.config import DataSettings
from tunesmith.data.files import Lines
from tunesmith.data.jsontext import as_text
from tunesmith.data.records import RawTable
from tunesmith.data.spool import BATCH_ROWS, TableBuilder
from tunesmith.errors import DataError

PREFIX = "__label__"


def read(path: str, settings: DataSettings) -> RawTable:
    """Columns ``text`` and ``label``; where any line has several labels, ``label`` holds JSON lists.

    Raises:
        DataError: no line has a label; see also `tunesmith.data.read`.
    """
    with Lines(Path(path), settings.encoding) as lines:
        most = max((len(_labels(line)[0]) for line in lines), default=0)
    if most == 0:
        raise DataError(f"{path}: no rows that begin with {PREFIX}; expected lines such as '{PREFIX}sport The match …'")
    with Lines(Path(path), settings.encoding) as lines, TableBuilder(path, "line") as builder:
        rows = ((lines.number, *_labels(line)) for line in lines if line.strip())
        while batch := list(islice(rows, BATCH_ROWS)):
            numbers, labels, texts = zip(*batch, strict=True)
            if most == 1:
                cells = [found[0] if found else None for found in labels]
            else:
                cells = [as_text(found) for found in labels]
            builder.extend({"text": texts, "label": cells}, numbers)
        return builder.finish("fasttext")


def _labels(line: str) -> tuple[list[str], str]:
    """The labels at the beginning of a line, and the text after them."""
    labels, rest = [], line.rstrip("\r\n")
    while rest.lstrip().startswith(PREFIX):
        word, _, rest = rest.lstrip().partition(" ")
        labels.append(word.removeprefix(PREFIX))
    return labels, rest
