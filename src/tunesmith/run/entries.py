"""How a run begins, and what is entered into its record then and at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tunesmith.augmentation import NONE
from tunesmith.augmentation.masked import masked_source
from tunesmith.augmentation.rows import chosen_names
from tunesmith.config.schema import AdaptConfig, Config
from tunesmith.data.checks import Finding
from tunesmith.data.keys import label_codes
from tunesmith.data.layout import Layout
from tunesmith.data.records import Records
from tunesmith.data.splits import fingerprint
from tunesmith.disk import path_sha256
from tunesmith.models.source import Source, weights_sha256
from tunesmith.run.folder import Clock, identity
from tunesmith.run.record import (
    Baseline,
    Best,
    DataPart,
    EnginePart,
    FilePart,
    Ingredient,
    Machine,
    ModelPart,
    Record,
    RunRecord,
    SplitPart,
    Titles,
)
from tunesmith.scored import Scored
from tunesmith.training.fitting import Fitting
from tunesmith.training.precision import Precision, choose_precision


def precision(kind: type[Record], folder: Path, config: Config | AdaptConfig) -> Precision:
    """Of the matrix products; a resumed run goes on with what was measured when it began."""
    if config.output.resume:
        return Precision(**kind.load(folder).engine["precision"].model_dump())
    return choose_precision(config.training.precision)


def common(config: Config | AdaptConfig, precision: Precision, **facts: Any) -> dict[str, Any]:
    """What both commands enter when they begin.

    Args:
        facts: see `tunesmith.run.folder.identity`.
    """
    return {
        "config": config,
        "requested": config,
        "seed": config.training.seed,
        "machine": Machine.here(torch.get_num_threads()),
        "engine": {"precision": EnginePart(**vars(precision))},
        "identity": identity(config.model_dump(mode="json"), **facts),
    }


def model_part(source: Source, **facts: Any) -> ModelPart:
    """Where a model comes from, and more of it."""
    run = None if source.run is None else str(source.run)
    return ModelPart(name=source.name, revision=source.revision, run=run, **facts)


def begin(
    config: Config,
    fitting: Fitting,
    precision: Precision,
    splits: Mapping[str, Records],
    layout: Layout,
    files: Sequence[FilePart],
    findings: Sequence[Finding],
    ingredients: Mapping[str, Ingredient],
) -> RunRecord:
    """The record of a run that has not finished.

    Args:
        ingredients: see `ingredients`.
    """
    task = fitting.task
    parts = [
        SplitPart(
            name=name,
            rows=len(part),
            sha256=fingerprint(part),
            label_counts=label_codes(part).counts if task.shape.counted else {},
        )
        for name, part in splits.items()
    ]
    hashes = {"augmentation": [one.sha256 for one in ingredients.values()]} if ingredients else {}
    data = [[part.model_dump() for part in parts], [file.sha256 for file in files]]
    return RunRecord(
        task=task.name,
        method=config.method.name,
        titles=Titles(task=task.title, method=config.method.name),
        model=model_part(fitting.source),
        data=DataPart(files=list(files), splits=parts, labels=list(task.kinds(fitting.space)), layout=layout),
        described=dict(task.metrics),
        warnings=[finding.message for finding in findings if finding.level == "warning"],
        **common(config, precision, data=data, **hashes),
    )


def ingredients(config: Config) -> dict[str, Ingredient]:
    """What new rows are made with besides the training rows: lexicon and masked model, where they are used."""
    settings, found = config.augmentation, {}
    if settings.lexicon is not None and settings.names != NONE:
        found["lexicon"] = Ingredient(path=settings.lexicon, sha256=path_sha256(settings.lexicon))
    if settings.masked_model and "masked" in chosen_names(settings):
        source = masked_source(config)
        found["masked_model"] = Ingredient(name=source.name, sha256=weights_sha256(source))
    return found


def finish(
    record: RunRecord,
    config: Config,
    best: Fitting,
    scored: Mapping[str, Scored],
    baselines: list[Baseline],
    clock: Clock,
) -> None:
    """Enter what a finished run knows."""
    record.method, record.titles.method = best.method.name, best.method.title
    record.model = model_part(
        best.source,
        sha256=weights_sha256(best.source),
        parameters=best.parameters["parameters"],
        trainable=best.parameters["trainable"],
    )
    record.config = config.model_copy(
        update={
            "task": config.task.model_copy(update={"name": record.task}),
            "model": config.model.model_copy(update={"pooling": best.pooling}),
            "method": config.method.model_copy(update={"name": best.method.name}),
            "training": best.settings,
        }
    )
    record.engine = {name: EnginePart(**part) for name, part in best.report.items()} | record.engine
    record.timing = clock.timing(best.tokens, best.seconds)
    record.metrics = {name: part.metrics for name, part in scored.items()}
    record.by_label = {name: part.by_label for name, part in scored.items() if part.by_label}
    record.baselines = baselines
    record.best = Best(**best.best, **best.details)
    worse = [said for said in record.shortfalls if said.startswith("worse")]
    record.warnings += [f"the model is {said}" for said in worse]
    if (warning := best.unfinished(scored["valid"].metrics)) is not None:
        record.warnings.append(warning)
        best.progress.line(f"warning: {warning}")
    record.status = "done"
