"""A model as it is served: everything that the routes share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunesmith.errors import ModelError, TunesmithError
from tunesmith.predictor import Predictor
from tunesmith.progress import Progress
from tunesmith.run.record import RunRecord
from tunesmith.serve.asking import Form, Item
from tunesmith.serve.batching import Batcher
from tunesmith.serve.corrections import Corrections
from tunesmith.serve.keys import Keys
from tunesmith.serve.limits import Limits
from tunesmith.serve.reference import Reference
from tunesmith.serve.replies import Refused
from tunesmith.serve.watching import Watch
from tunesmith.tasks.predictions import Prediction, rounded

FILES = 2
"""Files that are answered at a time."""
EXAMPLE = "my card has not arrived"
QUESTION = ("What has not arrived?", "I ordered it a week ago, but my card has not arrived.")
WARM_TEXTS, WARM_WORDS = 32, 50


@dataclass
class Service:
    """A model behind its queue.

    Attributes:
        folder: the run, or whatever the model was loaded from.
        draining: whether the server was told to stop.
        answer: of the model to `example`, once it is warm.
        local_only: whether it is asked under this machine's own names alone.
        files: the threads in which files are read and written, one each; `free` counts those that do not.
    """

    folder: Path
    predictor: Predictor
    keys: Keys
    corrections: Corrections | None
    limits: Limits = field(default_factory=Limits)
    progress: Progress = field(default_factory=Progress)
    draining: Callable[[], bool] = lambda: False
    local_only: bool = True

    def __post_init__(self) -> None:
        self.form = Form.of(self.predictor)
        labels = self.predictor.task.shape.labels
        self.watch = Watch(Reference.of(self.folder, labels))
        self.batcher = Batcher(self.predictor, self.limits, self.watch.queued)
        self.answer: dict[str, Any] = {}
        self.files, self.free = ThreadPoolExecutor(FILES, "file"), asyncio.Semaphore(FILES)

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def example(self) -> Item:
        """An item that the model can be asked for."""
        pair = QUESTION if self.form.name == "question" else (EXAMPLE, EXAMPLE)
        return pair if self.form.keys else EXAMPLE

    def warm_up(self) -> None:
        """The first answers, which take longest and are not counted; they also tell how fast the model is.

        Raises:
            ModelError: there are none.
        """
        words = " ".join([EXAMPLE] * (WARM_WORDS // 5))
        long = (QUESTION[0], words) if self.form.keys else words
        try:
            (self.answer,) = self.shown(self.batcher.submit([self.example]).result(), None, None)
            self.batcher.submit([long] * WARM_TEXTS).result()
        except Refused as error:
            raise ModelError(f"{self.folder}: {error}; restore the files, or train again") from None
        except TunesmithError:
            raise
        except Exception as error:
            what = f"the model does not answer ({type(error).__name__}: {error})"
            raise ModelError(f"{self.folder}: {what}; restore the files, or train again") from None
        self.batcher.seen = self.watch.answered

    async def predict(self, items: Sequence[Item], top_k: int | None, threshold: float | None) -> list[dict[str, Any]]:
        """What `tunesmith predict` prints of each item.

        Raises:
            Refused: there is no room, or no time.
        """
        waiting = self.batcher.submit(items)
        try:
            async with asyncio.timeout(self.limits.work_seconds):
                found = await asyncio.wrap_future(waiting)
        except TimeoutError:
            raise Refused(503, "no answer within the time that one may take", "deadline") from None
        return self.shown(found, top_k, threshold)

    def shown(self, found: Sequence[Prediction], top_k: int | None, threshold: float | None) -> list[dict[str, Any]]:
        """Predictions as JSON values, of which less is kept."""
        kept = [one.narrowed(top_k, threshold) for one in found]
        if threshold is not None:
            self.watch.narrowed(kept)
        return [rounded({"id": str(number), **one.to_dict()}) for number, one in enumerate(kept, 1)]

    @property
    def ready(self) -> bool:
        return not self.draining() and self.batcher.ready

    def info(self, known: bool) -> dict[str, Any]:
        """What who asks must know.

        Args:
            known: who asks has a key, or needs none.
        """
        if not known:
            return {"key_needed": True}
        task, truncation = self.predictor.task, self.predictor.truncation
        long = "windows" if task.on_tokens else truncation.long
        return {
            "name": self.folder.resolve().name,
            "task": task.name,
            "title": task.title,
            "input": self.form.name,
            "labels": list(task.kinds(self.predictor.space)),
            "narrowed_by": list(task.narrowed_by),
            "limits": {**self.limits.shown(), "tokens": truncation.max_tokens, "long": long},
            "precision": self.predictor.precision,
            "corrections": self.corrections is not None,
            "key_needed": bool(self.keys),
            "report": self.report.is_file(),
            "version": version("tunesmith"),
        }

    @property
    def is_run(self) -> bool:
        return (self.folder / RunRecord.FILE).is_file()

    def close(self) -> None:
        """Answer what waits, and end the threads."""
        self.batcher.close()
        self.files.shutdown(cancel_futures=True)
