"""A folder with one subfolder per class and one text file per example."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tunesmith.config.schema import DataSettings
from tunesmith.data.files import codec_name
from tunesmith.data.records import RawTable
from tunesmith.data.table import FIELD_LIMIT, TableBuilder
from tunesmith.errors import DataError
from tunesmith.text import counted, name_list

TEXT_ENDINGS = {"", ".txt", ".text", ".md"}
FALLBACK = "cp1252"
MAX_FALLBACK_SHARE = 0.01  # more undecodable files than this means that the encoding is wrong


def read(path: str, settings: DataSettings) -> RawTable:
    """Columns ``id`` (``class/file``), ``text`` and ``label`` (the subfolder's name), in the order of the names.

    A few files that are not in the expected encoding are read as Windows-1252, with a note that names them.

    Raises:
        DataError: a link out of the folder, something that is no file, more than 1 % of the files undecodable.
    """
    root, codec = Path(path), codec_name(settings.encoding)
    skipped: list[str] = []
    odd: list[str] = []
    position = 0
    with TableBuilder(path, "file") as builder:
        for position, file in enumerate(text_files(root, skipped, deep=False), 1):
            text, label = file_text(file, codec, odd), file.parent.name
            builder.append(position, {"id": f"{label}/{file.name}", "text": text, "label": label}, len(text))
        return builder.finish("folder", folder_notes(path, settings.encoding, odd, position, skipped))


def text_files(root: Path, skipped: list[str], deep: bool) -> Iterator[Path]:
    """The text files in the folders of a folder; `deep`: all that are in it and below it, also packed with gzip.

    The names of other files are added to `skipped`.

    Raises:
        DataError: a link out of the folder.
    """
    inside = root.resolve()
    for file in sorted(root.rglob("*") if deep else [*root.glob("*"), *root.glob("*/*")]):
        name, at_top = file.relative_to(root), file.parent == root
        if any(part.startswith(".") for part in name.parts) or ((deep or at_top) and file.is_dir()):
            continue
        if (deep or not at_top) and not file.resolve().is_relative_to(inside):
            raise DataError(f"{root}: {name} is a link out of the folder; put a copy of the file there")
        if (deep or not at_top) and is_text_file(file, packed=deep):
            yield file
        else:
            skipped.append(str(name))


def is_text_file(file: Path, packed: bool = False) -> bool:
    ending = Path(file.stem).suffix if packed and file.suffix.lower() == ".gz" else file.suffix
    return file.is_file() and ending.lower() in TEXT_ENDINGS and not file.name.startswith(".")


def file_text(file: Path, codec: str, odd: list[str]) -> str:
    """The text of a file; one that is not in the codec is read as Windows-1252 and its name added to `odd`.

    Raises:
        DataError: it is too large for one text, or cannot be read.
    """
    try:
        if file.stat().st_size > FIELD_LIMIT:
            raise DataError(f"{file}: more than the limit of {FIELD_LIMIT:,} bytes for one text; cut it up")
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from None
    try:
        return data.decode(codec)
    except UnicodeError:
        odd.append(f"{file.parent.name}/{file.name}")
        return data.decode(FALLBACK, errors="replace")


def folder_notes(path: str, encoding: str, odd: list[str], files: int, skipped: list[str]) -> list[str]:
    """What the user should know of the files that are not in the encoding, and of those that were skipped.

    Raises:
        DataError: more than 1 % of the files (and more than one) are not in the encoding, so it is wrong.
    """
    found = f"{counted(len(odd), 'file')} not {encoding}"
    if len(odd) > max(1, MAX_FALLBACK_SHARE * files):
        raise DataError(f"{path}: {found} ({name_list(odd)}); give data.encoding={FALLBACK}, or what it is")
    notes = [f"{found}, read as Windows-1252: {name_list(odd)}"] if odd else []
    return [*notes, f"skipped, not text files of the folder: {name_list(skipped)}"] if skipped else notes
