"""Annotated texts: entities and questions as they stand in tables, and what annotation tools filled."""

from __future__ import annotations

from dataclasses import replace

import pyarrow.compute as pc

from tunesmith.data.layout.base import Form, Layout
from tunesmith.data.layout.conversion import judged
from tunesmith.data.layout.listed import list_items
from tunesmith.data.layout.search import LABEL_NAMES, TEXT_NAMES, Search, first_filled
from tunesmith.data.layout.spans import is_span_list, is_token_list
from tunesmith.data.records import RawTable
from tunesmith.data.shapes import ANSWERS, BY_LABELS, SPANS, Labels, RecordShape
from tunesmith.errors import DataError
from tunesmith.text import name_list

QUESTION_NAMES, CONTEXT_NAMES, ANSWER_NAMES = (
    ("question", "query"), ("context", "passage", "paragraph"), ("answers", "answer"),
)  # fmt: skip
TOKEN_NAMES, TAG_NAMES = (
    ("tokens", "words", "token", "word"),
    ("ner_tags", "tags", "labels", "label", "ner", "tag", "ner_tag"),
)
OF_ENTITIES = ("score", "rating", "y")  # what may be said of entities
SPAN_NAMES = ("spans", "entities", "label", "labels", "annotations", "annotation", "ner")


def questions(search: Search, shape: RecordShape | None) -> Layout | None:
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


def annotated(search: Search, shape: RecordShape | None) -> Layout | None:
    """The column that an annotation tool filled, and that the settings ask for; None where there is none.

    Raises:
        DataError: there are several, or no row is judged.
    """
    raw, label = search.raw, search.settings.label
    if not search.need_label:
        return None
    judged(raw)
    fits = READ_AS.get(shape.labels, (shape.labels,)) if shape is not None else None
    known = {name: kind for name, kind in raw.annotated.items() if kind != "none" and label in (None, name)}
    found = {name: kind for name, kind in known.items() if not fits or kind in fits}
    if len(found) > 1:
        tasks = {BY_LABELS[kind].task for kind in found.values()}
        there = " and ".join(f"{name!r} ({BY_LABELS[kind].task})" for name, kind in found.items())
        ways = [
            f"task.name={BY_LABELS[kind].task}" if len(tasks) > 1 else f"data.label={name}"
            for name, kind in found.items()
        ]
        raise DataError(f"{raw.path}: several annotations of each text: {there}; give {' or '.join(ways)}")
    if not found and label is None and raw.annotated and set(raw.annotated.values()) == {"none"}:
        what = f"{name_list(raw.annotated)} of Label Studio have results of types that are not read"
        raise DataError(
            f"{raw.path}: {what}; annotate with Labels, Choices, Rating or Number, or give data.label=COLUMN"
        )
    if not found:
        return None
    ((name, kind),) = found.items()
    text, pair = search.texts({name})
    if kind == "several" and shape is None:
        search.notes.append(f"column {name!r}: read as several labels a row")
    form: Form = "spans" if kind == "spans" else "plain"
    return in_lists(raw, Layout(shape or BY_LABELS[kind], text or "", pair if form == "plain" else None, (name,), form))


def in_lists(raw: RawTable, layout: Layout) -> Layout:
    """The layout, whose several labels are lists where an annotation tool wrote them."""
    tool = len(layout.labels) == 1 and raw.annotated.get(layout.labels[0]) in ("one", "several")
    return replace(layout, form="json", separator=None) if tool and layout.shape.labels == "several" else layout


def entities(search: Search, shape: RecordShape | None) -> Layout | None:
    """Entities; where no shape asks for them, only if the cells show them.

    Raises:
        DataError: no shape asks, and each text has a label, too.
    """
    found = _entities(search, shape)
    if found is None or shape is not None or search.settings.label is not None:
        return found
    own = (found.text, *found.labels, *search.all_named(SPAN_NAMES[:2]), *search.all_named(OF_ENTITIES))
    label = search.named(LABEL_NAMES, own)
    cells = first_filled(search.raw, label)
    if label is None or not cells or all(cell.lstrip().startswith(("[", "{")) for cell in cells):
        return found
    both = f"entities in {found.labels[0]!r}, and a label of each text in {label!r}"
    raise DataError(f"{search.raw.path}: {both}; give task.name=ner or task.name=classification")


def _entities(search: Search, shape: RecordShape | None) -> Layout | None:
    raw, settings, asked = search.raw, search.settings, shape is not None
    if shape is not None and shape.labels != "spans":
        return None
    shape = shape or SPANS
    label = search.given(settings.label, "label") if asked else settings.label
    if label is not None and label not in search.columns:
        return None
    column = label or next(filter(lambda name: _holds_spans(raw, name), search.all_named(SPAN_NAMES)), None)
    column = column or search.named(SPAN_NAMES)
    tokens, tags = search.named(TOKEN_NAMES), label or search.named(TAG_NAMES)
    text = settings.text or search.named(TEXT_NAMES)
    if text and _holds_tokens(raw, text) and ((settings.text and asked) or _holds_tokens(raw, tags)):
        return Layout(shape, text, labels=(tags,) if tags else (), form="tags")
    beside = search.text() if label is None else None
    if search.named(("spans",)) and beside:  # Prodigy's tokens are not those of tags
        tokens = None
    listed = any(list_items(cell) is not None for cell in first_filled(raw, tokens))
    tagged = tags is not None and (asked or listed)
    if tokens is not None and settings.text in (None, tokens) and (tagged or (asked and not beside)):
        return Layout(shape, tokens, labels=(tags,) if tags else (), form="tags")
    # One bad cell does not hide the spans: its fault is to be told.
    if not asked and not (_holds_spans(raw, column) or _without_any(raw, search.named(SPAN_NAMES[:2]))):
        return None
    text = search.text() or search.named(("data",))  # as some versions of doccano call it
    return Layout(shape, text, labels=(column,) if column else (), form="spans") if text else None


def _without_any(raw: RawTable, column: str | None) -> bool:
    """Whether a column that is called as one of spans holds nothing but empty lists."""
    return column is not None and bool(pc.all(pc.equal(pc.fill_null(raw.table[column], ""), "[]")).as_py())


def _holds_spans(raw: RawTable, column: str | None) -> bool:
    return any(map(is_span_list, first_filled(raw, column)))


def _holds_tokens(raw: RawTable, column: str | None) -> bool:
    filled = first_filled(raw, column)
    return bool(filled) and all(map(is_token_list, filled))
