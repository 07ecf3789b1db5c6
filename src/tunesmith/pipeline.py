"""The path from examples that were read to a tested model: encode → train → evaluate → report; see `opening` for what
comes before: read → check → split.

`train` is the file's story. It branches on no task's or method's name: what differs between them lies in `tasks` and
`methods`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.augmentation.rows import Augmenter
from tunesmith.config.schema import Config
from tunesmith.data.checks import Finding
from tunesmith.data.keys import text_keys
from tunesmith.data.layout import Layout
from tunesmith.data.records import Records
from tunesmith.disk import read_json_lines, write_json_lines, write_text
from tunesmith.engine import Engine, attached
from tunesmith.evaluation.intervals import Score
from tunesmith.manifest import FileFacts
from tunesmith.methods.base import methods_for, unused_settings
from tunesmith.models.sealed import seal
from tunesmith.models.seen import remember, seen_keys, warn_of_seen
from tunesmith.opening import Opening, tell
from tunesmith.predictor import Predictor
from tunesmith.progress import Progress
from tunesmith.registry import lookup
from tunesmith.report.card import adapter_card, card
from tunesmith.report.page import page
from tunesmith.run import entries
from tunesmith.run.folder import close, kept, save_config
from tunesmith.run.record import AugmentationPart, Baseline, Ingredient, Run, RunRecord, main_metric
from tunesmith.scored import Scored
from tunesmith.tasks import TASKS
from tunesmith.tasks.base import Answered, Task
from tunesmith.tasks.encoding import EncodedTexts, Encoder
from tunesmith.text import counted
from tunesmith.training.backend import TorchModel
from tunesmith.training.fitting import FEW_VALID_ROWS, Fitting
from tunesmith.training.learning import fit
from tunesmith.training.needs import answer_bytes, require_result


def train(opening: Opening, progress: Progress) -> Run:
    """Train and test a model on examples.

    Args:
        opening: the folder, the settings and the examples; what is left open is chosen here and written into the run.
        progress: progress for the user.

    Raises:
        TunesmithError: of any kind; the record of the run then says ``failed`` or ``stopped``.
    """
    folder, config, clock, splits = opening.folder, opening.config, opening.clock, opening.splits
    layout, findings = opening.layout, opening.findings
    task: Task = lookup(TASKS, "tasks", layout.shape.task)()
    earlier = opening.earlier
    entries.use_threads(config, earlier)
    with clock.stage("model"):
        augmenter = Augmenter.of(config, task.shape, splits["train"])
        begun = Fitting.begin(entries.pinned(config, earlier), task, splits["train"], folder, progress)
        precision = begun.settle(entries.precision(config, earlier), splits["train"].has("text_pair"))
        before = seen_keys(begun.source.root)
        seen = warn_of_seen(begun.source.name, before, splits)
        tell(seen, progress)
        findings = [*findings, *seen]
        for name in ("valid", "test"):
            task.targets(splits[name], begun.space)  # refuses labels that train lacks
    # Nothing was written so far: a bad file or model leaves an earlier run in the folder as it was.
    ingredients, their_files = entries.ingredients(config)
    files = list(opening.files.values())
    record = entries.begin(config, begun, precision, splits, layout, files, findings, their_files)
    begun.resume, begun.identity = entries.compare(earlier, record, config.output)
    begun.answers = answer_bytes(splits[name] for name in ("valid", "test"))
    require_result(folder, begun.model, begun.answers)
    with kept(folder, record, begun.resume, config.output) as begun.again:
        write_json_lines(folder / "findings.jsonl", (finding.to_dict() for finding in findings))

        with clock.stage("encode"):
            encoded = _encode(_augmented(splits, augmenter, record, ingredients, begun), begun)
        methods = methods_for(config.method, begun.model, len(splits["train"]), task.on_tokens)
        fittings = begun.by_each(methods, encoded["train"], encoded["valid"])
        _tell_unused(config, fittings, progress)
        for fitting in fittings:
            with clock.stage(fitting.method.name):
                fit(fitting)

        progress.line(f"scoring {counted(len(splits['valid']) + len(splits['test']), 'row')} and the models beside it")
        with clock.stage("evaluate"):
            judge = _Judge(config, splits, encoded, layout)
            best = judge.best(fittings)
            predictor, scored = judge.scores(best, "valid", "test")
        with clock.stage("baselines"):
            baselines = [judge.tried(fitting, best, scored["test"]) for fitting in fittings if fitting is not best]
            if config.evaluation.baseline:
                baselines += judge.cheap_models(best, scored["test"])

        record.files = _save(folder / "model", predictor, best, before, text_keys(splits["train"]))
        entries.finish(record, config, best, scored, baselines, clock)
        _write(folder, record, predictor, scored, findings, best.source.hub)
        close(folder, record, config.output.keep_checkpoints)
    return Run(folder, record)


def _tell_unused(config: Config, fittings: Sequence[Fitting], progress: Progress) -> None:
    """Say which settings were given for methods that are not tried."""
    first, methods = fittings[0], [fitting.method for fitting in fittings]
    solved = all(fitting.solves for fitting in fittings)
    usual = first.method.defaults(first.model, first.rows) if solved else None
    if unused := unused_settings(config.method, config.training, methods, usual):
        names = " or ".join(method.name for method in methods)
        progress.line(f"note: not used by {names}: {', '.join(unused)}")


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

    @property
    def chance(self) -> tuple[int, int]:
        """How often rows are drawn, and the seed of the draws."""
        return self.config.evaluation.resamples, self.config.training.seed

    def scores(self, fitting: Fitting, *names: str) -> tuple[Predictor, dict[str, Scored]]:
        """The fitted model, ready to predict, and its scores on the named splits."""
        space = fitting.space.in_users_units
        predictor = Predictor(
            TorchModel(fitting.model, fitting.tokenizer), fitting.task, space, fitting.truncation, self.layout
        )
        with attached(fitting.model, partial(Engine, packing=self.config.engine.uses("packing"))):
            outputs = {name: predictor.outputs_of(self.encoded[name]) for name in {"valid", *names}}
        targets = fitting.task.targets(self.splits["valid"], space)
        predictor = replace(predictor, space=fitting.task.tuned(space, outputs["valid"], targets))
        scored = {name: predictor.score(self.splits[name], *self.chance, outputs[name]) for name in names}
        return predictor, scored

    def best(self, fittings: Sequence[Fitting]) -> Fitting:
        """The fit with the best validation score; on few rows the last, unless another is better beyond chance."""
        *others, last = fittings
        if others and len(self.splits["valid"]) < FEW_VALID_ROWS:
            main, metrics = last.best["metric"], last.task.metrics
            scored = {fitting.method.name: self.scores(fitting, "valid")[1]["valid"] for fitting in fittings}
            own = scored[last.method.name]

            def better(other: Fitting) -> bool:
                said = scored[other.method.name].answered
                found = last.task.compare(said, own.answered, own.targets, *self.chance, main).get(main)
                return found is not None and found.standing(metrics[main]) == "better"

            fittings = [*filter(better, others)] or [last]
        return max(fittings, key=lambda fitting: fitting.score)

    def tried(self, fitting: Fitting, best: Fitting, test: Scored) -> Baseline:
        """A method that was tried and not kept, on the test rows, beside the best."""
        scored = self.scores(fitting, "test")[1]["test"]
        names = {"name": fitting.method.name, "title": fitting.method.title}
        return self._beside(best, test, scored.answered, scored.metrics, **names, seconds=fitting.seconds)

    def cheap_models(self, best: Fitting, test: Scored) -> Iterator[Baseline]:
        """Models that take seconds, on the test rows, beside the best."""
        space = best.space.in_users_units
        for answer in best.task.baselines(self.splits["train"], self.splits["test"], space, self.config.training.seed):
            metrics = best.task.score(answer.answers, test.targets, space, *self.chance)
            names = {"name": answer.name, "title": answer.name}
            yield self._beside(best, test, (answer.answers, space), metrics, **names, seconds=answer.seconds)

    def _beside(
        self, best: Fitting, test: Scored, other: Answered, metrics: dict[str, Score], **facts: Any
    ) -> Baseline:
        main = main_metric(best.best["metric"], test.metrics, best.task.metrics)
        found = best.task.compare(test.answered, other, test.targets, *self.chance, main)
        return Baseline(metrics=metrics, difference=found.get(main), **facts)


def _save(folder: Path, predictor: Predictor, best: Fitting, *seen: np.ndarray) -> dict[str, FileFacts]:
    """The trained model, with its adapter, and what is to be known of its files, by name.

    Args:
        seen: keys of the texts that it has learned from, uint64 (n,).
    """
    shutil.rmtree(folder, ignore_errors=True)  # half of one, of a run that was killed here
    predictor.save(folder)
    remember(folder, *seen)
    if best.adapter is not None:
        shutil.copytree(best.adapter, folder / "adapter", dirs_exist_ok=True)
    return seal(folder, "model/")


def _write(
    folder: Path,
    record: RunRecord,
    predictor: Predictor,
    scored: Mapping[str, Scored],
    findings: Sequence[Finding],
    base: str | None,
) -> None:
    """Everything of a finished run but its model.

    Args:
        base: name on the Hub of the model that it began with.
    """
    for name, answers in scored.items():
        write_json_lines(folder / "predictions" / f"{name}.jsonl", answers.lines())
    save_config(folder, record.config)
    task, test, log = predictor.task, scored["test"], read_json_lines(folder / "metrics.jsonl")
    evidence = task.evidence(test.records, test.outputs, test.targets, predictor.space)
    write_text(folder / "report.html", page(folder, record, task, evidence, findings, log))
    for place, model in ((folder, "model"), (folder / "model", ".")):
        write_text(place / "README.md", card(record, task, predictor.saved(model, base), predictor.space))
    adapter = folder / "model" / "adapter"
    if adapter.is_dir():
        write_text(adapter / "README.md", adapter_card(task, predictor.saved("..", base)))
