"""A model that knows the domain: masked-language-model training on unlabelled text, from files to a model folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tunesmith.config.schema import AdaptationSettings, AdaptConfig
from tunesmith.data.files import local_path
from tunesmith.data.readers.memory import source_name
from tunesmith.data.sources import Examples, source_facts
from tunesmith.data.texts import DomainTexts, read_texts
from tunesmith.errors import DataError, UsageError
from tunesmith.evaluation.intervals import Score
from tunesmith.methods.base import usual_defaults
from tunesmith.models.loading import (
    Source,
    find_source,
    load_config,
    load_tokenizer,
    token_limit,
    weights_sha256,
)
from tunesmith.models.masked import load_masked, save_masked
from tunesmith.progress import Progress, require_tracker
from tunesmith.run.folder import Clock, check_folder, identity, kept, locked
from tunesmith.run.record import AdaptData, AdaptRecord, EnginePart, FilePart, Machine, ModelPart
from tunesmith.tasks import shape_of
from tunesmith.tasks.masked_words import Blocks, Stream, Vocabulary, choose_block_length, tokenise
from tunesmith.training.masked import Adaptation, Adapted, adapt_model
from tunesmith.training.precision import Precision, choose_precision
from tunesmith.training.signals import StopRequest
from tunesmith.training.stepping import Workplace

RECORD = AdaptRecord.FILE
UNKNOWN_SHARE = 0.1
"""More unknown tokens than this are worth a warning."""
FRESH_HEAD = (
    "the checkpoint has no (whole) masked-language head, so one starts fresh; it is trained alone before the body moves"
)


@dataclass(frozen=True)
class AdaptedModel:
    """An adapted model on disk.

    Attributes:
        folder: a model folder, for ``--model`` or plain transformers.
        content: of its ``adapt.json``.
    """

    folder: Path
    content: AdaptRecord

    @property
    def record(self) -> Mapping[str, Any]:
        """The content of ``adapt.json`` as a plain mapping."""
        return self.content.to_dict()

    @property
    def perplexity(self) -> dict[str, Score]:
        """``before``, ``after_warmup`` (of a fresh head) and ``after``, on held-out text, with 95 % intervals."""
        found = {name: getattr(self.content, f"perplexity_{name}") for name in ("before", "after_warmup", "after")}
        return {name: score for name, score in found.items() if score is not None}

    def __str__(self) -> str:
        return str(self.folder)


def adapt(sources: Mapping[str, Examples], config: AdaptConfig, progress: Progress) -> AdaptedModel:
    """Continue the masked-language-model training of a model on the texts of a domain.

    Args:
        sources: of texts to learn from (``"train"``), and perhaps of others; see `tunesmith.data.texts.read_texts`.
        config: every setting; ``output.out`` is needed.
        progress: progress for the user.

    Raises:
        TunesmithError: of any kind; ``adapt.json`` then says ``failed`` or ``stopped``.
    """
    if config.output.out is None:
        raise UsageError("output.out is missing: name a folder for the adapted model")
    folder, texts = Path(config.output.out), source_name(sources["train"])
    with ExitStack() as context:
        context.enter_context(locked(folder, RECORD))
        inputs = [*(str(one) for one in sources.values() if isinstance(one, str | Path)), config.model.name]
        check_folder(folder, config.output.overwrite, config.output.resume, inputs, RECORD)
        if isinstance(sources["train"], str | Path) and not texts.startswith("hub:"):
            local_path(texts)  # before a model is loaded, or even fetched
        if Path(texts).is_dir() and folder.resolve().is_relative_to(Path(texts).resolve()):
            raise UsageError(f"output.out={folder}: lies in {texts}, whose files are read; give a folder outside of it")
        require_tracker(config.training.tracker)
        torch.set_num_threads(config.training.threads or torch.get_num_threads())
        clock = Clock()

        with clock.stage("model"):
            source = find_source(config.model)
            tokenizer = load_tokenizer(source)
            vocabulary = Vocabulary.of(tokenizer, source.name)
            model, fresh = load_masked(source, tokenizer, config.training.seed)
            if config.output.resume:  # goes on with what was measured when it began
                precision = Precision(**AdaptRecord.load(folder).engine["precision"].model_dump())
            else:
                precision = choose_precision(config.training.precision)
            if fresh:
                progress.line(f"note: model {source.name}: {FRESH_HEAD}")
        with clock.stage("data"):
            data = read_texts(
                sources, config.data, shape_of(config.task.name), config.training.seed, config.model.local
            )
            for note in data.notes:
                progress.line(f"note: {note}")
        # Nothing was written so far: a bad file or model leaves an earlier model in the folder as it was.
        record = _begin(config, source, data, precision)
        context.enter_context(kept(folder, record, config.output.resume))

        with clock.stage("encode"):
            limit = token_limit(load_config(source), tokenizer)
            train, held_out = _blocks(data, tokenizer, vocabulary, limit, config, folder, progress)
            _require_known(train.stream, held_out.stream, texts, source.name, progress)
        settings = _resolve(config.training, model, train, precision)
        with clock.stage("train"):
            place = Workplace(folder, tokenizer, progress, StopRequest(), record.identity, config.output.resume)
            job = Adaptation(model, fresh, train, held_out, settings, config.engine, place)
            adapted = adapt_model(job)
        save_masked(model, tokenizer, source, folder)
        _finish(record, job, adapted, config, clock)
        record.save(folder)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # a run that is killed before needs them
    return AdaptedModel(folder, record)


def _begin(config: AdaptConfig, source: Source, data: DomainTexts, precision: Precision) -> AdaptRecord:
    files = [FilePart(**source_facts(records)) for records in data.sources]
    sides, sha256 = {"train": len(data.train), "held_out": len(data.held_out)}, weights_sha256(source)
    hashes = [sides, [file.sha256 for file in files], sha256]
    return AdaptRecord(
        model=ModelPart(name=source.name, revision=source.revision, sha256=sha256),
        data=AdaptData(files=files, texts=sides, notes=list(data.notes)),
        config=config,
        seed=config.training.seed,
        machine=Machine.here(torch.get_num_threads()),
        engine={"precision": EnginePart(**precision.to_dict())},
        requested=config,
        identity=identity(config.model_dump(mode="json"), data=hashes),
    )


def _blocks(
    data: DomainTexts,
    tokenizer: Any,
    vocabulary: Vocabulary,
    limit: int,
    config: AdaptConfig,
    folder: Path,
    progress: Progress,
) -> tuple[Blocks, Blocks]:
    work, settings = folder / ".work", config.training
    work.mkdir(exist_ok=True)
    with progress.bar("tokenise", len(data.train) + len(data.held_out)) as bar:
        streams = [
            tokenise(texts, tokenizer, vocabulary, work / name, bar.advance)
            for name, texts in (("train", data.train), ("held-out", data.held_out))
        ]
    length = choose_block_length(streams[0], limit, settings.max_length)
    train, held_out = (Blocks(s, vocabulary, length, settings.masked_share, settings.seed) for s in streams)
    progress.line(
        f"{len(data.train):,} texts make {len(train):,} blocks of {length} tokens; {len(held_out):,} more are held out"
    )
    return train, held_out


def _require_known(train: Stream, held_out: Stream, texts: str, model: str, progress: Progress) -> None:
    """Refuse texts of which the tokenizer knows nothing, and tell of those of which it knows little.

    Raises:
        DataError: no token of one side can be predicted.
    """
    advice = "`tunesmith models --data TEXTS` shows which models read them"
    for stream, side in ((train, "to learn from"), (held_out, "held out")):
        if not stream.known:
            raise DataError(f"{texts}: the tokenizer of {model} knows no word of the texts {side}; {advice}")
    share = train.unknown / (train.known + train.unknown)
    if share > UNKNOWN_SHARE:
        progress.line(
            f"warning: the tokenizer of {model} does not know {share:.0%} of the pieces of the texts; {advice}"
        )


def _resolve(settings: AdaptationSettings, model: Any, train: Blocks, precision: Precision) -> AdaptationSettings:
    chosen = usual_defaults(model, len(train)).missing_in(settings)
    return settings.model_copy(update={**chosen, "max_length": train.length, "precision": precision.state})


def _finish(record: AdaptRecord, job: Adaptation, adapted: Adapted, config: AdaptConfig, clock: Clock) -> None:
    record.model = record.model.model_copy(update={**adapted.summary, "fresh_head": job.fresh})
    record.config = config.model_copy(update={"training": job.settings})
    engine = {name: EnginePart(**part) for name, part in adapted.engine.items()}
    head = EnginePart(state="predicted tokens alone" if adapted.spared else "all tokens")
    record.engine = engine | record.engine | {"head": head}
    record.timing = clock.timing(adapted.tokens, adapted.seconds)
    record.tokens = {"train": len(job.train.stream.ids), "held_out": len(job.held_out.stream.ids)}
    record.blocks = {"train": len(job.train), "held_out": len(job.held_out), "length": job.train.length}
    record.steps = adapted.steps
    for name, score in adapted.perplexity.items():
        setattr(record, f"perplexity_{name}", score)
    record.status = "done"
