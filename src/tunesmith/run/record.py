"""The content of ``run.json`` and ``adapt.json``, typed; written and read here and nowhere else."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from tunesmith.config.schema import AdaptConfig, Config
from tunesmith.data.layout import Layout
from tunesmith.disk import read_json, write_text
from tunesmith.errors import ModelError, wrong_values
from tunesmith.evaluation.intervals import Difference, Score, shortfalls
from tunesmith.evaluation.labels import LabelScores
from tunesmith.evaluation.metrics import Metric
from tunesmith.manifest import FileFacts

VERSION = 1
MOST_BYTES = 256 * 2**20
"""Of a record: scores by label, by the hundred thousand, fit."""
LIBRARIES = ("tunesmith", "torch", "transformers", "peft", "datasets", "accelerate", "scikit-learn", "numpy", "pyarrow")
Scores = dict[str, Score]
Split = Annotated[str, Field(pattern="^(train|valid|test)$")]
ScoredSplit = Annotated[str, Field(pattern="^(valid|test)$")]
Side = Annotated[str, Field(pattern="^(train|held_out)$")]
absent = Field(default=None, exclude_if=lambda value: value is None)
"""What is not there has no key."""


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide results."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


class RecordPart(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        validate_assignment=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        defer_build=True,  # commands that read no record do without
    )


class ModelPart(RecordPart):
    name: str
    revision: str | None
    run: str | None = absent
    """Folder of the run that it comes from, where it lay in one; that run's record tells what it began with itself."""
    sha256: str | None = absent
    """Of the weights the run began with."""
    parameters: int | None = absent
    trainable: int | None = absent
    fresh_head: bool | None = absent
    """adapt: the checkpoint had no (whole) masked-language head."""


class FilePart(RecordPart):
    path: str
    sha256: str | None
    """None for what is no file of this machine."""
    rows: int


class SplitPart(RecordPart):
    name: Split
    rows: int
    sha256: str
    """Of the identifiers of the rows."""
    label_counts: dict[str, int]
    """Rows (entities) of each label; empty where labels are not counted."""


class Ingredient(RecordPart):
    """What new rows are made with besides the training rows."""

    path: str | None = absent
    name: str | None = absent
    sha256: str | None


class AugmentationPart(RecordPart):
    names: list[str]
    factor: float
    rows: int
    by_technique: dict[str, int]
    by_label: dict[str, int]
    dropped: int
    lexicon: Ingredient | None = absent
    masked_model: Ingredient | None = absent


class DataPart(RecordPart):
    files: list[FilePart] = Field(min_length=1)
    splits: list[SplitPart]
    labels: list[str]
    layout: Layout
    augmentation: AugmentationPart | None = absent


class EnginePart(RecordPart):
    """What a part of the engine did, in the process that finished the run; its figures are its own."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)
    state: str
    reason: str | None = absent


class Machine(RecordPart):
    platform: str
    processor: str
    cores: int | None
    threads: int

    @classmethod
    def here(cls, threads: int) -> Machine:
        system, processor = platform.platform(), platform.machine()
        return cls(platform=system, processor=processor, cores=os.cpu_count(), threads=threads)


class Timing(RecordPart):
    seconds: float
    stages: dict[str, float]
    tokens_per_second: float


class Baseline(RecordPart):
    """Another model on the test rows: one that takes seconds, or a method that was tried and not kept."""

    name: str
    title: str
    metrics: Scores
    difference: Difference | None = absent
    """What the model of the run scores more in its main metric, on the same rows."""
    seconds: float


class Best(RecordPart):
    """The state that was kept, and what the method chose by itself."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)
    step: int
    metric: str
    value: float


class Titles(RecordPart):
    """What task and method are called, for people."""

    task: str
    method: str


class Record(RecordPart):
    """What the records of both commands hold."""

    FILE: ClassVar[str]
    version: Literal[1] = 1
    status: Literal["stopped", "done", "failed"] = "stopped"
    """``stopped`` until the end, for that is what a killed run is."""
    error: str | None = absent
    seed: int
    versions: dict[str, str] = Field(default_factory=versions)
    machine: Machine
    timing: Timing | None = absent
    engine: dict[str, EnginePart]
    files: dict[str, FileFacts] | None = absent
    """Of the model, by path in the folder of a run that is done; they are checked when it is loaded."""
    identity: dict[str, str]
    """Hashes of the settings and the data that decide the result; checkpoints of another identity are refused."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The record in a folder.

        Raises:
            ModelError: there is none, it is of another version, or has unknown keys or values, which are all named.
        """
        path = folder / cls.FILE
        try:
            tree = read_json(path, MOST_BYTES)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            what = "is missing" if missing else f"cannot be read: {error.strerror}"
            raise ModelError(f"{folder}: not a run ({cls.FILE} {what}); give the folder that train printed") from None
        except ValueError as error:
            raise ModelError(f"{path}: damaged ({error}); restore the file, or train into another folder") from None
        if not isinstance(tree, dict) or tree.get("version") != VERSION:
            raise ModelError(f"{path}: not a record of version {VERSION}; train again, or use an older Tunesmith")
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise wrong_values(path, error) from None

    def save(self, folder: Path) -> None:
        """Replace the record in one step, so that a reader never sees half of it."""
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        write_text(folder / self.FILE, text + "\n")

    def to_dict(self) -> dict[str, Any]:
        """The record as it stands in its file."""
        return self.model_dump(mode="json")


def main_metric(chosen: str, scores: Scores, described: Mapping[str, Metric]) -> str:
    """The metric that chose the best checkpoint, where the test rows define it, else the first one."""
    return chosen if chosen in scores else next(name for name in described if name in scores)


class RunRecord(Record):
    """The content of ``run.json``; metrics, best and timing are there once the run is done."""

    FILE: ClassVar[str] = "run.json"
    task: str
    method: str
    titles: Titles
    model: ModelPart
    data: DataPart
    config: Config
    """Every value as it was chosen, once the run is done."""
    metrics: dict[ScoredSplit, Scores] = Field(default_factory=dict)
    by_label: dict[ScoredSplit, dict[str, LabelScores]] = Field(default_factory=dict)
    """Every label the model knows; empty for tasks without labels."""
    described: dict[str, Metric]
    """What the names of the metrics stand for, in the order of tables."""
    baselines: list[Baseline] = Field(default_factory=list)
    best: Best | None = absent
    warnings: list[str]
    requested: Config
    """The settings as they were given."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.status == "done" and not (self.best and self.timing and self.metrics.get("test")):
            raise ValueError("a finished run has best, timing and metrics.test")
        if self.best and not self.described.keys() >= self.metrics.get("test", {}).keys():
            raise ValueError("described has every metric of metrics.test")
        return self

    @property
    def main_metric(self) -> str:
        """Of a finished run."""
        assert self.best
        return main_metric(self.best.metric, self.metrics["test"], self.described)

    @property
    def shortfalls(self) -> list[str]:
        """Of a finished run: what it is not better than; see `tunesmith.evaluation.intervals.shortfalls`."""
        found = {other.name: other.difference for other in self.baselines if other.difference}
        return shortfalls(self.described[self.main_metric], found)


class AdaptData(RecordPart):
    files: list[FilePart] = Field(min_length=1)
    texts: dict[Side, int]
    notes: list[str]


class AdaptRecord(Record):
    """The content of ``adapt.json``."""

    FILE: ClassVar[str] = "adapt.json"
    model: ModelPart
    data: AdaptData
    config: AdaptConfig
    tokens: dict[Side, int] | None = absent
    blocks: dict[str, int] | None = absent
    steps: dict[str, int] | None = absent
    perplexity_before: Score | None = None
    perplexity_after_warmup: Score | None = None
    perplexity_after: Score | None = None
    requested: AdaptConfig


@dataclass(frozen=True, repr=False)
class Run:
    """A finished (or interrupted) run.

    Attributes:
        folder: where it is.
        content: of its ``run.json``.
    """

    folder: Path
    content: RunRecord

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """Read a run folder.

        Raises:
            ModelError: there is no readable ``run.json`` in it.
        """
        return cls(Path(folder), RunRecord.load(Path(folder)))

    @property
    def record(self) -> Mapping[str, Any]:
        """The content of ``run.json`` as a plain mapping."""
        return self.content.to_dict()

    @property
    def metrics(self) -> dict[str, dict[str, Score]]:
        """Split → metric name → value with its 95 % interval."""
        return self.content.metrics

    def __str__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        content, shown = self.content, ""
        if content.status == "done":
            name = content.main_metric
            shown = f", test {name} {content.metrics['test'][name].text(content.described[name])}"
        return f"Run({str(self.folder)!r}: {content.task}, {content.method}, {content.status}{shown})"
