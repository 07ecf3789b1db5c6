"""Synonyms of words, from a file of the user's or from a WordNet database.

A file has one group of synonyms a line, separated by tabs, or by commas where the line has no tab; lines that begin
with ``#`` are comments. A WordNet folder has the files ``index.noun`` and ``data.noun`` (likewise ``verb``, ``adj``,
``adv``) as wndb(5WN) documents them.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tunesmith.config.schema import DataSettings
from tunesmith.data.files import Lines, explained, local_path
from tunesmith.errors import DataError

PARTS = ("noun", "verb", "adj", "adv")
# Those of the stop words of scikit-learn that have a meaning of their own.
MEANINGFUL = (
    "amount bill bottom call cry describe detail empty fill find fire front full interest mill move name part serious "
    "show side sincere system thick thin top"
)
_MARKER = re.compile(r"\((?:a|p|ip)\)$")  # where an adjective may stand
_ENTRY = re.compile(rb"(\d{8}) \d\d [nvasr] ([0-9a-f]{2}) ")  # its own byte offset, ..., number of its words


@cache
def function_words() -> frozenset[str]:
    """English words that stand for nothing by themselves."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS - set(MEANINGFUL.split()))


class Lexicon(ABC):
    """Something that knows words with the same meaning."""

    @abstractmethod
    def synonyms(self, word: str) -> tuple[str, ...]:
        """Other words for `word`, in lower case where the source has them so; empty for an unknown word."""


def load_lexicon(path: str) -> Lexicon:
    """The lexicon in a file or WordNet folder.

    Raises:
        DataError: it does not exist, cannot be read, or holds no synonyms.
    """
    found = local_path(path)
    return WordNet(found) if found.is_dir() else Groups(found)


class Groups(Lexicon):
    """Synonyms as a user wrote them down, one group a line.

    Raises:
        DataError: a line has a single word, or no line has any; all such lines are named.
    """

    def __init__(self, path: Path) -> None:
        self._others: dict[str, dict[str, None]] = {}  # word in lower case → the other words of all its groups
        problems = []
        with Lines(path, DataSettings()) as lines:
            for line in lines:
                if not line.strip() or line.startswith("#"):
                    continue
                group = [word for word in map(str.strip, line.split("\t" if "\t" in line else ",")) if word]
                if len(group) < 2:
                    problems.append(
                        f"{path}: line {lines.number}: expected two or more words, with tabs or commas between"
                    )
                for word in group:
                    others = dict.fromkeys(other for other in group if other.casefold() != word.casefold())
                    self._others.setdefault(word.lower(), {}).update(others)
        if problems or not self._others:
            raise DataError(problems or f"{path}: no synonyms; write one group a line, separated by tabs or commas")

    def synonyms(self, word: str) -> tuple[str, ...]:
        return tuple(self._others.get(word.lower(), ()))


class WordNet(Lexicon):
    """A WordNet database on disk (Fellbaum 1998); the words of a meaning are looked up as they are needed.

    Only base forms are looked up, so that what takes a word's place fits its sentence. Words without a meaning of their
    own ("it", "have") are left alone: WordNet knows them as something else.

    Raises:
        DataError: there are files of no part of speech, one cannot be read, or a line is not as documented.
    """

    def __init__(self, folder: Path) -> None:
        self._data: dict[str, bytes] = {}  # content of the data file of each part of speech
        # word → how often its meanings are tagged, the part of speech in which that is most, the byte offsets of its
        # meanings there, the most frequent first
        self._senses: dict[str, tuple[int, str, tuple[int, ...]]] = {}
        for part in PARTS:
            index, content = folder / f"index.{part}", folder / f"data.{part}"
            with explained(content, DataSettings()):
                if not (index.is_file() and content.is_file()):
                    continue
                self._data[part] = content.read_bytes()
            for word, tagged, offsets in _index(index):
                for offset in offsets:
                    entry = _ENTRY.match(self._data[part], offset)
                    if entry is None or int(entry[1]) != offset:
                        raise DataError(
                            f"{content}: no entry at byte {offset}, where its index says; restore the WordNet files"
                        )
                if tagged > self._senses.get(word, (-1,))[0]:
                    self._senses[word] = tagged, part, offsets
        if not self._data:
            raise DataError(f"{folder}: expected a WordNet folder with index.noun, data.noun and so on, found neither")

    def synonyms(self, word: str) -> tuple[str, ...]:
        """The other words of its most frequent meaning that has any."""
        word = word.lower()
        if word in function_words() or word not in self._senses:
            return ()
        _, part, offsets = self._senses[word]
        groups = (self._others(part, offset, word) for offset in offsets)
        return next((group for group in groups if group), ())

    def _others(self, part: str, offset: int, word: str) -> tuple[str, ...]:
        data = self._data[part]
        entry = _ENTRY.match(data, offset)
        assert entry is not None
        line = data[entry.end() : data.find(b"\n", offset)].decode("utf-8", errors="replace")
        words = line.split(" ")[: 2 * int(entry[2], 16) : 2]
        plain = [_MARKER.sub("", name).replace("_", " ") for name in words]
        return tuple(dict.fromkeys(name for name in plain if name.lower() != word))


def _index(path: Path) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """Word, number of its meanings that occur in the tagged texts, offsets of all its meanings.

    A line: word, part, meanings, number of pointers, their symbols, meanings again, tagged meanings, offsets.
    """
    with explained(path, DataSettings()):
        lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if line.startswith("  "):  # the licence
            continue
        fields = line.split()
        try:
            count = int(fields[2])
            yield fields[0], int(fields[-count - 1]), tuple(int(offset) for offset in fields[-count:])
        except (IndexError, ValueError):
            raise DataError(f"{path}: line {number} is not an entry of a WordNet index; restore the file") from None
