"""The Trainer in place of transformers' own: each block of the usual fine-tuning guide, only its imports changed."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from tunesmith import Trainer, TrainingArguments
from tunesmith.errors import DivergedError, ModelError, ResourceError, UsageError
from tunesmith.training import checkpoint

TEXTS = ["good film", "bad film and a poor book", "great book", "awful music in the car", "fine", "bad bad bad day"] * 4
LABELS = [1, 0, 1, 0, 1, 0] * 4


@pytest.fixture(autouse=True)
def no_stock_noise() -> Iterator[None]:
    """What the libraries warn of in the guide's own code (a head frozen by an adapter, PEFT's renamed attribute)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        warnings.filterwarnings("ignore", message="`evaluation_strategy`")
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield


class Guide:
    """The blocks of the guide, as methods in its order."""

    def __init__(self, folder: Path, out: Path) -> None:
        self.folder, self.out = str(folder), str(out)

    def data(self) -> Any:
        return Dataset.from_dict({"text": TEXTS, "label": LABELS}).train_test_split(test_size=0.25, seed=1)

    def tokenized(self) -> Any:
        tokenizer = AutoTokenizer.from_pretrained(self.folder)

        def preprocess(examples: Any) -> Any:
            return tokenizer(examples["text"], padding="max_length", truncation=True, max_length=64)

        return self.data().map(preprocess, batched=True)

    def model(self) -> Any:
        torch.manual_seed(0)
        return AutoModelForSequenceClassification.from_pretrained(self.folder, num_labels=2)

    def arguments(self, **options: Any) -> TrainingArguments:
        usual = {
            "output_dir": self.out,
            "num_train_epochs": 3,
            "per_device_train_batch_size": 8,
            "learning_rate": 2e-5,
            "evaluation_strategy": "epoch",
            "use_cpu": True,
            "disable_tqdm": True,
        }
        return TrainingArguments(**usual | options)

    def trainer(self, model: Any = None, kind: type[transformers.Trainer] = Trainer, **options: Any) -> Any:
        data = self.tokenized()
        model = self.model() if model is None else model
        return kind(model=model, args=self.arguments(**options), train_dataset=data["train"], eval_dataset=data["test"])


@pytest.fixture
def guide(tiny_model_folder: Callable[[str], Path], tmp_path: Path) -> Guide:
    return Guide(tiny_model_folder("bert"), tmp_path / "out")


def test_the_recipe_trains_and_reports_accuracy(guide: Guide) -> None:
    trainer = guide.trainer(learning_rate=5e-3, num_train_epochs=20)
    trainer.train()
    results = trainer.evaluate()  # the texts of the test rows are among those of the training rows
    assert results["eval_accuracy"] == 1.0 and results["eval_macro_f1"] == 1.0
    assert len([line for line in trainer.state.log_history if "eval_accuracy" in line]) == 21


def test_freezing_by_the_usual_loop_holds_and_silences_dropout(guide: Guide) -> None:
    model = guide.model()
    for parameter in model.base_model.parameters():
        parameter.requires_grad = False
    for layer in model.base_model.encoder.layer[-1:]:
        for parameter in layer.parameters():
            parameter.requires_grad = True
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    modes: list[tuple[bool, bool]] = []
    model.classifier.register_forward_pre_hook(
        lambda *a: modes.append((model.bert.embeddings.dropout.training, model.bert.encoder.layer[1].training))
    )
    guide.trainer(model, learning_rate=1e-2, eval_strategy="no", evaluation_strategy=None).train()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(before[name], parameter)}
    assert moved and all(name.startswith(("classifier", "bert.encoder.layer.1")) for name in moved)
    assert set(modes) == {(False, True)}


def test_lora_trains_and_warns_of_its_frozen_head(guide: Guide) -> None:
    config = LoraConfig(r=16, lora_alpha=32, target_modules=["query", "value"], lora_dropout=0.05)
    with pytest.warns(UserWarning, match=r"modules_to_save=\['classifier'\]"):
        trainer = guide.trainer(get_peft_model(guide.model(), config), learning_rate=1e-2)
    trainer.train()
    assert "eval_accuracy" in trainer.evaluate()


def test_padding_never_reaches_the_model(guide: Guide) -> None:
    trainer, widths = guide.trainer(), set()
    trainer.model.bert.embeddings.register_forward_pre_hook(
        lambda module, args, options: widths.add(options["input_ids"].shape[1]), with_kwargs=True
    )
    trainer.train()
    assert max(widths) < 64
    assert trainer.predict(trainer.eval_dataset).predictions.shape == (6, 2)


@pytest.mark.parametrize("accumulation", [2, 8])
def test_accumulation_changes_neither_loss_nor_update(guide: Guide, accumulation: int) -> None:
    found = []
    for k in (1, accumulation):
        model = guide.model().eval()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.config.attention_probs_dropout_prob = 0.0
        for layer in model.bert.encoder.layer:
            layer.attention.self.dropout.p = 0.0
        sizes = {"per_device_train_batch_size": 8 // k, "gradient_accumulation_steps": k, "optim": "sgd"}
        trainer = guide.trainer(model, **sizes, max_steps=2, learning_rate=0.1, logging_steps=1)
        trainer.train()
        losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
        found.append((losses, [p.detach().clone() for p in model.parameters()]))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-5)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_without_accumulation_the_loss_is_the_stock_trainers(guide: Guide) -> None:
    def plain(model: Any) -> Any:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        return model

    options = {"train_sampling_strategy": "sequential", "max_steps": 3, "logging_steps": 1, "learning_rate": 1e-3}
    runs = []
    for kind in (Trainer, transformers.Trainer):
        trainer = guide.trainer(plain(guide.model()), kind, **options)
        trainer.train()
        runs.append(([line["loss"] for line in trainer.state.log_history if "loss" in line], trainer.model))
    np.testing.assert_allclose(runs[0][0], runs[1][0], rtol=1e-5)
    for a, b in zip(runs[0][1].parameters(), runs[1][1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_predictions_come_in_the_order_of_the_rows(guide: Guide) -> None:
    trainer = guide.trainer(train_sampling_strategy="group_by_length")
    answers = trainer.predict(trainer.train_dataset)
    one_by_one = [trainer.predict(trainer.train_dataset.select([i])).predictions[0] for i in range(6)]
    np.testing.assert_allclose(answers.predictions[:6], one_by_one, atol=1e-5)
    assert answers.label_ids.tolist() == trainer.train_dataset["label"]


def test_a_run_resumes_to_the_same_weights(guide: Guide) -> None:
    options = {"save_strategy": "steps", "save_steps": 4, "learning_rate": 1e-2}
    straight = guide.trainer(**options)
    straight.train()
    resumed = guide.trainer(**options)
    checkpoint = Path(guide.out) / "checkpoint-4"
    resumed.train(resume_from_checkpoint=str(checkpoint))
    for a, b in zip(resumed.model.parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not list(checkpoint.rglob("*.bin")) and not list(checkpoint.rglob("*.pt*"))
    (checkpoint / "trainer_state.json").write_text("{}")
    with pytest.raises(ModelError, match=r"trainer_state.json has the wrong size"):
        guide.trainer(**options).train(resume_from_checkpoint=str(checkpoint))


def test_a_loss_of_the_users_own_is_taken_as_it_is(guide: Guide) -> None:
    def weighted(self: Any, model: Any, inputs: Any, return_outputs: bool = False, **options: Any) -> Any:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = torch.nn.functional.cross_entropy(outputs.logits, labels, torch.tensor([1.0, 3.0]))
        return (loss, outputs) if return_outputs else loss

    runs = []
    for kind in (Trainer, transformers.Trainer):
        own = type("Weighted", (kind,), {"compute_loss": weighted})
        model = guide.model()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        options = {"train_sampling_strategy": "sequential", "logging_steps": 1, "max_steps": 2}
        trainer = guide.trainer(model, own, **options)
        trainer.train()
        runs.append([line["loss"] for line in trainer.state.log_history if "loss" in line])
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-5)


def test_multilabel_and_regression_heads_get_their_own_loss_and_metrics(guide: Guide) -> None:
    many = guide.model()
    many.config.problem_type = "multi_label_classification"
    data = Dataset.from_dict({"text": TEXTS, "labels": [[float(y), 1.0 - y] for y in LABELS]})
    tokenizer = AutoTokenizer.from_pretrained(guide.folder)
    data = data.map(lambda rows: tokenizer(rows["text"]), batched=True)
    trainer = Trainer(many, guide.arguments(), train_dataset=data, eval_dataset=data, tokenizer=tokenizer)
    trainer.train()
    assert {"eval_micro_f1", "eval_loss"} <= set(trainer.evaluate())


@pytest.mark.parametrize("auto", [AutoModelForTokenClassification, AutoModelForQuestionAnswering])
def test_other_heads_train_as_well(guide: Guide, auto: Any) -> None:
    model = auto.from_pretrained(guide.folder)
    tokens = guide.tokenized()["train"].remove_columns(["label", "text"])
    if auto is AutoModelForTokenClassification:
        rows = [
            [t % 2 if m else -100 for t, m in zip(r["input_ids"], r["attention_mask"], strict=True)] for r in tokens
        ]
        data = tokens.add_column("labels", rows)
    else:
        data = tokens.add_column("start_positions", [1] * len(tokens)).add_column("end_positions", [2] * len(tokens))
    trainer = Trainer(model, guide.arguments(learning_rate=1e-2), train_dataset=data, eval_dataset=data)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before


def tokenized_rows(folder: str) -> Dataset:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = tokenizer(TEXTS[:2])
    return Dataset.from_dict(
        {"input_ids": rows["input_ids"], "attention_mask": rows["attention_mask"], "label": [1, 0]}
    )


def make_trainer(kind: type[transformers.Trainer], guide: Guide, **options: Any) -> Any:
    model = guide.model()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    tokenizer = AutoTokenizer.from_pretrained(guide.folder)
    arguments = {"weight_decay": 0.1, "learning_rate": 1e-2, "adam_epsilon": 1e-4, "evaluation_strategy": "no"}
    args = guide.arguments(**arguments | options)
    return kind(model=model, args=args, train_dataset=tokenized_rows(guide.folder), processing_class=tokenizer)


def train_on(kind: type[transformers.Trainer], guide: Guide, **options: Any) -> Any:
    trainer = make_trainer(kind, guide, **options)
    trainer.train()
    return trainer


def assert_same_weights(one: Any, other: Any) -> None:
    found = dict(other.model.named_parameters())
    for name, wanted in one.model.named_parameters():
        torch.testing.assert_close(found[name], wanted, rtol=1e-4, atol=1e-6, msg=name)


def test_only_known_tokens_are_trained_and_the_model_is_the_same(guide: Guide) -> None:
    stock, ours = train_on(transformers.Trainer, guide), train_on(Trainer, guide)
    report = ours.engine_report["vocabulary"]
    assert report["state"] == "on" and report["rows"] < report["of"]
    assert_same_weights(stock, ours)


def test_training_twice_moves_the_embeddings_twice(guide: Guide) -> None:
    trainer = train_on(Trainer, guide)
    before = trainer.model.get_input_embeddings().weight.detach().clone()
    trainer.train()
    assert trainer.engine_report["vocabulary"]["state"] == "on"
    assert (trainer.model.get_input_embeddings().weight != before).any()


@pytest.mark.parametrize("reason", ["collator", "transform", "optimizer", "subclass"])
def test_the_whole_vocabulary_is_trained_where_tokens_may_come_from_elsewhere(guide: Guide, reason: str) -> None:
    class Own(Trainer):
        def training_step(self, *positional: Any, **options: Any) -> Any:
            return super().training_step(*positional, **options)

    tokenizer = AutoTokenizer.from_pretrained(guide.folder)
    padding = transformers.DataCollatorWithPadding(tokenizer)
    data = tokenized_rows(guide.folder)
    options: dict[str, Any] = {"data_collator": padding, "args": guide.arguments(evaluation_strategy="no")}
    model = guide.model()
    if reason == "collator":
        options["data_collator"] = lambda rows: padding(rows)
    elif reason == "transform":
        columns = data[:]
        data.set_transform(lambda rows: {name: values[: len(rows["label"])] for name, values in columns.items()})
    elif reason == "optimizer":
        options["optimizers"] = (torch.optim.SGD(model.parameters(), lr=1e-3), None)
    trainer = (Own if reason == "subclass" else Trainer)(model=model, train_dataset=data, **options)
    trainer.train()
    assert trainer.engine_report["vocabulary"]["state"] == "off"


def test_a_run_with_few_tokens_resumes_bit_for_bit(guide: Guide) -> None:
    options: dict[str, Any] = {"per_device_train_batch_size": 1, "save_strategy": "steps", "save_steps": 2}
    straight, again = train_on(Trainer, guide, **options), make_trainer(Trainer, guide, **options)
    again.train(resume_from_checkpoint=str(Path(guide.out) / "checkpoint-2"))
    assert again.engine_report["vocabulary"]["state"] == "on"
    wanted = dict(straight.model.named_parameters())
    assert all(torch.equal(wanted[name], value) for name, value in again.model.named_parameters())


def test_a_model_made_by_model_init_has_the_engine_and_is_trained(guide: Guide) -> None:
    given = make_trainer(Trainer, guide)
    given.train()
    made = Trainer(
        model_init=lambda: make_trainer(Trainer, guide).model,
        args=given.args,
        train_dataset=given.train_dataset,
        processing_class=given.processing_class,
    )
    made.train()
    assert made.engine_report["vocabulary"]["state"] == made.engine_report["packing"]["state"] == "on"
    assert made.engine_report["packing"]["real_tokens"] > 0
    assert_same_weights(given, made)


def test_padding_that_only_the_collator_knows_is_trained_with(
    tiny_model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    guide = Guide(tiny_model_folder("mpnet"), tmp_path / "out")  # not packed: padding reaches the embeddings
    model, tokenizer = guide.model(), AutoTokenizer.from_pretrained(guide.folder)
    model.get_input_embeddings().padding_idx = None
    trainer = Trainer(
        model=model,
        args=guide.arguments(evaluation_strategy="no"),
        train_dataset=tokenized_rows(guide.folder),
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
    )
    trainer.train()
    assert trainer.engine_report["vocabulary"]["state"] == "on"


def test_noise_that_depends_on_padding_keeps_the_batch_as_it_is(guide: Guide) -> None:
    report = train_on(Trainer, guide, neftune_noise_alpha=5.0).engine_report
    assert {report[part]["state"] for part in ("packing", "prefix", "vocabulary")} == {"off"}


def freeze_all_but_the_last_layer(model: Any) -> Any:
    for parameter in [*model.bert.embeddings.parameters(), *model.bert.encoder.layer[0].parameters()]:
        parameter.requires_grad = False
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def test_states_of_frozen_layers_are_kept_only_where_space_is_given(
    guide: Guide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    found: list[list[torch.Tensor]] = []
    for options in ({}, {"engine": "off"}, {"engine_cache_gigabytes": 0.01}):
        data, model, given = guide.tokenized(), freeze_all_but_the_last_layer(guide.model()), dict[str, Any](options)
        trainer = Trainer(model, guide.arguments(), train_dataset=data["train"], eval_dataset=data["test"], **given)
        trainer.train()
        assert trainer.engine_report["prefix"]["state"] == ("on" if "engine_cache_gigabytes" in options else "off")
        assert trainer.engine_report["packing"]["state"] == ("off" if "engine" in options else "on")
        assert (tmp_path / "cache").exists() == ("engine_cache_gigabytes" in options)
        found.append([parameter.detach() for parameter in model.parameters()])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", [{"engine": "on"}, {"engine": None}, {"engine_cache_gigabytes": -1.0}])
def test_an_engine_that_does_not_exist_is_refused(guide: Guide, options: Any) -> None:
    with pytest.raises(UsageError, match='engine="auto" or "off"'):
        Trainer(guide.model(), guide.arguments(), **options)


def test_advice_speaks_of_the_trainers_own_arguments(guide: Guide, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DivergedError, match="Lower learning_rate, or look"):
        guide.trainer(learning_rate=1e30, max_grad_norm=0.0).train()

    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_optimizer", full)
    with pytest.raises(ResourceError, match=r"continue with train\(resume_from_checkpoint=True\)"):
        guide.trainer(save_strategy="steps", save_steps=2).train()
