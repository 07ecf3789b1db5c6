"""Data in: readers, layouts, checks and splits. Knows no torch.

source ─read→ RawTable ─find_layout→ Layout ─to_records→ Records ─check→ Findings ─split→ train, valid, test

`reading` takes the first steps together, for every command.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from tunesmith.config.schema import DataSettings
from tunesmith.data.files import (
    AS_TEXT,
    ENDINGS,
    OTHER_TOOLS,
    SAMPLE_BYTES,
    codec_name,
    contents_name,
    ending_of,
    explained,
    has_known_ending,
    local_path,
    open_bytes,
)
from tunesmith.data.layout.exports import plain_table
from tunesmith.data.parts import SAVED, one_part
from tunesmith.data.readers.conll import looks_like_columns
from tunesmith.data.readers.folder import is_text_file
from tunesmith.data.readers.memory import read_memory
from tunesmith.data.records import RawTable
from tunesmith.data.sources import content_sha256
from tunesmith.errors import DataError
from tunesmith.registry import lookup, names
from tunesmith.text import name_list

FORMATS: dict[str, str] = {
    "csv": "tunesmith.data.readers.delimited:read",
    "tsv": "tunesmith.data.readers.delimited:read_tabs",
    "jsonl": "tunesmith.data.readers.jsonlines:read",
    "json": "tunesmith.data.readers.jsonlines:read_array",
    "parquet": "tunesmith.data.readers.columnar:read_parquet",
    "arrow": "tunesmith.data.readers.columnar:read_arrow",
    "workbook": "tunesmith.data.readers.workbook:read",
    "datasets": "tunesmith.data.readers.columnar:read_saved",
    "folder": "tunesmith.data.readers.folder:read",
    "fasttext": "tunesmith.data.readers.fasttext:read",
    "conll": "tunesmith.data.readers.conll:read",
    "squad": "tunesmith.data.readers.jsonlines:read_squad",
    "labelstudio": "tunesmith.data.readers.jsonlines:read_array",
    "doccano": "tunesmith.data.readers.jsonlines:read",
    "prodigy": "tunesmith.data.readers.jsonlines:read",
    "text": "tunesmith.data.readers.plain:read",
    "hub": "tunesmith.data.readers.hub:read",
}
_SQUAD = re.compile(r'^\s*[\[{].*"qas"\s*:', re.DOTALL)
HEAD_BYTES = 2**20
BINARY = {"parquet", "arrow", "workbook"}
FOLDERS = {"folder", "datasets"}


def read(source: object, settings: DataSettings, plain_text: bool = False, split: str | None = None) -> RawTable:
    """The rows of a file, folder, Hub data set or table in memory, every value as the text that stands there.

    Args:
        source: a local file (text formats also as ``.gz``) or folder, ``hub:owner/name[:split]``, or a table in memory;
            see `tunesmith.data.readers.memory`.
        settings: format, delimiter and encoding.
        plain_text: read what has no other format as unlabelled text, and a folder without classes as its text files.
        split: which one, of a source that holds several.

    Raises:
        DataError: the source is missing, not local, not readable in its format, has no rows, or holds several splits
            and none that is called so.
        UsageError: the format, delimiter or encoding is unknown.
    """
    codec_name(settings.encoding)
    part, chosen = one_part(source, split)
    if part is not source:
        table = read(part, settings, plain_text)
        return replace(table, notes=(*chosen, *table.notes))
    if not isinstance(source, str | Path):
        table = read_memory(source)
        return plain_table(replace(table, sha256=content_sha256(table.table)), settings)
    path = str(source)
    if path.startswith("hub:"):
        format: str | None = "hub"
    else:
        found = local_path(path)
        format = settings.format or detect(found, plain_text)
        if format is None:
            known = ", ".join(names(FORMATS, "formats"))
            with found.open("rb") as stream:
                content = contents_name(stream.read(SAMPLE_BYTES))
            if content is not None:
                raise DataError(f"{path}: {content}")
            if tool := OTHER_TOOLS.get(ending_of(found)):
                raise DataError(f"{path}: {tool}, cannot be read; {AS_TEXT}")
            what = f"the ending {ending_of(found)!r} does not tell the format"
            if not found.suffix:
                what = "without an ending it does not tell the format"
            if found.suffix.lower() == ".txt":
                what = "lines of text alone have no labels"
            raise DataError(f"{path}: {what}; rename it, as in data.csv, or give data.format=FORMAT ({known})")
        if format in FORMATS and format != "text" and found.is_dir() != (format in FOLDERS):
            wanted, other = ("folder", "file") if format in FOLDERS else ("file", "folder")
            raise DataError(
                f"{path}: format {format} needs a {wanted}, found a {other}; check the path and data.format"
            )
    table = lookup(FORMATS, "formats", str(format))(path, settings)
    assert isinstance(table, RawTable)
    if format == "hub":
        table = replace(table, sha256=content_sha256(table.table))
    return plain_table(table, settings)


def detect(path: Path, plain_text: bool = False) -> str | None:
    """The format of a local file or folder by its name and beginning; None where they do not tell.

    Args:
        plain_text: as `read`.

    Raises:
        DataError: a folder without subfolders, or a compressed file of a format that is not read so.
    """
    if path.is_dir():
        entries = {entry.name for entry in path.iterdir()}
        if SAVED in entries or {"state.json", "dataset_info.json"} <= entries:
            return "datasets"
        classes = [entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
        if plain_text:
            return "folder" if sum(any(map(is_text_file, entry.iterdir())) for entry in classes) > 1 else "text"
        if classes:
            return "folder"
        if any(name.endswith(".ann") for name in entries):
            raise DataError(f"{path}: {OTHER_TOOLS['.ann']}, cannot be read; {AS_TEXT}")
        files = sorted(entry.name for entry in path.iterdir() if entry.is_file() and has_known_ending(entry))
        advice = f"name one of its files: {name_list(files)}" if files else "name a file"
        raise DataError(f"{path}: expected a folder with one subfolder per class, found none; {advice}")
    compressed, format = path.suffix.lower() == ".gz", ENDINGS.get(ending_of(path))
    if format is None or format == "json":
        usual = DataSettings()
        with explained(path, usual), open_bytes(path, usual) as stream:
            head = stream.read(HEAD_BYTES).decode("utf-8", errors="replace")
        if format == "json":
            return "squad" if _SQUAD.search(head) else "json"
        if "__label__" in head[:200]:
            return "fasttext"
        return "conll" if looks_like_columns(head) else "text" if plain_text else None
    if compressed and format in BINARY:
        raise DataError(f"{path}: {format} files are not read as .gz; unpack it first")
    return format
