"""A format of another package: one text a line, after as many asterisks as it gives stars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from tunesmith.config.schema import DataSettings
from tunesmith.data.records import RawTable


def read(path: str, settings: DataSettings) -> RawTable:
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    stars, texts = zip(*(line.split(" ", 1) for line in lines), strict=True)
    table = pa.table({"text": list(texts), "label": [str(len(one)) for one in stars]})
    return RawTable(table, np.arange(1, len(lines) + 1), path, "starred")
