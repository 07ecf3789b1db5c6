"""`TrainingArguments`: those of transformers, with the older names that guides still use and two safer defaults."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import transformers

from tunesmith.errors import UsageError
from tunesmith.registry import did_you_mean


@dataclass(repr=False)
class _SaferDefaults(transformers.TrainingArguments):
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Hide losses that are not finite."})
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Restore the state of the callbacks when a run is resumed."}
    )


class TrainingArguments(_SaferDefaults):
    """The arguments of `transformers.TrainingArguments` (which documents them), under their older names too.

    An older name is translated with a `FutureWarning` that gives the present spelling, or ignored with one that says
    why it is no longer needed. Differences in the defaults:

    - ``logging_nan_inf_filter=False``: a loss that is not finite ends the run before it spoils the weights.
    - ``restore_callback_states_from_checkpoint=True``: a resumed run stops early where the uninterrupted one would.

    Raises:
        UsageError: unknown names (with the nearest known ones), an older and a present name for the same thing, or an
            older value that cannot be translated; all at once.
        ValueError: a value that the library refuses.
    """

    __signature__ = inspect.signature(_SaferDefaults)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        known = [item.name for item in fields(self) if item.init]
        by_position = dict(zip(known, args, strict=False))
        problems = [f"{name!r} is given twice, by position and by name" for name in by_position if name in kwargs]
        if len(args) > len(known):
            problems.append(f"expected at most {len(known)} arguments without a name, found {len(args)}")
        values, notes = _translate(by_position | kwargs, known, problems)
        if problems:
            raise UsageError(problems)
        for note in notes:
            warnings.warn(note, FutureWarning, stacklevel=2)
        super().__init__(**values)


# Older name → present name; (argument, part) of what became a part of an argument; of a switch, what it turned on.
TRANSLATED: dict[str, str | tuple[str, str] | dict[str, Any]] = {
    "adafactor": {"optim": "adafactor"},
    "dispatch_batches": ("accelerator_config", "dispatch_batches"),
    "evaluate_during_training": {"eval_strategy": "steps"},
    "evaluation_strategy": "eval_strategy",
    "fsdp_min_num_params": ("fsdp_config", "min_num_params"),
    "fsdp_transformer_layer_cls_to_wrap": ("fsdp_config", "transformer_layer_cls_to_wrap"),
    "group_by_length": {"train_sampling_strategy": "group_by_length"},
    "include_inputs_for_metrics": {"include_for_metrics": ["inputs"]},
    "no_cuda": "use_cpu",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "push_to_hub_model_id": "hub_model_id",
    "push_to_hub_token": "hub_token",
    "split_batches": ("accelerator_config", "split_batches"),
    "torchdynamo": "torch_compile_backend",
    "tpu_metrics_debug": {"debug": "tpu_metrics_debug"},
    "warmup_ratio": "warmup_steps",
}

# Older name → why it has no effect.
IGNORED: dict[str, str] = {
    "fp16_backend": "mixed precision has one implementation",
    "fp16_opt_level": "mixed precision has one implementation",
    "half_precision_backend": "mixed precision has one implementation",
    "include_tokens_per_second": "use include_num_input_tokens_seen to count tokens",
    "jit_mode_eval": "use torch_compile to compile the model",
    "logging_dir": "set the environment variable TENSORBOARD_LOGGING_DIR for another folder than the default",
    "mp_parameters": "model parallelism is set with parallelism_config",
    "overwrite_output_dir": "a folder that exists is no obstacle",
    "past_index": "models keep their past states themselves",
    "push_to_hub_organization": "write hub_model_id='organization/name'",
    "ray_scope": "pass scope= to hyperparameter_search",
    "save_safetensors": "weights are always saved as safetensors",
    "tpu_num_cores": "the launcher decides the number of cores",
    "use_ipex": "its optimisations are part of torch",
    "use_legacy_prediction_loop": "there is one prediction loop",
    "use_mps_device": "the accelerator is found by itself; use_cpu=True avoids it",
}


def _translate(given: Mapping[str, Any], known: list[str], problems: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The arguments under their present names, and a note for each older name; what is wrong goes to `problems`."""
    values: dict[str, Any] = {}
    notes = []
    for name, value in given.items():
        if name in known:
            values[name] = value
        elif name in IGNORED:
            notes.append(f"`{name}` is no longer needed and is ignored: {IGNORED[name]}.")
        elif name not in TRANSLATED:
            problems.append(f"unknown training argument {name!r}; {did_you_mean(name, known)}")
    for name in [name for name in given if name in TRANSLATED]:
        try:
            spelling, present = _present(name, given[name])
        except UsageError as error:
            problems += error.problems
            continue
        notes.append(f"`{name}` is an older name; write `{spelling}`.")
        for key, value in present.items():
            if key not in values:
                values[key] = value
            elif key not in given and isinstance(value, dict):
                values[key] = values[key] | value  # two older names that became parts of one argument
            else:
                problems.append(f"{name!r} and another argument both set {key!r}; keep one, spelled `{spelling}`")
    return values, notes


def _present(name: str, value: Any) -> tuple[str, dict[str, Any]]:
    """How an older argument is spelled now, and what it sets: nothing where it is None.

    Raises:
        UsageError: the value cannot be translated.
    """
    now = TRANSLATED[name]
    if isinstance(now, dict):
        spelling, present = ", ".join(f"{key}={setting!r}" for key, setting in now.items()), now if value else {}
    elif isinstance(now, tuple):
        argument, part = now
        spelling, present = f"{argument}={{{part!r}: …}}", {argument: {part: value}}
    else:
        spelling, present = now, {now: value}
    if name == "warmup_ratio":
        spelling += " (below 1: a share of all steps)"
        if value is not None and not (isinstance(value, int | float) and 0 <= value <= 1):
            raise UsageError(f"warmup_ratio: expected a number from 0 to 1, found {value!r}")
        # The share is rounded up; 1 would be one step, so all steps is just below 1.
        present = {"warmup_steps": min(float(value or 0), math.nextafter(1, 0))}
    return spelling, {} if value is None else present
