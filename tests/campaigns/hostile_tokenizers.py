"""Tokenizers and adapters that mean harm; see `tests.campaigns.hostile_folders`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.campaigns.hostile_folders import HUGE, Change, all_of, edit, gone, table, write


def tokenizers() -> Iterator[tuple[str, Change]]:
    """Parts of a tokenizer.json."""

    def part(role: str, value: Any) -> Change:
        return edit("tokenizer.json", **{role: value})

    def regex(pattern: Any, kind: str = "Split") -> dict[str, Any]:
        if kind == "Replace":
            return {"type": "Replace", "pattern": {"Regex": pattern}, "content": "x"}
        return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}

    patterns = (
        "(a+)+$",
        "(a*)*b",
        "(a|a)*b",
        "(a|aa)+$",
        "a*a*a*b",
        "(.*a){20}",
        r"(a)\1+",
        "(a{1,1000}){1,1000}",
        "(?:a?a?)*b",
        "(a?){40}a{40}",
        "a" * 10**5,
        "(" * 10**4,
        r"\g<0>a",
        "(?R)",
        "((a+b)+c)+d",
        "(?<=a+)b",
        "[",
        "",
        7,
        None,
        ["a"],
        "(a*?)*?b",
        "(?:(?:a+)?b?)*c",
        "x*y*z*w*v*!",
        "(a{500}){500}",
    )
    for number, pattern in enumerate(patterns):
        role, kind = (("pre_tokenizer", "Split"), ("normalizer", "Replace"))[number % 2]
        yield f"tokenizer.json: {role} {str(pattern)[:30]!r}", part(role, regex(pattern, kind))

    def replace(text: str, content: str) -> dict[str, Any]:
        return {"type": "Replace", "pattern": {"String": text}, "content": content}

    def sequence(*parts: Any) -> dict[str, Any]:
        return {"type": "Sequence", "normalizers": list(parts)}

    normalizers = {
        "a thousand of one": replace("a", "a" * 1_000),
        "of nothing": replace("", "aaaaaaaaaaaaaaaaaaaa"),
        "doubled": sequence(*[replace("a", "aa")] * 30),
        "many": sequence(*[{"type": "NFC"}] * 10_000),
        "by a class": {"type": "Replace", "pattern": {"Regex": "."}, "content": "x" * 50},
        "at every place": {"type": "Replace", "pattern": {"Regex": "x?"}, "content": "y" * 60},
        "bytes of bytes": sequence(*[{"type": "ByteLevel"}] * 20),
        "a table": {"type": "Precompiled", "precompiled_charsmap": table(10**6)},
        "no table": {"type": "Precompiled", "precompiled_charsmap": "####"},
        "unknown": {"type": "Python", "code": "x"},
        "no type": {},
        "a list": [1, 2],
        "a text": "NFC",
        "before it": {"type": "Prepend", "prepend": "x" * 10**6},
        "nested": json.loads('{"type":"Sequence","normalizers":[' * 100 + '{"type":"NFC"}' + "]}" * 100),
        "a table of nothing": {"type": "Precompiled", "precompiled_charsmap": ""},
    }
    for what, value in normalizers.items():
        yield f"tokenizer.json: normalizer, {what}", part("normalizer", value)
    template = {
        "type": "TemplateProcessing",
        "single": [],
        "pair": [],
        "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1] * 10**6, "tokens": ["[CLS]"] * 10**6}},
    }
    piece = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
    others: dict[str, tuple[str, Any]] = {
        "a long template": ("post_processor", template),
        "a long single": ("post_processor", template | {"single": [piece] * 10**5, "special_tokens": {}}),
        "unknown pre-tokenizer": ("pre_tokenizer", {"type": "Script"}),
        "a decoder": ("decoder", {"type": "Shell"}),
        "no length": ("pre_tokenizer", {"type": "FixedLength", "length": 0}),
        "padding": (
            "padding",
            {"strategy": {"Fixed": HUGE}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "x"},
        ),
        "a multiple": ("padding", {"strategy": "BatchLongest", "pad_to_multiple_of": HUGE}),
        "padding of text": ("padding", "x"),
        "stride": ("truncation", {"max_length": 8, "stride": -1, "strategy": "LongestFirst", "direction": "Right"}),
        "added tokens": ("added_tokens", [{"id": i, "content": f"<{i}>"} for i in range(150_000)]),
        "a long token": ("added_tokens", [{"id": 5, "content": "x" * 10**6}]),
        "an empty token": ("added_tokens", [{"id": 5, "content": ""}]),
        "a far token": ("added_tokens", [{"id": 10**12, "content": "x"}]),
        "tokens of text": ("added_tokens", "x"),
        "no tokens": ("added_tokens", [7]),
        "another model": ("model", {"type": "Python"}),
        "no model": ("model", None),
        "long words": ("model__max_input_chars_per_word", HUGE),
        "dropout": ("model__dropout", 0.5),
        "vocabulary": ("model__vocab", {"a": 10**12}),
        "words of words": ("model__vocab", {"x" * 10**5: 0}),
        "vocabulary of text": ("model__vocab", {"[UNK]": "0"}),
        "a prefix": ("model__continuing_subword_prefix", "#" * 10**6),
    }
    for what, (role, value) in others.items():
        yield f"tokenizer.json: {what}", part(role, value)
    yield (
        "tokenizer.json: ids that the model has not",
        edit("tokenizer.json", model__vocab=lambda v: v | {"far": 1_999_999}),
    )


def adapters() -> Iterator[tuple[str, Change]]:
    """Adapters beside a model."""
    values: dict[str, list[Any]] = {
        "target_modules": ["(a+)+$", ".*", ["(a+)+$"], [".*"], [7], {"a": 1}, ["x"] * 20_000],
        "exclude_modules": ["(a+)+$"],
        "modules_to_save": ["x", [["y"]]],
        "layers_pattern": ["(a+)+$"],
        "r": [10**7, -1, "8", 1e400],
        "lora_alpha": [10**12],
        "rank_pattern": [{"(a+)+$": 8}, {"q": 10**7}],
        "alpha_pattern": [{"a*": 1}],
        "auto_mapping": [{"parent_library": "antigravity", "base_model_class": "x"}],
        "peft_type": ["OWNED", None, 7, ["LORA"]],
        "megatron_core": ["antigravity"],
        "loftq_config": [{"loftq_bits": 4}],
        "corda_config": [{"cache_file": "/etc/passwd"}],
        "eva_config": [{"x": 1}],
    }
    for key, several in values.items():
        for value in several:
            yield f"adapter: {key}={str(value)[:40]}", edit("adapter/adapter_config.json", **{key: value})
    yield (
        "adapter: pickled",
        all_of(gone("adapter/adapter_model.safetensors"), write("adapter/adapter_model.bin", b"\x80")),
    )
    yield "adapter: no settings", gone("adapter/adapter_config.json")
