"""Architectures that need more than tokens, or other care than most, work or are refused before a run begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForSequenceClassification

from tunesmith.data.layout import Layout
from tunesmith.data.shapes import SHAPES
from tunesmith.engine import Engine
from tunesmith.errors import ModelError
from tunesmith.models.heads import PooledClassifier
from tunesmith.predictor import Predictor
from tunesmith.tasks.encoding import Truncation
from tunesmith.training import weights
from tunesmith.training.backend import TorchModel
from tunesmith.training.precision import ASKED, Precision

FILE = "model.safetensors"
FASTER = Precision("bfloat16", "measured")
FLOAT32 = Precision("float32", "measured")


def test_a_model_that_overflows_in_half_precision_runs_in_float32(make_problem: Any) -> None:
    begun = make_problem(family="deberta", rows=8).begun
    before = torch.get_rng_state()
    settled = begun.settle(FASTER)
    assert settled.state == begun.settings.precision == "float32"
    assert "does not run in bfloat16 (RuntimeError: value cannot be converted" in settled.reason
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ModelError, match=r"does not run in bfloat16 .*; use precision float32"):
        begun.settle(Precision("bfloat16", ASKED))
    assert make_problem(rows=8).begun.settle(FASTER) == FASTER


def test_a_saved_model_is_tried_in_the_precision_it_shall_answer_in(make_problem: Any, tmp_path: Path) -> None:
    begun = make_problem(family="deberta", rows=8).begun
    layout = Layout(SHAPES["classification"], "text", None, ("label",), "plain")
    predictor = Predictor(TorchModel(begun.model, begun.tokenizer), begun.task, begun.space, begun.truncation, layout)
    predictor.save(tmp_path / "saved")
    with pytest.raises(ModelError, match="does not run in bfloat16"):
        Predictor.load(tmp_path / "saved", "bfloat16")


@pytest.mark.parametrize(
    ("family", "kind", "reason"),
    [
        ("xmod", "classification", "Input language unknown"),
        ("bros", "ner", "You have to specify bbox"),
        ("reformer", "classification", "If training"),
    ],
)
def test_what_needs_more_than_texts_is_refused_before_a_run(
    make_problem: Any, family: str, kind: str, reason: str
) -> None:
    begun = make_problem(kind, family=family, rows=8).begun
    with pytest.raises(ModelError, match=rf"model .*{family}\S*: a trial on two texts failed \(ValueError: {reason}"):
        begun.settle(FLOAT32)


def test_rows_that_packing_would_lose_are_not_packed(tiny_model_folder: Callable[[str], Path]) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model_folder("nomic_bert")).eval()
    inputs = {"input_ids": torch.arange(5, 13).view(2, 4), "attention_mask": torch.ones(2, 4, dtype=torch.long)}
    wanted = model(**inputs).logits
    engine = Engine(model)
    assert engine.report()["packing"] == {"state": "off", "reason": "its pooler_output of packed batches is another"}
    assert torch.equal(model(**inputs).logits, wanted)


def test_characters_in_place_of_words(make_problem: Any) -> None:
    problem = make_problem(family="canine", rows=8, epochs=1, method="full")
    assert problem.begun.settle(FLOAT32) == FLOAT32
    assert np.isfinite(problem.logits(problem.fit().model)).all()


def test_of_an_encoder_and_a_decoder_the_encoder_is_trained_and_saved(make_problem: Any, tmp_path: Path) -> None:
    problem = make_problem(family="t5", rows=8, epochs=1, method="full")
    fitted = problem.fit()  # whose checkpoints hold the tied embeddings once
    assert isinstance(fitted.model, PooledClassifier)
    assert type(fitted.model.backbone).__name__ == "T5EncoderModel"
    layout = Layout(SHAPES["classification"], "text", None, ("label",), "plain")
    space = problem.begun.space
    Predictor(
        TorchModel(fitted.model, problem.begun.tokenizer), problem.begun.task, space, Truncation(32), layout
    ).save(tmp_path)
    assert np.array_equal(problem.logits(Predictor.load(tmp_path).model), problem.logits(fitted.model))
    questions = make_problem("qa", family="t5", rows=8, method="full")  # whose head has no backbone below it
    assert questions.by_method().settings.epochs
    assert questions.begun.settle(FLOAT32) == FLOAT32


def test_a_pooled_model_of_a_backbone_without_its_pooler_is_loaded(make_problem: Any, tmp_path: Path) -> None:
    problem = make_problem(family="camembert", rows=24, method="features")
    fitted = problem.fit()
    assert isinstance(fitted.model, PooledClassifier) and fitted.model.backbone.pooler is None
    layout = Layout(SHAPES["classification"], "text", None, ("label",), "plain")
    space = problem.begun.space
    Predictor(
        TorchModel(fitted.model, problem.begun.tokenizer), problem.begun.task, space, Truncation(32), layout
    ).save(tmp_path)
    loaded = Predictor.load(tmp_path)
    np.testing.assert_allclose(problem.logits(loaded.model), problem.logits(fitted.model), atol=1e-5)


def test_states_that_are_not_those_of_the_tokens_are_not_pooled(tiny_model_folder: Callable[[str], Path]) -> None:
    backbone = AutoModel.from_pretrained(tiny_model_folder("bert"))
    backbone.config.hidden_size = 8
    with pytest.raises(ModelError, match="its states cannot be pooled"):
        PooledClassifier(backbone, 2, "mean")(torch.ones(2, 3, dtype=torch.long))


def test_low_rank_targets_are_found_by_their_names(make_problem: Any) -> None:
    for family, targets in (("t5", ["SelfAttention.q", "SelfAttention.v"]), ("nomic_bert", ["q_proj", "v_proj"])):
        problem = make_problem(family=family, rows=8, method="lora")
        assert problem.method()._targets(problem.begun.model) == targets


def test_checkpoints_hold_the_names_that_they_are_loaded_by(
    tiny_model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = AutoModel.from_pretrained(tiny_model_folder("nomic_bert"))
    model.save_pretrained(tmp_path / "published")
    with weights.own_names(model):
        model.save_pretrained(tmp_path / "own")
    model.save_pretrained(tmp_path / "after")
    published, own, after = (set(load_file(tmp_path / n / FILE)) for n in ("published", "own", "after"))
    assert own == set(model.state_dict()) != published == after
    read = AutoModel.from_pretrained(tmp_path / "own")
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in read.state_dict().items())
    with pytest.raises(ModelError, match=r"weights of the model are not in its checkpoint, which has others"):
        weights.require_known(tmp_path, model.load_state_dict(load_file(tmp_path / "after" / FILE), False))
