"""The whole path from a file of examples to a tested model: read → check → split → encode → train → evaluate → report.

`train` is the file's story. It branches on no task's or method's name: what differs between them lies in `tasks` and
`methods`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.augmentation.rows import Augmenter, chosen_techniques
from tunesmith.config.schema import Config
from tunesmith.data.checks import Finding, run_checks
from tunesmith.data.layout import Layout
from tunesmith.data.reading import load_splits, with_missing
from tunesmith.data.records import Records
from tunesmith.data.sources import Examples, source_facts
from tunesmith.disk import read_json_lines, write_json_lines, write_text
from tunesmith.engine import Engine
from tunesmith.errors import DataError
from tunesmith.methods.base import methods_for
from tunesmith.predictor import Predictor, Scored
from tunesmith.progress import Progress
from tunesmith.registry import lookup
from tunesmith.report.card import card
from tunesmith.report.page import page
from tunesmith.run import entries
from tunesmith.run.folder import kept, save_config
from tunesmith.run.record import AugmentationPart, Baseline, FilePart, Ingredient, Run, RunRecord
from tunesmith.tasks import TASKS, shape_of
from tunesmith.tasks.base import Task
from tunesmith.tasks.encoding import EncodedTexts, Encoder
from tunesmith.training.fitting import Fitting
from tunesmith.training.learning import fit


def train(sources: Mapping[str, Examples], config: Config, progress: Progress) -> Run:
    """Train and test a model on examples.

    Args:
        sources: of the split ``"train"``, and perhaps of ``"valid"`` and ``"test"``.
        config: every setting; what is left open is chosen here and written into the run.
        progress: progress for the user.

    Raises:
        TunesmithError: of any kind; the record of the run then says ``failed`` or ``stopped``.
    """
    folder = Path(config.output.out or default_folder(sources["train"], config))
    with ExitStack() as context:
        read = config.augmentation.lexicon, config.augmentation.masked_model
        clock = context.enter_context(entries.opened(RunRecord, folder, config, sources, *read))
        chosen_techniques(config, shape_of(config.task.name))  # need not wait for the data
        with clock.stage("data"):
            splits, layout, files = read_splits(sources, config)
            config = _with_own_parts(config, sources, files)
            findings = run_checks(splits, layout.shape)
            tell(findings, progress)
        task: Task = lookup(TASKS, "tasks", layout.shape.task)()
        with clock.stage("model"):
            augmenter = Augmenter.of(config, task.shape, splits["train"])
            precision = entries.precision(RunRecord, folder, config)
            begun = Fitting.begin(config, task, splits["train"], precision, folder, progress)
            seen = entries.seen(config, begun.source.folder, files)
            tell(seen, progress)
            findings += seen
        # Nothing was written so far: a bad file or model leaves an earlier run in the folder as it was.
        ingredients = entries.ingredients(config)
        record = entries.begin(config, begun, precision, splits, layout, list(files.values()), findings, ingredients)
        context.enter_context(kept(folder, record, config.output.resume))
        write_json_lines(folder / "findings.jsonl", (finding.to_dict() for finding in findings))

        with clock.stage("encode"):
            encoded = _encode(_augmented(splits, augmenter, record, ingredients, begun), begun)
        begun.identity = record.identity
        methods = methods_for(config.method, begun.model, len(splits["train"]))
        fittings = begun.by_each(methods, encoded["train"], encoded["valid"])
        for fitting in fittings:
            with clock.stage(fitting.method.name):
                fit(fitting)

        with clock.stage("evaluate"):
            best = max(fittings, key=lambda fitting: fitting.score)
            judge = _Judge(config, splits, encoded, layout)
            predictor, scored = judge.scores(best, "valid", "test")
        with clock.stage("baselines"):
            baselines = [judge.tried(fitting) for fitting in fittings if fitting is not best]
            if config.evaluation.baseline:
                baselines += judge.cheap_models(best, scored["test"])

        predictor.save(folder / "model")
        if best.adapter is not None:
            shutil.copytree(best.adapter, folder / "model" / "adapter", dirs_exist_ok=True)
        entries.finish(record, config, best, scored, baselines, clock)
        _write(folder, record, predictor, scored, findings)
    return Run(folder, record)


def read_splits(
    sources: Mapping[str, Examples], config: Config
) -> tuple[dict[str, Records], Layout, dict[str, FilePart]]:
    """Read every source and split off what was not given.

    Returns:
        {"train", "valid", "test"} → records; the layout; facts of each that was read, not split off, for the record.
    """
    splits, layout = load_splits(sources, config.data, shape_of(config.task.name), config.model.local)
    files = {name: FilePart(**source_facts(records)) for name, records in splits.items()}
    return with_missing(splits, layout.shape, config.data, config.training.seed), layout, files


def _with_own_parts(config: Config, sources: Mapping[str, Examples], files: Mapping[str, FilePart]) -> Config:
    """The settings, which name the splits that came with a set of them on disk, so that they repeat the run."""
    own = {name: file.path for name, file in files.items() if name not in sources}
    on_disk = own if isinstance(sources["train"], str | Path) else {}
    return config.model_copy(update={"data": config.data.model_copy(update=on_disk)})


def tell(findings: Sequence[Finding], progress: Progress) -> None:
    """Show warnings, and how the files were read.

    Raises:
        DataError: a finding is a failure.
    """

    def told(level: str) -> list[str]:
        return [f"{f.split + ': ' if f.split else ''}{f.message}; {f.advice}" for f in findings if f.level == level]

    if failures := told("failure"):
        raise DataError(failures)
    for finding in findings:
        if (finding.level, finding.code) == ("note", "reading"):
            progress.line(f"note: {finding.message}")
    for warning in told("warning"):
        progress.line(f"warning: {warning}")


def default_folder(source: Examples, config: Config) -> str:
    """``runs/<name of the data>-<method>``."""
    name = Path(source).name.partition(".")[0] if isinstance(source, str | Path) else ""
    return str(Path("runs") / f"{name or 'data'}-{config.method.name}")


def _augmented(
    splits: Mapping[str, Records],
    augmenter: Augmenter | None,
    record: RunRecord,
    ingredients: Mapping[str, Ingredient],
    fitting: Fitting,
) -> Mapping[str, Records]:
    """The splits with what is made from the train split added to it; the new rows are kept in the run."""
    if augmenter is None:
        return splits
    with fitting.progress.bar("augment", augmenter.total) as bar:
        added = augmenter.rows(splits, bar.advance)
    if not added.facts["rows"]:
        record.warnings.append(added.note())
    fitting.progress.line(added.note() if added.facts["rows"] else f"warning: {added.note()}")
    record.data.augmentation = AugmentationPart(
        **added.facts, lexicon=ingredients.get("lexicon"), masked_model=ingredients.get("masked_model")
    )
    write_json_lines(fitting.folder / "augmented.jsonl", added.lines())
    return {**splits, "train": added.records}


def _encode(splits: Mapping[str, Records], fitting: Fitting) -> dict[str, EncodedTexts]:
    """Every split, tokenised once into a file of its own."""
    encoded, truncation, work = {}, fitting.truncation, fitting.folder / ".work"
    work.mkdir(exist_ok=True)
    with fitting.progress.bar("tokenise", sum(map(len, splits.values()))) as bar:
        for name, records in splits.items():
            encoder = Encoder(fitting.tokenizer, truncation, work / f"{name}.arrow", bar.advance)
            encoded[name] = fitting.task.encode(records, fitting.space, encoder, True)
    fitting.progress.line(f"max-length {truncation.max_tokens}: {encoded['train'].fit_text()}")
    return encoded


@dataclass(frozen=True)
class _Judge:
    """Scores models on the rows of a run.

    Attributes:
        encoded: the same rows as `splits`; those to learn from do not matter.
    """

    config: Config
    splits: Mapping[str, Records]
    encoded: Mapping[str, EncodedTexts]
    layout: Layout

    def scores(self, fitting: Fitting, *names: str) -> tuple[Predictor, dict[str, Scored]]:
        """The fitted model, ready to predict, and its scores on the named splits."""
        Engine(fitting.model, packing=self.config.engine.uses("packing"))  # stays: tried once, not at every call
        space = fitting.space.in_users_units
        predictor = Predictor(fitting.model, fitting.tokenizer, fitting.task, space, fitting.truncation, self.layout)
        outputs = {name: predictor.outputs_of(self.encoded[name]) for name in {"valid", *names}}
        targets = fitting.task.targets(self.splits["valid"], space)
        predictor = replace(predictor, space=fitting.task.tuned(space, outputs["valid"], targets))
        chance = self.config.evaluation.resamples, self.config.training.seed
        return predictor, {name: predictor.score(self.splits[name], *chance, outputs[name]) for name in names}

    def tried(self, fitting: Fitting) -> Baseline:
        """A method that was tried and not kept, on the test rows."""
        method, metrics = fitting.method, self.scores(fitting, "test")[1]["test"].metrics
        return Baseline(name=method.name, title=method.title, metrics=metrics, seconds=fitting.seconds)

    def cheap_models(self, best: Fitting, test: Scored) -> Iterator[Baseline]:
        """Models that take seconds, on the test rows."""
        space, chance = best.space.in_users_units, (self.config.evaluation.resamples, self.config.training.seed)
        for answer in best.task.baselines(self.splits["train"], self.splits["test"], space, self.config.training.seed):
            metrics = best.task.score(answer.answers, test.targets, space, *chance)
            yield Baseline(name=answer.name, title=answer.name, metrics=metrics, seconds=answer.seconds)


def _write(
    folder: Path, record: RunRecord, predictor: Predictor, scored: Mapping[str, Scored], findings: Sequence[Finding]
) -> None:
    """Everything of a finished run but its model."""
    for name, answers in scored.items():
        write_json_lines(folder / "predictions" / f"{name}.jsonl", answers.lines())
    save_config(folder, record.config)
    record.save(folder)
    task, test, log = predictor.task, scored["test"], read_json_lines(folder / "metrics.jsonl")
    evidence = task.evidence(test.records, test.outputs, test.targets, predictor.space)
    write_text(folder / "report.html", page(folder, record, task, evidence, findings, log))
    write_text(folder / "README.md", card(record, task))
