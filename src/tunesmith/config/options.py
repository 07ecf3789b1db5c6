"""The options of the Python functions, typed so that editors complete and type checkers check them.

They are the settings of `tunesmith.config.schema` that have a flag, under its name; a test holds the two together. What
is not given keeps its default, or is chosen for the data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypedDict

from tunesmith.config.schema import (
    ClassWeights,
    Decimal,
    LongName,
    PoolingName,
    PrecisionName,
    Quoting,
    ScheduleName,
    TrackerName,
    Unlabelled,
)


class ReadOptions(TypedDict, total=False):
    """How examples are read."""

    text: str | None
    text_pair: str | None
    label: str | None
    label_separator: str | None
    decimal: Decimal | None
    unlabelled: Unlabelled
    strip: bool
    split: str | None
    id: str | None
    format: str | None
    delimiter: str | None
    quoting: Quoting | None
    sheet: str | int | None
    encoding: str


class UseOptions(ReadOptions, total=False):
    """How a trained model and examples are read."""

    allow: str | None


class AdaptOptions(UseOptions, total=False):
    """Options of `tunesmith.adapt`."""

    group: str | None
    task: str
    model: str | Path
    revision: str | None
    local: bool
    epochs: int | None
    batch_size: int | None
    lr: float | None
    head_lr: float | None
    warmup: float
    schedule: ScheduleName
    weight_decay: float
    max_length: int | Literal["auto"]
    precision: PrecisionName
    seed: int
    threads: int | None
    tracker: TrackerName
    engine: Literal["auto", "off"]
    out: str | Path | None
    overwrite: bool
    resume: bool
    keep_checkpoints: bool


class TrainOptions(AdaptOptions, total=False):
    """Options of `tunesmith.train` and `tunesmith.check`."""

    pooling: PoolingName
    method: str
    trainable_layers: int
    lora_r: int
    lora_alpha: int
    lora_dropout: float
    lora_targets: str | None
    layer_decay: float | None
    label_smoothing: float
    class_weights: ClassWeights
    long: LongName
    early_stopping: int | None
    metric: str | None
    augment: str
    augment_factor: float
