"""The options of the Python functions have types: those of the settings, and a type checker knows them."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest
from mypy import api as mypy

import tunesmith
from tunesmith.config.loading import fields, flags
from tunesmith.config.options import AdaptOptions, ReadOptions, TrainOptions, UseOptions
from tunesmith.config.schema import AdaptConfig, Config, Section

NOT_TYPED_THERE = {"valid", "test"}
"""Sources of examples, which may also be in memory: parameters of their own."""
SELECTING = NOT_TYPED_THERE | {"group"}
FOLDERS = {"model", "out"}


def plain(annotation: Any) -> set[Any]:
    """The members of a union, without None and without the limits of a field."""
    if get_origin(annotation) is Annotated:
        return plain(get_args(annotation)[0])
    if get_origin(annotation) is Union or type(annotation).__name__ == "UnionType":
        return {part for member in get_args(annotation) for part in plain(member)} - {type(None)}
    return {annotation}


@pytest.mark.parametrize(("options", "tree"), [(TrainOptions, Config), (AdaptOptions, AdaptConfig)])
def test_options_are_the_settings_that_have_a_flag(options: type, tree: type[Section]) -> None:
    hints, settings = get_type_hints(options), dict(fields(tree))
    assert hints.keys() == flags(tree).keys() - NOT_TYPED_THERE
    for name, hint in hints.items():
        assert plain(hint) - ({Path} if name in FOLDERS else set()) == plain(settings[flags(tree)[name]].annotation), (
            name
        )


def test_options_of_reading_are_those_that_do_not_choose_rows() -> None:
    reading = {name for name, key in flags().items() if key.startswith("data.")} - SELECTING
    assert get_type_hints(ReadOptions).keys() == reading
    assert get_type_hints(UseOptions).keys() == reading | {"allow"}


PROGRAM = """
from pathlib import Path
import pandas
import tunesmith

found_in = tunesmith.check(pandas.DataFrame({"text": []}))
run = tunesmith.train("a.csv", method="lora", lr=1e-4, out=Path("runs/a"), valid=[{"text": "a", "label": "b"}])
reveal_type(run)
reveal_type(run.metrics["test"]["accuracy"].value)
predictor: tunesmith.Predictor = tunesmith.load(run)
predictor.predict(["a"]), predictor.predict([("a", "b")])
answers: list[tunesmith.Prediction] = predictor.predict({"text": ["a", "b"]})
scores: tunesmith.Evaluation = tunesmith.evaluate(run, [{"text": "a", "label": "b"}], label="b")
try:
    found: list[tunesmith.Finding] = tunesmith.check({"text": ["a"], "label": ["b"]}, text="text")
except tunesmith.DataError as error:
    error.problems
"""
WRONG = {
    'tunesmith.train("a.csv", lrr=1e-4)': 'Unexpected keyword argument "lrr"',
    'tunesmith.train("a.csv", lr="high")': 'Argument "lr" to "train" has incompatible type "str"',
    'tunesmith.train("a.csv", schedule="bent")': 'Argument "schedule" to "train" has incompatible type',
    "tunesmith.train(3)": 'Argument 1 to "train" has incompatible type "int"',
    'tunesmith.adapt("a.txt", method="lora")': 'Unexpected keyword argument "method"',
    'tunesmith.evaluate("run", "a.csv", lr=1.0)': 'Unexpected keyword argument "lr"',
}


def test_a_type_checker_knows_every_option_and_what_comes_back(tmp_path: Path) -> None:
    program, settings = tmp_path / "program.py", tmp_path / "mypy.ini"
    wrong = "\n".join(WRONG)
    program.write_text(f"{PROGRAM}\n{wrong}\n", encoding="utf-8")
    skipped = "".join(
        f"[mypy-{name}.*]\nfollow_imports = skip\n" for name in ("torch", "transformers", "numpy", "rich")
    )
    settings.write_text(f"[mypy]\nstrict = True\nignore_missing_imports = True\nfollow_imports = silent\n{skipped}")
    out, errors, code = mypy.run(["--config-file", str(settings), "--cache-dir", str(tmp_path / "cache"), str(program)])
    assert code == 1 and not errors, out + errors
    lines = [line.split(": ", 1)[1] for line in out.splitlines()[:-1]]
    assert [line for line in lines if line.startswith("note: Revealed")] == [
        'note: Revealed type is "tunesmith.run.record.Run"',
        'note: Revealed type is "float"',
    ]
    found = [line for line in lines if line.startswith("error")]
    assert len(found) == len(WRONG), out
    for message, line in zip(WRONG.values(), found, strict=True):
        assert message in line


def test_every_function_shows_its_options() -> None:
    for name in ("train", "check", "adapt", "evaluate", "predict", "find_models"):
        assert "Unpack[" in str(inspect.signature(getattr(tunesmith, name))), name


def test_what_is_exported_is_there_and_typed() -> None:
    tree = ast.parse(Path(str(tunesmith.__file__)).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    others = {"annotations", "import_module", "TYPE_CHECKING", "Any", "extras", "startup"}
    assert set(tunesmith.__all__) == imported - others
    assert [getattr(tunesmith, name).__name__ for name in tunesmith.__all__] == tunesmith.__all__ == dir(tunesmith)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        tunesmith.trian  # noqa: B018
