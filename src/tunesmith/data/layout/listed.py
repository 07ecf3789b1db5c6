"""Several labels in one cell: as a list of JSON, Python or NumPy, or between separators.

Nothing is evaluated. A cell is read from its start to its end once, however long it is and whatever stands in it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

from tunesmith.data.jsontext import Number, as_text, parse
from tunesmith.data.layout.base import Form
from tunesmith.data.records import SURROGATE
from tunesmith.errors import DataError

SEPARATORS = ("|", ";", "\n", ",", "#")
IN_WORDS = (",", "#")
"""Separators that also stand inside names: "R&D, marketing", "level #2"."""
SEPARATOR_NAMES = {r"\n": "\n", r"\t": "\t", "tab": "\t", "space": " "}
ZERO_ONE = {"0", "1", "0.", "1.", "0.0", "1.0", "false", "true"}
ONE = {"1", "1.", "1.0", "true"}
_EMPTY = {"set()", "frozenset()", "{}"}
_CALL = re.compile(
    r"""(?:np\.|numpy\.)?(?:array|set|frozenset)\(([\[({].*[\])}])\s*+(?:,\s*+dtype=[\w.<'"]++\s*+)?\)""", re.DOTALL
)
_ITEM = re.compile(
    r"""\s*+(?:
        (?P<call>np\.\w+\()?                                                # as NumPy 2 shows its scalars
        (?:(?P<quoted>'(?:[^'\\]++|\\.)*+'|"(?:[^"\\]++|\\.)*+")
          |(?P<number>[+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?|True|False))
        (?(call)\))
        (?:\s*+(?:,|\Z)|\s++(?=['"\d+\-.TF]|np\.))                          # NumPy writes no commas
      |(?P<word>[^\s,'"\[\](){}][^,\[\]{}]*+)(?:,|\Z)
    )\s*+""",
    re.DOTALL | re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U(000[\da-fA-F]{5}|0010[\da-fA-F]{4})|(.))", re.DOTALL)
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r"}


class Word(str):
    """An item of a list that stands without quotes."""

    __slots__ = ()


def list_items(cell: str) -> list[Any] | None:
    """The items of a list as JSON, Python (also tuple and set), NumPy or PostgreSQL writes it; None for other text.

    Items are strings, `Word`, `Number`, bool or, of JSON, anything else.
    """
    text = cell.strip()
    if text in _EMPTY:
        return []
    if text[:1] not in tuple("[({anfs"):
        return None
    try:
        items = parse(text)
    except ValueError:
        called = _CALL.fullmatch(text)
        return _written(called[1].strip() if called else text)
    return items if isinstance(items, list) else None


def _written(text: str) -> list[Any] | None:
    """The items of a list that is not JSON."""
    if len(text) < 2 or text[0] + text[-1] not in ("[]", "()", "{}"):
        return None
    inside, at, items = text[1:-1].rstrip(), 0, list[Any]()
    while at < len(inside):
        found = _ITEM.match(inside, at)
        if found is None:
            return None
        at = found.end()
        if found["quoted"] is not None:
            items.append(_ESCAPE.sub(_unescaped, found["quoted"][1:-1]))
        elif found["number"] is not None:
            truth = {"True": True, "False": False}
            items.append(truth[found["number"]] if found["number"] in truth else Number(found["number"]))
        else:
            items.append(Word(found["word"].strip()))
    return None if text[0] == "(" and items and "," not in inside else items  # (a) is a word in brackets


def _unescaped(found: re.Match[str]) -> str:
    code = found[1] or found[2] or found[3]
    return chr(int(code, 16)) if code else _CONTROLS.get(found[4], found[4])


def split_cell(cell: str, form: Form, separator: str | None) -> tuple[str, ...] | None:
    """The labels of one cell, each once, in their order; None where it should be a list and is none."""
    if form == "separated":
        pieces = [] if is_empty_list(cell) else cell.split(separator) if separator else [cell]
    else:
        items = list_items(cell)
        if items is None or any(item is None or isinstance(item, list | dict) for item in items):
            return None
        pieces = [as_text(item) or "" for item in items]
        if form == "indicator":
            bits = [piece.lower() for piece in pieces]
            return tuple(str(i) for i, bit in enumerate(bits) if bit in ONE) if ZERO_ONE.issuperset(bits) else None
        missing = any(isinstance(item, Word) and item in ("None", "nan") for item in items)
        if missing or any(map(SURROGATE.search, pieces)):
            return None
    return tuple(dict.fromkeys(piece for piece in map(str.strip, pieces) if piece))


def is_empty_list(cell: str) -> bool:
    return len(cell) < 20 and list_items(cell) == []


def list_form(cells: Sequence[str], where: str, asked: bool) -> Form | None:
    """Whether cells are lists (of zeros and ones, all of one length: ``"indicator"``).

    Words in brackets count as lists where several are in one, and most recur; or where several labels are `asked` for.

    Raises:
        DataError: some are lists and others are not, or lists of zeros and ones are cut or of different lengths.
    """
    lists = [list_items(cell) for cell in cells]
    found = [items for items in lists if items]
    items_of = list(chain.from_iterable(found))
    words = bool(found) and all(isinstance(item, Word) for item in items_of)
    if any(isinstance(item, Word) and item.startswith("...") for item in items_of):
        raise DataError(f"{where}: lists were cut by NumPy where ... stands; save whole lists, as with .tolist()")
    if None in lists:
        parts = [items if items is not None else [cell] for cell, items in zip(cells, lists, strict=True)]
        recur = words and _recurring([list(map(str, found)) for found in parts])[0] >= 0.5
        if recur or any(type(item) is str for item in items_of):
            odd = cells[lists.index(None)]
            listed = next(cell for cell, items in zip(cells, lists, strict=True) if items)
            what = f"{listed[:80]!r} is a list of labels and {odd[:80]!r} is none"
            raise DataError(f'{where}: {what}; write all cells the same way, as in ["one", "two"]')
        return None
    if words and not asked and _recurring([tuple(items) for items in found])[0] < 0.5:
        return None
    if not lists:
        return None
    lengths = {len(items) for items in found}
    bits = all((as_text(item) or "").lower() in ZERO_ONE for item in items_of)
    if found and bits and max(lengths) > 1:
        if len(lengths) == 1 and len(found) == len(lists):
            return "indicator"
        if any(len(set(map(as_text, items))) < len(items) for items in found):
            sizes = f"{min(lengths)} and {max(lengths)}" if len(lengths) > 1 else f"0 and {max(lengths)}"
            raise DataError(
                f"{where}: lists of zeros and ones have lengths of {sizes}; write one value for every label"
            )
    return "json"


def find_separator(cells: Sequence[str], where: str, decides: str, asked: bool) -> str | None:
    """What separates several labels in a cell; None where each cell is one label.

    Parts that recur in other cells tell: half of the different ones, and for separators that names hold, too, parts
    that also stand alone. Where several labels are `asked` for, the separator whose parts recur most.

    Args:
        decides: the settings that decide, for an error.

    Raises:
        DataError: the parts recur, but not so that they must be labels of their own.
    """
    split = {one: [split_cell(cell, "separated", one) or () for cell in cells] for one in SEPARATORS}
    found = {one: _recurring(parts) for one, parts in split.items() if any(len(found) > 1 for found in parts)}
    if asked:
        best = max(found, key=lambda one: found[one][0], default=None)
        return None if best == "#" and not found[best][0] else best
    for separator, (recurring, alone) in found.items():
        sure = separator != "," if separator not in ("\n", "#") else alone >= 0.5
        if recurring >= 0.5 and sure:
            return separator
        if recurring >= 0.5 or (recurring > 0 and separator not in IN_WORDS):
            example = next(cell for cell, parts in zip(cells, split[separator], strict=True) if len(parts) > 1)
            what = f"{example[:80]!r} may be one label, or several separated by {separator!r}"
            raise DataError(f"{where}: {what}; {decides}")
    return None


def _recurring(parts: Sequence[Sequence[str]]) -> tuple[float, float]:
    """Of the different parts of divided cells, the share that occurs in another cell, and that also stands alone."""
    occurs = Counter(part for found in parts for part in set(found))
    alone = {found[0] for found in parts if len(found) == 1}
    divided = {part for found in parts if len(found) > 1 for part in found}
    if not divided:
        return 0.0, 0.0
    return sum(occurs[part] > 1 for part in divided) / len(divided), len(divided & alone) / len(divided)


def made_of_parts(cells: Sequence[str]) -> str | None:
    """What stands between the few parts of which many labels are made, so that these may be several in a cell."""
    for separator in (" ", "/", "+", "&", "_", "-"):
        parts = [split_cell(cell, "separated", separator) or () for cell in cells]
        divided = [found for found in parts if len(found) > 1]
        different = {part for found in divided for part in found}
        combined = len(divided) > 2 * len(different) or _recurring(parts)[1] == 1.0
        if len(divided) > 2 and combined:
            return separator
    return None
