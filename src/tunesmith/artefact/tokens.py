"""A tokenizer without transformers: what `tunesmith.tasks.encoding` asks of one, over the `tokenizers` library alone.

A tokenizer of transformers is that library's, called with settings that stand beside it in other files. Those that
change what comes out are kept as `TokenizerFacts`; the rest is in ``tokenizer.json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field
from tokenizers import Encoding, Tokenizer

from tunesmith.disk import parse_json, read_plain
from tunesmith.errors import ModelError
from tunesmith.manifest import Part
from tunesmith.models.gate.tokens import check_tokenizer

FILE = "tokenizer.json"
MOST_BYTES = 128 * 2**20
STRATEGIES = {True: "longest_first", "only_first": "only_first", "only_second": "only_second"}
Side = Literal["left", "right"]


class TokenizerFacts(Part):
    """What a tokenizer of transformers knows besides its ``tokenizer.json``."""

    pad_token_id: int = Field(ge=0)
    padding_side: Side
    truncation_side: Side
    model_input_names: list[str]
    split_special_tokens: bool
    """Special tokens that stand in a text are taken for text."""

    @classmethod
    def of(cls, tokenizer: Any) -> Self:
        """Those of a tokenizer of transformers.

        Raises:
            ModelError: it is none of the `tokenizers` library.
        """
        if not tokenizer.is_fast:
            name = type(tokenizer).__name__
            raise ModelError(f"its tokenizer ({name}) is written in Python, which an artefact does not hold")
        return cls(
            pad_token_id=int(tokenizer.pad_token_id),
            padding_side=tokenizer.padding_side,
            truncation_side=tokenizer.truncation_side,
            model_input_names=list(tokenizer.model_input_names),
            split_special_tokens=bool(tokenizer.split_special_tokens),
        )


class Tokenised(dict[str, Any]):
    """Lists by name, an entry for each text, or for each window of each text."""

    def __init__(self, encodings: Sequence[Encoding], **columns: Any) -> None:
        super().__init__(columns)
        self._encodings = encodings

    def sequence_ids(self, at: int) -> list[int | None]:
        """Of each token of an entry: whether it stands in the first text (0), the second (1), or in none."""
        return list(self._encodings[at].sequence_ids)


class Tokens:
    """Stands where a tokenizer of transformers does, and gives the same tokens.

    Args:
        backend: the tokenizer.
        facts: what else is known of it.
        name: what errors call it.
    """

    is_fast = True

    def __init__(self, backend: Tokenizer, facts: TokenizerFacts, name: str) -> None:
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = facts.split_special_tokens
        self.backend_tokenizer, self.name_or_path, self._facts = backend, name, facts
        self.pad_token_id, self.padding_side = facts.pad_token_id, facts.padding_side
        self.model_input_names = facts.model_input_names

    @classmethod
    def load(cls, folder: Path, facts: TokenizerFacts) -> Self:
        """Raises ModelError where the file in the folder is damaged, or holds what takes too long."""
        file = folder / FILE
        try:
            content = read_plain(file, MOST_BYTES)
            problems = list(check_tokenizer(str(file), parse_json(content)))
        except (OSError, ValueError) as error:
            raise ModelError(f"{file}: cannot be read ({error}); export the model again") from None
        if problems:
            raise ModelError(problems)
        try:
            return cls(Tokenizer.from_str(content.decode()), facts, str(folder))
        except BaseException as error:  # native code panics with what is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | MemoryError):
                raise
            said = " ".join(str(error).split())[:300]
            raise ModelError(f"{file}: no tokenizer ({said}); export the model again") from None

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return int(self.backend_tokenizer.num_special_tokens_to_add(pair))

    def __call__(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        add_special_tokens: bool = True,
        truncation: bool | str = False,
        max_length: int | None = None,
        stride: int = 0,
        return_overflowing_tokens: bool = False,
        return_offsets_mapping: bool = False,
        verbose: bool = False,
    ) -> Tokenised:
        """Arguments as of a tokenizer of transformers.

        Returns:
            ``input_ids`` and, where the model reads them, ``token_type_ids``; ``offset_mapping`` and
            ``overflow_to_sample_mapping`` where asked for.
        """
        backend = self.backend_tokenizer
        if truncation:
            assert max_length is not None
            backend.enable_truncation(
                max_length, stride=stride, strategy=STRATEGIES[truncation], direction=self._facts.truncation_side
            )
        else:
            backend.no_truncation()
        inputs: Any = texts if pairs is None else list(zip(texts, pairs, strict=True))
        places = return_offsets_mapping or return_overflowing_tokens
        encode = backend.encode_batch if places else backend.encode_batch_fast  # which knows no places
        first = encode(inputs, add_special_tokens=add_special_tokens)
        more = return_overflowing_tokens
        of = [at for at, one in enumerate(first) for _ in range(1 + (len(one.overflowing) if more else 0))]
        encodings = [part for one in first for part in (one, *one.overflowing)] if more else first
        columns: dict[str, Any] = {"input_ids": [one.ids for one in encodings]}
        if "token_type_ids" in self.model_input_names:
            columns["token_type_ids"] = [one.type_ids for one in encodings]
        if return_offsets_mapping:
            columns["offset_mapping"] = [one.offsets for one in encodings]
        if more:
            columns["overflow_to_sample_mapping"] = of
        return Tokenised(encodings, **columns)


def save_tokenizer(tokenizer: Any, folder: Path) -> TokenizerFacts:
    """Write what `Tokens.load` reads.

    Raises:
        ModelError: see `TokenizerFacts.of`.
    """
    facts = TokenizerFacts.of(tokenizer)
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_padding()
    backend.no_truncation()
    (folder / FILE).write_text(backend.to_str(), encoding="utf-8")
    return facts
