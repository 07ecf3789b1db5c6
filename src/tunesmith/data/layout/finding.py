"""Which column is what: by the settings, else by the usual names, else by what the cells hold."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.config.schema import DataSettings
from tunesmith.data.layout.base import Form, Layout
from tunesmith.data.layout.candidates import label_hint
from tunesmith.data.layout.conversion import judged
from tunesmith.data.layout.labels import read_alike, read_label_column
from tunesmith.data.layout.spans import is_span_list, is_token_list
from tunesmith.data.records import RawTable
from tunesmith.data.shapes import ANSWERS, BY_LABELS, SEVERAL_LABELS, SPANS, TEXTS, Labels, RecordShape
from tunesmith.data.table import TEXT, is_empty
from tunesmith.errors import DataError, UsageError
from tunesmith.text import name_list

TEXT_NAMES = (
    "text", "sentence", "content", "body", "message", "review", "comment", "tweet", "utterance", "document", "article",
    "question", "query", "description", "abstract", "post", "email", "note", "statement", "input", "title",
)  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "category", "categories", "class", "intent", "target", "tag", "tags", "topic", "topics",
    "sentiment", "score", "rating", "y",
)  # fmt: skip
PAIR_NAMES = (
    ("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"),
    ("text1", "text2"), ("text_a", "text_b"), ("sentence_a", "sentence_b"),
)  # fmt: skip
ID_NAMES = ("id", "guid", "uid")
QUESTION_NAMES, CONTEXT_NAMES, ANSWER_NAMES = (
    ("question", "query"), ("context", "passage", "paragraph"), ("answers", "answer"),
)  # fmt: skip
TOKEN_NAMES, TAG_NAMES = (
    ("tokens", "words", "token", "word"),
    ("ner_tags", "tags", "labels", "label", "ner", "tag", "ner_tag"),
)
SPAN_NAMES = ("spans", "entities", "label", "labels", "annotations")
GROUP_NAMES = ("title", "document", "doc_id")
SAMPLE = 100  # cells that show what a column holds
DELIMITED = ("csv", "tsv")
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
    return found


def _found(
    raw: RawTable, settings: DataSettings, shape: RecordShape | None, need_label: bool, like: Layout | None
) -> Layout:
    need_label = need_label and (shape is None or shape.labels != "none")
    search = _Search(raw, settings, need_label)
    found = _questions(search, shape) or _annotated(search, shape) or _entities(search, shape)
    if found is not None and (found.labels or not need_label):
        return search.finished(found, search.all_named(GROUP_NAMES))
    wanted = shape.labels if shape is not None else None
    if wanted == "answers":
        what = "no answers; expected a column answers (or name it with data.label=COLUMN)"
        if found is None:
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
        return read_alike(found, like, settings)
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
        search = _Search(raw, settings, need_label, first.notes)
        found = search.finished(first, there.intersection([first.group]), there.intersection([first.id]))
        return read_alike(found, first, settings)
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
        return all(map(is_token_list, _first_filled(raw, first.text)))
    if first.form == "spans":
        cells = [cell for column in first.labels for cell in _first_filled(raw, column)]
        return not cells or any(map(is_span_list, cells))
    return True


def _questions(search: _Search, shape: RecordShape | None) -> Layout | None:
    """Questions on contexts; where no shape asks for them, only if all three columns have their usual names."""
    names = search.named(QUESTION_NAMES), search.named(CONTEXT_NAMES), search.named(ANSWER_NAMES)
    given = search.settings.text, search.settings.text_pair, search.settings.label
    if shape is None:
        if not all(names) or any(name not in (None, usual) for name, usual in zip(given, names, strict=True)):
            return None
        question, context, answers = names
    elif shape.labels == "answers":
        keys = "text", "text_pair", "label"
        found = [search.given(one, key) or usual for one, key, usual in zip(given, keys, names, strict=True)]
        question, context, answers = found
    else:
        return None
    if not (question and context):
        return None
    return Layout(shape or ANSWERS, question, context, (answers,) if answers else (), "answers")


READ_AS: dict[Labels, tuple[Labels, ...]] = {"one": ("one", "several"), "several": ("one", "several")}
"""What an annotation tool may have filled a column with, for each kind of label; else that kind itself."""


def _annotated(search: _Search, shape: RecordShape | None) -> Layout | None:
    """The column that an annotation tool filled, and that the settings ask for; None where there is none.

    Raises:
        DataError: there are several, or no row is judged.
    """
    raw, label = search.raw, search.settings.label
    if not search.need_label:
        return None
    if raw.unjudged and len(raw.unjudged) == len(raw.rows):
        why = f"none but rows {next(iter(raw.unjudged.values()))}"
        raise DataError(f"{raw.path}: no rows: {why}; annotate some, or name another file")
    fits = READ_AS.get(shape.labels, (shape.labels,)) if shape is not None else None
    found = {name: kind for name, kind in raw.annotated.items() if label in (None, name) and (not fits or kind in fits)}
    if len(found) > 1:
        tasks = {BY_LABELS[kind].task for kind in found.values()}
        there = " and ".join(f"{name!r} ({BY_LABELS[kind].task})" for name, kind in found.items())
        ways = [
            f"task.name={BY_LABELS[kind].task}" if len(tasks) > 1 else f"data.label={name}"
            for name, kind in found.items()
        ]
        raise DataError(f"{raw.path}: several annotations of each text: {there}; give {' or '.join(ways)}")
    if not found:
        return None
    ((name, kind),) = found.items()
    text, pair = search.texts({name})
    form: Form = "spans" if kind == "spans" else "json" if kind == "several" else "plain"
    return Layout(shape or BY_LABELS[kind], text or "", pair if kind != "spans" else None, (name,), form)


def _entities(search: _Search, shape: RecordShape | None) -> Layout | None:
    """Entities; where no shape asks for them, only if the cells show them."""
    raw, settings, asked = search.raw, search.settings, shape is not None
    if shape is not None and shape.labels != "spans":
        return None
    shape = shape or SPANS
    label = search.given(settings.label, "label") if asked else settings.label
    if label is not None and label not in search.columns:
        return None
    column = label or search.named(SPAN_NAMES)
    tokens, tags = search.named(TOKEN_NAMES), label or search.named(TAG_NAMES)
    if _holds_tokens(raw, settings.text) and (asked or _holds_tokens(raw, tags)):
        return Layout(shape, str(settings.text), labels=(tags,) if tags else (), form="tags")
    beside = search.text() if label is None else None
    if search.named(("spans",)) and beside:  # Prodigy's tokens are not those of tags
        tokens = None
    if tokens is not None and settings.text in (None, tokens) and (tags is not None or (asked and not beside)):
        return Layout(shape, tokens, labels=(tags,) if tags else (), form="tags")
    # One bad cell does not hide the spans: its fault is to be told.
    if not asked and not (column and any(map(is_span_list, _first_filled(raw, column)))):
        return None
    text = search.text() or search.named(("data",))  # as some versions of doccano call it
    return Layout(shape, text, labels=(column,) if column else (), form="spans") if text else None


def _holds_tokens(raw: RawTable, column: str | None) -> bool:
    filled = _first_filled(raw, column)
    return bool(filled) and all(map(is_token_list, filled))


def _first_filled(raw: RawTable, column: str | None) -> list[str]:
    if column not in raw.table.column_names:
        return []
    empty = pc.is_in(pc.fill_null(raw.table[column], ""), value_set=pa.array(["", "[]"], TEXT))
    return [str(cell) for cell in raw.table[column].filter(pc.invert(empty)).slice(0, SAMPLE).to_pylist()]


class NoLabelColumn(DataError):
    """Nothing but a column of labels is missing."""


class _Search:
    """Looks for columns and keeps every problem, so that all are reported at once."""

    def __init__(self, raw: RawTable, settings: DataSettings, need_label: bool, notes: Iterable[str] = ()) -> None:
        self.raw, self.settings, self.need_label = raw, settings, need_label
        self.notes, self.problems, self.no_label = list(notes), list[str](), ""
        self.columns = list(raw.table.column_names)
        self._by_name: dict[str, str] = {}
        for column in self.columns:
            self._by_name.setdefault(re.sub(r"[\s-]+", "_", column.strip().lower()), column)
        header = " (the first line of a CSV file is its header)" if raw.format in DELIMITED else ""
        self._there = f"columns there: {name_list(self.columns)}{header}"

    def finished(self, found: Layout, groups: Iterable[str] = (), ids: Iterable[str] = ()) -> Layout:
        """The layout with its groups, identifiers and notes, and without labels where they are not needed.

        Args:
            groups, ids: columns that are taken for them, if no setting names others and they are fit.

        Raises:
            DataError: all problems.
        """
        labels = found.labels if self.need_label else ()
        read = found.labels if self.need_label or self.settings.label is not None else ()
        roles = ("text", found.text), ("text_pair", found.text_pair), *(("label", name) for name in read)
        for (first, name), (second, other) in combinations(roles, 2):
            if name == other and name in self.columns:
                what = f"column {name!r} would be read both as data.{first} and as data.{second}"
                self.problems.append(f"{self.raw.path}: {what}; name another column for one of them; {self._there}")
        group = self.given(self.settings.group, "group") or next(filter(self.divides, groups), None)
        group = group or (found.text_pair if found.form == "answers" else None)
        identifier = self.given(self.settings.id, "id")
        if identifier is None:
            taken = {found.text, found.text_pair, group, *labels}
            identifier = next((name for name in (*ids, *self.all_named(ID_NAMES)) if name not in taken), None)
            if identifier is not None:
                column = self.raw.table[identifier]
                if pc.any(is_empty(column)).as_py() or pc.count_distinct(column).as_py() < len(column):
                    why = f"column {identifier!r} has empty or repeated values; rows are named by their number instead"
                    self.notes.append(why)
                    identifier = None
        needed = found.text, found.text_pair, *labels, group, identifier
        self.problems += [self.raw.unread[name] for name in needed if name and name in self.raw.unread]
        self.problems = list(dict.fromkeys(self.problems))  # a column may be looked for twice
        if self.problems:
            raise (NoLabelColumn if self.problems == [self.no_label] else DataError)(self.problems)
        return replace(found, labels=labels, group=group, id=identifier, notes=tuple(dict.fromkeys(self.notes)))

    def given(self, name: str | None, key: str) -> str | None:
        """The column that a setting names; a problem where it is not there."""
        if name is not None and name not in self.columns:
            near = difflib.get_close_matches(name, self.columns, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            self.problems.append(f"{self.raw.path}: data.{key}: no column {name!r}; {hint}{self._there}")
        return name

    def named(self, names: Iterable[str], but: Iterable[str | None] = ()) -> str | None:
        return next((column for column in self.all_named(names) if column not in but), None)

    def all_named(self, names: Iterable[str]) -> list[str]:
        return [self._by_name[name] for name in names if name in self._by_name]

    def divides(self, column: str) -> bool:
        """Whether every row has a value there, and not all the same one."""
        values = self.raw.table[column]
        return not pc.any(is_empty(values)).as_py() and pc.count_distinct(values).as_py() > 1

    def labels(self) -> tuple[str, ...]:
        if (given := self.settings.label) is not None:
            several = given not in self.columns and "," in given
            wanted = [part.strip() for part in given.split(",")] if several else [given]
            if self.need_label or all(name in self.columns for name in wanted):
                return tuple(name for name in wanted if self.given(name, "label"))
            return ()
        found = self.named(LABEL_NAMES)
        if found is None and self.need_label:
            text = self.settings.text or self.named(TEXT_NAMES)
            taken = {text, self.settings.text_pair, self.settings.group, *self.all_named(ID_NAMES)}
            hint = label_hint(self.raw, [name for name in self.columns if name not in taken], text)
            self.no_label = f"{self.raw.path}: no label column; give data.label=COLUMN{hint}; {self._there}"
            self.problems.append(self.no_label)
        others = [name for name in self.all_named(LABEL_NAMES) if name != found]
        if found and others and self.need_label:
            self.notes.append(f"the label is read from {found!r}, not from {name_list(others)} (data.label=COLUMN)")
        return (found,) if found else ()

    def text(self) -> str | None:
        return self.given(self.settings.text, "text") or self.named(TEXT_NAMES)

    def texts(self, taken: set[str]) -> tuple[str | None, str | None]:
        settings = self.settings
        pair = self.given(settings.text_pair, "text_pair")
        if settings.text is not None:
            return self.given(settings.text, "text"), pair
        if pair is None:
            for first, second in PAIR_NAMES:
                if (one := self.named([first], taken)) and (two := self.named([second], taken)):
                    self.notes.append(f"text pairs are read from {one!r} and {two!r}")
                    return one, two
        found = self.named(TEXT_NAMES, {*taken, pair})
        if found is None:
            known = {*taken, *self.raw.annotated, settings.group, settings.id, pair, *self.all_named(ID_NAMES)}
            left = [name for name in self.columns if name not in known]
            taken_text = self.named(TEXT_NAMES)
            if taken_text in taken and settings.label is not None:
                what = f"no text column but {taken_text!r}, which data.label names"
                self.problems.append(f"{self.raw.path}: {what}; give data.text=COLUMN; {self._there}")
            elif len(left) == 1:
                found = left[0]
                self.notes.append(f"the text is read from {found!r}, the only column left")
            else:
                self.problems.append(f"{self.raw.path}: no text column; give data.text=COLUMN; {self._there}")
        return found, pair
