"""One thread that runs the model; what is asked meanwhile waits in a queue of bounded size and goes together."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, fields

from tunesmith.data.records import Records, text_records
from tunesmith.errors import is_out_of_memory
from tunesmith.predictor import Predictor
from tunesmith.serve.asking import Item
from tunesmith.serve.limits import Limits
from tunesmith.serve.replies import Refused
from tunesmith.tasks.predictions import Prediction

WAIT_SECONDS = 0.002
"""A batch waits so long for company."""
BATCH_TEXTS, BATCH_CHARACTERS = 128, 65_536
"""A batch that has as many is full; a request is never divided."""
OVERHEAD = 100
"""A text costs about as much as so many characters, besides its own."""
TELLING = 10_000
"""Only batches that cost as much say how fast the model is."""
SHARE = 0.5
"""Of the time that an answer may take, which waiting may take."""
NEAR_ONE = 1e-3
SLICE = 64
"""Texts of a file that wait at a time."""
LEAVING_SECONDS = 1.0
MOST_FAILURES = 3
"""So many batches that fail one after the other, and the server is not ready."""

Answers = tuple[list[Prediction], int]
"""Predictions in the order of the items, and how many texts of the batch were cut."""


@dataclass
class _Job:
    items: Sequence[Item]
    deadline: float
    future: Future[list[Prediction]] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)

    @property
    def cost(self) -> int:
        return sum(OVERHEAD + (len(item) if isinstance(item, str) else sum(map(len, item))) for item in self.items)


class Batcher:
    """Answers requests in batches.

    Args:
        predictor: used by one thread alone, of this object.
        queued: told how many texts wait, whenever that changes.

    Attributes:
        failures: batches that failed since one was answered.
        seen: told of every batch that was answered: items, predictions, number of cut texts, seconds.
    """

    def __init__(
        self,
        predictor: Predictor,
        limits: Limits,
        queued: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._predictor, self._limits, self._queued = predictor, limits, queued
        self.seen: Callable[[Sequence[Item], list[Prediction], int, float], None] = lambda *_: None
        self._jobs: deque[_Job] = deque()
        self._texts = self._cost = self.failures = 0
        self._rate = math.inf
        self._closed, self._changed = False, threading.Condition()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """It would take another request, and answer it."""
        nearly = 0.9 * self._limits.queued_texts
        return self._thread.is_alive() and self.failures < MOST_FAILURES and self._texts < nearly

    def submit(self, items: Sequence[Item], bounded: bool = True) -> Future[list[Prediction]]:
        """Predictions for the items, once they are there.

        Args:
            bounded: refuse where the queue is full; else it is the caller who asks for little at a time, and has time.

        Raises:
            Refused: the queue is full; also what the future raises where the model failed, or the time is over.
        """
        job = _Job(items, time.monotonic() + self._limits.work_seconds if bounded else math.inf)
        cost = job.cost
        with self._changed:
            if self._closed:
                raise Refused(503, "the server is stopping")
            if bounded:
                self.refuse_if_full(len(items), cost)
            self._jobs.append(job)
            self._count(len(items), cost)
            self._changed.notify()
        return job.future

    def refuse_if_full(self, texts: int, cost: int) -> None:
        """
        Args:
            cost: about the number of characters.

        Raises:
            Refused: so much has no room in the queue; in an empty one everything has.
        """
        if not self._jobs:
            return
        most = self._limits
        seconds = (self._cost + cost) / self._rate
        full = self._texts + texts > most.queued_texts or self._cost + cost > most.queued_characters
        if full or seconds > SHARE * most.work_seconds:
            after = max(1, min(60, math.ceil(self._cost / self._rate)))
            raise Refused(429, "too much is waiting; ask again later", headers={"retry-after": str(after)})

    def _count(self, texts: int, cost: int) -> None:
        self._texts, self._cost = self._texts + texts, self._cost + cost
        self._queued(self._texts)

    def close(self) -> None:
        """Take no more; the thread ends with what waits."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(LEAVING_SECONDS)

    def _work(self) -> None:
        while jobs := self._next():
            self._answer(jobs)

    def _next(self) -> list[_Job]:
        """Jobs that are answered together; none at the end."""
        with self._changed:
            while not self._jobs:
                if self._closed:
                    return []
                self._changed.wait()
            until = self._jobs[0].arrived + WAIT_SECONDS
            while self._texts < BATCH_TEXTS and not self._closed and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            jobs, texts, cost = list[_Job](), 0, 0
            while self._jobs:
                job = self._jobs[0]
                if jobs and (texts + len(job.items) > BATCH_TEXTS or cost + job.cost > BATCH_CHARACTERS):
                    break
                jobs.append(self._jobs.popleft())
                texts, cost = texts + len(job.items), cost + job.cost
                self._count(-len(job.items), -job.cost)
            return jobs

    def _answer(self, jobs: list[_Job]) -> None:
        now = time.monotonic()
        for job in jobs:
            if job.deadline < now:
                _end(job, Refused(503, "no answer within the time that one may take", "deadline"))
        if jobs := [job for job in jobs if not job.future.done()]:
            self._run(jobs)

    def _run(self, jobs: list[_Job]) -> None:
        begin = time.monotonic()
        items = [item for job in jobs for item in job.items]
        try:
            predictions, cut = answers(self._predictor, items)
        except BaseException as error:  # also the panics of libraries in Rust, which are no `Exception`
            if len(jobs) > 1:
                for job in jobs:  # so that only the request fails that is the reason
                    self._answer([job])
                return
            self.failures += 1
            _end(jobs[0], _failure(error))
            return
        self.failures = 0
        seconds, cost = time.monotonic() - begin, sum(job.cost for job in jobs)
        if cost >= TELLING:
            measured = cost / max(seconds, 1e-6)
            self._rate = measured if math.isinf(self._rate) else 0.8 * self._rate + 0.2 * measured
        self.seen(items, predictions, cut, seconds)
        first = 0
        for job in jobs:
            own = predictions[first : first + len(job.items)]
            first += len(job.items)
            _end(job, own)


@dataclass(frozen=True, repr=False)
class Queued(Predictor):
    """A predictor whose texts wait with those of others, some at a time, so that none waits for a whole file."""

    queue: Batcher

    @classmethod
    def of(cls, predictor: Predictor, queue: Batcher) -> Queued:
        own = {part.name: getattr(predictor, part.name) for part in fields(predictor)}
        return cls(**own, queue=queue)

    def predict_records(self, records: Records) -> tuple[list[Prediction], int]:
        texts: list[str] = [text or "" for text in records.texts]
        pairs = records.table["text_pair"].to_pylist() if records.has("text_pair") else None
        items: list[Item] = [*texts] if pairs is None else [(a, b or "") for a, b in zip(texts, pairs, strict=True)]
        found: list[Prediction] = []
        for start in range(0, len(items), SLICE):
            found += self.queue.submit(items[start : start + SLICE], bounded=False).result()
        return found, 0  # those that were cut are counted with the batch


def _failure(error: BaseException) -> Exception:
    if is_out_of_memory(error):
        return Refused(503, "too little memory", "memory")
    return error if isinstance(error, Exception) else RuntimeError(type(error).__name__)


def _end(job: _Job, outcome: list[Prediction] | Exception) -> None:
    if not job.future.set_running_or_notify_cancel():
        return
    if isinstance(outcome, Exception):
        job.future.set_exception(outcome)
    else:
        job.future.set_result(outcome)


def answers(predictor: Predictor, items: Sequence[Item]) -> Answers:
    """What the model says of the items.

    Raises:
        ArithmeticError: a score is not finite, or probabilities do not add up: no answer is better than a wrong one.
    """
    found, cut = predictor.predict_records(text_records(items, "request"))
    several = predictor.task.shape.labels != "one"
    for one in found:
        total = math.fsum(one.scores.values())
        if not (math.isfinite(one.score) and math.isfinite(total)):
            raise ArithmeticError("a score is not finite")
        if one.scores and not several and abs(total - 1) > NEAR_ONE:
            raise ArithmeticError("the probabilities do not add up to one")
    return found, cut
