"""Files that are wrong, or odd but right: each is refused by its row and column, or read to the character.

What is wanted of each file was written down from what its owner would want, in `bad_tables`, `bad_typed` and
`bad_annotations`; the rows of the unit test of verdicts are tried, too. Each file takes the way of ``tunesmith check``.
"""

from __future__ import annotations

import random
import re
import time
from pathlib import Path
from typing import Any

from tests.campaigns import bad_annotations, bad_tables, bad_typed, common
from tests.campaigns.bad_file import File, Refused
from tests.campaigns.common import Outcome
from tests.unit import test_data_verdicts as verdicts
from tunesmith.config.schema import DataSettings
from tunesmith.data.checks import run_checks
from tunesmith.data.reading import load_splits
from tunesmith.data.records import Records
from tunesmith.data.shapes import SHAPES
from tunesmith.data.summary import summarise
from tunesmith.errors import DataError, ModelError, UsageError

TITLE = "Bad and odd data files, all formats"
GOAL = "refused with row and column, or read with every value as it stands; at most 2 s and 200 MB each"
COUNT, SAMPLE, SECONDS = 10_000, 40, 30.0
MAX_SECONDS, MAX_BYTES = 2.0, 200 * 2**20


def cases(count: int, seed: int) -> list[File]:
    """All files, or some of them; the seed chooses their words and the places of what is wrong."""
    files = [*_of_unit_tests(), *bad_tables.files(seed), *bad_typed.files(seed), *bad_annotations.files(seed)]
    assert len({file.name for file in files}) == len(files), "names stand for files"
    return random.Random(seed).sample(files, min(count, len(files)))


def _of_unit_tests() -> list[File]:
    tables = (verdicts.ENCODINGS, verdicts.STRUCTURE, verdicts.VALUES, verdicts.LABELS, verdicts.JSON)
    found = []
    for number, (name, file, content, settings, wanted) in enumerate(row for table in tables for row in table):
        means: Any = wanted if isinstance(wanted, list) else Refused(says=tuple(wanted))
        found.append(File(f"verdict {number}: {name}", file, content, means, dict(settings), clean=False))
    for number, (name, content, outcome) in enumerate(verdicts.REGRESSION):
        means = outcome if isinstance(outcome, list) else Refused(says=tuple(map(str, outcome)))
        found.append(File(f"number {number}: {name}", "a.csv", content, means, {}, "regression", clean=False))
    return found


def run(file: File, folder: Path) -> Outcome:
    path, before, began = file.write(folder), _peak(reset=True), time.process_time()
    found, said = _checked(str(path), file)
    seconds, growth = time.process_time() - began, _peak() - before
    if seconds > MAX_SECONDS:
        return Outcome(file.name, False, "slow", f"{seconds:.1f} s of processor time")
    if growth > MAX_BYTES:
        return Outcome(file.name, False, "memory", f"{growth >> 20} MB")
    return judged(file, found, said)


def judged(file: File, found: list[tuple[Any, ...]] | None, said: str) -> Outcome:
    """Whether what was read, or was said, is what is wanted."""
    if isinstance(file.wanted, Refused):
        missing = file.wanted.missing(said)
        if not said:
            return Outcome(file.name, False, "accepted silently", f"read {found!r:.300}")
        if missing:
            return Outcome(file.name, False, "not named", f"{missing} not in: {said[:500]}")
        return Outcome(file.name, True, "refused by name")
    if found is None or (said and file.clean):
        return Outcome(file.name, False, "refused wrongly", said[:500])
    if found != file.wanted:
        differ = [(a, b) for a, b in zip(found, file.wanted, strict=False) if a != b][:2]
        note = f"{len(found)} rows of {len(file.wanted)}; found, wanted: {differ!r:.500}"
        return Outcome(file.name, False, "altered", note)
    return Outcome(file.name, True, "read exactly")


def _checked(path: str, file: File) -> tuple[list[tuple[Any, ...]] | None, str]:
    """What is read (text, perhaps the second text, label), and what error or failed checks say of it."""
    try:
        splits, layout = load_splits({"train": path}, DataSettings(**file.settings), SHAPES.get(file.task or ""))
        findings = run_checks(splits, layout.shape)
        summarise(splits, layout, file.task is not None)
    except (DataError, UsageError) as error:
        return None, str(error)
    except ModelError as error:
        raise AssertionError(f"exit 4 for a data file: {error}") from error
    failures = [f"{one.message} (rows {', '.join(map(str, one.rows))})" for one in findings if one.level == "failure"]
    return [_row(splits["train"], number) for number in range(len(splits["train"]))], "\n".join(failures)


def _row(records: Records, number: int) -> tuple[Any, ...]:
    row = records[number]
    return (row.text, row.label) if row.text_pair is None else (row.text, row.text_pair, row.label)


def _peak(reset: bool = False) -> int:
    """Bytes of memory that this process had at most, since it was reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


if __name__ == "__main__":
    common.main(__name__)
