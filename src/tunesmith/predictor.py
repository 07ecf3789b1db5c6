"""From a run or model folder to predictions: shared by evaluation, the command line and programs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from tunesmith.config.loading import resolve
from tunesmith.config.schema import DataSettings, LongName
from tunesmith.data.layout import Layout
from tunesmith.data.reading import NewData, about_missing_texts, read_new, refuse_mixture, without_text
from tunesmith.data.records import Records, text_records
from tunesmith.data.sources import Examples
from tunesmith.data.table import NoRows
from tunesmith.disk import parse_json, read_plain, write_text
from tunesmith.engine import Engine
from tunesmith.errors import DataError, ModelError, UsageError, wrong_values
from tunesmith.models.heads import PooledClassifier, save_model
from tunesmith.models.loading import load_trained, token_limit
from tunesmith.models.sealed import TRAINED_FILE, model_folder, seal
from tunesmith.models.source import Source
from tunesmith.progress import Progress
from tunesmith.registry import lookup, names
from tunesmith.scored import Scored
from tunesmith.tasks import TASKS
from tunesmith.tasks.base import LabelSpace, Task
from tunesmith.tasks.encoding import EncodedTexts, Encoder, Truncation
from tunesmith.tasks.predictions import Prediction, about_cut_texts, require_narrowing
from tunesmith.tasks.usage import Saved
from tunesmith.text import counted, name_list
from tunesmith.training.inference import predict_logits
from tunesmith.training.precision import choose_device, choose_precision
from tunesmith.training.trial import Reader, settle_precision


class Facts(BaseModel):
    """The content of ``model/tunesmith.json``: what the files of the model itself do not say."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    FILE: ClassVar[str] = TRAINED_FILE
    task: str
    labels: LabelSpace
    layout: Layout
    max_length: int = Field(ge=4)
    long: LongName = "keep-start"

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises ModelError where there is no such file in the folder, or something else in it."""
        file = folder / cls.FILE
        try:
            content = read_plain(file)
            parse_json(content)
            facts = cls.model_validate_json(content)
        except OSError:
            raise ModelError(f"{folder}: no trained model ({file} is missing); give a finished run") from None
        except ValidationError as error:
            raise wrong_values(file, error) from None
        except ValueError as error:
            raise ModelError(f"{file}: damaged ({error}); restore the file, or train again") from None
        if facts.task not in names(TASKS, "tasks"):
            remedy = "install the package that brings it"
            raise ModelError(f"{file}: task: the task {facts.task!r} is not installed; {remedy}")
        return facts

    def of_task(self, task: Task) -> dict[str, str]:
        """What contradicts the task, or itself, by key."""
        shape, wanted = self.layout.shape, replace(task.shape, task=task.name)
        found = {f"layout.{key}": problem for key, problem in self.layout.contradictions().items()}
        if len(set(self.labels.names)) < len(self.labels.names):
            found["labels.names"] = "should be different from each other"
        if self.labels != self.labels.in_users_units:
            found["labels"] = "mean and scale should be 0 and 1"
        if shape != wanted:
            found["layout.shape"] = f"is of {shape.task} ({shape.labels}), but task is {task.name!r} ({wanted.labels})"
        return found

    def of_model(self, task: Task, model: Any, tokenizer: Any) -> dict[str, str]:
        """What contradicts the model, by key."""
        config, found = model.config, dict[str, str]()
        outputs = [str(config.id2label.get(number)) for number in range(config.num_labels)]
        if list(self.labels.names) != outputs:
            found["labels.names"] = f"should be those of the model's head: {name_list(outputs)}"
        if config.problem_type != task.problem_type:
            found["task"] = f"{task.name!r} is not what the model's head was trained for ({config.problem_type})"
        if self.max_length > (limit := token_limit(config, tokenizer)):
            found["max_length"] = f"should be at most {limit}, which the model reads, found {self.max_length}"
        return found

    @staticmethod
    def require(file: Path, problems: Mapping[str, str]) -> None:
        if problems:
            raise ModelError(
                f"{file}: {key}: {said}; restore the file, or train again" for key, said in problems.items()
            )


@dataclass(frozen=True, repr=False)
class Predictor:
    """A trained model with everything it needs to answer in the user's units.

    Attributes:
        model: in eval mode, float32.
        tokenizer: its tokenizer.
        task: what it was trained for.
        space: meaning of its outputs.
        truncation: how much of a text is read.
        layout: of the file that it was trained on.
        precision: of the matrix products. float32 gives the logits of plain transformers; the others round, and are
            faster where the machine has them in hardware.
    """

    model: nn.Module
    tokenizer: Any
    task: Task
    space: LabelSpace
    truncation: Truncation
    layout: Layout
    precision: str = "float32"

    @classmethod
    def load(cls, folder: str | Path, precision: str = "float32") -> Predictor:
        """Load a run folder, or the ``model`` folder of one.

        Args:
            precision: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the fastest that the machine has.

        Raises:
            ModelError: it is neither, or damaged.
            UsageError: there is no such precision.
        """
        resolve(options={"precision": precision})  # refuses what is none
        path = Path(folder)
        inside = model_folder(path)
        facts, file = Facts.load(inside), inside / Facts.FILE
        task: Task = lookup(TASKS, "tasks", facts.task)()
        facts.require(file, facts.of_task(task))  # before a model is loaded for it
        model, tokenizer = load_trained(Source.of_folder(str(path), inside), task.head)
        facts.require(file, facts.of_model(task, model, tokenizer))
        truncation = Truncation(facts.max_length, facts.long)
        model.to(choose_device())
        Engine(model)  # stays on the model: tried once, not at every call
        chosen = choose_precision(precision)
        if chosen.state != "float32":  # in which it was trained, or tried
            reader = Reader(model, tokenizer, task, facts.labels, truncation, facts.layout.text_pair is not None)
            chosen = settle_precision(chosen, str(path), reader)
        return cls(model, tokenizer, task, facts.labels, truncation, facts.layout, chosen.state)

    def __repr__(self) -> str:
        labels = f"{counted(len(self.space.names), 'label')}, " if self.space.names else ""
        model = f"{type(self.model).__name__}, {self.truncation.max_tokens} tokens, {self.precision}"
        return f"Predictor({self.task.name}, {labels}{model})"

    def save(self, folder: Path) -> None:
        """Write the model so that plain transformers load it, and what `load` needs beside it."""
        save_model(self.model, self.tokenizer, folder, self.truncation.max_tokens)
        facts = Facts(
            task=self.task.name,
            labels=self.space,
            layout=self.layout,
            max_length=self.truncation.max_tokens,
            long=self.truncation.long,
        )
        write_text(folder / Facts.FILE, json.dumps(facts.model_dump(mode="json"), ensure_ascii=False, indent=1) + "\n")
        seal(folder)

    def saved(self, folder: str, base: str | None = None) -> Saved:
        """What a model card says of it, once it is saved.

        Args:
            folder: where it is, seen from the card.
            base: name on the Hub of the model that it began with.
        """
        pieces = self.tokenizer.is_fast and self.tokenizer.backend_tokenizer.model
        marks = bool(getattr(pieces, "continuing_subword_prefix", None))
        pairs, pooled = self.layout.text_pair is not None, isinstance(self.model, PooledClassifier)
        return Saved(folder, self.truncation, pairs, pooled, marks, len(self.space.names), base)

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
            model: Any = self.model
            limit = token_limit(model.config, self.tokenizer)
            progress.line(about_cut_texts(path, cut, self.truncation.max_tokens, limit))

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
        with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
            file = Path(folder) / "encoded.arrow"
            encoder = Encoder(self.tokenizer, self.truncation, file)
            encoded = self.task.encode(records, self.space, encoder, False)
            return self.outputs_of(encoded), encoded.truncated

    def outputs_of(self, encoded: EncodedTexts) -> Any:
        """The same for records that are encoded already."""
        logits = predict_logits(self.model, encoded, self.tokenizer, self.task, self.precision)
        return self.task.outputs(logits, encoded, self.space)

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
