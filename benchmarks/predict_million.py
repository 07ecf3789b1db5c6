"""Peak memory and seconds of `tunesmith predict --out` on ever longer files; writes results/predict_million.json.

    python benchmarks/predict_million.py [--rows 10000,100000,1000000]

The model has two layers and random weights and is exported in float32. Each number of rows is answered as CSV, the one
before the last as JSON lines and Parquet as well; all are the rows of `read_million.py`, about 200 bytes each.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from _processes import run_process
from _results import write_result
from read_million import write_rows

sys.path.insert(0, str(Path(__file__).parents[1]))

import tunesmith
from tests.tiny import save_model

TRAINED_ROWS = 2_000


def make_artefact(folder: Path) -> Path:
    """A tiny model of the rows' labels, as an artefact."""
    data, artefact = folder / "train.csv", folder / "artefact"
    write_rows(data, TRAINED_ROWS)
    model = str(save_model("bert", folder / "tiny"))
    run = tunesmith.train(data, model=model, method="features", max_length=64, out=str(folder / "run"))
    tunesmith.export(run, artefact)
    return artefact


def converted(file: Path, ending: str) -> Path:
    """The rows of a CSV file in another format, those of Parquet in one row group."""
    made = file.with_suffix(ending)
    with file.open(encoding="utf-8", newline="") as source:
        rows = list(csv.DictReader(source))
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), made)
    else:
        made.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="10000,100000,1000000")
    numbers = sorted(map(int, parser.parse_args().rows.split(",")))
    figures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artefact = make_artefact(folder)
        for rows in numbers:
            file = folder / f"{rows}.csv"
            write_rows(file, rows)
            others = [".jsonl", ".parquet"] if rows == numbers[-2:][0] else []
            for one in [file, *(converted(file, ending) for ending in others)]:
                out = folder / f"predicted{one.suffix}"
                words = ["-m", "tunesmith", "predict", str(artefact), str(one), "--out", str(out)]
                _, cost = run_process([*words, "--overwrite", "--quiet"])
                figures.append({"rows": rows, "format": one.suffix[1:], "file_bytes": one.stat().st_size, **cost})
                sys.stderr.write(f"{figures[-1]}\n")
    write_result("predict_million", {"files": figures})


if __name__ == "__main__":
    main()
