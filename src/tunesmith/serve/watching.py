"""What Prometheus reads of a server: how fast, how much waits, what is answered, and whether that is as it was."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith.serve.asking import Item
from tunesmith.serve.limits import Gone
from tunesmith.serve.reference import Reference
from tunesmith.serve.replies import QUIET, Refused
from tunesmith.tasks.predictions import Prediction

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TELL_SECONDS = 1.0
"""Drift is computed no more often."""
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The folder, of several processes, in which the library adds up their figures; it is set before it is imported."""
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,100}")


class Watch:
    """The figures of one server.

    Args:
        reference: of the validation rows.
    """

    def __init__(self, reference: Reference) -> None:
        self.registry = own = CollectorRegistry()
        self._reference, self._told = reference, 0.0
        self.seconds = Histogram(
            "tunesmith_request_seconds", "From a request to its answer.", ["route"], buckets=SECONDS, registry=own
        )
        self.requests = Counter(
            "tunesmith_requests", "Requests by route and status.", ["route", "status"], registry=own
        )
        self._queue = Gauge("tunesmith_queued_texts", "Texts that wait.", registry=own, multiprocess_mode="livesum")
        self._batch = Histogram("tunesmith_batch_texts", "Texts of a batch.", buckets=TEXTS, registry=own)
        self._model = Histogram("tunesmith_batch_seconds", "Time of the model.", buckets=SECONDS, registry=own)
        self._texts = Counter("tunesmith_texts", "Texts that were answered.", registry=own)
        self._cut = Counter("tunesmith_cut_texts", "Texts that were read in part.", registry=own)
        self._abstained = Counter("tunesmith_abstained_texts", "Texts without an answer, by a threshold.", registry=own)
        self._labels = Counter("tunesmith_labels", "Answers, before any threshold.", ["label"], registry=own)
        worst: dict[str, Any] = {"registry": own, "multiprocess_mode": "livemax"}
        of = ["of"]
        self._drift = Gauge("tunesmith_drift", "Distance of the last 1,000 texts to validation, 0 to 1.", of, **worst)
        self._chance = Gauge("tunesmith_drift_by_chance", "What 95 % stay below without drift.", of, **worst)
        self._share = Gauge("tunesmith_abstained_share", "Of the texts answered with a threshold.", **worst)
        self._with_threshold = self._without_answer = 0

    def queued(self, texts: int) -> None:
        self._queue.set(texts)

    def answered(self, items: Sequence[Item], predictions: Sequence[Prediction], cut: int, seconds: float) -> None:
        """A batch; called by the thread of the model alone."""
        self._batch.observe(len(items))
        self._model.observe(seconds)
        self._texts.inc(len(items))
        self._cut.inc(cut)
        for kinds in self._reference.see(items, predictions):
            for kind in kinds:
                self._labels.labels(kind).inc()
        if time.monotonic() - self._told >= TELL_SECONDS:
            for name, drift in self._reference.drifts.items():
                if drift.known:
                    self._drift.labels(name).set(drift.distance)
                    self._chance.labels(name).set(drift.by_chance)
            self._told = time.monotonic()

    def narrowed(self, predictions: Sequence[Prediction]) -> None:
        """Predictions to which a threshold was applied."""
        none = sum(one.abstained is True for one in predictions)
        self._with_threshold, self._without_answer = (
            self._with_threshold + len(predictions),
            self._without_answer + none,
        )
        self._abstained.inc(none)
        self._share.set(self._without_answer / max(self._with_threshold, 1))

    def text(self) -> bytes:
        """The figures, of all processes where there are several."""
        if SHARED not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


class Watched:
    """The outermost application: it counts, names each request, and turns what was refused into its answer.

    Args:
        routes: paths that are told apart.
        failed: told of an error of ours, with the name of the request.
    """

    def __init__(
        self, app: ASGIApp, watch: Watch, routes: Callable[[str], str], failed: Callable[[str, BaseException], None]
    ) -> None:
        self.app, self.watch, self.routes, self.failed = app, watch, routes, failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin, status = time.perf_counter(), 0
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        name = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex.encode()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                there = {key for key, _ in message["headers"]}
                quiet = [(key.encode(), value.encode()) for key, value in QUIET.items() if key.encode() not in there]
                message["headers"] = [*message["headers"], *quiet, (b"x-request-id", name)]
            await send(message)

        try:
            await self.app(scope, receive, answer)
        except Gone:
            return
        except Refused as error:
            await error.reply(scope, receive, answer)
        except Exception as error:
            self.failed(name.decode(), error)
            if not status:
                await internal_error(scope, receive, answer)
        finally:
            route = self.routes(scope["path"])
            self.watch.requests.labels(route, str(status or 499)).inc()
            self.watch.seconds.labels(route).observe(time.perf_counter() - begin)


async def internal_error(scope: Scope, receive: Receive, send: Send) -> None:
    """What is answered where we failed."""
    error = Refused(500, "the server failed; its log has more, by the x-request-id of this answer")
    await error.reply(scope, receive, send)
