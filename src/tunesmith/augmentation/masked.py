"""Words that a masked-language model reads in a word's place (Kobayashi 2018; Wu et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.special import softmax

from tunesmith.augmentation.edits import Edit, Passage
from tunesmith.augmentation.techniques import Materials, Technique, written_like
from tunesmith.config.schema import Config, SourceSettings
from tunesmith.errors import ModelError
from tunesmith.models.loading import load_config, load_tokenizer, token_limit
from tunesmith.models.masked import head_at_predicted, load_masked
from tunesmith.models.source import Source, find_source
from tunesmith.tasks.batching import PREDICTED, PaddingCollator, batches_by_tokens
from tunesmith.training.precision import choose_device

PROPOSALS = 10
"""A word's place is taken by one of so many, drawn by their probability."""
LOGITS_PER_BATCH = 32 * 2**20
ROWS_PER_BATCH = 64

Bounds = tuple[int, int]
Best = tuple[np.ndarray, np.ndarray]


def masked_source(config: Config) -> Source:
    """The model that proposes words: the one that is named for it, else the one that is trained.

    Raises:
        ModelError: see `find_source`.
    """
    settings: SourceSettings = config.model
    if other := config.augmentation.masked_model:
        settings = settings.model_copy(update={"name": other, "revision": None})
    return find_source(settings)


class Masked(Technique):
    """Words replaced by what the model reads in their place: whole words of letters, never the one that stood there."""

    def __init__(self, materials: Materials) -> None:
        super().__init__(materials)
        source = masked_source(materials.config)
        self.tokenizer: Any = load_tokenizer(source)
        if self.tokenizer.mask_token_id is None:
            raise ModelError(
                f"model {source.name}: its tokenizer has no mask token; name a masked-language model with "
                "augmentation.masked_model=MODEL"
            )
        self.limit = token_limit(load_config(source), self.tokenizer)
        model, fresh = load_masked(source, self.tokenizer, materials.config.training.seed)
        if fresh:
            raise ModelError(
                f"model {source.name}: its checkpoint has no masked-language head; make one with "
                f"`tunesmith adapt TEXTS --model {source.name} --out DIR`, then augmentation.masked_model=DIR"
            )
        self.model: Any = model.to(choose_device()).eval()

    def edits(self, passages: Sequence[Passage]) -> Iterator[list[Edit]]:
        wanted: list[list[Bounds]] = []
        for passage in passages:
            letters = [(start, end) for start, end in passage.words if passage.text[start:end].isalpha()]
            wanted.append(passage.some(self.materials.count(passage), letters))
        rows, places = self._with_masks(passages, wanted)
        best = self._best(rows, places)
        for passage, words, own in zip(passages, wanted, places, strict=True):
            seen = [word for word, place in zip(words, own, strict=True) if place is not None]
            edits = [(word, self._proposal(passage, word, next(best))) for word in seen]
            yield [Edit(*word, proposal) for word, proposal in edits if proposal is not None]

    def _with_masks(
        self, passages: Sequence[Passage], wanted: Sequence[Sequence[Bounds]]
    ) -> tuple[list[list[int]], list[list[int | None]]]:
        """Token ids of each text, one mask for each wanted word; where the masks are, None for a word that is cut."""
        rows: list[list[int]] = []
        places: list[list[int | None]] = []
        if not passages:
            return rows, places
        texts = [passage.text for passage in passages]
        encoded = self.tokenizer(texts, truncation=True, max_length=self.limit, return_offsets_mapping=True)
        for ids, offsets, words in zip(encoded["input_ids"], encoded["offset_mapping"], wanted, strict=True):
            starts, ends = np.array(offsets, dtype=np.int64).reshape(-1, 2).T
            row, own, at = [], list[int | None](), 0
            for start, end in words:
                pieces = np.flatnonzero((ends > start) & (starts < end) & (ends > starts))
                if not len(pieces) or ends[pieces[-1]] < end or pieces[0] < at:
                    own.append(None)
                    continue
                row += ids[at : pieces[0]]
                own.append(len(row))
                row.append(self.tokenizer.mask_token_id)
                at = int(pieces[-1]) + 1
            rows.append(row + ids[at:])
            places.append(own)
        return rows, places

    def _best(self, rows: Sequence[list[int]], places: Sequence[Sequence[int | None]]) -> Iterator[Best]:
        """For each mask, in order, the most probable words in its place and their logits, best first."""
        own = [[place for place in masks if place is not None] for masks in places]
        first = np.cumsum([0, *map(len, own)])
        ids, collate = torch.from_numpy(self.vocabulary[0]), PaddingCollator.of(self.tokenizer, "token")
        shape = int(first[-1]), min(PROPOSALS + 1, len(ids))
        words, logits = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.float32)
        masked = np.array([i for i, masks in enumerate(own) if masks], dtype=np.int64)
        lengths = np.array([len(rows[i]) for i in masked], dtype=np.int64)
        tokens = LOGITS_PER_BATCH // len(self.tokenizer)
        with head_at_predicted(self.model) as spared, torch.inference_mode():
            for batch in batches_by_tokens(lengths, tokens, ROWS_PER_BATCH):
                inputs = collate([{"input_ids": rows[masked[i]]} for i in batch])
                at = np.concatenate([np.arange(first[i], first[i + 1]) for i in masked[batch]])
                predicted = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
                for row, i in zip(predicted, masked[batch].tolist(), strict=True):
                    row[own[i]] = True
                inputs[PREDICTED] = predicted
                found = self.model(**{name: value.to(self.model.device) for name, value in inputs.items()}).logits
                top = (found[0] if spared else found[predicted])[:, ids].float().topk(shape[1])
                words[at], logits[at] = top.indices.cpu().numpy(), top.values.cpu().numpy()
        return zip(words, logits, strict=True)

    @cached_property
    def vocabulary(self) -> tuple[np.ndarray, list[str]]:
        """Ids, int64 (words,), and the words they stand for: those that are one token at the beginning of a word."""
        special = set(self.tokenizer.all_special_ids)
        texts = [text.strip() for text in self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])]
        again = self.tokenizer([f" {text}" for text in texts], add_special_tokens=False)["input_ids"]
        words = {
            i: text
            for i, (text, ids) in enumerate(zip(texts, again, strict=True))
            if ids == [i] and i not in special and text.isalpha() and (len(text) > 1 or not text.isascii())
        }
        return np.array(list(words), dtype=np.int64), list(words.values())

    def _proposal(self, passage: Passage, word: Bounds, best: Best) -> str | None:
        here, texts = passage.text[slice(*word)], [self.vocabulary[1][i] for i in best[0]]
        others = [i for i, text in enumerate(texts) if text.casefold() != here.casefold()][:PROPOSALS]
        if not others:
            return None
        chosen = passage.draw.choice(others, p=softmax(best[1][others].astype(np.float64)))
        return written_like(here, texts[chosen])
