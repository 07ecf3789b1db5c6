"""The JSON files of a checkpoint, typed: whatever valid JSON stands in them, a library gets what it expects."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from transformers.trainer_callback import ExportableState

from tunesmith.disk import NOT_FINITE, read_json
from tunesmith.errors import ModelError

STATE_FILE, OPTIMIZER_FILE, CONFIG_FILE = "trainer_state.json", "optimizer.json", "config.json"
WEIGHTS_INDEX = "model.safetensors.index.json"
MOST_BYTES = 2**30
"""Of a history that is logged at every step."""
MOST_STEPS = 10**15
MOST_LABELS = 1_000_000


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CallbackState(Part):
    """What a callback keeps: with what it was made, and what became of it."""

    args: dict[str, JsonValue] = {}
    attributes: dict[str, JsonValue] = {}


class State(Part):
    """The content of ``trainer_state.json``: what `transformers.TrainerState` holds."""

    epoch: float | None = Field(ge=0, le=MOST_STEPS)
    global_step: int = Field(ge=0, le=MOST_STEPS)
    max_steps: int = Field(le=MOST_STEPS)
    logging_steps: float
    eval_steps: float | None
    save_steps: float
    train_batch_size: int | None
    num_train_epochs: float = Field(le=MOST_STEPS)
    num_input_tokens_seen: int
    total_flos: float
    log_history: list[dict[str, JsonValue]]
    best_metric: float | None
    best_global_step: int | None = Field(ge=0, le=MOST_STEPS)
    best_model_checkpoint: str | None
    is_local_process_zero: bool
    is_world_process_zero: bool
    is_hyper_param_search: bool
    trial_name: str | None
    trial_params: dict[str, JsonValue] | None
    stateful_callbacks: dict[str, CallbackState | list[CallbackState]]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max_steps > 0 and self.global_step > self.max_steps:
            raise ValueError("more steps were taken than there are")
        if self.best_model_checkpoint is not None and self.best_global_step is None:
            raise ValueError("a checkpoint is the best, but no step")
        return self


class OptimizerState(Part):
    """The content of ``optimizer.json``."""

    values: dict[Annotated[str, Field(pattern=r"^\d{1,9}\..+$")], float | int | bool | str | list[JsonValue] | None]
    param_groups: list[dict[str, JsonValue]]
    schedule: dict[str, JsonValue]
    scaler: dict[str, JsonValue] | None


class WeightsIndex(Part):
    """The content of the list of several files of weights."""

    metadata: dict[str, JsonValue] = {}
    weight_map: dict[str, str]


class Settings(BaseModel):
    """What is looked at in the configuration of a model, of which the library reads the version alone."""

    num_labels: int | None = Field(default=None, ge=0, le=MOST_LABELS)
    id2label: dict[str, JsonValue] | None = Field(default=None, max_length=MOST_LABELS)


READERS: dict[str, type[BaseModel]] = {
    STATE_FILE: State,
    OPTIMIZER_FILE: OptimizerState,
    WEIGHTS_INDEX: WeightsIndex,
    CONFIG_FILE: Settings,
}


def read(path: Path) -> Any:
    """The content of one of the files in `READERS`.

    Raises:
        ValueError: what is wrong with the file, which is named.
    """
    try:
        return READERS[path.name].model_validate(read_json(path, MOST_BYTES, constants=NOT_FINITE))
    except ValidationError as error:
        item = error.errors()[0]
        where = ".".join(map(str, item["loc"]))[:200] or "content"
        raise ValueError(f"{path.name} holds something else than it should ({where}: {item['msg']})") from None
    except (OSError, ValueError, OverflowError) as error:
        raise ValueError(f"{path.name} cannot be read ({getattr(error, 'strerror', None) or error})") from None


def strange_event(history: Iterable[dict[str, Any]]) -> str | None:
    """What is no number in a history of events though a run logs it as one, or None."""
    for event in history:
        for name, value in event.items():
            if not isinstance(value, int | float) or isinstance(value, bool):
                return f"log_history: {name} should be a number"
    return None


def difference(found: dict[str, Any], own: dict[str, Any], where: str) -> str | None:
    """What a file holds under other names, or of another kind, than what is there now; None stands for anything."""
    if found.keys() != own.keys():
        return f"{where} should hold {', '.join(own) or 'nothing'}"
    for key, value in own.items():
        kinds: Any = (
            (int, float) if isinstance(value, int | float) else list if isinstance(value, tuple) else type(value)
        )
        same = isinstance(found[key], kinds) and isinstance(found[key], bool) == isinstance(value, bool)
        if not same and value is not None and found[key] is not None:
            return f"{where}.{key} should be of type {type(value).__name__}"
    return None


def require_own_states(folder: Path, stored: dict[str, Any], callbacks: Iterable[Any]) -> None:
    """Refuse states that the callbacks would not have saved themselves.

    Args:
        folder: of the run, for the error.
        stored: by the name of their class; several of one in a list.

    Raises:
        ModelError: there are such.
    """
    for callback in callbacks:
        name = type(callback).__name__
        if name in stored and isinstance(callback, ExportableState):
            for state in stored[name] if isinstance(stored[name], list) else [stored[name]]:
                for part, own in callback.state().items():
                    if problem := difference(state.get(part, {}), own, f"stateful_callbacks.{name}.{part}"):
                        what = f"{STATE_FILE} is of other callbacks ({problem})"
                        raise ModelError(f"{folder}: {what}; resume with those that it was saved by")
