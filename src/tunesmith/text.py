"""Phrases that errors and findings of this package share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

SHOWN_ROWS = 20
SHOWN_NAMES = 20


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
