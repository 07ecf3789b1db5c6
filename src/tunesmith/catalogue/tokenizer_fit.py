"""How well tokenizers fit a person's own texts, measured on a sample and without the network.

A vocabulary made for other texts cuts words into many pieces, which cost time and room, or loses them altogether.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import try_to_load_from_cache

from tunesmith.catalogue.catalogue import Entry, Suggestion, TokenizerFit
from tunesmith.config.schema import ModelSettings
from tunesmith.data.records import Records
from tunesmith.data.words import word_bounds
from tunesmith.errors import DataError, ModelError
from tunesmith.models.loading import load_config, load_tokenizer, token_limit
from tunesmith.models.source import PACKAGED, Source, find_source

SAMPLE_TEXTS = 2_000
SAMPLE_CHARACTERS = 5_000_000
TEXT_CHARACTERS = 200_000
"""Characters read of one text: more than fits into any model of the catalogue."""
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spm.model")


def rank_by_fit(entries: Sequence[Entry], folders: Sequence[str], records: Records) -> list[Suggestion]:
    """The models whose tokenizers are on this machine, best fit first, and after them the others.

    Args:
        folders: of models, to be measured as well.

    Raises:
        DataError: the texts have no word.
        ModelError: a folder has no usable model; all of them at once.
    """
    sample = sample_texts(records)
    words = sum(len(word_bounds(text)[0]) for texts in sample for text in texts)
    if not words:
        raise DataError(f"{records.path}: no word in its texts; choose another column with data.text=COLUMN")
    points, problems = [], list[str]()
    for folder in dict.fromkeys(folders):
        try:
            if not Path(folder).expanduser().is_dir():
                raise ModelError(
                    f"model.name={folder}: no such folder; models of the catalogue are measured without it, as far as "
                    "they are in the Hub's cache on this machine"
                )
            source = find_source(ModelSettings(name=folder, local=True))
            tokenizer = load_tokenizer(source)
            limit = token_limit(load_config(source), tokenizer)
            points.append(Suggestion(folder, None, measure(tokenizer, limit, sample, words)))
        except ModelError as error:
            problems += error.problems
    if problems:
        raise ModelError(problems)
    for entry in entries:
        fit: TokenizerFit | None = None
        reason: str | None = "tokenizer not on this machine"
        try:
            if here := local_source(entry.id):
                fit, reason = measure(load_tokenizer(here), entry.context, sample, words), None
        except ModelError as error:
            reason = str(error)
        points.append(Suggestion(entry.id, entry, fit, reason))

    def order(point: Suggestion) -> tuple[Any, ...]:
        """Measured ones by their fit, equal ones by size; others as they stand."""
        size = point.entry.millions if point.entry else 0.0
        return (False, *point.fit.rank(), size) if point.fit else (True,)

    return sorted(points, key=order)


def local_source(name: str) -> Source | None:
    """Where a catalogued model is on this machine: in an installed package or in the Hub's cache, else None.

    A cached model is its folder, so that no library has a reason to ask the network about it.
    """
    if name in PACKAGED:
        try:
            return find_source(ModelSettings(name=name))
        except ModelError:
            return None
    cached = (try_to_load_from_cache(name, file) for file in TOKENIZER_FILES)
    found = next((path for path in cached if isinstance(path, str)), None)
    return Source(name, str(Path(found).parent), None, True) if found else None


def sample_texts(records: Records) -> list[tuple[str, ...]]:
    """At most 2,000 texts (or pairs) of five million characters, chosen by chance but always the same ones."""
    order = np.random.default_rng(0).permutation(len(records))[:SAMPLE_TEXTS]
    chosen = records.select(order)
    pairs = [chosen.table["text_pair"].to_pylist()] if chosen.has("text_pair") else []
    sample, characters = [], 0
    for row in zip(chosen.texts, *pairs, strict=True):
        sample.append(tuple((text or "")[:TEXT_CHARACTERS] for text in row))
        characters += sum(map(len, sample[-1]))
        if characters >= SAMPLE_CHARACTERS:
            break
    return sample


def measure(tokenizer: Any, limit: int, sample: Sequence[tuple[str, ...]], words: int) -> TokenizerFit:
    """Tokenise the sample.

    Args:
        limit: tokens that the model reads.
        sample: texts, or pairs of texts; at least one.
        words: in all of them.
    """
    parts = len(sample[0])
    texts = [text for row in sample for text in row]
    ids = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    pieces = np.array([len(one) for one in ids], dtype=np.int64)
    unknown = sum(one.count(tokenizer.unk_token_id) for one in ids) if tokenizer.unk_token_id is not None else 0
    lengths = pieces.reshape(-1, parts).sum(axis=1) + tokenizer.num_special_tokens_to_add(pair=parts == 2)
    total = int(pieces.sum())
    return TokenizerFit(
        pieces_per_word=round(total / words, 3),
        unknown=round(unknown / max(total, 1), 4),
        cut=round(float((lengths > limit).mean()), 4),
        tokens_99=int(np.quantile(lengths, 0.99, method="higher")),
        limit=limit,
    )
