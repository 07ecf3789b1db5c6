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
    root = Path(path)
    codec = codec_name(settings.encoding)
    skipped: list[str] = []
    odd: list[str] = []
    position = 0
    with TableBuilder(path, "file") as builder:
        for position, file in enumerate(_files(root, skipped), 1):
            text, label = file_text(file, codec, odd), file.parent.name
            builder.append(position, {"id": f"{label}/{file.name}", "text": text, "label": label}, len(text))
        notes = fallback_notes(path, settings.encoding, odd, position)
        if skipped:
            notes.append(f"skipped, not text files in a class folder: {name_list(skipped)}")
        return builder.finish("folder", notes)


def _files(root: Path, skipped: list[str]) -> Iterator[Path]:
    inside = root.resolve()
    for folder in sorted(root.iterdir()):
        if folder.name.startswith("."):
            continue
        if not folder.is_dir():
            skipped.append(folder.name)
            continue
        for file in sorted(folder.iterdir()):
            name = f"{folder.name}/{file.name}"
            if not file.resolve().is_relative_to(inside):
                raise DataError(f"{root}: {name} is a link out of the folder; put a copy of the file there")
            if is_text_file(file):
                yield file
            elif not file.name.startswith("."):
                skipped.append(name)


def is_text_file(file: Path) -> bool:
    return file.is_file() and file.suffix.lower() in TEXT_ENDINGS and not file.name.startswith(".")


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


def fallback_notes(path: str, encoding: str, odd: list[str], files: int) -> list[str]:
    """What the user should know of the files that are not in the encoding.

    Raises:
        DataError: more than 1 % of the files (and more than one), so the encoding is wrong.
    """
    if len(odd) > max(1, MAX_FALLBACK_SHARE * files):
        found = f"{counted(len(odd), 'file')} not {encoding} ({name_list(odd)})"
        raise DataError(f"{path}: {found}; give data.encoding={FALLBACK}, or what it is")
    return [f"{counted(len(odd), 'file')} not {encoding}, read as Windows-1252: {name_list(odd)}"] if odd else []
