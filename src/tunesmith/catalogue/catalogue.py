"""Good starting points, as data: what `catalogue.csv` says of each, and a choice by domain and language.

The file has one model a line, by domain and then by size. A cell is empty where nothing certain is known. Nothing here
needs the network, or torch.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tunesmith.errors import UsageError
from tunesmith.registry import did_you_mean

Domain = Literal["general", "biomedical", "clinical", "legal", "finance", "scientific", "code", "social-media"]
DOMAINS: tuple[str, ...] = get_args(Domain)
MULTILINGUAL = "multilingual"
LANGUAGE = rf"[a-z]{{2}}|{MULTILINGUAL}"


class Entry(BaseModel):
    """One starting point.

    Attributes:
        id: name on the Hub, or of a packaged model.
        domain: of the texts it was trained on.
        languages: two-letter codes of ISO 639-1, the main one first, or ``multilingual`` (about a hundred).
        millions: parameters in millions, without a task's head.
        licence: SPDX-like identifier as the publisher gives it, or None where none is stated.
        context: longest input in tokens.
        family: `model_type` in transformers.
        pooling: how its sentence vector is made: as its publisher trained it (first token, mean), or by the
            architecture's own head, as it is no sentence encoder.
        safetensors: whether its own repository has its weights in that format, or None where that is not known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")
    domain: Domain
    languages: tuple[Annotated[str, Field(pattern=rf"^({LANGUAGE})$")], ...] = Field(min_length=1)
    millions: float = Field(gt=0)
    licence: str | None
    context: int = Field(gt=0)
    family: str = Field(min_length=1)
    pooling: Literal["head", "mean", "first"]
    safetensors: bool | None

    @field_validator("languages", mode="before")
    @classmethod
    def _separate(cls, value: Any) -> Any:
        return value.split() if isinstance(value, str) else value

    @field_validator("licence", "safetensors", mode="before")
    @classmethod
    def _stated(cls, value: Any) -> Any:
        return {"yes": True, "no": False, "": None}.get(value, value)


@dataclass(frozen=True)
class TokenizerFit:
    """What a tokenizer makes of a sample of texts (see `tunesmith.catalogue.tokenizer_fit`).

    Attributes:
        pieces_per_word: tokens, without special ones, for each word (see `tunesmith.data.words`).
        unknown: share of these tokens that stand for "unknown".
        cut: share of texts that are longer than the model reads, special tokens included.
        tokens_99: length in tokens that 99 % of the texts do not exceed.
        limit: tokens that the model reads.
    """

    pieces_per_word: float
    unknown: float
    cut: float
    tokens_99: int
    limit: int

    def rank(self) -> tuple[float, float]:
        """Smaller is better: what is lost (share of texts cut and share of unknown tokens, added, in whole per cent),
        then pieces a word."""
        return round(self.cut + self.unknown, 2), self.pieces_per_word


@dataclass(frozen=True, repr=False)
class Suggestion:
    """A model to begin with.

    Attributes:
        name: for ``--model``.
        entry: what the catalogue says of it; None for a folder.
        fit: to the texts that were given; None where it was not measured.
        reason: why it was not, where texts were given.
    """

    name: str
    entry: Entry | None
    fit: TokenizerFit | None = None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values; `fit` and `reason` only where texts were given."""
        facts = self.entry.model_dump() if self.entry else {"id": self.name}
        measured = {"fit": vars(self.fit) if self.fit else None, "reason": self.reason}
        return facts | (measured if self.fit or self.reason else {})

    def __repr__(self) -> str:
        return f"Suggestion({self.name!r}{f', {self.fit}' if self.fit else ''})"


@cache
def catalogue() -> tuple[Entry, ...]:
    """Every starting point, in the order of the file."""
    text = files("tunesmith.catalogue").joinpath("catalogue.csv").read_text(encoding="utf-8")
    return tuple(map(Entry.model_validate, csv.DictReader(text.splitlines())))


def select(domain: str | None = None, language: str | None = None) -> list[Entry]:
    """The starting points for a domain and a language, models of that language before multilingual ones.

    Raises:
        UsageError: there is no such domain or language in the catalogue.
    """
    domain, language = (value.strip().lower() if value else None for value in (domain, language))
    languages = {code for entry in catalogue() for code in entry.languages}
    problems = []
    if domain is not None and domain not in DOMAINS:
        problems.append(f"`domain`: the catalogue has no domain {domain!r}; {_choice(domain, DOMAINS)}")
    if language is not None and language not in languages:
        hint = f"{_choice(language, languages)}; other languages: try {MULTILINGUAL}"
        problems.append(f"`language`: the catalogue has no model of its own for {language!r}; {hint}")
    if problems:
        raise UsageError(problems)
    chosen = [entry for entry in catalogue() if domain in (None, entry.domain)]
    if language is None:
        return chosen
    own = [entry for entry in chosen if language in entry.languages]
    return own + [entry for entry in chosen if entry not in own and MULTILINGUAL in entry.languages]


def _choice(name: str, known: Iterable[str]) -> str:
    """The nearest names, and all of them."""
    hint, every = did_you_mean(name, known), f"known: {', '.join(sorted(known))}"
    return hint if hint == every else f"{hint} {every}"
