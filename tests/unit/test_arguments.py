from __future__ import annotations

import dataclasses
import inspect
import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import transformers
from transformers import HfArgumentParser

from tunesmith.errors import UsageError
from tunesmith.training.arguments import IGNORED, TRANSLATED, TrainingArguments


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def older(**kwargs: Any) -> TrainingArguments:
    """Arguments made with older names; each must give one warning that names it, at the caller's line."""
    with pytest.warns(FutureWarning) as caught:
        arguments = TrainingArguments("out", use_cpu=True, **kwargs)
    assert all(f"`{name}`" in str(item.message) for name, item in zip(kwargs, caught, strict=True))
    assert {item.filename for item in caught} == {__file__}
    return arguments


def problems(*args: Any, **kwargs: Any) -> list[str]:
    with pytest.raises(UsageError) as caught:
        TrainingArguments(*args, **kwargs)
    return caught.value.problems


@pytest.mark.parametrize(
    ("name", "value", "present", "expected"),
    [
        ("evaluation_strategy", "epoch", "eval_strategy", "epoch"),
        ("evaluate_during_training", True, "eval_strategy", "steps"),
        ("evaluate_during_training", False, "eval_strategy", "no"),
        ("per_gpu_train_batch_size", 3, "per_device_train_batch_size", 3),
        ("per_gpu_eval_batch_size", 3, "per_device_eval_batch_size", 3),
        ("group_by_length", True, "train_sampling_strategy", "group_by_length"),
        ("group_by_length", False, "train_sampling_strategy", "random"),
        ("adafactor", True, "optim", "adafactor"),
        ("push_to_hub_token", "secret", "hub_token", "secret"),
        ("push_to_hub_model_id", "me/model", "hub_model_id", "me/model"),
        ("include_inputs_for_metrics", True, "include_for_metrics", ["inputs"]),
        ("include_inputs_for_metrics", False, "include_for_metrics", []),
        ("warmup_ratio", 0.1, "warmup_steps", 0.1),
        ("warmup_ratio", None, "warmup_steps", 0),
    ],
)
def test_older_names_are_translated(name: str, value: Any, present: str, expected: Any) -> None:
    assert getattr(older(**{name: value}), present) == expected


@pytest.mark.parametrize(("ratio", "steps"), [(0, 0), (0.0, 0), (0.1, 100), (0.0005, 1), (1, 1000), (1.0, 1000)])
def test_the_warmup_ratio_is_a_share_of_all_steps(ratio: float, steps: int) -> None:
    assert older(warmup_ratio=ratio).get_warmup_steps(1000) == steps


@pytest.mark.parametrize("ratio", [-0.1, 1.5, float("nan"), "0.1"])
def test_a_warmup_ratio_out_of_range_is_refused(ratio: Any) -> None:
    assert problems(warmup_ratio=ratio) == [f"warmup_ratio: expected a number from 0 to 1, found {ratio!r}"]


def test_no_cuda_is_use_cpu() -> None:
    with pytest.warns(FutureWarning, match="`no_cuda` is an older name; write `use_cpu`"):
        assert TrainingArguments("out", no_cuda=True).use_cpu


def test_two_older_names_can_be_parts_of_one() -> None:
    config = older(split_batches=True, dispatch_batches=False).accelerator_config
    assert (config.split_batches, config.dispatch_batches) == (True, False)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_names_without_effect_are_ignored_with_the_reason(name: str) -> None:
    with pytest.warns(FutureWarning, match=f"`{name}` is no longer needed and is ignored: "):
        arguments = TrainingArguments("out", use_cpu=True, **{name: True})
    assert arguments == TrainingArguments("out", use_cpu=True)
    assert "TENSORBOARD_LOGGING_DIR" not in os.environ


def test_no_older_name_is_a_present_one() -> None:
    present = {field.name for field in dataclasses.fields(transformers.TrainingArguments)}
    assert not present & (TRANSLATED.keys() | IGNORED.keys())
    assert not TRANSLATED.keys() & IGNORED.keys()


def test_gradient_checkpointing_is_left_to_the_library() -> None:
    with pytest.warns(FutureWarning, match="activation_checkpointing"):
        arguments = TrainingArguments("out", use_cpu=True, gradient_checkpointing=True)
    assert arguments.activation_checkpointing


def test_all_problems_come_at_once() -> None:
    found = problems(
        "out", learning_rat=1, output_dir="other", eval_strategy="no", evaluation_strategy="no", warmup_ratio=2
    )
    assert found == [
        "'output_dir' is given twice, by position and by name",
        "unknown training argument 'learning_rat'; did you mean 'learning_rate'?",
        "'evaluation_strategy' and another argument both set 'eval_strategy'; keep one, spelled `eval_strategy`",
        "warmup_ratio: expected a number from 0 to 1, found 2",
    ]


def test_too_many_arguments_by_position_are_refused() -> None:
    (problem,) = problems(*[None] * 500)
    assert problem.endswith("found 500")


def test_two_older_names_for_one_thing_are_refused() -> None:
    (problem,) = problems(evaluation_strategy="epoch", evaluate_during_training=True)
    assert "both set 'eval_strategy'" in problem


def test_the_defaults_that_differ() -> None:
    arguments = TrainingArguments("out", use_cpu=True, seed=7)
    assert not arguments.logging_nan_inf_filter
    assert arguments.restore_callback_states_from_checkpoint
    assert arguments.data_seed is None  # so that another seed is another order, as in stock code
    given = TrainingArguments(
        "out",
        use_cpu=True,
        logging_nan_inf_filter=True,
        restore_callback_states_from_checkpoint=False,
    )
    assert given.logging_nan_inf_filter and not given.restore_callback_states_from_checkpoint


def test_nothing_else_differs_from_the_library() -> None:
    ours = TrainingArguments("out", use_cpu=True).to_dict()
    theirs = transformers.TrainingArguments("out", use_cpu=True).to_dict()
    assert {name for name in theirs if ours[name] != theirs[name]} == {
        "logging_nan_inf_filter",
        "restore_callback_states_from_checkpoint",
    }
    assert ours.keys() == theirs.keys()


def test_it_remains_a_dataclass() -> None:
    arguments = TrainingArguments("out", use_cpu=True, learning_rate=1e-3)
    assert isinstance(arguments, transformers.TrainingArguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        copied = dataclasses.replace(arguments, num_train_epochs=5, activation_checkpointing=True)
        rebuilt = TrainingArguments(**json.loads(arguments.to_json_string()))
    assert type(copied) is TrainingArguments
    assert (copied.learning_rate, copied.num_train_epochs, copied.activation_checkpointing) == (1e-3, 5, True)
    assert rebuilt.to_dict() == arguments.to_dict()
    assert repr(arguments).startswith("TrainingArguments(")
    assert inspect.signature(TrainingArguments).parameters["logging_nan_inf_filter"].default is False


def test_it_can_be_filled_from_a_command_line() -> None:
    parser = HfArgumentParser(TrainingArguments)  # type: ignore[arg-type]
    (arguments,) = parser.parse_args_into_dataclasses(["--output_dir", "out", "--use_cpu", "--learning_rate", "1e-3"])
    assert arguments.learning_rate == 1e-3
    assert not arguments.logging_nan_inf_filter
