"""Tag sequences of tokens to entities: IOB1, IOB2, BIOES, BILOU, BMES, and tags without a prefix, read by one rule.

A tag is ``O`` or a prefix and a type, as in ``B-LOC``. Reading follows the script of the CoNLL shared tasks: an inside
tag goes on with the entity before it where that has its type and has not ended, and begins one otherwise. So IOB1 and
IOB2 need not be told apart to be read; which one it was, and how many tags broke its rules, is told to the user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

OUTSIDE = "O"
BEGIN, INSIDE, END, SINGLE = "BIES"
PREFIXES = {"B": BEGIN, "I": INSIDE, "E": END, "S": SINGLE, "M": INSIDE, "L": END, "U": SINGLE}
"""BILOU's last and unit are the end and single of BIOES, the middle of BMES is its inside."""

Entity = tuple[int, int, str]
"""First token, token after the last, type."""


def split_tag(tag: str) -> tuple[str, str]:
    """Prefix and type: ``("B", "LOC")``, ``("O", "")``; a tag without a known prefix is inside its own type."""
    if tag in (OUTSIDE, ""):
        return OUTSIDE, ""
    if len(tag) > 2 and tag[1] in "-_" and tag[0] in PREFIXES:
        return PREFIXES[tag[0]], tag[2:]
    return INSIDE, tag


def entities(tags: Sequence[str]) -> tuple[list[Entity], Counter[str]]:
    """The entities of one sequence, and how often each situation was met that tells schemes apart.

    Returns:
        Entities in their order; a counter of ``"bare"`` and ``"prefixed"`` tags, ``"marked"`` (end or single),
        ``"begin_inside"`` (an inside tag that begins an entity), ``"begin_after"`` (a begin tag right after an entity
        of its type), ``"begin_first"`` (any other begin tag), ``"broken"`` (an entity of BIOES without its end, or an
        end without its beginning).
    """
    found: list[Entity] = []
    seen: Counter[str] = Counter()
    start, kind, marked = -1, "", False

    def close(at: int) -> None:
        nonlocal start
        if start >= 0:
            found.append((start, at, kind))
        start = -1

    for at, tag in enumerate([*tags, OUTSIDE]):
        prefix, type_ = split_tag(tag)
        bare = prefix == INSIDE and type_ == tag
        seen["bare"] += bare
        seen["prefixed"] += prefix != OUTSIDE and not bare
        goes_on = start >= 0 and prefix in (INSIDE, END) and type_ == kind
        if start >= 0 and not goes_on:
            seen["unended"] += not marked
            after = type_ == kind and prefix in (BEGIN, SINGLE)
            close(at)
            seen["begin_after"] += after
            seen["begin_first"] += prefix == BEGIN and not after
        elif not goes_on:
            seen["begin_first"] += prefix == BEGIN
        if prefix == OUTSIDE:
            continue
        if not goes_on:
            start, kind = at, type_
            seen["begin_inside"] += prefix == INSIDE and not bare
            seen["end_alone"] += prefix == END
        marked = prefix in (END, SINGLE)
        seen["marked"] += marked
        if marked:
            close(at + 1)
            # An entity that was closed by its end is over; what follows begins anew.
    return found, seen


def scheme(seen: Counter[str]) -> tuple[str, int]:
    """The name of the scheme that a file's tags follow, and how many of them break it (they are read all the same)."""
    if seen["bare"] > seen["prefixed"]:
        return "types without prefix", seen["prefixed"]
    if seen["marked"]:
        return "BIOES", seen["unended"] + seen["begin_inside"] + seen["end_alone"] + seen["bare"]
    if seen["begin_inside"] and not seen["begin_first"]:
        return "IOB1", seen["bare"]
    return "IOB2", seen["begin_inside"] + seen["bare"]


def tag_names(types: Iterable[str]) -> list[str]:
    """IOB2 tags of the given types: ``O``, then begin and inside of each type, in the given order."""
    return [OUTSIDE, *(f"{prefix}-{name}" for name in types for prefix in (BEGIN, INSIDE))]
