"""How a run begins, and what is entered into its record then and at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tunesmith.augmentation import NONE
from tunesmith.augmentation.masked import masked_source
from tunesmith.augmentation.rows import chosen_names
from tunesmith.config.schema import AdaptConfig, Config, OutputSettings
from tunesmith.data.checks import Finding
from tunesmith.data.keys import label_codes
from tunesmith.data.layout import Layout
from tunesmith.data.records import Records
from tunesmith.data.splits import fingerprint
from tunesmith.disk import path_sha256
from tunesmith.errors import UsageError
from tunesmith.models.source import Source
from tunesmith.run import inputs
from tunesmith.run.changes import differences, digest
from tunesmith.run.folder import Clock
from tunesmith.run.record import (
    AdaptRecord,
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
from tunesmith.run.runs import Tree
from tunesmith.scored import Scored
from tunesmith.training.fitting import Fitting
from tunesmith.training.precision import Precision, choose_precision


def use_threads(config: Config | AdaptConfig, earlier: Record | None) -> None:
    """As many as were asked for, else as many as when the run began: their number decides how sums are rounded."""
    begun = earlier.machine.threads if earlier else None
    torch.set_num_threads(config.training.threads or begun or torch.get_num_threads())


def pinned(config: Tree, earlier: Record | None) -> Tree:
    """The settings with the revision of a Hub model that the run began with: its branch may have moved on since."""
    revision = earlier.identity.get("model file: revision") if earlier else None
    model = config.model.model_copy(update={"revision": revision or config.model.revision})
    return config.model_copy(update={"model": model})


def precision(config: Config | AdaptConfig, earlier: Record | None) -> Precision:
    """Of the matrix products; a run that goes on does so with what was measured when it began."""
    if earlier is not None and "precision" in earlier.engine:
        measured = earlier.engine["precision"]
        return Precision(measured.state, measured.reason or "")
    return choose_precision(config.training.precision)


def common(config: Config | AdaptConfig, precision: Precision, identity: Mapping[str, str]) -> dict[str, Any]:
    """What both commands enter when they begin.

    Args:
        identity: what decides the result besides the settings and the surroundings; see `tunesmith.run.inputs`.
    """
    output = config.output.model_copy(update={"resume": False, "overwrite": False})  # of this call, not of the run
    config = config.model_copy(update={"output": output})
    return {
        "config": config,
        "requested": config,
        "seed": config.training.seed,
        "machine": Machine.here(torch.get_num_threads()),
        "engine": {"precision": EnginePart(**vars(precision))},
        "identity": {**identity, **inputs.surroundings()},
    }


def compare(
    earlier: RunRecord | AdaptRecord | None, record: RunRecord | AdaptRecord, output: OutputSettings
) -> tuple[bool, dict[str, str]]:
    """Whether there is a run that goes on, and what its checkpoints are known by.

    Raises:
        UsageError: what decides the result is not what it was, and the run may not begin anew; all is named.
    """
    problems = differences(earlier, record) if earlier is not None else []
    if problems and (output.resume or not output.overwrite):
        raise UsageError(problems)
    return earlier is not None and not problems, {"run": digest(record.requested, record.identity)}


def model_part(source: Source, files: Mapping[str, str]) -> ModelPart:
    """Where a model comes from.

    Args:
        files: see `tunesmith.run.inputs.model_files`.
    """
    run, revision = None if source.run is None else str(source.run), files.get("model file: revision")
    return ModelPart(name=source.name, revision=revision, run=run, sha256=inputs.weights_sha256(files))


def begin(
    config: Config,
    fitting: Fitting,
    precision: Precision,
    splits: Mapping[str, Records],
    layout: Layout,
    files: Sequence[FilePart],
    findings: Sequence[Finding],
    ingredients: Mapping[str, str],
) -> RunRecord:
    """The record of a run that has not finished.

    Args:
        ingredients: hashes of their files; see `ingredients`.
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
    model = inputs.model_files(fitting.source)
    identity = model | inputs.data_files(files) | inputs.rows(splits) | dict(ingredients)
    return RunRecord(
        task=task.name,
        method=config.method.name,
        titles=Titles(task=task.title, method=config.method.name),
        model=model_part(fitting.source, model),
        data=DataPart(files=list(files), splits=parts, labels=list(task.kinds(fitting.space)), layout=layout),
        described=dict(task.metrics),
        warnings=[finding.message for finding in findings if finding.level == "warning"],
        **common(config, precision, identity),
    )


def ingredients(config: Config) -> tuple[dict[str, Ingredient], dict[str, str]]:
    """What new rows are made with besides the training rows, and hashes of its files by name.

    That is a lexicon and a masked model, where they are used.
    """
    settings, found, files = config.augmentation, dict[str, Ingredient](), dict[str, str]()
    if settings.lexicon is not None and settings.names != NONE:
        sha256 = path_sha256(settings.lexicon)
        found["lexicon"] = Ingredient(path=settings.lexicon, sha256=sha256)
        files = {f"lexicon: {settings.lexicon}": str(sha256)}
    if settings.masked_model and "masked" in chosen_names(settings):
        source = masked_source(config)
        weights = inputs.model_files(source, "masked model file")
        found["masked_model"] = Ingredient(name=source.name, sha256=inputs.weights_sha256(weights))
        files |= weights
    return found, files


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
    record.model = record.model.model_copy(update=best.parameters)
    record.config = record.config.model_copy(
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
