"""The Trainer beside transformers' own, in the ways people use it: what it does not know, it leaves alone."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from peft import AdaLoraConfig, get_peft_model
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    EarlyStoppingCallback,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
    TrainerCallback,
)

from tunesmith import Trainer, TrainingArguments
from tunesmith.errors import DivergedError, ModelError
from tunesmith.training import resuming

LENGTH, VOCABULARY = 12, 90
BOTH = [transformers.Trainer, Trainer]


def bert(kind: Any = BertForSequenceClassification, **config: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return kind(BertConfig(**{"vocab_size": VOCABULARY, "max_position_embeddings": 16} | sizes | none | config))


def gpt2() -> Any:
    torch.manual_seed(0)
    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_positions=16, n_embd=8, n_layer=1, n_head=2, **none))


def t5() -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(**sizes, dropout_rate=0.0, decoder_start_token_id=0))


def rows(labels: str = "class", count: int = 8, left: bool = False) -> Dataset:
    """Texts of 3 to 9 tokens, padded to `LENGTH`."""
    generator = np.random.default_rng(0)
    found: dict[str, list[Any]] = {"input_ids": [], "attention_mask": []}
    for _ in range(count):
        tokens = [1, *generator.integers(2, VOCABULARY, generator.integers(2, 9)).tolist()]
        padding = [0] * (LENGTH - len(tokens))
        ones = [1] * len(tokens)
        found["input_ids"].append(padding + tokens if left else tokens + padding)
        found["attention_mask"].append(padding + ones if left else ones + padding)
    masked = [
        [token if real else -100 for token, real in zip(ids, mask, strict=True)]
        for ids, mask in zip(found["input_ids"], found["attention_mask"], strict=True)
    ]
    columns: dict[str, Any] = {
        "class": [i % 2 for i in range(count)],
        "number": [i / 4 for i in range(count)],
        "several": [[float(i % 2), 1.0] for i in range(count)],
        "tags": [[token if token < 0 else token % 2 for token in text] for text in masked],
        "tokens": masked,
        "padding too": found["input_ids"],
        "long": [[5, 6, 7, 8] * 5] * count,  # longer than the text
        "as long": [([5, 6, 7, 8] * LENGTH)[:LENGTH]] * count,
    }
    return Dataset.from_dict(found | {"labels": columns[labels]})


def arguments(folder: Path, kind: Any = Trainer, **options: Any) -> Any:
    usual = {"max_steps": 2, "logging_steps": 1, "save_strategy": "no", "learning_rate": 1e-2, "seed": 3}
    usual |= {"per_device_train_batch_size": 4, "report_to": "none", "disable_tqdm": True, "use_cpu": True}
    usual |= {"train_sampling_strategy": "sequential"}
    ours = issubclass(kind, Trainer)
    return (TrainingArguments if ours else transformers.TrainingArguments)(str(folder), **usual | options)


def trained(kind: Any, model: Any, data: Any, folder: Path, given: dict[str, Any] | None = None, **options: Any) -> Any:
    trainer = kind(model, arguments(folder, kind, **options), train_dataset=data, eval_dataset=data, **(given or {}))
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return trainer


def losses(trainer: Any) -> list[float]:
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def assert_same_steps(make: Callable[[], Any], data: Any, folder: Path, **options: Any) -> Any:
    """Losses and weights of both Trainers agree; returns ours."""
    stock, ours = (trained(kind, make(), data, folder, **options) for kind in BOTH)
    np.testing.assert_allclose(losses(ours), losses(stock), rtol=1e-4)
    for a, b in zip(ours.model.parameters(), stock.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-4)
    return ours


# ---- what is known: the same numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "labels", "options"),
    [
        (lambda: bert(BertForMaskedLM), "tokens", {}),
        (lambda: bert(BertForMaskedLM), "padding too", {}),
        (lambda: bert(BertForTokenClassification), "tags", {"label_smoothing_factor": 0.1}),
        (gpt2, "tokens", {}),
        (gpt2, "padding too", {}),
        (gpt2, "tokens", {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}),
        (t5, "long", {}),
        (t5, "as long", {}),
        (lambda: bert(return_dict=False), "class", {}),
    ],
)
def test_a_step_is_the_stock_trainers(make: Any, labels: str, options: Any, tmp_path: Path) -> None:
    assert_same_steps(make, rows(labels), tmp_path, **options)


@pytest.mark.parametrize(("make", "labels"), [(bert, "class"), (gpt2, "tokens")])
def test_padding_on_the_left_is_where_it_was(make: Any, labels: str, tmp_path: Path) -> None:
    """Encoders pool the first column, and count positions from there."""
    ours = assert_same_steps(make, rows(labels, left=True), tmp_path)
    stock = transformers.Trainer(ours.model, arguments(tmp_path, transformers.Trainer))
    data = rows(labels, left=True).remove_columns("labels") if labels == "class" else rows(labels, left=True)
    np.testing.assert_allclose(ours.predict(data).predictions, stock.predict(data).predictions, atol=1e-4)


def test_answers_are_chosen_among_padding_too(tmp_path: Path) -> None:
    data = rows().remove_columns("labels").add_column("start_positions", [1] * 8).add_column("end_positions", [2] * 8)
    ours = assert_same_steps(lambda: bert(BertForQuestionAnswering), data, tmp_path)
    assert ours.predict(data).predictions[0].shape == (8, LENGTH)


def test_predictions_of_tokens_are_as_wide_as_the_rows(tmp_path: Path) -> None:
    ours = trained(Trainer, bert(BertForTokenClassification), rows("tags"), tmp_path)
    found = ours.predict(rows("tags"))
    assert found.predictions.shape == (8, LENGTH, 2) and found.label_ids.shape == (8, LENGTH)


@pytest.mark.parametrize("make", [gpt2, t5, lambda: bert(BertForMaskedLM)], ids=["gpt2", "t5", "bert"])
def test_accumulation_changes_no_loss_of_a_model(make: Any, tmp_path: Path) -> None:
    """The second, whose loss ignores the number of targets that it is told, has as many in each row."""
    data = rows("as long" if make is t5 else "tokens")
    found = [
        losses(
            trained(Trainer, make(), data, tmp_path, per_device_train_batch_size=4 // k, gradient_accumulation_steps=k)
        )
        for k in (1, 4)
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "config", "problem"),
    [
        ("class", {}, "single_label_classification"),
        ("number", {"num_labels": 1}, "regression"),
        ("several", {}, "multi_label_classification"),
    ],
)
def test_the_kind_of_problem_is_recorded(labels: str, config: Any, problem: str, tmp_path: Path) -> None:
    """By it a pipeline chooses between softmax, sigmoid and neither."""
    assert trained(Trainer, bert(**config), rows(labels), tmp_path, max_steps=1).model.config.problem_type == problem


# ---- what is not known: as in stock code ----------------------------------------------------------------------------


class Plain(nn.Module):
    """As tutorials write it: an encoder and a layer, and a mean over padding, too."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.linear = bert(BertModel), nn.Linear(8, 2)

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None) -> Any:
        logits = self.linear(self.encoder(input_ids, attention_mask=attention_mask)[0].mean(1))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class OtherName(transformers.BertPreTrainedModel):
    """``base_model_prefix`` says "bert"; the attribute is called otherwise."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.encoder, self.linear = BertModel(config), nn.Linear(8, 2)
        self.post_init()

    forward = Plain.forward


class Weighted(BertForSequenceClassification):
    """A name may end as it likes."""

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None) -> Any:
        outputs = super().forward(input_ids, attention_mask)
        outputs.loss = nn.functional.cross_entropy(outputs.logits, labels, torch.tensor([1.0, 9.0])) + 10
        return outputs


class MeanHead(transformers.BertPreTrainedModel):
    """Reads the states of padding, which packing leaves out."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.bert, self.linear = BertModel(config), nn.Linear(8, 2)
        self.post_init()

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None) -> Any:
        logits = self.linear(self.bert(input_ids, attention_mask=attention_mask)[0].mean(1))
        return (nn.functional.cross_entropy(logits, labels), logits)


def plain() -> Any:
    torch.manual_seed(0)
    return Plain()


def with_loss_function() -> Any:
    model = transformers.AutoModelForSequenceClassification.from_config(
        transformers.LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            pad_token_id=0,
        )
    )
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)
    model.loss_function = lambda pooled_logits, labels, **_: nn.functional.cross_entropy(pooled_logits, labels) + 10
    return model


def with_regulariser() -> Any:
    config = AdaLoraConfig(task_type="SEQ_CLS", target_modules=["query"], total_step=9, init_r=4, tinit=1, tfinal=1)
    model = get_peft_model(bert(), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.constant_(parameter, 0.1)
    return model


@pytest.mark.parametrize(
    ("make", "idle"),
    [
        (plain, True),
        (lambda: bert(OtherName), True),
        (lambda: bert(Weighted), True),
        (lambda: bert(MeanHead), True),
        (with_loss_function, False),
        (with_regulariser, False),
    ],
    ids=["module", "other name", "own loss", "own head", "loss function", "regulariser"],
)
def test_models_and_losses_of_ones_own_are_left_alone(make: Any, idle: bool, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the adapter leaves|`is_gradient_checkpointing` is deprecated")
        ours = assert_same_steps(make, rows(), tmp_path)
    assert {part["state"] for part in ours.engine_report.values()} == {"off"} or not idle
    assert all(part["reason"] for part in ours.engine_report.values() if part["state"] == "off")


def test_padding_is_left_in_inputs_that_are_not_known(tmp_path: Path) -> None:
    class Wide(Trainer):
        def compute_loss(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            assert {value.shape[1] for value in inputs.values() if value.ndim == 2} == {LENGTH}
            inputs.pop("extra")
            return super().compute_loss(model, inputs, *rest, **named)

    data = rows().add_column("extra", [[1] * LENGTH] * 8)
    trained(Wide, bert(), data, tmp_path, remove_unused_columns=False)


@pytest.mark.parametrize("accumulation", [1, 4])
def test_a_subclass_is_told_the_number_of_targets(accumulation: int, tmp_path: Path) -> None:
    """A sum that it divides by them, and a mean that it takes without asking, are the same step at any accumulation."""

    class Divides(Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            return nn.functional.cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch

    class Mean(Trainer):
        task_loss, plan, stop, prefix = "mine", "mine", "mine", "mine"

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            return nn.functional.cross_entropy(model(**inputs).logits, inputs["labels"])

    class Passes(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **more: Any) -> Any:
            return super().compute_loss(model, inputs, return_outputs, **more)

    sizes = {"per_device_train_batch_size": 4 // accumulation, "gradient_accumulation_steps": accumulation}
    whole = losses(trained(Trainer, bert(), rows(), tmp_path))
    for kind in (Divides, Mean, Passes):
        np.testing.assert_allclose(losses(trained(kind, bert(), rows(), tmp_path, **sizes)), whole, rtol=1e-5)

    class Told(Mean):
        loss_is_scaled_for_ga = True

    told = losses(trained(Told, bert(), rows(), tmp_path, **sizes))
    np.testing.assert_allclose(told[0], whole[0] * accumulation, rtol=1e-5)


# ---- evaluation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "given", "wanted"),
    [
        ({"eval_do_concat_batches": False}, {}, True),
        ({"batch_eval_metrics": True}, {}, False),
        ({}, {"preprocess_logits_for_metrics": lambda logits, labels: logits.argmax(-1)}, False),
        ({"label_names": ["labels"]}, {}, True),
    ],
)
def test_metrics_come_by_themselves_where_they_can(options: Any, given: Any, wanted: bool, tmp_path: Path) -> None:
    trainer = Trainer(bert(), arguments(tmp_path, **options), eval_dataset=rows(), **given)
    assert ("eval_accuracy" in trainer.evaluate()) == wanted


class Cost(Trainer):
    def evaluate(self, *positional: Any, **options: Any) -> Any:
        metrics = super().evaluate(*positional, **options)
        return metrics | {"eval_cost": 5 * metrics["eval_loss"]}


def drawn(evaluation: Any) -> dict[str, float]:
    return {"drawn": float(torch.rand(()))}


BEST = {
    "eval_strategy": "steps",
    "save_strategy": "steps",
    "eval_steps": 1,
    "save_steps": 1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "loss",
}


def test_the_best_model_by_a_metric_of_ones_own_is_returned(tmp_path: Path) -> None:
    trained(Cost, bert(), rows(), tmp_path, **BEST | {"metric_for_best_model": "cost", "greater_is_better": False})
    with pytest.warns(UserWarning, match="draws random numbers, or the rows changed"):
        trained(
            Trainer, bert(), rows(), tmp_path, {"compute_metrics": drawn}, **BEST | {"metric_for_best_model": "drawn"}
        )


def test_a_best_model_whose_settings_were_rewritten_is_returned_and_damaged_weights_are_not(tmp_path: Path) -> None:
    class Rewrites(TrainerCallback):
        name = "config.json"

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            (tmp_path / f"checkpoint-{state.global_step}" / self.name).write_text("{}")

    rewrites = Rewrites()
    trained(Trainer, bert(), rows(), tmp_path, {"callbacks": [rewrites]}, **BEST)
    rewrites.name = "model.safetensors"
    with pytest.raises(ModelError, match=r"model.safetensors has the wrong size.* delete manifest.json there"):
        trained(Trainer, bert(), rows(), tmp_path, {"callbacks": [rewrites]}, **BEST)


# ---- callbacks and checkpoints --------------------------------------------------------------------------------------


def test_a_callback_sees_a_whole_model_and_may_copy_it(tmp_path: Path) -> None:
    class Looks(TrainerCallback):
        copies: tuple[Any, ...] = ()

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            assert len(model.get_input_embeddings().weight) == 30_000
            torch.save(model, tmp_path / "whole.pt")
            self.copies = (copy.deepcopy(model), pickle.loads(pickle.dumps(model)))

    looks, data = Looks(), rows()
    assert trained(Trainer, bert(vocab_size=30_000), data, tmp_path).engine_report["vocabulary"]["state"] == "on"
    trainer = trained(Trainer, bert(vocab_size=30_000), data, tmp_path, {"callbacks": [looks]})
    wanted = trainer.predict(data).predictions
    for model in looks.copies:
        found = Trainer(model, arguments(tmp_path)).predict(data).predictions
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_early_stopping_serves_a_second_fit(tmp_path: Path) -> None:
    stopping = EarlyStoppingCallback(1)
    options = BEST | {"max_steps": 4, "learning_rate": 10.0, "metric_for_best_model": "accuracy"}
    for _ in range(2):
        trainer = trained(Trainer, bert(), rows(), tmp_path, {"callbacks": [stopping]}, **options)
        assert 0 < trainer.state.global_step < 4


def test_a_reduced_batch_and_an_optimizer_of_ones_own_train_all_rows(tmp_path: Path) -> None:
    class Own(Trainer):
        @staticmethod
        def get_optimizer_cls_and_kwargs(args: Any, model: Any = None) -> Any:
            return torch.optim.Adamax, {"lr": 1e-3}

    for kind, options in ((Own, {}), (Trainer, {"auto_find_batch_size": True})):
        trainer = trained(kind, bert(vocab_size=30_000), rows(), tmp_path, **options)
        assert trainer.engine_report["vocabulary"]["state"] == "off" and trainer.state.global_step == 2


def test_a_checkpoint_without_an_optimizer_is_resumed_and_one_with_pickles_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a pickle is read")

    monkeypatch.setattr(torch, "load", never)
    saving = {"save_strategy": "steps", "save_steps": 1}
    trained(Trainer, bert(), rows(), tmp_path / "ours", **saving, save_only_model=True)
    assert not list((tmp_path / "ours").rglob("optimizer*"))
    trainer = Trainer(bert(), arguments(tmp_path / "ours", max_steps=2), train_dataset=rows())
    trainer.train(resume_from_checkpoint=tmp_path / "ours" / "checkpoint-1")
    assert trainer.state.global_step == 2
    trained(transformers.Trainer, bert(), rows(), tmp_path / "stock", **saving)
    for resume in (True, tmp_path / "stock" / "checkpoint-1"):
        trainer = Trainer(bert(), arguments(tmp_path / "stock", max_steps=2), train_dataset=rows())
        with pytest.raises(ModelError, match="wrote it, with pickles, which are never read"):
            trainer.train(resume_from_checkpoint=resume)


def test_what_changed_since_a_checkpoint_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(Trainer, bert(), rows(), tmp_path, save_strategy="steps", save_steps=1)
    told: list[str] = []
    monkeypatch.setattr(resuming.logger, "warning", told.append)
    for resume, options in {True: {}, str(tmp_path / "checkpoint-1"): {"seed": 7, "learning_rate": 0.5}}.items():
        trainer = Trainer(bert(), arguments(tmp_path, max_steps=2, **options), train_dataset=rows())
        trainer.train(resume_from_checkpoint=resume)
    (line,) = told
    assert "seed was 3 and is 7, learning_rate was" in line and "is 0.5; the run goes on, but not as" in line


@pytest.mark.parametrize("resume", [True, "nowhere"])
def test_where_there_is_no_checkpoint_the_error_is_the_librarys(resume: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="alid checkpoint"):
        Trainer(bert(), arguments(tmp_path), train_dataset=rows()).train(resume_from_checkpoint=resume)


def test_an_optimizer_of_all_rows_is_not_given_to_some(tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 1}
    trained(Trainer, bert(vocab_size=30_000), rows(), tmp_path, {"callbacks": [TrainerCallbackOfOnesOwn()]}, **saving)
    with pytest.raises(ModelError, match="resume with the data, callbacks and engine"):
        trainer = Trainer(bert(vocab_size=30_000), arguments(tmp_path), train_dataset=rows())
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


class TrainerCallbackOfOnesOwn(TrainerCallback):
    pass


@pytest.mark.parametrize(("limit", "kept"), [(1, [1]), (2, [1, 4]), (3, [1, 3, 4])])
def test_the_limit_counts_the_best_checkpoint(limit: int, kept: list[int], tmp_path: Path) -> None:
    worse = iter(range(100))
    options = BEST | {"metric_for_best_model": "worse", "greater_is_better": False, "max_steps": 4}
    metrics = {"compute_metrics": lambda evaluation: {"worse": float(next(worse))}}
    with pytest.warns(UserWarning, match="when evaluated again"):
        trained(Trainer, bert(), rows(), tmp_path, metrics, **options, save_total_limit=limit)
    assert sorted(int(path.name.rpartition("-")[2]) for path in tmp_path.glob("checkpoint-*")) == kept


def test_trials_of_a_search_keep_their_checkpoints_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "_get_output_dir", lambda self, trial: str(tmp_path / "run-7"))
    trained(Trainer, bert(), rows(), tmp_path, save_strategy="steps", save_steps=2)
    assert (tmp_path / "run-7" / "checkpoint-2").is_dir() and not list(tmp_path.glob("checkpoint-*"))


def test_several_callbacks_of_one_kind_keep_their_states(tmp_path: Path) -> None:
    stopping = [EarlyStoppingCallback(patience) for patience in (2, 3)]
    trained(Trainer, bert(), rows(), tmp_path, {"callbacks": stopping}, **BEST)
    state = json.loads((tmp_path / "checkpoint-2" / "trainer_state.json").read_text())
    found = state["stateful_callbacks"]["EarlyStoppingCallback"]
    assert [one["args"]["early_stopping_patience"] for one in found] == [2, 3]


def test_a_loss_that_is_not_finite_ends_the_run_unless_it_is_filtered(tmp_path: Path) -> None:
    options = {"learning_rate": 1e30, "max_grad_norm": 0.0, "max_steps": 4}
    with pytest.raises(DivergedError):
        trained(Trainer, bert(), rows(), tmp_path, **options)
    trainer = trained(Trainer, bert(), rows(), tmp_path, **options, logging_nan_inf_filter=True)
    assert trainer.state.global_step == 4


def test_one_process_trains_on_one_gpu(tmp_path: Path) -> None:
    given = arguments(tmp_path)
    given._n_gpu = 2  # what stock code finds where there are two, and copies the model to
    trainer = Trainer(bert(), given, train_dataset=rows())
    assert (trainer.args.n_gpu, trainer.args.train_batch_size) == (1, 4)


@pytest.mark.parametrize("kind", [dict, transformers.BatchEncoding])
def test_inputs_keep_their_kind(tmp_path: Path, kind: Any) -> None:
    """Code of users reads ``inputs.input_ids``, which a plain dict does not have."""
    trainer = Trainer(bert(), arguments(tmp_path))
    ids = torch.tensor([[5, 6, 7]])
    prepared = trainer._prepare_inputs(kind({"input_ids": ids, "attention_mask": torch.ones_like(ids)}))
    assert type(prepared) is kind and torch.equal(prepared["input_ids"].cpu(), ids)
