"""Which column is what: by the settings, else by the usual names, else by what the cells hold."""

from __future__ import annotations

import shlex
from dataclasses import replace

from tunesmith.config.schema import DataSettings
from tunesmith.data.layout.annotated import annotated, entities, in_lists, questions
from tunesmith.data.layout.base import Form, Layout
from tunesmith.data.layout.candidates import looks_like_text
from tunesmith.data.layout.labels import read_alike, read_label_column
from tunesmith.data.layout.search import DELIMITED, Search, first_filled
from tunesmith.data.layout.spans import is_span_list, is_token_list
from tunesmith.data.layout.token_rows import are_tags
from tunesmith.data.records import RawTable
from tunesmith.data.shapes import SEVERAL_LABELS, TEXTS, RecordShape
from tunesmith.errors import DataError, UsageError
from tunesmith.text import name_list

GROUP_NAMES = ("title", "document", "doc_id")
OWN_FORMS = ("spans", "tags", "answers")  # each file may be in one of its own


def find_layout(
    raw: RawTable,
    settings: DataSettings,
    shape: RecordShape | None = None,
    need_label: bool = True,
    like: Layout | None = None,
) -> Layout:
    """The columns by the settings, else by their usual names, and the shape of the records read off the labels.

    Args:
        shape: what the rows are to hold; None reads it off them.
        need_label: whether a missing label is an error; without, labels are not read.
        like: of the training file, in whose form one label column is.

    Raises:
        DataError: all columns that cannot be found, at once; or labels that can be read in two ways.
        UsageError: a separator is given for labels that stand in no single cell.
    """
    found = _found(raw, settings, shape, need_label, like)
    if need_label and settings.label_separator is not None and found.form != "separated":
        where = f"data.label_separator needs several labels in a cell, found {found.shape.task}"
        raise UsageError(f"{where} in {name_list(found.labels)}; leave it out, or give task.name=multilabel")
    if need_label and found.text_pair is None and found.form not in OWN_FORMS:
        used = {found.text, *found.labels, found.group, found.id, settings.split, *raw.unread, *raw.annotated}
        others = [name for name in raw.table.column_names if name not in used and looks_like_text(raw, name)]
        notes = [
            f"{name!r} looks like a second text, which is not read (data.text_pair={shlex.quote(name)})"
            for name in others
        ]
        return replace(found, notes=(*found.notes, *notes))
    return found


def _found(
    raw: RawTable, settings: DataSettings, shape: RecordShape | None, need_label: bool, like: Layout | None
) -> Layout:
    need_label = need_label and (shape is None or shape.labels != "none")
    search = Search(raw, settings, need_label)
    found = questions(search, shape) or annotated(search, shape) or entities(search, shape)
    if found is not None and (found.labels or not need_label):
        return search.finished(found, search.all_named(GROUP_NAMES))
    wanted = shape.labels if shape is not None else None
    if wanted == "answers":
        what = "no answers; expected a column answers (or name it with data.label=COLUMN)"
        if found is None:
            columns = "columns question and context (data.text, data.text_pair)"
            if need_label:
                columns = "columns question, context and answers (data.text, data.text_pair, data.label)"
            what = f"no questions; expected {columns}"
        raise DataError(f"{raw.path}: {what}")
    if wanted == "spans" and need_label:
        columns = "a text with a column of spans, or tokens with tags (data.text, data.label)"
        raise DataError(f"{raw.path}: no entities; expected {columns}")
    labels = search.labels()
    text, pair = search.texts(set(labels))
    form: Form = "spans" if wanted == "spans" else "plain"
    found = search.finished(Layout(shape or TEXTS, text or "", pair, labels, form))
    if len(found.labels) > 1:
        if shape is not None and wanted != "several":
            needs = f"task.name={shape.task} needs one label column"
            raise DataError(f"{raw.path}: {needs}, found {name_list(labels)} in data.label")
        return replace(found, shape=shape or SEVERAL_LABELS, form="columns")
    if not found.labels:
        return found
    if like is not None and like.form != "columns":
        return read_alike(raw, found, like, settings)
    if shape is None and are_tags(raw.table[found.labels[0]]):
        what = f"column {found.labels[0]!r} has tags of tokens such as O and B-NAME, one a row"
        ways = "give each row the number of its sentence in a column sentence_id, or give task.name=classification"
        raise DataError(f"{raw.path}: {what}; {ways} to classify every row by itself")
    return read_label_column(raw, found, shape, settings)


def layout_of_other(raw: RawTable, first: Layout, settings: DataSettings, need_label: bool = True) -> Layout:
    """The layout of another file, given that of the training file; columns that neither names never matter.

    What the settings name wins. Else the columns of `first` count where they are there and hold the same; those that
    are not are looked for as in `find_layout`, and it is noted. Groups and identifiers that no setting names may be
    missing.

    Raises:
        DataError: as `find_layout`; one of several label columns is missing; the only column of a CSV file has another
            name, and may be a text.
    """
    there = set(raw.table.column_names)
    wanted = {name for name in (first.text, first.text_pair, *(first.labels if need_label else ())) if name}
    own = first.text, first.text_pair, ",".join(first.labels)
    asked = settings.text, settings.text_pair, settings.label if need_label else None
    agrees = all(name in (None, usual) for name, usual in zip(asked, own, strict=True))
    if agrees and wanted <= there and _holds_the_same(raw, first):
        search = Search(raw, settings, need_label, first.notes)
        found = search.finished(first, there.intersection([first.group]), there.intersection([first.id]))
        return in_lists(raw, read_alike(raw, found, first, settings))
    unsaid = [key for key in ("text", "text_pair", "label") if getattr(settings, key) is None]
    if first.form in OWN_FORMS:
        found = find_layout(raw, settings, first.shape, need_label)
    else:
        usual = {"text": [first.text], "text_pair": [first.text_pair or ""], "label": list(first.labels)}
        known = {key: ",".join(usual[key]) for key in unsaid if usual[key] and there.issuperset(usual[key])}
        said = settings.model_copy(update=known).label
        if need_label and first.form == "columns" and (said is None or said not in there):
            columns = there if said is None else {part.strip() for part in said.split(",")} & there
            if missing := [name for name in first.labels if name not in columns]:
                what = "as in training; every label needs its 0/1 column"
                raise DataError(f"{raw.path}: no label column {name_list(missing)}, {what}")
        found = find_layout(raw, settings.model_copy(update=known), first.shape, need_label, first)
    several_words = len(found.text.split()) > 1  # as a text has, and few names of columns
    if raw.format in DELIMITED and len(there) == 1 and several_words and found.text not in (first.text, settings.text):
        what = f"one column, {found.text[:80]!r}, not {first.text!r} as in training"
        advice = "if the first line is a text, add a header or name the file .txt; else give data.text=COLUMN"
        raise DataError(f"{raw.path}: {what}; {advice}")
    moved = {
        "text": (first.text, found.text),
        "text_pair": (first.text_pair, found.text_pair),
        "label": (",".join(first.labels), ",".join(found.labels)),
    }
    notes = [
        f"the {what.replace('_pair', ' pair')} is read from {new!r}; there is no {old!r}, where it was in training"
        for what, (old, new) in moved.items()
        if what in unsaid and old and new and old != new and old not in there
    ]
    return replace(found, notes=(*found.notes, *notes))


def _holds_the_same(raw: RawTable, first: Layout) -> bool:
    """Whether the columns of `first` look as if they were in its form."""
    if first.form == "tags":
        return all(map(is_token_list, first_filled(raw, first.text)))
    if first.form == "spans":
        cells = [cell for column in first.labels for cell in first_filled(raw, column)]
        return not cells or any(map(is_span_list, cells))
    return True
