"""The labelled texts that a benchmark is given on its command line."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tunesmith.config.schema import DataSettings
from tunesmith.data.reading import load_splits
from tunesmith.data.shapes import SHAPES


@dataclass(frozen=True)
class Texts:
    """A set of labelled texts.

    Attributes:
        name: of the file.
        texts: in the order of the file.
        targets: index into `labels` of each.
        labels: names in their order.
    """

    name: str
    texts: list[str]
    targets: list[int]
    labels: list[str]

    @classmethod
    def of(cls, path: str, settings: DataSettings) -> Texts:
        records = load_splits({"train": path}, settings, SHAPES["classification"], True)[0]["train"]
        names = [str(label) for label in records.labels]
        index = {name: i for i, name in enumerate(sorted(set(names)))}
        return cls(Path(path).name, records.texts, [index[name] for name in names], list(index))

    def select(self, rows: np.ndarray) -> Texts:
        return Texts(self.name, [self.texts[i] for i in rows], [self.targets[i] for i in rows], self.labels)


def given_texts(program: str, description: str) -> Texts | None:
    """What ``--data``, ``--text`` and ``--label`` name; None, and a message, without ``--data``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data")
    parser.add_argument("--text")
    parser.add_argument("--label")
    arguments = parser.parse_args()
    if arguments.data is None:
        sys.stderr.write(f"{program}: skipped; it needs --data, a file of labelled texts\n")
        return None
    return Texts.of(arguments.data, DataSettings(text=arguments.text, label=arguments.label))
