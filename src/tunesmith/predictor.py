"""From a run or model folder to predictions: shared by evaluation, the command line and programs.

What answers is a `Backend`; this module knows no torch, and loads it with a model that needs it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from tunesmith import startup
from tunesmith.config.loading import resolve
from tunesmith.config.schema import DataSettings
from tunesmith.data.layout import Layout
from tunesmith.data.reading import NewData, about_missing_texts, read_new, refuse_mixture, without_text
from tunesmith.data.records import Records, text_records
from tunesmith.data.sources import Examples
from tunesmith.data.table import NoRows
from tunesmith.errors import DataError, UsageError
from tunesmith.extras import require
from tunesmith.models.facts import Facts
from tunesmith.models.sealed import is_artefact, model_folder, seal
from tunesmith.progress import Progress
from tunesmith.registry import lookup
from tunesmith.scored import Scored
from tunesmith.spelling import for_python
from tunesmith.tasks import TASKS
from tunesmith.tasks.base import LabelSpace, Task
from tunesmith.tasks.encoding import EncodedTexts, Encoder, Truncation
from tunesmith.tasks.predictions import Prediction, about_cut_texts, require_narrowing
from tunesmith.tasks.usage import Saved
from tunesmith.text import counted

FEW_BYTES = 2**20
"""Of texts whose tokens stay in memory; those of more are kept in a file meanwhile."""


class Backend(Protocol):
    """A model that answers, with its tokenizer: of torch (`tunesmith.training.backend`), or of another library."""

    @property
    def tokenizer(self) -> Any:
        """What `tunesmith.tasks.encoding` calls."""

    @property
    def limit(self) -> int:
        """Tokens that the model can read, special ones included."""

    @property
    def precision(self) -> str:
        """Of its matrix products: ``float32``, ``bfloat16``, ``float16`` or ``int8``."""

    def logits(self, encoded: EncodedTexts, task: Task) -> np.ndarray:
        """What `Task.outputs` takes: float32 (n, labels) in the order of `encoded`; for heads on tokens
        (tokens, labels), the tokens of all windows one after the other.

        Raises:
            ModelError: a logit is not finite.
        """


@dataclass(frozen=True, repr=False)
class Predictor:
    """A trained model with everything it needs to answer in the user's units.

    Attributes:
        backend: the model with its tokenizer.
        task: what it was trained for.
        space: meaning of its outputs.
        truncation: how much of a text is read.
        layout: of the file that it was trained on.
    """

    backend: Backend
    task: Task
    space: LabelSpace
    truncation: Truncation
    layout: Layout

    @property
    def model(self) -> Any:
        """The model itself, in eval mode: a float32 `torch.nn.Module` where it is one of torch."""
        return getattr(self.backend, "model", self.backend)

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.backend.tokenizer

    @property
    def precision(self) -> str:
        """Of the matrix products. float32 gives the logits of plain transformers; the others round, and are
        faster where the machine has them in hardware."""
        return self.backend.precision

    @classmethod
    @for_python()
    def load(cls, folder: str | Path, precision: str = "float32", allow: str | None = None) -> Predictor:
        """Load a run folder, the ``model`` folder of one, or an artefact.

        Args:
            precision: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the fastest that the machine has.
            allow: model types that are loaded though they are not known, as for training; the run's own word for it is
                not taken, since anyone may have made it.

        Raises:
            ModelError: it is none of them, or damaged, or of a model type that is not known.
            UsageError: there is no such precision, or the artefact has another one.
        """
        settings = resolve(options={"precision": precision, "allow": allow})  # refuses what is none
        path = Path(folder)
        inside = model_folder(path)
        facts, file = Facts.load(inside), inside / Facts.FILE
        task: Task = lookup(TASKS, "tasks", facts.task)()
        facts.require(file, facts.of_task(task))  # before a model is loaded for it
        backend: Backend
        if is_artefact(inside):
            require("predict")
            with startup.uncollected():
                from tunesmith.artefact.session import load_artefact

            backend = load_artefact(str(path), inside, facts, precision)
        else:
            require("train")
            with startup.uncollected():
                startup.import_transformers()
                from tunesmith.training.backend import load_backend

            backend = load_backend(str(path), inside, facts, task, precision, settings.model.allowed)
        return cls(backend, task, facts.labels, Truncation(facts.max_length, facts.long), facts.layout)

    def __repr__(self) -> str:
        labels = f"{counted(len(self.space.names), 'label')}, " if self.space.names else ""
        model = f"{type(self.model).__name__}, {self.truncation.max_tokens} tokens, {self.precision}"
        return f"Predictor({self.task.name}, {labels}{model})"

    @property
    def facts(self) -> Facts:
        """What lies beside a saved model."""
        tokens, long = self.truncation.max_tokens, self.truncation.long
        return Facts(task=self.task.name, labels=self.space, layout=self.layout, max_length=tokens, long=long)

    def save(self, folder: Path) -> None:
        """Write the model so that plain transformers load it, and what `load` needs beside it."""
        from tunesmith.models.heads import save_model

        save_model(self.model, self.tokenizer, folder, self.truncation.max_tokens)
        self.facts.save(folder)
        seal(folder)

    def saved(self, folder: str, base: str | None = None) -> Saved:
        """What a model card says of it, once it is saved.

        Args:
            folder: where it is, seen from the card.
            base: name on the Hub of the model that it began with.
        """
        from tunesmith.models.heads import PooledClassifier

        pieces = self.tokenizer.is_fast and self.tokenizer.backend_tokenizer.model
        marks = bool(getattr(pieces, "continuing_subword_prefix", None))
        pairs, pooled = self.layout.text_pair is not None, isinstance(self.model, PooledClassifier)
        return Saved(folder, self.truncation, pairs, pooled, marks, len(self.space.names), base)

    @for_python()
    def predict(
        self,
        texts: Examples | Sequence[str] | Sequence[tuple[str, str]],
        *,
        top_k: int | None = None,
        threshold: float | None = None,
    ) -> list[Prediction]:
        """Predictions in the order of the input.

        Args:
            texts: strings; pairs of strings for a model trained on pairs; (question, context) for questions. Or a table
                in memory or a `Path`, see `tunesmith.check`, of which the columns are used that training used.
            top_k: so many of the best labels, or answers, are kept with their scores.
            threshold: from 0 to 1: what scores less is left out of labels, entities and answers; of one label, or
                answer, the model then abstains (``label`` is None, the answer's text empty).

        Raises:
            DataError: something else than text is among them, or the columns are not there.
            UsageError: `top_k` or `threshold` does not fit the task, or is none.
        """
        self.require_fit(top_k, threshold)
        return [one.narrowed(top_k, threshold) for one in self._predict(texts)]

    def require_fit(self, top_k: int | None, threshold: float | None) -> None:
        """
        Raises:
            UsageError: `top_k` or `threshold` means nothing for the task, or is out of range.
        """
        require_narrowing(top_k, threshold)
        given = {"top_k": top_k, "threshold": threshold}
        if wrong := [name for name in given if given[name] is not None and name not in self.task.narrowed_by]:
            raise UsageError(f"`{name}`: means nothing for {self.task.title}; leave it out" for name in wrong)

    def _predict(self, texts: Any) -> list[Prediction]:
        listed = getattr(texts, "tolist", None) or getattr(texts, "to_list", None) or getattr(texts, "to_pylist", None)
        if listed and self.layout.text in getattr(texts, "keys", list)():
            raise DataError(
                "predict: expected a column of texts, found a row; give a table of one row, as df.iloc[[0]]"
            )
        if listed and not hasattr(texts, "columns") and not hasattr(texts, "column_names"):  # a single column
            texts = listed()
        elif isinstance(texts, Sequence) and not isinstance(texts, str):  # as a column of `datasets`
            texts = list(texts)
        progress = Progress()
        if isinstance(texts, str | list | tuple) and not (texts and isinstance(texts[0], Mapping)):
            records = text_records(texts, "predict")
            self.tell_missing(records, progress)
        else:
            records = self.read(texts, progress, need_label=False)
        found, cut = self.predict_records(records) if len(records) else ([], 0)
        self.tell_cut(records.path, cut, progress)
        return found

    def tell_missing(self, records: Records, progress: Progress) -> None:
        """Say which rows have no text, if any have none."""
        if rows := without_text(records):
            progress.line(about_missing_texts(records.path, rows))

    def tell_cut(self, path: str, cut: int, progress: Progress) -> None:
        """Say how many texts were cut, if any were."""
        if cut:
            progress.line(about_cut_texts(path, cut, self.truncation.max_tokens, self.backend.limit))

    def read(
        self,
        source: object,
        progress: Progress,
        trained: DataSettings | None = None,
        given: DataSettings | None = None,
        need_label: bool = True,
    ) -> Records:
        """New data; what differs from those of training is told, and which rows have no text.

        Arguments and errors as of `tunesmith.data.reading.read_new`; but where no labels are needed, a table in memory
        may be without rows.
        """
        return self.read_data(source, progress, trained or DataSettings(), given or DataSettings(), need_label).records

    def read_data(
        self, source: object, progress: Progress, trained: DataSettings, given: DataSettings, need_label: bool
    ) -> NewData:
        """As `read`, with all the columns that there are."""
        try:
            data = read_new(source, self.layout, trained, given, need_label)
        except NoRows as error:
            if need_label:
                raise
            progress.line(f"warning: {error}")
            return NewData(text_records([], "predict"), pa.table({}), self.layout)
        self.tell_notes(data.records, progress)
        self.tell_missing(data.records, progress)
        return data

    def tell_notes(self, records: Records, progress: Progress) -> None:
        """Show the notes on records that were not given in training already."""
        for note in records.notes:
            if note not in self.layout.notes:
                progress.line(f"note: {note if note.startswith(records.path) else f'{records.path}: {note}'}")

    def predict_records(self, records: Records) -> tuple[list[Prediction], int]:
        """Predictions for records, in their order, and how many of the texts were cut."""
        outputs, cut = self.outputs(records)
        return self.task.decode(outputs, self.space), cut

    def outputs(self, records: Records) -> tuple[Any, int]:
        """What the model says of the records, see `tunesmith.tasks.base.Task.outputs`, and how many texts were cut.

        Raises:
            DataError: single texts for a model of pairs, or pairs for a model of single texts.
        """
        refuse_mixture(records, self.layout.text_pair is not None)
        if records.table.nbytes <= FEW_BYTES:
            return self._outputs(records, None)
        with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
            return self._outputs(records, Path(folder) / "encoded.arrow")

    def _outputs(self, records: Records, file: Path | None) -> tuple[Any, int]:
        encoded = self.task.encode(records, self.space, Encoder(self.tokenizer, self.truncation, file), False)
        return self.outputs_of(encoded), encoded.truncated

    def outputs_of(self, encoded: EncodedTexts) -> Any:
        """The same for records that are encoded already."""
        return self.task.outputs(self.backend.logits(encoded, self.task), encoded, self.space)

    def score(self, records: Records, resamples: int, seed: int, outputs: Any = None) -> Scored:
        """Outputs, predictions and every metric with its interval on labelled records.

        Args:
            outputs: of the records, if they are known.

        Raises:
            DataError: a label is unknown to the model.
        """
        targets = self.task.targets(records, self.space)
        outputs, cut = self.outputs(records) if outputs is None else (outputs, 0)
        metrics = self.task.score(outputs, targets, self.space, resamples, seed)
        by_label = self.task.score_labels(outputs, targets, self.space, resamples, seed)
        decoded = self.task.decode(outputs, self.space)
        return Scored(records, targets, outputs, self.space, decoded, metrics, by_label, cut)
