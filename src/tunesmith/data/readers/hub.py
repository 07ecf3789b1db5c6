"""A data set of the Hugging Face Hub, by name: the one reader that may use the network."""

from __future__ import annotations

import re
from pathlib import Path

from tunesmith.config.schema import DataSettings
from tunesmith.data.readers.columnar import from_batches
from tunesmith.data.records import RawTable
from tunesmith.data.table import BATCH_ROWS
from tunesmith.errors import DataError

NAME = re.compile(r"hub:(?P<name>\w[\w.-]*(?:/\w[\w.-]*)?)(?::(?P<split>\w[\w.-]*))?")


def split_names(path: str) -> list[str]:
    """The splits of ``hub:owner/name``; none where the name names one itself, or the Hub does not tell."""
    match = NAME.fullmatch(path)
    if match is None or match["split"] or Path(match["name"]).exists():
        return []
    import datasets  # slow to import, and only needed here

    try:
        return sorted(map(str, datasets.get_dataset_split_names(match["name"])))
    except Exception:  # the library raises many kinds; what is wrong is told when it is read
        return []


def read(path: str, settings: DataSettings) -> RawTable:
    """The rows of ``hub:owner/name[:split]`` (``train`` where no split is named).

    Raises:
        DataError: the name is malformed, or the data set cannot be loaded.
    """
    match = NAME.fullmatch(path)
    if match is None:
        raise DataError(f"{path}: expected hub:owner/name or hub:owner/name:split")
    if Path(match["name"]).exists():  # the library would prefer it
        raise DataError(f"{path}: a local {match['name']} is here too; name its files without hub:, or run elsewhere")
    import datasets  # slow to import, and only needed here

    try:
        dataset = datasets.load_dataset(match["name"], split=match["split"] or "train")
    except Exception as error:  # the library raises many kinds, network errors among them
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"{path}: cannot be loaded ({reason}); check name, split and network") from None
    table = dataset.with_format("arrow").data.table
    notes = () if match["split"] else ("the split 'train'",)
    batches = table.to_batches(max_chunksize=BATCH_ROWS)
    return from_batches(path, "hub", table.schema, batches, dataset.features.to_dict(), notes)
