"""Answers that somebody marked as wrong, with the right one: a file of examples that `train` reads."""

from __future__ import annotations

import errno
import fcntl
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

from tunesmith.errors import UsageError
from tunesmith.predictor import Predictor
from tunesmith.serve.asking import Form, Item, read_object, whole
from tunesmith.serve.limits import Limits
from tunesmith.serve.replies import Refused
from tunesmith.text import json_text

KEYS = {"one": "label", "several": "labels", "number": "value", "spans": "spans", "answers": "answer"}
"""What the right answer is called in a request, by what the model answers with."""

LARGEST = 1e300


class Corrections:
    """A file to which a line is added for each correction.

    Columns with one value are called as in the file of training, so that rows of both may stand together; else they
    have the names by which `train` finds them.

    Args:
        name: of the file; it is made where it is not there, for its owner alone.

    Raises:
        UsageError: it cannot be written.
    """

    def __init__(self, name: str, predictor: Predictor) -> None:
        self._kind, self._labels = predictor.task.shape.labels, frozenset(predictor.task.kinds(predictor.space))
        self._form, layout = Form.of(predictor), predictor.layout
        self._columns, self._column = self._form.keys or ("text",), KEYS.get(self._kind, "")
        if layout.form == "plain" and layout.labels:
            self._columns = (layout.text,) if layout.text_pair is None else (layout.text, layout.text_pair)
            self._column = layout.labels[0]
        if self._kind not in KEYS:
            raise UsageError(f"`corrections`: there are none of {predictor.task.title}; leave it out")
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.open(Path(name), flags, 0o600)
        except OSError as error:
            raise UsageError(f"`corrections`: {name}: cannot be written ({error.strerror})") from None

    def add(self, body: bytes, limits: Limits) -> None:
        """Write down what a request says.

        Raises:
            Refused: it says something else, or the disk is full.
        """
        key = KEYS[self._kind]
        beside = {"start"} if self._kind == "answers" else set[str]()
        value = read_object(body, ("input", key, *beside))
        if value.keys() - beside != {"input", key}:
            raise Refused(422, f"expected 'input' and {key!r}, the right answer")
        item = self._form.item(value["input"], limits, "input")
        if not all(text.strip() for text in ([item] if isinstance(item, str) else item)):
            raise Refused(422, "input: the text is empty, and nothing can be learned from it")
        row = self._row(item, value[key], value.get("start"))
        try:
            self._append((json_text(row) + "\n").encode())
        except OSError as error:
            raise Refused(503, f"the correction could not be kept ({error.strerror})", "disk") from None

    def _append(self, line: bytes) -> None:
        """Add a line whole, or not at all; other workers of the server wait."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            end = os.fstat(self._file).st_size
            if os.write(self._file, line) < len(line):
                os.ftruncate(self._file, end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _row(self, item: Item, right: Any, start: Any) -> dict[str, Any]:
        texts = dict(zip(self._columns, (item,) if isinstance(item, str) else item, strict=True))
        if self._kind == "one":
            return texts | {self._column: self._label(right)}
        if self._kind == "several":
            if not isinstance(right, list):
                raise Refused(422, "labels: expected a list of labels")
            return texts | {"labels": list(dict.fromkeys(map(self._label, right)))}
        if self._kind == "number":
            if isinstance(right, bool) or not isinstance(right, int | float) or abs(right) > LARGEST:
                raise Refused(422, "value: expected a number")
            return texts | {self._column: right}
        if self._kind == "spans":
            return texts | {"spans": self._spans(right, str(item))}
        return texts | {"answers": self._answers(right, start, item[1])}

    def _label(self, name: Any) -> str:
        if not isinstance(name, str) or name not in self._labels:
            raise Refused(422, "expected one of the model's labels, which /info lists")
        return name

    def _spans(self, spans: Any, text: str) -> list[dict[str, Any]]:
        if not isinstance(spans, list):
            raise Refused(422, "spans: expected a list")
        found = list[dict[str, Any]]()
        for span in spans:
            if not isinstance(span, dict) or span.keys() != {"start", "end", "label"}:
                raise Refused(422, "spans: expected objects of 'start', 'end' and 'label'")
            start, end = whole(span["start"]), whole(span["end"])
            if start is None or end is None or not 0 <= start < end <= len(text):
                raise Refused(422, "spans: expected characters of the text, 0 ≤ start < end ≤ its length")
            found.append({"start": start, "end": end, "label": self._label(span["label"])})
        found.sort(key=lambda span: span["start"])
        if any(one["end"] > other["start"] for one, other in pairwise(found)):
            raise Refused(422, "spans: expected entities that do not overlap")
        return found

    def _answers(self, answer: Any, start: Any, context: str) -> list[dict[str, Any]]:
        if answer is None or answer == "":
            return []
        place = context.find(answer) if isinstance(answer, str) and start is None else whole(start)
        found = isinstance(answer, str) and place is not None and place >= 0 and context.startswith(answer, place)
        if not found:
            raise Refused(
                422, "answer: expected words of the context, as they stand there (at 'start'), or null for none"
            )
        return [{"text": answer, "answer_start": place}]
