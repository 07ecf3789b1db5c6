"""From what the user named to records: the one way in, of every command.

``train`` and ``check`` find the layout of the training file (`load_splits`); ``adapt`` reads as they do
(`tunesmith.data.texts`); ``evaluate`` and ``predict`` read new data in the layout that was kept with the model
(`read_new`, `read_lines`).
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.config.schema import DataSettings
from tunesmith.data import detect, read
from tunesmith.data.files import local_path
from tunesmith.data.jsontext import parse
from tunesmith.data.layout import OWN_FORMS, Layout, find_layout, layout_of_other, to_records
from tunesmith.data.parts import Sources, with_own_parts
from tunesmith.data.records import RawTable, Records, text_records
from tunesmith.data.shapes import RecordShape
from tunesmith.data.split_column import NO_COLUMN, rows_for_test, with_split_column
from tunesmith.data.splits import split
from tunesmith.data.table import is_empty
from tunesmith.errors import DataError, UsageError
from tunesmith.text import counted, name_list, row_list

STANDARD_INPUT = "-"
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
            columns = [raw.table[label] for label in layout.labels if label in raw.table.column_names]
            if name in own and columns and all(pc.all(is_empty(column)).as_py() for column in columns):
                notes.append(f"its own {name} split has no labels, so {name} rows are split off the train rows")
                continue
            splits[name] = to_records(raw, layout_of_other(raw, layout, settings), settings)
            refuse_mixture(splits[name], records.has("text_pair"))
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


def read_new(
    source: object, layout: Layout, trained: DataSettings, given: DataSettings, need_label: bool = True
) -> Records:
    """New data for a trained model, read as its training file was.

    Args:
        layout: of the training file; extra columns never matter.
        trained: the settings of the run, for encoding, sheet and a format that the source itself does not tell.
        given: what is said now; what is set in it wins.
        need_label: whether the rows must have labels; else they are not read.

    Raises:
        DataError, UsageError: as `load_records`; the labels are needed and in another column than in training, which
            `given` does not name.
    """
    return read_new_data(source, layout, trained, given, need_label).records


class NewData(NamedTuple):
    """New data: as records, every column as it stands there (row for row, where no labels are needed), which is what"""

    records: Records
    columns: pa.Table
    layout: Layout


def read_new_data(
    source: object, layout: Layout, trained: DataSettings, given: DataSettings, need_label: bool = True
) -> NewData:
    """As `read_new`; where no labels are needed, every text file of a folder is a document."""
    said = given.model_dump(exclude_unset=True, exclude_none=True)
    names = "encoding", "sheet", "unlabelled", "strip"
    usual: dict[str, Any] = {name: getattr(trained, name) for name in names}
    if not need_label and given.format is None and is_folder_of_texts(source):
        usual["format"] = "text"
    elif not tells_format(source):
        usual["format"] = trained.format
    settings = DataSettings().model_copy(update=usual | said)
    raw = read(source, written_alike(source, settings, layout), split="test" if need_label else None)
    if raw.format == "text" and not need_label and given.text is None:
        texts = Layout(layout.shape, "text", id="id")
        return NewData(to_records(raw, texts, settings), raw.table, texts)
    if need_label:
        if given.split is None and (trained.split in raw.table.column_names or trained.split == NO_COLUMN):
            settings = settings.model_copy(update={"split": trained.split})
        raw = rows_for_test(raw, settings)
    found = layout_of_other(raw, layout, settings, need_label)
    if need_label and settings.label is None and layout.form not in OWN_FORMS and found.labels != layout.labels:
        there, label = name_list(raw.table.column_names), ",".join(found.labels)
        what = f"no label column {name_list(layout.labels)}, as in training; columns there: {there}"
        raise DataError(f"{raw.path}: {what}; if the labels are in {label!r}, give data.label={label}")
    return NewData(to_records(raw, found, settings), raw.table, found)


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


def read_lines(source: str, layout: Layout, block: int) -> Iterator[Records]:
    """Standard input (``-``) or a file, one text or JSON object a line, `block` of them at a time.

    Of an object the columns of the layout are read, or ``text`` and ``text_pair``, or ``question`` and ``context``.

    Raises:
        DataError: a line is not of this form; it is named.
    """
    name, start = "standard input" if source == STANDARD_INPUT else source, 1
    with nullcontext(sys.stdin.buffer) if source == STANDARD_INPUT else local_path(source).open("rb") as stream:
        while lines := list(islice(stream, block)):
            if start == 1:
                lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
            texts = [_of_line(line, f"{name}, line {number}", layout) for number, line in enumerate(lines, start)]
            yield text_records(texts, name, start)
            start += len(lines)


def _of_line(line: bytes, place: str, layout: Layout) -> str | tuple[str, str]:
    try:
        text = line.decode("utf-8").rstrip("\r\n")
        if not text.startswith("{"):
            return text
        value = parse(text)
    except UnicodeDecodeError:
        raise DataError(f"{place}: not UTF-8; convert it, for example with iconv") from None
    except ValueError:
        value = {}
    for first, second in ((layout.text, layout.text_pair), ("question", "context"), ("text", "text_pair")):
        parts = [value[name] for name in (first, second) if name in value]
        if first in value and all(type(part) is str for part in parts):
            return parts[0] if len(parts) == 1 else (parts[0], parts[1])
    forms = '{"text": "…"} or {"question": "…", "context": "…"}'
    raise DataError(f"{place}: expected a text, or JSON such as {forms}")
