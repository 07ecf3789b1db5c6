"""What needs a package that is not installed says so in one line; what is light works without it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tunesmith
from tunesmith import extras
from tunesmith.errors import UsageError
from tunesmith.extras import EXTRAS, advice, require

ROOT = Path(__file__).parents[2]
MODULES = {"scikit_learn": "sklearn"}
BLOCKED = [module for modules in EXTRAS.values() for module in modules]


def program(*arguments: str, blocked: list[str] = BLOCKED) -> subprocess.CompletedProcess[str]:
    """The command line in a process in which some packages cannot be imported."""
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
sys.argv = ["tunesmith", *{list(arguments)!r}]
from tunesmith.__main__ import main
main()
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, input="")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "tickets.csv"
    rows = [f"text number {number} of {kind},{kind}" for number in range(20) for kind in ("cards", "loans")]
    file.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return file


def test_the_modules_are_those_of_the_packages_in_pyproject() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for name, modules in EXTRAS.items():
        packages = {re.split(r"[\[<>=]", line)[0].replace("-", "_") for line in extras[name]} - {"tunesmith"}
        assert {MODULES.get(package, package) for package in packages} == set(modules) - {"starlette"}  # of fastapi


@pytest.mark.parametrize("arguments", [["check", "{data}"], ["--help"], ["train", "--help"], ["init"], ["models"]])
def test_the_base_is_enough(arguments: list[str], data: Path) -> None:
    done = program(*(word.format(data=data) for word in arguments))
    assert done.returncode == 0 and done.stdout and not done.stderr, done.stderr


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [(["train", "{data}"], "train"), (["adapt", "{data}", "--model", "x"], "train"), (["demo"], "train")],
)
def test_what_needs_more_says_what_to_install(arguments: list[str], extra: str, data: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "run")]
    done = program(*(word.format(data=data) for word in arguments), *out)
    assert done.returncode == 2 and not done.stdout
    said = done.stderr.splitlines()[-1]
    assert re.fullmatch(rf'tunesmith: this needs \w+, .*; run `pip install "tunesmith\[{extra}\]"`', said)
    assert not any(tmp_path.iterdir())


def test_a_tracker_that_may_reach_the_network_is_refused_where_nothing_may(data: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    with pytest.raises(UsageError, match=r"tracker='wandb' may reach the network, which local=True refuses; leave"):
        tunesmith.train(str(data), local=True, tracker="wandb", out=out)


def test_the_package_itself_says_it_too(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    with pytest.raises(UsageError, match=r"tunesmith\[train\]"):
        tunesmith.train(str(data))


def test_a_module_of_ours_that_is_missing_is_a_bug() -> None:
    assert advice(ModuleNotFoundError("No module named 'tunesmith.gone'", name="tunesmith.gone")) is None
    assert advice(ModuleNotFoundError("no name")) is None
    require("train")
