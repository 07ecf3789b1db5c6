"""Which columns of a table hold entities or questions, and their rows as texts with spans or answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.config.schema import DataSettings
from tunesmith.data.layout import spans as cells
from tunesmith.data.layout.answers import ANSWERS, answer_columns
from tunesmith.data.layout.finder import Finder
from tunesmith.data.records import RawTable
from tunesmith.data.table import TEXT
from tunesmith.errors import DataError
from tunesmith.text import counted

if TYPE_CHECKING:
    from tunesmith.data.layout.columns import Layout

QUESTION, CONTEXT, ANSWER = ("question", "query"), ("context", "passage", "paragraph"), ("answers", "answer")
TOKENS, TAGS = ("tokens", "words"), ("ner_tags", "tags", "labels", "label", "ner")
SPAN_COLUMNS = ("spans", "entities", "label", "labels", "annotations")
GROUPS = ("title", "document", "doc_id")
SAMPLE = 100

Columns = tuple[dict[str, pa.Array | pa.ChunkedArray], list[str]]
Place = tuple[str, str, str | None, str | None, str]
"""Kind, text, second text, labels and form of an annotated table."""


def find_place(raw: RawTable, settings: DataSettings, task: str, finder: Finder, need_label: bool) -> Place | None:
    """Where the entities or questions of a table are, or None where it has neither.

    Args:
        need_label: whether a table without annotations is an error.

    Raises:
        DataError: the task was asked for and its columns are not there.
    """
    found = _questions(settings, finder, task) if task in ("auto", "qa") else None
    if found is None and task in ("auto", "ner"):
        found = _entities(raw, settings, finder, task)
    if found is not None and (found[3] is not None or not need_label):
        return found
    if found is not None and task == "qa":
        raise DataError(f"{raw.path}: no answers; expected a column answers (or name it with --label)")
    if task == "qa":
        raise DataError(
            f"{raw.path}: no questions; expected columns question, context and answers (or name them with --text, "
            "--text-pair and --label)"
        )
    if task == "ner" and need_label:
        raise DataError(
            f"{raw.path}: no entities; expected a text with a column of spans, or tokens with tags (--text, --label)"
        )
    return None


def _questions(settings: DataSettings, finder: Finder, task: str) -> Place | None:
    if task == "qa":
        question = finder.flagged(settings.text, "--text") or finder.named(QUESTION)
        context = finder.flagged(settings.text_pair, "--text-pair") or finder.named(CONTEXT)
        answers = finder.flagged(settings.label, "--label") or finder.named(ANSWER)
        return ("qa", question, context, answers, "answers") if question and context else None
    names = finder.named(QUESTION), finder.named(CONTEXT), finder.named(ANSWER)
    flags = settings.text, settings.text_pair, settings.label
    same = all(flag in (None, name) for flag, name in zip(flags, names, strict=True))
    question, context, answers = names
    return ("qa", question, context, answers, "answers") if question and context and answers and same else None


def _entities(raw: RawTable, settings: DataSettings, finder: Finder, task: str) -> Place | None:
    asked = task == "ner"
    label = finder.flagged(settings.label, "--label") if asked else settings.label
    if label is not None and label not in raw.table.column_names:
        return None
    column = label or finder.named(SPAN_COLUMNS)
    data, results = finder.named(("data",)), finder.named(("annotations", "completions"))
    if data is not None and (results is not None or (asked and not column)):
        return "ner", data, None, results, "studio"
    tokens, tags = finder.named(TOKENS), label or finder.named(TAGS)
    if _holds_tokens(raw, settings.text) and (asked or _holds_tokens(raw, tags)):
        return "ner", str(settings.text), None, tags, "tags"
    beside = finder.text(settings.text) if label is None else None
    if finder.named(("spans",)) and beside:  # Prodigy's tokens are not those of tags
        tokens = None
    if tokens is not None and settings.text in (None, tokens) and (tags is not None or (asked and not beside)):
        return "ner", tokens, None, tags, "tags"
    if not asked and not (column and _holds_spans(raw, column)):
        return None
    text = finder.text(settings.text) or data  # as some versions of doccano call it
    return ("ner", text, None, column, "spans") if text else None


def _holds_spans(raw: RawTable, column: str) -> bool:
    """Whether one of the first cells with something in it is a list of spans; others may have faults to be told."""
    return any(cells.looks_like(cell, tokens=False) for cell in _first_filled(raw, column))


def _holds_tokens(raw: RawTable, column: str | None) -> bool:
    filled = _first_filled(raw, column) if column and column in raw.table.column_names else []
    return bool(filled) and all(cells.looks_like(cell, tokens=True) for cell in filled)


def _first_filled(raw: RawTable, column: str) -> list[str]:
    empty = pc.is_in(pc.fill_null(raw.table[column], ""), value_set=pa.array(["", "[]"], TEXT))
    return [str(cell) for cell in raw.table[column].filter(pc.invert(empty)).slice(0, SAMPLE).to_pylist()]


def annotated_columns(raw: RawTable, layout: Layout) -> tuple[RawTable, Columns]:
    """Columns ``text``, ``label`` and, for questions, ``text_pair`` of the rows that count, and notes.

    Returns:
        The table without rows that an annotator rejected or skipped (all of them where no labels are read), and its
        columns.
    """
    label = layout.labels[0] if layout.labels else None
    notes: list[str] = []
    if label is not None and "answer" in raw.table.column_names and "spans" in raw.table.column_names:
        answers = pc.fill_null(raw.table["answer"], "accept")
        verdicts = pa.array(["reject", "ignore"], TEXT)
        raw, notes = _without(raw, pc.is_in(answers, value_set=verdicts), "rejected or ignored by the annotator")
    columns: dict[str, pa.Array | pa.ChunkedArray] = {}
    if layout.separator == "answers":
        assert layout.text_pair is not None
        columns["text"] = pc.fill_null(raw.table[layout.text], "")
        columns["text_pair"] = pc.fill_null(raw.table[layout.text_pair], "")
        columns["label"], found = (
            _nothing(raw, ANSWERS) if label is None else answer_columns(raw, layout.text_pair, label)
        )
    elif layout.separator == "tags":
        columns["text"], columns["label"], found = cells.tagged_columns(raw, layout.text, label)
    elif layout.separator == "studio":
        if label is not None:
            open_tasks = pa.array(cells.not_annotated(raw, label))
            raw, notes = _without(raw, open_tasks, "without an annotation, or skipped by the annotator,")
        columns["text"], columns["label"], found = cells.studio_columns(raw, layout.text, label, layout.key)
    else:
        columns["text"] = pc.fill_null(raw.table[layout.text], "")
        columns["label"], found = (
            _nothing(raw, cells.SPANS) if label is None else cells.span_columns(raw, layout.text, label)
        )
    return raw, (columns, [*notes, *found])


def _nothing(raw: RawTable, kind: pa.DataType) -> tuple[pa.Array, list[str]]:
    return pa.nulls(len(raw.rows), kind), []


def _without(raw: RawTable, mask: pa.Array | pa.ChunkedArray, which: str) -> tuple[RawTable, list[str]]:
    """The table without the rows where `mask` is true, and a note.

    Raises:
        DataError: no row is left.
    """
    left_out = int(pc.sum(mask).as_py() or 0)
    if not left_out:
        return raw, []
    note = f"{counted(left_out, 'row')} {which} left out"
    if left_out == len(raw.rows):
        raise DataError(f"{raw.path}: no rows: {note}; annotate some, or name another file")
    kept = pc.invert(mask)
    return RawTable(raw.table.filter(kept), raw.rows[np.asarray(kept)], raw.path, raw.format, raw.notes), [note]
