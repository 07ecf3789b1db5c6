"""Lines that begin with ``__label__`` words, followed by the text."""

from __future__ import annotations

import re
from pathlib import Path

from tunesmith.config.schema import DataSettings
from tunesmith.data.files import Lines
from tunesmith.data.records import RawTable
from tunesmith.data.table import TableBuilder
from tunesmith.errors import DataError
from tunesmith.text import row_list

PREFIX = "__label__"
LABEL = re.compile(rf"\s*{PREFIX}([^ \t\v\f\0]*)[ \t\v\f\0]?")  # words end where they do for fastText


def read(path: str, settings: DataSettings) -> RawTable:
    """Columns ``text`` and ``label``; where any line has several labels, ``label`` holds JSON lists.

    Raises:
        DataError: no line has a label; see also `tunesmith.data.read`.
    """
    with Lines(Path(path), settings) as lines:
        most = max((len(_labels(line)[0]) for line in lines), default=0)
    if most == 0:
        raise DataError(f"{path}: no rows that begin with {PREFIX}; expected lines such as '{PREFIX}sport The match …'")
    with Lines(Path(path), settings) as lines, TableBuilder(path, "line") as builder:
        none = list[int]()
        for line in lines:
            if line.strip():
                labels, text = _labels(line)
                cell = labels if most > 1 else next(iter(labels), None)
                none += [] if labels else [lines.number]
                builder.append(lines.number, {"text": text, "label": cell}, len(line))
        told = f"{row_list(none, 'line')}: no {PREFIX}; since others have several labels, read as no label"
        return builder.finish("fasttext", [told] if none and most > 1 else ())


def _labels(line: str) -> tuple[list[str], str]:
    """The labels at the beginning of a line, and the text after them."""
    labels, text, end = [], line.rstrip("\r\n"), 0
    while found := LABEL.match(text, end):
        labels.append(found[1])
        end = found.end()
    return labels, text[end:]
