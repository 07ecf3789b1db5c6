"""Loading pretrained models and tokenizers: never remote code, never pickle, always float32 master weights.

A model folder is untrusted input. Its configuration is bounded before anything is built from it, only safetensors are
read, the attention implementation is chosen here rather than by the folder, and weights that are not finite are
refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from tunesmith.errors import ModelError, is_shortage
from tunesmith.models import gate
from tunesmith.models.heads import PooledClassifier, final_linear, head_parameter_names, load_pooled, quiet_library
from tunesmith.models.sentence import MODULES, sentence_pooling
from tunesmith.models.source import Source
from tunesmith.resources import require_memory

HEADS: dict[str, Any] = {
    "sequence": AutoModelForSequenceClassification,
    "token": AutoModelForTokenClassification,
    "question": AutoModelForQuestionAnswering,
}
_HEAD_NAMES = {
    AutoModel: "model without a head",
    AutoModelForTextEncoding: "encoder alone",
    AutoModelForMaskedLM: "masked-language head",
    AutoModelForSequenceClassification: "sequence-classification head",
    AutoModelForTokenClassification: "token-classification head",
    AutoModelForQuestionAnswering: "question-answering head",
}
OFFSET_POSITIONS = {
    "camembert",
    "data2vec-text",
    "ibert",
    "layoutlmv3",
    "lilt",
    "longformer",
    "luke",
    "markuplm",
    "mpnet",
}
OFFSET_POSITIONS |= {"roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"}


def admit(source: Source, whole: bool = False) -> None:
    """Let a model through to the libraries, or not; see `tunesmith.models.gate`.

    Args:
        whole: its weights have to be there, too.

    Raises:
        ModelError: it is refused, or is not there.
    """
    with _loading(source, "files", online=not source.local):
        folder = source.files()
    gate.check_folder(source.name, source.root or folder, source.inside, source.allowed, whole)


def load_config(source: Source) -> PreTrainedConfig:
    """The model's configuration, from a folder that was let through.

    Raises:
        ModelError: missing, unreadable, or refused.
    """
    admit(source)
    with _loading(source, "configuration"):
        config = AutoConfig.from_pretrained(str(source.files()), **source.arguments)
    vars(config).pop("auto_map", None)  # of code that is not run, which a saved model does not need
    return config  # type: ignore[no-any-return]


def load_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """The model's fast tokenizer; a decoder's tokenizer without a padding token pads with its end-of-text token.

    Raises:
        ModelError: missing, unreadable, or of a class that is not loaded here.
    """
    admit(source)
    with _loading(source, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(str(source.files()), use_fast=True, **source.arguments)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ModelError(f"model {source.name}: {type(tokenizer).__name__} is no tokenizer of one model; give another")
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(f"model {source.name}: its tokenizer has neither a padding nor an end-of-text token")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def token_limit(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Longest input in tokens that both the model's positions and its tokenizer allow (512 where neither says)."""
    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < 10**6 else []
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        # RoBERTa-like models start counting after the padding index.
        late = (config.pad_token_id or 0) + 1 if config.model_type in OFFSET_POSITIONS else 0
        limits.append(positions - late)
    return min(limits, default=512)


def load_classifier(
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    label_names: Sequence[str],
    problem_type: str | None,
    pooling: str,
    seed: int,
    head: str = "sequence",
) -> nn.Module:
    """A model with a new head, or with that of the checkpoint where it is for the same labels, in float32.

    Args:
        label_names: names in the order of the logits, written into the configuration.
        problem_type: ``single_label_classification``, ``multi_label_classification`` or ``regression``, or None.
        pooling: ``head``, ``first``, ``mean`` or ``auto`` (mean where the checkpoint says it is a sentence encoder, and
            where the encoder of two can stand alone, as of T5).
        seed: of the new head's initial weights.
        head: a key of `HEADS`.

    Raises:
        ModelError: the architecture has no such head, weights are missing, not finite, or not safetensors.
    """
    config = load_config(source)
    keep = keeps_head(config, label_names, problem_type, head)
    config.num_labels = len(label_names)
    config.id2label = dict(enumerate(label_names))
    config.label2id = {name: index for index, name in enumerate(label_names)}
    config.problem_type = problem_type  # type: ignore[assignment]
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = tokenizer.pad_token_id
    if pooling == "auto":
        pooling = sentence_pooling(source.root) or ("mean" if _bare(config) is not AutoModel else "head")
    auto: Any = HEADS[head] if pooling == "head" else _bare(config)
    if auto is AutoModelForTextEncoding:
        config.is_encoder_decoder = False
    torch.manual_seed(seed)
    model, missing = from_pretrained(auto, source, config, len(label_names))
    require_body(source, missing, head_parameter_names(model) if pooling == "head" else set())
    if pooling == "head" and not keep:
        renew_head(model, missing)
    if pooling != "head":
        model = PooledClassifier(model, len(label_names), pooling)
    check_fit(model, tokenizer, source)
    return model  # type: ignore[no-any-return]


def _bare(config: PreTrainedConfig) -> Any:
    """The auto class without a head: the encoder alone where it can stand so, as sentence-transformers loads it."""
    autos: tuple[Any, ...] = (AutoModel, AutoModelForTextEncoding)
    whole, alone = (auto._model_mapping.get(type(config), None) for auto in autos)
    return AutoModel if alone in (None, whole) else AutoModelForTextEncoding


def keeps_head(config: Any, label_names: Sequence[str], problem_type: str | None, head: str) -> bool:
    """Whether a checkpoint's head says what the new one shall say: the same labels in the same order, or an answer.

    Args:
        config: of the checkpoint; the others as of `load_classifier`.
    """
    names = [config.id2label.get(number) for number in range(config.num_labels)]
    same = names == list(label_names) and config.problem_type in (None, problem_type)
    return head == "question" or (same and problem_type != "regression")  # whose head is in the units of other data


def renew_head(model: nn.Module, missing: set[str]) -> None:
    """Draw the weights of the last layer anew where the checkpoint had some, which were for other labels."""
    final = final_linear(model)
    names = {name for name, weight in model.named_parameters() if any(weight is own for own in final.parameters())}
    if names - missing:
        nn.init.normal_(final.weight, std=getattr(model.config, "initializer_range", 0.02))
        if final.bias is not None:
            nn.init.zeros_(final.bias)


def require_body(source: Source, missing: set[str], head: set[str]) -> None:
    """Refuse a checkpoint that lacks weights of others than the head, to which a pooler counts here."""
    unexpected = {key for key in missing - head if "pooler" not in key}
    if unexpected:
        raise ModelError(
            f"model {source.name}: {len(unexpected)} weights are missing from the checkpoint "
            f"(first: {sorted(unexpected)[0]}); it does not fit its config.json"
        )


def check_fit(model: Any, tokenizer: PreTrainedTokenizerBase, source: Source) -> None:
    """Refuse a model that does not know all tokens of the tokenizer, or has weights that are not finite."""
    tokens = max((len(tokenizer), *(number + 1 for number in tokenizer.get_vocab().values())))
    if getattr(model.config, "vocab_size", tokens) < tokens:
        raise ModelError(
            f"model {source.name}: the tokenizer has {tokens} tokens, the model {model.config.vocab_size}; "
            "they do not belong together"
        )
    check_finite(model, source.name)


def load_trained(source: Source, head: str) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """A model that `save_model` wrote, in float32 and eval mode, with its tokenizer.

    Args:
        head: a key of `HEADS`.

    Raises:
        ModelError: damaged, incomplete, or without such a head.
    """
    assert source.root is not None
    config, tokenizer = load_config(source), load_tokenizer(source)
    pooled = (source.root / MODULES).is_file()
    model, missing = from_pretrained(_bare(config) if pooled else HEADS[head], source, config)
    if pooled:  # a pooler, where the architecture has one, is not asked
        missing = {key for key in missing if "pooler" not in key}
    if missing:
        raise ModelError(f"model {source.name}: weights are missing or misshapen ({sorted(missing)[:3]})")
    if pooled:
        with _loading(source, "head"):
            model = load_pooled(source.root, model)
    check_finite(model, source.name)
    return model.eval(), tokenizer


def check_finite(model: nn.Module, name: str) -> None:
    """Refuse a model with NaN or infinite weights."""
    for key, parameter in model.named_parameters():
        if parameter.numel() and not all(map(torch.isfinite, parameter.aminmax())):  # which are NaN where one is
            raise ModelError(f"model {name}: weight {key} is not finite; the file is damaged or its training diverged")


def _safe_arguments(auto: Any, source: Source, config: PreTrainedConfig) -> dict[str, Any]:
    try:
        found = auto._model_mapping[type(config)]
    except KeyError:
        raise ModelError(
            f"model {source.name}: architecture {config.model_type!r} has no {_HEAD_NAMES[auto]}; "
            "try another model (for classification also model.pooling=mean)"
        ) from None
    model_class = found[0] if isinstance(found, tuple) else found
    return {
        "config": config,
        "dtype": torch.float32,  # the library's default would keep float16 weights, which AdamW cannot train
        "attn_implementation": "sdpa" if model_class._supports_sdpa else "eager",  # never what the folder asks for
        "use_safetensors": True,
        **source.arguments,
    }


def from_pretrained(auto: Any, source: Source, config: PreTrainedConfig, outputs: int = 0) -> tuple[Any, set[str]]:
    """A model of a transformers auto class, and the names of the weights that its checkpoint lacks, or has misshapen.

    Args:
        outputs: of a new head, whose weights need not be in the checkpoint.

    Raises:
        ModelError: the architecture has no such head, or the checkpoint cannot be loaded safely.
    """
    admit(source, whole=True)
    arguments = _safe_arguments(auto, source, config)
    files = source.files()
    size = sum(file.stat().st_size for file in files.glob("*.safetensors"))
    require_memory(size, f"model {source.name}", "give a smaller model")
    held = gate.shapes_in(files)
    with _loading(source, "weights"), quiet_library(), gate.bounded(source.name, held, outputs):
        # A head trained for other labels is replaced; the caller refuses anything else that does not match.
        model, info = auto.from_pretrained(
            str(files), ignore_mismatched_sizes=True, output_loading_info=True, **arguments
        )
    return model, {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}


@contextmanager
def _loading(source: Source, part: str, online: bool = False) -> Iterator[None]:
    """A library loads: within walls, and with its exceptions turned into one `ModelError`.

    Only the files of a Hub model are fetched `online`; whatever is loaded is a folder on this machine by then.

    Tokenizer files can make native code panic with a `BaseException`; only those that mean "stop" are let through.
    """
    try:
        with gate.walled(local=not online):
            yield
    except (ModelError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:
        if is_shortage(error):
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        hint = "check the folder" if source.folder else "check the name and the network, or give a local folder"
        raise ModelError(f"model {source.name}: its {part} cannot be loaded ({reason}); {hint}") from error
