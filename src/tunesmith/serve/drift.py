"""Whether what is asked and answered is still like the validation rows: shares of kinds, then and now."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

WINDOW = 1_000
"""Texts that stand for now."""
FEWEST = 50
"""Fewer say nothing."""
DRAWS = 400
BINS = 10
OTHER = "\0"
"""Whatever validation did not have."""


class Drift:
    """The last `WINDOW` texts beside the validation rows.

    The distance is the total variation: half the sum of the differences of the shares, 0 for equal and 1 for nothing in
    common. As few texts differ by chance, the distance that 95 of 100 windows of the same size stay below is given
    with it, were they drawn as the validation rows were.

    Args:
        counts: of the kinds in the validation rows.
    """

    def __init__(self, counts: Mapping[str, float]) -> None:
        self._kinds = {name: number for number, name in enumerate([*counts, OTHER])}
        self._shares = np.array([*counts.values(), 0.0], dtype=np.float64)
        self._rows = float(self._shares.sum())
        self._shares /= max(self._rows, 1.0)
        self._window: deque[tuple[str, ...]] = deque()
        self._counts: Counter[str] = Counter()
        self._chance: dict[int, float] = {}

    def add(self, texts: Iterable[Sequence[str]]) -> None:
        """The kinds of each new text."""
        for kinds in texts:
            own = tuple(kind if kind in self._kinds else OTHER for kind in kinds)
            self._window.append(own)
            self._counts.update(own)
            if len(self._window) > WINDOW:
                self._counts.subtract(self._window.popleft())

    @property
    def known(self) -> bool:
        """There are enough texts, and validation rows, to say anything."""
        return len(self._window) >= FEWEST and self._rows > 0

    @property
    def distance(self) -> float:
        now = np.array([self._counts[kind] for kind in self._kinds], dtype=np.float64)
        return float(np.abs(now / max(now.sum(), 1.0) - self._shares).sum() / 2)

    @property
    def by_chance(self) -> float:
        """The distance that is no surprise."""
        drawn = max(1, sum(self._counts.values()))
        size = max(1, int(round(drawn, 1 - len(str(drawn)))))  # one digit is exact enough, and rarely new
        if size not in self._chance:
            generator = np.random.default_rng(0)
            now = generator.multinomial(size, self._shares, DRAWS) / size
            rows = max(1, round(self._rows))
            then = generator.multinomial(rows, self._shares, DRAWS) / rows
            self._chance[size] = float(np.quantile(np.abs(now - then).sum(axis=1) / 2, 0.95))
        return self._chance[size]


class Binned:
    """Numbers as kinds: which of the tenths of the validation rows they fall into.

    Args:
        edges: between the bins, ascending.
    """

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = np.array(edges, dtype=np.float64)

    @classmethod
    def of(cls, values: Sequence[float]) -> Binned:
        """The bins that hold about as many of the values each."""
        return cls(np.unique(np.quantile(values, np.arange(1, BINS) / BINS)).tolist() if values else [])

    def kinds(self, values: Iterable[float]) -> list[tuple[str]]:
        return [(str(bin_),) for bin_ in np.searchsorted(self._edges, np.fromiter(values, np.float64))]

    def counts(self, values: Sequence[float]) -> dict[str, float]:
        """How many values are in each bin that has any."""
        return dict(Counter(kind for (kind,) in self.kinds(values)))
