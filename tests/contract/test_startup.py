"""A process that only answers leaves out much of what it could import, and answers the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers

from tests.tiny import FAMILIES, LABELS
from tunesmith.data.layout import Layout
from tunesmith.data.shapes import SHAPES
from tunesmith.models.heads import quiet_library
from tunesmith.predictor import Predictor
from tunesmith.registry import lookup
from tunesmith.tasks import TASKS
from tunesmith.tasks.base import LabelSpace
from tunesmith.tasks.encoding import Truncation
from tunesmith.training.backend import TorchModel

TEXTS = ["good film", "bad card lost in the bank , late and old", "cat"]
CODE = """
import json, sys
import tunesmith
from tunesmith import startup
startup.only_answers()
for folder in sys.argv[2:]:
    print(json.dumps([one.to_dict() for one in tunesmith.load(folder).predict(json.loads(sys.argv[1]))]))
"""


def test_it_answers_as_others_do(tiny_model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    problems = [("classification", "SequenceClassification", family) for family in FAMILIES]
    problems += [("ner", "TokenClassification", family) for family in ("bert", "roberta", "modernbert")]
    forms: dict[str, Any] = {"classification": "plain", "ner": "spans"}
    layout = {name: Layout(SHAPES[name], "text", None, ("label",), form) for name, form in forms.items()}
    folders = []
    for name, head, family in problems:
        task: Any = lookup(TASKS, "tasks", name)()
        names = LABELS if name == "classification" else ("O", "B-one", "I-one")
        build, base = getattr(transformers, f"AutoModelFor{head}"), tiny_model_folder(family)
        with quiet_library():
            model = build.from_pretrained(base, id2label=dict(enumerate(names)), problem_type=task.problem_type)
        backend = TorchModel(model.eval(), transformers.AutoTokenizer.from_pretrained(base))
        folders.append(tmp_path / f"{name}-{family}")
        Predictor(backend, task, LabelSpace(names), Truncation(32), layout[name]).save(folders[-1])
    command = [sys.executable, "-c", CODE, json.dumps(TEXTS), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = dict(zip(problems, map(json.loads, done.stdout.splitlines()), strict=True))
    for problem, folder in zip(problems, folders, strict=True):
        wanted = [one.to_dict() for one in Predictor.load(folder).predict(TEXTS)]
        assert found[problem] == json.loads(json.dumps(wanted)), problem
