"""Local files as lines of text: regular files only, bounded expansion, errors that name the byte and the line."""

from __future__ import annotations

import codecs
import difflib
import gzip
import io
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tunesmith.config.schema import DataSettings
from tunesmith.data.expansion import Budget
from tunesmith.errors import DataError, UsageError

LINE_LIMIT = 64 * 2**20
SAMPLE_BYTES = 2**16
CHUNK_BYTES = 2**20

SIGNATURES = {
    b"PAR1": "a Parquet file (data.format=parquet)",
    b"ARROW1": "an Arrow file (data.format=arrow)",
    b"PK\x03\x04": "a zip archive, to be unpacked, or a document: give data.format=workbook, or save its table as CSV",
    b"\xd0\xcf\x11\xe0": "an old document of Office: give data.format=workbook, or save its table as CSV",
    b"%PDF": "a PDF document; save its text in a file",
    b"SQLite format 3": "an SQLite database",
    b"BZh": "compressed with bzip2; unpack it first",
    b"\xfd7zXZ": "compressed with xz; unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it first",
}
ENDINGS = {
    **{".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"},
    **{".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow"},
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"), "workbook"),
    **dict.fromkeys((".conll", ".iob", ".iob2", ".bio", ".bioes"), "conll"),
}
"""Format by the ending of a file's name, compressed or not."""
OTHER_TOOLS = {
    ".ann": "annotations of brat, which stand apart from their texts",
    ".xmi": "annotations of UIMA, as INCEpTION exports them",
    ".xml": "XML",
    ".spacy": "a binary file of spaCy",
    ".manifest": "a manifest of SageMaker",
}
"""Endings of what is not read, and what it is."""
AS_TEXT = 'export CoNLL columns, or write JSON lines: {"text": …, "spans": [{"start": 0, "end": 3, "label": …}]}'
WEBANNO = b"#FORMAT=WebAnno"
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def local_path(path: str) -> Path:
    """The file or folder that `path` names.

    Raises:
        DataError: it is an address, does not exist, or is a pipe, device or socket.
    """
    if "://" in path:
        raise DataError(f"{path}: expected a local file, found an address; download it first, or use hub:owner/name")
    found = Path(path)
    try:
        mode = found.stat().st_mode
    except FileNotFoundError:
        near = difflib.get_close_matches(found.name, [entry.name for entry in found.parent.glob("*")], n=3)
        advice = f"did you mean {' or '.join(map(repr, near))}?" if near else "check the path"
        raise DataError(f"{path}: no such file; {advice}") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({why}); check the path and its permissions") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"{path}: expected a regular file, found a pipe, device or socket; save its content to a file")
    return found


def ending_of(path: Path) -> str:
    """``".csv"`` of ``tickets.CSV`` and of ``tickets.csv.gz``; empty where there is none."""
    endings = [ending.lower() for ending in path.suffixes]
    return ([ending for ending in endings if ending != ".gz"] or [""])[-1]


def has_known_ending(path: Path) -> bool:
    return ending_of(path) in ENDINGS


def codec_name(encoding: str) -> str:
    """The codec for a text encoding; UTF-8 also takes a byte order mark.

    Raises:
        UsageError: there is no such text encoding.
    """
    try:
        name = codecs.lookup(encoding).name
        io.TextIOWrapper(io.BytesIO(), encoding=name)  # refuses codecs that do not make text, such as zip
    except (LookupError, ValueError):
        raise UsageError(
            f"data.encoding: no text encoding is called {encoding!r}; for example utf-8, cp1252, latin-1, utf-16"
        ) from None
    return "utf-8-sig" if name == "utf-8" else name


class _Bounded(gzip.GzipFile):
    """The expanded bytes of a gzip file, up to a limit."""

    def __init__(self, path: Path, settings: DataSettings) -> None:
        super().__init__(path, "rb")
        self._budget = Budget(path, settings)

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._budget.spend(len(data))
        return data


def open_bytes(path: Path, settings: DataSettings) -> BinaryIO:
    """The (expanded) bytes of a file; the caller closes it."""
    if path.suffix.lower() == ".gz":
        return io.BufferedReader(_Bounded(path, settings), CHUNK_BYTES)
    return open(path, "rb")


@contextmanager
def explained(path: Path, settings: DataSettings) -> Iterator[None]:
    """Turns what goes wrong while bytes become text into one `DataError`."""
    try:
        yield
    except UnicodeError:
        raise DataError(_explain_encoding(path, settings)) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a complete gzip file ({error}); copy or compress it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


class Lines:
    """The lines of a text file, with their ends as they stand in it (``\\n``, ``\\r\\n`` or ``\\r``).

    Args:
        settings: its encoding, and how far it may expand.
        limit: number of characters of the longest line.

    Attributes:
        number: lines given so far.
        characters: characters given so far.
    """

    def __init__(self, path: Path, settings: DataSettings, limit: int = LINE_LIMIT) -> None:
        self.path, self.encoding, self.limit, self._settings = path, codec_name(settings.encoding), limit, settings
        self.number = self.characters = 0

    def __enter__(self) -> Lines:
        with explained(self.path, self._settings):
            with open_bytes(self.path, self._settings) as stream:
                _refuse_other_content(self.path, stream.read(SAMPLE_BYTES), self.encoding)
            self._text = io.TextIOWrapper(open_bytes(self.path, self._settings), encoding=self.encoding, newline="")
        return self

    def __exit__(self, *_: object) -> None:
        self._text.close()

    def __iter__(self) -> Lines:
        return self

    def text(self, size: int) -> str:
        """The next characters, whatever lines they belong to; fewer than `size` at the end."""
        return self._read(self._text.read, size)

    def _read(self, read: Callable[[int], str], size: int) -> str:
        try:
            text = read(size)
        except (UnicodeError, EOFError, zlib.error, OSError) as error:
            with explained(self.path, self._settings):
                raise error
        # codecs that name the order of bytes leave the mark
        return text if self.characters else text.removeprefix("\ufeff")

    def __next__(self) -> str:
        line = self._read(self._text.readline, self.limit)
        if not line:
            raise StopIteration
        self.number += 1
        self.characters += len(line)
        if len(line) == self.limit:
            raise DataError(f"{self.path}: line {self.number}: more than {self.limit:,} characters; is it a text file?")
        return line


def _refuse_other_content(path: Path, head: bytes, encoding: str) -> None:
    """Stops early where the first bytes show that this is not text in the given encoding."""
    if head.startswith(b"\x1f\x8b"):
        raise DataError(f"{path}: compressed with gzip but not named so; rename it to {path.name}.gz")
    if head.startswith(WEBANNO):
        raise DataError(f"{path}: annotations of WebAnno or INCEpTION in their own TSV are not read; {AS_TEXT}")
    if kind := contents_name(head):
        raise DataError(f"{path}: not a text file but {kind}")
    if encoding.startswith(("utf-16", "utf-32")):
        return
    for mark, name in BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            raise DataError(
                f"{path}: line 1, byte 0: not {_shown(encoding)}; likely {name} (give data.encoding={name})"
            )
    if head.count(0) > 0.3 * len(head):
        name = "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
        if not head[head.startswith(b"\0") :: 2].count(0):
            raise DataError(f"{path}: line 1: not {_shown(encoding)}; likely {name} (give data.encoding={name})")
    if _controls(head) > 0.3 * len(head):
        raise DataError(f"{path}: not a text file (mostly control characters); see data.format for what can be read")


def contents_name(head: bytes) -> str | None:
    """What a file is by its first bytes, and what to do with it; None for what may be text."""
    return next((kind for signature, kind in SIGNATURES.items() if head.startswith(signature)), None)


def _controls(data: bytes) -> int:
    return sum(data.count(byte) for byte in range(32) if byte not in b"\t\n\r\f\x1b")


def _shown(encoding: str) -> str:
    return "UTF-8" if encoding == "utf-8-sig" else encoding


def _explain_encoding(path: Path, settings: DataSettings) -> str:
    """Where the file stops being text in its encoding, and what it is more likely to be."""
    encoding = codec_name(settings.encoding)
    # utf-8-sig counts positions from after the mark; plain utf-8 takes the mark as a character
    decoder = codecs.getincrementaldecoder("utf-8" if encoding == "utf-8-sig" else encoding)()
    start, line = 0, 1
    with open_bytes(path, settings) as stream:
        while True:
            chunk = stream.read(CHUNK_BYTES)
            pending = decoder.getstate()[0]
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                data, position = pending + chunk, error.start
                offset = start - len(pending) + position
                line += data[:position].count(b"\n")
                break
            except UnicodeError:
                advice = "give data.encoding=utf-16-le or data.encoding=utf-16-be"
                return f"{path}: not {encoding} (no byte order mark); {advice}"
            if not chunk:
                return f"{path}: not {_shown(encoding)}"
            start += len(chunk)
            line += text.count("\n")
    around = data[max(0, position - SAMPLE_BYTES // 2) : position + SAMPLE_BYTES // 2]
    if _controls(around) > 0.02 * len(around):
        return (
            f"{path}: not a text file (byte {offset} is not {_shown(encoding)}); see data.format for what can be read"
        )
    candidates = ("utf-8", "cp1252", "latin-1")  # the first in which nothing is lost
    likely = next(name for name in candidates if around.decode(name, "ignore").encode(name) == around)
    byte = f" (0x{data[position]:02x})" if position < len(data) else ""
    place = f"{path}: line {line}, byte {offset}{byte}"
    return f"{place}: not {_shown(encoding)}; likely {likely} (give data.encoding={likely})"
