"""Messages name settings; each command shows them as it takes them, and never a flag that it lacks."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith.cli import main, options_of
from tunesmith.spelling import SETTINGS, spell

SOURCE = Path(__file__).parents[2] / "src" / "tunesmith"
TRAIN, CACHE = options_of("train"), options_of("cache")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("no text column; give data.text=COLUMN; there: a", "no text column; give --text COLUMN; there: a"),
        ("training.lr: should be greater than 0", "--lr: should be greater than 0"),
        ("(likely cp1252; give data.encoding=cp1252)", "(likely cp1252; give --encoding cp1252)"),
        ("give data.delimiter=';', or rename", "give --delimiter ';', or rename"),
        ("give data.label=a,b,c.", "give --label a,b,c."),
        ("add output.overwrite=true or output.resume=true to it", "add --overwrite or --resume to it"),
        ("check training.lr, method.name and data.text", "check --lr, --method and --text"),
        ("add augmentation.lexicon=FILE (one", "add --set augmentation.lexicon=FILE (one"),
        ("training.accumulation: divides training.batch_size=8", "training.accumulation: divides --batch-size 8"),
        ("unknown key 'training.epohs'; did you mean 'training.epochs'?", None),
        ("/tmp/data.text: no such file", None),
        ("my-data.text, data.text.gz, data.texts and data.text/a: no such file", None),
        ("x.data.text and data.text_pairs", None),
        ("no setting here: lr=1, --lr 1", None),
    ],
)  # fmt: skip
def test_a_setting_is_spelled_as_the_command_takes_it(message: str, shown: str | None) -> None:
    assert spell(message, TRAIN) == (message if shown is None else shown)


def test_a_command_without_the_flag_is_told_what_the_setting_is() -> None:
    assert spell("lower training.batch_size or give data.text=COLUMN", CACHE) == (
        "lower examples per optimizer step or give column with the text (COLUMN)"
    )


def test_a_file_called_like_a_setting_is_none() -> None:
    assert spell("data.text: no such file", TRAIN, ["data.text"]) == "data.text: no such file"


@pytest.mark.parametrize(
    "command", ["check", "train", "adapt", "evaluate", "predict", "models", "init", "demo", "cache"]
)
def test_no_command_is_shown_a_flag_that_it_lacks(command: str) -> None:
    options = options_of(command)
    assert "--json" in options
    for key in SETTINGS:
        for message in (f"wrong: {key}", f"give {key}=VALUE, or"):
            assert set(re.findall(r"--[a-z-]+", spell(message, options))) <= options


def test_the_command_line_spells_errors_and_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tunesmith", "check", str(tmp_path / "none.csv"), "--lr", "-1", "--json"])
    with pytest.raises(SystemExit, match="2"):
        main()
    shown = capsys.readouterr()
    assert shown.err == "tunesmith: --lr: should be greater than 0, found -1.0\n" and '"--lr: should' in shown.out


def test_messages_below_the_command_line_name_no_flags() -> None:
    """But a whole command, `tunesmith adapt TEXTS --model M`, may stand in one, with flags that it has."""
    wrong = []
    for file in sorted(SOURCE.rglob("*.py")):
        room = file.relative_to(SOURCE).parts[0]
        if room in {"cli.py", "spelling.py", "config"}:
            continue
        for line, text in strings_of(ast.parse(file.read_text(encoding="utf-8"))):
            for flag in re.finditer(r"--[a-z][a-z-]*", text):
                command = re.search(r"(?:tunesmith|pip) (\w+)[^`;\n]*$", text[: flag.start()])
                if command is None or (command[1] != "install" and flag[0] not in options_of(command[1])):
                    wrong.append(f"{file.relative_to(SOURCE)}:{line}: {flag[0]}")
    assert not wrong, "\n".join(wrong)


def test_settings_that_messages_name_exist() -> None:
    sections = "|".join(sorted({key.split(".")[0] for key in SETTINGS}))
    proposed = re.compile(rf"(?<![\w./])(?:{sections})\.[a-z]\w*(?==)")
    for file in SOURCE.rglob("*.py"):
        for line, text in strings_of(ast.parse(file.read_text(encoding="utf-8"))):
            assert set(proposed.findall(text)) <= set(SETTINGS), f"{file.relative_to(SOURCE)}:{line}: {text}"


def strings_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every string but docstrings, with its line; what an f-string fills in is an underscore."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "_" for part in node.values]
            yield node.lineno, "".join(map(str, parts))
            for part in node.values:
                if isinstance(part, ast.FormattedValue):
                    yield from strings_of(part)
        else:
            yield from strings_of(node)
