"""Settings from files, flags and ``--set``, every problem told at once, and back to YAML 1.2.

In YAML 1.2 ``no`` is text and 1e-5 a number; a key that stands twice is an error.
"""

from __future__ import annotations

import io
import os
import reprlib
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, overload

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

from tunesmith.config.schema import Config, Registered, Section
from tunesmith.errors import MAX_PROBLEMS, UsageError
from tunesmith.registry import did_you_mean

Tree = TypeVar("Tree", bound=Section)
File = str | Path | None
Options = Mapping[str, Any] | None
MAX_CONFIG_BYTES = 2**16
"""Several times what `dump` writes."""
MAX_DEPTH = 32
_REPR = reprlib.Repr()
_REPR.maxlevel = 2
_WANTED = {  # where pydantic's own words say less
    "model_type": "should be a section with keys",
    "string_type": "should be text (put it in quotes)",
    "invalid_key": "should have names as keys",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "int_type": "should be a whole number",
    "float_parsing": "should be a number",
    "float_type": "should be a number",
}


def fields(tree: type[Section] = Config) -> Iterator[tuple[str, FieldInfo]]:
    """Every setting as (dotted key, field), in the order of the file."""
    for section, info in tree.model_fields.items():
        settings = info.annotation
        assert isinstance(settings, type) and issubclass(settings, Section)
        for name, field in settings.model_fields.items():
            yield f"{section}.{name}", field


def flag(field: FieldInfo) -> str | None:
    """The command-line flag of a setting, ``"--head-lr"``, if it has one."""
    return str(field.json_schema_extra["flag"]) if isinstance(field.json_schema_extra, dict) else None


def flags(tree: type[Section] = Config) -> dict[str, str]:
    """Python names of the settings that have a flag → dotted key: ``{"head_lr": "training.head_lr", ...}``."""
    named = ((flag(field), key) for key, field in fields(tree))
    return {name.removeprefix("--").replace("-", "_"): key for name, key in named if name}


@overload
def resolve(file: File = None, options: Options = None, sets: Iterable[str] = ()) -> Config: ...
@overload
def resolve(file: File, options: Options, sets: Iterable[str], kind: type[Tree]) -> Tree: ...
def resolve(
    file: File = None, options: Options = None, sets: Iterable[str] = (), kind: type[Section] = Config
) -> Section:
    """The configuration: defaults < file < flags and ``--set key=value``, which may not contradict each other.

    Args:
        file: YAML file with any part of the tree.
        options: flag name → value, as in `flags`; None values are ignored.
        sets: ``"training.lr=1e-4"`` assignments; values are read as YAML.
        kind: of the tree, `Config` or `tunesmith.config.schema.AdaptConfig`.

    Raises:
        UsageError: all unknown keys, wrong types and values out of range at once.
    """
    tree: dict[str, Any] = _read_sections(Path(file), kind.model_fields) if file else {}
    known, keys, problems = flags(kind), dict(fields(kind)), []
    given: dict[str, Any] = {}
    said: dict[str, str] = {}
    for name, value in (options or {}).items():
        if name not in known:
            problems.append(f"unknown option {name!r}; {did_you_mean(name, known)}")
        elif value is not None:
            given[known[name]] = os.fspath(value) if isinstance(value, os.PathLike) else value
            said[known[name]] = f"{flag(keys[known[name]])} {value}"
    for assignment in sets:
        key, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals:
            problems.append(f"--set {assignment}: expected key=value, for example --set training.lr=1e-4")
        elif key not in keys:
            siblings = [name.partition(".")[2] for name in keys if name.startswith(f"{key.partition('.')[0]}.")]
            near, far = _nearest(key, keys, keys), f"known: {', '.join(siblings or kind.model_fields)}"
            problems.append(f"unknown key {key!r}; {near if near.startswith('did') else far}")
        else:
            try:
                value = _parse(text, f"--set {assignment}")
            except UsageError as error:
                problems += error.problems
                continue
            if key in said and str(value) != str(given[key]):
                problems.append(f"--set {assignment}: contradicts {said[key]}; give one of them")
            given[key], said[key] = value, f"--set {assignment}"
    for key, value in given.items():
        section, _, name = key.partition(".")
        if isinstance(tree.setdefault(section, {}), dict):  # if not, validation says so
            tree[section][name] = value
    try:
        config = kind.model_validate(tree)
    except ValidationError as error:
        raise UsageError(problems + _explain(error, list(keys), list(kind.model_fields))) from None
    if problems:
        raise UsageError(problems)
    return config


def dump(config: Section) -> str:
    """The configuration as YAML, every value written out, with its help text and choices."""
    lines = []
    for section, settings in config:
        lines.append(f"{section}:")
        for name, field in type(settings).model_fields.items():
            shown = f" [{' | '.join(names)}]" if (names := choices(field)) else ""
            lines.append(f"  {name}: {_to_yaml(getattr(settings, name))}  # {field.description}{shown}")
    return "\n".join(lines) + "\n"


def choices(field: FieldInfo) -> list[str]:
    """The words that a setting may be, where they are few."""
    found = [name for mark in field.metadata if isinstance(mark, Registered) for name in mark.choices()]
    for part in (field.annotation, *get_args(field.annotation)):
        found += [value for value in get_args(part) if isinstance(value, str)]
    return list(dict.fromkeys(found))


def _nearest(key: str, keys: Iterable[str], known: Iterable[str]) -> str:
    """A hint for an unknown key: the full key where only its section is missing, else the nearest of the known."""
    full = [path for path in keys if path.endswith(f".{key}")]
    return f"did you mean {' or '.join(map(repr, full))}?" if full else did_you_mean(key, known)


def _explain(error: ValidationError, keys: list[str], sections: list[str]) -> list[str]:
    """Each key that is wrong as `key: what was wanted, what was found`, with the nearest name for an unknown one."""
    wanted: dict[str, list[str]] = {}
    found: dict[str, str] = {}
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"][:2])  # what follows names the members of a union
        if item["type"] == "extra_forbidden":
            section, _, name = key.rpartition(".")
            siblings = [path.rpartition(".")[2] for path in keys if section and path.startswith(f"{section}.")]
            told = len(found) >= MAX_PROBLEMS  # of more no one sees the hint
            hint = "" if told else did_you_mean(name, siblings) if siblings else _nearest(name, keys, sections)
            found[f"unknown key {key!r}; {hint}"] = ""
            continue
        message = item["msg"].removeprefix("Input ").removeprefix("Value error, ")
        wanted.setdefault(f"{key}: ", []).append(_WANTED.get(item["type"], message))
        try:
            value = textwrap.shorten(_REPR.repr(item["input"]), 100, placeholder=" …")  # aliases expand without end
        except ValueError:  # an integer with more digits than Python writes out
            value = "a number that is too long"
        found[f"{key}: "] = f", found {value}"
    return [
        f"{subject}{' or '.join(dict.fromkeys(wanted.get(subject, [])))}{value}" for subject, value in found.items()
    ]


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = True
    yaml.width = 2**16
    return yaml


def _to_yaml(value: Any) -> str:
    """One value as it stands behind its key."""
    if isinstance(value, str) and not value.isprintable():  # line breaks and the like: every reader agrees on escapes
        escaped = (c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
        return f'"{"".join(escaped)}"'
    stream = io.StringIO()
    _yaml().dump(value, stream)
    return stream.getvalue().removesuffix("...\n").removesuffix("\n")


def _parse(text: str, where: str) -> Any:
    """The value that a YAML text stands for; `where` begins the message if it stands for none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _refuse_unneeded(text, where)
            return _yaml().load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise UsageError(f"{where}:{place} not valid YAML ({error.problem})") from None
    except (YAMLError, ValueError, LookupError, TypeError, AssertionError, RecursionError) as error:
        why = " ".join(str(error).split())[:300] or "a tag does not fit its value"
        raise UsageError(f"{where}: not valid YAML ({why})") from None


def _refuse_unneeded(text: str, where: str) -> None:
    """
    Raises:
        UsageError: aliases, merges and tags, which no configuration needs, or deep nesting.
    """
    depth = 0
    for event in _yaml().parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        plain = isinstance(event, ScalarEvent) and event.implicit[0]
        what = None
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None:
            what = "aliases (& and *) are not read; write the value itself"
        elif plain and event.value == "<<":
            what = "merges (<<) are not read; write the keys themselves"
        elif getattr(event, "ctag", None) is not None:
            what = "tags (!) are not read; write the value alone"
        elif depth > MAX_DEPTH:
            what = f"nested more than {MAX_DEPTH} levels deep"
        if what is not None:
            raise UsageError(f"{where}: line {event.start_mark.line + 1}, column {event.start_mark.column + 1}: {what}")


def _read_sections(path: Path, sections: Iterable[str]) -> dict[str, Any]:
    """A file of sections with keys, without judging either."""
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path}: not a file; check the path of the configuration")
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise UsageError(
                f"{path}: too large for a configuration (limit {MAX_CONFIG_BYTES:,} bytes); check the path"
            )
        tree = _parse(content.decode("utf-8-sig"), str(path))
    except OSError as error:
        raise UsageError(f"{path}: cannot read the configuration ({error.strerror}); check the path") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: the configuration is not UTF-8 text (byte {error.start}); save it so") from None
    if not isinstance(tree, dict | None):
        raise UsageError(f"{path}: expected sections ({', '.join(sections)}), each with keys; see `tunesmith init`")
    return {section: {} if settings is None else settings for section, settings in (tree or {}).items()}
