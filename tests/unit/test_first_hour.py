"""What a new user types first: help, versions, slips, and what is told before the slow work."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tunesmith import __version__, cli, demo
from tunesmith.data.checks import Finding
from tunesmith.errors import DataError
from tunesmith.opening import tell
from tunesmith.progress import Progress
from tunesmith.training import callbacks

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Typed:
    """Runs a command in an empty folder; gives its exit code and what it wrote to both outputs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tunesmith", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return int(str(stopped.value.code)), captured.out, captured.err

    return run


def test_the_version_is_told(typed: Typed) -> None:
    assert typed("--version") == typed("-V") == (0, f"tunesmith {__version__}\n", "")


@pytest.mark.parametrize("command", [[], ["train"], ["predict"], ["runs"]])
def test_help_has_a_short_flag(typed: Typed, command: list[str]) -> None:
    assert typed(*command, "-h") == typed(*command, "--help")


@pytest.mark.parametrize(
    ("command", "takes"),
    [
        ("evaluate", "Run folder, or an artefact of export."),
        ("predict", "Run folder, the model folder of one, or an artefact of export."),
        ("serve", "Run folder, the model folder of one, or an artefact of export."),
        ("push", "Run folder, the model folder of one, or an artefact of export."),
        ("export", "Run folder, the model folder of one, or a folder that transformers saved."),
    ],
)
def test_help_says_what_a_run_may_be(typed: Typed, command: str, takes: str) -> None:
    assert takes in " ".join(typed(command, "--help")[1].replace("│", " ").split())


def test_help_shows_choices_and_defaults(typed: Typed) -> None:
    shown = " ".join(typed("train", "--help")[1].split())
    assert "linear|cosine|constant" in shown and "Default: linear." in shown and "Default: 42." in shown


def test_completion_is_offered(typed: Typed) -> None:
    assert "--install-completion" in typed("--help")[1]


def test_a_slip_in_the_name_of_a_command_is_told_with_the_near_one(typed: Typed) -> None:
    assert typed("predcit", "x") == (2, "", "tunesmith: no command 'predcit'; did you mean 'predict'?\n")


def test_no_argument_at_all_shows_the_help_alone(typed: Typed) -> None:
    code, out, error = typed()
    assert code == 2 and "Usage" in out + error and "tunesmith: " not in error


@pytest.mark.parametrize(
    "arguments", [["train", "absent.csv"], ["adapt", "absent.txt", "--out", "o"], ["train", "d.csv", "--text", "body"]]
)
def test_a_wrong_file_or_column_is_told_before_torch_is_imported(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("text,label\none,a\ntwo,b\n")
    told = "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules))"
    code = f"{told}; from tunesmith.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "False\n"), done.stderr


def test_training_without_examples_says_what_is_missing(typed: Typed) -> None:
    code, _, error = typed("train", "--method", "full")
    assert code == 2 and "the examples are missing" in error and "--resume" in error


def finding(split: str, count: str, share: str) -> Finding:
    return Finding("warning", "duplicate", f"{count} rows with the text of another ({share})", "remove them", split)


def test_what_is_found_in_every_split_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    other = Finding("warning", "unseen_label", "2 labels that train lacks: 'a 1', 'b'", "add examples", "test")
    tell([finding("train", "1,060", "3.4%"), finding("valid", "18", "8.1%"), other], Progress())
    assert capsys.readouterr().err.splitlines() == [
        "warning: train, valid: 1,060 / 18 rows with the text of another (3.4% / 8.1%); remove them",
        "warning: test: 2 labels that train lacks: 'a 1', 'b'; add examples",
    ]
    with pytest.raises(DataError, match="train: no rows; add some"):
        tell([Finding("failure", "none", "no rows", "add some", "train")], Progress())


def test_a_command_is_shown_as_it_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tune smith"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    assert demo.as_typed(str(program)) == f"'{program}'"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert demo.as_typed(str(program)) == "'tune smith'"
    assert demo.as_typed("/x/tunesmith/__main__.py").endswith(" -m tunesmith")


def test_lines_tell_how_a_training_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations that follow fast are told ever more seldom, and the loss where they are far apart."""
    now, told = [0.0], list[str]()
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
    progress = Progress(quiet=True)
    monkeypatch.setattr(progress, "line", told.append)
    state = SimpleNamespace(global_step=0, max_steps=100, epoch=0.0, num_train_epochs=4, log_history=[])
    with progress.bar("full", 100) as bar:
        watching = callbacks.ProgressCallback(bar, progress, tmp_path / "metrics.jsonl", "accuracy", "full")
        watching.on_train_begin(None, state, None)
        for step in range(1, 101):
            now[0], state.global_step, state.epoch = now[0] + 1.0, step, step / 25
            logs = {"eval_accuracy": 0.5} if step % 5 == 0 else {"loss": 1.25}
            watching.on_log(None, state, None, logs)
    assert told[0] == "full: epoch 0.2 of 4  loss 1.250  valid accuracy 0.5000  5.0 s, about 1 min 35 s to go"
    assert told[-1] == "full: epoch 4 of 4  loss 1.250  valid accuracy 0.5000  1 min 40 s" and 10 < len(told) < 20
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 100
