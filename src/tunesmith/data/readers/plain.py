"""Unlabelled text: a folder of text files, each a text, or one file of paragraphs."""

from __future__ import annotations

from itertools import groupby, islice
from pathlib import Path

from tunesmith.config.schema import DataSettings
from tunesmith.data.files import Lines
from tunesmith.data.readers.folder import read_files
from tunesmith.data.records import RawTable
from tunesmith.data.table import FIELD_LIMIT, TableBuilder
from tunesmith.errors import DataError

DECIDING_LINES = 100_000
"""So many lines of a file decide whether its lines or its paragraphs are texts."""
LINES_A_PARAGRAPH = 100
"""Where paragraphs have more lines than this on average, the empty lines are strays."""


def read(path: str, settings: DataSettings) -> RawTable:
    """Columns ``id`` and ``text``.

    Of a folder, the text files in it and in its subfolders; see `read_files`. Of a file, its paragraphs, which empty
    lines separate; where it has no empty line, or one in a hundred lines at most, its lines.

    Raises:
        DataError: a file is not text in the given encoding, or has a text of more than 10 MiB; as `read_files`.
    """
    file = Path(path)
    if file.is_dir():
        return read_files(path, settings, deep=True)
    filled_lines = paragraphs = 0
    with Lines(file, settings) as lines:
        for empty, group in groupby(islice(lines, DECIDING_LINES), key=str.isspace):
            if not empty:
                paragraphs += 1
                filled_lines += sum(1 for _ in group)
    by_line = paragraphs < 2 or filled_lines > LINES_A_PARAGRAPH * paragraphs
    note = f"{path}: {'every line' if by_line else 'every paragraph (empty lines between)'} is read as a text"
    with Lines(file, settings) as lines, TableBuilder(path, "line") as builder:
        # a group of lines is a text; by line, each has a group of its own
        for filled, group in groupby(lines, key=lambda line: 0 if line.isspace() else lines.number if by_line else 1):
            if not filled:
                continue
            start, pieces, size = lines.number, [], 0
            for line in group:
                pieces.append(line)
                size += len(line)
                if size > FIELD_LIMIT:  # before all of it is in memory
                    how = "line ends" if by_line else "empty lines"
                    place = f"{path}: line {start}"
                    raise DataError(f"{place}: a text of more than {FIELD_LIMIT:,} characters; part it by {how}")
            text = "".join(pieces).strip()
            builder.append(start, {"id": str(start), "text": text}, size)
        return builder.finish("text", [note])
