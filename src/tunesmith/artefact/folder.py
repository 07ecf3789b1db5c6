"""The folder that a model leaves in: ``artefact.json`` says what it is, vouches for its files and tells how it did.

    model.onnx, model.onnx.data   the network; its output ``logits`` is what `tunesmith.tasks.base.Task.infer` keeps
    tokenizer.json                the tokenizer
    tunesmith.json                task, labels and limits, as beside every trained model
    artefact.json                 this file's `Artefact`
    README.md                     the card

A folder is untrusted: `Artefact.load` lets nothing through that is not listed, whole and bounded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunesmith import manifest
from tunesmith.artefact import onnx_file
from tunesmith.artefact.tokens import FILE as TOKENIZER
from tunesmith.artefact.tokens import TokenizerFacts
from tunesmith.disk import file_sha256, read_json, read_plain, write_text
from tunesmith.errors import ModelError, wrong_values
from tunesmith.evaluation.intervals import Difference, Score
from tunesmith.manifest import FileFacts, PlainName
from tunesmith.models.sealed import ARTEFACT_FILE, TRAINED_FILE

MODEL = "model.onnx"
FILES = (MODEL, onnx_file.DATA, TOKENIZER, TRAINED_FILE)
MOST_MODEL_BYTES = 256 * 2**20
"""Of the network without its weights."""
Input = Literal["input_ids", "attention_mask", "token_type_ids"]
Precision = Literal["float32", "int8", "float16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "int8", "float16")
Share = Annotated[float, Field(ge=0, le=1)]


class Described(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )


class Both(Described):
    """A figure of the artefact, and of the model that it was made from, measured in turns on the same machine."""

    artefact: float
    model: float

    @property
    def ratio(self) -> float:
        """How many times the artefact's the model's is."""
        return self.model / self.artefact


class Accuracy(Described):
    """How the artefact answers labelled rows, beside the model that it was made from."""

    rows: int = Field(ge=1)
    of: str
    """Where the rows are from."""
    metric: str
    artefact: Score
    model: Score
    difference: Difference
    """The artefact's score less the model's, on the same rows."""
    most_loss: float = Field(ge=0)
    """What was allowed."""


class Measured(Described):
    """What was measured when an artefact was made."""

    accuracy: Accuracy | None = None
    """None where no labelled rows were known."""
    agreement: Share | None = None
    """Share of the texts that both answer alike; None for numbers."""
    furthest: float = Field(ge=0)
    """Largest difference between two outputs of the networks."""
    texts: int = Field(ge=1)
    """Over so many texts, of these lengths in tokens."""
    tokens: list[int]
    bytes: Both
    latency_1: Both
    """Milliseconds for one text, the median."""
    latency_32: Both
    """Milliseconds for 32 texts at once, the median."""
    throughput: Both
    """Texts a second, all of them at once."""
    threads: int = Field(ge=1)
    processor: str


class Source(Described):
    """What an artefact was made from."""

    task: str
    name: str
    """Of the run's folder, or the model's."""
    base: str | None = None
    """The model that it began with: by its name on the Hub, or that of its folder."""
    method: str | None = None
    score: str | None = None
    """What its run says of the test rows."""
    versions: dict[str, str]


class Histogram(Described):
    """How often numbers lie between edges: below the first, from each up to the next, above the last.

    A number that is an edge lies below it, as `numpy.searchsorted` has it.
    """

    edges: list[float]
    counts: list[int]


class Validation(Described):
    """How the artefact answers validation rows; what a server compares its traffic with."""

    rows: int = Field(ge=1)
    kinds: dict[str, int]
    """How often each label is given, each type of entity found, or an ``answer``; ``∅`` where there is none."""
    values: Histogram | None = None
    """Of numbers that are predicted, in their place."""
    characters: Histogram
    """Of the texts, both of a pair together."""
    tokens: Histogram
    """Of what the model reads of each."""


class Artefact(Described):
    """The content of ``artefact.json``."""

    FILE: ClassVar[str] = ARTEFACT_FILE
    version: Literal[1] = 1
    precision: Precision
    opset: int = Field(ge=1)
    inputs: list[Input] = Field(min_length=1)
    """Of the network, in their order."""
    limit: int = Field(ge=4)
    """Tokens that the model can read at a time."""
    tokenizer: TokenizerFacts
    source: Source
    measured: Measured | None = None
    validation: Validation | None = None
    files: dict[PlainName, FileFacts] = Field(min_length=1)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What a folder says of itself, once every file in it is known to be what is listed.

        Raises:
            ModelError: there is none in it, or the folder is refused.
        """
        file = folder / cls.FILE
        try:
            tree = read_json(file)
            found = cls.model_validate_json(json.dumps(tree))
        except OSError as error:
            raise ModelError(f"{folder}: no artefact ({cls.FILE}: {error.strerror}); make one with export") from None
        except ValidationError as error:
            raise wrong_values(file, error) from None
        except ValueError as error:
            raise ModelError(f"{file}: damaged ({error}); export the model again") from None
        if problem := found.objection(folder):
            raise ModelError(f"{folder}: {problem}; export the model again")
        return found

    def objection(self, folder: Path) -> str | None:
        """Why the files of a folder are refused, naming the first; None where they are not."""
        try:
            there = set(manifest.file_names(folder)) - {self.FILE}
            if missing := sorted({MODEL, TOKENIZER, TRAINED_FILE} - self.files.keys() or self.files.keys() - there):
                return f"{missing[0]} is missing"
            if strange := sorted(name for name in self.files.keys() | there if name not in FILES and not _note(name)):
                return f"{strange[0]} is no part of an artefact"
            if unlisted := sorted(name for name in there - self.files.keys() if name in FILES):
                return f"{unlisted[0]} is not listed in {self.FILE}"
            for name, facts in sorted(self.files.items()):
                path = folder / name
                if path.stat().st_size != facts.bytes or file_sha256(path) != facts.sha256:
                    return f"{name} is not the file that {self.FILE} lists"
            asked = list(onnx_file.objections(read_plain(folder / MODEL, MOST_MODEL_BYTES)))
        except OSError as error:
            return f"{Path(error.filename or folder).name} cannot be read ({error.strerror})"
        except ValueError as error:
            return f"{MODEL}: {error}" if "link" not in str(error) else str(error)
        return f"{MODEL} asks for {asked[0]}" if asked else None

    def save(self, folder: Path) -> None:
        """Write the file."""
        write_text(folder / self.FILE, json.dumps(self.to_dict(), ensure_ascii=False, indent=1) + "\n")

    def to_dict(self) -> dict[str, Any]:
        """The content as it stands in the file."""
        return self.model_dump(mode="json", exclude_none=True)


def listed(folder: Path) -> dict[str, FileFacts]:
    """The files of an artefact that vouch for it."""
    return {name: FileFacts.of(folder / name) for name in FILES if (folder / name).is_file()}


def _note(name: str) -> bool:
    """Whether a file is for people or tools, as what a download leaves behind, and may be edited or added."""
    return name.endswith(".md") or name.startswith(("LICENSE", "NOTICE")) or "/." in f"/{name}"
