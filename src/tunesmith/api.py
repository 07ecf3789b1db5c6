"""The Python calls up to a run (`using` has those that take one); the command of the same name calls one of these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from tunesmith.catalogue.catalogue import Suggestion, select
from tunesmith.config.loading import flags, resolve
from tunesmith.config.options import AdaptOptions, ReadOptions, TrainOptions
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
