"""Looks for the columns of a table by flag and by their usual names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.config.schema import DataSettings
from tunesmith.data.records import RawTable
from tunesmith.data.table import TEXT
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


class Finder:
    """Looks for columns and keeps every problem, so that all are reported at once."""

    def __init__(self, raw: RawTable) -> None:
        self.raw, self.notes, self.problems = raw, list[str](), list[str]()
        self.columns = list(raw.table.column_names)
        self._by_name: dict[str, str] = {}
        for column in self.columns:
            self._by_name.setdefault(re.sub(r"[\s-]+", "_", column.strip().lower()), column)

    def flagged(self, name: str | None, flag: str) -> str | None:
        if name is not None and name not in self.columns:
            near = difflib.get_close_matches(name, self.columns, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            self.problems.append(f"{self.raw.path}: {flag}: no column {name!r}; {hint}{self._there()}")
        return name

    def named(self, names: Iterable[str], but: set[str] | frozenset[str] = frozenset()) -> str | None:
        return next((c for c in map(self._by_name.get, names) if c is not None and c not in but), None)

    def filled(self, names: Iterable[str]) -> str | None:
        """As `named`, if every row has a value there, and not all the same one."""
        found = self.named(names)
        if found is None or pc.any(is_empty(self.raw.table[found])).as_py():
            return None
        return found if pc.count_distinct(self.raw.table[found]).as_py() > 1 else None

    def labels(self, flag: str | None, need: bool) -> tuple[str, ...]:
        if flag is not None:
            several = flag not in self.columns and "," in flag
            wanted = [part.strip() for part in flag.split(",")] if several else [flag]
            if need or all(name in self.columns for name in wanted):
                return tuple(name for name in wanted if self.flagged(name, "--label"))
            return ()
        found = self.named(LABEL_NAMES)
        if found is None and need:
            indicators = [column for column in self.columns if self._is_zero_one(column)]
            hint = f" (several 0/1 columns: --label {','.join(indicators[:20])})" if len(indicators) > 1 else ""
            self.problems.append(f"{self.raw.path}: no label column; give --label COLUMN{hint}; {self._there()}")
        return (found,) if found else ()

    def text(self, flag: str | None) -> str | None:
        """The column of the text where there is one by flag or by name."""
        return self.flagged(flag, "--text") if flag is not None else self.named(TEXT_NAMES)

    def texts(self, settings: DataSettings, taken: set[str]) -> tuple[str | None, str | None]:
        pair = self.flagged(settings.text_pair, "--text-pair")
        if settings.text is not None:
            return self.flagged(settings.text, "--text"), pair
        if pair is None:
            for first, second in PAIR_NAMES:
                if (one := self.named([first], taken)) and (two := self.named([second], taken)):
                    self.notes.append(f"text pairs are read from {one!r} and {two!r}")
                    return one, two
        found = self.named(TEXT_NAMES, taken | {pair or ""})
        if found is None:
            known = taken | {settings.group or "", settings.id or "", pair or ""}
            left = [column for column in self.columns if column not in known]
            if len(left) == 1:
                found = left[0]
                self.notes.append(f"the text is read from {found!r}, the only column left")
            else:
                self.problems.append(f"{self.raw.path}: no text column; give --text COLUMN; {self._there()}")
        return found, pair

    def identifier(self, taken: set[str | None]) -> str | None:
        """A column with a usual name, if its values can serve as identifiers."""
        found = self.named(ID_NAMES, {name for name in taken if name})
        if found is None:
            return None
        column = self.raw.table[found]
        if pc.any(is_empty(column)).as_py() or pc.count_distinct(column).as_py() < len(column):
            self.notes.append(f"column {found!r} has empty or repeated values; rows are named by their number instead")
            return None
        return found

    def _is_zero_one(self, column: str) -> bool:
        return bool(pc.all(pc.is_in(self.raw.table[column], value_set=pa.array(["0", "1"], TEXT))).as_py())

    def _there(self) -> str:
        return f"columns there: {name_list(self.columns)} (the first line of a CSV file is its header)"


def is_empty(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bool (n,): null, or nothing but white space."""
    return pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True)
