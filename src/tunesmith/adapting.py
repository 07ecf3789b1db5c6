"""A model that knows the domain: masked-language-model training on unlabelled text, from files to a model folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
from torch import nn

from tunesmith.config.schema import AdaptConfig, MethodSettings, OptimisationSettings, TrainingSettings
from tunesmith.data.keys import alike_keys
from tunesmith.data.records import Records
from tunesmith.data.sources import source_facts
from tunesmith.data.texts import DomainTexts
from tunesmith.engine import Engine, attached
from tunesmith.errors import DataError, DivergedError
from tunesmith.evaluation.intervals import Score
from tunesmith.methods.base import train_only
from tunesmith.methods.full import Full
from tunesmith.models.heads import head_parameter_names
from tunesmith.models.loading import load_tokenizer, token_limit
from tunesmith.models.masked import head_at_predicted, load_masked, save_masked
from tunesmith.models.sealed import seal
from tunesmith.models.seen import remember, seen_keys
from tunesmith.models.source import Source, find_source
from tunesmith.opening import TextsOpening
from tunesmith.progress import Progress
from tunesmith.run import entries, inputs
from tunesmith.run.folder import Clock, close, kept
from tunesmith.run.record import AdaptData, AdaptRecord, EnginePart, FilePart
from tunesmith.tasks.base import LabelSpace
from tunesmith.tasks.encoding import Encoder, Truncation
from tunesmith.tasks.masked_words import MaskedBlocks, MaskedWords, Stream, Vocabulary, choose_block_length
from tunesmith.training.fitting import Fitting
from tunesmith.training.inference import predict_logits
from tunesmith.training.learning import fit
from tunesmith.training.needs import require_result
from tunesmith.training.precision import Precision, choose_device

RESAMPLES = 1_000
BLOCKS_AT_ONCE = 16
"""Held-out blocks that go through the model together, unless fewer do in training."""
UNKNOWN_SHARE = 0.1
"""More unknown tokens than this are worth a warning."""
FRESH_HEAD = (
    "the checkpoint has no (whole) masked-language head, so one starts fresh; it is trained alone before the body moves"
)


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        shown = "".join(f", perplexity {name} {score.value:.1f}" for name, score in self.perplexity.items())
        return f"AdaptedModel({str(self.folder)!r}: {self.content.model.name}{shown})"


def adapt(opening: TextsOpening, config: AdaptConfig, progress: Progress) -> AdaptedModel:
    """Continue the masked-language-model training of a model on the texts of a domain.

    Args:
        opening: the folder and the texts.
        config: every setting.
        progress: progress for the user.

    Raises:
        TunesmithError: of any kind; ``adapt.json`` then says ``failed`` or ``stopped``.
    """
    folder, clock, data = opening.folder, opening.clock, opening.data
    entries.use_threads(config, opening.earlier)
    settings = TrainingSettings(**config.training.model_dump(include=set(OptimisationSettings.model_fields)))
    with clock.stage("model"):
        source = find_source(entries.pinned(config, opening.earlier).model)
        before = seen_keys(source.root)
        tokenizer = load_tokenizer(source)
        task = MaskedWords(Vocabulary.of(tokenizer, source.name), config.training.masked_share, settings.seed)
        model, fresh = load_masked(source, tokenizer, settings.seed)
        begun = Fitting(
            task=task,
            space=LabelSpace(()),
            source=source,
            tokenizer=tokenizer,
            model=model.to(choose_device()),
            truncation=Truncation(token_limit(model.config, tokenizer)),
            settings=settings,
            engine=config.engine,
            folder=folder,
            progress=progress,
        )
        if fresh:
            progress.line(f"note: model {source.name}: {FRESH_HEAD}")
        with head_at_predicted(model):
            precision = begun.settle(entries.precision(config, opening.earlier))
    # Nothing was written so far: a bad file or model leaves an earlier model in the folder as it was.
    record = _begin(config, source, data, precision)
    begun.resume, begun.identity = entries.compare(opening.earlier, record, config.output)
    require_result(folder, model)
    with kept(folder, record, begun.resume, config.output) as begun.again:
        with clock.stage("encode"):
            train, held_out = _encode(begun, data)
            _require_known(begun, train.stream, held_out.stream, opening.name)
        begun.settings = begun.settings.model_copy(update={"max_length": train.length})
        with clock.stage("train"):
            phases, report = _train(begun, train, held_out, config.training.head_steps if fresh else 0, record)
        save_masked(model, tokenizer, source, folder)
        remember(folder, before, alike_keys(data.train))
        record.files = seal(folder)
        record.engine = {part: EnginePart(**found) for part, found in report.items()} | record.engine
        _finish(record, phases, held_out, clock)
        close(folder, record, config.output.keep_checkpoints)
    return AdaptedModel(folder, record)


def _begin(config: AdaptConfig, source: Source, data: DomainTexts, precision: Precision) -> AdaptRecord:
    files = [FilePart(**source_facts(records)) for records in data.sources]
    sides, weights = {"train": data.train, "held out": data.held_out}, inputs.model_files(source)
    identity = weights | inputs.data_files(files) | inputs.texts(sides)
    return AdaptRecord(
        model=entries.model_part(source, weights),
        data=AdaptData(
            files=files, texts={"train": len(data.train), "held_out": len(data.held_out)}, notes=list(data.notes)
        ),
        **entries.common(config, precision, identity),
    )


def _encode(begun: Fitting, data: DomainTexts) -> tuple[MaskedBlocks, MaskedBlocks]:
    """Blocks to learn from, and those that are held out, whose masks never change."""
    task, truncation, work = cast(MaskedWords, begun.task), begun.truncation, begun.folder / ".work"
    work.mkdir(exist_ok=True)
    sides = {"train": data.train, "held out": data.held_out}
    with begun.progress.bar("tokenise", sum(map(len, sides.values()))) as bar:
        train, held_out = (
            task.encode(
                Records(pa.table({"text": texts}), name),
                begun.space,
                Encoder(begun.tokenizer, truncation, work / name, bar.advance),
                labelled=True,
            )
            for name, texts in sides.items()
        )
    length = choose_block_length(train.stream, truncation.max_tokens, begun.settings.max_length)
    train, held_out = replace(train, length=length), replace(held_out, length=length, phase="held out")
    begun.progress.line(
        f"{len(data.train):,} texts make {len(train):,} blocks of {length} tokens; {len(held_out):,} more are held out"
    )
    return train, held_out


def _require_known(begun: Fitting, train: Stream, held_out: Stream, texts: str) -> None:
    """Refuse texts of which the tokenizer knows nothing, and tell of those of which it knows little.

    Raises:
        DataError: no token of one side can be predicted.
    """
    model, advice = begun.source.name, "`tunesmith models --data TEXTS` shows which models read them"
    for stream, side in ((train, "to learn from"), (held_out, "held out")):
        if not stream.known:
            raise DataError(f"{texts}: the tokenizer of {model} knows no word of the texts {side}; {advice}")
    share = train.unknown / (train.known + train.unknown)
    if share > UNKNOWN_SHARE:
        begun.progress.line(
            f"warning: the tokenizer of {model} does not know {share:.0%} of the pieces of the texts; {advice}"
        )


class _Head(Full):
    """Train the head alone."""

    def apply(self, model: nn.Module) -> nn.Module:
        train_only(model, head_parameter_names(model))
        return model


class _All(Full):
    """Train everything, at one learning rate: the head is not new any more."""

    def parameter_groups(self, model: nn.Module, training: TrainingSettings) -> list[dict[str, Any]]:
        return super().parameter_groups(model, training.model_copy(update={"head_lr": training.lr}))


def _train(
    begun: Fitting, train: MaskedBlocks, held_out: MaskedBlocks, head_steps: int, record: AdaptRecord
) -> tuple[dict[str, Fitting], dict[str, Any]]:
    """The phases of training by name, with perplexity before and after each, and what the engine did.

    Args:
        head_steps: in which a fresh head is trained alone first, in whole passes, so that its first gradients do not
            move the body; 0 where the head is not fresh.
    """
    body = begun.by(_All(MethodSettings()), train)
    phases = {"step": body}
    if head_steps:
        head = begun.by(_Head(MethodSettings()), replace(train, phase="head"))
        passes = math.ceil(head_steps / head.steps_per_epoch)
        head.settings, head.phase = head.settings.model_copy(update={"epochs": passes}), "head"
        phases = {"head": head, "step": body}
    packing = partial(Engine, packing=begun.engine.uses("packing"))
    with attached(begun.model, packing) as engine, head_at_predicted(begun.model) as spared:
        record.perplexity_before = perplexity(body, held_out)
        for name, fitting in phases.items():
            fit(fitting)
            found = perplexity(fitting, held_out)
            setattr(record, "perplexity_after" if name == "step" else "perplexity_after_warmup", found)
        return phases, engine.report() | {"head": {"state": "predicted tokens alone" if spared else "all tokens"}}


def perplexity(fitting: Fitting, held_out: MaskedBlocks) -> Score:
    """Exponential of the mean loss of the predicted tokens, with an interval over blocks; always the same masks.

    Raises:
        DivergedError: it is not finite.
    """
    task, settings = fitting.task, fitting.settings
    rows = min(BLOCKS_AT_ONCE, max(1, (settings.batch_size or 1) // settings.accumulation))
    losses = predict_logits(fitting.model, held_out, fitting.tokenizer, task, settings.precision, rows)
    found = task.score(losses, held_out, fitting.space, RESAMPLES, settings.seed)
    if "perplexity" not in found:
        raise DivergedError("the perplexity is not finite; lower training.lr and adapt again")
    return found["perplexity"]


def _finish(
    record: AdaptRecord,
    phases: Mapping[str, Fitting],
    held_out: MaskedBlocks,
    clock: Clock,
) -> None:
    train = cast(MaskedBlocks, phases["step"].train)
    chosen = {name: getattr(phases["step"].settings, name) for name in OptimisationSettings.model_fields}
    record.model = record.model.model_copy(update={**phases["step"].parameters, "fresh_head": "head" in phases})
    config = record.config
    record.config = config.model_copy(update={"training": config.training.model_copy(update=chosen)})
    done = phases.values()
    record.timing = clock.timing(sum(fitting.tokens for fitting in done), sum(fitting.seconds for fitting in done))
    record.tokens = {"train": len(train.stream.ids), "held_out": len(held_out.stream.ids)}
    record.blocks = {"train": len(train), "held_out": len(held_out), "length": train.length}
    record.steps = {name: fitting.details["steps"] for name, fitting in phases.items()}
