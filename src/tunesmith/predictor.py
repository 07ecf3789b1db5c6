"""From a run or model folder to predictions: shared by evaluation, the command line and programs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from tunesmith.config.loading import resolve
from tunesmith.config.schema import DataSettings
from tunesmith.data.layout import Layout
from tunesmith.data.reading import read_new
from tunesmith.data.records import Answer, Label, Records, Span, text_records
from tunesmith.data.sources import Examples
from tunesmith.engine import Engine
from tunesmith.errors import OTHER_VERSION, DataError, ModelError
from tunesmith.evaluation.intervals import Score
from tunesmith.models.heads import save_model
from tunesmith.models.loading import Source, load_trained
from tunesmith.registry import lookup
from tunesmith.tasks import TASKS
from tunesmith.tasks.base import LabelSpace, Task
from tunesmith.tasks.encoding import EncodedTexts, Encoder, Truncation
from tunesmith.tasks.predictions import Prediction
from tunesmith.text import counted
from tunesmith.training.inference import predict_logits
from tunesmith.training.precision import choose_device, choose_precision

FACTS = "tunesmith.json"


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
        model_folder = path / "model" if (path / "model").is_dir() else path
        file = model_folder / FACTS
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
            task, space = lookup(TASKS, "tasks", facts["task"])(), LabelSpace.from_dict(facts["labels"])
            truncation = Truncation(int(facts["max_length"]), str(facts.get("long", "keep-start")))
            layout = Layout.from_dict(facts["layout"], str(file))
        except OSError:
            raise ModelError(f"{path}: no trained model ({file} is missing); give a finished run") from None
        except KeyError:
            raise ModelError(f"{file}: {OTHER_VERSION}") from None
        except (ValueError, TypeError) as error:
            raise ModelError(f"{file}: damaged ({error!r})") from None
        model, tokenizer = load_trained(Source(str(path), str(model_folder), None, True), task.head)
        model.to(choose_device())
        Engine(model)  # stays on the model: tried once, not at every call
        return cls(model, tokenizer, task, space, truncation, layout, choose_precision(precision).state)

    def __repr__(self) -> str:
        labels = f"{counted(len(self.space.names), 'label')}, " if self.space.names else ""
        model = f"{type(self.model).__name__}, {self.truncation.max_tokens} tokens, {self.precision}"
        return f"Predictor({self.task.name}, {labels}{model})"

    def save(self, folder: Path) -> None:
        """Write the model so that plain transformers load it, and what `load` needs beside it."""
        save_model(self.model, self.tokenizer, folder, self.truncation.max_tokens)
        facts = {
            "task": self.task.name,
            "labels": self.space.to_dict(),
            "layout": self.layout.to_dict(),
            "max_length": self.truncation.max_tokens,
            "long": self.truncation.long,
        }
        (folder / FACTS).write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    def predict(self, texts: Examples | Sequence[str] | Sequence[tuple[str, str]]) -> list[Prediction]:
        """Predictions in the order of the input.

        Args:
            texts: strings; pairs of strings for a model trained on pairs; (question, context) for questions. Or a table
                in memory or a `Path`, see `tunesmith.check`, of which the columns are used that training used.

        Raises:
            DataError: something else than text is among them, or the columns are not there.
        """
        listed = getattr(texts, "tolist", None) or getattr(texts, "to_list", None) or getattr(texts, "to_pylist", None)
        if listed and not hasattr(texts, "columns") and not hasattr(texts, "column_names"):  # a single column
            texts = listed()
        if isinstance(texts, str | list | tuple) and not (texts and isinstance(texts[0], Mapping)):
            return self.predict_records(text_records(texts, "predict")) if texts else []
        usual = DataSettings()
        return self.predict_records(read_new(texts, self.layout, usual, usual, need_label=False))

    def predict_records(self, records: Records) -> list[Prediction]:
        """Predictions for records, in their order."""
        return self.task.decode(self.outputs(records), self.space)

    def outputs(self, records: Records) -> Any:
        """What the model says of the records, in their order; see `tunesmith.tasks.base.Task.outputs`.

        Raises:
            DataError: single texts for a model of pairs, or pairs for a model of single texts.
        """
        pairs = self.layout.text_pair is not None
        if records.has("text_pair") != pairs:
            wanted, found = ("pairs of texts", "single texts") if pairs else ("single texts", "pairs of texts")
            raise DataError(f"{records.path}: the model was trained on {wanted}, found {found}; check the columns")
        with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
            file = Path(folder) / "encoded.arrow"
            encoder = Encoder(self.tokenizer, self.truncation, file)
            return self.outputs_of(self.task.encode(records, self.space, encoder, False))

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
        outputs = self.outputs(records) if outputs is None else outputs
        metrics = self.task.score(outputs, targets, self.space, resamples, seed)
        by_label = self.task.score_labels(outputs, targets, self.space, resamples, seed)
        return Scored(records, targets, outputs, self.task.decode(outputs, self.space), metrics, by_label)


@dataclass(frozen=True)
class Scored:
    """A model's answers on labelled records.

    Attributes:
        targets: as the task makes them.
        outputs: what the model says, as the task makes it.
        predictions: in the order of the records.
        metrics: name → value with its interval.
        by_label: label → the same for that label alone; empty for tasks that are not scored by label.
    """

    records: Records
    targets: Any
    outputs: Any
    predictions: list[Prediction]
    metrics: dict[str, Score]
    by_label: dict[str, dict[str, Score]]

    def lines(self) -> Iterable[dict[str, Any]]:
        """Rows of ``predictions/<split>.jsonl``."""
        for record, prediction in zip(self.records, self.predictions, strict=True):
            pair = {} if record.text_pair is None else {"text_pair": record.text_pair}
            yield {
                "id": record.id,
                "text": record.text,
                **pair,
                "gold": _plain(record.label),
                "prediction": _plain(prediction.label),
                "score": prediction.score,
                "scores": prediction.scores,
            }


def _plain(label: Label | None) -> Any:
    """A label as JSON holds it: spans as objects, answers as their texts."""
    if isinstance(label, tuple):
        return [
            part._asdict() if isinstance(part, Span) else part.text if isinstance(part, Answer) else part
            for part in label
        ]
    return label
