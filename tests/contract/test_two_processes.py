"""Two processes take the same steps as one, also right after an evaluation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = """
import json, os, sys, torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification
from tunesmith import Trainer, TrainingArguments

torch.manual_seed(0)
sizes = dict(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
model = BertForSequenceClassification(
    BertConfig(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=2)
)
draw = torch.Generator().manual_seed(1)
rows = [{"input_ids": torch.randint(1, 50, (12,), generator=draw).tolist(), "labels": i % 2} for i in range(16)]
data = Dataset.from_list([{**row, "attention_mask": [1] * 12} for row in rows])
arguments = TrainingArguments(
    sys.argv[1], per_device_train_batch_size=8 // int(os.environ.get("WORLD_SIZE", 1)), num_train_epochs=2,
    learning_rate=0.1, optim="sgd", max_grad_norm=0, use_cpu=True, save_strategy="no", logging_steps=1,
    eval_strategy="steps", eval_steps=1, disable_tqdm=True,
)
trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data)
trainer.train()
if int(os.environ.get("RANK", 0)) == 0:
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    with open(sys.argv[2], "w") as file:
        json.dump([losses, [p.detach().double().norm().item() for p in model.parameters()]], file)
"""


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    found = []
    for processes, prefix in ((1, []), (2, launch)):
        result = tmp_path / f"{processes}.json"
        command = [sys.executable, *prefix, str(script), str(tmp_path / f"out{processes}"), str(result)]
        output = subprocess.run(command, capture_output=True, text=True, timeout=180)
        assert result.exists(), output.stderr
        found.append(json.loads(result.read_text()))
    assert len(found[0][0]) == 4
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-9)  # key biases have no gradient but rounding
