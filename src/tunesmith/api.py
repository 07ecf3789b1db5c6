"""The Python calls; the command of the same name parses its flags and calls one of these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from tunesmith.catalogue.catalogue import Suggestion, select
from tunesmith.config.loading import flags, resolve
from tunesmith.config.options import AdaptOptions, ReadOptions, TrainOptions, UseOptions
from tunesmith.config.schema import AdaptConfig, Config, DataSettings
from tunesmith.data import read
from tunesmith.data.checks import Finding, run_checks
from tunesmith.data.layout import find_layout, to_records
from tunesmith.data.reading import load_splits
from tunesmith.data.sources import Examples
from tunesmith.data.summary import Summary, summarise
from tunesmith.errors import UsageError
from tunesmith.extras import require
from tunesmith.network import offline
from tunesmith.opening import default_folder, opened, opened_texts
from tunesmith.progress import Progress
from tunesmith.run.record import AdaptRecord, Run, RunRecord
from tunesmith.run.runs import RUNS, RunFacts, Tree, continued, finished, runs_in
from tunesmith.spelling import for_python
from tunesmith.startup import uncollected
from tunesmith.tasks import shape_of
from tunesmith.text import name_list

if TYPE_CHECKING:
    from tunesmith.adapting import AdaptedModel
    from tunesmith.evaluating import Evaluation
    from tunesmith.exporting.making import Exported
    from tunesmith.predicting import Written
    from tunesmith.predictor import Predictor
    from tunesmith.publishing import Pushed

FINISHED = "the run in {} is finished; nothing is left to continue"


class Findings(list[Finding]):
    """What the checks found.

    Attributes:
        read: rows, columns, task, labels and lengths.
    """

    def __init__(self, findings: Iterable[Finding], read: Summary) -> None:
        super().__init__(findings)
        self.read = read


@for_python(TrainOptions)
def check(
    data: Examples,
    config: Config | str | Path | None = None,
    *,
    valid: Examples | None = None,
    test: Examples | None = None,
    **options: Unpack[TrainOptions],
) -> Findings:
    """Read examples and run every data check.

    Args:
        data: a path, ``hub:`` name, `datasets.Dataset` or `DatasetDict`, a table of any library that speaks Arrow
            (pandas, polars, duckdb, pyarrow), a list of dicts, or a dict of columns.
        config: a configuration, or a file with one.
        valid, test: more of them, in any of these forms.
        options: the names of the flags (``text="body"``, ``method="lora"``, ``lr=1e-4``); they win over the file.

    Returns:
        A list of what was found; its ``read`` says what was read.

    Raises:
        DataError: they cannot be read.
    """
    config, sources = _prepared(Config, config, options, data, valid, test)
    splits, layout = load_splits(sources, config.data, shape_of(config.task.name), config.model.local)
    return Findings(run_checks(splits, layout.shape), summarise(splits, layout, config.task.name != "auto"))


@for_python(TrainOptions)
def train(
    data: Examples | None = None,
    config: Config | str | Path | None = None,
    progress: Progress | None = None,
    *,
    valid: Examples | None = None,
    test: Examples | None = None,
    **options: Unpack[TrainOptions],
) -> Run:
    """Train and test a model; see the command of the same name.

    Args:
        data, config, options: as of `check`; with ``resume=True`` those of the run that is continued need not be given.
        progress: where it is shown; by default on standard error.
        valid, test: validation and test examples; split off `data` if they are not given.

    Returns:
        The run: ``run.metrics["test"]["accuracy"].value``, ``run.folder``.

    Raises:
        TunesmithError: see `tunesmith.errors`.
    """
    config, sources = _prepared(Config, config, options, data, valid, test)
    progress = progress or Progress()
    if record := finished(config, sources):
        progress.line(FINISHED.format(config.output.out))
        return Run(Path(str(config.output.out)), cast(RunRecord, record))
    require("train")
    with offline(config.model.local), opened(sources, config, progress) as opening:
        with uncollected():
            from tunesmith import pipeline

        return pipeline.train(opening, progress)


@for_python(AdaptOptions)
def adapt(
    texts: Examples | None = None,
    config: AdaptConfig | str | Path | None = None,
    progress: Progress | None = None,
    *,
    valid: Examples | None = None,
    test: Examples | None = None,
    **options: Unpack[AdaptOptions],
) -> AdaptedModel:
    """Continue masked-language-model training on the texts of a domain; see the command of the same name.

    Args:
        texts: folder or file of texts, or labelled examples, of which the training rows are used; see `train` for
            ``resume=True``.
        config, progress, options: as of `train`.
        valid, test: what takes the place of the texts that are held out, or left out.

    Returns:
        The model: ``adapted.folder`` is a starting point for `train`, ``adapted.perplexity["after"].value``.

    Raises:
        TunesmithError: see `tunesmith.errors`.
    """
    config, sources = _prepared(AdaptConfig, config, options, texts, valid, test)
    progress = progress or Progress()
    if record := finished(config, sources):
        from tunesmith.adapting import AdaptedModel

        progress.line(FINISHED.format(config.output.out))
        return AdaptedModel(Path(str(config.output.out)), cast(AdaptRecord, record))
    require("train")
    with offline(config.model.local), opened_texts(sources, config, progress) as opening:
        with uncollected():
            from tunesmith import adapting

        return adapting.adapt(opening, config, progress)


def _prepared(
    kind: type[Tree],
    config: Tree | str | Path | None,
    options: Mapping[str, Any],
    data: Examples | None,
    valid: Examples | None,
    test: Examples | None,
) -> tuple[Tree, dict[str, Examples]]:
    """The configuration, made of a file and options if it is none; and what is read for each split."""
    if config is None or isinstance(config, str | Path):
        config = resolve(config, options, (), kind)
    elif not isinstance(config, kind):
        wanted = "an AdaptConfig" if kind is AdaptConfig else "a Config"
        raise UsageError(f"`config`: expected {wanted} or a file, found {type(config).__name__}")
    elif others := [name for name, value in options.items() if value is not None]:
        raise UsageError(f"give a {kind.__name__}, or options ({name_list(others)}), not both")
    if config.output.resume:
        own = default_folder(data, config) if isinstance(config, Config) else None
        config, data = continued(config, data, own)
    if data is None:
        raise UsageError("the examples are missing: name a file or folder, or the run to continue with output.resume")
    settings: DataSettings = config.data
    sources, files = {"train": data}, dict[str, str | None]()
    for name, given in (("valid", valid), ("test", test)):
        source = getattr(settings, name) if given is None else given
        if source is not None:
            sources[name] = source
        files[name] = str(source) if isinstance(source, str | Path) else None
    return config.model_copy(update={"data": settings.model_copy(update=files)}), sources


def runs(folder: str | Path = RUNS) -> list[RunFacts]:
    """The runs in a folder, the latest first.

    Raises:
        UsageError: there is no such folder.
    """
    return runs_in(folder)


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
        run: a run or its folder, or its model folder.
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


@for_python(ReadOptions)
def find_models(
    domain: str | None = None,
    language: str | None = None,
    data: Examples | None = None,
    folders: Sequence[str | Path] = (),
    task: str | None = None,
    **options: Unpack[ReadOptions],
) -> list[Suggestion]:
    """Starting points of the catalogue; see the command ``models``.

    Args:
        domain: only those for texts of this domain.
        language: only those that read this language, a two-letter code.
        data: examples with or without labels: the tokenizers on this machine are measured on a sample of their texts,
            and the models ranked by how well they fit. The network is never asked.
        folders: of models to be measured, too.
        task: what the data is for, where it can be read in two ways.
        options: the names of the flags that say how the data is read (``text="body"``, ``format="csv"``).

    Raises:
        DataError: the data cannot be read, or has no words.
        ModelError: a folder has no usable model.
        UsageError: there is no such domain or language, or an option needs `data`.
    """
    given: dict[str, Any] = {"task": task, **options}
    entries, config = select(domain, language), resolve(options=given)
    if data is None:
        given["model"] = folders or None
        if keys := [flags()[name] for name, value in given.items() if value is not None]:
            raise UsageError(f"{key}: needs `data`, the texts to measure on" for key in keys)
        return [Suggestion(entry.id, entry) for entry in entries]
    from tunesmith.catalogue.tokenizer_fit import rank_by_fit

    raw = read(data, config.data, plain_text=True, split="train")
    layout = find_layout(raw, config.data, shape_of(config.task.name), need_label=False)
    return rank_by_fit(entries, [str(folder) for folder in folders], to_records(raw, layout))
