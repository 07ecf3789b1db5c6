"""Words that errors, findings, screen and report share, and untrusted text made safe to look at."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import islice

SHOWN_ROWS = 20
SHOWN_NAMES = 20
# Outer white space, and what is not seen but no joiner.
TRIMMED = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\xad\u200b\u200e\u200f\u2060\ufeff"
JOINERS = "\u200c\u200d"  # needed inside words of some scripts and inside emoji


def counted(count: int, noun: str) -> str:
    """``"1 row"``, ``"2,000 rows"``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def row_list(rows: Sequence[int]) -> str:
    """``"row 3"``, or ``"rows 3, 7, 9"`` with the first 20 and the number of all."""
    shown = ", ".join(str(int(row)) for row in rows[:SHOWN_ROWS])
    more = f", … ({len(rows):,} in all)" if len(rows) > SHOWN_ROWS else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"


def name_list(names: Iterable[str]) -> str:
    """Quoted names, the first 20 of them."""
    names = list(names)
    shown = ", ".join(repr(name[:80]) for name in islice(names, SHOWN_NAMES))
    return shown + (f", … ({len(names):,} in all)" if len(names) > SHOWN_NAMES else "")


def duration(seconds: float) -> str:
    """``850 ms``, ``12.3 s``, ``4 min 12 s`` or ``2 h 5 min``."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def visible(value: object, limit: int | None = None) -> str:
    """Text on one line in which nothing hides: control and direction characters are shown as symbols.

    Args:
        limit: number of characters after which it is cut with an ellipsis.
    """
    text = " ".join(str(value).split())
    if limit is not None and len(text) > limit:
        text = text[: limit - 1].rstrip() + "…"
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character in JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Cs"):
        return character
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"


def markdown(value: object, limit: int | None = None) -> str:
    """`visible` text with everything escaped that Markdown or HTML would read as markup."""
    return re.sub(r"([\\`*_{}\[\]<>|#&~$!])", r"\\\1", visible(value, limit))
