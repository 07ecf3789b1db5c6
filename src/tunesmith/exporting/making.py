"""A model leaves the laboratory: drawn as a network, written as an artefact, measured, and kept if it is good enough.

`export` is the file's story. An artefact is made beside its place and put there when it is whole.
"""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Unpack, cast

from tunesmith.artefact.folder import Artefact, Both, Measured, Precision, Source, listed
from tunesmith.artefact.tokens import save_tokenizer
from tunesmith.config.loading import resolve
from tunesmith.config.options import UseOptions
from tunesmith.data.records import Records
from tunesmith.data.sources import Examples
from tunesmith.disk import make_folder, private, sync, write_text
from tunesmith.errors import DataError, ModelError, ResourceError, UsageError, is_disk_full
from tunesmith.exporting import precisions
from tunesmith.exporting.card import artefact_card
from tunesmith.exporting.graph import Drawn, draw
from tunesmith.exporting.measuring import Beside, loses_too_much, require_alike
from tunesmith.exporting.order import Order
from tunesmith.exporting.subject import Subject, invented
from tunesmith.models.source import PACKAGED_FROM
from tunesmith.predictor import Predictor
from tunesmith.progress import Progress
from tunesmith.resources import disk_words
from tunesmith.run.record import ModelPart
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

    def __fspath__(self) -> str:
        """The folder, so that whatever takes an artefact takes this."""
        return str(self.folder)

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


def export(
    order: Order, own: Records | None, data: Examples | None, progress: Progress, **options: Unpack[UseOptions]
) -> Exported:
    """Make an artefact, or nothing.

    Args:
        own: the run's validation rows, where there are any.
        data: labelled examples to measure on in their place.
        options: as of `tunesmith.evaluate`.

    Raises:
        DataError: there are no rows to measure on.
        ModelError: the model cannot be exported, or loses more than is allowed.
        UsageError: the folder cannot be written to.
    """
    given = resolve(options=options)
    with _folder(order) as folder:
        subject = Subject.load(order, given.model)
        predictor, task = subject.predictor, subject.predictor.task
        if data is not None:
            name = data if isinstance(data, str | Path) else "a table"
            records, of = predictor.read(data, progress, subject.trained, given.data), f"of {Path(name).name}"
        elif own is not None:
            records, of = own, "the run's validation rows"
        else:
            records, of = invented(predictor), None
        _require_rows(records)
        progress.line(f"drawing the network of {subject.name}; it takes up to a minute")
        drawn = draw(predictor.model, task, predictor.tokenizer)
        artefact = _written(drawn, subject, "float32", folder)
        require_alike(Predictor.load(folder), predictor, invented(predictor))
        if order.precision != artefact.precision:
            artefact = _written(drawn, subject, cast(Precision, order.precision), folder)
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


def _written(drawn: Drawn, subject: Subject, precision: Precision, folder: Path) -> Artefact:
    """Everything of an artefact but what is measured; in other precisions than float32 the network is changed."""
    predictor = subject.predictor
    precisions.write(drawn.program, precision, folder)
    tokenizer = save_tokenizer(predictor.tokenizer, folder)
    predictor.facts.save(folder)
    artefact = Artefact(
        precision=precision,
        opset=drawn.opset,
        inputs=drawn.inputs,
        limit=predictor.backend.limit,
        tokenizer=tokenizer,
        source=_source(subject),
        files=listed(folder),
    )
    artefact.save(folder)
    return artefact


@contextmanager
def _folder(order: Order) -> Iterator[Path]:
    """A folder that takes the place of the wanted one at the end of the context, or is gone where that fails."""
    place = order.to.resolve()
    try:
        with private():
            make_folder(place.parent)
            _recover(place)
            aside = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".tmp", dir=place.parent))
            held = os.open(aside, os.O_RDONLY)
    except OSError as error:
        raise UsageError(f"`to`: {order.to}: cannot be written ({error.strerror}); give another folder") from None
    old = aside.with_suffix(".old")
    leftovers.add(str(aside))
    try:
        with suppress(OSError):  # where folders cannot be held, what is left stays
            fcntl.flock(held, fcntl.LOCK_EX)
        with private():
            yield aside
        for file in aside.iterdir():
            sync(file)
        if place.exists():
            place.rename(old)
        aside.rename(place)
        sync(place.parent)
    except Exception as error:
        if is_disk_full(error):
            said = f"`to`: {order.to}: {disk_words(error, place.parent)}, or give another folder"
            raise ResourceError(said) from None
        raise
    finally:
        os.close(held)
        leftovers.discard(str(aside))
        shutil.rmtree(aside, ignore_errors=True)
        if old.exists() and not place.exists():
            old.rename(place)
        shutil.rmtree(old, ignore_errors=True)


def _recover(place: Path) -> None:
    """Undo what an export to a place left when it was killed; one that is still at work holds its folder."""
    escaped = glob.escape(f".{place.name}.")
    for aside in place.parent.glob(f"{escaped}????????.tmp"):
        with suppress(OSError):
            held = os.open(aside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                old = aside.with_suffix(".old")
                if old.is_dir() and not place.exists():  # killed between the two steps of a replacement
                    old.rename(place)
                shutil.rmtree(old, ignore_errors=True)
                shutil.rmtree(aside)
            finally:
                os.close(held)


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
        base=None if record is None else public_name(record.model),
        method=None if record is None else record.titles.method,
        score=score,
        versions=versions,
    )


def public_name(model: ModelPart) -> str:
    """The name of a model on the Hub where it has one, else that of its folder: no path of this machine."""
    return PACKAGED_FROM.get(model.name) or (model.name if model.revision else Path(model.name).name)


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
