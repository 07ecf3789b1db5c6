"""The answer to "what is this file?": which columns hold what, and in which form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from tunesmith.data.records import Dialect
from tunesmith.data.shapes import Labels, RecordShape
from tunesmith.text import name_list

Form = Literal["plain", "separated", "json", "indicator", "columns", "spans", "tags", "answers"]
FORMS: dict[Labels, tuple[Form, ...]] = {
    "one": ("plain",),
    "several": ("separated", "json", "indicator", "columns"),
    "number": ("plain",),
    "spans": ("spans", "tags"),
    "answers": ("answers",),
    "none": ("plain",),
}
"""In which each kind of label may stand."""


@dataclass(frozen=True)
class Layout:
    """Which column of a file is what: found once for the training file, kept with the run and the model.

    Attributes:
        shape: what the rows hold.
        text: column of the text (of entities perhaps its tokens, of questions the question).
        text_pair: column of the second text (of questions the context), or None.
        labels: columns of the label: none, one, or several 0/1 columns.
        form: of the label: ``"plain"`` for one value a cell; several names as ``"separated"`` text, a list (``"json"``,
            or as Python writes it), a 0/1 list (``"indicator"``) or 0/1 ``"columns"``; entities as ``"spans"``, or as
            ``"tags"`` of tokens; ``"answers"``.
        separator: what stands between separated names.
        decimal: what stands before the decimals of a number, where thousands may be apart; None for Python's numbers.
        percent: numbers end in a per cent sign.
        group: column whose equal values never straddle splits, or None.
        id: column of unique identifiers, or None.
        dialect: of a CSV or TSV file, where it is not the usual one.
        notes: what the user should know about the choice.
    """

    shape: RecordShape
    text: str
    text_pair: str | None = None
    labels: tuple[str, ...] = ()
    form: Form = "plain"
    separator: str | None = None
    decimal: Literal[".", ","] | None = None
    percent: bool = False
    group: str | None = None
    id: str | None = None
    dialect: Dialect | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        return dict(_ADAPTER.dump_python(self, mode="json"))

    def contradictions(self) -> dict[str, str]:
        """What in it does not fit together, by key; nothing in one that was found in a file."""
        columns = [self.text, *self.labels] + ([] if self.text_pair is None else [self.text_pair])
        unsaid, pairs, several = not all(columns), self.text_pair is not None, self.form == "columns"
        found = {
            "form": self.form not in FORMS[self.shape.labels]
            and f"should be {' or '.join(map(repr, FORMS[self.shape.labels]))}, found {self.form!r}",
            "text_pair": pairs != (self.form == "answers")
            and self.form in ("answers", "spans", "tags")
            and f"should {'be no column' if pairs else 'name a column'} with form {self.form!r}",
            "labels": (
                (unsaid or len(set(columns)) < len(columns))
                and f"columns should have names, each its own, found {name_list(columns)}"
            )
            or (
                (len(self.labels) > 1) != several
                and f"should be {'several columns' if several else 'one column'} with form {self.form!r}"
            )
            or (not self.labels and self.shape.labels != "none" and "should name a column"),
            "separator": (not self.separator if self.form == "separated" else self.separator is not None)
            and f"{self.separator!r} does not fit form {self.form!r}",
            "decimal": (self.decimal is not None and self.shape.labels != "number") and "is for numbers",
            "percent": (self.percent and self.shape.labels != "number") and "is for numbers",
        }
        return {key: problem for key, problem in found.items() if problem}


_ADAPTER = TypeAdapter(Layout)
