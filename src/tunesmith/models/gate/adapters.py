"""What adapter_config.json may say: names of layers, not expressions, and ranks within limits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.errors import ModelError
from tunesmith.models.gate.files import look
from tunesmith.models.gate.weights import check_file

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
KINDS = frozenset({"ADALORA", "IA3", "LOHA", "LOKR", "LORA", "OFT", "VERA"})
NAME_LISTS = ("exclude_modules", "feedforward_modules", "layers_pattern", "modules_to_save", "target_modules")
PLAIN_NAME = re.compile(r"[\w.-]{1,200}")
MOST_NAMES = 10_000
MOST_RANK, MOST_ALPHA = 4_096, 65_536
RANKS = {"alpha_pattern": MOST_ALPHA, "lora_alpha": MOST_ALPHA, "alpha": MOST_ALPHA, "r": MOST_RANK}
RANKS |= dict.fromkeys(("init_r", "rank_pattern", "target_r"), MOST_RANK)
NAMES_OTHERS = (
    *("arrow_config", "auto_mapping", "corda_config", "eva_config", "loftq_config", "lora_ga_config"),
    *("megatron_config", "megatron_core", "tokenizer_name_or_path", "trainable_token_indices"),
)


def check_adapter(folder: Path) -> None:
    """Refuse a folder with an adapter that does not say plainly what it changes. What it says of its base is not used.

    Raises:
        ModelError: all problems at once.
    """
    if problems := list(problems_of(folder, "")):
        raise ModelError(f"adapter {folder}: {problem}" for problem in problems)


def problems_of(folder: Path, prefix: str) -> Iterator[str]:
    """The problems of an adapter in a folder; see `check_adapter`."""
    inside = look(folder, prefix)
    yield from inside.problems
    try:
        settings = inside.json(CONFIG)
    except ValueError as error:
        yield str(error)
        return
    shown = inside.shown(CONFIG)
    if settings is None:
        yield f"{shown}: is missing; give the whole folder of the adapter"
    elif not isinstance(settings, dict):
        yield f"{shown}: expected a JSON object, found {type(settings).__name__}; save the adapter again"
    else:
        yield from _check_settings(shown, settings)
    if WEIGHTS in inside.paths:
        yield from check_file(inside.paths[WEIGHTS], inside.shown(WEIGHTS))
    else:
        yield f"{inside.shown(WEIGHTS)}: is missing; adapters are read as safetensors alone"


def _check_settings(shown: str, settings: dict[str, Any]) -> Iterator[str]:
    kind = settings.get("peft_type")
    if not isinstance(kind, str) or kind not in KINDS:
        yield f"{shown}: is of the kind {str(kind)[:50]!r}, which is not read here ({', '.join(sorted(KINDS))})"
    for key in NAME_LISTS:
        names = settings.get(key)
        if names in (None, []) or (key == "target_modules" and names == "all-linear"):
            continue
        # A text would be matched as a regular expression against every layer's name.
        if not isinstance(names, list) or len(names) > MOST_NAMES or not all(map(_is_name, names)):
            yield f"{shown}: {key} should be a list of plain names of layers; save the adapter with one"
    for key, most in RANKS.items():
        value = settings.get(key)
        numbers = list(value.values()) if isinstance(value, dict) else [value]
        patterns = list(value) if isinstance(value, dict) else []
        if not all(number is None or (_is_number(number) and 0 <= number <= most) for number in numbers):
            yield f"{shown}: {key} is {str(value)[:50]}, expected numbers up to {most:,}"
        if not all(map(_is_name, patterns)):
            yield f"{shown}: {key} should have plain names of layers as its keys"
    for key in NAMES_OTHERS:
        if settings.get(key) not in (None, False, {}, [], "megatron.core"):
            yield f"{shown}: {key} names parts that are not in the folder; save the adapter without it"


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and PLAIN_NAME.fullmatch(name) is not None


def _is_number(number: Any) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool)
