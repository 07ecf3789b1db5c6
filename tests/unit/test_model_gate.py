"""Model folders that try to run code: none may, whatever anyone answers."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import dynamic_module_utils

from tunesmith.config.schema import ModelSettings
from tunesmith.data.layout import Layout
from tunesmith.data.shapes import SHAPES
from tunesmith.errors import ModelError
from tunesmith.models import gate
from tunesmith.models.loading import load_classifier, load_config, load_tokenizer
from tunesmith.models.sealed import seal
from tunesmith.models.source import find_source
from tunesmith.predictor import Predictor

CODE = "from pathlib import Path\nPath({mark!r}).write_text('ran')\nclass Owned:\n    pass\n"


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def rag_folder(folder: Path, mark: Path) -> None:
    """Inner tokenizers whose configuration names code in the folder, as the library's RagTokenizer looks for them."""
    (folder / "owned.py").write_text(CODE.format(mark=str(mark)))
    part = {"model_type": "bert", "auto_map": {"AutoConfig": "owned.Owned", "AutoTokenizer": ["owned.Owned", None]}}
    for inner in ("question_encoder_tokenizer", "generator_tokenizer"):
        (folder / inner).mkdir()
        (folder / inner / "owned.py").write_text(CODE.format(mark=str(mark)))
        (folder / inner / "config.json").write_text(json.dumps(part))
        tokenizer = {"tokenizer_class": "Owned", "auto_map": {"AutoTokenizer": ["owned.Owned", None]}}
        (folder / inner / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    edit(folder / "config.json", question_encoder=part, generator=part)


HOSTILE: dict[str, Callable[[Path], None]] = {
    "rag tokenizer": lambda folder: edit(folder / "tokenizer_config.json", tokenizer_class="RagTokenizer"),
    "rag tokenizer of the model": lambda folder: edit(folder / "config.json", tokenizer_class="RagTokenizer"),
    "rag model": lambda folder: edit(folder / "config.json", model_type="rag"),
    "two models in one": lambda folder: edit(folder / "config.json", model_type="encoder-decoder"),
    "rag inside": lambda folder: edit(folder / "config.json", text_config={"deeper": [{"model_type": "rag"}]}),
    "code for the configuration": lambda folder: edit(
        folder / "config.json", model_type="owned", auto_map={"AutoConfig": "owned.Owned"}
    ),
    "code for the tokenizer": lambda folder: edit(
        folder / "tokenizer_config.json", tokenizer_class="Owned", auto_map={"AutoTokenizer": ["owned.Owned", None]}
    ),
    "no type, a folder called rag": lambda folder: edit(folder / "config.json", model_type=None),
    "a type that is a list": lambda folder: edit(folder / "config.json", model_type=["bert"]),
}


@pytest.fixture
def yes(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Somebody who answers every question with yes."""
    answers = io.StringIO("yes\n" * 100)
    monkeypatch.setattr(sys, "stdin", answers)
    monkeypatch.setattr(dynamic_module_utils, "TIME_OUT_REMOTE_CODE", 15)
    return answers


@pytest.mark.parametrize("name", HOSTILE)
def test_a_folder_that_names_other_classes_runs_nothing(
    name: str, tmp_path: Path, tiny_model_folder: Callable[[str], Path], yes: io.StringIO
) -> None:
    folder, mark = tmp_path / "rag", tmp_path / "mark"
    shutil.copytree(tiny_model_folder("bert"), folder)
    rag_folder(folder, mark)
    HOSTILE[name](folder)
    source = find_source(ModelSettings(name=str(folder)))
    for load in (load_config, load_tokenizer):
        with pytest.raises(ModelError, match="not one that is loaded here"):
            load(source)
    assert not mark.exists() and yes.tell() == 0


def test_a_run_from_a_stranger_runs_nothing(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], yes: io.StringIO
) -> None:
    run, mark = tmp_path / "run", tmp_path / "mark"
    shutil.copytree(tiny_model_folder("bert"), run / "model")
    layout = Layout(SHAPES["classification"], "text", labels=("label",)).to_dict()
    facts = {"task": "classification", "labels": {"names": ["a", "b"]}, "max_length": 16, "layout": layout}
    (run / "model" / "tunesmith.json").write_text(json.dumps(facts))
    rag_folder(run / "model", mark)
    edit(run / "model" / "tokenizer_config.json", tokenizer_class="RagTokenizer")
    seal(run / "model")
    with pytest.raises(ModelError, match="RagTokenizer"):
        Predictor.load(run)
    assert not mark.exists() and yes.tell() == 0


def test_within_the_walls_the_library_itself_imports_no_module_of_a_folder(tmp_path: Path, yes: io.StringIO) -> None:
    (tmp_path / "owned.py").write_text(CODE.format(mark=str(tmp_path / "mark")))
    before = dynamic_module_utils.get_class_in_module
    with gate.walled():
        with pytest.raises(ModelError, match="never done"):
            dynamic_module_utils.get_class_from_dynamic_module("owned.Owned", str(tmp_path))
        with pytest.raises(ValueError):
            dynamic_module_utils.resolve_trust_remote_code(None, str(tmp_path), False, True)
        with pytest.raises(EOFError):
            input("Do you wish to run the custom code?")
    assert sys.stdin is yes and yes.tell() == 0 and not (tmp_path / "mark").exists()
    assert dynamic_module_utils.get_class_in_module is before


def test_code_beside_a_known_model_is_refused_or_left_alone(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], yes: io.StringIO
) -> None:
    folder, mark = tmp_path / "honest", tmp_path / "mark"
    shutil.copytree(tiny_model_folder("bert"), folder)
    (folder / "owned.py").write_text(CODE.format(mark=str(mark)))
    edit(folder / "config.json", auto_map={"AutoConfig": "owned.Owned", "AutoModel": "owned.Owned"})
    with pytest.raises(
        ModelError, match=r"config.json: auto_map names code, which is never run; .*model.allow=auto_map"
    ):
        load_config(find_source(ModelSettings(name=str(folder))))
    source = find_source(ModelSettings(name=str(folder), allow="auto_map"))
    model = load_classifier(source, load_tokenizer(source), ("a", "b"), "single_label_classification", "head", 1)
    assert type(model).__name__ == "BertForSequenceClassification" and not mark.exists() and yes.tell() == 0
    model.save_pretrained(tmp_path / "saved")  # whose configuration names no code
    load_config(find_source(ModelSettings(name=str(tmp_path / "saved"))))


def test_every_family_of_the_tests_is_on_the_lists(
    families: tuple[str, ...], tiny_model_folder: Callable[[str], Path]
) -> None:
    for family in families:
        load_tokenizer(find_source(ModelSettings(name=str(tiny_model_folder(family)))))
    assert {"bert", "nomic_bert", "t5", "gemma3_text", "xlm-roberta"} <= gate.model_types()
    assert not {"rag", "dpt", "vit"} & gate.model_types() and "RagTokenizer" not in gate.tokenizer_classes()


def test_an_infinite_limit_is_let_through_and_an_infinite_size_is_not(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path]
) -> None:
    """Published Mamba-2 models have ``"time_step_limit": [0.0, Infinity]``."""
    folder = tmp_path / "honest"
    shutil.copytree(tiny_model_folder("bert"), folder)
    edit(folder / "config.json", time_step_limit=[-float("inf"), float("inf")])
    config = load_config(find_source(ModelSettings(name=str(folder))))
    assert config.time_step_limit == [-float("inf"), float("inf")]
    for value, problem in {
        "Infinity": "hidden_size is infinite, expected an integer up to 524,288",
        "1e400": "hidden_size is infinite",
        "NaN": "NaN is not JSON",
    }.items():
        (folder / "config.json").write_text(f'{{"model_type": "bert", "hidden_size": {value}}}')
        with pytest.raises(ModelError, match=rf"config\.json: .*{problem}"):
            load_config(find_source(ModelSettings(name=str(folder))))
    edit(folder / "config.json", hidden_size=8)
    edit(folder / "tokenizer_config.json", model_max_length=float("inf"))
    with pytest.raises(ModelError, match=r"tokenizer_config\.json: Infinity is not JSON"):
        load_config(find_source(ModelSettings(name=str(folder))))
