"""Words of a text: the same for every tokenizer.

As the task of naming entities counts them, a word is a run of letters, digits and their combining marks, or one other
visible character; in scripts written without spaces every character (with its marks) is a word. No entity begins or
ends inside a word. By the coarse rule punctuation inside a word belongs to it, and so does a ``@``, ``#`` or currency
sign before it: ``can't``, ``3.50``, ``system.out`` and ``@name`` are one word each.
"""

from __future__ import annotations

import re
import unicodedata

import numpy as np

_MARKS = "".join(chr(c) for c in range(0x300, 0x10000) if unicodedata.category(chr(c))[0] == "M") + "\u200c\u200d"
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_SPACELESS}][{_MARKS}]*|(?:(?![{_SPACELESS}])\w)(?:(?![{_SPACELESS}])[\w{_MARKS}])*|[^\w\s]")
_WRITTEN = re.compile(
    rf"[{_SPACELESS}][{_MARKS}]*|(?![{_SPACELESS}])\w"
    rf"(?:(?:(?![{_SPACELESS}])\S)*(?![{_SPACELESS}])\w)?(?:(?![{_SPACELESS}])[{_MARKS}])*"
)
_COARSE = re.compile(rf"(?:[@#$€£](?=\w))?(?:{_WRITTEN.pattern})|\S")
_CHARACTER = re.compile(rf"(?s:.)[{_MARKS}]*")


def word_bounds(text: str, coarse: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """First character of each word and the one after its last: two int64 arrays (words,)."""
    rule = _COARSE if coarse else _WORD
    bounds = np.array([match.span() for match in rule.finditer(text)], dtype=np.int64).reshape(-1, 2)
    return bounds[:, 0], bounds[:, 1]


def written_words(text: str) -> list[tuple[int, int]]:
    """Bounds of the words as a writer counts them: without punctuation at their edges, but with that inside.

    ``can't``, ``3.50`` and ``e-mail`` are one word each; a lone punctuation mark is none.
    """
    return [match.span() for match in _WRITTEN.finditer(text)]


def marked_characters(text: str) -> list[str]:
    """The characters of a text, each with the combining marks on it."""
    return _CHARACTER.findall(text)


def whole_words(starts: np.ndarray, ends: np.ndarray, start: int, end: int) -> tuple[int, int]:
    """The characters from `start` to `end`, which are not all white space, with the words whole that they cut.

    Args:
        starts, ends: of the words of the text.
    """
    first, last = np.searchsorted(ends, start, side="right"), np.searchsorted(starts, end - 1, side="right") - 1
    return min(start, int(starts[first])), max(end, int(ends[last]))
