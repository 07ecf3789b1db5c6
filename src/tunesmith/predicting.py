"""Predictions for data of any size, some rows at a time: `answers` gives them, `write` makes a file of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from tunesmith.config.loading import resolve
from tunesmith.config.schema import DataSettings
from tunesmith.data.layout import Layout
from tunesmith.data.lines import LineReader
from tunesmith.data.reading import INPUT_NAME, STANDARD_INPUT, about_missing_texts, tells_format, without_text
from tunesmith.data.records import Records
from tunesmith.data.sources import Examples
from tunesmith.data.table import BATCH_CHARACTERS, in_turn
from tunesmith.data.writing import STUDIO, Target
from tunesmith.errors import UsageError
from tunesmith.predictor import Predictor
from tunesmith.progress import Progress
from tunesmith.run.record import Run, RunRecord
from tunesmith.tasks.predictions import Prediction, require_narrowing, rounded, row_columns, studio_result
from tunesmith.text import counted, name_list

ROWS = 2_000
"""Texts answered at a time, fewer where they are long, which bounds memory for inputs of any size."""
BESIDE = {"one": ("scores",), "several": ("scores",), "answers": ("answers", "no_answer")}
"""What is written of predictions beside the columns of a table where a cell may be a list or an object."""
STUDIO_CONTROLS = {
    "one": 'Choices name="label" toName="text"',
    "several": 'Choices name="label" toName="text" choice="multiple"',
    "spans": 'Labels name="label" toName="text"',
}
MAX_ANSWERS = 20
"""So many candidates are known of each question."""


@dataclass(frozen=True)
class Written:
    """A file of predictions.

    Attributes:
        out: the file.
        rows: number of its rows.
        columns: those of the predictions.
    """

    out: str
    rows: int
    columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.out}: {counted(self.rows, 'row')}, predictions in {name_list(self.columns)}"

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"out": self.out, "rows": self.rows, "columns": list(self.columns)}


class Columns(NamedTuple):
    """The columns of a file of predictions.

    Attributes:
        schema: all that are known beforehand.
        new: those of the predictions.
    """

    schema: pa.Schema
    new: tuple[str, ...]


class Job:
    """What is to be predicted, and how; arguments as of `tunesmith.predict`.

    Args:
        predictor: that of the run, where it is loaded already.

    Attributes:
        whole: every column of the source, row for row; None where its lines are read one by one.
        records: its rows, where it is read as a whole.
        layout: which of them is what.
    """

    def __init__(
        self,
        run: Run | str | Path,
        source: Examples,
        precision: str,
        progress: Progress,
        top_k: int | None,
        threshold: float | None,
        options: Mapping[str, Any],
        predictor: Predictor | None = None,
    ) -> None:
        require_narrowing(top_k, threshold)
        folder = run.folder if isinstance(run, Run) else Path(run)
        if not isinstance(run, Run) and (folder / RunRecord.FILE).exists():
            run = Run.load(folder)
        trained = run.content.config.data if isinstance(run, Run) else DataSettings()
        asked = resolve(options=options)
        given = asked.data
        self.predictor = predictor or Predictor.load(folder, precision, asked.model.allow)
        self.predictor.require_fit(top_k, threshold)
        self.name, self.progress, self.top_k, self.threshold = folder.resolve().name, progress, top_k, threshold
        self.path = str(source) if isinstance(source, str | Path) else ""
        self.whole: pa.Table | None = None
        self.layout: Layout = self.predictor.layout
        self.lines: LineReader | None = None
        if given.format is None and self._has_lines(trained):
            self.lines = LineReader(self.path, self.layout, trained, given)
        else:
            self.records, self.whole, self.layout = self.predictor.read_data(
                source, progress, trained, given, need_label=False
            )

    def _has_lines(self, trained: DataSettings) -> bool:
        if self.path == STANDARD_INPUT:
            return True
        unsaid = trained.format is None and self.path.endswith(".txt") and not Path(self.path).is_dir()
        return unsaid and not tells_format(self.path)

    @property
    def abstains(self) -> bool:
        """The model gives no label, or answer, where it is less sure than the threshold."""
        return self.threshold is not None and self.predictor.task.shape.labels in ("one", "answers")

    def answers(self) -> Iterator[tuple[Records, pa.Table, list[Prediction]]]:
        """Records, the columns that they come from, and predictions, at most `ROWS` rows at a time."""
        blank, none, cut = list[int](), True, 0
        for records, columns in in_turn(self._chunks()):
            none = False
            if self.whole is None:  # of a table it was told as it was read
                blank += without_text(records)
                self.predictor.tell_notes(records, self.progress)
            found, shortened = self.predictor.predict_records(records)
            cut += shortened
            yield records, columns, [one.narrowed(self.top_k, self.threshold) for one in found]
        name = INPUT_NAME if self.path == STANDARD_INPUT else self.path
        if none and self.lines:
            self.progress.line(f"warning: {name}: no rows; expected a text a line")
        if blank:
            self.progress.line(about_missing_texts(name, blank))
        self.predictor.tell_cut(name or "the table", cut, self.progress)

    def _chunks(self) -> Iterator[tuple[Records, pa.Table]]:
        if self.whole is None:
            assert self.lines is not None
            for records, table, _ in self.lines.chunks(ROWS):
                yield records, table
            return
        start = 0
        while start < len(self.records):
            rows = ROWS
            while rows > 1 and self.whole.slice(start, rows).nbytes > BATCH_CHARACTERS:
                rows //= 2
            yield self.records[start : start + rows], self.whole.slice(start, rows)
            start += rows

    def _read_whole(self) -> None:
        """Objects, line by line, may have columns that come late, which a file has from the beginning."""
        if self.lines is not None and self.lines.objects:
            self.records, self.whole, self.layout = self.lines.whole()
            self.predictor.tell_notes(self.records, self.progress)
            self.predictor.tell_missing(self.records, self.progress)

    def write(self, target: Target, only: bool) -> Written:
        """Make a file of the predictions; see `tunesmith.write_predictions`."""
        if target.ending == STUDIO:
            self._read_whole()
            return self._write_tasks(target, only)
        columns, chunks = self.table(target.nested, only)
        if self.whole is not None:
            target.refuse_too_large(self.whole.select([]) if only else self.whole)
        rows = 0
        with target.opened(columns.schema) as write, self._bar() as bar:
            for chunk in chunks:
                write(chunk)
                rows += len(chunk)
                bar.advance(len(chunk))
        return Written(target.name, rows, columns.new)

    def table(self, nested: bool, only: bool) -> tuple[Columns, Iterator[list[dict[str, Any]]]]:
        """What a file of the predictions holds: its columns, and its rows, some at a time.

        Args:
            nested: a cell may be a list or an object.
            only: identifiers and predictions, without the columns of the input.
        """
        self._read_whole()
        kept = {"id": pa.string()} if only else dict.fromkeys(self._names(), pa.string())
        labels = self.predictor.task.shape.labels
        new = row_columns(labels, 0 if nested else self._ranks())
        beside = [] if not nested else [*BESIDE.get(labels, ()), *(["abstained"] if self.abstains else [])]
        names = self._new_names([*new.names, *beside], kept)
        schema = pa.schema([*kept.items(), *((names[field.name], field.type) for field in new)])
        return Columns(schema, tuple(names.values())), self._rows(names, nested, only)

    def _rows(self, names: Mapping[str, str], nested: bool, only: bool) -> Iterator[list[dict[str, Any]]]:
        for records, table, predictions in self.answers():
            before = [{"id": one} for one in records.ids] if only else table.to_pylist()
            found = [rounded(one.to_row(nested)) for one in predictions]
            named = [{names[name]: value for name, value in row.items() if name in names} for row in found]
            yield [one | other for one, other in zip(before, named, strict=True)]

    def _bar(self) -> Any:
        return self.progress.bar("predict", 0 if self.whole is None else len(self.records))

    def _names(self) -> list[str]:
        return ["text"] if self.whole is None else list(self.whole.column_names)

    def _ranks(self) -> int:
        labels = self.predictor.task.shape.labels
        return min(self.top_k or 0, MAX_ANSWERS if labels == "answers" else len(self.predictor.space.names))

    def _new_names(self, wanted: list[str], taken: Mapping[str, Any]) -> dict[str, str]:
        """What the columns of predictions are called beside those that are `taken`."""
        names = dict[str, str]()
        for name in wanted:
            names[name] = name
            while names[name] in taken or (names[name] != name and names[name] in wanted):
                names[name] = f"new_{names[name]}"
        if renamed := [name for name in wanted if name != names[name]]:
            there, told = name_list(renamed), name_list(names[name] for name in renamed)
            self.progress.line(
                f"note: {self.path or 'the table'} has {there} already; predicted ones are called {told}"
            )
        return names

    def _write_tasks(self, target: Target, only: bool) -> Written:
        """Tasks of Label Studio with predictions, which it shows to who annotates them."""
        control = STUDIO_CONTROLS.get(self.predictor.task.shape.labels)
        if control is None:
            what = f"tasks of Label Studio hold labels and entities, no answers of {self.predictor.task.title}"
            raise UsageError(f"`out`: {target.name}: {what}; write .jsonl instead")
        own = self.layout.form == "tags" or self.whole is None
        key, rows = "text" if own else self.layout.text, 0
        with target.opened(pa.schema([])) as write, self._bar() as bar:
            for records, table, predictions in self.answers():
                before = [dict[str, Any]()] * len(records) if only else table.to_pylist()
                zipped = zip(before, records.texts, predictions, strict=True)
                write([{"data": row | {key: text}, **self._pre_annotation(one)} for row, text, one in zipped])
                rows += len(records)
                bar.advance(len(records))
        needs = f'<{control}> and <Text name="text" value="${key}"/>'
        self.progress.line(f"note: {target.name}: for a project whose labelling interface has {needs}")
        return Written(target.name, rows, ("predictions",))

    def _pre_annotation(self, prediction: Prediction) -> dict[str, Any]:
        result = [rounded(one) for one in studio_result(prediction)]
        score = rounded({"score": prediction.score})
        return {"predictions": [{"model_version": self.name, **score, "result": result}]}
