"""Which texts a model has learned from, so that a later test on them is noticed wherever its folder was copied to.

``seen.txt`` beside a trained model holds a key in each line, 16 hexadecimal digits (`tunesmith.data.keys.text_keys`),
for each text of its train split, and for those that the model it began with had seen. Texts cannot be read from it; who
has a text can tell whether it was among them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tunesmith.disk import write_text
from tunesmith.errors import ModelError

FILE = "seen.txt"


def seen_keys(folder: Path | None) -> np.ndarray:
    """Keys of the texts that the model in a folder has learned from, uint64 (n,), sorted; none where it says nothing.

    Raises:
        ModelError: the file holds something else.
    """
    if folder is None or not (folder / FILE).is_file():
        return np.empty(0, dtype=np.uint64)
    try:
        lines = (folder / FILE).read_text(encoding="ascii").split()
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
