"""Packed batches give what padded ones give, for every family that can be packed; the others say why they cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from tunesmith.engine import Engine

HEADS = {
    "sequence": AutoModelForSequenceClassification,
    "token": AutoModelForTokenClassification,
    "question": AutoModelForQuestionAnswering,
}
PACKED = ("bert", "roberta", "distilbert", "electra", "llama", "modernbert")
UNPACKED = ("mpnet", "deberta-v2")
LENGTHS = (11, 3, 20, 1, 3)


def batch() -> dict[str, torch.Tensor]:
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    ids = torch.randint(5, 20, mask.shape, generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids.masked_fill(~mask, 0), "attention_mask": mask.long()}


def pair(folder: Path, head: str) -> tuple[Any, Any]:
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(HEADS[head].from_pretrained(folder).eval())
    for model in models:
        model.config.pad_token_id = 0
    return models[0], models[1]


def outputs(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    found = model(**inputs)
    logits = found.logits if "logits" in found else torch.stack([found.start_logits, found.end_logits], dim=-1)
    real = inputs["attention_mask"].bool()
    return logits[real] if logits.shape[:2] == real.shape else logits


def close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    found, wanted = found.detach(), wanted.detach()
    return float((found - wanted).abs().max()) <= 1e-5 * max(float(wanted.abs().max()), 1e-3)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", [*PACKED, *UNPACKED])
def test_outputs_and_every_gradient_are_those_of_padded_batches(
    tiny_model_folder: Callable[[str], Path], family: str, head: str
) -> None:
    plain, packed = pair(tiny_model_folder(family), head)
    engine = Engine(packed)
    assert engine.packed == (family in PACKED), engine.packing.why_not()
    inputs = batch()
    wanted, found = outputs(plain, inputs), outputs(packed, inputs)
    assert close(found, wanted)
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(2))
    (wanted * weights).sum().backward()
    (found * weights).sum().backward()
    other = dict(packed.named_parameters())
    for name, parameter in plain.named_parameters():
        if parameter.grad is not None:
            assert close(other[name].grad, parameter.grad), name
    engine.detach()
    assert torch.equal(outputs(packed, inputs), wanted)


@pytest.mark.parametrize("family", PACKED)
def test_one_text_never_sees_another(tiny_model_folder: Callable[[str], Path], family: str) -> None:
    _, model = pair(tiny_model_folder(family), "sequence")
    Engine(model)
    inputs = batch()
    before = model(**inputs).logits
    inputs["input_ids"][2] = inputs["input_ids"][2].roll(1) % 15 + 5
    after = model(**inputs).logits
    assert torch.equal(before[[0, 1, 3, 4]], after[[0, 1, 3, 4]])
    assert not torch.equal(before[2], after[2])


def test_detaching_leaves_no_trace(tiny_model_folder: Callable[[str], Path]) -> None:
    model, _ = pair(tiny_model_folder("bert"), "sequence")
    config = model.config.to_json_string()
    engine = Engine(model)
    assert model.config.to_json_string() == config
    engine.detach()
    engine.detach()
    assert "forward" not in vars(model.base_model)
    assert all("forward" not in vars(module) and not module._forward_hooks for module in model.modules())
    assert model.config._attn_implementation == "sdpa"


def test_calls_that_cannot_be_packed_get_the_models_own_answer(tiny_model_folder: Callable[[str], Path]) -> None:
    plain, packed = pair(tiny_model_folder("bert"), "sequence")
    engine, inputs = Engine(packed), batch()
    wanted, found = (model(**inputs, output_hidden_states=True) for model in (plain, packed))
    assert torch.equal(wanted.logits, found.logits)
    assert all(torch.equal(a, b) for a, b in zip(wanted.hidden_states, found.hidden_states, strict=True))
    assert engine.report()["packing"]["real_tokens"] == 0
    assert close(packed(**inputs, return_dict=False)[0], wanted.logits)


def unusual(name: str, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The batch with something about it that is rare."""
    mask = inputs["attention_mask"].clone()
    if name == "left padding":
        return {key: value.flip(1) for key, value in inputs.items()}
    if name == "a hole in the mask":
        mask[2, 7] = 0
    if name == "a text without tokens":
        mask[1] = 0
    if name == "no mask":
        return {"input_ids": inputs["input_ids"]}
    if name == "one token":
        return {key: value[:1, :1] for key, value in inputs.items()}
    return inputs | {"attention_mask": mask}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "name", ["left padding", "a hole in the mask", "a text without tokens", "no mask", "one token"]
)
@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "llama"])
def test_unusual_batches_get_the_models_own_answer(
    tiny_model_folder: Callable[[str], Path], family: str, name: str, attention: str
) -> None:
    plain, packed = pair(tiny_model_folder(family), "token")
    for model in (plain, packed):
        model.set_attn_implementation(attention)
    engine, inputs = Engine(packed), unusual(name, batch())
    wanted, found = plain(**inputs).logits, packed(**inputs).logits
    real = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()
    assert close(found[real], wanted[real])
    engine.detach()
    assert packed.config._attn_implementation == attention


def test_layers_that_run_again_in_the_backward_pass_are_not_packed(tiny_model_folder: Callable[[str], Path]) -> None:
    plain, checkpointed = pair(tiny_model_folder("bert"), "sequence")
    engine, inputs = Engine(checkpointed), batch()
    checkpointed.activation_checkpointing_enable()
    for model in (plain, checkpointed):
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.config.attention_probs_dropout_prob = 0.0
        model(**inputs).logits.sum().backward()
    assert engine.packing.real_tokens == 0
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None) and (one.grad is None or close(other.grad, one.grad))
    checkpointed.activation_checkpointing_disable()
    checkpointed(**inputs)
    assert engine.packing.real_tokens == sum(LENGTHS)


def test_vectors_in_place_of_tokens_get_the_models_own_answer(tiny_model_folder: Callable[[str], Path]) -> None:
    plain, packed = pair(tiny_model_folder("bert"), "sequence")
    Engine(packed)
    inputs = batch()
    vectors = plain.get_input_embeddings()(inputs["input_ids"])
    wanted, found = (m(inputs_embeds=vectors, attention_mask=inputs["attention_mask"]).logits for m in (plain, packed))
    assert close(found, wanted)


def test_a_model_saved_with_the_engine_on_is_the_plain_model(
    tiny_model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    plain, packed = pair(tiny_model_folder("bert"), "sequence")
    Engine(packed, token_ids=batch()["input_ids"].numpy())
    plain.save_pretrained(tmp_path / "plain")
    packed.save_pretrained(tmp_path / "packed")
    names = sorted(path.name for path in (tmp_path / "plain").iterdir())
    assert sorted(path.name for path in (tmp_path / "packed").iterdir()) == names
    for name in names:
        assert (tmp_path / "packed" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes(), name
