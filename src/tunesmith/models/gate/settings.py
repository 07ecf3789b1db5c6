"""What config.json and the settings of a tokenizer may say: listed classes, no names of other files, bounded sizes."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Collection, Iterator
from typing import Any

from transformers.models.auto import modeling_auto, tokenization_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

LOAD_OTHERS = frozenset({"encoder-decoder", "rag", "speech-encoder-decoder", "vision-encoder-decoder"})
"""Model types whose classes load further models by names that the configuration gives."""
HAVE_BACKBONES = frozenset(
    (
        *("chmv2", "depth_anything", "dpt", "grounding-dino", "mm-grounding-dino", "musicgen", "musicgen_melody"),
        *("omdet-turbo", "oneformer", "timm_backbone", "timm_wrapper", "tipsv2_dpt", "tvp", "upernet", "zoedepth"),
    )
)
"""Model types with a part that they fetch by its name; none of them is for texts alone."""
TABLES = (
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
)
GENERIC_TOKENIZERS = ("PreTrainedTokenizer", "PreTrainedTokenizerFast", "PythonBackend", "TokenizersBackend")

CODE = "auto_map"
NAMES_OTHERS = {
    CODE: "names code, which is never run; where transformers knows the architecture itself, remove the key or give "
    "model.allow=auto_map",
    "quantization_config": "is of a quantized model, which cannot be trained; give the model in full precision",
    "transformers_weights": "names a file of weights; name it model.safetensors",
}
"""Keys, at any depth, by which a library would load other things than the files that were checked, and what to do."""
NAMES_OTHERS |= dict.fromkeys(
    (
        *("backbone", "backbone_config", "backbone_kwargs", "use_pretrained_backbone", "use_timm_backbone"),
        *("_adapter_model_path", "adapter_kwargs", "configuration_files", "custom_generate", "distributed_config"),
        *("extra_files", "fusion_config", "gguf_file", "kernel_config", "trust_remote_code"),
    ),
    "names parts that are not in this folder; give a text model of another architecture",
)
IMPLEMENTATION = re.compile(r"_implementation(_internal)?$")
PLAIN_WORD = re.compile(r"[A-Za-z0-9_]*")

LEAST = -1_000
"""Integers below zero stand for "none", "ignored" or a place counted from the end."""
MOST = 2**25
"""Of an integer with a name that says nothing: the largest of a published text model is twenty million (2025)."""
# Far above any published text model, whatever the words before them. The first that fits counts.
MOST_BY_NAME = (
    (re.compile(r"theta|seed|_hash$|^num_param|_params$"), 2**40),
    (re.compile(r"hidden_size|_dim$|^dim$|d_model|n_embd|embedding_size|intermediate|ffn|inner|d_ff|d_kv"), 524_288),
    (re.compile(r"expert.*(size|token)|layer.*(size|token)|block.*(size|token)|head.*(size|token|label)"), MOST),
    (re.compile(r"type_vocab_size"), 4_096),
    (re.compile(r"vocab_size"), MOST),
    (re.compile(r"layers?(_|$)|blocks?(_|$)|stages?(_|$)|depth|groups?(_|$)"), 1_024),
    (re.compile(r"num.*heads?$|n_heads?$"), 4_096),
    (re.compile(r"experts"), 65_536),
    (re.compile(r"labels$|^num_classes$"), 1_000_000),
)
MOST_LABELS = 1_000_000
LABELS = ("id2label", "label2id")

TOKENIZER_FILES = frozenset({"added_tokens_file", "special_tokens_map_file", "tokenizer_file", "vocab_file"})
"""Keys that hold a path of the machine where a tokenizer was saved; the library puts its own in their place."""
TOKENIZER_PARTS = frozenset(
    (
        *("vocab", "merges", "tokenizer_object", "post_processor", "tokenizer_padding", "tokenizer_truncation"),
        *("gguf_file", "fast_tokenizer_files", "init_inputs", "trust_remote_code", "revision", "token", "cache_dir"),
        *("subfolder", "proxies", "jumanpp_kwargs", "mecab_kwargs", "sudachi_kwargs", "_json_padding"),
        *("_json_truncation", "_spm_precompiled_charsmap", "chat_template_file", "tokenizer_config_file"),
    )
)
"""Keys of a tokenizer's settings that stand for an argument by which other files are read, or parts made of them."""
SAMPLING = frozenset({"alpha", "enable_sampling", "nbest_size", "num_threads"})
SPECIAL = re.compile(r"\w+_tokens?")


@functools.cache
def model_types() -> frozenset[str]:
    """The model types that are loaded: those with a head that is trained here, or with a tokenizer and a bare model."""
    with_head = {name for table in TABLES for name in getattr(modeling_auto, table)}
    bare = set(modeling_auto.MODEL_MAPPING_NAMES) & set(tokenization_auto.TOKENIZER_MAPPING_NAMES)
    return frozenset(with_head | bare) - LOAD_OTHERS - HAVE_BACKBONES


def registered() -> frozenset[str]:
    """Model types and tokenizer classes that a program has made known to transformers: its own code, not a folder's."""
    tokenizers = getattr(tokenization_auto, "REGISTERED_TOKENIZER_CLASSES", {})
    return frozenset(CONFIG_MAPPING._extra_content) | frozenset(tokenizers)


@functools.cache
def tokenizer_classes() -> frozenset[str]:
    """The names of tokenizer classes that are loaded, with and without "Fast"."""
    given = {name for kind, name in tokenization_auto.TOKENIZER_MAPPING_NAMES.items() if name and kind in model_types()}
    plain = {name.removesuffix("Fast") for name in (*given, *GENERIC_TOKENIZERS)}
    return frozenset(plain | {f"{name}Fast" for name in plain} | set(GENERIC_TOKENIZERS))


def check_config(file: str, settings: Any, allowed: Collection[str]) -> Iterator[str]:
    """Problems of a configuration of a model.

    Args:
        file: its name in messages.
        settings: its content.
        allowed: further model types and tokenizer classes, and `CODE` for code that is left alone.
    """
    if not isinstance(settings, dict):
        yield f"{file}: expected a JSON object, found {type(settings).__name__}; save the model again"
        return
    for kind in _unknown_types(settings, allowed):
        given = f", or model.allow={','.join([*sorted(allowed), kind])} where you trust it"
        yield (
            f"{file}: names the model type {kind!r}, which is not one that is loaded here; give a text model of "
            f"another architecture{given if PLAIN_WORD.fullmatch(kind.replace('-', '_')) else ''}"
        )
    yield from check_tokenizer_class(file, settings, allowed)
    yield from check_keys(file, settings, allowed)
    yield from _check_numbers(file, "", settings)
    for name in LABELS:
        labels = settings.get(name)
        if labels is not None and not isinstance(labels, dict):
            yield f"{file}: {name} should be an object, found {type(labels).__name__}; save the model again"
        elif len(labels or ()) > MOST_LABELS:
            yield f"{file}: {name} has more than {MOST_LABELS:,} labels"
    own: Any = settings.get("model_type")
    owner = CONFIG_MAPPING[own] if isinstance(own, str) and own in model_types() else None
    for key in settings:
        if callable(getattr(owner, key, None)) or key.startswith("__"):
            yield f"{file}: {key} would take the place of a method of the library; remove it"


def check_tokenizer_config(file: str, settings: Any, allowed: Collection[str]) -> Iterator[str]:
    """Problems of the settings of a tokenizer; arguments as of `check_config`."""
    if not isinstance(settings, dict):
        yield f"{file}: expected a JSON object, found {type(settings).__name__}; save the tokenizer again"
        return
    yield from check_tokenizer_class(file, settings, allowed)
    yield from check_keys(file, settings, allowed)
    for key, value in settings.items():
        other = key in TOKENIZER_PARTS or (re.search("_file$|^vocab_path$|_spm$", key) and key not in TOKENIZER_FILES)
        if other and value not in (None, [], {}, ()):
            yield f"{file}: {key} names a part or a file that is not read from there; save the tokenizer again"
    sampling = settings.get("sp_model_kwargs")
    if sampling and not (isinstance(sampling, dict) and sampling.keys() <= SAMPLING):
        yield f"{file}: sp_model_kwargs may hold {', '.join(sorted(SAMPLING))} alone; save the tokenizer again"
    longest = settings.get("model_max_length")
    if longest is not None and not (isinstance(longest, int | float) and longest >= 1):
        yield f"{file}: model_max_length should be a number above 0, found {str(longest)[:50]}"
    others = {key: value for key, value in settings.items() if key != "model_max_length"}
    yield from _check_numbers(file, "", others)


def check_special_tokens(file: str, settings: Any) -> Iterator[str]:
    """Problems of special_tokens_map.json, whose keys become arguments of the tokenizer's class."""
    if not isinstance(settings, dict):
        yield f"{file}: expected a JSON object, found {type(settings).__name__}; save the tokenizer again"
        return
    for key in settings:
        if not SPECIAL.fullmatch(key):
            yield f"{file}: {key[:50]!r} names no special token; save the tokenizer again"


def check_tokenizer_class(file: str, settings: dict[str, Any], allowed: Collection[str]) -> Iterator[str]:
    """A problem where the class of a tokenizer is not on the list."""
    wanted = settings.get("tokenizer_class")
    if wanted is not None and not (isinstance(wanted, str) and wanted in tokenizer_classes() | {*allowed}):
        yield (
            f"{file}: names the tokenizer class {wanted!r}, which is not one that is loaded here; save the tokenizer "
            "again with a class of transformers"
        )


def check_keys(file: str, settings: Any, allowed: Collection[str]) -> Iterator[str]:
    """Problems with keys by which a library would load something else, at any depth."""
    for where, key, value in _walk("", settings):
        if key in NAMES_OTHERS and value not in (None, False, {}, []) and key not in allowed:
            yield f"{file}: {where} {NAMES_OTHERS[key]}"
        elif IMPLEMENTATION.search(key):
            kinds = list(value.values()) if isinstance(value, dict) else [value]
            if not all(kind is None or (isinstance(kind, str) and PLAIN_WORD.fullmatch(kind)) for kind in kinds):
                yield f"{file}: {where} names code outside transformers, which is never loaded; remove the key"


def _check_numbers(file: str, where: str, value: Any) -> Iterator[str]:
    """Problems with integers that are too large or too small for what their names say."""
    for place, key, number in _walk(where, value):
        named = next((limit for pattern, limit in MOST_BY_NAME if pattern.search(key)), None)
        if isinstance(number, float) and math.isinf(number) and named is not None:
            yield f"{file}: {place} is infinite, expected an integer up to {named:,}; correct the file"
        if isinstance(number, int) and not isinstance(number, bool):
            most = named or MOST
            if not LEAST <= number <= most:
                found = str(number) if abs(number) < 10**20 else "a number of more than 20 digits"
                yield f"{file}: {place} is {found}, expected an integer from {LEAST:,} to {most:,}; correct the file"


def _walk(where: str, value: Any, key: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every value in an object, with the path to it and its key; what is in a list has the key of the list.

    The names of labels are the user's own, and are no keys.
    """
    level = [(where, key, value)]
    while level:
        inner: list[tuple[str, str, Any]] = []
        for place, name, one in level:
            if name in LABELS:
                continue
            if isinstance(one, dict):
                inner += [(f"{place}.{k[:50]}" if place else k[:50], k, v) for k, v in one.items()]
            elif isinstance(one, list):
                inner += [(f"{place}[{number}]", name, v) for number, v in enumerate(one)]
        yield from inner
        level = [(place, name, one) for place, name, one in inner if isinstance(one, dict | list)]


def _unknown_types(settings: dict[str, Any], allowed: Collection[str]) -> list[str]:
    """The model type of a configuration if it is not on the list, and those inside it that load others."""
    free = registered() | {*allowed}
    own = settings.get("model_type")
    # Without a type the library would guess it from the folder's name.
    found = [] if isinstance(own, str) and own in model_types() | free else [own]
    inner = (value for where, key, value in _walk("", settings) if key == "model_type" and where != key)
    others = (LOAD_OTHERS | HAVE_BACKBONES) - free
    found += [kind for kind in inner if kind is not None and (not isinstance(kind, str) or kind in others)]
    return list(dict.fromkeys(map(str, found)))
