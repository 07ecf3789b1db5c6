"""The call that serves a model, in this process or in several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tunesmith.errors import UsageError
from tunesmith.progress import Progress
from tunesmith.run.record import Run
from tunesmith.serve.server import serve_one
from tunesmith.serve.settings import Settings, address_of
from tunesmith.serve.workers import serve_many

MOST_WORKERS = 64


def serve(
    run: Run | str | Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    progress: Progress | None = None,
    *,
    keys: str | Path | None = None,
    no_keys: bool = False,
    corrections: str | Path | None = None,
    precision: str = "float32",
    allow: str | None = None,
    workers: int = 1,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Answer requests until a signal comes; see the command of the same name.

    Args:
        run: a run or its folder, its model folder, or an artefact.
        host: name or number of the interface.
        port: 0 for one that is free.
        progress: where it is told what happens; by default on standard error.
        keys: a file with a key a line, one of which a request must have.
        no_keys: everybody may ask, from other machines, too.
        corrections: a file to which marked answers are added.
        precision, allow: of the matrix products, and further model types; see `tunesmith.load`.
        workers: processes, each with the model, that answer together.
        ready: called with the address, once requests are answered.

    Raises:
        ModelError: the run has no usable model; nothing listened then.
        UsageError: an option cannot be used.
        Interrupted: requests were cut off at the end, or a second signal came.
    """
    settings = Settings(str(run), host, port, _named(keys), no_keys, _named(corrections), precision, allow)
    keys_, listening, progress = settings.load_keys(), settings.bound(), progress or Progress()
    if not 1 <= workers <= MOST_WORKERS:
        raise UsageError(f"`workers`: expected a number from 1 to {MOST_WORKERS}, found {workers}")
    if workers > 1:
        serve_many(settings, workers, listening, progress, lambda: ready(address_of(listening)))
    else:
        serve_one(settings, keys_, listening, progress, ready)


def _named(path: str | Path | None) -> str | None:
    return None if path is None else str(path)
