"""Regular expressions of tokenizers: those that take time by more than the square of the text are not let through.

The library matches by backtracking. What makes that slow without bound is a repetition of something that is repeated or
chosen itself, ``(a+)+``, and several open repetitions before something that can fail, ``a*a*b``. The expressions of
published tokenizers need neither: each alternative repeats characters of a class, and seldom something follows. Where
something does, as in ``a+b``, a run of one character takes time by the square of its length; published ones have that,
too (a number cut into threes from its end), and so it is let through.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST_CHARACTERS = 4_000
MOST_TIMES = 1_000
"""Of a counted repetition."""
TOKEN = re.compile(
    r"""
    (?P<set>\[)                                   # its end is found by counting
    | (?P<open>\((?:\?(?:[imsx]*(?:-[imsx]+)?[:)]|>|=|!|<=|<!))?)
    | (?P<close>\))
    | (?P<times>[*+?]|\{\d*,?\d*\})(?P<how>[?+]?)
    | (?P<or>\|)
    | (?P<one>\\[pP]\{\^?\w+\}|\\x[0-9a-fA-F]{2}|\\x\{[0-9a-fA-F]+\}|\\u[0-9a-fA-F]{4}|\\[^1-9kgKGRXcCMQE]|[^\\])
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass
class _Group:
    """A group that is being read: whether it only looks, or looks back; what in it repeats, is chosen, follows."""

    look: bool = False
    back: bool = False
    repeats: bool = False
    chosen: bool = False
    open_ended: int = 0
    """Repetitions without an end in this alternative, after which something must follow."""
    pending: int = 0
    """Those after which nothing has followed yet."""
    worst: int = 0
    times: int = 1
    """How often its parts are counted out, one in the other."""


def objection(pattern: object) -> str | None:
    """What is wrong with a regular expression, or None."""
    if not isinstance(pattern, str):
        return "is no text"
    if not pattern:
        return "is empty"
    if len(pattern) > MOST_CHARACTERS:
        return f"has {len(pattern):,} characters, expected at most {MOST_CHARACTERS:,}"
    groups, at = [_Group()], 0
    last: _Group | None = None  # what a repetition after it would repeat
    repeatable = False
    while at < len(pattern):
        found = TOKEN.match(pattern, at)
        if found is None:
            return f"has something at character {at + 1} that is not allowed here ({pattern[at : at + 8]!r})"
        at, group = found.end(), groups[-1]
        if found["times"]:
            if not repeatable:
                return f"repeats nothing, or a repetition, at character {at}"
            if problem := _repeat(group, last, found["times"]):
                return problem
            repeatable = False
            continue
        if found["open"]:
            inner = found["open"]
            if inner.endswith(")"):  # flags for what follows
                continue
            groups.append(_Group(look=inner[2:] in ("=", "!", "<=", "<!"), back=inner[2:] in ("<=", "<!")))
            if len(groups) > 20:
                return "has groups nested more than 20 deep"
            repeatable = False
            continue
        if found["or"]:
            group.chosen, group.worst = True, max(group.worst, group.open_ended)
            group.open_ended = group.pending = 0
            repeatable = False
            continue
        if found["close"]:
            if len(groups) == 1:
                return "has a bracket too many"
            last = groups.pop()
            if last.back and last.repeats:
                return "looks back over a repetition"
            _close(groups[-1], last)
        else:
            if found["set"]:
                end = _set_end(pattern, at)
                if end is None:
                    return "has a bracket too few"
                at = end
            last = None
            _follow(group)
        repeatable = True
        if max(group.worst, group.open_ended) > 1:
            return "has several repetitions without an end before something that can fail"
    if len(groups) > 1:
        return "has a bracket too few"
    return None


def least_length(pattern: str) -> int:
    """1 if every match surely has a character, else 0."""
    return 0 if re.search(r"[*?]|\{0|\(\?|\\[bBAzZG]|\^|\$|\||\{,", pattern) else 1


def _follow(group: _Group) -> None:
    """Something stands after the repetitions so far, which may fail."""
    group.open_ended += group.pending
    group.pending = 0


def _close(group: _Group, inner: _Group) -> None:
    """A group ends inside another."""
    inner.worst = max(inner.worst, inner.open_ended)
    _follow(group)
    group.worst = max(group.worst, inner.worst)
    group.times = max(group.times, inner.times)
    if inner.repeats and not inner.look:
        group.repeats, group.pending = True, group.pending + inner.pending


def _repeat(group: _Group, last: _Group | None, times: str) -> str | None:
    """A repetition of what was read last."""
    most = _most(times)
    counted = max(most or 1, 1) * (last.times if last is not None else 1)
    if counted > MOST_TIMES:
        return f"repeats something {counted:,} times, expected at most {MOST_TIMES:,}"
    if last is not None and times != "?" and (last.repeats or last.look or last.chosen):
        return "repeats something that is repeated or chosen itself"
    group.times = max(group.times, counted)
    if most is None or "," in times or times == "?":  # an exact number leaves no choice
        group.repeats = True
    # What may be left out cannot fail: it takes back that something must follow.
    if times in ("?", "*") or times.startswith(("{0", "{,")):
        group.pending, group.open_ended = group.pending + group.open_ended, 0
    if most is None:
        group.pending += 1
    return None


def _most(times: str) -> int | None:
    """How often at most; None without an end."""
    if times in ("*", "+"):
        return None
    if times == "?":
        return 1
    low, comma, high = times[1:-1].partition(",")
    return int(high) if high else None if comma else int(low or 0)


def _set_end(pattern: str, at: int) -> int | None:
    """Where a set of characters ends, which may hold others."""
    depth, first = 1, True
    at += pattern[at : at + 1] == "^"
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            at += 2
        elif character == "[":
            depth, at = depth + 1, at + 1 + (pattern[at + 1 : at + 2] == "^" and 1)
        elif character == "]" and not first:
            depth, at = depth - 1, at + 1
            if not depth:
                return at
        else:
            at += 1
        first = False
    return None
