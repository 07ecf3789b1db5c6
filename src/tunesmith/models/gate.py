"""What a model folder must show before a library reads it, and the walls around the library while it does.

A folder names the classes that read it. Some of them load further folders by ways of their own, past the arguments that
forbid code (transformers' RagTokenizer asks on standard input whether to run a folder's code). So only model types and
tokenizer classes of a list are let through, and while a library loads anything, no module of a folder can be imported
and nobody answers its questions.
"""

from __future__ import annotations

import functools
import io
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import dynamic_module_utils
from transformers.models.auto import modeling_auto, tokenization_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tunesmith.errors import ModelError

MAX_BYTES = 16 * 2**20
"""Of a configuration; labels by the hundred thousand fit."""
LOAD_OTHERS = frozenset({"encoder-decoder", "rag", "speech-encoder-decoder", "vision-encoder-decoder"})
"""Model types whose classes load further models by names that the configuration gives."""
TABLES = (
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
)
GENERIC_TOKENIZERS = ("PreTrainedTokenizer", "PreTrainedTokenizerFast", "PythonBackend", "TokenizersBackend")
# Far above any published text model; a configuration beyond them would exhaust memory before it failed.
CONFIG_LIMITS = {"num_hidden_layers": 512, "hidden_size": 65_536, "intermediate_size": 524_288, "vocab_size": 4_000_000}
MAX_LABELS = 1_000_000

_lock = threading.RLock()


@functools.cache
def model_types() -> frozenset[str]:
    """The model types that are loaded: those with a head that is trained here, or with a tokenizer and a bare model."""
    with_head = {name for table in TABLES for name in getattr(modeling_auto, table)}
    bare = set(modeling_auto.MODEL_MAPPING_NAMES) & set(tokenization_auto.TOKENIZER_MAPPING_NAMES)
    return frozenset(with_head | bare) - LOAD_OTHERS


@functools.cache
def tokenizer_classes() -> frozenset[str]:
    """The names of tokenizer classes that are loaded, with and without "Fast"."""
    given = {name for kind, name in tokenization_auto.TOKENIZER_MAPPING_NAMES.items() if name and kind in model_types()}
    plain = {name.removesuffix("Fast") for name in (*given, *GENERIC_TOKENIZERS)}
    return frozenset(plain | {f"{name}Fast" for name in plain} | set(GENERIC_TOKENIZERS))


def check_files(name: str, config: Path | None, tokenizer_config: Path | None) -> None:
    """Refuse a model whose files name classes that are not on the lists, or sizes beyond `CONFIG_LIMITS`.

    Args:
        name: of the model, for errors.
        config, tokenizer_config: the two files, or None for one that is not there.

    Raises:
        ModelError: a file cannot be read, or is refused; all problems at once.
    """
    settings = {} if config is None else read_settings(config)
    tokenizer_settings = {} if tokenizer_config is None else read_settings(tokenizer_config)
    problems = [
        f"model {name}: config.json names the model type {kind!r}, which is not one that is loaded here; "
        "give a text model of another architecture"
        for kind in _unknown_types(settings)
    ]
    problems += [
        f"model {name}: config.json says {key}={settings[key]!r}, expected an integer up to {limit}"
        for key, limit in CONFIG_LIMITS.items()
        if key in settings and not (isinstance(settings[key], int) and 0 <= settings[key] <= limit)
    ]
    labels = settings.get("num_labels") or 0
    if len(settings.get("id2label") or ()) > MAX_LABELS or not isinstance(labels, int) or labels > MAX_LABELS:
        problems.append(f"model {name}: config.json declares more than {MAX_LABELS:,} labels")
    for where, holder in (("config.json", settings), ("tokenizer_config.json", tokenizer_settings)):
        wanted = holder.get("tokenizer_class")
        if wanted is not None and not (isinstance(wanted, str) and wanted in tokenizer_classes()):
            problems.append(
                f"model {name}: {where} names the tokenizer class {wanted!r}, which is not one that is loaded here; "
                "save the tokenizer again with a class of transformers"
            )
    if problems:
        raise ModelError(problems)


def read_settings(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model.

    Raises:
        ModelError: it cannot be read, is too large, or is no object.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ModelError(f"{path}: more than {MAX_BYTES:,} bytes; not the configuration of a model")
        found = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}: cannot be read ({' '.join(str(error).split())[:200]}); save the model again"
        ) from None
    if not isinstance(found, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(found).__name__}; save the model again")
    return found


def _unknown_types(settings: dict[str, Any]) -> list[str]:
    """Model types of a configuration, and of those inside it, that are not on the list; inner ones need no head."""
    known = frozenset(CONFIG_MAPPING.keys()) - LOAD_OTHERS
    own = settings.get("model_type")
    # Without a type the library would guess it from the folder's name.
    found = [] if isinstance(own, str) and own in model_types() else [own]
    inner = [*settings.values()]
    while inner:
        value = inner.pop()
        if isinstance(value, dict):
            kind = value.get("model_type")
            if isinstance(kind, str) and kind not in known:
                found.append(kind)
            inner += value.values()
        elif isinstance(value, list):
            inner += value
    return list(dict.fromkeys(map(str, found)))


@contextmanager
def walled() -> Iterator[None]:
    """While it lasts, no library imports a module of a model folder, asks a question, or reads standard input."""
    closed = {"get_cached_module_file": _refuse, "get_class_in_module": _refuse, "TIME_OUT_REMOTE_CODE": 0}
    with _lock:
        own, stdin = {part: getattr(dynamic_module_utils, part) for part in closed}, sys.stdin
        sys.stdin = io.StringIO()
        try:
            for part, replacement in closed.items():
                setattr(dynamic_module_utils, part, replacement)
            yield
        finally:
            sys.stdin = stdin
            for part, value in own.items():
                setattr(dynamic_module_utils, part, value)


def _refuse(*_: Any, **__: Any) -> Any:
    raise ModelError("the model asks for code of its own to be run, which is never done; give a model without it")
