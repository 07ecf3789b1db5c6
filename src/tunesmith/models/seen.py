"""Which texts a model has learned from, so that a later test on them is noticed wherever its folder was copied to.

``seen.txt`` beside a trained or adapted model holds a key in each line, 16 hexadecimal digits
(`tunesmith.data.keys.text_keys`), for each text (or pair of texts) that it has learned from, and for those that the
model it began with had seen. Texts cannot be read from it; who has a text can tell whether it was among them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tunesmith.data.checks import Finding
from tunesmith.data.keys import alike_keys, column_keys, text_keys
from tunesmith.data.records import Records, text_records
from tunesmith.disk import read_json_lines, read_plain, write_text
from tunesmith.errors import DataError, ModelError
from tunesmith.text import SHOWN_ROWS, counted

FILE = "seen.txt"
MOST_BYTES = 2**32


def seen_keys(folder: Path | None) -> np.ndarray:
    """Keys of the texts that the model in a folder has learned from, uint64 (n,), sorted; none where it says nothing.

    Raises:
        ModelError: the file holds something else.
    """
    if folder is None or not os.path.lexists(folder / FILE):
        return np.empty(0, dtype=np.uint64)
    try:
        lines = read_plain(folder / FILE, MOST_BYTES).decode("ascii").split()
        if any(len(line) != 16 for line in lines):
            raise ValueError
        return np.sort(np.frombuffer(bytes.fromhex("".join(lines)), dtype=">u8").astype(np.uint64))
    except (OSError, ValueError):
        raise ModelError(
            f"{folder / FILE}: expected 16 hexadecimal digits in each line; restore the file, or remove it: tests on "
            "texts that the model has learned from are then not noticed"
        ) from None


def remember(folder: Path, *keys: np.ndarray) -> None:
    """Write down which texts a model has learned from, if there are any.

    Args:
        folder: of the model.
        keys: of texts, uint64 (n,): its own, and those of the model that it began with.
    """
    seen = np.unique(np.concatenate(keys))
    if len(seen):
        write_text(folder / FILE, "".join(f"{key:016x}\n" for key in seen.tolist()))


def are_seen(records: Records, keys: np.ndarray) -> np.ndarray:
    """Whether each row's text, its pair of texts, or one of the two alone, is among `keys`: bool (n,).

    Exact keys are those of runs that were made before texts were compared apart from case and spaces.
    """
    own = [text_keys(records, exact) for exact in (False, True)]
    if records.has("text_pair"):
        columns = records.table["text"], records.table["text_pair"]
        own += [keys_of(column) for keys_of in (alike_keys, column_keys) for column in columns]
    return np.asarray(np.any([np.isin(one, keys) for one in own], axis=0))


def warn_of_seen(model: str, keys: np.ndarray, splits: Mapping[str, Records]) -> list[Finding]:
    """A warning for each split to be scored on that holds texts which the starting model has learned from.

    Args:
        model: its name.
        keys: of the texts it has seen.
    """
    found = []
    for name in ("valid", "test"):
        seen = are_seen(splits[name], keys)
        if seen.any():
            count = int(seen.sum())
            what = f"{counted(count, 'text')} of {name} ({seen.mean():.1%})"
            message = f"model {model} has learned from {what}; scores on what a model has seen are too good"
            advice = (
                "split as the model's own training did (the same files, training.seed and fractions), or give "
                f"data.{name}=FILE with texts that it has not seen"
            )
            rows = np.sort(np.asarray(splits[name].table["row"])[seen])[:SHOWN_ROWS]
            found.append(Finding("warning", "seen", message, advice, name, tuple(rows.tolist()), count))
    return found


def known_rows(run: Path, records: Records) -> dict[str, int]:
    """How many rows a run knows already: it has learned from them (``"train"``, also the model it began with), or its
    best state was chosen by them (``"valid"``); no key where there are none."""
    learned = are_seen(records, seen_keys(run / "model"))
    chosen = are_seen(records, _validation_keys(run / "predictions" / "valid.jsonl")) & ~learned
    return {name: int(rows.sum()) for name, rows in (("train", learned), ("valid", chosen)) if rows.any()}


def about_known_rows(run: str, known: Mapping[str, int], rows: int) -> str:
    """What is told of them."""
    what = {"train": "it has learned from", "valid": "its best state was chosen by"}
    shares = [f"{what[name]} {count:,} of {counted(rows, 'row')} ({count / rows:.1%})" for name, count in known.items()]
    return f"{run}: {' and '.join(shares)}; scores on what a model has seen are too good"


def _validation_keys(file: Path) -> np.ndarray:
    """Keys of the texts that a run wrote its validation predictions for; none where they cannot be read."""
    try:
        rows = read_json_lines(file)
        texts = [(row["text"], row["text_pair"]) if "text_pair" in row else row["text"] for row in rows]
        return text_keys(text_records(texts, str(file)))
    except (OSError, ValueError, KeyError, TypeError, DataError):
        return np.empty(0, dtype=np.uint64)
