"""Layers that take no gradient are run once, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from tunesmith.engine import Engine, content
from tunesmith.models.depth import parameter_order
from tunesmith.training.precision import choose_device

FAMILIES = ("bert", "roberta", "distilbert", "electra", "llama", "modernbert", "mpnet", "deberta-v2")
LENGTHS = (11, 3, 20, 1, 3, 8)
BUDGET = 10**8

Folder = Callable[[str], Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def batches() -> list[dict[str, torch.Tensor]]:
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    ids = torch.randint(5, 20, mask.shape, generator=torch.Generator().manual_seed(1)).masked_fill(~mask, 0)
    labels = torch.tensor([0, 1, 0, 1, 1, 0])
    whole = {"input_ids": ids, "attention_mask": mask.long(), "labels": labels}
    return [
        {name: values[rows].to(choose_device()) for name, values in whole.items()}
        for rows in ([0, 1, 2], [3, 4, 5], [5, 0, 3], [2, 4, 1])
    ]


def freeze(model: nn.Module, layers: int) -> None:
    blocks = parameter_order(model)
    names = blocks.embeddings.union(*blocks.layers[:layers]) | (blocks.top if layers == len(blocks.layers) else set())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in names)


def model_of(folder: Path, layers: int = 1) -> Any:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model.config.pad_token_id = 0
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout") and isinstance(module.attention_dropout, float):
            module.attention_dropout = 0.0
    freeze(model, layers)
    return model.train().to(choose_device())


def train(model: Any, steps: Iterable[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for batch in steps:
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(found[name], value, rtol=1e-5, atol=2e-6) for name, value in wanted.items())


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_training_on_kept_states_is_training(tiny_model_folder: Folder, family: str, layers: int) -> None:
    steps = [*batches(), *batches()]
    wanted = train(model_of(tiny_model_folder(family), layers), steps)
    model = model_of(tiny_model_folder(family), layers)
    engine = Engine(model, prefix_bytes=BUDGET)
    assert same(train(model, steps), wanted)
    report = engine.report()["prefix"]
    assert (report["layers"], report["rows_computed"], report["rows_read"]) == (layers, 6, 18)
    engine.detach()
    assert all("forward" not in vars(module) for module in model.modules())

    again = model_of(tiny_model_folder(family), layers)
    second = Engine(again, prefix_bytes=BUDGET)
    assert same(train(again, steps), wanted)
    assert second.report()["prefix"]["rows_computed"] == 0, "the second run finds what the first one kept"
    second.detach()


def test_states_that_would_not_all_fit_are_not_kept(tiny_model_folder: Folder) -> None:
    wanted = train(model_of(tiny_model_folder("bert")), batches())
    model = model_of(tiny_model_folder("bert"))
    engine = Engine(model, prefix_bytes=BUDGET, expected=(10**6, 10**9))
    assert same(train(model, batches()), wanted)
    report = engine.report()["prefix"]
    assert report["rows_read"] == report["bytes"] == 0
    assert report["state"] == "off"
    assert "do not fit" in report["reason"] and report["reason"].endswith("; raise prefix_bytes")
    engine.detach()


def test_the_boundary_follows_unfreezing(tiny_model_folder: Folder) -> None:
    plain, model = (model_of(tiny_model_folder("bert"), 2) for _ in range(2))
    engine = Engine(model, prefix_bytes=BUDGET)
    for layers in (2, 1, 0):
        for each in (plain, model):
            freeze(each, layers)
        assert same(train(model, batches()), train(plain, batches()))
        assert engine.prefix.layers == layers
    engine.detach()


def test_weights_that_change_make_kept_states_void(tiny_model_folder: Folder) -> None:
    model = model_of(tiny_model_folder("bert"), 1).eval()
    engine, batch = Engine(model, prefix_bytes=BUDGET), batches()[0]
    model(**batch)
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.weight.mul_(2)
    changed = model(**batch).logits
    engine.detach()
    assert torch.allclose(changed, model(**batch).logits, atol=1e-6)


class Steeper(nn.Module):
    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.leaky_relu(states, 0.5)


class Steepest(nn.Module):
    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.leaky_relu(states, 0.9)


def swap_activation(model: Any) -> None:
    model.bert.encoder.layer[0].intermediate.intermediate_act_fn = Steeper()


def swap_activation_for_one_of_the_same_name(model: Any) -> None:
    Steepest.__qualname__ = Steeper.__qualname__
    model.bert.encoder.layer[0].intermediate.intermediate_act_fn = Steepest()


def set_attribute(model: Any) -> None:
    model.bert.embeddings.LayerNorm.eps = 0.5


def edit_weights_past_their_version(model: Any) -> None:
    model.bert.encoder.layer[0].output.dense.weight.data.mul_(-1)


def edit_one_weight_past_its_version(model: Any) -> None:
    model.bert.embeddings.word_embeddings.weight.data[batches()[0]["input_ids"][0, 0], 3] += 1


def edit_weights_by_numpy(model: Any) -> None:
    weight = model.bert.encoder.layer[0].output.dense.weight.detach()
    if weight.device.type != "cpu":
        pytest.skip("numpy sees the processor's memory alone")
    weight.numpy()[:] *= -1


def replace_weights(model: Any) -> None:
    weight = model.bert.encoder.layer[0].output.dense.weight
    weight.data = weight.data.flip(0).clone()


def change_buffer(model: Any) -> None:
    model.bert.encoder.layer[0].attention.output.dense.scale.mul_(3)


def change_buffer_past_its_version(model: Any) -> None:
    model.bert.encoder.layer[0].attention.output.dense.scale.data.mul_(3)


CHANGES = [
    swap_activation, swap_activation_for_one_of_the_same_name, set_attribute, edit_weights_past_their_version,
    edit_one_weight_past_its_version, edit_weights_by_numpy, replace_weights, change_buffer,
    change_buffer_past_its_version,
]  # fmt: skip


class Scaled(nn.Module):
    """A module's output times a buffer."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("scale", torch.ones(()))

    def forward(self, *given: Any) -> Any:
        return self.inner(*given) * self.scale


def scaled_model(folder: Path) -> Any:
    model = model_of(folder).eval()
    model.bert.encoder.layer[0].attention.output.dense = Scaled(model.bert.encoder.layer[0].attention.output.dense)
    freeze(model, 1)
    return model.to(choose_device())


def states_of(model: Any) -> torch.Tensor:
    """What the backbone makes of the first batch."""
    inputs = {name: values for name, values in batches()[0].items() if name != "labels"}
    with torch.no_grad():
        found: torch.Tensor = model.bert(**inputs).last_hidden_state
    return found[inputs["attention_mask"].bool()]


@pytest.mark.parametrize("change", CHANGES)
def test_states_of_another_content_are_never_found(tiny_model_folder: Folder, change: Callable[[Any], None]) -> None:
    """Neither by the model that was changed under the engine, nor by a later one, nor by the unchanged model after."""
    plain, changed, under, later, after = (scaled_model(tiny_model_folder("bert")) for _ in range(5))
    wanted = states_of(plain)
    change(changed)
    wanted_changed = states_of(changed)
    assert not torch.allclose(wanted, wanted_changed, atol=1e-3)

    engine = Engine(under, prefix_bytes=BUDGET)
    assert torch.allclose(states_of(under), wanted, atol=1e-5)
    change(under)
    assert torch.allclose(states_of(under), wanted_changed, atol=1e-5)
    engine.detach()
    change(later)
    engine = Engine(later, prefix_bytes=BUDGET)
    assert torch.allclose(states_of(later), wanted_changed, atol=1e-5)
    engine.detach()
    engine = Engine(after, prefix_bytes=BUDGET)
    for read in (0, 3):  # what had not been written when the content changed is computed again
        assert torch.allclose(states_of(after), wanted, atol=1e-5)
        assert engine.report()["prefix"]["rows_read"] == read
    engine.detach()


def test_large_weights_are_looked_at_in_turn_and_whole_before_states_are_written(
    tiny_model_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "LOOK_BYTES", 64)
    wanted = states_of(model_of(tiny_model_folder("bert")).eval())
    model = model_of(tiny_model_folder("bert")).eval()
    engine = Engine(model, prefix_bytes=BUDGET)
    states_of(model)
    model.bert.encoder.layer[0].output.dense.weight.data.mul_(-1)
    model(**batches()[1])  # perhaps not noticed yet
    engine.detach()
    changed = states_of(model)

    later = model_of(tiny_model_folder("bert")).eval()
    engine = Engine(later, prefix_bytes=BUDGET)
    assert torch.allclose(states_of(later), wanted, atol=1e-5)
    assert engine.report()["prefix"]["rows_computed"] == 3, "nothing doubtful was written"
    later.bert.encoder.layer[0].output.dense.weight.data.mul_(-1)
    later.train()  # when everything is looked at
    assert torch.allclose(states_of(later), changed, atol=1e-5)
    engine.detach()


def test_doubtful_states_are_gone_when_a_change_is_undone(
    tiny_model_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "LOOK_BYTES", 64)
    first, other = batches()[:2]
    model = model_of(tiny_model_folder("bert")).eval()
    wanted = model(**other).logits
    engine = Engine(model, prefix_bytes=BUDGET)
    model(**first)
    model.bert.encoder.layer[0].output.dense.weight.data.mul_(-1)
    model(**other)  # not noticed yet
    model.train()  # when everything is looked at
    model(**first)
    model.bert.encoder.layer[0].output.dense.weight.data.mul_(-1)
    model.eval()
    assert torch.allclose(model(**other).logits, wanted, atol=1e-5)
    engine.detach()


def test_hooks_inside_frozen_layers_are_called(tiny_model_folder: Folder) -> None:
    model = model_of(tiny_model_folder("bert")).eval()
    calls: list[Any] = []
    model.bert.encoder.layer[0].output.dense.register_forward_hook(lambda *given: calls.append(given))
    engine = Engine(model, prefix_bytes=BUDGET)
    calls.clear()
    for _ in range(3):
        model(**batches()[0])
    assert len(calls) == 3 and "hook" in engine.report()["prefix"]["reason"]
    engine.detach()


def test_frozen_layers_have_no_dropout(tiny_model_folder: Folder) -> None:
    model = model_of(tiny_model_folder("bert"), 1)
    model.bert.embeddings.dropout.p = 0.5
    engine, batch = Engine(model, prefix_bytes=BUDGET), batches()[0]
    assert torch.equal(model(**batch).logits, model(**batch).logits)
    engine.detach()


def test_a_damaged_cache_is_rebuilt(tiny_model_folder: Folder, cache: Path) -> None:
    wanted = train(model_of(tiny_model_folder("bert")), batches())
    for _ in range(2):
        model = model_of(tiny_model_folder("bert"))
        engine = Engine(model, prefix_bytes=BUDGET)
        assert same(train(model, batches()), wanted)
        assert engine.report()["prefix"]["rows_computed"] == 6
        engine.detach()
        for store in cache.rglob("*.sqlite"):
            content = bytearray(store.read_bytes())
            content[4196::100] = bytes(value ^ 0xFF for value in content[4196::100])  # all pages but the first
            store.write_bytes(bytes(content))


def test_a_budget_that_is_too_small_changes_nothing(tiny_model_folder: Folder, cache: Path) -> None:
    wanted = train(model_of(tiny_model_folder("bert")), batches())
    model = model_of(tiny_model_folder("bert"))
    engine = Engine(model, prefix_bytes=1_500)
    assert same(train(model, batches()), wanted)
    assert "budget" in engine.report()["prefix"]["reason"]
    engine.detach()
    assert sum(path.stat().st_size for path in cache.rglob("*.sqlite")) <= 1_500


@pytest.mark.parametrize(("method", "part", "family", "reason"), [
    ("full", "prefix", "bert", "no layer above the embeddings is frozen"),
    ("lora", "vocabulary", "bert", "frozen"),
    ("full", "packing", "mpnet", "its attention cannot be replaced"),
])  # fmt: skip
def test_a_part_that_does_nothing_says_why(make_problem: Any, method: str, part: str, family: str, reason: str) -> None:
    report = make_problem(family=family, method=method, epochs=1, batch_size=8).fit().report[part]
    assert report["state"] == "off" and reason in report["reason"]


@pytest.mark.parametrize(("method", "part"), [
    ("full", "packing"), ("full", "vocabulary"), ("freeze", "prefix"), ("gradual", "prefix"), ("features", "prefix"),
])  # fmt: skip
def test_a_part_works_where_it_can(make_problem: Any, method: str, part: str) -> None:
    options = {"trainable_layers": 1, "epochs": 3, "batch_size": 8}
    assert make_problem(method=method, **options).fit().report[part]["state"] == "on"


def test_states_are_kept_once(make_problem: Any) -> None:
    options = {"trainable_layers": 1, "epochs": 2, "batch_size": 8}
    assert make_problem(rows=24, method="freeze", **options).fit().report["prefix"]["rows_computed"] == 24
