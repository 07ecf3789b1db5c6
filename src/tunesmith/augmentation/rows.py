"""New training rows: how many of which, what they are made of, and what is told about them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.augmentation import NONE, SHORTHANDS, TECHNIQUES
from tunesmith.augmentation.edits import Edit, Passage, apply, edges_inside_words, moved_label, passages
from tunesmith.augmentation.lexicon import load_lexicon
from tunesmith.augmentation.techniques import Materials, Technique
from tunesmith.config.schema import AugmentationSettings, Config
from tunesmith.data.files import local_path
from tunesmith.data.keys import column_keys, label_codes, label_keys, mixed, text_keys
from tunesmith.data.records import Answer, Label, Records, Span, TextRecord
from tunesmith.data.shapes import RecordShape
from tunesmith.data.table import take
from tunesmith.errors import DataError, UsageError
from tunesmith.registry import did_you_mean, lookup
from tunesmith.registry import names as registered
from tunesmith.text import counted

CHUNK = 2_048
"""Rows made at once."""
MAX_COPIES = 4
"""A row is copied at most so many times as often as the average row."""


@dataclass(frozen=True)
class Augmented:
    """The train split with its new rows.

    Attributes:
        records: the rows of the split, then the new ones.
        new: the new rows alone.
        techniques: of each new row.
        sources: identifier of the row that each was made from.
        cut: how many were dropped because an entity would no longer begin and end at words.
        facts: what the run's record says.
    """

    records: Records
    new: Records
    techniques: list[str]
    sources: list[str]
    cut: int
    facts: dict[str, Any]

    def lines(self) -> Iterator[dict[str, Any]]:
        """What ``augmented.jsonl`` holds."""
        for record, technique, source in zip(self.new, self.techniques, self.sources, strict=True):
            pair = {} if record.text_pair is None else {"text_pair": record.text_pair}
            label = {"label": _plain(record.label)}
            yield {"id": record.id, "of": source, "technique": technique, "text": record.text, **pair, **label}

    def note(self) -> str:
        """One line for the user."""
        rows, before = self.facts["rows"], len(self.records) - len(self.new)
        reasons = {"equal to others": self.facts["dropped"] - self.cut, "with entities that cut words": self.cut}
        lost = ", ".join(f"{counted(count, 'row')} {reason}" for reason, count in reasons.items() if count)
        dropped = f"; dropped: {lost}" if lost else ""
        if not rows:
            advice = "choose other techniques, or a larger augmentation.factor"
            return f"augmentation: no row could be added to {before:,}{dropped}; {advice}"
        made = ", ".join(f"{count:,} {name}" for name, count in self.facts["by_technique"].items())
        return f"augmentation: {counted(rows, 'row')} added to {before:,} ({made}){dropped}"


@dataclass(frozen=True)
class Augmenter:
    """Makes rows by the techniques that were asked for.

    Attributes:
        techniques: by name.
    """

    settings: AugmentationSettings
    shape: RecordShape
    seed: int
    train: Records
    techniques: dict[str, Technique]

    @classmethod
    def of(cls, config: Config, shape: RecordShape, train: Records) -> Augmenter | None:
        """What the settings ask for; None for nothing.

        Raises:
            UsageError: see `chosen_techniques`.
            DataError: the lexicon cannot be read.
            ModelError: the masked-language model cannot be used.
        """
        settings, found = config.augmentation, chosen_techniques(config, shape)
        if not found:
            return None
        lexicon = None if settings.lexicon is None else load_lexicon(settings.lexicon)
        materials = Materials(config, train, lexicon)
        techniques = {name: technique(materials) for name, technique in found.items()}
        return cls(settings, shape, config.training.seed, train, techniques)

    @property
    def total(self) -> int:
        """How many rows are tried."""
        return round(self.settings.factor * len(self.train))

    def rows(self, splits: Mapping[str, Records], progress: Callable[[int], None]) -> Augmented:
        """Make the rows; the same for the same rows and seed, in whatever order they stand. To be called once.

        Args:
            splits: none of whose texts is made again.
            progress: called with the number of rows done since the last call.
        """
        keys, strata = mixed(column_keys(self.train.table["id"]), salt=self.seed), self._strata()
        for_any_row = [name for name, technique in self.techniques.items() if not technique.needs_entity]
        usable = np.flatnonzero((strata > 0) | bool(for_any_row))
        copies = np.zeros(len(self.train), dtype=np.int64)
        copies[usable] = amounts(strata[usable], self.total, keys[usable])
        of = np.repeat(np.arange(len(self.train)), copies)
        number = np.arange(len(of)) - np.repeat(np.cumsum(copies) - copies, copies) + 1
        names = []
        for drawn, labelled in zip(keys[of] + number.astype(np.uint64), strata[of] > 0, strict=True):
            choices = list(self.techniques) if labelled else for_any_row
            names.append(choices[int(drawn) % len(choices)])
        made: list[TextRecord | None] = []
        for start in range(0, len(of), CHUNK):
            part = slice(start, start + CHUNK)
            records = list(self.train.select(of[part]))
            made += self._made(records, number[part], names[part], keys[of[part]])
            progress(len(records))
        self.techniques.clear()  # a model among them makes room for the one that is trained
        kept = np.array([i for i, record in enumerate(made) if record is not None], dtype=np.int64)
        new = self._table(of[kept], [record for record in made if record is not None])
        stay = _survivors(new, splits, self.shape.counted)
        kept, new = kept[stay], new.select(stay)
        together = Records(pa.concat_tables([self.train.table, new.table]), self.train.path, self.train.notes)
        techniques = [names[i] for i in kept]
        sources = [str(name) for name in take(self.train.table.select(["id"]), of[kept])["id"].to_pylist()]
        facts = {
            "names": chosen_names(self.settings),
            "factor": self.settings.factor,
            "rows": len(new),
            "by_technique": dict(Counter(techniques)),
            "by_label": label_codes(new).counts if self.shape.counted else {},
            "dropped": len(of) - len(new),
        }
        return Augmented(together, new, techniques, sources, sum(record is None for record in made), facts)

    def _strata(self) -> np.ndarray:
        """Number, from 1, of the rarest label of each row, int64 (n,); 0 where a row has none, or none can be rare."""
        stratum = np.zeros(len(self.train), dtype=np.int64)
        if not self.shape.counted:
            return stratum
        labels, rows, codes = label_codes(self.train)
        order = np.argsort(-np.bincount(codes, minlength=len(labels))[codes], kind="stable")  # the rarest comes last
        stratum[rows[order]] = codes[order] + 1
        return stratum

    def _made(
        self, records: Sequence[TextRecord], numbers: np.ndarray, names: Sequence[str], keys: np.ndarray
    ) -> list[TextRecord | None]:
        """A new row from each record; None where one of its spans would no longer fall on words."""
        parts = [
            passages(record, (np.random.default_rng([self.seed, int(key), int(number), part]) for part in (0, 1)))
            for record, number, key in zip(records, numbers, keys, strict=True)
        ]
        edits: list[list[list[Edit]]] = [[] for _ in records]
        for name, technique in self.techniques.items():
            mine = [i for i, used in enumerate(names) if used == name]
            flat: list[Passage] = [passage for i in mine for passage in parts[i]]
            owners = [i for i in mine for _ in parts[i]]
            for owner, changes in zip(owners, technique.edits(flat), strict=True):
                edits[owner].append(changes)
        made: list[TextRecord | None] = []
        for record, name, number, found in zip(records, names, numbers, edits, strict=True):
            text, label = apply(record.text, found[0]), moved_label(record.label, found)
            pair = None if record.text_pair is None else apply(record.text_pair, found[1])
            cut = any(  # training may use words of either rule
                edges_inside_words(text, label, coarse) > edges_inside_words(record.text, record.label, coarse)
                for coarse in (False, True)
            )
            new = TextRecord(f"{record.id}~{name}-{number}", text, pair, label, record.row)
            made.append(None if cut else new)
        return made

    def _table(self, of: np.ndarray, made: Sequence[TextRecord]) -> Records:
        table = take(self.train.table, of)
        for at, field in enumerate(table.schema):
            if field.name in ("id", "text", "text_pair", "label"):
                values = [_plain(getattr(record, field.name)) for record in made]
                table = table.set_column(at, field.name, pa.array(values, field.type))
        return Records(table, self.train.path)


def chosen_names(settings: AugmentationSettings) -> list[str]:
    """The techniques that were asked for, each once, shorthands written out."""
    wanted = [name.strip() for name in settings.names.split(",")]
    return list(dict.fromkeys(name for short in wanted for name in SHORTHANDS.get(short, (short,))))


def chosen_techniques(config: Config, shape: RecordShape | None) -> dict[str, type[Technique]]:
    """The techniques that were asked for, by name, before any of them is set up.

    Args:
        shape: of the rows; None while only the settings are known, which are then judged by themselves.

    Raises:
        UsageError: a technique is unknown or cannot be used so, or the lexicon is missing; all problems at once.
    """
    settings = config.augmentation
    if settings.names == NONE:
        return {}
    known, problems, found = registered(TECHNIQUES, "augmentations"), [], {}
    for name in chosen_names(settings):
        if name not in known:
            hint = did_you_mean(name, [*known, *SHORTHANDS])
            problems.append(f"augmentation.names: unknown augmentation {name!r}; {hint}")
            continue
        found[name] = lookup(TECHNIQUES, "augmentations", name)
        if objection := found[name].objection(config, shape):
            problems.append(f"augmentation.names={name}: {objection}")
    if settings.lexicon is not None:
        try:
            local_path(settings.lexicon)
        except DataError as error:
            problems += [f"augmentation.lexicon: {problem}" for problem in error.problems]
    if problems:
        raise UsageError(problems)
    return found


def amounts(strata: np.ndarray, total: int, keys: np.ndarray) -> np.ndarray:
    """How many copies of each row are made, int64 (n,), so that rare strata catch up first.

    Args:
        strata: (n,) the stratum of each row, small integers; rows of stratum 0 are never rare, and copied no more often
            than the average row.
        total: copies in all.
        keys: (n,) decide which rows of a stratum get one copy more than others.
    """
    rows = np.bincount(strata, minlength=1)
    bound = rows * math.ceil(MAX_COPIES * total / max(1, len(strata)))
    bound[0] = math.ceil(total * rows[0] / max(1, len(strata)))
    # The level up to which strata are filled, like water: the highest that takes no more than `total`.
    low, high = 0, int(rows.max(initial=0)) + total
    while low < high:
        level = (low + high + 1) // 2
        low, high = (level, high) if np.clip(level - rows, 0, bound).sum() <= total else (low, level - 1)
    quota = np.clip(low - rows, 0, bound)
    open_ = np.flatnonzero((quota < bound) & (rows <= low))
    quota[open_[: total - int(quota.sum())]] += 1
    order = np.lexsort((keys, strata))
    place = np.arange(len(strata)) - np.repeat(np.cumsum(rows) - rows, rows)  # within the stratum
    copies = np.empty(len(strata), dtype=np.int64)
    each, more = np.divmod(quota, np.maximum(rows, 1))
    copies[order] = each[strata[order]] + (place < more[strata[order]])
    return copies


def _survivors(new: Records, splits: Mapping[str, Records], classes: bool) -> np.ndarray:
    """Which new rows stay, int64 (m,), in their order: those whose text is in no split, and of equal texts one.

    Args:
        classes: labels are classes, so a text that was made with different labels does not stay at all.
    """
    keys = text_keys(new)
    order = np.lexsort((column_keys(new.table["id"]), keys))  # which one it is depends on identifiers, not on places
    texts, first = np.unique(keys[order], return_index=True)
    stay = ~np.isin(texts, np.concatenate([text_keys(part) for part in splits.values()]))
    if classes:
        labels = label_keys(new)[order]
        stay &= np.minimum.reduceat(labels, first) == np.maximum.reduceat(labels, first)
    return np.sort(order[first[stay]])


def _plain(value: Label | None) -> Any:
    """A label or text as JSON and Arrow write it."""
    if not isinstance(value, tuple):
        return value
    return [item._asdict() if isinstance(item, Span | Answer) else item for item in value]
