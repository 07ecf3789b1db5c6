"""Data in: readers, columns, checks and splits. Knows no torch.

source ─read→ RawTable ─find_layout, to_records→ Records ─check→ Findings ─split→ train, valid, test
"""

from __future__ import annotations

import re
from pathlib import Path

from tunesmith.config.schema import DataSettings
from tunesmith.data.files import codec_name, explained, local_path, open_bytes
from tunesmith.data.readers.conll import looks_like as looks_like_columns
from tunesmith.data.records import RawTable
from tunesmith.errors import DataError
from tunesmith.registry import lookup, names

FORMATS: dict[str, str] = {
    "csv": "tunesmith.data.readers.delimited:read",
    "tsv": "tunesmith.data.readers.delimited:read_tabs",
    "jsonl": "tunesmith.data.readers.jsonlines:read",
    "json": "tunesmith.data.readers.jsonlines:read_array",
    "parquet": "tunesmith.data.readers.columnar:read_parquet",
    "arrow": "tunesmith.data.readers.columnar:read_arrow",
    "datasets": "tunesmith.data.readers.columnar:read_saved",
    "folder": "tunesmith.data.readers.folder:read",
    "fasttext": "tunesmith.data.readers.fasttext:read",
    "conll": "tunesmith.data.readers.conll:read",
    "squad": "tunesmith.data.readers.squad:read",
    "labelstudio": "tunesmith.data.readers.jsonlines:read_array",
    "doccano": "tunesmith.data.readers.jsonlines:read",
    "prodigy": "tunesmith.data.readers.jsonlines:read",
    "text": "tunesmith.data.readers.plain:read",
    "hub": "tunesmith.data.readers.hub:read",
}
ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".conll": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".bio": "conll",
    ".bioes": "conll",
}
_SQUAD = re.compile(r'^\s*\{.*"paragraphs"\s*:', re.DOTALL)
HEAD_BYTES = 2**20
BINARY = {"parquet", "arrow"}
FOLDERS = {"folder", "datasets"}


def read(path: str, settings: DataSettings) -> RawTable:
    """The rows of a file, folder or Hub data set, every value as the text that stands there.

    Args:
        path: a local file (text formats also as ``.gz``) or folder, or ``hub:owner/name[:split]``.
        settings: format, delimiter and encoding.

    Raises:
        DataError: the source is missing, not local, not readable in its format, or has no rows.
        UsageError: the format, delimiter or encoding is unknown.
    """
    codec_name(settings.encoding)
    if path.startswith("hub:"):
        format: str | None = "hub"
    else:
        found = local_path(path)
        format = settings.format or detect(found)
        if format is None:
            known = ", ".join(names(FORMATS, "formats"))
            ending = ([e.lower() for e in found.suffixes if e.lower() != ".gz"] or [""])[-1]
            raise DataError(
                f"{path}: the ending {ending!r} does not tell the format; rename it, as in data.csv, or train with "
                f"--format ({known})"
            )
        if format in FORMATS and format != "text" and found.is_dir() != (format in FOLDERS):
            wanted, other = ("folder", "file") if format in FOLDERS else ("file", "folder")
            raise DataError(f"{path}: format {format} needs a {wanted}, found a {other}; check the path and --format")
    table = lookup(FORMATS, "formats", str(format))(path, settings)
    assert isinstance(table, RawTable)
    return table


def detect(path: Path) -> str | None:
    """The format of a local file or folder by its name and beginning; None where they do not tell.

    Raises:
        DataError: a folder without subfolders, or a compressed file of a format that is not read so.
    """
    if path.is_dir():
        entries = {entry.name for entry in path.iterdir()}
        if "dataset_dict.json" in entries or {"state.json", "dataset_info.json"} <= entries:
            return "datasets"
        if any(entry.is_dir() and not entry.name.startswith(".") for entry in path.iterdir()):
            return "folder"
        raise DataError(f"{path}: expected a folder with one subfolder per class, found none; name a file in it")
    endings = [ending.lower() for ending in path.suffixes]
    compressed = endings[-1:] == [".gz"]
    ending = (endings[-2:-1] if compressed else endings[-1:]) or [""]
    format = ENDINGS.get(ending[0])
    if format == "json" and _SQUAD.search(_head(path)):
        return "squad"
    if format is None:
        head = _head(path)
        if "__label__" in head[:200]:
            return "fasttext"
        if looks_like_columns(head):
            return "conll"
        return None
    if compressed and format in BINARY:
        raise DataError(f"{path}: {format} files are not read as .gz; unpack it first")
    return format


def _head(path: Path) -> str:
    """The beginning of a file as text; what is not UTF-8 is replaced."""
    with explained(path, "utf-8"), open_bytes(path) as stream:
        return stream.read(HEAD_BYTES).decode("utf-8", errors="replace")
