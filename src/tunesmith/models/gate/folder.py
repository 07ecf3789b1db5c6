"""A whole model folder, with the parts beside its backbone: admitted, or refused with every problem at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from tunesmith.errors import ModelError
from tunesmith.models.gate import adapters, settings, tokens
from tunesmith.models.gate.files import MOST_BYTES, MOST_SETTINGS, Inside, check_names, is_plain, look
from tunesmith.models.gate.weights import Shapes, all_shapes, check_file, check_weights

MODULES, ADAPTER, TEMPLATES = "modules.json", "adapter", "additional_chat_templates"
PARTS = ("1_Pooling", "2_Dense")
"""Folders of a classifier with pooling, which are read whatever ``modules.json`` names."""
MOST_TEMPLATES, MOST_MODULES = 64, 100
REMEMBERED = 16
_admitted: OrderedDict[tuple[Any, ...], None] = OrderedDict()
"""Folders that passed, by place and state of their files, so that each is read once."""


def check_folder(name: str, root: Path, inside: str = "", allowed: Collection[str] = (), whole: bool = True) -> None:
    """Let a folder through to the libraries, or not.

    Args:
        name: of the model, for errors.
        root: the whole folder.
        inside: the folder in it that holds configuration, weights and tokenizer.
        allowed: what is let through besides; see `settings.check_config`.
        whole: it has to have weights, and is not read for its tokenizer alone.

    Raises:
        ModelError: it is refused; all problems at once.
    """
    parts = {"": look(root)}
    if inside:
        parts[inside] = look(root / inside, f"{inside}/")
    others = {*_modules(parts[""]), *PARTS} & parts[""].folders - {inside}
    parts |= {other: look(root / other, f"{other}/") for other in sorted(others)}
    if ADAPTER in parts[""].folders:
        parts[ADAPTER] = look(root / ADAPTER, f"{ADAPTER}/")
    if TEMPLATES in parts[inside].folders:
        parts[TEMPLATES] = look(root / inside / TEMPLATES, f"{parts[inside].prefix}{TEMPLATES}/")
    problems = [problem for part in parts.values() for problem in part.problems]
    if whole and "config.json" not in parts[inside].paths:
        problems.append(f"{parts[inside].shown('config.json')}: is missing; give the whole folder of the model")
    problems += check_weights(parts[inside], whole)
    state = (str(root.absolute()), inside, frozenset(allowed), *(part.stamp for part in parts.values()))
    if state not in _admitted:
        problems += _problems(parts, inside, allowed)
    if problems:
        raise ModelError(f"model {name}: {problem}" for problem in dict.fromkeys(problems))
    _admitted[state] = None
    while len(_admitted) > REMEMBERED:
        _admitted.popitem(last=False)


def shapes_in(folder: Path) -> Shapes:
    """Name → shape of every weight in a folder that was let through."""
    return all_shapes(look(folder))


def _problems(parts: dict[str, Inside], inside: str, allowed: Collection[str]) -> Iterator[str]:
    main = parts[inside]
    yield from _values(parts[""], MODULES, MOST_SETTINGS, _check_modules)
    yield from check_names(main)
    yield from _check_model(main, allowed)
    if TEMPLATES in parts and len(parts[TEMPLATES].paths) > MOST_TEMPLATES:
        yield f"{parts[TEMPLATES].prefix}: more than {MOST_TEMPLATES} files; remove them"
    for part in (parts[name] for name in parts if name not in ("", inside, ADAPTER, TEMPLATES)):
        yield from _values(part, "config.json", MOST_SETTINGS, lambda shown, value: _object(shown, value))
        for file in sorted(part.paths):
            if file.endswith(".safetensors"):
                yield from check_file(part.paths[file], part.shown(file))
    if ADAPTER in parts:
        yield from adapters.problems_of(parts[ADAPTER].folder, f"{ADAPTER}/")


def _check_model(main: Inside, allowed: Collection[str]) -> Iterator[str]:
    """Problems of the files of settings that transformers reads."""
    checks: dict[str, tuple[int, Callable[[str, Any], Iterator[str]]]] = {
        "config.json": (MOST_SETTINGS, lambda shown, value: settings.check_config(shown, value, allowed)),
        "tokenizer_config.json": (MOST_SETTINGS, lambda shown, value: _tokenizer_settings(shown, value, allowed)),
        "special_tokens_map.json": (MOST_SETTINGS, _special_tokens),
        "generation_config.json": (MOST_SETTINGS, lambda shown, value: _object(shown, value, allowed)),
        "sentence_bert_config.json": (MOST_SETTINGS, lambda shown, value: _object(shown, value, allowed)),
        "added_tokens.json": (MOST_SETTINGS, _added_tokens),
        "vocab.json": (MOST_BYTES, tokens.check_vocabulary),
        "tokenizer.json": (MOST_BYTES, tokens.check_tokenizer),
    }
    for name, (most, check) in checks.items():
        yield from _values(main, name, most, check)


def _values(part: Inside, name: str, most: int, check: Callable[[str, Any], Iterator[str]]) -> Iterator[str]:
    """Problems of a JSON file, if it is there."""
    if name not in part.paths:
        return
    try:
        value = part.json(name, most)
    except ValueError as error:
        yield str(error)
        return
    yield from check(part.shown(name), value)


def _tokenizer_settings(shown: str, value: Any, allowed: Collection[str]) -> Iterator[str]:
    yield from settings.check_tokenizer_config(shown, value, allowed)
    if isinstance(value, dict):
        yield from tokens.check_special(shown, value)


def _special_tokens(shown: str, value: Any) -> Iterator[str]:
    yield from settings.check_special_tokens(shown, value)
    if isinstance(value, dict):
        yield from tokens.check_special(shown, value)


def _added_tokens(shown: str, value: Any) -> Iterator[str]:
    yield from tokens.check_vocabulary(shown, value)
    yield from tokens.check_added(shown, value)


def _object(shown: str, value: Any, allowed: Collection[str] = ()) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{shown}: expected a JSON object, found {type(value).__name__}; save the model again"
        return
    yield from settings.check_keys(shown, value, allowed)


def _check_modules(shown: str, value: Any) -> Iterator[str]:
    """Problems of modules.json: the folders that it names lie beside it."""
    good = isinstance(value, list) and 0 < len(value) <= MOST_MODULES and all(isinstance(one, dict) for one in value)
    if not good or not all(one.get("path") == "" or is_plain(one.get("path")) for one in value):
        yield f"{shown}: expected a list of modules, each with the plain name of a folder as its path; save it again"


def _modules(root: Inside) -> list[str]:
    """The folders of modules that a sentence-transformers folder names; what is no such list is told of elsewhere."""
    try:
        modules = root.json(MODULES)
    except ValueError:
        return []
    entries = modules if isinstance(modules, list) else []
    paths = [module.get("path") for module in entries[:MOST_MODULES] if isinstance(module, dict)]
    return [str(path) for path in paths if is_plain(path)]
