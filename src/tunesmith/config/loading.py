"""Settings from files, flags and ``--set``, every problem told at once, and back to YAML."""

from __future__ import annotations

import reprlib
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from tunesmith.config.schema import Config, Registered, Section
from tunesmith.config.yamltext import parse, read_sections, to_yaml
from tunesmith.errors import UsageError
from tunesmith.registry import did_you_mean

Tree = TypeVar("Tree", bound=Section)
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


def resolve(
    file: str | Path | None = None, options: Mapping[str, Any] | None = None, sets: tuple[str, ...] = ()
) -> Config:
    """`resolved` for the configuration of `train`."""
    return resolved(Config, file, options, sets)


def resolved(
    kind: type[Tree],
    file: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    sets: tuple[str, ...] = (),
) -> Tree:
    """The configuration: defaults < file < flags < ``--set key=value``.

    Args:
        kind: of the tree, `Config` or `tunesmith.config.schema.AdaptConfig`.
        file: YAML file with any part of the tree.
        options: flag name → value, as in `flags`; None values are ignored.
        sets: ``"training.lr=1e-4"`` assignments; values are read as YAML.

    Raises:
        UsageError: all unknown keys, wrong types and values out of range at once.
    """
    tree: dict[str, Any] = read_sections(Path(file), kind.model_fields) if file else {}
    known, problems = flags(kind), []
    for name, value in (options or {}).items():
        if name not in known:
            problems.append(f"unknown option {name!r}; {did_you_mean(name, known)}")
        elif value is not None:
            _assign(kind, tree, known[name], value, problems)
    for assignment in sets:
        key, equals, text = assignment.partition("=")
        if not equals:
            problems.append(f"--set {assignment}: expected key=value, for example --set training.lr=1e-4")
            continue
        try:
            _assign(kind, tree, key.strip(), parse(text, f"--set {assignment}"), problems)
        except UsageError as error:
            problems += error.problems
    try:
        config = kind.model_validate(tree)
    except ValidationError as error:
        raise UsageError(problems + _explain(kind, error)) from None
    if problems:
        raise UsageError(problems)
    return config


def dump(config: Section, comments: bool = False) -> str:
    """The configuration as YAML, every value written out; with `comments`, each with its help text."""
    lines = []
    for section, settings in config:
        lines.append(f"{section}:")
        for name, field in type(settings).model_fields.items():
            value = to_yaml(getattr(settings, name))
            note = f"  # {field.description}{_choices(field)}" if comments else ""
            lines.append(f"  {name}: {value}{note}")
    return "\n".join(lines) + "\n"


def _choices(field: FieldInfo) -> str:
    values = [name for mark in field.metadata if isinstance(mark, Registered) for name in mark.choices()]
    values += [
        v for part in (field.annotation, *get_args(field.annotation)) for v in get_args(part) if isinstance(v, str)
    ]
    return f" [{' | '.join(dict.fromkeys(values))}]" if values else ""


def _assign(kind: type[Section], tree: dict[str, Any], key: str, value: Any, problems: list[str]) -> None:
    section, _, name = key.partition(".")
    known = dict(fields(kind))
    if key not in known:
        problems.append(f"unknown key {key!r}; {_nearest(kind, key, known)}")
    elif isinstance(tree.setdefault(section, {}), dict):  # if not, validation says so
        tree[section][name] = value


def _nearest(kind: type[Section], key: str, known: Iterable[str]) -> str:
    """A hint for an unknown key: the full key where only its section is missing, else the nearest known ones."""
    full = [path for path, _ in fields(kind) if path.endswith(f".{key}")]
    return f"did you mean {' or '.join(map(repr, full))}?" if full else did_you_mean(key, known)


def _explain(kind: type[Section], error: ValidationError) -> list[str]:
    """Each key that is wrong as `key: what was wanted, what was found`, with the nearest name for an unknown one."""
    wanted: dict[str, list[str]] = {}
    found: dict[str, str] = {}
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"][:2])  # what follows names the members of a union
        if item["type"] == "extra_forbidden":
            section, _, name = key.rpartition(".")
            siblings = [
                path.rpartition(".")[2] for path, _ in fields(kind) if section and path.startswith(f"{section}.")
            ]
            hint = did_you_mean(name, siblings) if siblings else _nearest(kind, name, kind.model_fields)
            found[f"unknown key {key!r}; {hint}"] = ""
            continue
        subject = f"{key}: "
        message = item["msg"].removeprefix("Input ").removeprefix("Value error, ")
        wanted.setdefault(subject, []).append(_WANTED.get(item["type"], message))
        found[subject] = f", found {_shown(item['input'])}"
    return [
        f"{subject}{' or '.join(dict.fromkeys(wanted.get(subject, [])))}{value}" for subject, value in found.items()
    ]


def _shown(value: Any) -> str:
    """The value in at most a line: aliases can make a small file expand without end."""
    try:
        return textwrap.shorten(_REPR.repr(value), 100, placeholder=" …")
    except ValueError:  # an integer with more digits than Python writes out
        return "a number that is too long"
