"""Messages name settings (``give data.text=COLUMN``); a command shows them as it takes them (``--text COLUMN``)."""

from __future__ import annotations

import re
from collections.abc import Collection

from tunesmith.config.loading import fields, flag
from tunesmith.config.schema import AdaptConfig, Config

SETTINGS = dict(fields(Config)) | dict(fields(AdaptConfig))
# A whole key, which is no part of a path, of a longer name or of a quotation, and the value that is proposed for it.
_KEY = re.compile(
    rf"""(?<![\w./\\'"`@-])(?P<key>{"|".join(map(re.escape, SETTINGS))})"""
    r"""(?:=(?P<value>'[^']*'|"[^"]*"|[^\s;)\]'"`]*[^\s;)\]'"`.,:])|(?![\w/\\'"`=@-]|\.\w))"""
)


def spell(message: str, options: Collection[str], arguments: Collection[str] = ()) -> str:
    """The message as it reads for one command.

    Args:
        message: with dotted keys in it, of which some propose a value.
        options: every option of the command (``"--text"``).
        arguments: what the user typed; a file that is called like a setting is none.
    """

    def spelled(match: re.Match[str]) -> str:
        key, value = match["key"], match["value"]
        if key in arguments:
            return match[0]
        if flag(SETTINGS[key]) in options:
            return f"{flag(SETTINGS[key])}{'' if value in (None, 'true') else f' {value}'}"
        if "--set" in options:
            return key if value is None else f"--set {key}={value}"
        words = re.split(r"[.;:,]", re.sub(r" \([^)]*\)", "", str(SETTINGS[key].description)))[0]
        return f"{words[0].lower()}{words[1:]}" + (f" ({value})" if value else "")

    return _KEY.sub(spelled, message)
