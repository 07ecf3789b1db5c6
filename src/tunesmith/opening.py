"""What comes before a model: the folder is opened, the examples are read, checked and split.

Knows no torch, which takes seconds to import: what is wrong with a folder, a file or a column is told before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path

from tunesmith import signals
from tunesmith.augmentation.rows import chosen_techniques
from tunesmith.config.schema import AdaptConfig, Config
from tunesmith.data.checks import Finding, run_checks
from tunesmith.data.files import local_path
from tunesmith.data.layout import Layout
from tunesmith.data.readers.memory import source_name
from tunesmith.data.reading import load_splits, with_missing
from tunesmith.data.records import Records
from tunesmith.data.sources import Examples, source_facts
from tunesmith.data.summary import summary_line
from tunesmith.data.texts import DomainTexts, read_texts
from tunesmith.errors import DataError, UsageError
from tunesmith.models.sealed import PREVIOUS, is_finished
from tunesmith.progress import Progress
from tunesmith.run.folder import CHECKPOINTS, AnyRecord, Clock, locked, open_folder
from tunesmith.run.record import AdaptRecord, FilePart, RunRecord
from tunesmith.run.runs import RUNS, progress_of
from tunesmith.tasks import shape_of

_COUNT = re.compile(r"^\d[\d,]*|(?<=\()\d[\d.]*%(?=\))|(?<=, )\d[\d,]*(?= of them )")
"""How many rows a message is about, and their share: ``60 rows … (3.4%)``."""


@dataclass(frozen=True)
class Opening:
    """A run before its model.

    Attributes:
        folder: of the run, locked while it lasts.
        config: every setting, the splits that came with the training examples among them.
        clock: of the run.
        splits: {"train", "valid", "test"} → records.
        layout: what their columns mean.
        files: facts of each source that was read, not split off, for the record.
        findings: of the data checks; none is a failure.
        earlier: record of the run in the folder that goes on; None for a new one.
    """

    folder: Path
    config: Config
    clock: Clock
    splits: dict[str, Records]
    layout: Layout
    files: dict[str, FilePart]
    findings: list[Finding]
    earlier: RunRecord | None


@contextmanager
def opened(sources: Mapping[str, Examples], config: Config, progress: Progress) -> Iterator[Opening]:
    """Everything of a run that needs no model.

    Args:
        sources: of the split ``"train"``, and perhaps of ``"valid"`` and ``"test"``.
        progress: for what the checks warn of.

    Raises:
        DataError: the examples cannot be read, or a check failed.
        UsageError: the folder or a setting cannot be used.
    """
    folder = Path(config.output.out) if config.output.out else default_folder(sources["train"], config)
    made_with = config.augmentation.lexicon, config.augmentation.masked_model
    with _folder(RunRecord, folder, config, sources, progress, *made_with) as earlier:
        clock = Clock()
        chosen_techniques(config, shape_of(config.task.name))  # need not wait for the data
        with clock.stage("data"):
            splits, layout, files = read_splits(sources, config)
            progress.line(summary_line(splits, layout))
            findings = run_checks(splits, layout.shape)
            tell(findings, progress)
        config = _with_own_parts(config, sources, files)
        yield Opening(folder, config, clock, splits, layout, files, findings, earlier)


@dataclass(frozen=True)
class TextsOpening:
    """An adaptation before its model.

    Attributes:
        folder: of the adapted model, locked while it is made.
        name: what the texts are called.
        clock: of the run.
        data: the texts.
        earlier: record of the run in the folder that goes on; None for a new one.
    """

    folder: Path
    name: str
    clock: Clock
    data: DomainTexts
    earlier: AdaptRecord | None


@contextmanager
def opened_texts(sources: Mapping[str, Examples], config: AdaptConfig, progress: Progress) -> Iterator[TextsOpening]:
    """Everything of an adaptation that needs no model.

    Args:
        sources: of texts to learn from (``"train"``), and perhaps of others; see `read_texts`.
        config: every setting; ``output.out`` is needed.
        progress: for what is to be known of the texts.

    Raises:
        DataError: the texts cannot be read.
        UsageError: the folder cannot be used.
    """
    if config.output.out is None:
        raise UsageError("output.out is missing: name a folder for the adapted model")
    folder, name = Path(config.output.out), source_name(sources["train"])
    with _folder(AdaptRecord, folder, config, sources, progress) as earlier:
        clock = Clock()
        _check_paths(folder, sources["train"], name)
        with clock.stage("data"):
            shape, settings = shape_of(config.task.name), config.training
            data = read_texts(sources, config.data, shape, settings.seed, config.model.local)
            for note in data.notes:
                progress.line(f"note: {note}")
        yield TextsOpening(folder, name, clock, data, earlier)


@contextmanager
def _folder(
    kind: type[AnyRecord],
    folder: Path,
    config: Config | AdaptConfig,
    sources: Mapping[str, Examples],
    progress: Progress,
    *ingredients: str | None,
) -> Iterator[AnyRecord | None]:
    """The folder is locked and free for the run, or holds the one that goes on, whose record is given.

    Args:
        kind: of its record.
        sources, ingredients: what it reads besides the model; none of it may lie in a folder that is replaced.
    """
    read = [str(source) for source in (*sources.values(), *ingredients) if isinstance(source, str | Path)]
    with locked(folder, kind.FILE):
        earlier = open_folder(kind, folder, config.output, [*read, config.model.name])
        _check_tracker(config.training.tracker, config.model.local)
        aside = folder / PREVIOUS
        if earlier is not None and aside.is_dir():
            kept = f"the finished one that it replaces is in {aside} until then"
            progress.line(f"continuing the run in {folder}, {progress_of(folder)}; {kept}")
        elif earlier is not None:
            anew = "output.overwrite without output.resume" if config.output.resume else "output.overwrite"
            progress.line(f"continuing the run in {folder}, {progress_of(folder)}; {anew} starts anew")
        elif is_finished(folder):
            progress.line(f"note: the finished run in {folder} is in {aside} until the one that replaces it is done")
        elif (folder / CHECKPOINTS).is_dir():
            progress.line(f"note: output.overwrite replaces an unfinished run in {folder}, {progress_of(folder)}")
        starts = "nothing is saved yet; the same command starts again"
        signals.current().saved = starts if earlier is None else f"{progress_of(folder)}; the same command goes on"
        yield earlier


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
    first = files["train"].path  # whose rows a column may divide
    own = {name: file.path for name, file in files.items() if name not in sources and file.path != first}
    on_disk = own if isinstance(sources["train"], str | Path) else {}
    return config.model_copy(update={"data": config.data.model_copy(update=on_disk)})


def tell(findings: Sequence[Finding], progress: Progress) -> None:
    """Show warnings, and how the files were read.

    Raises:
        DataError: a finding is a failure.
    """

    if failures := _grouped(findings, "failure"):
        raise DataError(failures)
    for finding in findings:
        if (finding.level, finding.code) == ("note", "reading"):
            progress.line(f"note: {finding.message}")
    for warning in _grouped(findings, "warning"):
        progress.line(f"warning: {warning}")


def _grouped(findings: Sequence[Finding], level: str) -> list[str]:
    """One line for each thing that was found; what differs between splits in nothing but numbers is one thing."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        if finding.level == level:
            groups.setdefault((finding.advice, *_COUNT.split(finding.message)), []).append(finding)
    lines = []
    for (advice, *between), group in groups.items():
        counts = map(" / ".join, zip(*(_COUNT.findall(finding.message) for finding in group), strict=True))
        message = "".join(part for pair in zip_longest(between, counts, fillvalue="") for part in pair)
        splits = ", ".join(finding.split for finding in group if finding.split)
        lines.append(f"{splits}{': ' if splits else ''}{message}; {advice}")
    return lines


def default_folder(source: Examples | None, config: Config) -> Path:
    """``runs/<name of the data>-<method>``."""
    name = Path(source).name.partition(".")[0] if isinstance(source, str | Path) else ""
    return Path(RUNS) / f"{name or 'data'}-{config.method.name}"


def _check_tracker(tracker: str, local: bool) -> None:
    """It is there, and reaches the network only where it may; its name is that of its package."""
    if local and tracker not in ("none", "tensorboard"):
        problem = f"training.tracker={tracker} may reach the network, which model.local=true refuses"
        raise UsageError(f"{problem}; leave one of them out, or give training.tracker=tensorboard")
    if tracker != "none" and find_spec(tracker) is None:
        raise UsageError(f"training.tracker={tracker}: its package is not installed; run `pip install {tracker}`")


def _check_paths(folder: Path, source: Examples, texts: str) -> None:
    """Refuse texts that are not there, and a folder for the model among those that are read."""
    if isinstance(source, str | Path) and not texts.startswith("hub:"):
        local_path(texts)
    if Path(texts).is_dir() and folder.resolve().is_relative_to(Path(texts).resolve()):
        raise UsageError(f"output.out={folder}: lies in {texts}, whose files are read; give a folder outside of it")
