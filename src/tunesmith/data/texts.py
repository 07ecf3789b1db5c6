"""Texts to adapt a model to: unlabelled ones, or those of a labelled file that `train` would train on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pyarrow as pa

from tunesmith.config.schema import DataSettings
from tunesmith.data import read
from tunesmith.data.keys import alike_keys
from tunesmith.data.layout import Layout, find_layout, layout_of_other, to_records
from tunesmith.data.layout.search import NoLabelColumn
from tunesmith.data.parts import with_own_parts
from tunesmith.data.reading import NO_DIALECT, load_splits, refuse_remote, with_missing, written_alike
from tunesmith.data.records import RawTable, Records
from tunesmith.data.shapes import RecordShape
from tunesmith.data.split_column import with_split_column
from tunesmith.data.table import TEXT, is_empty, take
from tunesmith.errors import DataError, UsageError
from tunesmith.text import counted


@dataclass(frozen=True)
class DomainTexts:
    """Different texts, none of which is on both sides.

    Attributes:
        train: strings, the texts to learn from.
        held_out: strings, those that perplexity is measured on.
        sources: the records of each source that was read.
        notes: what the user should know.
    """

    train: pa.ChunkedArray
    held_out: pa.ChunkedArray
    sources: tuple[Records, ...]
    notes: tuple[str, ...]


def read_texts(
    sources: Mapping[str, object], settings: DataSettings, shape: RecordShape | None, seed: int, local: bool
) -> DomainTexts:
    """Read texts and split off those that perplexity is measured on.

    What `train` could read with the same settings is labelled, and split exactly as there: its training rows are
    learned from, its validation rows are held out, and the texts of its test rows are left out. Of unlabelled texts the
    share `valid_fraction` is held out; so are those whose labels `train` would refuse, where no setting says that there
    are any. ``"valid"`` and ``"test"`` of the sources take the place of those parts.

    Raises:
        DataError: a file cannot be read, or has too few different texts.
        UsageError: a name that needs the network with `local`.
    """
    refuse_remote(sources.values() if local else [])
    given = with_own_parts(sources)
    first, notes = given.splits["train"], list[str]()
    raw = read(first, settings, plain_text=True)
    if raw.format == "text" and settings.label is not None:
        raise UsageError(f"data.label={settings.label}: {raw.path} is read as unlabelled text; give data.format=FORMAT")
    given = with_split_column(given._replace(splits={**given.splits, "train": raw}), settings)
    sources, raw = given.splits, cast(RawTable, given.splits["train"])
    parts: dict[str, Records] = {}
    if raw.format != "text":
        try:
            parts, layout = load_splits(given, settings, shape)
        except DataError as error:
            if settings.label is not None or shape is not None:
                raise
            if not isinstance(error, NoLabelColumn):
                why = f"its labels cannot be used ({error.problems[0]})"
                notes.append(f"{raw.path}: read as unlabelled texts, since {why}")
    labelled = bool(parts)
    if not labelled:
        layout = find_layout(raw, settings, None, need_label=False)
        parts["train"] = to_records(replace(raw, notes=(*given.notes, *raw.notes)), layout)
        others = {name: source for name, source in sources.items() if name != "train"}
        parts |= {name: _unlabelled(source, layout, settings) for name, source in others.items()}
    read_from, notes = tuple(parts.values()), [*parts["train"].notes, *notes]
    names = dict.fromkeys(("valid", *(["test"] if labelled else []), *parts))
    parts = with_missing(parts, layout.shape, settings, seed, [name for name in names if name != "train"])
    if labelled:
        notes.append(
            f"{raw.path}: labelled, so it is split as train splits it with the same seed and flags; "
            f"{counted(len(parts['test']), 'test row')} left out"
        )
    whole_folder = labelled and raw.format == "folder"
    if whole_folder:  # train leaves out what is no class's file; its texts are as good as others
        everything = read(first, settings.model_copy(update={"format": "text"}))
        parts["train"] = to_records(everything, find_layout(everything, DataSettings(), None, need_label=False))

    (train, keys), (held_out, held_out_keys) = _different(parts["train"]), _different(parts["valid"])
    tested = _different(parts["test"])[1] if "test" in parts else held_out_keys
    kept = np.flatnonzero(~(np.isin(keys, held_out_keys) | np.isin(keys, tested)))
    if len(kept) < len(train) and not whole_folder:
        what = counted(len(train) - len(kept), "text")
        notes.append(f"{raw.path}: left out {what} that are held out or tested on, too")
    for what, texts in (("to learn from", kept), ("to hold out", held_out)):
        if not len(texts):
            raise DataError(f"{raw.path}: no text {what}; expected different texts that are not empty, add some")
    return DomainTexts(take(train, kept)["text"], held_out["text"], read_from, tuple(notes))


def _unlabelled(source: object, layout: Layout, settings: DataSettings) -> Records:
    """The texts of a source that is written as one of this layout."""
    alike = written_alike(source, settings.model_copy(update=NO_DIALECT), layout)
    raw = source if isinstance(source, RawTable) else read(source, alike, plain_text=True)
    return to_records(raw, layout_of_other(raw, layout, settings, need_label=False))


def _different(records: Records) -> tuple[pa.Table, np.ndarray]:
    """Every text of some records that is not blank, once, in their order; of a pair both texts. And the key of each."""
    columns = [records.table[name].cast(TEXT) for name in ("text", "text_pair") if records.has(name)]
    table = pa.table({"text": pa.chunked_array([chunk for column in columns for chunk in column.chunks], TEXT)})
    keys = alike_keys(table["text"])
    rows = np.sort(np.unique(keys, return_index=True)[1])
    blank = [np.asarray(is_empty(pa.chunked_array([chunk]))) for chunk in table["text"].chunks]
    rows = rows[~np.concatenate([*blank, np.zeros(0, dtype=bool)])[rows]]
    return take(table, rows), keys[rows]
