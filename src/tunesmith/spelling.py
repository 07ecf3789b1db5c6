"""Messages name settings (``give data.text=COLUMN``); each caller sees them as it gives them.

That is ``--text COLUMN`` for a command, and ``text='COLUMN'`` for a function.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar, cast

from tunesmith.config.loading import fields, flag
from tunesmith.config.schema import AdaptConfig, Config
from tunesmith.errors import TunesmithError
from tunesmith.text import shortened

P = ParamSpec("P")
T = TypeVar("T")
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
        return _described(key, value)

    return _pattern(tuple(arguments)).sub(spelled, shortened(message))


def _described(key: str, value: str | None) -> str:
    words = re.split(r"[.;:,]", re.sub(r" \([^)]*\)", "", str(SETTINGS[key].description)))[0]
    return f"{words[0].lower()}{words[1:]}" + (f" ({value})" if value else "")


def spell_for_python(message: str, keywords: Collection[str], arguments: Sequence[str] = ()) -> str:
    """The message as it reads for a function; arguments as of `spell`.

    Args:
        keywords: that the function takes (``"text"``); one that takes a ``config`` is told other settings by their key.
    """

    def spelled(match: re.Match[str]) -> str:
        key, value = match["key"], match["value"]
        if key is None:
            return match[0]
        name = (flag(SETTINGS[key]) or "").removeprefix("--").replace("-", "_")
        if name in keywords:
            switch = SETTINGS[key].annotation is bool
            return f"`{name}`" if value is None and not switch else f"{name}={_literal(value or 'true')}"
        return match[0] if "config" in keywords else _described(key, value)

    return _pattern(tuple(arguments)).sub(spelled, message)


def _literal(value: str) -> str:
    """A value that a message proposes, as Python reads it."""
    if value in ("true", "false"):
        return value.capitalize()
    return value if value[0] in "'\"" or re.fullmatch(r"-?[\d.]+(e-?\d+)?", value) else repr(value)


_by_command = False
"""The errors of functions go to a command, which spells them itself."""


@contextmanager
def left_to_command() -> Iterator[None]:
    """Errors of functions keep the names of settings meanwhile."""
    global _by_command
    before, _by_command = _by_command, True
    try:
        yield
    finally:
        _by_command = before


def for_python(options: type | None = None) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let the errors of a function name its keywords.

    Args:
        options: what its ``**options`` may be.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        keywords = {*inspect.signature(function).parameters, *(options.__annotations__ if options else ())}

        @contextmanager
        def spelled(*values: Any) -> Iterator[None]:
            try:
                yield
            except TunesmithError as error:
                typed = [str(value) for value in values if isinstance(value, str | os.PathLike)]
                if not _by_command:
                    error.change(lambda problem: spell_for_python(problem, keywords, typed))
                raise

        @wraps(function)
        def call(*positional: P.args, **named: P.kwargs) -> T:
            with spelled(*positional, *named.values()):
                return function(*positional, **named)

        @wraps(function)
        def generate(*positional: P.args, **named: P.kwargs) -> Iterator[Any]:
            with spelled(*positional, *named.values()):
                yield from cast(Iterator[Any], function(*positional, **named))

        return cast(Callable[P, T], generate) if inspect.isgeneratorfunction(function) else call

    return decorate
