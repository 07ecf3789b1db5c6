"""What a command may import before it says its first word: what takes seconds comes when it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers

from tests.tiny import LABELS
from tunesmith.data.layout import Layout
from tunesmith.data.shapes import SHAPES
from tunesmith.models.heads import quiet_library
from tunesmith.predictor import Predictor
from tunesmith.tasks.base import LabelSpace
from tunesmith.tasks.classification import Classification
from tunesmith.tasks.encoding import Truncation
from tunesmith.training.backend import TorchModel

NEVER = {"accelerate", "datasets", "pandas", "peft", "scipy", "sklearn", "sympy"}
TORCH = {"torch", "transformers", "huggingface_hub", "safetensors"}
TRAINING = {"transformers.trainer", "torch._dynamo.convert_frame", "torch._inductor", "torch.distributed.tensor"}
COMMAND = """
import atexit, json, sys
file = sys.argv.pop(1)
atexit.register(lambda: open(file, "w").write(json.dumps(sorted(sys.modules))))
from tunesmith.__main__ import main
main()
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[..., tuple[int, set[str], str]]:
    """A command → its exit code, the modules it imported, and its output."""

    def run(*arguments: object) -> tuple[int, set[str], str]:
        file = tmp_path / "modules.json"
        command = [sys.executable, "-c", COMMAND, str(file), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        return done.returncode, set(json.loads(file.read_text())), done.stdout + done.stderr

    return run


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n" + "".join(f"good film {row},{LABELS[row % 3]}\n" for row in range(30)))
    return file


def test_help_reads_nothing(loaded: Callable[..., tuple[int, set[str], str]]) -> None:
    for arguments in (["--help"], ["train", "--help"], ["predict", "--nothing"]):
        _, modules, said = loaded(*arguments)
        assert not modules & (NEVER | TORCH | {"numpy", "pyarrow"}), said


def test_what_is_wrong_with_a_file_is_said_without_torch(
    loaded: Callable[..., tuple[int, set[str], str]], rows: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.csv"
    broken.write_text('text,label\n"never closed,alpha\n')
    for arguments, wanted in (
        (["check", rows], 0),
        (["train", rows, "--label", "topic"], 3),
        (["train", broken], 3),
        (["train", tmp_path / "none.csv"], 3),
        (["runs", tmp_path], 0),
    ):
        code, modules, said = loaded(*arguments)
        assert code == wanted and not modules & (NEVER | TORCH), said


def test_predicting_imports_nothing_of_training(
    loaded: Callable[..., tuple[int, set[str], str]],
    rows: Path,
    tmp_path: Path,
    tiny_model_folder: Callable[[str], Path],
) -> None:
    base, layout = tiny_model_folder("bert"), Layout(SHAPES["classification"], "text", None, ("label",), "plain")
    names = dict(enumerate(LABELS))
    with quiet_library():
        model = transformers.BertForSequenceClassification.from_pretrained(
            base, id2label=names, problem_type="single_label_classification"
        )
    backend = TorchModel(model.eval(), transformers.AutoTokenizer.from_pretrained(base))
    folder = tmp_path / "model"
    Predictor(backend, Classification(), LabelSpace(LABELS), Truncation(32), layout).save(folder)
    code, modules, said = loaded("predict", folder, rows)
    assert code == 0 and said.count('"label"') == 30, said
    assert not modules & (NEVER | TRAINING) and "torch" in modules
    code, modules, said = loaded("predict", tmp_path / "nowhere", rows)
    assert code == 4 and not modules & (NEVER | TORCH), said
