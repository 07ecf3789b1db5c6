"""The Python calls that use a finished run; the command of the same name parses its flags and calls one of these."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from tunesmith.config.options import UseOptions
from tunesmith.data.sources import Examples
from tunesmith.errors import UsageError
from tunesmith.extras import require
from tunesmith.progress import Progress
from tunesmith.run.record import Run
from tunesmith.spelling import for_python

if TYPE_CHECKING:
    from tunesmith.evaluating import Evaluation
    from tunesmith.exporting.making import Exported
    from tunesmith.predicting import Written
    from tunesmith.predictor import Predictor
    from tunesmith.publishing import Pushed


@for_python()
def load(run: Run | str | Path, precision: str = "float32", allow: str | None = None) -> Predictor:
    """The trained model of a run, ready to `predict`.

    Args:
        precision, allow: of the matrix products, and further model types; see `Predictor.load`.

    Raises:
        ModelError: the run has no usable model.
        UsageError: there is no such precision.
    """
    from tunesmith.predictor import Predictor

    return Predictor.load(run.folder if isinstance(run, Run) else run, precision, allow)


@for_python(UseOptions)
def predict(
    run: Run | str | Path,
    source: Examples,
    precision: str = "float32",
    progress: Progress | None = None,
    *,
    top_k: int | None = None,
    threshold: float | None = None,
    **options: Unpack[UseOptions],
) -> Iterator[dict[str, Any]]:
    """Predictions for a file or table of texts, or for standard input when `source` is ``-``.

    Args:
        run: a run or its folder, its model folder, or an artefact.
        source: as of `check`; standard input and files ``.txt`` have one text, or one JSON object, a line, unless a
            ``format`` is given. Every text file in a folder, or below it, is a document.
        precision: of the matrix products; see `Predictor.load`.
        progress: where it is told what is read otherwise than in training, and which rows have no text; by default on
            standard error.
        top_k, threshold: as of `Predictor.predict`.
        options: the names of the flags that say how it is read, where that is not as in training (``text="body"``);
            ``allow`` as of `Predictor.load`.

    Yields:
        ``{"id", "label", "score", "scores"}``, ``{"id", "value"}`` for numbers, ``{"id", "spans"}`` for entities or
        ``{"id", "answer", …}`` for questions, in the order of the input.

    Raises:
        TunesmithError: the run, the data or an option cannot be used.
    """
    from tunesmith.predicting import Job

    job = Job(run, source, precision, progress or Progress(), top_k, threshold, options)
    for records, _, predictions in job.answers():
        for identifier, prediction in zip(records.ids, predictions, strict=True):
            yield {"id": identifier, **prediction.to_dict()}


@for_python(UseOptions)
def write_predictions(
    run: Run | str | Path,
    source: Examples,
    out: str | Path,
    precision: str = "float32",
    progress: Progress | None = None,
    *,
    only: bool = False,
    overwrite: bool = False,
    top_k: int | None = None,
    threshold: float | None = None,
    **options: Unpack[UseOptions],
) -> Written:
    """Predictions in a file: the columns of the input, as they stand there, and beside them those of `predict`.

    Args:
        run, source, precision, progress, top_k, threshold, options: as of `predict`.
        out: the file; its ending tells the format: ``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``, ``.xlsx``, or
            ``.labelstudio.json`` for tasks with pre-annotations. It is there as a whole, or not at all.
        only: identifiers and predictions alone.
        overwrite: replace a file that is there.

    Returns:
        How many rows were written, and what the new columns are called.

    Raises:
        DataError: also where Excel cannot hold the rows.
        ResourceError: the disk is full.
        UsageError: also where the file is there already, or its ending tells no format.
    """
    from tunesmith.data.writing import Target
    from tunesmith.tasks.predictions import require_narrowing

    target = Target.of(out, overwrite)
    require_narrowing(top_k, threshold)
    from tunesmith.predicting import Job

    return Job(run, source, precision, progress or Progress(), top_k, threshold, options).write(target, only)


@for_python(UseOptions)
def evaluate(
    run: Run | str | Path,
    data: Examples,
    against: Run | str | Path | None = None,
    progress: Progress | None = None,
    **options: Unpack[UseOptions],
) -> Evaluation:
    """Score a run on new labelled data.

    Args:
        run: a run or its folder, or an artefact.
        data: labelled examples.
        against: a second run on the same labels, for a paired test.
        progress: where it is told what is read otherwise than in training, and which rows a run has seen; by default on
            standard error.
        options: the names of the flags that say how it is read, where that is not as in training (``label="topic"``);
            ``allow`` as of `Predictor.load`.

    Raises:
        DataError: the data cannot be read or has labels the model does not know.
        ModelError: a run has no usable model.
    """
    from tunesmith import evaluating

    return evaluating.evaluate(run, data, against, progress or Progress(), **options)


@for_python(UseOptions)
def export(
    run: Run | str | Path,
    to: str | Path,
    precision: str = "float32",
    progress: Progress | None = None,
    *,
    data: Examples | None = None,
    max_loss: float = 0.01,
    overwrite: bool = False,
    **options: Unpack[UseOptions],
) -> Exported:
    """Make a light artefact, which answers without torch; `load`, `predict` and `evaluate` take it as they take a run.

    It is measured beside the model that it is made from before it is accepted; see the command of the same name.

    Args:
        run: a run or its folder, its model folder, or a folder that transformers saved with a head that is one of ours.
        to: the folder that is made.
        precision: ``float32``; ``float16``, weights of half the size; ``int8``, smaller and faster, and rounded.
        progress: by default on standard error.
        data: labelled examples to measure on; by default the run's own validation rows.
        max_loss: how much of the metric that counts may be lost, by the worse end of the difference's interval: 0.01 is
            one point of a share, or one per cent of another metric.
        overwrite: replace an artefact that is there.
        options: the names of the flags that say how `data` is read, where that is not as in training; ``allow`` as of
            `Predictor.load`.

    Raises:
        ModelError: the model cannot be exported, or would lose more.
        DataError: there are no rows to measure on, or they cannot be read.
        UsageError: an option, or the folder, cannot be used.
    """
    require("train", "onnx", "predict")
    from tunesmith.exporting.order import Order

    order = Order(Path(str(run)), Path(to), precision, max_loss, overwrite)
    own = None if data is not None else order.own_rows()
    from tunesmith.exporting import making

    return making.export(order, own, data, progress or Progress(), **options)


@for_python()
def push(
    run: Run | str | Path,
    name: str,
    *,
    public: bool = False,
    license: str | None = None,
    language: str | None = None,
    local: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Pushed:
    """Send a trained model with its card to the Hugging Face Hub, after a list of what is sent.

    It goes to a private repository, which is made where there is none. Data, predictions, findings and the hashes of
    training texts stay here. The token is that of ``hf auth login``, or HF_TOKEN.

    Args:
        run: a run or its folder, its model folder, or an artefact.
        name: ``owner/name``.
        public: the repository may be seen by all.
        license: for the card, an identifier of the Hub (``apache-2.0``); as in the card if it is not given.
        language: for the card, two-letter codes separated by commas; as in the card if it is not given.
        local: no network is to be used, which only a dry run does not.
        dry_run: only list what would be sent; the Hub is not asked anything.
        progress: where the list and warnings are shown; by default on standard error.

    Raises:
        ModelError: there is no whole model, or its card cannot be read.
        ResourceError: the Hub cannot be reached, or is busy; the same call goes on.
        UsageError: the name or the token is none, or the Hub refuses it; it is offline.
    """
    from tunesmith import publishing

    if local and not dry_run:
        raise UsageError("`local`: `push` needs the network; leave it out, or look with `dry_run`")
    folder = run.folder if isinstance(run, Run) else Path(run)
    return publishing.push(folder, name, public, license, language, dry_run, progress or Progress())
