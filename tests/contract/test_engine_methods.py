"""Training with the engine is training without it: families x heads x methods, loss, gradients and trained weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from tunesmith.engine import Engine, core
from tunesmith.models.depth import parameter_order
from tunesmith.training.precision import choose_device

HEADS: dict[str, Any] = {
    "sequence": AutoModelForSequenceClassification,
    "token": AutoModelForTokenClassification,
    "question": AutoModelForQuestionAnswering,
}
METHODS = ("full", "freeze", "lora")
PACKED = (
    "bert", "roberta", "xlm-roberta", "camembert", "albert", "distilbert", "electra", "modernbert", "llama", "qwen2",
)  # fmt: skip
UNPACKED = ("mpnet", "deberta-v2", "deberta-v3")
LENGTHS = (19, 3, 40, 1, 3, 8)  # 40: longer than the window of local attention
STEPS = 4
"""On a GPU the first is watched, the second is of a size that comes twice, the others are launched at once."""

Folder = Callable[[str], Path]


@pytest.fixture(autouse=True)
def filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches whose size is filled up, as they are in lower precision."""
    monkeypatch.setattr(core, "repeats_shapes", lambda device: True)


def make_batch(head: str) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    lengths = torch.tensor(LENGTHS)
    mask = torch.arange(max(LENGTHS)) < lengths[:, None]
    ids = torch.randint(5, 60, mask.shape, generator=draw).masked_fill(~mask, 0)
    batch = {"input_ids": ids, "attention_mask": mask.long()}
    if head == "question":
        batch |= {"start_positions": lengths // 2, "end_positions": lengths - 1}
    elif head == "token":
        batch["labels"] = torch.randint(0, 2, mask.shape, generator=draw).masked_fill(~mask, -100)
    else:
        batch["labels"] = torch.arange(len(LENGTHS)) % 2
    return {name: values.to(choose_device()) for name, values in batch.items()}


def make_model(folder: Path, head: str, method: str) -> Any:
    config = AutoConfig.from_pretrained(folder, num_labels=2)
    for name, value in config.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(config, name, 0.0)
    config.classifier_dropout = 0.0  # decoders have a token head with dropout that their configuration does not name
    torch.manual_seed(0)
    model = HEADS[head].from_pretrained(folder, config=config).train().to(choose_device())
    if method == "lora":
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
        with torch.no_grad():  # not zero, as stock adapters begin, and not so large that rounding errors grow
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:
                    parameter.mul_(0.1)
        return adapted
    if method == "freeze":
        blocks = parameter_order(model)
        frozen = blocks.embeddings | blocks.layers[0]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in frozen)
    return model


def loss_of(outputs: Any, batch: dict[str, torch.Tensor]) -> Any:
    """The model's own loss; for question answering over real tokens, since its own counts what padding says, too."""
    if "start_logits" not in outputs:
        return outputs.loss
    padding = batch["attention_mask"] == 0
    entropy = nn.functional.cross_entropy
    start, end = (outputs[key].masked_fill(padding, -torch.inf) for key in ("start_logits", "end_logits"))
    return (entropy(start, batch["start_positions"]) + entropy(end, batch["end_positions"])) / 2


def train(
    model: nn.Module, batch: dict[str, torch.Tensor], engine: Engine | None
) -> tuple[list[float], dict[str, Any]]:
    """Losses of some steps on one batch, and the gradients of the first."""
    # Adam divides a gradient by its own size: with the usual tiny epsilon one that is nothing but rounding (that of the
    # bias of a question answering head is zero in theory) would move its weight by a whole step, in any direction.
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, eps=0.1, weight_decay=0.01)
    if engine is not None:
        engine.follow(optimizer)
    losses, gradients = [], {}
    for _ in range(STEPS):
        loss = loss_of(model(**batch), batch)
        loss.backward()
        gradients = gradients or {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, gradients


def assert_close(found: torch.Tensor, wanted: torch.Tensor, name: str) -> None:
    """At most 1e-5 of the largest magnitude in the tensor; tensors that are all but zero are compared to 1e-2."""
    difference = float((found - wanted).detach().abs().max())
    assert difference <= 1e-5 * max(float(wanted.detach().abs().max()), 1e-2), f"{name}: {difference}"


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # in peft
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", [*PACKED, *UNPACKED])
def test_steps_give_the_same_loss_gradients_and_weights(
    tiny_model_folder: Folder, family: str, head: str, method: str
) -> None:
    batch = make_batch(head)
    plain, model = (make_model(tiny_model_folder(family), head, method) for _ in range(2))
    engine = Engine(model, token_ids=np.unique(batch["input_ids"].cpu().numpy()), prefix_bytes=10**8)
    assert engine.packed == (family in PACKED), engine.packing.why_not()
    wanted_losses, wanted = train(plain, batch, None)
    losses, gradients = train(model, batch, engine)
    report = engine.report()
    engine.detach()

    assert losses == pytest.approx(wanted_losses, rel=1e-5)
    assert set(gradients) == set(wanted)
    for name, gradient in gradients.items():
        if gradient.shape == wanted[name].shape:
            assert_close(gradient, wanted[name], f"gradient of {name}")
        else:  # the compact table: what its rows are is not said, but weights are compared below
            assert report["vocabulary"]["state"] == "on" and "embed" in name
    state = model.state_dict()
    assert set(state) == set(plain.state_dict())
    for name, value in plain.state_dict().items():
        assert_close(state[name], value, name)
    if method == "freeze" and family != "albert":  # whose layers are one
        assert report["prefix"]["rows_read"] == (STEPS - 1) * len(LENGTHS), report["prefix"]
    plain.eval(), model.eval()
    engine = Engine(model)
    with torch.no_grad():
        found, expected = model(**batch), plain(**batch)
    real = batch["attention_mask"].bool()
    for key in ("logits", "start_logits", "end_logits"):
        if key in expected:
            per_token = expected[key].shape[:2] == real.shape
            a, b = (outputs[key][real] if per_token else outputs[key] for outputs in (found, expected))
            assert_close(a, b, key)
