"""What can be wrong with examples that were read without error: one small function per check, listed in `CHECKS`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal, cast

import numpy as np
import pyarrow.compute as pc

from tunesmith.data.keys import LabelCodes, alike_keys, label_codes, label_keys, text_keys
from tunesmith.data.records import Records, Span
from tunesmith.data.shapes import RecordShape
from tunesmith.text import SHOWN_ROWS, TRIMMED, counted, name_list, normal_form, visible

MAX_EMPTY_SHARE = 0.01  # more empty texts than this are a failure
MIN_TRAIN_EXAMPLES = 2  # of each class
IMBALANCE = 10  # the largest class has this many times the examples of the smallest
NULL_WORDS = {"na", "n/a", "none", "null", "nan", "nil", "unknown", "-", "?"}

Level = Literal["good", "note", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """One thing the checks found, or found to be in order.

    Attributes:
        level: ``"failure"`` means that training makes no sense; ``"warning"`` that scores may mislead.
        code: name of the check.
        message: what was found.
        advice: what to do about it; empty where nothing need be done.
        split: the split it is about, or None for all.
        rows: the first 20 rows concerned, as they are numbered in the file.
        count: how many rows (or labels) are concerned.
    """

    level: Level
    code: str
    message: str
    advice: str = ""
    split: str | None = None
    rows: tuple[int, ...] = ()
    count: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in ``findings.jsonl``."""
        return {**asdict(self), "rows": list(self.rows)}


class _Split:
    """A split with what several checks need, computed once."""

    def __init__(self, name: str, records: Records) -> None:
        self.name, self.records = name, records
        self.labelled = np.asarray(records.table["label"].is_valid())

    @cached_property
    def texts(self) -> np.ndarray:
        return text_keys(self.records)

    @cached_property
    def exact(self) -> np.ndarray:
        return text_keys(self.records, exact=True)

    @cached_property
    def labels(self) -> np.ndarray:
        return label_keys(self.records)

    @cached_property
    def codes(self) -> LabelCodes:
        return label_codes(self.records)

    @cached_property
    def counts(self) -> dict[str, int]:
        return self.codes.counts

    def again(self, texts: np.ndarray) -> np.ndarray:
        """Bool (n,): rows with the text, by its key, and the label of an earlier row."""
        order, same_text, same_label = self._neighbours(texts)
        again = np.zeros(len(order), dtype=bool)
        again[order[1:]] = same_text & same_label
        return again

    def conflicting(self, texts: np.ndarray) -> np.ndarray:
        """Keys of the texts with more than one label, uint64."""
        order, same_text, same_label = self._neighbours(texts)
        return np.unique(texts[order[1:][same_text & ~same_label]])

    def _neighbours(self, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions of the rows with equal texts, then equal labels, together (int64); whether each has the text of the
        one before it; and its label (bool, one less)."""
        order = np.lexsort((self.labels, texts))  # stable: equal rows stay in their order
        return order, np.diff(texts[order]) == 0, np.diff(self.labels[order]) == 0

    def find(self, level: Level, code: str, message: str, advice: str, where: np.ndarray) -> Finding:
        """A finding about the rows `where` a bool array (n,) is true."""
        rows = np.sort(np.asarray(self.records.table["row"])[where])
        return Finding(level, code, message, advice, self.name, tuple(map(int, rows[:SHOWN_ROWS])), len(rows))

    def find_labels(
        self, level: Level, code: str, labels: Collection[str], what: str, advice: str
    ) -> Iterator[Finding]:
        """A finding about the rows that have one of `labels`, if there are any."""
        if labels:
            names, rows, codes = self.codes
            where = np.zeros(len(self.records), dtype=bool)
            where[rows[np.isin(codes, [i for i, name in enumerate(names) if name in labels])]] = True
            yield self.find(level, code, f"{what}: {name_list(sorted(labels))}", advice, where)


@dataclass(frozen=True)
class _Data:
    splits: list[_Split]
    shape: RecordShape

    @property
    def train(self) -> _Split:
        return next((split for split in self.splits if split.name == "train"), self.splits[0])

    @property
    def counted(self) -> list[_Split]:
        """The splits, where their labels can be counted."""
        return self.splits if self.shape.counted else []


def run_checks(splits: Mapping[str, Records], shape: RecordShape) -> list[Finding]:
    """Runs every check.

    Args:
        splits: ``"train"`` and, where there are any, ``"valid"`` and ``"test"``; or the one file there is.
        shape: of the rows.

    Returns:
        The findings in the order of `CHECKS`; a check that found nothing gives one of level ``"good"``.
    """
    data = _Data([_Split(name, records) for name, records in splits.items() if len(records)], shape)
    if not data.splits:
        return [Finding("failure", "no_rows", "there are no rows", "name a file with examples")]
    findings: list[Finding] = []
    for code, (run, good) in CHECKS.items():
        findings += list(run(data)) or [Finding("good", code, good)]
    return findings


def _reading(data: _Data) -> Iterator[Finding]:
    notes = dict.fromkeys((split.records.path, note) for split in data.splits for note in split.records.notes)
    for path, note in notes:
        yield Finding("note", "reading", note if note.startswith(path) else f"{path}: {note}")


def _empty_text(data: _Data) -> Iterator[Finding]:
    for split in data.splits:
        empty = np.zeros(len(split.records), dtype=bool)
        for column in ("text", "text_pair"):
            if split.records.has(column):
                chunks = split.records.table[column].chunks  # one by one: the column may be larger than memory
                empty |= np.concatenate([pc.equal(pc.utf8_trim_whitespace(chunk), "") for chunk in chunks])
        if empty.any():
            level: Level = "warning" if empty.mean() < MAX_EMPTY_SHARE else "failure"
            message = f"{counted(int(empty.sum()), 'text')} empty ({empty.mean():.1%})"
            message += "; they are kept" if level == "warning" else f"; at most {MAX_EMPTY_SHARE:.0%} may be"
            yield split.find(level, "empty_text", message, "remove these rows, or check data.text", empty)


def _missing_label(data: _Data) -> Iterator[Finding]:
    answers = data.shape.labels == "answers"
    advice = "write [] for a question without an answer" if answers else "label or remove these rows"
    for split in data.splits:
        missing = ~split.labelled
        if missing.any():
            message = f"{counted(int(missing.sum()), 'row')} without a label"
            yield split.find("failure", "missing_label", message, advice, missing)


def _single_class(data: _Data) -> Iterator[Finding]:
    for split in data.splits:
        in_train = split is data.train
        level: Level = "failure" if in_train else "warning"
        if data.shape.labels in ("spans", "answers"):
            if not split.counts and split.labelled.any():
                message = f"no row has an {data.shape.noun}"
                advice = "check data.label and the annotation"
                yield split.find(level, "single_class", message, advice, split.labelled)
        elif len(np.unique(split.labels[split.labelled])) == 1 and (in_train or len(split.records) > 1):
            message = f"every row has the label {split.records[int(np.argmax(split.labelled))].label!r}"
            advice = "scores on this split say little; use more or better mixed rows"
            if in_train:
                advice = "training needs at least two different labels; check data.label"
            yield split.find(level, "single_class", message, advice, split.labelled)


def _rare_class(data: _Data) -> Iterator[Finding]:
    if data.counted:
        rare = {name for name, count in data.train.counts.items() if count < MIN_TRAIN_EXAMPLES}
        what = f"{counted(len(rare), 'label')} with fewer than {MIN_TRAIN_EXAMPLES} examples"
        advice = "add examples, or merge these labels with others"
        yield from data.train.find_labels("warning", "rare_class", rare, what, advice)


def _apart(found: np.ndarray) -> str:
    """What is told of rows or texts (bool, n) that are the same as others only apart from case and spaces."""
    return f", {int(found.sum()):,} of them apart from case and spaces" if found.any() else ""


def _duplicate(data: _Data) -> Iterator[Finding]:
    for split in data.splits:
        again = split.again(split.texts)
        if again.any():
            found = counted(int(again.sum()), "row")
            apart = _apart(again & ~split.again(split.exact))
            message = f"{found} with the text and label of an earlier row ({again.mean():.1%}){apart}"
            yield split.find("warning", "duplicate", message, "remove them, unless repetition carries meaning", again)


def _conflict(data: _Data) -> Iterator[Finding]:
    for split in data.splits:
        # Where labels are places in a text, those of texts with other spaces differ without a conflict.
        texts = split.exact if data.shape.labels in ("spans", "answers") else split.texts
        concerned = split.conflicting(texts)
        if len(concerned):
            where = np.isin(texts, concerned)
            exactly = texts[np.isin(split.exact, split.conflicting(split.exact))]
            apart = _apart(~np.isin(concerned, exactly))
            message = f"{counted(len(concerned), 'text')} with more than one label{apart}"
            yield split.find("warning", "conflict", message, "decide on one label for each text", where)
    if data.shape.labels == "spans":
        named = [
            {(record.text[span.start : span.end], span.label) for span in cast(tuple[Span, ...], record.label or ())}
            for record in data.train.records
        ]
        types = Counter(name for name, _ in set().union(*named))
        mixed = {name for name, count in types.items() if count > 1}
        if mixed:
            message = f"{counted(len(mixed), 'name')} with different types: {name_list(sorted(mixed))}"
            where = np.array([any(name in mixed for name, _ in pairs) for pairs in named])
            yield data.train.find("note", "conflict", message, "see whether the annotation is consistent", where)


def _leak(data: _Data) -> Iterator[Finding]:
    for first, second in combinations(data.splits, 2):
        shared = np.isin(second.texts, first.texts)
        if shared.any():
            found = f"{counted(int(shared.sum()), 'text')} of {second.name} ({shared.mean():.1%})"
            apart = _apart(shared & ~np.isin(second.exact, first.exact))
            message = f"{found} also in {first.name}{apart}; scores are too good"
            yield second.find("warning", "leak", message, "remove them from one of the two files", shared)
        if data.shape.whole == "text_pair":
            contexts, others = (alike_keys(split.records.table["text_pair"]) for split in (second, first))
            near = np.isin(contexts, others) & ~shared
            if near.any():
                found = f"{counted(int(near.sum()), 'question')} of {second.name} ({near.mean():.1%})"
                message = f"{found} on contexts that are also in {first.name}; on new contexts scores may be lower"
                yield second.find("warning", "leak", message, "keep all questions on a context in one file", near)


def _unseen_label(data: _Data) -> Iterator[Finding]:
    for split in data.counted:
        unseen = split.counts.keys() - data.train.counts.keys()
        what = f"{counted(len(unseen), 'label')} that train lacks"
        advice = "these rows can only be wrong; add training examples or remove them"
        yield from split.find_labels("warning", "unseen_label", unseen, what, advice)


def _imbalance(data: _Data) -> Iterator[Finding]:
    counts = data.train.counts if data.counted else {}
    if len(counts) > 1:
        large, small = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        if counts[large] >= IMBALANCE * counts[small]:
            message = f"{large!r} has {counts[large]:,} examples, {small!r} {counts[small]:,}"
            advice = "look at macro_f1 rather than accuracy; training.class_weights=balanced may help the small labels"
            if data.shape.labels == "spans":
                advice = "look at the scores of each type; examples of the small ones help most"
            yield Finding("note", "imbalance", message, advice, data.train.name, (), counts[small])


def _null_label(data: _Data) -> Iterator[Finding]:
    for split in data.counted:
        words = {name for name in split.counts if name.strip().lower() in NULL_WORDS}
        what = "labels that may mean 'no label', read as text"
        yield from split.find_labels("note", "null_label", words, what, "remove these rows if so")


def _similar_labels(data: _Data) -> Iterator[Finding]:
    spellings: dict[str, Counter[str]] = {}
    for split in data.counted:
        for name, count in split.counts.items():
            spellings.setdefault(normal_form(name), Counter())[name] += count
    for names in spellings.values():
        if len(names) > 1:
            shown = ", ".join(f"'{visible(name, 80, exact=True)}' {names[name]:,}" for name in sorted(names))
            message = f"labels that differ only in case, spaces or what is not seen: {shown}"
            advice = "write them the same way if they are one"
            if data.shape.labels == "one" and len({name.strip(TRIMMED) for name in names}) < len(names):
                advice += "; data.strip=true trims what is around them"
            yield Finding("warning", "similar_labels", message, advice, count=len(names))


CHECKS: dict[str, tuple[Callable[[_Data], Iterator[Finding]], str]] = {
    "reading": (_reading, "the files were read without remarks"),
    "empty_text": (_empty_text, "no text is empty"),
    "missing_label": (_missing_label, "every row has a label"),
    "single_class": (_single_class, "there is more than one label in each split"),
    "rare_class": (_rare_class, f"every label has at least {MIN_TRAIN_EXAMPLES} training examples"),
    "duplicate": (_duplicate, "no row repeats another"),
    "conflict": (_conflict, "no text has two labels"),
    "leak": (_leak, "no text is in two splits"),
    "unseen_label": (_unseen_label, "every label also occurs in training"),
    "imbalance": (_imbalance, "no label dominates"),
    "null_label": (_null_label, "no label looks like a missing value"),
    "similar_labels": (_similar_labels, "no two labels differ only in spelling"),
}
