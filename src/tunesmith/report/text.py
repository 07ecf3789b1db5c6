"""Words and numbers of the page and the card, and untrusted text made safe to look at."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from tunesmith.evaluation import METRICS
from tunesmith.evaluation.intervals import Score

JOINERS = "\u200c\u200d"  # needed inside words of some scripts and inside emoji
SHOWN_CHARACTERS = 300

METHODS = {
    "full": "full fine-tuning",
    "features": "frozen features, linear head",
    "freeze": "fine-tuning of the last layers",
    "gradual": "gradual unfreezing",
    "lora": "low-rank adaptation (LoRA)",
}
TASKS = {
    "classification": "text classification",
    "multilabel": "multi-label text classification",
    "regression": "text regression",
    "ner": "named-entity recognition",
    "qa": "question answering",
}


def visible(value: Any, limit: int | None = None) -> str:
    """Text on one line in which nothing hides: control and direction characters are shown as symbols.

    Args:
        value: the text (labels of a multi-label row are joined by commas).
        limit: number of characters after which it is cut with an ellipsis.
    """
    if isinstance(value, (list, tuple)):
        value = ", ".join(map(str, value)) or "∅"
    text = " ".join(str(value).split())
    if limit is not None and len(text) > limit:
        text = text[: limit - 1].rstrip() + "…"
    return "".join(_shown(character) for character in text)


def markdown(value: Any, limit: int | None = None) -> str:
    """`visible` text with everything escaped that Markdown or HTML would read as markup."""
    return re.sub(r"([\\`*_{}\[\]<>|#&~$!])", r"\\\1", visible(value, limit))


def title(metric: str) -> str:
    """A metric's name for people."""
    return METRICS[metric].title if metric in METRICS else visible(metric)


def value_text(metric: str, value: float) -> str:
    """A metric's value alone: ``93.8 %`` or ``0.871``."""
    return METRICS[metric].value_text(value)


def interval_text(metric: str, score: Score) -> str:
    """The limits alone: ``92.9 – 94.6``."""
    return score.text(METRICS[metric]).partition("(")[2].rstrip(")")


def duration(seconds: float) -> str:
    """``850 ms``, ``12.3 s``, ``4 min 12 s`` or ``2 h 5 min``."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def plain(value: Any) -> str:
    """A value or a mapping of values as a person would write it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{visible(key)} {plain(item)}" for key, item in value.items())
    return visible(value)


def setting(value: Any) -> str:
    """A value of the configuration, integers (seeds, sizes) as they are typed."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else plain(value)


def template(name: str) -> Template:
    """A template of this folder; undefined names are refused, and in HTML every value is escaped.

    In Markdown every untrusted value goes through the filter `md` instead.
    """
    found = Environment(
        loader=PackageLoader("tunesmith.report"),
        autoescape=name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"visible": visible, "md": markdown, "plain": plain, "setting": setting, "duration": duration}
    return found.get_template(name)


def _shown(character: str) -> str:
    if character in JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Cs"):
        return character
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"
