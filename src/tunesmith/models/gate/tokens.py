"""Parts of a tokenizer, as in tokenizer.json: from a list, and none that makes much of a short text or takes long."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from tunesmith.models.gate.patterns import least_length, objection

KINDS = {
    "normalizer": {
        *("BertNormalizer", "ByteLevel", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Prepend"),
        *("Replace", "Sequence", "Strip", "StripAccents"),
    },
    "pre_tokenizer": {
        *("BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "Metaspace", "Punctuation", "Sequence"),
        *("Split", "UnicodeScripts", "Whitespace", "WhitespaceSplit"),
    },
    "post_processor": {"BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"},
    "decoder": {
        *("BPEDecoder", "ByteFallback", "ByteLevel", "CTC", "Fuse", "Metaspace", "Replace", "Sequence", "Strip"),
        "WordPiece",
    },
}
INNER = ("normalizers", "pretokenizers", "processors", "decoders")
"""Where a sequence has its parts."""
MODELS = ("BPE", "Unigram", "WordLevel", "WordPiece")
MOST_PARTS = 64
MOST_GROWTH = 16
"""How many characters one of a text may become, over all replacements."""
MOST_TEXT = 64
"""Characters of a part's own text."""
MOST_TEMPLATE = 256
MOST_CHARSMAP = 4 * 2**20
MOST_EXPANSION = 64
"""Bytes that a table may put in the place of a character; the longest of Unicode's own takes 33."""
MOST_ADDED, MOST_SPECIAL = 100_000, 5_000
MOST_TOKEN = 4_096
"""Characters of a token."""
MOST_ID = 2_000_000
MOST_WORD = 4_096
"""Characters of a word that is cut into pieces, which takes time by their square."""


def check_tokenizer(file: str, content: Any) -> Iterator[str]:
    """Problems of a tokenizer.json.

    Args:
        file: its name in messages.
        content: of the file.
    """
    if not isinstance(content, dict):
        yield f"{file}: expected a JSON object, found {type(content).__name__}; save the tokenizer again"
        return
    for role, kinds in KINDS.items():
        yield from _check_parts(f"{file}: {role}", content.get(role), kinds)
    yield from _check_model(f"{file}: model", content.get("model"))
    yield from check_added(f"{file}: added_tokens", content.get("added_tokens"))
    padding, truncation = content.get("padding"), content.get("truncation")
    for name, part in (("padding", padding), ("truncation", truncation)):
        if part is not None and not isinstance(part, dict):
            yield f"{file}: {name} should be an object; save the tokenizer again"
    fixed = padding.get("strategy") if isinstance(padding, dict) else None
    for what, number in (
        ("padding.strategy", fixed.get("Fixed") if isinstance(fixed, dict) else None),
        ("padding.pad_to_multiple_of", padding.get("pad_to_multiple_of") if isinstance(padding, dict) else None),
        ("truncation.stride", truncation.get("stride") if isinstance(truncation, dict) else None),
    ):
        if number is not None and not (isinstance(number, int) and 0 <= number <= MOST_ID):
            yield f"{file}: {what} is {str(number)[:30]}, expected an integer up to {MOST_ID:,}"


def check_added(what: str, tokens: Any) -> Iterator[str]:
    """Problems of a list of added tokens, or of an object of them by their numbers or texts."""
    if tokens is None:
        return
    if not isinstance(tokens, dict | list) or len(tokens) > MOST_ADDED:
        yield f"{what}: expected at most {MOST_ADDED:,} tokens; save the tokenizer again"
        return
    entries = tokens if isinstance(tokens, list) else [*tokens.items()]
    for entry in entries:
        texts, number = _entry(entry)
        if not all(isinstance(text, str) and 0 < len(text) <= MOST_TOKEN for text in texts):
            yield f"{what}: a token should have 1 to {MOST_TOKEN:,} characters; save the tokenizer again"
            return
        if number is not None and not (isinstance(number, int) and 0 <= number <= MOST_ID):
            yield f"{what}: a token has the number {str(number)[:30]}, expected one up to {MOST_ID:,}"
            return


def check_special(file: str, settings: dict[str, Any]) -> Iterator[str]:
    """Problems of the special tokens in the settings of a tokenizer: each is a text, or an object with one."""
    yield from check_added(f"{file}: added_tokens_decoder", settings.get("added_tokens_decoder"))
    for key, value in settings.items():
        if not key.endswith(("_token", "_tokens")):
            continue
        several = isinstance(value, dict) and "content" not in value
        values = list(value.values()) if several else value if isinstance(value, list) else [value]
        if len(values) > MOST_SPECIAL:
            yield f"{file}: {key} has more than {MOST_SPECIAL:,} tokens; save the tokenizer again"
            continue
        texts = [one.get("content") if isinstance(one, dict) else one for one in values]
        if not all(text is None or isinstance(text, bool) or _is_short(text) for text in texts):
            yield f"{file}: {key} should be a text of at most {MOST_TOKEN:,} characters; save the tokenizer again"


def check_vocabulary(file: str, content: Any) -> Iterator[str]:
    """Problems of a vocab.json or added_tokens.json: texts of tokens with their numbers."""
    if not isinstance(content, dict):
        yield f"{file}: expected a JSON object, found {type(content).__name__}; save the tokenizer again"
    elif not all(len(text) <= MOST_TOKEN and _is_number(number) for text, number in content.items()):
        yield f"{file}: expected tokens of at most {MOST_TOKEN:,} characters with numbers up to {MOST_ID:,}"


def _check_parts(what: str, part: Any, kinds: set[str]) -> Iterator[str]:
    """Problems of a normalizer, or of another role, with those that it consists of."""
    parts: list[dict[str, Any]] = []
    left: list[Any] = [part] if part is not None else []
    while left and len(parts) <= MOST_PARTS:
        one = left.pop(0)
        if not isinstance(one, dict) or not isinstance(one.get("type"), str) or one["type"] not in kinds:
            named = one.get("type") if isinstance(one, dict) else type(one).__name__
            yield f"{what}: {str(named)[:50]!r} is no part that is read here; save the tokenizer again"
            return
        inner: Any = next((one[key] for key in INNER if key in one), [])
        if not isinstance(inner, list):
            yield f"{what}: a sequence should be a list; save the tokenizer again"
            return
        parts.append(one)
        left += inner
    if len(parts) > MOST_PARTS:
        yield f"{what}: more than {MOST_PARTS} parts; save the tokenizer again"
        return
    growth, tables = 1.0, 0
    for one in parts:
        yield from (f"{what}.{problem}" for problem in _check_part(one))
        growth *= _growth(one)
        tables += one["type"] in ("ByteLevel", "Precompiled")
    if growth > MOST_GROWTH or (what.endswith("normalizer") and tables > 2):
        yield f"{what}: makes more than {MOST_GROWTH} characters of one; save the tokenizer again"


def _check_part(part: dict[str, Any]) -> Iterator[str]:
    kind = part["type"]
    pattern = part.get("pattern")
    if isinstance(pattern, dict) and "Regex" in pattern:
        if problem := objection(pattern["Regex"]):
            yield f"{kind}: its regular expression {problem}; it could take without end"
    elif kind in ("Replace", "Split") and not (isinstance(pattern, dict) and _is_short(pattern.get("String"))):
        yield f"{kind}: its pattern should be a text or a regular expression"
    for key, value in part.items():
        if isinstance(value, str) and key != "precompiled_charsmap" and len(value) > MOST_TEXT:
            yield f"{kind}: {key} has {len(value):,} characters, expected at most {MOST_TEXT}"
        if isinstance(value, int) and not isinstance(value, bool) and not 0 <= value <= MOST_ID:
            yield f"{kind}: {key} is {str(value)[:30]}, expected an integer up to {MOST_ID:,}"
    if kind == "Precompiled":
        yield from _check_charsmap(part.get("precompiled_charsmap"))
    if kind == "TemplateProcessing":
        lists = [part.get("single"), part.get("pair"), part.get("special_tokens")]
        tokens = part.get("special_tokens")
        lists += [
            one.get(k) for one in (tokens if isinstance(tokens, dict) else {}).values() for k in ("ids", "tokens")
        ]
        if any(isinstance(one, dict | list) and len(one) > MOST_TEMPLATE for one in lists):
            yield f"{kind}: more than {MOST_TEMPLATE} tokens are put around a text; save the tokenizer again"


def _check_charsmap(table: Any) -> Iterator[str]:
    """Problems of SentencePiece's table of characters: a search tree, and then texts, each with a NUL at its end."""
    if table is None:
        return
    try:
        raw = base64.b64decode(table, validate=True) if isinstance(table, str) and len(table) <= MOST_CHARSMAP else b""
    except (binascii.Error, ValueError):
        raw = b""
    size = int.from_bytes(raw[:4], "little")
    if len(raw) < 5 or size % 4 or 4 + size > len(raw):
        yield "Precompiled: precompiled_charsmap is no table of characters; save the tokenizer again"
    elif max(map(len, raw[4 + size :].split(b"\0"))) > MOST_EXPANSION:
        yield f"Precompiled: makes more than {MOST_EXPANSION} bytes of a character; save the tokenizer again"


def _growth(part: dict[str, Any]) -> float:
    """How many characters a part makes of one, at most."""
    content, pattern = part.get("content"), part.get("pattern")
    if part["type"] != "Replace" or not isinstance(content, str) or not isinstance(pattern, dict):
        return 1.0
    if isinstance(text := pattern.get("String"), str):
        return max(1.0, len(content) / len(text)) if text else len(content) + 1.0
    return max(1.0, float(len(content))) if least_length(str(pattern.get("Regex"))) else len(content) + 1.0


def _check_model(what: str, model: Any) -> Iterator[str]:
    """Problems of the model: its kind, its vocabulary, how long a word may be."""
    kind = model.get("type") if isinstance(model, dict) else type(model).__name__
    if not isinstance(model, dict) or (kind is not None and kind not in MODELS):
        yield f"{what}: {str(kind)[:50]!r} is none that is read here ({', '.join(MODELS)}); save the tokenizer again"
        return
    vocabulary = model.get("vocab")
    entries = vocabulary.items() if isinstance(vocabulary, dict) else vocabulary if isinstance(vocabulary, list) else ()
    for entry in entries:
        if not (isinstance(entry, tuple | list) and len(entry) == 2 and _is_short(entry[0])):
            yield f"{what}: a token should have at most {MOST_TOKEN:,} characters; save the tokenizer again"
            break
        if isinstance(entry, tuple) and not _is_number(entry[1]):
            yield f"{what}: {entry[0][:50]!r} should have a number up to {MOST_ID:,}; save the tokenizer again"
            break
    if model.get("dropout"):
        yield f"{what}: dropout gives other tokens each time; save the tokenizer without it"
    longest = model.get("max_input_chars_per_word")
    if longest is not None and not (isinstance(longest, int) and 0 <= longest <= MOST_WORD):
        yield f"{what}: max_input_chars_per_word is {str(longest)[:30]}, expected an integer up to {MOST_WORD:,}"
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token"):
        if len(str(model.get(key) or "")) > MOST_TEXT:
            yield f"{what}: {key} has more than {MOST_TEXT} characters; save the tokenizer again"


def _entry(entry: Any) -> tuple[list[Any], Any]:
    """The texts of an added token, and its number, in whichever of the three forms it has."""
    if isinstance(entry, dict):
        return [entry.get("content")], entry.get("id")
    key, value = entry if isinstance(entry, tuple) else (entry, None)
    if isinstance(value, dict):
        return [value.get("content")], int(key) if key.isdecimal() and len(key) < 10 else str(key)
    return [key], value


def _is_short(text: Any) -> bool:
    return isinstance(text, str) and len(text) <= MOST_TOKEN


def _is_number(number: Any) -> bool:
    return isinstance(number, int) and 0 <= number <= MOST_ID
