"""Every part of the engine answers the same questions, and leaves the model as it was."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from tunesmith.engine import Engine
from tunesmith.engine.cache import Budget
from tunesmith.engine.part import Part
from tunesmith.engine.vectors import Vectors

QUESTIONS = {"why_not", "attach", "detach", "save", "load", "figures"}


def test_a_part_that_forgets_an_answer_cannot_be_made() -> None:
    assert Part.__abstractmethods__ == QUESTIONS
    for forgotten in QUESTIONS:
        answers = {name: lambda self: None for name in QUESTIONS - {forgotten}}
        with pytest.raises(TypeError, match=forgotten):
            type("Incomplete", (Part,), answers)()


@pytest.mark.parametrize("family", ["bert", "mpnet", "albert"])
def test_parts_change_nothing_until_they_are_attached_and_nothing_afterwards(
    tiny_model_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path))
    model: Any = AutoModelForSequenceClassification.from_pretrained(tiny_model_folder(family))

    def state() -> list[Any]:
        own = [(set(vars(m)), len(m._forward_hooks), type(m)) for m in model.modules()]
        return [own, model.config._attn_implementation, {name: p.clone() for name, p in model.named_parameters()}]

    def unchanged() -> bool:
        now = state()
        return now[:2] == before[:2] and all(torch.equal(now[2][name], value) for name, value in before[2].items())

    before = state()
    engine = Engine(model, token_ids=np.arange(8), prefix_bytes=10**7)
    model(input_ids=torch.arange(1, 7).view(2, 3))
    assert all((part["state"] == "on") == ("reason" not in part) for part in engine.report().values())
    for _ in range(2):
        engine.detach()
        assert unchanged()


def test_vectors_take_the_place_of_states(
    tiny_model_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path))
    model: Any = AutoModelForSequenceClassification.from_pretrained(tiny_model_folder("bert")).eval()
    batch = {"input_ids": torch.tensor([[5, 6, 7], [8, 9, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}
    vectors = torch.randn(2, model.classifier.in_features)
    for swapped, found in ((False, 0), (False, 2), (True, 0)):
        if swapped:
            model.bert.pooler.activation = torch.nn.ReLU()
        engine = Engine(model)
        part = Vectors(model, model.classifier, "float32", Budget(10**7))
        engine.add(part)
        known = part.get(batch)
        assert (known is not None) == (found > 0) and (known is None or torch.equal(known, vectors))
        if known is None:
            part.put(batch, vectors)
        size = 2 * model.classifier.in_features * 4
        rows = {"rows_read": found, "rows_computed": 2 - found}
        assert engine.report()["prefix"] == {"state": "on", **rows, "bytes": size}
        engine.detach()
    assert Vectors(model, model.classifier, "float32", Budget(0)).report()["state"] == "off"


COPIES = {"copy": copy.deepcopy, "pickle": lambda model: pickle.loads(pickle.dumps(model))}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_of_a_model_is_a_plain_model(
    copied: Callable[[Any], Any], tiny_model_folder: Callable[[str], Path]
) -> None:
    """As callbacks make them that average weights, while every part of the engine is attached and has worked."""
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model_folder("bert"), num_labels=2)
    model.bert.encoder.layer[0].requires_grad_(False)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    inputs = {"input_ids": torch.tensor([[2, 9, 8, 3], [2, 7, 3, 0]]), "attention_mask": mask}
    wanted = model.eval()(**inputs).logits
    engine = Engine(model, token_ids=inputs["input_ids"].numpy(), prefix_bytes=2**30)
    model.train()(**inputs).logits.sum().backward()
    other = copied(model).eval()
    engine.detach()
    torch.testing.assert_close(other(**inputs).logits, wanted, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        other.classifier.bias.add_(1)
    torch.testing.assert_close(model.eval()(**inputs).logits, wanted, rtol=1e-5, atol=1e-6)


def test_a_model_shows_its_own_signature(tiny_model_folder: Callable[[str], Path]) -> None:
    """A Trainer keeps the columns of a data set that ``forward`` names."""
    model = AutoModel.from_pretrained(tiny_model_folder("bert"))
    own = inspect.signature(model.forward)
    engine = Engine(model)
    assert inspect.signature(model.forward) == own
    engine.detach()
