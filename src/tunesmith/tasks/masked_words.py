"""Masked language modelling: texts as blocks of full length, and the words of each that are masked.

Devlin et al. 2019: 15 % of the tokens are predicted; of these 80 % are replaced by the mask, 10 % by a random token,
10 % stay. All pieces of a word are predicted together. Texts are packed as in Liu et al. 2019 (full sentences): one
after the other with a separator between them, cut into blocks of equal length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.records import Records
from tunesmith.data.shapes import TEXTS
from tunesmith.data.words import word_bounds
from tunesmith.errors import ModelError
from tunesmith.evaluation.baselines import Baseline
from tunesmith.evaluation.metrics import PERPLEXITY, Metrics, Statistics
from tunesmith.tasks.base import LabelSpace, Task
from tunesmith.tasks.batching import PREDICTED
from tunesmith.tasks.encoded import LEARNED, Encoded
from tunesmith.tasks.encoding import IGNORED, Encoder, chunks, require_offsets
from tunesmith.tasks.predictions import Prediction

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tunesmith.tasks.losses import Loss

SHARE_MASK, SHARE_RANDOM = 0.8, 0.1
SHORTEST, LONGEST = 128, 512
"""Tokens of a block between which the length of the texts decides."""


@dataclass(frozen=True)
class Vocabulary:
    """What masking must know of a tokenizer.

    Attributes:
        mask: id of the mask token.
        special: int64, ids that are never predicted and never drawn.
        ordinary: int64, all other ids.
        front, back: int32, the special tokens around an input.
    """

    mask: int
    special: np.ndarray
    ordinary: np.ndarray
    front: np.ndarray
    back: np.ndarray

    @classmethod
    def of(cls, tokenizer: Any, name: str) -> Vocabulary:
        """For a tokenizer.

        Args:
            name: of its model, for errors.

        Raises:
            ModelError: it has no mask token, or does not know where in a text its pieces stand.
        """
        require_offsets(tokenizer, name)
        if tokenizer.mask_token_id is None:
            raise ModelError(
                f"model {name}: its tokenizer has no mask token, so its words cannot be masked; give an encoder"
            )
        special = np.unique(np.asarray(tokenizer.all_special_ids, dtype=np.int64))
        found = tokenizer("a", return_special_tokens_mask=True)
        ids = np.asarray(found["input_ids"], dtype=np.int32)
        inner = np.flatnonzero(np.asarray(found["special_tokens_mask"]) == 0)
        first, last = (int(inner[0]), int(inner[-1]) + 1) if len(inner) else (len(ids), len(ids))
        ordinary = np.setdiff1d(np.arange(len(tokenizer)), special)
        return cls(int(tokenizer.mask_token_id), special, ordinary, ids[:first], ids[last:])


@dataclass(frozen=True)
class Stream:
    """Tokens of all texts, one text after the other, with a separator between them.

    Attributes:
        ids: (tokens,) int32, memory-mapped.
        begins: (tokens,) bool, whether the token is the first of a word (or a separator).
        texts: number of texts.
        known: number of tokens that can be predicted.
        unknown: number of tokens of the texts that stand for nothing the model has learned.
    """

    ids: np.ndarray
    begins: np.ndarray
    texts: int
    known: int
    unknown: int


def tokenise(texts: pa.ChunkedArray, encoder: Encoder, vocabulary: Vocabulary) -> Stream:
    """Tokenise strings into files, a chunk at a time; ``.ids`` and ``.begins`` are put behind the encoder's name.

    Words are those of the text, whatever the tokenizer.
    """
    assert encoder.file is not None
    files = encoder.file.with_suffix(".ids"), encoder.file.with_suffix(".begins")
    separator, known = vocabulary.back[-1:], 0
    with files[0].open("wb") as ids_file, files[1].open("wb") as begins_file:
        for part in chunks(pc.utf8_length(texts).to_numpy()):
            chunk = texts.slice(part.start, part.stop - part.start).to_pylist()
            encoded = encoder.tokenizer(
                chunk, add_special_tokens=False, return_attention_mask=False, return_offsets_mapping=True, verbose=False
            )
            rows = zip(chunk, encoded["input_ids"], encoded["offset_mapping"], strict=True)
            pieces, begins = [], []
            for number, (text, ids, offsets) in enumerate(rows, part.start):
                if number > 0:
                    pieces.append(separator)
                    begins.append(np.ones(len(separator), dtype=bool))
                pieces.append(np.array(ids, dtype=np.int32))
                begins.append(_word_starts(text, offsets))
            tokens = np.concatenate(pieces)
            known += int(np.isin(tokens, vocabulary.special, invert=True).sum())
            ids_file.write(tokens.tobytes())
            begins_file.write(np.concatenate(begins).tobytes())
            if encoder.progress:
                encoder.progress(len(chunk))
    if not files[0].stat().st_size:
        return Stream(np.empty(0, dtype=np.int32), np.empty(0, dtype=bool), len(texts), 0, 0)
    memory = np.memmap(files[0], dtype=np.int32, mode="r"), np.memmap(files[1], dtype=bool, mode="r")
    unknown = len(memory[0]) - known - len(separator) * (len(texts) - 1)
    return Stream(*memory, len(texts), known, unknown)


def _word_starts(text: str, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """Which pieces of a text are the first of a word, bool (pieces,), by their first character and the one after it.

    A piece with white space before it counts for the word of its last character.
    """
    last = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)[:, 1] - 1
    words = np.searchsorted(word_bounds(text, coarse=True)[0], last, side="right")
    starts: np.ndarray = np.diff(words, prepend=-1) != 0
    return starts


def choose_block_length(stream: Stream, limit: int, wanted: int | str) -> int:
    """Tokens of a block: what was asked for, or the mean length of the texts between 128 and 512; at most `limit`."""
    if wanted != "auto":
        return min(int(wanted), limit)
    mean = round(len(stream.ids) / max(1, stream.texts))
    return min(limit, max(SHORTEST, min(LONGEST, mean)))


@dataclass
class MaskedBlocks(Encoded):
    """Blocks of a stream with masks that depend on (seed, phase, epoch, row) and nothing else.

    Attributes:
        stream: the tokens; every one is in exactly one block, in order.
        length: tokens of a block, special tokens included; the last block may be shorter.
        share: of the tokens that is predicted.
        seed: of the masks.
        phase: of the training; the masks of different phases are different, too.
        epoch: whose masks are taken.
    """

    stream: Stream
    vocabulary: Vocabulary
    length: int
    share: float
    seed: int
    phase: str = "step"
    epoch: int = 0
    lengths: np.ndarray = field(init=False, repr=False)
    read: ClassVar[tuple[str, ...]] = LEARNED

    def __post_init__(self) -> None:
        self.inner = max(1, self.length - len(self.vocabulary.front) - len(self.vocabulary.back))
        self.lengths = np.full(-(-len(self.stream.ids) // self.inner), self.length, dtype=np.int32)
        self.lengths[-1:] -= len(self.lengths) * self.inner - len(self.stream.ids)

    def begin_epoch(self, epoch: int) -> None:
        """Take the masks of an epoch."""
        self.epoch = epoch

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        """``input_ids`` and ``labels`` (length,) int64; labels are `IGNORED` where nothing is predicted."""
        part = slice(row * self.inner, (row + 1) * self.inner)
        ids = np.asarray(self.stream.ids[part], dtype=np.int64)
        phase = int.from_bytes(self.phase.encode()[:4], "little")
        generator = np.random.default_rng((self.seed, phase, self.epoch, row))
        inputs, labels = mask_words(ids, np.asarray(self.stream.begins[part]), self.vocabulary, self.share, generator)
        front, back = self.vocabulary.front, self.vocabulary.back
        return {
            "input_ids": np.concatenate([front, inputs, back]).astype(np.int64),
            "labels": np.pad(labels, (len(front), len(back)), constant_values=IGNORED),
        }


def mask_words(
    ids: np.ndarray, begins: np.ndarray, vocabulary: Vocabulary, share: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mask whole words, in random order, until their tokens are as close to the share as they can be (one at least).

    Args:
        ids: (n,) int64.
        begins: (n,) bool, whether the token is the first of a word.

    Returns:
        What the model reads and what it is to predict, both (n,) int64.
    """
    labels = np.full(len(ids), IGNORED, dtype=np.int64)
    word = np.cumsum(begins) - begins[0]
    allowed = ~np.isin(ids, vocabulary.special)
    sizes = np.bincount(word, weights=allowed)
    order = generator.permutation(np.flatnonzero(sizes))
    if not len(order):
        return ids, labels
    taken = np.abs(np.cumsum(sizes[order]) - share * allowed.sum()).argmin() + 1
    chosen = np.flatnonzero(allowed & np.isin(word, order[:taken]))
    labels[chosen] = ids[chosen]
    draw = generator.random(len(chosen))
    inputs = ids.copy()
    inputs[chosen[draw < SHARE_MASK]] = vocabulary.mask
    random = chosen[(draw >= SHARE_MASK) & (draw < SHARE_MASK + SHARE_RANDOM)]
    inputs[random] = generator.choice(vocabulary.ordinary, len(random))
    return inputs, labels


class MaskedWords(Task):
    """Read the words that are masked from those around them: what adapting a model to a domain learns.

    Outputs are (blocks, 2) float64: the summed loss of a block's predicted tokens, and their number.

    Args:
        vocabulary: of the model's tokenizer.
        share: of the tokens that is predicted.
        seed: of the masks.
    """

    name = "masked_words"
    title = "masked words"
    shape = TEXTS
    head = "masked"
    metrics: ClassVar[Metrics] = {"perplexity": PERPLEXITY}
    primary_metric = "perplexity"

    def __init__(self, vocabulary: Vocabulary, share: float, seed: int) -> None:
        self.vocabulary, self.share, self.seed = vocabulary, share, seed

    def labels(self, train: Records) -> LabelSpace:
        return LabelSpace(())

    def targets(self, records: Records, space: LabelSpace) -> None:
        """The words of the texts themselves."""

    def encode(self, records: Records, space: LabelSpace, encoder: Encoder, labelled: bool) -> Any:
        stream = tokenise(records.table["text"], encoder, self.vocabulary)
        return MaskedBlocks(stream, self.vocabulary, encoder.truncation.max_tokens, self.share, self.seed)

    def loss(self, label_smoothing: float, class_weights: torch.Tensor | None) -> Loss:
        from tunesmith.tasks.losses import MaskedCrossEntropy

        return MaskedCrossEntropy()

    def infer(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        import torch
        from torch.nn import functional

        from tunesmith.tasks.losses import at_predicted

        inputs = {name: value for name, value in batch.items() if name != "labels"}
        logits = at_predicted(model(**inputs)["logits"], batch[PREDICTED]).cpu()
        labels, predicted = batch["labels"].cpu(), batch[PREDICTED].cpu()
        losses = functional.cross_entropy(logits, labels[predicted], reduction="none").double()
        sums = torch.bincount(predicted.nonzero()[:, 0], losses, len(labels))
        return torch.stack([sums, predicted.sum(dim=1).double()], dim=1)

    def outputs(self, logits: np.ndarray, features: Any, space: LabelSpace) -> np.ndarray:
        return logits

    def decode(self, outputs: np.ndarray, space: LabelSpace) -> list[Prediction]:
        return []

    def statistics(self, space: LabelSpace) -> Statistics:
        return _perplexity

    def arrays(self, outputs: np.ndarray, targets: Any, space: LabelSpace) -> tuple[np.ndarray, ...]:
        return outputs[:, 0], outputs[:, 1]

    def right(self, outputs: np.ndarray, targets: Any, space: LabelSpace) -> None:
        """Blocks are neither right nor wrong."""

    def baselines(self, train: Records, test: Records, space: LabelSpace, seed: int) -> list[Baseline]:
        return []


def _perplexity(sums: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return {"perplexity": np.exp((sums @ weights) / (counts @ weights))}
