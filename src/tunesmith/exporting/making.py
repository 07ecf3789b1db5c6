"""A model leaves the laboratory: drawn as a network, written as an artefact, measured, and kept if it is good enough.

`export` is the file's story. An artefact is made beside its place and put there when it is whole.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Unpack, cast

from tunesmith.artefact.folder import PRECISIONS, Artefact, Both, Measured, Precision, Source, listed
from tunesmith.artefact.tokens import save_tokenizer
from tunesmith.config.loading import resolve
from tunesmith.config.options import UseOptions
from tunesmith.data.records import Records
from tunesmith.data.sources import Examples
from tunesmith.disk import make_folder, private, sync, write_text
from tunesmith.errors import DataError, ModelError, UsageError
from tunesmith.exporting import precisions
from tunesmith.exporting.card import artefact_card
from tunesmith.exporting.graph import draw
from tunesmith.exporting.measuring import Beside, loses_too_much
from tunesmith.exporting.subject import Subject
from tunesmith.manifest import require_outside
from tunesmith.models.sealed import is_artefact
from tunesmith.predictor import Predictor
from tunesmith.progress import Progress
from tunesmith.registry import did_you_mean
from tunesmith.signals import leftovers
from tunesmith.text import counted

LIBRARIES = ("tunesmith", "torch", "transformers", "onnx", "onnxscript", "onnxruntime", "tokenizers")


@dataclass(frozen=True, repr=False)
class Exported:
    """An artefact that was made.

    Attributes:
        folder: where it is; `tunesmith.load` takes it.
        artefact: the content of its ``artefact.json``.
        table: what was measured, in rows of texts.
    """

    folder: Path
    artefact: Artefact
    table: list[tuple[str, str, str, str]]

    @property
    def measured(self) -> Measured:
        """Answers and speed, beside the model that it was made from."""
        assert self.artefact.measured is not None
        return self.artefact.measured

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"folder": str(self.folder), **self.artefact.to_dict()}

    def __str__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        return f"Exported({str(self.folder)!r}: {self.artefact.source.task}, {self.artefact.precision})"


@dataclass(frozen=True)
class Order:
    """What is wanted; refused where it cannot be.

    Attributes:
        run: folder of a run, or of a model.
        to: the artefact's folder.
        most_loss: see `tunesmith.exporting.measuring.loses_too_much`.
        overwrite: an artefact that is there is replaced.
    """

    run: Path
    to: Path
    precision: str
    most_loss: float
    overwrite: bool

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"`precision`: unknown {self.precision!r}; {did_you_mean(self.precision, PRECISIONS)}")
        if not 0 <= self.most_loss <= 1:
            raise UsageError(f"`max_loss`: expected a share from 0 to 1 (0.01 is one point), found {self.most_loss}")
        if is_artefact(self.run):
            raise UsageError(f"{self.run}: is an artefact already; give the run that it was made from")
        if os.path.lexists(self.to):
            folder = self.to.is_dir() and not self.to.is_symlink()
            if folder and is_artefact(self.to):
                if not self.overwrite:
                    raise UsageError(f"`to`: {self.to} holds an artefact; give `overwrite`, or another folder")
            elif not folder or any(self.to.iterdir()):
                raise UsageError(f"`to`: {self.to} holds something else than an artefact; give a new folder")
        try:
            require_outside(self.to)
        except ValueError as error:
            raise UsageError(f"`to`: {error}; give a folder outside of it") from None


def export(order: Order, data: Examples | None, progress: Progress, **options: Unpack[UseOptions]) -> Exported:
    """Make an artefact, or nothing.

    Args:
        data: labelled examples to measure on, in the place of the run's validation rows.
        options: as of `tunesmith.evaluate`.

    Raises:
        DataError: there are no rows to measure on.
        ModelError: the model cannot be exported, or loses more than is allowed.
        UsageError: the folder cannot be written to.
    """
    given = resolve(options=options)
    with _folder(order) as folder:
        subject = Subject.load(order.run, given.model)
        predictor, task = subject.predictor, subject.predictor.task
        if data is None:
            records, of = subject.own_rows()
        else:
            records, of = predictor.read(data, progress, subject.trained, given.data), f"of {Path(str(data)).name}"
        _require_rows(records)
        progress.line(f"drawing the network of {subject.name}; it takes up to a minute")
        drawn = draw(predictor.model, task, predictor.tokenizer)
        precisions.write(drawn.program, order.precision, folder)
        tokenizer = save_tokenizer(predictor.tokenizer, folder)
        predictor.facts.save(folder)
        artefact = Artefact(
            precision=cast(Precision, order.precision),
            opset=drawn.opset,
            inputs=drawn.inputs,
            limit=predictor.backend.limit,
            tokenizer=tokenizer,
            source=_source(subject),
            files=listed(folder),
        )
        artefact.save(folder)
        progress.line(f"measuring {order.precision} on {counted(len(records), 'row')}")
        sizes = Both(artefact=sum(one.bytes for one in artefact.files.values()), model=subject.bytes)
        beside = Beside(Predictor.load(folder), predictor, records, of, subject.metric, sizes)
        measured, validation = beside.measure(order.most_loss)
        _accept(measured, predictor, order)
        artefact = artefact.model_copy(update={"measured": measured, "validation": validation})
        artefact.save(folder)
        card, table = artefact_card(artefact, predictor)
        write_text(folder / "README.md", card)
    return Exported(order.to, artefact, table)


@contextmanager
def _folder(order: Order) -> Iterator[Path]:
    """A folder that takes the place of the wanted one at the end of the context, or is gone where that fails."""
    place = order.to.resolve()
    try:
        with private():
            make_folder(place.parent)
            aside = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".tmp", dir=place.parent))
    except OSError as error:
        raise UsageError(f"`to`: {order.to}: cannot be written ({error.strerror}); give another folder") from None
    old = aside.with_suffix(".old")
    leftovers.add(str(aside))
    try:
        with private():
            yield aside
        for file in aside.iterdir():
            sync(file)
        if place.exists():
            place.rename(old)
        aside.rename(place)
        sync(place.parent)
    finally:
        leftovers.discard(str(aside))
        shutil.rmtree(aside, ignore_errors=True)
        if old.exists() and not place.exists():
            old.rename(place)
        shutil.rmtree(old, ignore_errors=True)


def _require_rows(records: Records) -> None:
    if not len(records):
        raise DataError(f"{records.path}: no rows to measure on; give labelled examples with `data`")


def _source(subject: Subject) -> Source:
    """Where an artefact comes from."""
    record, score = subject.record, None
    versions = {}
    for name in LIBRARIES:
        with suppress(ModuleNotFoundError):
            versions[name] = version(name)
    if record is not None and record.metrics.get("test"):
        metric = record.described[record.main_metric]
        score = f"{metric.title} {record.metrics['test'][record.main_metric].text(metric)}"
    return Source(
        task=subject.predictor.task.name,
        name=subject.name,
        base=None if record is None else Path(record.model.name).name,
        method=None if record is None else record.titles.method,
        score=score,
        versions=versions,
    )


def _accept(measured: Measured, predictor: Predictor, order: Order) -> None:
    """
    Raises:
        ModelError: more may be lost than is allowed, or answers differ that should not.
    """
    accuracy = measured.accuracy
    if accuracy is None:
        if measured.agreement is not None and measured.agreement < 1 - order.most_loss:
            said = (
                f"answers {100 * (1 - measured.agreement):.1f} % of {measured.texts} texts of random tokens otherwise"
            )
            raise ModelError(f"{order.run}: in {order.precision} it {said}; give labelled examples with `data`")
        return
    metric = predictor.task.metrics[accuracy.metric]
    if not loses_too_much(accuracy, metric):
        return
    scores = f"{metric.title} {accuracy.artefact.text(metric)} against {accuracy.model.text(metric)}"
    lost = accuracy.difference.text(metric)
    allowed = metric.value_text(order.most_loss) if metric.is_proportion else f"{100 * order.most_loss:.1f} % of it"
    advice = "export it in float32, measure on more rows with `data`, or allow more with `max_loss`"
    raise ModelError(
        f"{order.run}: in {order.precision} it may lose more than {allowed}: over {counted(accuracy.rows, 'row')} "
        f"({accuracy.of}) {scores}, a difference of {lost}; nothing was written: {advice}"
    )
