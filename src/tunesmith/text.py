"""Words that errors, findings, screen and report share, and untrusted text made safe to look at."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

SHOWN_ROWS = 20
SHOWN_NAMES = 20
INVISIBLE = "\xad\u200b\u200e\u200f\u2060\ufeff"
# Outer white space, and what is not seen but no joiner.
TRIMMED = "".join(filter(str.isspace, map(chr, range(0x3001)))) + INVISIBLE
JOINERS = "\u200c\u200d"
BLANK = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and symbols without ink."""
# Control characters but for line ends and tabs, line separators, halves of characters, and what changes how the text
# around it is shown or is not seen itself; so joiners, which scripts and emoji need, are none.
_UNSAFE = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_UNSEEN = re.compile(f"[{INVISIBLE}{JOINERS}\u061c\u202a-\u202e\u2061-\u2064\u2066-\u2069]")


def normal_form(text: str) -> str:
    """What texts have in common that differ in case, white space, what is not seen or how letters are composed only."""
    seen = text if text.isascii() else _UNSEEN.sub("", unicodedata.normalize("NFC", text))
    folded = " ".join(seen.split()).casefold()
    return folded if folded.isascii() else unicodedata.normalize("NFC", folded)


def counted(count: int, noun: str) -> str:
    """``"1 row"``, ``"2,000 rows"``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def plural(count: int, nouns: str) -> str:
    """``"1 row"``, ``"2,000 rows"`` of ``"rows"``; ``"1 entity"`` of ``"entities"``."""
    one = nouns.removesuffix("ies") + "y" if nouns.endswith("ies") else nouns.removesuffix("s")
    return f"{count:,} {one if count == 1 else nouns}"


def row_list(rows: Sequence[int], noun: str = "row") -> str:
    """``"row 3"``, or ``"rows 3, 7, 9"`` with the first 20 and the number of all."""
    shown = ", ".join(str(int(row)) for row in rows[:SHOWN_ROWS])
    more = f", … ({len(rows):,} in all)" if len(rows) > SHOWN_ROWS else ""
    return f"{noun}{'s' if len(rows) > 1 else ''} {shown}{more}"


def name_list(names: Iterable[str]) -> str:
    """Quoted names, the first 20 of them."""
    names = list(names)
    shown = ", ".join(repr(name[:80]) for name in islice(names, SHOWN_NAMES))
    return shown + (f", … ({len(names):,} in all)" if len(names) > SHOWN_NAMES else "")


def cell_text(value: Any) -> str:
    """What stands in the cell of a table: text as it is, a list or an object as JSON, nothing for None."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def duration(seconds: float) -> str:
    """``850 ms``, ``12.3 s``, ``4 min 12 s`` or ``2 h 5 min``."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def shortened(message: str, begin: int = 3000, end: int = 900) -> str:
    """A message of which the middle is left out where it is longer than anybody reads; its advice is at its end."""
    return message if len(message) <= begin + end else f"{message[:begin]} … {message[-end:]}"


def harmless(text: str) -> str:
    """Text as it may be printed: nothing in it is obeyed by a terminal, breaks its lines or hides."""
    return _UNSAFE.sub(lambda found: _code(found[0]), text)


def json_text(value: Any) -> str:
    """JSON on one line for every reader, and to be looked at: what is not `harmless` is escaped.

    Half of a character, which no reader need take, becomes U+FFFD.
    """
    return _UNSAFE.sub(_escaped, json.dumps(value, ensure_ascii=False))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code > 0xFFFF:
        return json.dumps(found[0])[1:-1]
    return "\\ufffd" if 0xD800 <= code < 0xE000 else f"\\u{code:04x}"


def visible(value: object, limit: int | None = None, exact: bool = False) -> str:
    """Text on one line in which nothing hides: characters that cannot be seen are shown as symbols, or by their code.

    Args:
        limit: number of characters after which it is cut with an ellipsis.
        exact: for names, which may differ in no more than that: so are spaces that are not between words, and marks
            apart from the letters that they stand on.
    """
    text = str(value) if exact else " ".join(str(value).split())
    if limit is not None and len(text) > limit:
        text = text[: limit - 1].rstrip() + "…"
    hides, around = _hides_in_name if exact else _hides, zip(f" {text}", text, f"{text} "[1:], strict=False)
    return "".join(_code(at) if hides(before, at, after) else at for before, at, after in around)


def _hides(before: str, character: str, after: str) -> bool:
    if character in JOINERS:  # needed inside words of some scripts and inside emoji
        return before.isascii() or after.isascii()
    return character in BLANK or unicodedata.category(character) in ("Cc", "Cf", "Cs")


def _hides_in_name(before: str, character: str, after: str) -> bool:
    if character.isspace():
        return character != " " or before.isspace() or after.isspace()
    composed = unicodedata.combining(character) and len(unicodedata.normalize("NFC", before + character)) == 1
    return bool(composed) or _hides(before, character, after)


def _code(character: str) -> str:
    """``␉``, or ``⟨U+200B⟩``."""
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else {" ": "␣", "\x7f": "␡"}.get(character, f"⟨U+{code:04X}⟩")


def markdown(value: object, limit: int | None = None, exact: bool = False) -> str:
    """`visible` text with everything escaped that Markdown or HTML would read as markup."""
    return re.sub(r"([\\`*_{}\[\]<>|#&~$!])", r"\\\1", visible(value, limit, exact))
