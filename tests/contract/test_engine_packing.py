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
    assert (engine.packing is not None) == (family in PACKED), engine.reason
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
