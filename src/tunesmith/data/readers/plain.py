"""Unlabelled text: a folder of text files, each a text, or one file of paragraphs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path

from tunesmith.config.schema import DataSettings
from tunesmith.data.files import Lines, codec_name
from tunesmith.data.readers.folder import TEXT_ENDINGS, file_text, folder_notes, text_files
from tunesmith.data.records import RawTable
from tunesmith.data.table import FIELD_LIMIT, TableBuilder
from tunesmith.errors import DataError

Item = tuple[str, str, int]  # identifier, text, line at which it begins
DECIDING_LINES = 100_000
"""So many lines of a file decide whether its lines or its paragraphs are texts."""
LINES_A_PARAGRAPH = 100
"""Where paragraphs have more lines than this on average, the empty lines are strays."""


def read(path: str, settings: DataSettings) -> RawTable:
    """Columns ``id`` and ``text``.

    Of a folder, the text files in it and in its subfolders (also as ``.gz``), one text each, in the order of their
    paths. Of a file, its paragraphs, which empty lines separate; where it has no empty line, or one in a hundred lines
    at most, its lines.

    Raises:
        DataError: no text file in the folder, a link out of it, a file that is not text in the given encoding (of a
            folder, more than 1 % of them), a text of more than 10 MiB.
    """
    root = Path(path)
    notes: list[str] = []
    items = _files(root, settings.encoding, notes) if root.is_dir() else _paragraphs(root, settings.encoding, notes)
    with TableBuilder(path, "line") as builder:
        for identifier, text, line in items:
            builder.append(line, {"id": identifier, "text": text}, len(text))
        return builder.finish("text", notes)


def _files(root: Path, encoding: str, notes: list[str]) -> Iterator[Item]:
    codec, number = codec_name(encoding), 0
    odd: list[str] = []
    skipped: list[str] = []
    for number, file in enumerate(text_files(root, skipped, deep=True), 1):
        name = str(file.relative_to(root))
        if file.suffix.lower() == ".gz":
            with Lines(file, encoding) as lines:
                yield name, "".join(_bounded(lines, f"{root}: {name}", "into several files")), number
        else:
            yield name, file_text(file, codec, odd), number
    if not number:
        endings = ", ".join(sorted(TEXT_ENDINGS - {""}))
        raise DataError(f"{root}: no text file in the folder or below it; expected {endings}, also as .gz")
    notes += folder_notes(str(root), encoding, odd, number, skipped)


def _paragraphs(path: Path, encoding: str, notes: list[str]) -> Iterator[Item]:
    filled_lines = paragraphs = 0
    with Lines(path, encoding) as lines:
        for filled, group in groupby(islice(lines, DECIDING_LINES), key=lambda line: not line.isspace()):
            paragraphs += filled
            filled_lines += len(list(group)) if filled else 0
    by_line = paragraphs < 2 or filled_lines > LINES_A_PARAGRAPH * paragraphs
    notes.append(f"{path}: {'every line' if by_line else 'every paragraph (empty lines between)'} is read as a text")
    with Lines(path, encoding) as lines:
        for filled, group in groupby(lines, key=lambda line: not line.isspace()):
            if filled and by_line:
                yield from ((str(lines.number), line.strip(), lines.number) for line in group)
            elif filled:
                start = lines.number
                yield str(start), "".join(_bounded(group, f"{path}: line {start}", "by empty lines")).strip(), start


def _bounded(lines: Iterable[str], place: str, how: str) -> Iterator[str]:
    """The lines of one text; too many are refused before all are in memory."""
    size = 0
    for line in lines:
        size += len(line)
        if size > FIELD_LIMIT:
            raise DataError(f"{place}: a text of more than {FIELD_LIMIT:,} characters; part it {how}")
        yield line
