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
from tunesmith.run import record as records_of
from tunesmith.run.folder import VERSION, check_folder, locked, machine, versions, write_record
from tunesmith.tasks.masked_words import Blocks, Stream, Vocabulary, choose_block_length, tokenise
from tunesmith.training.masked import Adaptation, Adapted, adapt_model
from tunesmith.training.precision import Precision
from tunesmith.training.signals import StopRequest
from tunesmith.training.stepping import Workplace

RECORD = "adapt.json"
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
        record: the content of ``adapt.json``.
    """

    folder: Path
    record: Mapping[str, Any]

    @property
    def perplexity(self) -> dict[str, Score]:
        """``before``, ``after_warmup`` (of a fresh head) and ``after``, on held-out text, with 95 % intervals."""
        found = {name: self.record[f"perplexity_{name}"] for name in ("before", "after_warmup", "after")}
        return {name: Score(**score) for name, score in found.items() if score is not None}

    def __str__(self) -> str:
        return str(self.folder)


def adapt(texts: str, config: AdaptConfig, progress: Progress) -> AdaptedModel:
    """Continue the masked-language-model training of a model on the texts of a domain.

    Args:
        texts: folder or file of texts, or a labelled file; see `tunesmith.data.texts.read_texts`.
        config: every setting; ``output.out`` is needed.
        progress: progress for the user.

    Raises:
        TunesmithError: of any kind; ``adapt.json`` then says ``failed`` or ``stopped``.
    """
    if config.output.out is None:
        raise UsageError("--out is missing: name a folder for the adapted model")
    folder = Path(config.output.out)
    with ExitStack() as context:
        context.enter_context(locked(folder, RECORD))
        inputs = (texts, config.data.valid, config.data.test, config.model.name)
        check_folder(folder, config.output.overwrite, config.output.resume, inputs, RECORD)
        if not texts.startswith("hub:"):
            local_path(texts)  # before a model is loaded, or even fetched
        if Path(texts).is_dir() and folder.resolve().is_relative_to(Path(texts).resolve()):
            raise UsageError(f"--out {folder}: lies in {texts}, whose files are read; give a folder outside of it")
        require_tracker(config.training.tracker)
        torch.set_num_threads(config.training.threads or torch.get_num_threads())
        clock = records_of.Clock()

        with clock.stage("model"):
            source = find_source(config.model)
            tokenizer = load_tokenizer(source)
            vocabulary = Vocabulary.of(tokenizer, source.name)
            model, fresh = load_masked(source, tokenizer, config.training.seed)
            wanted = config.training.precision
            precision = records_of.precision(folder, wanted, config.output.resume, RECORD)
            if fresh:
                progress.line(f"note: model {source.name}: {FRESH_HEAD}")
        with clock.stage("data"):
            data = read_texts(texts, config.data, config.task.name, config.training.seed, config.model.local)
            for note in data.notes:
                progress.line(f"note: {note}")
        # Nothing was written so far: a bad file or model leaves an earlier model in the folder as it was.
        record = _begin(config, source, data, precision)
        context.enter_context(records_of.kept(folder, record, config.output.resume, RECORD))

        with clock.stage("encode"):
            limit = token_limit(load_config(source), tokenizer)
            train, held_out = _blocks(data, tokenizer, vocabulary, limit, config, folder, progress)
            _require_known(train.stream, held_out.stream, texts, source.name, progress)
        settings = _resolve(config.training, model, train, precision)
        with clock.stage("train"):
            place = Workplace(folder, tokenizer, progress, StopRequest(), record["identity"], config.output.resume)
            job = Adaptation(model, fresh, train, held_out, settings, config.engine, place)
            adapted = adapt_model(job)
        save_masked(model, tokenizer, source, folder)
        _finish(record, job, adapted, config, clock)
        write_record(folder, record, RECORD)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # a run that is killed before needs them
    return AdaptedModel(folder, record)


def _begin(config: AdaptConfig, source: Source, data: DomainTexts, precision: Precision) -> dict[str, Any]:
    requested = config.model_dump(mode="json")
    files = [{**records_of.file_facts(path), "rows": rows} for path, rows in data.files]
    sides = {"train": len(data.train), "held_out": len(data.held_out)}
    hashes = [sides, [file["sha256"] for file in files], weights_sha256(source)]
    return {
        "version": VERSION,
        "status": "stopped",
        "model": {"name": source.name, "revision": source.revision, "sha256": weights_sha256(source)},
        "data": {"files": files, "texts": sides, "notes": list(data.notes)},
        "config": requested,
        "seed": config.training.seed,
        "versions": versions(),
        "machine": machine(torch.get_num_threads()),
        "engine": {"precision": precision.to_dict()},
        "timing": {},
        "requested": requested,
        "identity": records_of.identity(requested, data=hashes),
    }


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
    advice = f"`tunesmith models --data {texts}` shows which models read them"
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


def _finish(
    record: dict[str, Any], job: Adaptation, adapted: Adapted, config: AdaptConfig, clock: records_of.Clock
) -> None:
    resolved = config.model_copy(update={"training": job.settings}).model_dump(mode="json")
    scores = {name: score and score.to_dict() for name, score in adapted.perplexity.items()}
    record["model"] |= {**adapted.summary, "fresh_head": job.fresh}
    record |= {
        "status": "done",
        "config": resolved,
        "engine": {**adapted.engine, **record["engine"], "head_at_predicted_tokens_only": adapted.spared},
        "timing": {
            "seconds": clock.seconds,
            "stages": clock.stages,
            "tokens_per_second": round(adapted.tokens / adapted.seconds, 1),
        },
        "tokens": {name: len(blocks.stream.ids) for name, blocks in (("train", job.train), ("held_out", job.held_out))},
        "blocks": {"train": len(job.train), "held_out": len(job.held_out), "length": job.train.length},
        "steps": adapted.steps,
        **{f"perplexity_{name}": score for name, score in scores.items()},
    }
