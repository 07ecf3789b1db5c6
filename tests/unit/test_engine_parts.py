"""Every part of the engine answers the same questions, and leaves the model as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

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
