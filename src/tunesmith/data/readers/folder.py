"""A folder of text files: one subfolder per class and one file per example, or unlabelled texts at any depth."""

from __future__ import annotations

from pathlib import Path

from tunesmith.config.schema import DataSettings
from tunesmith.data.files import codec_name, explained, open_bytes
from tunesmith.data.records import RawTable
from tunesmith.data.table import FIELD_LIMIT, TableBuilder
from tunesmith.errors import DataError
from tunesmith.text import counted, name_list

TEXT_ENDINGS = {"", ".txt", ".text", ".md"}
FALLBACK = "cp1252"
NO_CLASSES = {"unsup", "unsupervised", "unlabelled", "unlabeled"}  # subfolders of texts that have no class
MAX_FALLBACK_SHARE = 0.01  # more undecodable files than this means that the encoding is wrong


def read(path: str, settings: DataSettings) -> RawTable:
    """Columns ``id`` (``class/file``), ``text`` and ``label`` (the subfolder's name). See `read_files`.

    Raises:
        DataError: the subfolders of the subfolders are the classes; as `read_files`.
    """
    folders = [entry for entry in sorted(Path(path).iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    if deeper := [entry for entry in folders if has_classes(entry)]:
        first, *others = deeper
        advice = f"name one, as in {first}" + (f" with data.test={others[0]}" if others else "")
        raise DataError(f"{path}: the classes are subfolders of {name_list(e.name for e in deeper)}; {advice}")
    return read_files(path, settings, deep=False)


def has_classes(folder: Path) -> bool:
    """Whether it has more than one subfolder with text files, and not more text files itself than these have."""
    inside = [entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    counts = [sum(map(is_text_file, entry.iterdir())) for entry in inside]
    return sum(map(bool, counts)) > 1 and sum(counts) >= sum(map(is_text_file, folder.iterdir()))


def read_files(path: str, settings: DataSettings, deep: bool) -> RawTable:
    """The text files of a folder (also as ``.gz``), one text each, in the order of their paths.

    A few files that are not in the expected encoding are read as Windows-1252, with a note that names them; so are
    those that are no texts, which are skipped.

    Args:
        deep: all that are in the folder and below it, without labels; else those in its subfolders.

    Raises:
        DataError: no text file, a link out of the folder, a text that is too large, more than 1 % undecodable.
    """
    root, codec, number = Path(path), codec_name(settings.encoding), 0
    inside, odd, skipped, unlabelled = root.resolve(), list[str](), list[str](), dict[str, None]()
    with TableBuilder(path, "file") as builder:
        for file in sorted(root.rglob("*") if deep else [*root.glob("*"), *root.glob("*/*")]):
            name, wanted = file.relative_to(root), deep or file.parent != root
            if any(part.startswith(".") for part in name.parts) or (file.is_dir() and (deep or not wanted)):
                continue
            if wanted and not file.resolve().is_relative_to(inside):
                raise DataError(f"{path}: {name} is a link out of the folder; put a copy of the file there")
            if not deep and name.parts[0].lower() in NO_CLASSES:
                unlabelled[name.parts[0]] = None
                continue
            if not (wanted and is_text_file(file)):
                skipped.append(str(name))
                continue
            number += 1
            with explained(file, settings), open_bytes(file, settings) as stream:
                data = stream.read(FIELD_LIMIT + 1)
            if len(data) > FIELD_LIMIT:
                raise DataError(f"{file}: a text of more than {FIELD_LIMIT:,} bytes; part it into several files")
            try:
                text = data.decode(codec)
            except UnicodeError:
                odd.append(str(name))
                text = data.decode(FALLBACK, errors="replace")
            label = {} if deep else {"label": file.parent.name}
            builder.append(number, {"id": name.as_posix(), "text": text, **label}, len(text))
        if not number:
            endings = ", ".join(sorted(TEXT_ENDINGS - {""}))
            raise DataError(f"{path}: no text file in the folder or below it; expected {endings}, also as .gz")
        found = f"{counted(len(odd), 'file')} not {settings.encoding}"
        if len(odd) > max(1, MAX_FALLBACK_SHARE * number):
            raise DataError(f"{path}: {found} ({name_list(odd)}); give data.encoding={FALLBACK}, or what it is")
        notes = [f"{found}, read as Windows-1252: {name_list(odd)}"] if odd else []
        notes += [f"skipped, not text files of the folder: {name_list(skipped)}"] if skipped else []
        notes += [f"left out, since the texts there have no class: {name_list(unlabelled)}"] if unlabelled else []
        return builder.finish("text" if deep else "folder", notes)


def is_text_file(file: Path) -> bool:
    ending = Path(file.stem).suffix if file.suffix.lower() == ".gz" else file.suffix
    return file.is_file() and ending.lower() in TEXT_ENDINGS and not file.name.startswith(".")
