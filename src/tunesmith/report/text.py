"""Values as a person would write them, and the templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from tunesmith.text import duration, markdown, visible


def plain(value: Any) -> str:
    """A value or a mapping of values."""
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
        keep_trailing_newline=True,
    )
    found.filters |= {"visible": visible, "md": markdown, "plain": plain, "setting": setting, "duration": duration}
    return found.get_template(name)
