"""The command line as a user meets it: by subprocess, on the packaged model and corpus, without network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from tunesmith.cli import main
from tunesmith.demo import corpus

Result = subprocess.CompletedProcess[str]


def tunesmith(*arguments: str | Path, cwd: Path | None = None, stdin: str = "") -> Result:
    command = [sys.executable, "-m", "tunesmith", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=cwd, timeout=300)


@pytest.fixture(scope="session")
def news(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder-per-class sample of the corpus, 24 articles a class, cut to their first lines."""
    folder = tmp_path_factory.mktemp("news")
    for topic in sorted(Path(corpus()).iterdir()):
        (folder / topic.name).mkdir()
        for file in sorted(topic.glob("*.txt"))[:24]:
            (folder / topic.name / file.name).write_bytes(file.read_bytes().split(b"\n\n")[0] + b"\n")
    return folder


@pytest.fixture(scope="session")
def run(news: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the `features` method."""
    out = tmp_path_factory.mktemp("runs") / "news"
    result = tunesmith("train", news, "--method", "features", "--out", out, "--json")
    assert result.returncode == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["status"] == "done" and record["run"] == str(out)
    return out


def test_the_run_folder_is_the_one_that_is_promised(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {"run.json", "config.yaml", "model", "metrics.jsonl", "predictions", "findings.jsonl"} <= names
    assert {"report.html", "README.md"} <= names and ".work" not in names
    record = json.loads((run / "run.json").read_text())
    keys = ["version", "status", "task", "method", "model", "data", "config", "seed", "versions", "machine", "engine"]
    assert {*keys, "timing", "metrics", "baselines", "best", "warnings"} <= set(record)
    score = record["metrics"]["test"]["accuracy"]
    assert score["low"] <= score["value"] <= score["high"] and score["n"] == record["data"]["splits"][2]["rows"]
    assert sum(split["rows"] for split in record["data"]["splits"]) == 120
    assert record["data"]["labels"] == ["business", "entertainment", "politics", "sports", "tech"]
    assert {"TF-IDF + logistic regression", "majority"} == {baseline["name"] for baseline in record["baselines"]}
    assert record["config"]["training"]["max_length"] > 0 and record["config"]["model"]["pooling"] == "mean"
    assert "<html" in (run / "report.html").read_text()


def test_a_pooled_model_is_refused_by_plain_transformers_but_its_backbone_loads(run: Path) -> None:
    with pytest.raises((OSError, ValueError)):
        AutoModelForSequenceClassification.from_pretrained(run / "model")
    backbone = run / "model" / "0_Transformer"
    assert "sports" not in AutoModel.from_pretrained(backbone).config.id2label.values()
    assert AutoTokenizer.from_pretrained(backbone)("hello")["input_ids"]
    assert not [path for path in run.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl", ".pickle")]


def test_predictions_are_in_input_order_with_label_names(run: Path, tmp_path: Path) -> None:
    texts = [
        "the striker scored twice in the cup final",
        "quarterly profits and sales rose at the firm as its shares climbed on the stock market",
    ]
    answers = [
        json.loads(line) for line in tunesmith("predict", run, stdin="\n".join(texts) + "\n").stdout.splitlines()
    ]
    assert [answer["label"] for answer in answers] == ["sports", "business"]
    assert all(abs(sum(answer["scores"].values()) - 1) < 1e-3 for answer in answers)
    file = tmp_path / "new.csv"
    file.write_text("id,text\nb,{}\na,{}\n".format(*texts))
    from_file = [json.loads(line) for line in tunesmith("predict", run, file).stdout.splitlines()]
    assert [answer["label"] for answer in from_file] == ["sports", "business"]
    lines = tmp_path / "new.txt"
    lines.write_text("\n".join(texts), encoding="utf-8-sig")
    from_lines = [json.loads(line) for line in tunesmith("predict", run, lines).stdout.splitlines()]
    assert [answer["id"] for answer in from_lines] == ["1", "2"]
    assert [answer["scores"] for answer in from_lines] == [answer["scores"] for answer in answers]
    one = json.loads(tunesmith("predict", run, file, "--json").stdout)
    assert one["predictions"] == from_file


def test_a_run_is_scored_on_new_data_and_against_another(run: Path, news: Path) -> None:
    result = json.loads(tunesmith("evaluate", run, news, "--json").stdout)
    assert result["rows"] == 120 and result["metrics"]["accuracy"]["value"] > 0.9
    paired = json.loads(tunesmith("evaluate", run, news, "--against", run, "--json").stdout)["against"]
    assert paired["difference"]["accuracy"]["p"] == 1.0 and paired["difference"]["accuracy"]["value"] == 0.0


def test_the_saved_configuration_repeats_the_run(run: Path, news: Path, tmp_path: Path) -> None:
    again = tunesmith("train", news, "--config", run / "config.yaml", "--out", tmp_path / "again", "--json")
    assert again.returncode == 0, again.stderr
    first, second = json.loads((run / "run.json").read_text()), json.loads(again.stdout)
    assert first["metrics"] == second["metrics"] and first["data"]["splits"] == second["data"]["splits"]


def test_check_prints_findings_and_fails_on_a_failure(tmp_path: Path) -> None:
    file = tmp_path / "one.csv"
    file.write_text("text,label\nhello,a\nbye,a\n")
    result = tunesmith("check", file, "--json")
    assert result.returncode == 3 and json.loads(result.stdout)["failed"] is True
    (advice,) = [found["advice"] for found in json.loads(result.stdout)["findings"] if found["level"] == "failure"]
    assert "--label" in advice and "data.label" not in advice
    file.write_text("text,label\nhello,a\nbye,b\nhello,a\nother,b\n")
    result = tunesmith("check", file)
    assert "(row 4)" in result.stdout
    assert result.returncode == 0 and "with the text and label of an earlier row" in result.stdout


ERRORS = [
    (["train", "{data}", "--lrx", "1"], 2, ["--lrx"]),
    (["train", "{data}", "--lr", "-1", "--schedule", "bent"], 2, ["--lr", "--schedule"]),
    (["train", "{data}", "--set", "training.epohs=3"], 2, ["did you mean 'training.epochs'"]),
    (["train", "{missing}"], 3, ["missing.csv"]),
    (["train", "{short}"], 3, ["line 3"]),
    (["train", "{data}", "--model", "./nowhere"], 4, ["./nowhere", "config.json"]),
    (["train", "{data}", "--metric", "rmse"], 2, ["--metric rmse", "accuracy"]),
    (["train", "{data}", "--tracker", "wandb"], 2, ["pip install wandb"]),
    (["train", "--resume"], 2, ["--resume", "holds no unfinished run"]),
    (["predict", "{missing}"], 4, ["no trained model"]),
    (["evaluate", "{missing}", "{data}"], 4, ["not a run"]),
    (["adapt", "{missing}", "--out", "out"], 3, ["missing.csv"]),
    (["adapt", "{data}"], 2, ["--out is missing"]),
    (["adapt", "{data}", "--out", "out", "--batch-size", "8", "--set", "training.accumulation=3"], 2, ["divide"]),
    (["models", "--language", "xx"], 2, ["xx"]),
    (["nonsense"], 2, ["nonsense"]),
]


@pytest.mark.parametrize(("arguments", "code", "wanted"), ERRORS, ids=[" ".join(row[0])[:40] for row in ERRORS])
def test_a_mistake_gets_its_exit_code_and_a_remedy(
    arguments: list[str],
    code: int,
    wanted: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process, which has imported the libraries; other tests see that a process of its own exits as `main`."""
    data, short = tmp_path / "data.csv", tmp_path / "short.csv"
    data.write_text("text,label\n" + "".join(f"text number {i} of many,{'ab'[i % 2]}\n" for i in range(40)))
    short.write_text("text,label\nfine,a\nalone\n")
    places = {"data": data, "short": short, "missing": tmp_path / "missing.csv"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tunesmith", *(argument.format(**places) for argument in arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    printed, told = capsys.readouterr()
    assert stopped.value.code == code, told
    assert "Traceback" not in told and printed == ""
    assert all(text in told for text in wanted), told
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["data.csv", "short.csv"]


def test_help_is_there_for_every_command() -> None:
    for command in ([], ["train"], ["check"], ["evaluate"], ["predict"], ["init"], ["demo"]):
        result = tunesmith(*command, "--help")
        assert result.returncode == 0 and "Usage" in result.stdout


def test_init_prints_a_file_that_train_accepts(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(tunesmith("init", "--method", "lora").stdout)
    result = tunesmith("check", tmp_path / "absent.csv", "--config", file)
    assert result.returncode == 3 and "absent.csv" in result.stderr


def arguments_of_a_long_run(news: Path, out: Path) -> list[str]:
    options = ["--method", "freeze", "--trainable-layers", "1", "--epochs", "3", "--batch-size", "8"]
    return ["train", str(news), *options, "--max-length", "16", "--precision", "float32", "--out", str(out)]


def wait_for_steps(out: Path, process: subprocess.Popen[Any]) -> None:
    """Return once the run has logged a step."""
    deadline = time.monotonic() + 120
    while not ((out / "metrics.jsonl").exists() and (out / "metrics.jsonl").stat().st_size):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="session")
def straight(news: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long run that nothing interrupted."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    result = tunesmith(*arguments_of_a_long_run(news, out))
    assert result.returncode == 0, result.stderr
    assert not (out / "checkpoints").exists()
    return out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_is_saved_and_resumes_to_the_same_weights(
    straight: Path, news: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    broken = tmp_path / "broken"
    command = [sys.executable, "-m", "tunesmith", *arguments_of_a_long_run(news, broken)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    wait_for_steps(broken, process)
    process.send_signal(number)
    _, messages = process.communicate(timeout=120)
    assert process.returncode == code and "the same command goes on" in messages, messages
    assert json.loads((broken / "run.json").read_text())["status"] == "stopped"
    same_command = arguments_of_a_long_run(news, broken) if number == signal.SIGINT else ["train", "--out", broken]
    resumed = tunesmith(*same_command, "--resume", "--keep-checkpoints")
    assert resumed.returncode == 0, resumed.stderr
    for name in ("model/0_Transformer/model.safetensors", "model/2_Dense/model.safetensors", "predictions/test.jsonl"):
        assert (straight / name).read_bytes() == (broken / name).read_bytes(), name
    assert any((broken / "checkpoints").iterdir())


def test_an_adaptation_is_interrupted_and_resumed(tmp_path: Path) -> None:
    texts, out = tmp_path / "texts.txt", tmp_path / "out"
    texts.write_text(
        "\n".join(f"the card of customer {i} was lost again on its way to shop {i % 7}" for i in range(300))
    )
    options = ["--epochs", "2", "--batch-size", "4", "--max-length", "16", "--precision", "float32"]
    arguments = ["adapt", texts, "--out", out, *options, "--set", "training.head_steps=1", "--json"]
    command = [sys.executable, "-m", "tunesmith", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    wait_for_steps(out, process)
    process.send_signal(signal.SIGTERM)
    answer, _ = process.communicate(timeout=120)
    assert process.returncode == 143 and json.loads(answer)["exit_code"] == 143
    assert json.loads((out / "adapt.json").read_text())["status"] == "stopped"
    resumed = tunesmith(*arguments, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["perplexity_after"]["value"] > 1


def test_auto_keeps_the_better_method_and_reports_both(news: Path, tmp_path: Path) -> None:
    out = tmp_path / "auto"
    result = tunesmith("train", news, "--out", out, "--epochs", "1", "--max-length", "16", "--json")
    assert result.returncode == 0, result.stderr
    record = json.loads(result.stdout)
    tried = {record["method"]} | {baseline["name"] for baseline in record["baselines"]}
    assert {"features", "freeze"} <= tried
    assert tunesmith("train", news, "--out", out).returncode == 2


def test_a_second_process_is_kept_out_of_a_run(news: Path, tmp_path: Path) -> None:
    out = tmp_path / "busy"
    command = [sys.executable, "-m", "tunesmith", *arguments_of_a_long_run(news, out), "--epochs", "500"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_steps(out, process)
    second = tunesmith(*arguments_of_a_long_run(news, out), "--overwrite")
    process.kill(), process.wait()
    assert second.returncode == 2 and f"process {process.pid} is writing this run" in second.stderr


def test_the_cache_is_shown_and_cleared(news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    options = ("--method", "freeze", "--epochs", "1", "--max-length", "16", "--quiet")
    for name in ("first", "second"):
        result = tunesmith("train", news, "--out", tmp_path / name, "--json", *options)
        assert result.returncode == 0, result.stderr
    prefix = json.loads(result.stdout)["engine"]["prefix"]
    assert prefix["state"] == "on" and prefix["rows_computed"] == 0 and prefix["rows_read"] > 0
    (store,) = json.loads(tunesmith("cache", "--json").stdout)["stores"]
    assert store["identity"]["layers"] == prefix["layers"] == 4 and store["bytes"] > prefix["bytes"] > 0
    assert tunesmith("cache", "--clear").returncode == 0
    assert json.loads(tunesmith("cache", "--json").stdout)["stores"] == []
