"""`push` sends a model with its card, and nothing else, to a Hub; here to one of our own."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import EvalResult, ModelCard, ModelCardData, constants

import tunesmith
from tests.fake_hub import TOKEN, FakeHub, Repository
from tunesmith.errors import ModelError, ResourceError, TunesmithError, UsageError
from tunesmith.models.sealed import require_intact, seal
from tunesmith.progress import Progress

NAME = "ada/tickets"
MODEL = {
    "model.safetensors": b"weights" * 1000,
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "tunesmith.json": b"{}",
}
LAID_BESIDE = ("model/notes.md", "model/.hidden", "predictions/test.jsonl", "findings.jsonl")
# huggingface_hub sends a file in a way that its own client calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def head(**more: Any) -> str:
    result = EvalResult("text-classification", "tickets.csv", "tickets.csv", "accuracy", 0.9, metric_name="Accuracy")
    base = "sentence-transformers/all-MiniLM-L6-v2"
    data = ModelCardData(model_name="tickets", base_model=base, eval_results=[result], **more)
    return f"---\n{data.to_yaml()}\n---\n\n# tickets\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run, with what must not leave it."""
    folder = tmp_path / "run"
    (folder / "model").mkdir(parents=True)
    for name, content in {**MODEL, "seen.txt": b"0" * 16, "README.md": head().encode()}.items():
        (folder / "model" / name).write_bytes(content)
    finish(folder)
    for name in LAID_BESIDE:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine", encoding="utf-8")
    return folder


def finish(folder: Path) -> None:
    files = {name: dict(facts) for name, facts in seal(folder / "model", "model/").items()}
    (folder / "run.json").write_text(json.dumps({"status": "done", "files": files}), encoding="utf-8")


def push(run: Path, **options: Any) -> Any:
    return tunesmith.push(run, NAME, progress=Progress(quiet=True), **options)


@pytest.mark.parametrize("within", ["", "model"])
def test_a_model_and_its_card_are_sent_and_nothing_else(run: Path, hub: FakeHub, within: str, tmp_path: Path) -> None:
    done = push(run / within, license="mit", language="en,de")
    there = hub.repositories[NAME]
    assert there.private and done.private and done.commit == there.commits[-1]
    assert {**there.files, "README.md": b""} == {
        **MODEL,
        "README.md": b"",
        ".gitattributes": there.files[".gitattributes"],
        "manifest.json": (run / "model" / "manifest.json").read_bytes(),
    }
    card = ModelCard(there.files["README.md"].decode()).data
    assert (card.license, card.language, card.eval_results[0].metric_value) == ("mit", ["en", "de"], 0.9)
    assert (run / "model" / "README.md").read_text(encoding="utf-8") == head() and done.lacks == ()
    hub.download(NAME, tmp_path / "downloaded")
    require_intact(tmp_path / "downloaded")


def test_the_card_is_sent_as_it_stands_where_nothing_is_added(run: Path, hub: FakeHub) -> None:
    text = head(license="apache-2.0", language="en") + "mine\n"
    (run / "model" / "README.md").write_text(text, encoding="utf-8")
    (run / "model" / "LICENSE").write_text("…", encoding="utf-8")
    assert push(run, public=True).lacks == ()
    there = hub.repositories[NAME]
    assert there.files["README.md"].decode() == text and "LICENSE" in there.files and not there.private


def test_a_dry_run_lists_and_asks_nobody(run: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    done = tunesmith.push(run, NAME, dry_run=True, local=True)
    shown = capsys.readouterr().err
    assert not hub.asked and done.commit is None
    assert set(done.files) == {*MODEL, "README.md", "manifest.json"}
    assert all(name in shown for name in done.files) and "seen.txt" not in shown
    assert (
        "names no licence ('sentence" not in shown and "all-MiniLM-L6-v2, which it began with, has apache-2.0" in shown
    )


def test_a_model_is_replaced_and_what_is_equal_is_not_sent_again(run: Path, hub: FakeHub) -> None:
    push(run)
    hub.asked.clear()
    push(run, license="mit")
    assert not any(request.startswith(("PUT", "POST /api/repos")) for request in hub.asked)
    assert b"license: mit" in hub.repositories[NAME].files["README.md"] and len(hub.repositories[NAME].commits) == 3


def test_a_private_model_never_goes_to_a_public_place(run: Path, hub: FakeHub) -> None:
    hub.repositories[NAME] = Repository(private=False)
    with pytest.raises(UsageError, match=r"is public already; add `public`"):
        push(run)
    assert not hub.stored and len(hub.repositories[NAME].commits) == 1
    assert push(run, public=True).private is False
    hub.repositories[NAME].private = True
    assert push(run, public=True).private is True


def test_another_model_is_not_written_into(run: Path, hub: FakeHub) -> None:
    hub.repositories[NAME] = Repository(True, {"README.md": b"", "pytorch_model.bin": b""})
    with pytest.raises(UsageError, match=r"holds 'pytorch_model.bin', no part of this model"):
        push(run)


REFUSED: list[tuple[str, int, str, type[TunesmithError], str]] = [
    ("GET .*", 401, "Invalid username or password.", UsageError, "hf auth login"),
    ("GET .*", 503, "out of order", ResourceError, "wait"),
    ("GET .*", 429, "too many", ResourceError, "wait"),
    ("POST .*create", 403, "You don't have the rights", UsageError, "may not write for ada"),
    ("POST .*create", 404, "no such owner", UsageError, "correct the name"),
    ("POST .*create", 409, "is being created", UsageError, "wait a moment"),
    ("POST .*yaml", 400, "license must be one of", UsageError, "license must be one of"),
    ("POST .*preupload.*", 403, "read-only token", UsageError, "may not write for ada"),
    ("PUT .*", 403, "expired", UsageError, "may not write for ada"),
    ("POST .*commit.*", 412, "A commit has happened since", UsageError, "changed meanwhile"),
]


@pytest.mark.parametrize(("request_", "status", "said", "kind", "remedy"), REFUSED)
def test_what_the_hub_refuses_is_one_line(
    run: Path, hub: FakeHub, request_: str, status: int, said: str, kind: type[TunesmithError], remedy: str
) -> None:
    hub.refused[request_] = (status, f"{said} {TOKEN}")
    with pytest.raises(kind) as refused:
        push(run)
    message = str(refused.value)
    assert said in message and remedy in message and "\n" not in message and TOKEN not in message
    assert len(hub.repositories.get(NAME, Repository(True)).commits) == 1


def test_a_commit_between_ours_is_noticed(run: Path, hub: FakeHub) -> None:
    push(run)

    def meanwhile(request: str) -> None:
        if "preupload" in request:
            hub.repositories[NAME].commits.append("1" * 40)

    hub.before = meanwhile
    with pytest.raises(UsageError, match=r"412.*run the same command again"):
        push(run, license="mit")


@pytest.mark.parametrize(
    ("prepare", "kind", "message"),
    [
        (lambda patch, hub: patch.delenv("HF_TOKEN"), UsageError, "no token for the Hub; run `hf auth login`"),
        (
            lambda patch, hub: patch.setenv("HF_TOKEN", "hf_ä"),
            UsageError,
            "holds a space, or a letter that no token has",
        ),
        (lambda patch, hub: patch.setattr(constants, "HF_HUB_OFFLINE", True), UsageError, "HF_HUB_OFFLINE is set"),
        (lambda patch, hub: patch.setattr(constants, "ENDPOINT", "http://hub.test"), UsageError, "unencrypted"),
        (lambda patch, hub: patch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9"), ResourceError, "be reached"),
    ],
)
def test_without_a_way_to_the_hub_nothing_is_tried(
    run: Path,
    hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[pytest.MonkeyPatch, FakeHub], None],
    kind: type[TunesmithError],
    message: str,
) -> None:
    prepare(monkeypatch, hub)
    with pytest.raises(kind, match=message) as refused:
        push(run)
    assert not hub.asked and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["tickets", "a/b/c", "ada/tick ets", "ada/..", "../x", "ada/x.git", "", "/x"])
def test_a_name_that_is_none_is_told(run: Path, name: str) -> None:
    with pytest.raises(UsageError, match="expected owner/name"):
        tunesmith.push(run, name, dry_run=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"license": "MIT License"}, "`license`: expected an identifier"),
        ({"language": "english"}, "`language`: expected codes"),
        ({"local": True}, "`local`: `push` needs the network"),
    ],
)
def test_options_that_mean_nothing_are_told(run: Path, options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tunesmith.push(run, NAME, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: (model / "config.json").write_text("{ }"), "config.json"),
        (lambda model: (model / "README.md").unlink(), "README.md is missing, and a model goes with its card"),
        (lambda model: (model / "README.md").write_text("---\na: b: c\n---\n"), "README.md, line 2: no model card"),
        (lambda model: (model / "README.md").write_text("---\n- a\n---\n"), "README.md: no model card"),
        (lambda model: (model / "README.md").write_bytes(b"\xff"), "README.md: no model card"),
    ],
)
def test_a_model_that_is_not_whole_is_not_sent(run: Path, change: Callable[[Path], Any], message: str) -> None:
    change(run / "model")
    with pytest.raises(ModelError, match=message) as refused:
        push(run, dry_run=True)
    assert "\n" not in str(refused.value)


def test_a_folder_of_something_else_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine", encoding="utf-8")
    with pytest.raises(ModelError, match="give a finished run"):
        push(tmp_path, dry_run=True)


def command(run: Path, hub: FakeHub, *options: str) -> subprocess.Popen[str]:
    settings = {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(run.parent / "home"),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tunesmith", "push", str(run), NAME, *options],
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_push_that_was_interrupted_goes_on(run: Path, hub: FakeHub) -> None:
    (run / "model" / "model.onnx").write_bytes(b"first")  # a second large file
    finish(run)
    begun, over, numbers = threading.Event(), threading.Event(), itertools.count()

    def hang(request: str) -> None:
        if request.startswith("PUT") and next(numbers):
            while not hub.stored:  # the first one
                time.sleep(0.01)
            begun.set()
            over.wait(60)
            raise ConnectionAbortedError

    hub.before = hang
    process = command(run, hub)
    assert begun.wait(60)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)  # while the Hub still says nothing
    over.set()
    assert process.returncode == 130 and not out and "the same command goes on" in err and TOKEN not in err, err
    assert len(hub.repositories[NAME].commits) == 1 and len(hub.stored) == 1
    hub.before, before = (lambda request: None), len(hub.asked)
    process = command(run, hub, "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and TOKEN not in out + err, err
    result = json.loads(out)
    assert result["commit"] == hub.repositories[NAME].commits[-1] and result["private"] is True
    assert sum(request.startswith("PUT") for request in hub.asked[before:]) == 1
    assert "model.safetensors" in hub.repositories[NAME].files and f"sends to {hub.url}/{NAME}" in err
    assert all("agent" not in request for request in hub.asked)
