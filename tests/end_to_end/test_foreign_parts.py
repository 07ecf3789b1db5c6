"""A task, a method and a format of another package, which Tunesmith knows by their entry points alone."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PARTS = Path(__file__).parent / "foreign"
ENTRY_POINTS = """
[tunesmith.tasks]
stars = stars:Stars

[tunesmith.methods]
attention = attention:Attention

[tunesmith.formats]
starred = starred:read
"""
ADJECTIVES = ["awful", "bad", "fine", "good", "great"]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The command line, with the package installed."""
    site = tmp_path_factory.mktemp("site")
    for part in PARTS.glob("*.py"):
        (site / part.name).write_bytes(part.read_bytes())
    about = site / "star_ratings-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: star-ratings\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tunesmith", *map(str, arguments)],
            capture_output=True, text=True, timeout=300, env=os.environ | {"PYTHONPATH": path},
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw, words = random.Random(0), ["film", "book", "card", "bank", "car", "road", "music", "song", "team", "player"]
    lines = []
    for row in range(200):
        stars = row % 5 + 1
        text = " ".join(draw.sample(words, 4))
        lines.append(f"{'*' * stars} {text} {row} {' '.join([ADJECTIVES[stars - 1]] * 3)}")
    path = tmp_path_factory.mktemp("data") / "ratings.stars"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(command: Command, ratings: Path, tiny_model_folder: Callable[[str], Path], tmp_path_factory: Any) -> Path:
    out = Path(tmp_path_factory.mktemp("runs")) / "stars"
    result = command(
        "train", ratings, "--task", "stars", "--format", "starred", "--method", "attention", "--model",
        tiny_model_folder("bert"), "--epochs", "14", "--lr", "0.01", "--head-lr", "0.02", "--out", out,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "test stars_off 0." in result.stdout and "the commonest rating 2.0" in result.stdout
    return out


def test_they_are_listed_and_checked(
    command: Command, ratings: Path, tiny_model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = tiny_model_folder("bert")
    refused = command("train", ratings, "--task", "stairs")
    assert refused.returncode == 2 and "'stars'" in refused.stderr
    options = ["--task", "stars", "--format", "starred"]
    windows = command("train", ratings, *options, "--long", "windows", "--model", model, "--out", tmp_path / "run")
    assert windows.returncode == 2 and "--long windows: this task reads no text in windows" in windows.stderr
    checked = command("check", ratings, *options, "--json")
    assert checked.returncode == 0, checked.stderr


def test_the_run_tells_of_them(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    assert (record["task"], record["method"], record["best"]["metric"]) == ("stars", "attention", "stars_off")
    assert record["metrics"]["test"].keys() == {"within_one", "stars_off"} == record["described"].keys()
    assert record["metrics"]["test"]["stars_off"]["value"] < 0.5
    assert record["data"]["labels"] == ["1", "2", "3", "4", "5"]
    (baseline,) = record["baselines"]
    assert baseline["name"] == "the commonest rating"
    for page in ("report.html", "README.md"):
        text = (run / page).read_text()
        assert "star rating" in text and "Within one star" in text and "the commonest rating" in text
        assert "Over 20 test rows, the Stars off is" in text


def test_their_models_answer_and_are_scored_again(command: Command, run: Path, ratings: Path, tmp_path: Path) -> None:
    scored = command("evaluate", run, ratings, "--json")
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["metrics"]["within_one"]["n"] == 200
    shown = command("evaluate", run, ratings, "--against", run)
    assert "within_one" in shown.stdout and "both score the same" in shown.stdout, shown.stderr
    texts = tmp_path / "new.txt"
    texts.write_text("film car road song 7 awful awful awful\nbank card team music 9 great great great\n")
    answers = command("predict", run, texts)
    assert answers.returncode == 0, answers.stderr
    assert [json.loads(line)["label"] for line in answers.stdout.splitlines()] == ["1", "5"]
