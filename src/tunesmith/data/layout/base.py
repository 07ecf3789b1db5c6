"""The answer to "what is this file?": which columns hold what, and in which form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from tunesmith.data.shapes import RecordShape
from tunesmith.errors import ModelError

Form = Literal["plain", "separated", "json", "indicator", "columns", "spans", "tags", "studio", "answers"]


@dataclass(frozen=True)
class Layout:
    """Which column of a file is what: found once for the training file, kept with the run and the model.

    Attributes:
        shape: what the rows hold.
        text: column of the text (of entities perhaps its tokens, of questions the question).
        text_pair: column of the second text (of questions the context), or None.
        labels: columns of the label: none, one, or several 0/1 columns.
        form: of the label: ``"plain"`` for one value a cell; several names as ``"separated"`` text, a ``"json"`` list,
            a 0/1 list (``"indicator"``) or 0/1 ``"columns"``; entities as ``"spans"``, as ``"tags"`` of tokens, or as
            Label Studio has them (``"studio"``); ``"answers"``.
        separator: what stands between separated names.
        key: of the text inside the tasks of Label Studio, or None.
        group: column whose equal values never straddle splits, or None.
        id: column of unique identifiers, or None.
        notes: what the user should know about the choice.
    """

    shape: RecordShape
    text: str
    text_pair: str | None = None
    labels: tuple[str, ...] = ()
    form: Form = "plain"
    separator: str | None = None
    key: str | None = None
    group: str | None = None
    id: str | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        return dict(_ADAPTER.dump_python(self, mode="json"))

    @classmethod
    def from_dict(cls, values: Any, source: str) -> Layout:
        """The layout of which `to_dict` made the values.

        Args:
            source: the file they came from, for errors.

        Raises:
            ModelError: they are damaged; every wrong value is named.
        """
        try:
            return _ADAPTER.validate_python(values)
        except ValidationError as error:
            wrong = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
            raise ModelError(f"{source}: the layout of the data is damaged ({'; '.join(wrong)})") from None


_ADAPTER = TypeAdapter(Layout)
