"""Texts to adapt a model to: unlabelled ones, or those of a labelled file that `train` would train on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tunesmith.config.schema import DataSettings
from tunesmith.data import detect, read
from tunesmith.data.files import local_path
from tunesmith.data.keys import column_keys
from tunesmith.data.layout.columns import find_layout, to_records
from tunesmith.data.layout.finder import Finder, is_empty
from tunesmith.data.records import RawTable, Records
from tunesmith.data.splits import split
from tunesmith.data.table import TEXT, take
from tunesmith.errors import DataError, UsageError
from tunesmith.text import counted


@dataclass(frozen=True)
class DomainTexts:
    """Different texts, none of which is on both sides.

    Attributes:
        train: strings, the texts to learn from.
        held_out: strings, those that perplexity is measured on.
        files: path and rows of each file that was read.
        notes: what the user should know.
    """

    train: pa.ChunkedArray
    held_out: pa.ChunkedArray
    files: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]


def read_texts(path: str, settings: DataSettings, task: str, seed: int, local: bool) -> DomainTexts:
    """Read texts and split off those that perplexity is measured on.

    A labelled file is split as `train` splits it with the same settings and seed: its training rows are learned from,
    its validation rows are held out, and the texts of its test rows are left out. Of unlabelled texts the share
    `valid_fraction` is held out; so are those of a file whose labels `train` would refuse, where no flag says that it
    has any. ``valid`` and ``test`` of the settings name files that take the place of those parts.

    Raises:
        DataError: a file cannot be read, or has too few different texts.
        UsageError: a name that needs the network with `local`.
    """
    remote = [name for name in (path, settings.valid, settings.test) if local and name and name.startswith("hub:")]
    if remote:
        raise UsageError(f"{name}: --local refuses the Hub; give a local file, or leave --local out" for name in remote)
    raw, notes = read_any(path, settings), []
    labelled = _has_labels(raw, settings, task)
    try:
        layout = find_layout(raw, settings, task if labelled else "auto", labelled)
        parts = {"train": to_records(raw, layout)}
    except DataError as error:
        if not labelled or settings.label is not None or task != "auto":
            raise
        labelled = False
        layout = find_layout(raw, settings, "auto", need_label=False)
        parts = {"train": to_records(raw, layout)}
        notes.append(f"{path}: read as unlabelled texts, since its labels cannot be used ({error.problems[0]})")
    for name, given in (("valid", settings.valid), ("test", settings.test)):
        if given is not None:
            parts[name] = to_records(read_any(given, settings), layout)
    files = tuple((records.path, len(records)) for records in parts.values())
    missing = tuple(name for name in (("valid", "test") if labelled else ("valid",)) if name not in parts)
    notes = [*parts["train"].notes, *notes]
    if missing:
        parts |= split(parts["train"], layout.kind, settings, seed, missing)
    if labelled:
        notes.append(
            f"{path}: labelled, so it is split as train splits it with the same seed and flags; "
            f"{counted(len(parts['test']), 'test row')} left out"
        )
    return _sides(path, parts, files, notes)


def _sides(path: str, parts: dict[str, Records], files: tuple[tuple[str, int], ...], notes: list[str]) -> DomainTexts:
    (train, keys), (held_out, held_out_keys) = _different(parts["train"]), _different(parts["valid"])
    tested = _different(parts["test"])[1] if "test" in parts else held_out_keys
    kept = np.flatnonzero(~(np.isin(keys, held_out_keys) | np.isin(keys, tested)))
    if len(kept) < len(train):
        notes.append(f"{path}: left out {counted(len(train) - len(kept), 'text')} that are held out or tested on, too")
    for name, texts in (("to learn from", kept), ("to hold out", held_out)):
        if not len(texts):
            raise DataError(f"{path}: no text {name}; expected different texts that are not empty, add some")
    return DomainTexts(take(train, kept)["text"], held_out["text"], files, tuple(notes))


def _different(records: Records) -> tuple[pa.Table, np.ndarray]:
    """Every text of some records that is not blank, once, in their order; of a pair both texts. And the key of each."""
    columns = [records.table[name].cast(TEXT) for name in ("text", "text_pair") if records.has(name)]
    table = pa.table({"text": pa.chunked_array([chunk for column in columns for chunk in column.chunks], TEXT)})
    keys = column_keys(table["text"])
    rows = np.sort(np.unique(keys, return_index=True)[1])
    blank = [np.asarray(is_empty(pa.chunked_array([chunk]))) for chunk in table["text"].chunks]
    rows = rows[~np.concatenate([*blank, np.zeros(0, dtype=bool)])[rows]]
    return take(table, rows), keys[rows]


def read_any(path: str, settings: DataSettings) -> RawTable:
    """As `tunesmith.data.read`, but what has no other format is read as text, and a folder as one of text files."""
    if settings.format is None and not path.startswith("hub:"):
        found = local_path(path)
        format = "text" if found.is_dir() and not (found / "state.json").exists() else detect(found)
        if format is None or format == "text":
            settings = settings.model_copy(update={"format": "text"})
    return read(path, settings)


def _has_labels(raw: RawTable, settings: DataSettings, task: str) -> bool:
    """Whether the file has labels, by flag, task or the name of a column."""
    if raw.format == "text":
        if settings.label is not None:
            raise UsageError(f"--label {settings.label}: {raw.path} is read as unlabelled text; give --format")
        return False
    annotated = raw.format in ("conll", "squad", "labelstudio", "doccano", "prodigy") or task in ("ner", "qa")
    return settings.label is not None or annotated or bool(Finder(raw).labels(None, need=False))
