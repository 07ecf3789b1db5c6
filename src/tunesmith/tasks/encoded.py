"""Encoded texts row by row, and many of them at once."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

READ = ("input_ids", "token_type_ids")
LEARNED = (*READ, "labels")
"""Columns that go into batches; others say what the tokens stand for."""


class Encoded:
    """What a model learns from, or answers, row by row; what torch calls a map-style data set.

    Attributes:
        lengths: (n,) int32, tokens of each row.
        read: columns with a value for each token that are needed for answers, where there are such.
    """

    lengths: np.ndarray
    read: ClassVar[tuple[str, ...]] = READ

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The arrays of a row by name, among them ``input_ids``."""
        raise NotImplementedError

    def joined(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What is `read` of several rows, one row after the other: (tokens of all of them,) ints by name."""
        items = [self[row] for row in rows.tolist()]
        return {name: np.concatenate([item[name] for item in items]) for name in self.read if name in items[0]}

    def begin_epoch(self, epoch: int) -> None:
        """What is drawn at random is drawn anew; by default nothing is."""


class Lists:
    """The rows of a column, list<int32> without nulls, where they lie.

    Arrow makes an object for each row that is asked for, and others for its values, which takes many times as long.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        offsets = [chunk.offsets.to_numpy() for chunk in column.chunks]
        self._values = [chunk.values.to_numpy() for chunk in column.chunks]
        self._chunk = np.repeat(np.arange(len(offsets), dtype=np.int32), [len(chunk) for chunk in column.chunks])
        self._first = np.concatenate([one[:-1] for one in offsets])
        self._end = np.concatenate([one[1:] for one in offsets])

    def __getitem__(self, row: int) -> np.ndarray:
        """The values of a row, int32, read-only."""
        values: np.ndarray = self._values[self._chunk[row]]
        return values[self._first[row] : self._end[row]]

    def joined(self, rows: np.ndarray) -> np.ndarray:
        """The values of several rows, one after the other, int32."""
        places = zip(self._chunk[rows].tolist(), self._first[rows].tolist(), self._end[rows].tolist(), strict=True)
        return np.concatenate([self._values[chunk][first:end] for chunk, first, end in places])
