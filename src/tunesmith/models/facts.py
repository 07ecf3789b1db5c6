"""What a trained model is for, as it is written beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunesmith.config.schema import LongName
from tunesmith.data.layout import Layout
from tunesmith.disk import parse_json, read_plain, write_text
from tunesmith.errors import ModelError, wrong_values
from tunesmith.models.sealed import TRAINED_FILE
from tunesmith.registry import names
from tunesmith.tasks import TASKS
from tunesmith.tasks.base import LabelSpace, Task
from tunesmith.text import name_list


class Facts(BaseModel):
    """The content of ``model/tunesmith.json``: what the files of the model itself do not say."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    FILE: ClassVar[str] = TRAINED_FILE
    task: str
    labels: LabelSpace
    layout: Layout
    max_length: int = Field(ge=4)
    long: LongName = "keep-start"

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises ModelError where there is no such file in the folder, or something else in it."""
        file = folder / cls.FILE
        try:
            content = read_plain(file)
            parse_json(content)
            facts = cls.model_validate_json(content)
        except OSError:
            raise ModelError(f"{folder}: no trained model ({_why_not(folder, file)}") from None
        except ValidationError as error:
            raise wrong_values(file, error) from None
        except ValueError as error:
            raise ModelError(f"{file}: damaged ({error}); restore the file, or train again") from None
        if facts.task not in names(TASKS, "tasks"):
            remedy = "install the package that brings it"
            raise ModelError(f"{file}: task: the task {facts.task!r} is not installed; {remedy}")
        return facts

    def save(self, folder: Path) -> None:
        """Write the file that `load` reads."""
        write_text(folder / self.FILE, json.dumps(self.model_dump(mode="json"), ensure_ascii=False, indent=1) + "\n")

    def of_task(self, task: Task) -> dict[str, str]:
        """What contradicts the task, or itself, by key."""
        shape, wanted = self.layout.shape, replace(task.shape, task=task.name)
        found = {f"layout.{key}": problem for key, problem in self.layout.contradictions().items()}
        if len(set(self.labels.names)) < len(self.labels.names):
            found["labels.names"] = "should be different from each other"
        if self.labels != self.labels.in_users_units:
            found["labels"] = "mean and scale should be 0 and 1"
        if shape != wanted:
            found["layout.shape"] = f"is of {shape.task} ({shape.labels}), but task is {task.name!r} ({wanted.labels})"
        return found

    def of_model(self, task: Task, config: Any, limit: int) -> dict[str, str]:
        """What contradicts the model, by key.

        Args:
            config: of transformers, as it lies beside the weights.
            limit: tokens that the model can read.
        """
        found = dict[str, str]()
        outputs = [str(config.id2label.get(number)) for number in range(config.num_labels)]
        if list(self.labels.names) != outputs:
            found["labels.names"] = f"should be those of the model's head: {name_list(outputs)}"
        if config.problem_type != task.problem_type:
            found["task"] = f"{task.name!r} is not what the model's head was trained for ({config.problem_type})"
        if self.max_length > limit:
            found["max_length"] = f"should be at most {limit}, which the model reads, found {self.max_length}"
        return found

    @staticmethod
    def require(file: Path, problems: Mapping[str, str]) -> None:
        """
        Raises:
            ModelError: there are problems; each is named by its key.
        """
        if problems:
            raise ModelError(
                f"{file}: {key}: {said}; restore the file, or train again" for key, said in problems.items()
            )


def _why_not(folder: Path, file: Path) -> str:
    """The rest of a line that says why a folder without `file` cannot answer, and what can be done."""
    if any((folder / name).exists() for name in ("run.json", "adapt.json")):
        return "the run is not finished); the command that began it goes on"
    if (folder / "config.json").is_file() and not (folder.parent / "run.json").exists():
        return f"transformers saved it); `tunesmith export {folder} --to ARTEFACT` makes what can answer"
    return f"{file} is missing); give a finished run, or an artefact"
