"""A file of texts for the same file with predictions: read as a whole, answered some rows at a time."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tunesmith.data.writing import WRITTEN
from tunesmith.errors import ResourceError, TunesmithError
from tunesmith.predicting import Job
from tunesmith.progress import Progress
from tunesmith.serve.asking import narrowing
from tunesmith.serve.batching import Queued
from tunesmith.serve.limits import Gone
from tunesmith.serve.replies import Refused, require_type
from tunesmith.serve.service import Service
from tunesmith.text import name_list

ENDINGS = {
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/x-ndjson": ".jsonl",
    "application/jsonl": ".jsonl",
}
READING = ("text", "text_pair", "id", "delimiter", "encoding", "quoting")
OTHERS = ("top_k", "threshold", "only")
THE_FILE = "the file"
SECTION = re.compile(r"(?<![\w.'\"])data\.(?=[a-z_]+)")
"""What a message writes before the name of a setting, which is that of a parameter."""


async def answer(service: Service, request: Request) -> Response:
    """The predictions for a file that is the body of a request.

    Raises:
        Refused: it cannot be read as the request says, or too many are being answered.
    """
    kind = require_type(request.headers, *ENDINGS)
    options, (top_k, threshold), only = _asked(service, request.query_params)
    if service.free.locked():
        raise Refused(429, "enough files are being answered; ask again later", headers={"retry-after": "10"})
    folder = _folder()
    await service.free.acquire()
    loop = asyncio.get_running_loop()

    def leave() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        service.free.release()

    try:
        source = folder / f"source{ENDINGS[kind]}"
        await _receive(request, source)
        parts = _parts(service, source, top_k, threshold, options, only)
        first = await loop.run_in_executor(service.files, next, parts, None)
    except BaseException:
        leave()
        raise

    async def content() -> AsyncIterator[bytes]:
        try:
            part = first
            while part is not None:
                yield part
                part = await loop.run_in_executor(service.files, next, parts, None)
        finally:
            leave()

    named = {"content-disposition": f'attachment; filename="predictions{ENDINGS[kind]}"'}
    return StreamingResponse(content(), media_type=kind, headers=named)


def _asked(service: Service, query: QueryParams) -> tuple[dict[str, Any], tuple[int | None, float | None], bool]:
    """How a file is read, and what is wanted of the predictions."""
    if not query.keys() <= {*READING, *OTHERS}:
        raise Refused(422, f"unknown parameter; expected {name_list([*READING, *OTHERS])}")
    if repeated := [name for name in query if len(query.getlist(name)) > 1]:
        raise Refused(422, f"`{repeated[0]}`: stands more than once; give it once")
    try:
        top_k = float(query["top_k"]) if "top_k" in query else None
        threshold = float(query["threshold"]) if "threshold" in query else None
        only = {"true": True, "false": False}[query.get("only", "false")]
    except (KeyError, ValueError):
        raise Refused(422, "expected top_k=NUMBER, threshold=NUMBER, only=true or only=false") from None
    options = {name: query[name] for name in READING if name in query}
    return options, narrowing(top_k, threshold, service.predictor), only


def _folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="tunesmith-"))
    except OSError:  # as in a container that may write nowhere
        raise Refused(
            503, "no file can be kept; the server needs a folder for them, TMPDIR names one", "disk"
        ) from None


async def _receive(request: Request, path: Path) -> None:
    try:
        with path.open("xb") as file:
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                file.write(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except OSError as error:
        raise Refused(503, f"the file could not be kept ({error.strerror})", "disk") from None


def _parts(
    service: Service, source: Path, top_k: int | None, threshold: float | None, options: Mapping[str, Any], only: bool
) -> Iterator[bytes]:
    """The bytes of the answer, as they come; used in one thread after another."""
    format_, written = WRITTEN[source.suffix], source.with_name(f"predictions{source.suffix}")
    try:
        job = Job(
            service.folder,
            source,
            service.predictor.precision,
            Progress(quiet=True),
            top_k,
            threshold,
            options,
            Queued.of(service.predictor, service.batcher),
        )
        _refuse_long(job, service.limits.characters)
        columns, chunks = job.table(format_.nested, only)
        with ExitStack() as until_written:
            write = until_written.enter_context(format_.open(written, columns.schema))
            with written.open("rb") as reading:
                for rows in chunks:
                    write(rows)
                    if part := reading.read():
                        yield part
                until_written.close()
                yield reading.read()
    except TunesmithError as error:
        status = 503 if isinstance(error, ResourceError) else 422
        told = str(error).replace(str(source), THE_FILE)
        raise Refused(status, SECTION.sub("", told)) from None


def _refuse_long(job: Job, most: int) -> None:
    """
    Raises:
        Refused: a text has too many characters.
    """
    for name in ("text", "text_pair"):
        if not job.records.has(name):
            continue
        lengths = pc.utf8_length(job.records.table[name])
        if (longest := pc.max(lengths).as_py() or 0) > most:
            row = job.records.table["row"][pc.index(lengths, longest).as_py()].as_py()
            raise Refused(422, f"row {row}: expected at most {most:,} characters, found {longest:,}")
