"""Scores of a run on new labelled data, beside those of a second one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

from tunesmith.config.loading import resolve
from tunesmith.config.options import UseOptions
from tunesmith.config.schema import Config
from tunesmith.data.records import Records
from tunesmith.data.sources import Examples
from tunesmith.errors import UsageError
from tunesmith.evaluation.intervals import Score
from tunesmith.evaluation.labels import ByLabel
from tunesmith.evaluation.metrics import Metrics
from tunesmith.models.sealed import is_artefact
from tunesmith.models.seen import about_known_rows, known_rows
from tunesmith.predictor import Predictor
from tunesmith.progress import Progress
from tunesmith.run.record import Run
from tunesmith.text import counted


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Scores of a run on labelled data.

    Attributes:
        metrics: name → value with its 95 % interval.
        rows: number of examples.
        by_label: label → scores of that label alone, for every label the model knows; empty for tasks without labels.
        described: what the names of the metrics stand for.
        main_metric: the one by which the model was chosen.
        seen: how many of the examples the run has learned from (``train``), or was chosen by (``valid``); empty where
            it knows none of them.
        comparison: with a second run on the same rows: its ``metrics``, what it has ``seen``, and of each metric the
            ``difference`` (this run minus the second) with a 95 % interval and the ``p`` of a paired test; else None.
    """

    metrics: dict[str, Score]
    rows: int
    by_label: ByLabel
    described: Metrics
    main_metric: str
    seen: dict[str, int]
    comparison: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        by_label = {label: asdict(scores) for label, scores in self.by_label.items()}
        found = {"rows": self.rows, "seen": self.seen, "metrics": _plain(self.metrics), "by_label": by_label}
        return {name: value for name, value in {**found, "against": self.comparison}.items() if value}

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {score.text(self.described[name])}" for name, score in self.metrics.items())
        return f"Evaluation({counted(self.rows, 'row')}: {shown})"


def evaluate(
    run: Run | str | Path,
    data: Examples,
    against: Run | str | Path | None,
    progress: Progress,
    **options: Unpack[UseOptions],
) -> Evaluation:
    """See `tunesmith.evaluate`."""
    config, asked = _config(run), resolve(options=options)
    predictor = Predictor.load(str(run), allow=asked.model.allow)
    other = None if against is None else Predictor.load(str(against), allow=asked.model.allow)
    task = predictor.task
    if other is not None and (other.task.name, other.space.names) != (task.name, predictor.space.names):
        raise UsageError("`against`: the two runs have different tasks or labels and cannot be compared")
    records = predictor.read(data, progress, config.data, asked.data)
    chance = (config.evaluation.resamples, config.training.seed)
    scored, known, comparison = predictor.score(records, *chance), _known(str(run), records, progress), None
    predictor.tell_cut(records.path, scored.cut, progress)
    if other is not None:
        second = other.score(records, *chance)
        difference = task.compare(scored.answered, second.answered, scored.targets, *chance)
        also_known = _known(str(against), records, progress)
        comparison = {"seen": also_known, "metrics": _plain(second.metrics), "difference": _plain(difference)}
    main = config.training.metric or task.primary_metric
    return Evaluation(scored.metrics, len(records), scored.by_label, task.metrics, main, known, comparison)


def _config(run: Run | str | Path) -> Config:
    """The settings of a run; an artefact has none of its own."""
    if not isinstance(run, Run) and is_artefact(Path(run)):
        return resolve()
    return (run if isinstance(run, Run) else Run.load(run)).content.config


def _known(run: str, records: Records, progress: Progress) -> dict[str, int]:
    """What a run knows of the records already; it is told, too."""
    if is_artefact(Path(run)):
        note = "an artefact does not hold what its model has learned from; give texts that it has not seen"
        progress.line(f"note: {run}: {note}")
        return {}
    found = known_rows(Path(run), records)
    if found:
        progress.line(f"warning: {about_known_rows(run, found, len(records))}")
    return found


def _plain(scores: Mapping[str, Score]) -> dict[str, Any]:
    return {name: score.to_dict() for name, score in scores.items()}
