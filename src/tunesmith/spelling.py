"""Messages name settings (``give data.text=COLUMN``); a command shows them as it takes them (``--text COLUMN``)."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache

from tunesmith.config.loading import fields, flag
from tunesmith.config.schema import AdaptConfig, Config
from tunesmith.text import shortened

SETTINGS = dict(fields(Config)) | dict(fields(AdaptConfig))
# What begins like a string of Python and ends like one, or was cut: the user's own text.
_QUOTED = r"""(?<![\w\\])(?:'(?:[^'\\\n]|\\.)*?(?:'(?!\w)|[ ]…)|"(?:[^"\\\n]|\\.)*?(?:"(?!\w)|[ ]…))"""
# A whole key, which is no part of a path, of a longer name or of a quotation, and the value that is proposed for it.
_KEY = rf"""(?<![\w./\\'"`@-])(?<!--set[ ])(?P<key>{"|".join(map(re.escape, SETTINGS))})"""
_END = r"""(?=[\s;:,.)\]'"`]|$)"""
_VALUE = r"""'[^']*'|"[^"]*"|[^\s;)\]'"`]*[^\s;)\]'"`.,:]|\.+(?=[\s;:,)]|$)"""
_NO_VALUE = r"""(?![\w/\\'"`=@-]|\.\w)"""


@lru_cache
def _pattern(arguments: tuple[str, ...]) -> re.Pattern[str]:
    """What is rewritten, or must not be: the first of what the user typed, quotations, options and settings counts."""
    own = sorted({part for one in arguments for part in (one, one.partition("=")[2]) if part}, key=len, reverse=True)
    typed = [re.escape(part) for part in own if not part.startswith("--")]
    named = [part for part in typed if any(re.escape(key) in part for key in SETTINGS)]
    kept = "|".join([*(rf"(?<!\w){part}{_END}" for part in named), _QUOTED])
    value = "|".join([*(f"{part}{_END}" for part in typed), _VALUE])
    return re.compile(rf"{kept}|`(?P<option>[a-z_]+)`|{_KEY}(?:=(?P<value>{value})|{_NO_VALUE})")


def spell(message: str, options: Collection[str], arguments: Sequence[str] = ()) -> str:
    """The message as it reads for one command; quotations in it, which are the user's own text, stay as they are.

    Args:
        message: with dotted keys in it, of which some propose a value, and `options` that are no settings.
        options: every option of the command (``"--text"``).
        arguments: what the user typed; a file that is called like a setting is none.
    """

    def spelled(match: re.Match[str]) -> str:
        key, value, option = match["key"], match["value"], f"--{match['option']}".replace("_", "-")
        if option in options:
            return option
        if key is None:
            return match[0]
        if flag(SETTINGS[key]) in options:
            return f"{flag(SETTINGS[key])}{'' if value in (None, 'true') else f' {value}'}"
        if "--set" in options:
            return key if value is None else f"--set {key}={value}"
        words = re.split(r"[.;:,]", re.sub(r" \([^)]*\)", "", str(SETTINGS[key].description)))[0]
        return f"{words[0].lower()}{words[1:]}" + (f" ({value})" if value else "")

    return _pattern(tuple(arguments)).sub(spelled, shortened(message))
