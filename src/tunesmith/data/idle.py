"""Settings that were given and cannot matter for what is read: each is refused by name, for every command."""

from __future__ import annotations

from collections.abc import Collection

from tunesmith.config.schema import DataSettings
from tunesmith.data.shapes import Labels, RecordShape
from tunesmith.errors import UsageError

LINES = "lines of text"
"""Texts without columns; called as a format is."""
DELIMITED = frozenset({"csv", "tsv"})
TEXT = frozenset({"jsonl", "json", "folder", "fasttext", "conll", "squad", "labelstudio", "doccano", "prodigy", "text"})
COLUMNS = DELIMITED | TEXT | {"parquet", "arrow", "workbook", "datasets", "hub", "memory"}
BUILT_IN = COLUMNS | {LINES}
"""Formats of which it is known what matters."""
MATTERS_FOR = {
    "sheet": frozenset({"workbook"}),
    "delimiter": DELIMITED,
    "quoting": DELIMITED,
    "encoding": DELIMITED | TEXT | {LINES},
    "format": BUILT_IN - {"hub", "memory"},
    **dict.fromkeys(("text", "text_pair", "id"), COLUMNS),
}
"""Formats for which a setting can make a difference."""
OF_LABELS: dict[str, Labels | None] = {
    "label_separator": "several",
    "decimal": "number",
    **dict.fromkeys(("unlabelled", "strip", "split"), None),
}
"""Settings that matter only where labels are read, and for which kind of them alone."""


def refuse_idle(given: DataSettings, formats: Collection[str], shape: RecordShape, need_label: bool = True) -> None:
    """
    Args:
        given: settings; what has its default counts as not given.
        formats: of all that was read by these settings.
        shape: of its rows.
        need_label: whether labels are read.

    Raises:
        UsageError: settings that make no difference, each named.
    """
    default, problems = DataSettings(), list[str]()
    for name, value in given:
        if value == getattr(default, name):
            continue
        idle, wanted = f"data.{name}={'true' if value is True else value}: has no effect on", OF_LABELS.get(name)
        if BUILT_IN.issuperset(formats) and not MATTERS_FOR.get(name, BUILT_IN).intersection(formats):
            problems.append(f"{idle} {' or '.join(sorted(formats))}; leave it out")
        elif name in OF_LABELS and not need_label:
            problems.append(f"{idle} predictions, for which no labels are read; leave it out")
        elif wanted not in (None, shape.labels):
            problems.append(f"{idle} the labels of {shape.task}; leave it out")
    if problems:
        raise UsageError(problems)
