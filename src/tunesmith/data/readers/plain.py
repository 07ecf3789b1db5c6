"""Unlabelled text: a folder of text files, each a text, or one file of paragraphs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tunesmith.config import DataSettings
from tunesmith.data.files import Lines
from tunesmith.data.readers.folder import TEXT_ENDINGS
from tunesmith.data.records import RawTable
from tunesmith.data.spool import BATCH_CHARACTERS, BATCH_ROWS, TableBuilder
from tunesmith.data.wording import counted
from tunesmith.errors import DataError

Item = tuple[str, str, int]  # identifier, text, line at which it begins


def read(path: str, settings: DataSettings) -> RawTable:
    """Columns ``id`` and ``text``.

    Of a folder, the text files in it and in its subfolders (also as ``.gz``), one text each, in the order of their
    paths. Of a file, its paragraphs, which empty lines separate; where it has no empty line, its lines.

    Raises:
        DataError: no text file in the folder, a link out of it, a file that is not text in the given encoding.
    """
    root = Path(path)
    notes: list[str] = []
    items = _files(root, settings.encoding, notes) if root.is_dir() else _paragraphs(root, settings.encoding, notes)
    with TableBuilder(path, "line") as builder:
        batch: list[Item] = []
        size = 0
        for item in items:
            batch.append(item)
            size += len(item[1])
            if len(batch) == BATCH_ROWS or size > BATCH_CHARACTERS:
                _add(builder, batch)
                batch, size = [], 0
        _add(builder, batch)
        return builder.finish("text", notes)


def _add(builder: TableBuilder, batch: list[Item]) -> None:
    if batch:
        ids, texts, rows = zip(*batch, strict=True)
        builder.extend({"id": ids, "text": texts}, rows)


def _files(root: Path, encoding: str, notes: list[str]) -> Iterator[Item]:
    inside, number, skipped = root.resolve(), 0, 0
    for file in sorted(root.rglob("*")):
        name = file.relative_to(root)
        if any(part.startswith(".") for part in name.parts) or file.is_dir():
            continue
        if not file.resolve().is_relative_to(inside):
            raise DataError(f"{root}: {name} is a link out of the folder; put a copy of the file there")
        ending = Path(file.stem).suffix if file.suffix.lower() == ".gz" else file.suffix
        if not file.is_file() or ending.lower() not in TEXT_ENDINGS:
            skipped += 1
            continue
        number += 1
        with Lines(file, encoding) as lines:
            yield str(name), "".join(lines), number
    if not number:
        endings = ", ".join(sorted(TEXT_ENDINGS - {""}))
        raise DataError(f"{root}: no text file in the folder or below it; expected {endings}, also as .gz")
    if skipped:
        notes.append(f"{root}: skipped {counted(skipped, 'file')} that are not named as text files")


def _paragraphs(path: Path, encoding: str, notes: list[str]) -> Iterator[Item]:
    with Lines(path, encoding) as lines:
        seen_text = False
        by_line = True
        for line in lines:
            if line.strip():
                seen_text = True
            elif seen_text and next((True for later in lines if later.strip()), False):
                by_line = False
                break
    notes.append(f"{path}: {'every line' if by_line else 'every paragraph (empty lines between)'} is read as a text")
    with Lines(path, encoding) as lines:
        pieces: list[str] = []
        start = 1
        for line in lines:
            if not pieces:
                start = lines.number
            if line.strip():
                pieces.append(line)
            if pieces and (by_line or not line.strip()):
                yield str(start), "".join(pieces).strip(), start
                pieces = []
        if pieces:
            yield str(start), "".join(pieces).strip(), start
