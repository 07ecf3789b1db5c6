"""Text to values and back in YAML 1.2: ``no`` is text, 1e-5 a number, and a key that stands twice is an error."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from tunesmith.errors import UsageError

MAX_CONFIG_BYTES = 2**20
_ESCAPED = frozenset('"\\')


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)  # YAML 1.2: `no` is text, 1e-5 a number; duplicate keys are an error
    yaml.default_flow_style = True
    yaml.width = 2**16
    return yaml


def to_yaml(value: Any) -> str:
    """One value as it stands behind its key."""
    if isinstance(value, str) and not value.isprintable():  # line breaks and the like: every reader agrees on escapes
        escaped = (c if c.isprintable() and c not in _ESCAPED else f"\\U{ord(c):08x}" for c in value)
        return f'"{"".join(escaped)}"'
    stream = io.StringIO()
    _yaml().dump(value, stream)
    return stream.getvalue().removesuffix("...\n").removesuffix("\n")


def parse(text: str, where: str) -> Any:
    """The value that a text stands for.

    Args:
        where: begins the message if it stands for none.

    Raises:
        UsageError: not valid YAML.
    """
    try:
        return _yaml().load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise UsageError(f"{where}:{place} not valid YAML ({error.problem})") from None
    except (YAMLError, ValueError, LookupError, TypeError, AssertionError, RecursionError) as error:
        raise UsageError(
            f"{where}: not valid YAML ({' '.join(str(error).split())[:300] or 'a tag does not fit its value'})"
        ) from None


def read_sections(path: Path, sections: Iterable[str]) -> dict[str, Any]:
    """A file of sections with keys, without judging either.

    Args:
        sections: their names, for the message.

    Raises:
        UsageError: it cannot be read, is too large, is not UTF-8, or is not YAML of that form.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise UsageError(f"{path}: too large for a configuration (limit {MAX_CONFIG_BYTES} bytes); check the path")
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot read the configuration ({error.strerror}); check the path") from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: the configuration is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from None
    tree = parse(text, str(path))
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UsageError(f"{path}: expected sections ({', '.join(sections)}), each with keys; see `tunesmith init`")
    return {section: {} if settings is None else settings for section, settings in tree.items()}
