"""Masked language modelling: which words are masked, and how texts become blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tunesmith.errors import ModelError
from tunesmith.tasks.encoding import IGNORED, Encoder, Truncation
from tunesmith.tasks.masked_words import MaskedBlocks, Vocabulary, mask_words, tokenise

WORDS = ["good", "bad", "great", "film", "book", "card", "bank", "money", "late", "lost", "new", "old"]

VOCABULARY = Vocabulary(4, np.arange(5), np.arange(5, 100), np.array([2]), np.array([3]))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=60), st.integers(0, 2**32 - 1))
def test_words_are_masked_whole_and_in_the_wanted_share(sizes: list[int], seed: int) -> None:
    begins = np.concatenate([np.arange(size) == 0 for size in sizes])
    ids = np.random.default_rng(seed).integers(5, 100, len(begins))
    inputs, labels = mask_words(ids, begins, VOCABULARY, 0.15, np.random.default_rng(seed))
    word = np.cumsum(begins)
    chosen = labels != IGNORED
    assert all(len(set(chosen[word == w])) == 1 for w in np.unique(word))
    assert (labels[chosen] == ids[chosen]).all() and (inputs[~chosen] == ids[~chosen]).all()
    assert chosen.any() and abs(chosen.sum() - 0.15 * len(ids)) <= max(sizes)


def test_of_the_predicted_tokens_80_percent_are_masked_and_10_are_random() -> None:
    ids = np.full(100_000, 50)
    inputs, labels = mask_words(ids, np.ones(len(ids), dtype=bool), VOCABULARY, 0.15, np.random.default_rng(0))
    chosen = labels != IGNORED
    assert chosen.mean() == pytest.approx(0.15, abs=1e-4)
    assert (inputs[chosen] == 4).mean() == pytest.approx(0.8, abs=0.02)
    assert (inputs[chosen] == 50).mean() == pytest.approx(0.1, abs=0.02)
    assert not np.isin(inputs[chosen], [0, 1, 2, 3]).any()


def test_special_tokens_are_never_predicted() -> None:
    ids = np.array([1, 3, 3, 1, 4])
    inputs, labels = mask_words(ids, np.ones(5, dtype=bool), VOCABULARY, 0.9, np.random.default_rng(0))
    assert (labels == IGNORED).all() and (inputs == ids).all()


def blocks_of(texts: list[str], tokenizer: Any, folder: Path, length: int, share: float = 0.15) -> MaskedBlocks:
    vocabulary = Vocabulary.of(tokenizer, "tiny")
    stream = tokenise(pa.array(texts, pa.large_string()), Encoder(tokenizer, Truncation(128), folder / "s"), vocabulary)
    return MaskedBlocks(stream, vocabulary, length, share, 7)


def test_blocks_hold_every_token_once_and_in_order(tiny_tokenizer: Any, tmp_path: Path) -> None:
    texts = ["my card is lost", "good", "unknownword and more", "the bank was late again"]
    blocks = blocks_of(texts, tiny_tokenizer, tmp_path, 8)
    rows = [blocks[i] for i in range(len(blocks))]
    found = np.concatenate([np.where(r["labels"] == IGNORED, r["input_ids"], r["labels"])[1:-1] for r in rows])
    separator = [tiny_tokenizer.sep_token_id]
    expected: list[int] = []
    for i, text in enumerate(texts):
        expected += (separator if i else []) + tiny_tokenizer(text, add_special_tokens=False)["input_ids"]
    assert found.tolist() == expected
    assert [len(r["input_ids"]) for r in rows[:-1]] == [8] * (len(rows) - 1) and len(rows) > 2
    assert {(int(r["input_ids"][0]), int(r["input_ids"][-1])) for r in rows} == {
        (tiny_tokenizer.cls_token_id, tiny_tokenizer.sep_token_id)
    }


def test_pieces_of_a_word_belong_together(tiny_tokenizer: Any, tmp_path: Path) -> None:
    stream = blocks_of(["my zebra card", "zebra"], tiny_tokenizer, tmp_path, 32).stream
    tokens = tiny_tokenizer.convert_ids_to_tokens(stream.ids.tolist())
    assert [t.startswith("##") for t in tokens] == [not begin for begin in stream.begins]


@pytest.mark.parametrize("kind", ["metaspace", "bytes"])
def test_words_are_those_of_the_text_whatever_the_tokenizer(kind: str, tmp_path: Path) -> None:
    """Tokenizers that see a whole text as one word, or as none."""
    text = "Good cards, lost 3.50 euros"
    letters = sorted({*text.replace(" ", ""), "▁", "Ġ"})
    if kind == "metaspace":
        inner = Tokenizer(models.Unigram([("<unk>", 0.0), *((letter, -1.0) for letter in letters)], unk_id=0))
        inner.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    else:
        inner = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(use_regex=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, mask_token="<mask>")
    stream = blocks_of([text], tokenizer, tmp_path, 64).stream
    words: list[str] = []
    for token, begins in zip(tokenizer.convert_ids_to_tokens(stream.ids.tolist()), stream.begins, strict=True):
        words += [""] * bool(begins)
        words[-1] += token.strip("▁Ġ")
    assert [word for word in words if word] == ["Good", "cards", ",", "lost", "3.50", "euros"]


def test_masks_depend_on_seed_phase_epoch_and_row_alone(tiny_tokenizer: Any, tmp_path: Path) -> None:
    blocks = blocks_of([" ".join(WORDS * 4)], tiny_tokenizer, tmp_path, 64)

    def labels(phase: str, epoch: int) -> list[int]:
        drawn = replace(blocks, phase=phase)
        drawn.begin_epoch(epoch)
        return drawn[0]["labels"].tolist()  # type: ignore[no-any-return]

    first = labels("step", 0)
    assert labels("step", 1) != first and labels("head", 0) != first
    assert labels("step", 0) == first


def test_a_tokenizer_without_offsets_is_refused() -> None:
    with pytest.raises(ModelError, match="give a model with a fast one"):
        Vocabulary.of(SimpleNamespace(is_fast=False), "slow")
