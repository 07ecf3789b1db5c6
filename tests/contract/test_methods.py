"""Properties of every method, for every task kind and model family: add a row, and all of them are checked."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tunesmith.data.layout import Layout
from tunesmith.data.shapes import SHAPES
from tunesmith.errors import ModelError, UsageError
from tunesmith.methods import METHODS
from tunesmith.methods.gradual import unfrozen_layers
from tunesmith.models.depth import parameter_order
from tunesmith.models.heads import final_linear, head_parameter_names
from tunesmith.predictor import Predictor
from tunesmith.tasks import TASKS
from tunesmith.tasks.batching import PaddingCollator
from tunesmith.training.backend import TorchModel
from tunesmith.training.inference import pooled_vectors
from tunesmith.training.task_trainer import TaskTrainer

FAMILIES = ["bert", "roberta", "distilbert", "electra", "llama", "modernbert", "mpnet", "deberta-v2"]
STEPS = [name for name in METHODS if name != "features"]
ON_TOKENS = {"ner", "qa"}
POOLED = [(kind, pooling) for kind in TASKS for pooling in ("head", "mean", "first")[: 1 if kind in ON_TOKENS else 3]]
KINDS_AND_FAMILIES = [("classification", family) for family in FAMILIES]
KINDS_AND_FAMILIES += [(kind, family) for kind in sorted(ON_TOKENS) for family in ("bert", "roberta", "modernbert")]
FEW: dict[str, Any] = {"epochs": 1, "batch_size": 8}


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def expected_changes(problem: Any, method: str) -> set[str]:
    model = problem.model()
    names, blocks = {name for name, _ in model.named_parameters()}, parameter_order(model)
    if method in ("full", "gradual"):
        return names
    if method == "freeze":
        return set(blocks.head | blocks.top | blocks.layers[-1])
    if method == "features":
        final = {id(p) for p in final_linear(model).parameters()}
        return {name for name, p in model.named_parameters() if id(p) in final}
    adapted = {
        "q",
        "v",
        "query",
        "value",
        "q_proj",
        "v_proj",
        "q_lin",
        "v_lin",
        "Wqkv",
        "Wo",
        "query_proj",
        "value_proj",
    }
    return set(blocks.head) | {n for n in names if n.endswith(".weight") and n.split(".")[-2] in adapted}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("kind", "family"), KINDS_AND_FAMILIES)
def test_a_fit_changes_exactly_the_promised_parameters(
    make_problem: Any, method: str, kind: str, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The last state counts here, not the best one: gradual moves the embeddings at the end only.
    monkeypatch.setattr(TaskTrainer, "_load_best_model", lambda self: None)
    problem = make_problem(
        kind, family=family, method=method, trainable_layers=1, epochs=3, batch_size=8, pooling="head"
    )
    before = weights(problem.model())
    after = weights(problem.fit().model)
    moved, promised = changed(before, after), expected_changes(problem, method)
    assert moved <= promised
    # Rows and biases without any influence (the key bias of softmax attention) may stand still; nothing else may.
    still = {
        name for name in promised - moved if not name.endswith(("key.bias", "k_lin.bias", "key_proj.bias", ".k.bias"))
    }
    # A pooler that the head does not read (mean pooling) and unused position tables have no gradient either.
    assert not {name for name in still if "pooler" not in name and "token_type" not in name}, still


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("kind", "pooling"), POOLED)
def test_what_is_saved_and_loaded_answers_the_same(
    make_problem: Any, method: str, kind: str, pooling: str, tmp_path: Path
) -> None:
    problem = make_problem(kind, method=method, trainable_layers=1, pooling=pooling, **FEW)
    begun, fitted = problem.begun, problem.fit()
    form: Any = {"multilabel": "json", "ner": "spans", "qa": "answers"}.get(kind, "plain")
    layout = Layout(SHAPES[kind], "text", "text_pair" if kind == "qa" else None, ("label",), form)
    space = begun.space.in_users_units
    Predictor(TorchModel(fitted.model, begun.tokenizer), begun.task, space, begun.truncation, layout).save(
        tmp_path / "saved"
    )
    loaded = Predictor.load(tmp_path / "saved")
    assert np.array_equal(problem.logits(loaded.model), problem.logits(fitted.model))
    assert loaded.space == space
    assert not [path for path in (tmp_path / "saved").rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".pth")]


@pytest.mark.parametrize(("kind", "family"), KINDS_AND_FAMILIES)
def test_a_merged_adapter_answers_like_the_adapted_model(make_problem: Any, kind: str, family: str) -> None:
    problem = make_problem(kind, family=family, method="lora", pooling="head", **FEW)
    fitted = problem.fit()
    assert fitted.adapter is not None and not hasattr(fitted.model, "peft_config")
    merged = problem.logits(fitted.model)
    assert problem.method().finish(fitted.model) is fitted.model
    plain = problem.model()
    fresh = problem.logits(plain)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        adapted = PeftModel.from_pretrained(plain, str(fitted.adapter))
    again = problem.logits(adapted)
    np.testing.assert_allclose(merged, again, atol=1e-5)
    assert np.abs(merged - fresh).max() > 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_the_solved_head_is_the_regularised_optimum(make_problem: Any, family: str) -> None:
    problem = make_problem(family=family, method="features", pooling="head")
    fitted, collate = problem.fit(), PaddingCollator.of(problem.begun.tokenizer)
    vectors = pooled_vectors(fitted.model, problem.features, collate)
    bias = final_linear(fitted.model).bias is not None
    x = StandardScaler(with_mean=bias).fit_transform(vectors)
    solver = LogisticRegression(C=fitted.details["inverse_regularisation"], fit_intercept=bias, max_iter=200, tol=1e-3)
    expected = solver.fit(x, problem.features.targets).predict_proba(x)
    logits = problem.logits(fitted.model)
    found = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found / found.sum(axis=1, keepdims=True), expected, atol=0.02)


@pytest.mark.parametrize(("method", "enough"), [("full", 0.8), ("features", 0.6), ("lora", 0.5)])
@pytest.mark.parametrize("kind", TASKS)
def test_a_few_rows_can_be_learned(make_problem: Any, method: str, enough: float, kind: str) -> None:
    problem = make_problem(kind, rows=12, method=method, epochs=60, batch_size=4, lr=5e-3, head_lr=2e-2)
    best = problem.fit().best
    assert best["value"] > enough, best  # by chance a third of the rows are right


def test_freeze_refuses_more_layers_than_there_are(make_problem: Any) -> None:
    with pytest.raises(ModelError, match=r"method\.trainable_layers=5: the model has 2 layers"):
        make_problem(method="freeze", trainable_layers=5).fit()


def test_lora_targets_that_match_nothing_are_an_error(make_problem: Any) -> None:
    with pytest.raises(UsageError, match="'quary': did you mean 'query'"):
        make_problem(method="lora", lora_targets="quary").fit()


def test_gradual_trains_every_layer_in_the_end_and_only_the_head_at_first(make_problem: Any) -> None:
    problem = make_problem(method="gradual", epochs=4, batch_size=8)
    model, method = problem.model(), problem.method()
    method.apply(model)
    trained = []
    for epoch in range(4):
        method.begin_epoch(model, epoch, 4)
        trained.append({name for name, parameter in model.named_parameters() if parameter.requires_grad})
    assert trained[0] == head_parameter_names(model)
    assert all(earlier <= later for earlier, later in itertools.pairwise(trained))
    assert trained[-1] == {name for name, _ in model.named_parameters()}


def test_gradual_unfreezes_in_equal_shares() -> None:
    assert [unfrozen_layers(epoch, 6, 6) for epoch in range(6)] == [0, 2, 4, 6, 6, 6]
    assert unfrozen_layers(0, 1, 6) == 6


def test_learning_rates_fall_from_head_to_embeddings(make_problem: Any) -> None:
    problem = make_problem(method="full", lr=1e-3, head_lr=1e-2, layer_decay=0.5)
    model, method = problem.model(), problem.method()
    method.apply(model)
    groups = method.parameter_groups(model, problem.by_method().settings)
    rate = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    of = {name: rate[id(parameter)] for name, parameter in model.named_parameters()}
    assert of["classifier.weight"] == 1e-2
    assert of["bert.encoder.layer.1.output.dense.weight"] == 1e-3
    assert of["bert.encoder.layer.0.output.dense.weight"] == 5e-4
    assert of["bert.embeddings.word_embeddings.weight"] == 2.5e-4
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in decayed}
    assert not [name for name in names if "LayerNorm" in name or name.endswith("bias")] and names


def test_features_reads_the_vectors_of_an_earlier_run(make_problem: Any, tmp_path: Path) -> None:
    problem = make_problem("classification", method="features")
    first, second = problem.fit(tmp_path / "one"), problem.fit(tmp_path / "two")
    size = first.report["prefix"]["bytes"]
    assert first.report["prefix"] == {"state": "on", "rows_read": 0, "rows_computed": 24, "bytes": size}
    assert second.report["prefix"] == {"state": "on", "rows_read": 24, "rows_computed": 0, "bytes": size} and size
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    off = make_problem("classification", method="features", sets={"engine.prefix": "off"}).fit(tmp_path / "three")
    assert off.report["prefix"]["state"] == "off"
