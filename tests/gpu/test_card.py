"""What only a GPU can show: rounding in bfloat16, its memory, and others that use it at the same time."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification, BertConfig, BertModel

import tunesmith
from tests import tiny
from tests.contract.test_engine_methods import HEADS, METHODS, loss_of, make_batch, make_model
from tests.contract.test_steps import logged
from tunesmith.engine import Engine
from tunesmith.training.precision import choose_device
from tunesmith.training.task_trainer import TaskTrainer

pytestmark = pytest.mark.gpu
FAMILIES = ("bert", "roberta", "distilbert", "modernbert", "llama", "qwen2", "deberta-v3")
ROUNDING = 2.0
"""How many times stock's own rounding error the engine may have: one that rounds elsewhere has about as much."""

Folder = Callable[[str], Path]


def gradients(model: Any, batch: dict[str, torch.Tensor], lower: bool) -> torch.Tensor:
    """The loss of a batch and every gradient, end to end."""
    with torch.autocast(choose_device().type, torch.bfloat16, enabled=lower):
        loss = loss_of(model(**batch), batch)
    loss.backward()
    trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
    parts = [loss.detach().float().reshape(1), *(p.grad.float().reshape(-1) for p in trained if p.grad is not None)]
    return torch.cat(parts)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # in peft
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_is_within_stocks_own_rounding(tiny_model_folder: Folder, family: str, head: str, method: str) -> None:
    batch = make_batch(head)
    exact, stock, model = (make_model(tiny_model_folder(family), head, method) for _ in range(3))
    engine = Engine(model, prefix_bytes=10**8)
    wanted = gradients(exact, batch, lower=False)
    own, found = (float((gradients(m, batch, lower=True) - wanted).norm()) for m in (stock, model))
    engine.detach()
    assert 0 < found <= ROUNDING * own


def test_a_run_from_a_gpu_answers_on_a_processor(
    tmp_path: Path, tiny_model_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny.write_rows("classification", tmp_path / "rows.jsonl")
    options: dict[str, Any] = {"method": "full", "epochs": 1, "precision": "float32"}
    run = tunesmith.train(data, model=str(tiny_model_folder("bert")), out=str(tmp_path / "run"), **options)
    there = tunesmith.load(run, precision="float32").predict(tiny.LEARNED)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    here = tunesmith.load(run, precision="float32").predict(tiny.LEARNED)
    assert [answer.label for answer in here] == [answer.label for answer in there]
    for one, other in zip(here, there, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


@pytest.mark.parametrize("method", ["full", "freeze", "lora", "features"])
def test_a_run_gives_its_memory_back(card: torch.device, make_problem: Any, method: str) -> None:
    problem = make_problem(method=method, epochs=1, batch_size=8)
    problem.fit()  # and with it what libraries keep
    gc.collect()
    before = torch.cuda.memory_allocated()
    problem.fit()
    gc.collect()
    assert torch.cuda.memory_allocated() <= before


def losses_and_gradients(model: Any, steps: int = 6) -> list[torch.Tensor]:
    """Of steps on one batch, in bfloat16, each with the same noise."""
    batch, found = make_batch("sequence"), []
    for _ in range(steps):
        model.zero_grad()
        torch.manual_seed(3)
        found.append(gradients(model, batch, lower=True))
    return found


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
def test_layers_that_are_launched_at_once_give_the_same_bits(
    card: torch.device, deterministic: None, tiny_model_folder: Folder, family: str
) -> None:
    """With dropout, whose noise is drawn anew in each launch."""
    config = AutoConfig.from_pretrained(tiny_model_folder(family), num_labels=2)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model_folder(family), config=config).to(card)
    engine = Engine(model.train())
    found = losses_and_gradients(model)
    report = engine.graphs.report()
    engine.detach()
    assert report["state"] == "on" and report["batches_launched"] == 4, report
    assert all(torch.equal(one, found[0]) for one in found)
    torch.manual_seed(4)
    assert not torch.equal(gradients(model, make_batch("sequence"), lower=True), found[0]) or family == "llama"


def test_a_layer_that_asks_the_card_is_not_recorded_and_training_goes_on(
    card: torch.device, tiny_model_folder: Folder
) -> None:
    config = AutoConfig.from_pretrained(tiny_model_folder("bert"), num_labels=2)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model_folder("bert"), config=config).to(card)
    output = model.bert.encoder.layer[1].output
    own = output.forward
    output.forward = lambda states, *given: own(states * (1.0 if float(states.sum()) < 1e9 else 2.0), *given)
    engine = Engine(model.train())
    found = losses_and_gradients(model)
    reason = engine.graphs.why_not()
    engine.detach()
    assert reason is not None and reason.startswith("its layers cannot be recorded")
    torch.testing.assert_close(found[-1], found[0], rtol=2e-2, atol=2e-2)


def large_model(folder: Path) -> Path:
    """A model of which 64 short texts take much more memory than its weights, gradients and moments."""
    made = tiny.tokenizer("input_ids", "attention_mask")
    sizes = {"hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8, "intermediate_size": 8192}
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(made), pad_token_id=made.pad_token_id, max_position_embeddings=128, **sizes)
    BertModel(config).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def test_a_step_that_does_not_fit_is_taken_in_parts(
    card: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_dropout: None
) -> None:
    """The memory that this process may use is cut to what half a batch takes beyond the state of the model."""
    rows = "\n".join(f"{tiny.LEARNED[i % 3]} {'the film was good , ' * 20}{i},{i % 3}" for i in range(160))
    (tmp_path / "rows.csv").write_text(f"text,label\n{rows}\n".replace(" , ", " . "), encoding="utf-8")
    options: dict[str, Any] = {"method": "full", "epochs": 1, "batch_size": 64, "precision": "float32", "lr": 1e-4}
    model = str(large_model(tmp_path / "model"))

    def train(name: str) -> Any:
        torch.cuda.empty_cache()
        return tunesmith.train(tmp_path / "rows.csv", model=model, out=str(tmp_path / name), **options)

    most: list[int] = []
    step = TaskTrainer.training_step

    def watched(self: TaskTrainer, *given: Any) -> torch.Tensor:
        most.append(torch.cuda.memory_allocated())
        torch.cuda.reset_peak_memory_stats()
        loss = step(self, *given)
        most.append(torch.cuda.max_memory_allocated())
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(TaskTrainer, "training_step", watched)
        whole = train("whole")
    state, peak = max(zip(most[::2], most[1::2], strict=True), key=lambda pair: pair[1])
    total = torch.cuda.get_device_properties(card).total_memory
    gc.collect()
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction((state + 0.7 * (peak - state)) / total)
        cut = train("cut")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert cut.record["engine"]["memory"]["state"] == "smaller parts" and "memory" not in whole.record["engine"]
    losses, others = ([line["loss"] for line in logged(run.folder) if "loss" in line] for run in (cut, whole))
    assert len(losses) > 1 and losses == pytest.approx(others, rel=1e-4)


TRAINING = """
import sys, torch, tunesmith
if sys.argv[4] == "cpu":
    torch.cuda.is_available = lambda: False
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
tunesmith.train(sys.argv[1], model=sys.argv[2], out=sys.argv[3], method="full", epochs=1, precision="float32")
"""


def test_two_processes_share_a_gpu(tmp_path: Path, tiny_model_folder: Folder) -> None:
    data, model = tiny.write_rows("classification", tmp_path / "rows.jsonl"), tiny_model_folder("bert")
    command = [sys.executable, "-c", TRAINING, str(data), str(model)]
    processes = [
        subprocess.Popen([*command, str(tmp_path / name), choose_device().type], stderr=subprocess.PIPE, text=True)
        for name in ("one", "two")
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    assert all(np.array_equal(one[name], two[name]) for name in one)
