"""Messages name settings; each command shows them as it takes them, and never a flag that it lacks."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import tunesmith
from tunesmith.cli import app, main
from tunesmith.commandline import options_of
from tunesmith.config.options import ReadOptions, TrainOptions
from tunesmith.spelling import SETTINGS, left_to_command, spell, spell_for_python

SOURCE = Path(__file__).parents[2] / "src" / "tunesmith"
TRAIN, CACHE = options_of("train"), options_of("cache")
COMMANDS = tuple(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
COMMON = frozenset.intersection(*map(options_of, COMMANDS))


def strings_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every string but docstrings and the help of options, with its line; what an f-string fills in is a `_`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Call) and re.search(r"(option|Option|Argument)$", ast.unparse(node.func)):
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


MESSAGES = [
    (f"{file.relative_to(SOURCE)}:{line}", text)
    for file in sorted(SOURCE.rglob("*.py"))
    if file.name != "spelling.py"
    for line, text in strings_of(ast.parse(file.read_text(encoding="utf-8")))
    if " " in text
]


def lone_flags(message: str) -> Iterator[str]:
    """The flags in a message; not those of a whole command in it that has them (`tunesmith adapt TEXTS --model M`)."""
    for flag in re.finditer(r"--[a-z][a-z-]*", message):
        command = re.search(r"(?:tunesmith|pip) (\w+)[^`;\n]*$", message[: flag.start()])
        if command is None or (command[1] != "install" and flag[0] not in options_of(command[1])):
            yield flag[0]


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
        ("--set x: expected key=value, for example --set training.lr=1e-4", None),
        ("output.out=.: the folder", "--out .: the folder"),
        ("output.out=..; give another output.out", "--out ..; give another --out"),
        ("label 'see model.name: y'; give data.label=COLUMN", "label 'see model.name: y'; give --label COLUMN"),
        ("'x (data.label)', \"it's data.text, too\", 'it\\'s \"data.text\" data.text' data.texts", None),
        ("the model's data.text and the rows' data.label", "the model's --text and the rows' --label"),
        ("data.text: too long, found 'aaa data.label …", "--text: too long, found 'aaa data.label …"),
        ("training.lr: needs `out`, no `column`", "--lr: needs --out, no `column`"),
    ],
)  # fmt: skip
def test_a_setting_is_spelled_as_the_command_takes_it(message: str, shown: str | None) -> None:
    assert spell(message, TRAIN) == (message if shown is None else shown)


def test_a_command_without_the_flag_is_told_what_the_setting_is() -> None:
    assert spell("lower training.batch_size or give data.text=COLUMN", CACHE) == (
        "lower examples per optimizer step or give column with the text (COLUMN)"
    )


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("no text column; give data.text=COLUMN; there: a", "no text column; give text='COLUMN'; there: a"),
        ("training.lr: should be greater than 0", "`lr`: should be greater than 0"),
        ("(likely cp1252; give data.encoding=cp1252)", "(likely cp1252; give encoding='cp1252')"),
        ("or give data.unlabelled=skip to leave", "or give unlabelled='skip' to leave"),
        ("give data.delimiter=';', or rename", "give delimiter=';', or rename"),
        ("add output.overwrite or output.resume=true to it", "add overwrite=True or resume=True to it"),
        ("try training.epochs=12, training.lr=3e-5", "try epochs=12, lr=3e-5"),
        ("output.out=a b: the folder", "out='a b': the folder"),
        ("add augmentation.lexicon=FILE (one", None),
        ("'x (data.label)' and `out`", None),
    ],
)
def test_a_setting_is_spelled_as_a_function_takes_it(message: str, shown: str | None) -> None:
    keywords = {*TrainOptions.__annotations__, "config"}
    assert spell_for_python(message, keywords, ["a b"]) == (message if shown is None else shown)


def test_a_function_without_the_keyword_is_told_what_the_setting_is() -> None:
    said = spell_for_python("lower training.batch_size or give data.text=COLUMN", ReadOptions.__annotations__)
    assert said == "lower examples per optimizer step or give text='COLUMN'"


def test_errors_of_functions_name_keywords_but_where_a_command_spells_them(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("text,label\ncaf\u00e9,a\nbar,b\n".encode("cp1252"))
    with pytest.raises(tunesmith.DataError) as caught:
        tunesmith.check(tmp_path / "a.csv")
    assert "(give encoding='cp1252')" in str(caught.value) and "encoding='cp1252'" in caught.value.problems[0]
    with left_to_command(), pytest.raises(tunesmith.DataError, match=r"give data\.encoding=cp1252"):
        tunesmith.check(tmp_path / "a.csv")
    with pytest.raises(tunesmith.UsageError, match=r"^`lr`: should be greater than 0"):
        tunesmith.train(tmp_path / "a.csv", lr=-1.0)
    with pytest.raises(tunesmith.ModelError):
        next(tunesmith.predict(tmp_path / "no", []))


def test_a_file_called_like_a_setting_is_none() -> None:
    assert spell("data.text: no such file", TRAIN, ["data.text"]) == "data.text: no such file"
    path = "my runs/see data.text. Now"
    assert spell(f"{path}: no data.text", TRAIN, [path]) == f"{path}: no --text"


@pytest.mark.parametrize("folder", [".", "a b", "run.", "x:", "model.name", "the data.text", "a,", "it's"])
def test_a_value_is_shown_as_it_was_typed(folder: str) -> None:
    for given in (["--out", folder], [f"--out={folder}"]):
        assert spell(f"output.out={folder}: the folder", TRAIN, ["d.csv", *given]) == f"--out {folder}: the folder"
    typed = f"output.out={folder}"
    assert spell(f"--set {typed}: not valid YAML", TRAIN, ["--set", typed]) == f"--set {typed}: not valid YAML"


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_is_shown_a_flag_that_it_lacks(command: str) -> None:
    """Of every message in the source, as this command shows it; a whole command may stand in one, with its flags."""
    options = options_of(command)
    assert {"--json", "--quiet", "--debug"} <= COMMON
    for key in SETTINGS:
        for message in (f"wrong: {key}", f"give {key}=VALUE, or"):
            assert set(re.findall(r"--[a-z-]+", spell(message, options))) <= options
    for where, message in MESSAGES:
        if "." in message or "`" in message:
            shown = spell(message, options)
            assert set(lone_flags(shown)) - set(lone_flags(message)) <= options, f"{where}: {shown}"


def test_the_command_line_spells_errors_and_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tunesmith", "check", str(tmp_path / "none.csv"), "--lr", "-1", "--json"])
    with pytest.raises(SystemExit, match="2"):
        main()
    shown = capsys.readouterr()
    assert shown.err == "tunesmith: --lr: should be greater than 0, found -1.0\n" and '"--lr: should' in shown.out


def test_messages_name_no_flags() -> None:
    """Only settings and options, which each command shows as it takes them; but for flags that every command has.

    The command line itself names another where it has asked whether the command has it; what `--set` says is about it.
    """
    cli = (SOURCE / "commandline.py").read_text(encoding="utf-8")
    for where, message in MESSAGES:
        for flag in set(lone_flags(message)) - COMMON:
            asked = where.startswith("commandline.py") and f'if "{flag}" in options_of(' in cli
            assert asked or (flag == "--set" and where.startswith("config")), f"{where}: {flag} in {message!r}"


def test_options_that_are_no_settings_are_named_in_backticks() -> None:
    """`data`, not data or --data: Python shows the name of the argument, the command line its option."""
    names = {option[2:].replace("-", "_") for command in COMMANDS for option in options_of(command)}
    for file in SOURCE.rglob("*.py"):
        for line, text in strings_of(ast.parse(file.read_text(encoding="utf-8"))):
            if file.name in ("commandline.py", "spelling.py", "console.py"):
                continue
            where = f"{file.relative_to(SOURCE)}:{line}: {text}"
            assert not ((told := re.match(r"(\w+): \w", text)) and told[1] in names), where


def test_what_only_one_command_has_is_named_as_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "d.csv"
    file.write_text("text,label\n" + "".join(f"a film {i},{'xy'[i % 2]}\n" for i in range(40)))
    for arguments, shown in (
        (["models", "--domain", "nope"], "--domain: the catalogue has no domain 'nope'"),
        (["models", "--text", "nope"], "--text: needs --data, the texts to measure on\n"),
        (["models", "--data", str(file), "--text", "nope"], f"{file}: --text: no column 'nope'; columns there"),
        (["train", str(file), "--set", "x"], "--set x: expected key=value, for example --set training.lr=1e-4\n"),
        (["train", str(file), "--set", "nope.x=1"], "unknown key 'nope.x'; known: data, task, model, method,"),
        (["train", str(file), "--set", "engine.wxyzwxyz=1"], "unknown key 'engine.wxyzwxyz'; known: use, packing,"),
        (["train", str(file), "--out", "."], "--out .: the folder is not empty and holds no run (d.csv, …)"),
    ):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["tunesmith", *arguments])
        with pytest.raises(SystemExit):
            main()
        error = capsys.readouterr().err
        assert error.startswith(f"tunesmith: {shown}") and error.count("\n") == 1


def test_settings_that_messages_name_exist() -> None:
    sections = "|".join(sorted({key.split(".")[0] for key in SETTINGS}))
    proposed = re.compile(rf"(?<![\w./])(?:{sections})\.[a-z]\w*(?==)")
    for file in SOURCE.rglob("*.py"):
        for line, text in strings_of(ast.parse(file.read_text(encoding="utf-8"))):
            assert set(proposed.findall(text)) <= set(SETTINGS), f"{file.relative_to(SOURCE)}:{line}: {text}"
