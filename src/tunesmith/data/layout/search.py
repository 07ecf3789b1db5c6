"""Looking for columns: by the settings, else by the usual names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property, partial
from itertools import combinations, islice

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.config.schema import DataSettings
from tunesmith.data.jsontext import parse
from tunesmith.data.keys import repeated
from tunesmith.data.layout.base import Layout
from tunesmith.data.layout.candidates import label_hint, looks_like_labels, looks_like_text, text_hint
from tunesmith.data.records import RawTable
from tunesmith.data.table import by_chunk, each_cell, is_empty
from tunesmith.errors import DataError
from tunesmith.text import name_list

TEXT_NAMES = (
    "text", "sentence", "content", "body", "message", "review", "comment", "tweet", "utterance", "document", "article",
    "question", "query", "description", "abstract", "post", "email", "note", "statement", "input", "title",
)  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "category", "categories", "class", "intent", "target", "tag", "tags", "topic", "topics",
    "sentiment", "score", "rating", "y", "accept", "cats", "annotation",
)  # fmt: skip
PAIR_NAMES = (
    ("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"),
    ("text1", "text2"), ("text_a", "text_b"), ("sentence_a", "sentence_b"),
)  # fmt: skip
ID_NAMES = ("id", "guid", "uid")
SAMPLE = 100  # cells that show what a column holds
DELIMITED = ("csv", "tsv", "workbook")  # their first line is a header
SENTENCE = re.compile(r"\S+(\s+\S+){4,}|\S+(\s+\S+){2,}[.!?]|-?\d+([.,]\d+)?")  # or a number: no name of a column


def first_filled(raw: RawTable, column: str | None) -> list[str]:
    """The first cells of a column that are not empty; none where there is no such column."""
    if column is None or raw.table.schema.get_field_index(column) < 0:  # the list of all names takes long to make
        return []
    return list(islice((cell for cell in each_cell(raw.table[column]) if cell and cell != "[]"), SAMPLE))


def _is_json(cell: str) -> bool:
    try:
        parse(cell)
    except ValueError:
        return False
    return True


class NoLabelColumn(DataError):
    """Nothing but a column of labels is missing."""


class Search:
    """Looks for columns and keeps every problem, so that all are reported at once."""

    def __init__(self, raw: RawTable, settings: DataSettings, need_label: bool, notes: Iterable[str] = ()) -> None:
        self.raw, self.settings, self.need_label = raw, settings, need_label
        self.notes, self.problems, self.no_label = list(notes), list[str](), ""
        self.columns = list(raw.table.column_names)
        self._by_name: dict[str, str] = {}
        for column in self.columns:
            self._by_name.setdefault(re.sub(r"[\s-]+", "_", column.strip().lower()), column)

    @cached_property
    def _there(self) -> str:
        """The columns, for a message; of a file with a header also where its names come from."""
        header = " (the first line of a CSV file is its header)" if self.raw.format in ("csv", "tsv") else ""
        if self._no_header:
            header = "; the first line looks like an example: add one with names above it, such as text,label"
        return f"columns there: {name_list(self.columns)}{header}"

    @cached_property
    def _no_header(self) -> bool:
        """The names of the columns may be an example, not a header."""
        return any(map(self._is_like_a_value, self.columns))

    def _is_like_a_value(self, column: str) -> bool:
        """Whether the name of a column of a file with a header may be a value of it: a sentence, or one that recurs."""
        if self.raw.format not in DELIMITED:
            return False
        name = column.strip()
        several = len(name.split()) > 2 and len(self.columns) == 1
        return several or bool(SENTENCE.fullmatch(name)) or name in first_filled(self.raw, column)

    def finished(self, found: Layout, groups: Iterable[str] = (), ids: Iterable[str] = ()) -> Layout:
        """The layout with its groups, identifiers and notes, and without labels where they are not needed.

        Args:
            groups, ids: columns that are taken for them, if no setting names others and they are fit.

        Raises:
            DataError: all problems.
        """
        if self.settings.label is not None and not self.need_label:
            self.labels()  # what is named must be there
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
                if pc.any(is_empty(column)).as_py() or repeated(column).any():
                    why = f"column {identifier!r} has empty or repeated values; rows are named by their number instead"
                    self.notes.append(why)
                    identifier = None
        if found.text in self.columns and self._is_like_a_value(found.text):
            self.notes.append("the first line looks like an example, and is read as the names of the columns")
        cells = first_filled(self.raw, found.text) if found.form == "plain" else []
        if cells and all(cell.lstrip().startswith(("[", "{")) and _is_json(cell) for cell in cells):
            self.notes.append(f"the texts in {found.text!r} are lists or objects, read as the JSON that stands there")
        needed = found.text, found.text_pair, *labels, group, identifier
        self.problems += [self.raw.unread[name] for name in needed if name and name in self.raw.unread]
        self.problems = list(dict.fromkeys(self.problems))  # a column may be looked for twice
        if self.problems:
            raise (NoLabelColumn if self.problems == [self.no_label] else DataError)(self.problems)
        notes, dialect = tuple(dict.fromkeys(self.notes)), self.raw.dialect
        return replace(found, labels=labels, group=group, id=identifier, dialect=dialect, notes=notes)

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
        others = by_chunk(partial(pc.not_equal, values[0]), values, pa.bool_())
        return bool(pc.any(others).as_py()) and not pc.any(is_empty(values)).as_py()

    def _nested(self, column: str) -> bool:
        """Whether a column holds lists of objects, which are no texts."""
        filled = first_filled(self.raw, column)
        return bool(filled) and all(re.match(r"\s*\[\s*\{", cell) for cell in filled)

    def labels(self) -> tuple[str, ...]:
        if (given := self.settings.label) is not None:
            several = given not in self.columns and "," in given
            wanted = [part.strip() for part in given.split(",")] if several else [given]
            return tuple(name for name in wanted if self.given(name, "label"))
        found = self.named(LABEL_NAMES)
        if found is None and self.need_label:
            text = self.settings.text or self.named(TEXT_NAMES)
            taken = {text, self.settings.text_pair, self.settings.group, *self.all_named(ID_NAMES)}
            left = [name for name in self.columns if name not in taken]
            if (found := self._only_labels(left, text)) is not None:
                return (found,)
            hint = "" if self._no_header else label_hint(self.raw, left, text)
            self.no_label = f"{self.raw.path}: no label column; give data.label=COLUMN{hint}; {self._there}"
            self.problems.append(self.no_label)
        others = [name for name in self.all_named(LABEL_NAMES) if name != found]
        if found and others and self.need_label:
            self.notes.append(f"the label is read from {found!r}, not from {name_list(others)} (data.label=COLUMN)")
        return (found,) if found else ()

    def _only_labels(self, left: list[str], text: str | None) -> str | None:
        """Of two columns the one with labels, where the other holds the texts, with a note; None where that is unsure.

        Args:
            left: those that may hold labels.
            text: the one of the texts, if its name is known.
        """
        if len(self.columns) != 2 or self._no_header:
            return None
        labels = [name for name in left if name != text and looks_like_labels(self.raw, name)]
        others = [name for name in self.columns if name not in labels]
        if len(labels) != 1 or (text is None and not (others[0] in left and looks_like_text(self.raw, others[0]))):
            return None
        self.notes.append(f"the label is read from {labels[0]!r}, the only column beside {others[0]!r}")
        return labels[0]

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
            left = [name for name in self.columns if name not in known and not self._nested(name)]
            taken_text = self.named(TEXT_NAMES)
            if taken_text in taken and settings.label is not None:
                what = f"no text column but {taken_text!r}, which data.label names"
                self.problems.append(f"{self.raw.path}: {what}; give data.text=COLUMN; {self._there}")
            elif len(left) == 1 and self._is_like_a_value(left[0]):
                self.problems.append(f"{self.raw.path}: no text column but {left[0][:80]!r}; {self._there}")
            elif len(left) == 1:
                found = left[0]
                self.notes.append(f"the text is read from {found!r}, the only column left")
            else:
                hint = "" if self._no_header else text_hint(self.raw, left)
                self.problems.append(f"{self.raw.path}: no text column; give data.text=COLUMN{hint}; {self._there}")
        return found, pair
