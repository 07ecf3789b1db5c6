"""From the body of a request to what is to be predicted; whatever else it holds is refused."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tunesmith.data.records import SURROGATE
from tunesmith.disk import parse_json
from tunesmith.errors import UsageError
from tunesmith.predictor import Predictor
from tunesmith.serve.limits import Limits
from tunesmith.serve.replies import Refused
from tunesmith.text import name_list

Item = str | tuple[str, str]
"""A text; or two of them, of a question the context is the second."""
DEPTH = 8
"""Levels of a body: more than any request needs."""


@dataclass(frozen=True)
class Form:
    """How a request writes an item for the model.

    Attributes:
        keys: of the two texts of an object; empty where an item is a text.
    """

    keys: tuple[str, ...]

    @classmethod
    def of(cls, predictor: Predictor) -> Form:
        if predictor.task.shape.labels == "answers":
            return cls(("question", "context"))
        return cls(("text", "text_pair") if predictor.layout.text_pair is not None else ())

    @property
    def name(self) -> str:
        return {(): "text", ("question", "context"): "question"}.get(self.keys, "pair")

    @property
    def words(self) -> str:
        return f"an object of {' and '.join(map(repr, self.keys))}" if self.keys else "a text"

    def item(self, value: Any, limits: Limits, where: str) -> Item:
        """
        Args:
            where: what an error calls it.

        Raises:
            Refused: it is no item, or too long.
        """
        found: list[Any] = [value]
        if self.keys:
            if not isinstance(value, dict) or value.keys() != set(self.keys):
                raise Refused(422, f"{where}: expected {self.words}")
            found = [value[key] for key in self.keys]
        for text in found:
            if not isinstance(text, str):
                raise Refused(422, f"{where}: expected {self.words}, as JSON strings")
            if len(text) > limits.characters:
                raise Refused(422, f"{where}: expected at most {limits.characters:,} characters, found {len(text):,}")
            if SURROGATE.search(text):
                raise Refused(422, f"{where}: half of a character (a lone surrogate), which is no text")
        return (found[0], found[1]) if self.keys else found[0]


@dataclass(frozen=True)
class Asked:
    """A request for predictions.

    Attributes:
        items: what is to be predicted.
        many: whether a list was given, which gets a list.
        top_k, threshold: as of `tunesmith.Predictor.predict`.
    """

    items: list[Item]
    many: bool
    top_k: int | None
    threshold: float | None

    @classmethod
    def of(cls, body: bytes, form: Form, predictor: Predictor, limits: Limits) -> Asked:
        """
        Raises:
            Refused: the body is no JSON (400), or not what is expected (422).
        """
        value = read_object(body, ("input", "inputs", "top_k", "threshold"))
        if ("input" in value) == ("inputs" in value):
            raise Refused(422, "expected either 'input', one item, or 'inputs', a list of them")
        many = "inputs" in value
        given = value["inputs"] if many else [value["input"]]
        if not isinstance(given, list) or not given:
            raise Refused(422, "inputs: expected a list of one item or more")
        if len(given) > limits.items:
            raise Refused(422, f"inputs: expected at most {limits.items:,} items, found {len(given):,}")
        items = [form.item(one, limits, f"inputs[{number}]" if many else "input") for number, one in enumerate(given)]
        return cls(items, many, *narrowing(value.get("top_k"), value.get("threshold"), predictor))


def read_object(body: bytes, keys: Collection[str]) -> dict[str, Any]:
    """The object that a body is.

    Args:
        keys: that it may have.

    Raises:
        Refused: it is no JSON in UTF-8, or something else.
    """
    try:
        value = parse_json(body, DEPTH)
    except UnicodeDecodeError as error:
        raise Refused(400, f"expected JSON in UTF-8; byte {error.start} of the body is not") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Refused(400, f"expected JSON ({error.msg}: {where})") from None
    except ValueError:  # its words repeat the key that stands twice
        what = f"no key twice, no NaN, no number of thousands of digits, at most {DEPTH} levels"
        raise Refused(400, f"expected strict JSON: {what}") from None
    if not isinstance(value, dict):
        raise Refused(422, "expected a JSON object")
    if not value.keys() <= set(keys):
        raise Refused(422, f"unknown key; expected {name_list(keys)}")
    return value


def whole(value: Any) -> int | None:
    """A whole number of JSON, which does not tell 3 from 3.0; None for anything else."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def narrowing(top_k: Any, threshold: Any, predictor: Predictor) -> tuple[int | None, float | None]:
    """Both, if they suit the task.

    Raises:
        Refused: they do not.
    """
    most = whole(top_k)
    if top_k is not None and (most is None or most < 1):
        raise Refused(422, "`top_k`: expected a whole number from 1")
    number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
    if threshold is not None and not (number and 0 <= threshold <= 1):
        raise Refused(422, "`threshold`: expected a number from 0 to 1")
    try:
        predictor.require_fit(most, threshold)
    except UsageError as error:
        raise Refused(422, str(error)) from None
    return most, threshold
