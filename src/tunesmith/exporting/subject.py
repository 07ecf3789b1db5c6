"""What is exported: the model of a run, a model folder of one, or a folder that transformers saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tunesmith.config.schema import DataSettings, ModelSettings
from tunesmith.data.layout import Layout
from tunesmith.data.layout.base import FORMS
from tunesmith.data.layout.tags import OUTSIDE, split_tag, tag_names
from tunesmith.data.records import Records, text_records
from tunesmith.errors import DataError, ModelError
from tunesmith.exporting.order import Order
from tunesmith.models.heads import final_linear
from tunesmith.models.loading import load_config, load_trained, token_limit
from tunesmith.models.sealed import TRAINED_FILE
from tunesmith.models.source import Source
from tunesmith.predictor import Predictor
from tunesmith.registry import lookup
from tunesmith.run.record import RunRecord
from tunesmith.tasks import TASKS
from tunesmith.tasks.base import LabelSpace, Task
from tunesmith.tasks.encoding import Truncation
from tunesmith.training.backend import TorchModel

HEADS = {
    "ForSequenceClassification": "classification",
    "ForTokenClassification": "ner",
    "ForQuestionAnswering": "qa",
}
"""How the names of architectures end → task."""
BY_PROBLEM = {"multi_label_classification": "multilabel", "regression": "regression"}
COLUMNS = {"qa": ("question", "context", "answers"), "ner": ("text", None, "spans")}
USUAL_COLUMNS = ("text", None, "label")
INVENTED = 64
"""Texts of random tokens that every artefact is tried on."""


@dataclass(frozen=True)
class Subject:
    """A model that is to leave.

    Attributes:
        name: of the run, or of the model's folder.
        folder: of the model's files.
        predictor: the model, of torch.
        record: of the run, where it is one.
    """

    name: str
    folder: Path
    predictor: Predictor
    record: RunRecord | None

    @classmethod
    def load(cls, order: Order, settings: ModelSettings) -> Subject:
        """
        Args:
            settings: of which model types are let through.

        Raises:
            ModelError: there is no model that can be used.
        """
        folder, ours = order.folder, order.home is not None or (order.folder / TRAINED_FILE).exists()
        if ours:
            predictor = Predictor.load(order.run, allow=settings.allow)
        else:
            predictor = foreign_predictor(order.run, settings.allowed)
        return cls((order.home or folder).resolve().name, folder, predictor, order.record)

    @property
    def trained(self) -> DataSettings:
        """How its examples were read."""
        return self.record.config.data if self.record else DataSettings()

    @property
    def metric(self) -> str:
        """The one by which it was chosen."""
        found = self.record and self.record.main_metric
        return found or self.predictor.task.primary_metric

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def foreign_predictor(path: Path, allowed: frozenset[str] = frozenset()) -> Predictor:
    """A model that transformers saved with a head that is one of ours.

    Raises:
        ModelError: it has another head, or tags of another scheme.
    """
    source = Source.of_folder(str(path), path, allowed)
    config: Any = load_config(source)
    name = task_of(config)
    if name is None:
        found = ", ".join(config.architectures or ()) or "no architecture"
        wanted = ", ".join(f"…{ending}" for ending in HEADS)
        raise ModelError(f"{path}: expected a model with a head ({wanted}), found {found}")
    task: Task = lookup(TASKS, "tasks", name)()
    model, tokenizer = load_trained(source, task.head)
    names = [str(config.id2label[number]) for number in range(config.num_labels)]
    if name == "ner":
        names = _ordered_tags(str(path), model, names)
    elif name == "qa":
        names = ["start", "end"]
    elif len(set(names)) < len(names):
        raise ModelError(f"{path}: two of its labels have the same name; correct id2label in config.json")
    text, second, label = COLUMNS.get(name, USUAL_COLUMNS)
    form = "json" if name == "multilabel" else FORMS[task.shape.labels][0]
    layout = Layout(task.shape, text, second, (label,), form)
    truncation = Truncation(token_limit(config, tokenizer))
    return Predictor(TorchModel(model, tokenizer), task, LabelSpace(tuple(names)), truncation, layout)


def task_of(config: Any) -> str | None:
    """The task of ours that a configuration of transformers stands for, by its architecture and problem."""
    ending = next((end for one in config.architectures or () for end in HEADS if one.endswith(end)), None)
    if ending != "ForSequenceClassification":
        return HEADS[ending] if ending else None
    usual = "regression" if config.num_labels == 1 else HEADS[ending]
    return BY_PROBLEM.get(config.problem_type, usual)


def _ordered_tags(name: str, model: Any, tags: list[str]) -> list[str]:
    """The tags in the order that we have them in, and the outputs of the model in the same."""
    types = list(dict.fromkeys(split_tag(tag)[1] for tag in tags if tag != OUTSIDE))
    wanted = tag_names(types)
    if sorted(wanted) != sorted(tags):
        raise ModelError(f"{name}: expected IOB2 tags (O, B-… and I-… of each type), found {', '.join(tags[:9])}")
    if wanted != tags:
        final, order = final_linear(model), torch.tensor([tags.index(tag) for tag in wanted])
        with torch.no_grad():
            for parameter in final.parameters():
                parameter.copy_(parameter[order].clone())
        model.config.id2label = dict(enumerate(wanted))
    return wanted


def invented(predictor: Predictor) -> Records:
    """Texts of random tokens, from none to more than are read: they say nothing of accuracy, and all of whether two
    models compute the same."""
    tokenizer, draw = predictor.tokenizer, np.random.default_rng(0)
    ordinary = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    most = predictor.truncation.max_tokens
    lengths = [*draw.integers(1, min(64, most), 2 * INVENTED - 2).tolist(), 2 * most, 2 * most]
    texts = [tokenizer.decode(draw.choice(ordinary, length)) or "a" for length in lengths]
    pairs = predictor.layout.text_pair is not None
    first, second = ["", *texts[1::2]], ["a", *texts[::2]]
    items: list[Any] = list(zip(first, second, strict=True)) if pairs else first
    try:
        return text_records(items, "texts of random tokens")
    except DataError:
        raise ModelError("its tokenizer gives no texts for its tokens; give labelled examples with `data`") from None
