"""What the answers of a model are compared with: those that it gave to the validation rows of its run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.artefact.folder import Artefact, Histogram
from tunesmith.disk import read_json_lines
from tunesmith.models.sealed import is_artefact
from tunesmith.serve.asking import Item
from tunesmith.serve.drift import Binned, Drift
from tunesmith.tasks.predictions import Prediction

NONE = "∅"
"""What is counted where there is no label, entity or answer."""
ANSWERED = "answer"


@dataclass
class Reference:
    """Which kinds of answers and texts the validation rows had.

    Attributes:
        drifts: of ``labels`` and ``lengths`` (characters), where validation rows are known.
    """

    drifts: dict[str, Drift]
    _lengths: Binned
    _values: Binned | None

    @classmethod
    def of(cls, folder: Path, labels: str) -> Reference:
        """What a run, or an artefact, says of its validation rows; nothing is compared where it says nothing.

        Args:
            labels: what the model answers with; see `tunesmith.data.shapes`.
        """
        return cls.of_artefact(folder, labels) if is_artefact(folder) else cls.of_run(folder, labels)

    @classmethod
    def of_artefact(cls, folder: Path, labels: str) -> Reference:
        """From the histograms of an artefact; arguments as of `of`."""
        found = Artefact.load(folder).validation
        number = labels == "number"
        if found is None:
            return cls({}, Binned([]), Binned([]) if number else None)
        kinds = _counts(found.values) if found.values else found.kinds
        drifts = {"labels": Drift(kinds), "lengths": Drift(_counts(found.characters))}
        values = Binned(found.values.edges if found.values else []) if number else None
        return cls(drifts, Binned(found.characters.edges), values)

    @classmethod
    def of_run(cls, folder: Path, labels: str) -> Reference:
        """From the predictions of a run; arguments as of `of`."""
        try:
            rows = read_json_lines(folder / "predictions" / "valid.jsonl")
            lengths = [float(len(row["text"]) + len(row.get("text_pair") or "")) for row in rows]
            said = [row["prediction"] for row in rows]
            numbers = [float(one) for one in said] if labels == "number" else None
        except (OSError, ValueError, KeyError, TypeError):
            return cls({}, Binned([]), Binned([]) if labels == "number" else None)
        binned, values = Binned.of(lengths), None if numbers is None else Binned.of(numbers)
        counts = (
            Counter(kind for one in said for kind in _kinds_of_row(one, labels))
            if values is None or numbers is None
            else values.counts(numbers)
        )
        return cls({"labels": Drift(counts), "lengths": Drift(binned.counts(lengths))}, binned, values)

    def see(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> list[tuple[str, ...]]:
        """The kinds of each answer, which are remembered."""
        if self._values is not None:
            kinds: list[tuple[str, ...]] = list(self._values.kinds(one.value or 0.0 for one in predictions))
        else:
            kinds = [_kinds(one) for one in predictions]
        if self.drifts:
            lengths = (float(len(item) if isinstance(item, str) else sum(map(len, item))) for item in items)
            self.drifts["labels"].add(kinds)
            self.drifts["lengths"].add(self._lengths.kinds(lengths))
        return [] if self._values is not None else kinds


def _counts(found: Histogram) -> dict[str, float]:
    return {str(number): count for number, count in enumerate(found.counts)}


def _kinds(one: Prediction) -> tuple[str, ...]:
    if one.spans is not None:
        return tuple(span.label for span in one.spans) or (NONE,)
    if one.answers is not None:
        return (ANSWERED if one.answer else NONE,)
    return (one.label or NONE,) if isinstance(one.label, str | None) else tuple(map(str, one.label)) or (NONE,)


def _kinds_of_row(said: Any, labels: str) -> tuple[str, ...]:
    """The same of a line of ``predictions/valid.jsonl``."""
    if labels == "answers":
        return (ANSWERED if said else NONE,)
    if isinstance(said, list):
        return tuple(one["label"] if isinstance(one, dict) else str(one) for one in said) or (NONE,)
    return (str(said),)
