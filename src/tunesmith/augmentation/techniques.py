"""The ways in which a text can be edited and still mean what its label says.

Each is told what the training rows and the settings offer, and then gives the edits of one passage after another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tunesmith.augmentation.edits import Edit, Passage
from tunesmith.augmentation.lexicon import Lexicon
from tunesmith.config.schema import Config
from tunesmith.data.records import Records, Span
from tunesmith.data.shapes import RecordShape
from tunesmith.data.words import marked_characters

PUNCTUATION = (".", ";", "?", ":", "!", ",")
"""The marks of AEDA (Karimi, Rossi and Prati 2021)."""
KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
MIN_TYPO_LETTERS = 3
TRIES = 10


@dataclass(frozen=True)
class Materials:
    """What techniques work with.

    Attributes:
        train: the rows that new ones are made from.
        lexicon: that the settings name, if any.
    """

    config: Config
    train: Records
    lexicon: Lexicon | None = None

    def count(self, passage: Passage) -> int:
        """How many words of a passage are changed: the share asked for, at least one."""
        return max(1, round(self.config.augmentation.share * len(passage.words)))


class Technique(ABC):
    """A way of making new rows."""

    needs_entity: ClassVar[bool] = False
    """Changes nothing in a row without an entity, so it is given none."""

    def __init__(self, materials: Materials) -> None:
        self.materials = materials

    @classmethod
    def objection(cls, config: Config, shape: RecordShape | None) -> str | None:
        """Why this technique cannot be used with the settings and rows of this shape; None where it can.

        While nothing is known of the rows, `shape` is None, and nothing is to be said about them.
        """
        return None

    @abstractmethod
    def edits(self, passages: Sequence[Passage]) -> Iterable[list[Edit]]:
        """The edits of each passage, in order; none where it offers nothing to change."""


class PassageByPassage(Technique):
    """Base of the techniques that look at one passage at a time."""

    def edits(self, passages: Sequence[Passage]) -> Iterator[list[Edit]]:
        return map(self.edit, passages)

    @abstractmethod
    def edit(self, passage: Passage) -> list[Edit]:
        """Its edits."""


class Delete(PassageByPassage):
    """Words left out, each with one white space beside it; never all words."""

    def edit(self, passage: Passage) -> list[Edit]:
        text, edits, taken = passage.text, [], 0
        for start, end in passage.some(min(self.materials.count(passage), len(passage.words) - 1)):
            if start > taken and text[start - 1].isspace() and passage.is_free(start - 1, start):
                start -= 1
            elif text[end : end + 1].isspace() and passage.is_free(end, end + 1):
                end += 1
            edits.append(Edit(start, end, ""))
            taken = end
        return edits


class Swap(PassageByPassage):
    """Pairs of words that change places."""

    def edit(self, passage: Passage) -> list[Edit]:
        pairs = min(self.materials.count(passage), len(passage.words) // 2)
        words = passage.some(2 * pairs)
        order = passage.draw.permutation(len(words)).tolist()
        edits = []
        for one, other in zip(order[:pairs], order[pairs:], strict=True):
            for (start, end), source in ((words[one], words[other]), (words[other], words[one])):
                edits.append(Edit(start, end, passage.text[slice(*source)]))
        return edits


class Insert(PassageByPassage):
    """After random words a synonym of another; where there is no lexicon, or it knows none, another word itself."""

    def edit(self, passage: Passage) -> list[Edit]:
        lexicon, words = self.materials.lexicon, [passage.text[slice(*bounds)] for bounds in passage.words]
        known = [other for word in words for other in lexicon.synonyms(word)] if lexicon else []
        offers = known or words
        places = passage.some(self.materials.count(passage))
        return [Edit(end, end, f" {_one(offers, passage.draw)}") for _, end in places]


class Synonym(PassageByPassage):
    """Words replaced by synonyms from the lexicon."""

    @classmethod
    def objection(cls, config: Config, shape: RecordShape | None) -> str | None:
        if config.augmentation.lexicon is None:
            return "needs synonyms; add augmentation.lexicon=FILE (one group a line, or a WordNet folder)"
        return None

    def edit(self, passage: Passage) -> list[Edit]:
        lexicon = self.materials.lexicon
        assert lexicon is not None
        known = [bounds for bounds in passage.words if lexicon.synonyms(passage.text[slice(*bounds)])]
        edits = []
        for start, end in passage.some(self.materials.count(passage), known):
            word = passage.text[start:end]
            edits.append(Edit(start, end, written_like(word, _one(lexicon.synonyms(word), passage.draw))))
        return edits


class Punctuation(PassageByPassage):
    """A punctuation mark before one word in three at most (AEDA)."""

    def edit(self, passage: Passage) -> list[Edit]:
        count = int(passage.draw.integers(1, max(1, len(passage.words) // 3), endpoint=True))
        return [Edit(start, start, f"{_one(PUNCTUATION, passage.draw)} ") for start, _ in passage.some(count)]


class Typo(PassageByPassage):
    """One slip of the keyboard in each of some words."""

    def edit(self, passage: Passage) -> list[Edit]:
        words = [(a, b) for a, b in passage.words if sum(map(str.isalpha, passage.text[a:b])) >= MIN_TYPO_LETTERS]
        chosen = passage.some(self.materials.count(passage), words)
        return [Edit(a, b, mistyped(passage.text[a:b], passage.draw)) for a, b in chosen]


class Entity(PassageByPassage):
    """Entities replaced by others of their type in the training rows ("mention replacement", Dai and Adel 2020)."""

    needs_entity: ClassVar[bool] = True

    def __init__(self, materials: Materials) -> None:
        super().__init__(materials)
        known: dict[str, dict[str, None]] = {}
        for record in materials.train:
            for span in record.label or ():
                assert isinstance(span, Span)
                known.setdefault(span.label, {})[record.text[span.start : span.end]] = None
        self.known = {type_: sorted(names) for type_, names in known.items()}

    @classmethod
    def objection(cls, config: Config, shape: RecordShape | None) -> str | None:
        if shape is None or shape.labels == "spans":
            return None
        return f"replaces named entities, and {shape.task} has none"

    def edit(self, passage: Passage) -> list[Edit]:
        """About half of the entities, at least one."""
        spans = [item for item in passage.marked if isinstance(item, Span)]
        if not spans:
            return []
        chosen = passage.draw.random(len(spans)) < 0.5
        chosen[passage.draw.integers(len(spans))] = True
        edits = []
        for span in (span for span, use in zip(spans, chosen, strict=True) if use):
            here = passage.text[span.start : span.end]
            others = (_one(self.known[span.label], passage.draw) for _ in range(TRIES))
            edits += [Edit(span.start, span.end, name) for name in others if name != here][:1]
        return edits


def mistyped(word: str, draw: np.random.Generator) -> str:
    """The word with two letters exchanged, or one hit beside its key, left out or doubled; never the same word.

    A letter and the marks on it are one.

    Args:
        word: with at least two letters.
    """
    characters = marked_characters(word)
    letters = [i for i, character in enumerate(characters) if character[0].isalpha()]
    for _ in range(TRIES):
        at = int(draw.choice(letters))
        before, letter, after = "".join(characters[:at]), characters[at], "".join(characters[at + 1 :])
        slips = [before + after, before + 2 * letter + after]
        if at + 1 in letters:
            other = characters[at + 1]
            slips.append(before + other + letter + after[len(other) :])
        if beside := _beside(letter):
            slips.append(before + _one(beside, draw) + after)
        made = _one(slips, draw)
        if made != word:
            return made
    return word


def _beside(letter: str) -> list[str]:
    """The keys around a letter on a QWERTY keyboard, in its case; none for other letters."""
    for row, keys in enumerate(KEYBOARD):
        at = keys.find(letter.lower())
        if at >= 0:
            rows = KEYBOARD[max(0, row - 1) : row + 2]
            near = [key for other in rows for key in other[max(0, at - 1) : at + 2] if key != keys[at]]
            return [key.upper() if letter.isupper() else key for key in near]
    return []


def written_like(pattern: str, word: str) -> str:
    """`word` in the capitals of `pattern`: all of them, the first letter, or as it is."""
    if len(pattern) > 1 and pattern.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if pattern[:1].isupper() else word


def _one(of: Sequence[str], draw: np.random.Generator) -> str:
    return of[int(draw.integers(len(of)))]
