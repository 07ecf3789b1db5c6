"""The command `serve` in processes of its own: what it prints, how it ends, and when it does not begin."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tunesmith.resources import threads

Train = Callable[[str], Path]
Process = subprocess.Popen[str]


def start(*arguments: object) -> Process:
    command = [sys.executable, "-m", "tunesmith", "serve", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_several_workers_answer_and_stop_together(trained: Train) -> None:
    process = start(trained("classification"), "--port", "0", "--workers", "2", "--json")
    assert process.stdout
    address = json.loads(process.stdout.readline())["address"]
    for _ in range(10):
        assert httpx.post(f"{address}/predict", json={"input": "good cat"}).status_code == 200
    assert "tunesmith_texts_total 10.0" in httpx.get(f"{address}/metrics").text
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 2
    for child in children:
        assert f"OMP_NUM_THREADS={threads(2)}\0".encode() in Path(f"/proc/{child}/environ").read_bytes()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")
    assert not any(os.path.exists(f"/proc/{child}") for child in children)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_cannot_be_loaded_is_never_served(workers: int, trained: Train, tmp_path: Path) -> None:
    run = shutil.copytree(trained("classification"), tmp_path / "run")
    weights = run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = start(run, "--port", port, "--workers", workers, "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 4 and "model" in err and json.loads(out)["exit_code"] == 4
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/livez")


def test_a_taken_port_is_told_before_a_model_is_loaded(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = start(tmp_path / "no-run", "--port", taken.getsockname()[1])
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and "in use" in err
