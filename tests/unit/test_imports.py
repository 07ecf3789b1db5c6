"""The direction of the imports, read from the source: what is lower knows nothing of what is higher."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "tunesmith"

# From low to high; names in one row may import each other.
LAYERS = [
    {
        "errors",
        "extras",
        "registry",
        "text",
        "disk",
        "manifest",
        "network",
        "config",
        "signals",
        "spelling",
        "progress",
        "resources",
        "startup",
    },
    {"data"},
    {"evaluation"},
    {"tasks"},
    {"models"},
    {"artefact"},
    {"catalogue"},
    {"methods"},
    {"engine"},
    {"training"},
    {"augmentation"},
    {"scored", "predictor"},
    {"run"},
    {"report"},
    {"opening"},
    {"pipeline", "adapting", "evaluating", "predicting", "exporting", "publishing"},
    {"api", "using"},
    {"serve"},
    {"console"},
    {"demo"},
    {"commandline", "cli", "__init__", "__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
BASE = LAYERS[0]

# Parts that may import less than their place allows.
FORBIDDEN = {
    "evaluation": set(RANK) - {"errors", "text", "evaluation"},
    "tasks": {"methods"},
    "methods": {"tasks"},
    "engine": {"tasks", "methods", "training"},
    "report": set(RANK) - {"errors", "text", "data", "evaluation", "tasks", "run", "report"},
}
HEAVY = {"torch", "transformers"}
# Slow to import; the light predictor is installed without them.
ABSENT = {*HEAVY, "accelerate", "datasets", "huggingface_hub", "pandas", "peft", "safetensors", "scipy", "sklearn"}


class Import(NamedTuple):
    module: str
    line: int
    at_module_level: bool
    for_types_only: bool


def imports_of(file: Path) -> list[Import]:
    return list(_walk(ast.parse(file.read_text(encoding="utf-8")), file))


def _walk(node: ast.AST, file: Path, top: bool = True, types: bool = False) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, node.lineno, top, types) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        if node.level:
            package = ["tunesmith", *file.relative_to(SOURCE).parent.parts]
            base = [*package[: len(package) + 1 - node.level], *([node.module] if node.module else [])]
        else:
            base = [str(node.module)]
        for alias in node.names:  # `from tunesmith import api` imports tunesmith.api
            yield Import(".".join([*base, alias.name]), node.lineno, top, types)
    inside_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for child in ast.iter_child_nodes(node):
        guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and child in node.body
        yield from _walk(child, file, top and not inside_function, types or guarded)


def part(module: str) -> str:
    """`tunesmith.data.readers.csv` → `data`; a public name of the package itself → `__init__`."""
    names = module.split(".")
    return names[1] if len(names) > 1 and names[1] in RANK else "__init__"


def part_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


FILES = sorted(SOURCE.rglob("*.py"))


def test_every_part_has_a_place() -> None:
    unplaced = {part_of(file) for file in FILES} - set(RANK)
    assert not unplaced, f"add {sorted(unplaced)} to LAYERS"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_point_downwards(file: Path) -> None:
    here = part_of(file)
    wrong = []
    for item in imports_of(file):
        if item.module.split(".")[0] != "tunesmith":
            continue
        there = part(item.module)
        if RANK[there] > RANK[here] or there in FORBIDDEN.get(here, set()):
            wrong.append(f"{file.name}:{item.line}: {here} may not import {item.module}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_light_parts_import_nothing_heavy(file: Path) -> None:
    here = part_of(file)
    never = here in {"data", "evaluation"}
    if not never and here not in BASE | {"cli", "console", "__init__", "__main__"}:
        return
    wrong = [
        f"{file.name}:{item.line}: {here} may not import {item.module}"
        for item in imports_of(file)
        if item.module.split(".")[0] in HEAVY and not item.for_types_only and (never or item.at_module_level)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "module",
    [
        "tunesmith",
        "tunesmith.cli",
        "tunesmith.data",
        "tunesmith.evaluation",
        "tunesmith.tasks",
        "tunesmith.tasks.classification",
        "tunesmith.tasks.entities",
        "tunesmith.tasks.questions",
        "tunesmith.tasks.masked_words",
        "tunesmith.tasks.batching",
        "tunesmith.artefact.session",
        "tunesmith.exporting.order",
        "tunesmith.scored",
        "tunesmith.predicting",
        "tunesmith.evaluating",
        "tunesmith.run.runs",
        "tunesmith.api",
        "tunesmith.using",
        "tunesmith.methods",
        "tunesmith.opening",
        "tunesmith.console",
    ],
)
def test_importing_a_light_part_loads_nothing_heavy(module: str) -> None:
    code = f"import {module}, sys; print(sorted({ABSENT!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_the_reader_of_imports_sees_every_form(tmp_path: Path) -> None:
    file = SOURCE / "data" / "imaginary.py"
    source = """
import torch.nn
from tunesmith import api
from . import records
from ..errors import DataError
if TYPE_CHECKING:
    import transformers
def f():
    from tunesmith.cli import main
"""
    found = {item.module: item for item in _walk(ast.parse(source), file)}
    assert list(found) == [
        "torch.nn",
        "tunesmith.api",
        "tunesmith.data.records",
        "tunesmith.errors.DataError",
        "transformers",
        "tunesmith.cli.main",
    ]
    assert found["transformers"].for_types_only and not found["torch.nn"].for_types_only
    assert not found["tunesmith.cli.main"].at_module_level and found["torch.nn"].at_module_level
    assert part("tunesmith.cli.main") == "cli" and part("tunesmith.Trainer") == "__init__"


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports for types alone and inside functions count, too: a circle of ideas is one, however it is loaded."""
    modules = {".".join(["tunesmith", *file.relative_to(SOURCE).with_suffix("").parts]): file for file in FILES}
    uses = {
        module: {found for item in imports_of(file) if (found := _file_of(item.module, modules)) not in (None, module)}
        for module, file in modules.items()
        if not module.endswith("__init__")
    }
    while free := {module for module, used in uses.items() if not used & uses.keys()}:
        uses = {module: used for module, used in uses.items() if module not in free}
    assert not uses, f"circle among {sorted(uses)}"


def _file_of(name: str, modules: dict[str, Path]) -> str | None:
    """`tunesmith.data.records.Records` → `tunesmith.data.records`; None for a package's own names."""
    return next((name for name in (name, name.rpartition(".")[0]) if name in modules), None)
