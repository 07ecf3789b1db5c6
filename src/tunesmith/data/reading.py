"""From what the user named to records: the one way in, of every command.

``train`` and ``check`` find the layout of the training file (`load_splits`); ``adapt`` reads as they do
(`tunesmith.data.texts`); ``evaluate`` and ``predict`` read new data in the layout that was kept with the model
(`read_new`, and of lines `tunesmith.data.lines`).
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.config.schema import DataSettings
from tunesmith.data import detect, read
from tunesmith.data.files import local_path
from tunesmith.data.idle import refuse_idle
from tunesmith.data.layout import OWN_FORMS, Layout, find_layout, layout_of_other, to_records
from tunesmith.data.layout.annotated import CONTEXT_NAMES, QUESTION_NAMES
from tunesmith.data.layout.search import PAIR_NAMES
from tunesmith.data.parts import Sources, with_own_parts
from tunesmith.data.records import RawTable, Records
from tunesmith.data.shapes import RecordShape
from tunesmith.data.split_column import NO_COLUMN, rows_for, with_split_column
from tunesmith.data.splits import split
from tunesmith.data.table import is_empty
from tunesmith.errors import DataError, TunesmithError, UsageError
from tunesmith.text import counted, name_list, row_list

DESCRIPTORS = "/proc/self/fd"
STANDARD_INPUT, INPUT_NAME = "-", "standard input"
PAIRS = (*PAIR_NAMES, *product(QUESTION_NAMES, CONTEXT_NAMES))
"""Usual names of two texts that belong together."""
NO_DIALECT = {"delimiter": None, "quoting": None}
"""Settings of the training file, which others take over where they are of its format; see `written_alike`."""


def load_records(
    source: object, settings: DataSettings, shape: RecordShape | None = None, need_label: bool = True
) -> tuple[Records, Layout]:
    """Reads a source (or takes what was read) and finds its layout: `read`, `find_layout`, `to_records` in one call.

    Raises:
        DataError, UsageError: as those three.
    """
    raw = source if isinstance(source, RawTable) else read(source, settings)
    layout = find_layout(raw, settings, shape, need_label)
    return to_records(raw, layout, settings), layout


def load_splits(
    given: Mapping[str, object] | Sources,
    settings: DataSettings,
    shape: RecordShape | None = None,
    local: bool = False,
) -> tuple[dict[str, Records], Layout]:
    """The records of each split that is given, all read as ``"train"`` is.

    Args:
        given: ``"train"``, and perhaps ``"valid"`` and ``"test"``; where ``"train"`` is a set of splits, its own are
            read for those that are not given, unless they have no labels at all. So are rows that a column divides.
        shape: of the rows, or None to read it off the labels.
        local: refuse names that need the network.

    Raises:
        DataError, UsageError: as `load_records`.
    """
    refuse_remote((given.splits if isinstance(given, Sources) else given).values() if local else [])
    found = given if isinstance(given, Sources) else with_own_parts(given)
    sources, own, told = with_split_column(found._replace(splits=_first_read(found.splits, settings)), settings)
    notes = list(told)
    records, layout = load_records(sources["train"], settings, shape)
    splits = {"train": records}
    for name, source in sources.items():
        if name != "train":
            if isinstance(source, RawTable):
                raw = source
            else:
                raw = read(source, written_alike(source, settings.model_copy(update=NO_DIALECT), layout))
                raw = rows_for(name, raw, settings)
            columns = [raw.table[label] for label in layout.labels if label in raw.table.column_names]
            if name in own and columns and all(pc.all(is_empty(column)).as_py() for column in columns):
                notes.append(f"its own {name} split has no labels, so {name} rows are split off the train rows")
                continue
            splits[name] = to_records(raw, layout_of_other(raw, layout, settings), settings)
            refuse_mixture(splits[name], records.has("text_pair"))
    formats = {one.origin.format for one in splits.values() if one.origin}
    refuse_idle(settings, formats, layout.shape)
    splits["train"] = replace(records, notes=(*notes, *records.notes))
    return splits, layout


def written_alike(source: object, settings: DataSettings, first: Layout) -> DataSettings:
    """The settings, with delimiter and quoting of the training file where they say none and the format is the same."""
    dialect = first.dialect
    if dialect is None or not isinstance(source, str | Path) or str(source).startswith("hub:"):
        return settings
    if (settings.format or detect(local_path(str(source)))) != dialect.format:
        return settings
    unsaid = [name for name in NO_DIALECT if getattr(settings, name) is None]
    return settings.model_copy(update={name: getattr(dialect, name) for name in unsaid})


def _first_read(sources: Mapping[str, object], settings: DataSettings) -> dict[str, object]:
    first = sources["train"]
    return {**sources, "train": first if isinstance(first, RawTable) else read(first, settings)}


def refuse_mixture(records: Records, pairs: bool) -> None:
    """
    Raises:
        DataError: single texts where training has `pairs`, or the other way round.
    """
    if records.has("text_pair") != pairs:
        wanted, found = ("pairs of texts", "single texts") if pairs else ("single texts", "pairs of texts")
        raise DataError(f"{records.path}: the model is trained on {wanted}, found {found}; check the columns")


def with_missing(
    splits: dict[str, Records],
    shape: RecordShape,
    settings: DataSettings,
    seed: int,
    names: Iterable[str] = ("valid", "test"),
) -> dict[str, Records]:
    """The splits, those of `names` that no file was given for split off the train rows; see `split`."""
    missing = [name for name in names if name not in splits]
    found = splits | split(splits["train"], shape, settings, seed, missing) if missing else splits
    return {name: found[name] for name in ("train", *names)}


def refuse_remote(sources: Iterable[object]) -> None:
    """
    Raises:
        UsageError: sources that need the network, each named.
    """
    remote = [name for name in sources if isinstance(name, str) and name.startswith("hub:")]
    if remote:
        raise UsageError(
            f"{name}: model.local=true refuses the Hub; give a local file, or leave it out" for name in remote
        )


class NewData(NamedTuple):
    """New data.

    Attributes:
        records: its rows.
        columns: as they stand there; row for row, where no labels are needed.
        layout: which of them is what.
    """

    records: Records
    columns: pa.Table
    layout: Layout


def read_new(
    source: object, layout: Layout, trained: DataSettings, given: DataSettings, need_label: bool = True
) -> NewData:
    """New data for a trained model, read as its training file was.

    Standard input (``-``) is read as a whole, in the format that is given; where no labels are needed, every text file
    of a folder is a document.

    Args:
        layout: of the training file; extra columns never matter.
        trained: the settings of the run, for encoding, sheet and a format that the source itself does not tell.
        given: what is said now; what is set in it wins.
        need_label: whether the rows must have labels; else they are not read.

    Raises:
        DataError, UsageError: as `load_records`; the labels are needed and in another column than in training, which
            `given` does not name.
    """
    if isinstance(source, str) and source == STANDARD_INPUT:
        with _spooled() as file:
            data = read_new(file, layout, trained, given, need_label)
        return data._replace(records=replace(data.records, path=INPUT_NAME))
    settings = settings_of_new(trained, given)
    if not need_label and given.format is None and is_folder_of_texts(source):
        settings = settings.model_copy(update={"format": "text"})
    elif settings.format is None and not tells_format(source):
        settings = settings.model_copy(update={"format": trained.format})
    raw = read(source, written_alike(source, settings, layout), split="test" if need_label else None)
    refuse_idle(given, {raw.format}, layout.shape, need_label)
    if raw.format == "text" and not need_label and given.text is None:
        texts = Layout(layout.shape, "text", id="id")
        return NewData(to_records(raw, texts, settings), raw.table, texts)
    if need_label:
        if given.split is None and (trained.split in raw.table.column_names or trained.split == NO_COLUMN):
            settings = settings.model_copy(update={"split": trained.split})
        raw = rows_for("test", raw, settings)
    found = layout_of_new(raw, layout, settings, need_label)
    return NewData(to_records(raw, found, settings), raw.table, found)


def settings_of_new(trained: DataSettings, given: DataSettings) -> DataSettings:
    """What is said of new data, and of what is not, encoding, sheet and treatment of labels as in training."""
    said = given.model_dump(exclude_unset=True, exclude_none=True)
    usual = {name: getattr(trained, name) for name in ("encoding", "expansion", "sheet", "unlabelled", "strip")}
    return DataSettings().model_copy(update=usual | said)


def layout_of_new(raw: RawTable, layout: Layout, settings: DataSettings, need_label: bool) -> Layout:
    """The layout of new data; a note tells of the second text of a pair that the model does not read.

    Raises:
        DataError: as `layout_of_other`; the labels are in another column than in training, which no setting names; or
            the second text of a pair is not there.
    """
    found = layout_of_other(raw, layout, settings, need_label)
    if need_label and settings.label is None and layout.form not in OWN_FORMS and found.labels != layout.labels:
        there, label = name_list(raw.table.column_names), ",".join(found.labels)
        what = f"no label column {name_list(layout.labels)}, as in training; columns there: {there}"
        raise DataError(f"{raw.path}: {what}; if the labels are in {label!r}, give data.label={label}")
    if layout.text_pair and not found.text_pair:
        raise DataError(f"{raw.path}: {needs_pairs(layout)}, found {name_list(raw.table.column_names)}")
    second = next((two for one, two in PAIRS if one == found.text and two in raw.table.column_names), None)
    if found.text_pair is None and second is not None:
        note = f"{second!r} beside {found.text!r} is not read; the model is trained on single texts"
        found = replace(found, notes=(*found.notes, note))
    return found


def needs_pairs(layout: Layout) -> str:
    """What a model of pairs is to be given."""
    return f"the model is trained on pairs of texts and needs {layout.text!r} and {layout.text_pair!r} of each"


@contextmanager
def _spooled() -> Iterator[str]:
    """Standard input as a file, whose place no message names."""
    unnamed = os.path.isdir(DESCRIPTORS)  # so nothing is left of it, whatever ends the process
    with (tempfile.TemporaryFile if unnamed else tempfile.NamedTemporaryFile)(prefix="tunesmith-") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
        path = f"{DESCRIPTORS}/{copy.fileno()}" if unnamed else copy.name
        try:
            yield path
        except TunesmithError as error:
            raise type(error)(problem.replace(path, INPUT_NAME) for problem in error.problems) from None


def without_text(records: Records) -> list[int]:
    """The numbers of the rows whose text, or one of whose two texts, is missing or blank."""
    columns = [records.table[name] for name in ("text", "text_pair") if records.has(name)]
    blank = np.any([is_empty(column).to_numpy() for column in columns], axis=0)
    return [int(row) for row in records.table["row"].to_numpy()[blank]]


def about_missing_texts(path: str, rows: Sequence[int]) -> str:
    """What is told of rows without a text, which are answered as every row is."""
    found = f"{counted(len(rows), 'row')} without a text ({row_list(rows)})"
    return f"warning: {path}: {found}; what is answered to no text says nothing"


def tells_format(source: object) -> bool:
    """Whether a source's format is known without being said."""
    if not isinstance(source, str | Path):
        return True
    return str(source).startswith("hub:") or detect(local_path(str(source))) is not None


def is_folder_of_texts(source: object) -> bool:
    """Whether it is a local folder, and no saved data set."""
    if not isinstance(source, str | Path) or str(source).startswith("hub:"):
        return False
    path = local_path(str(source))
    return path.is_dir() and detect(path, plain_text=True) in ("text", "folder")
