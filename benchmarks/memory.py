"""Peak memory of training above the loaded model: an XLM-R-base-shaped model with and without the engine.

    python benchmarks/memory.py

Each side is a process of its own that makes the model (random weights, 250,002 rows of 768, 12 layers), notes its
memory and takes four steps of AdamW in bfloat16 on eight random texts of up to 40 of 8,000 token ids. The peak is the
operating system's figure. The result goes to ``results/memory.json``.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import Any

import numpy as np
import torch
from _results import write_result
from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

from tunesmith.engine import Engine

STEPS, ROWS, LONGEST, IDS = 4, 8, 40, 8_000
UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes


def train(with_engine: bool) -> dict[str, int]:
    """Bytes of this process once the model is loaded, and its peak after the steps."""
    config = XLMRobertaConfig(
        vocab_size=250_002, max_position_embeddings=514, type_vocab_size=1, hidden_dropout_prob=0.1, num_labels=10
    )
    model = XLMRobertaForSequenceClassification(config).train()
    loaded = _peak()
    ids = np.arange(3, IDS)
    engine = Engine(model, token_ids=np.concatenate([[0, 1, 2], ids])) if with_engine else None
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    if engine is not None:
        engine.follow(optimizer)
    generator = np.random.default_rng(0)
    for _ in range(STEPS):
        mask = torch.arange(LONGEST) < torch.from_numpy(generator.integers(5, LONGEST + 1, ROWS))[:, None]
        tokens = torch.from_numpy(generator.choice(ids, (ROWS, LONGEST))).masked_fill(~mask, 1)
        labels = torch.from_numpy(generator.integers(0, 10, ROWS))
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=tokens, attention_mask=mask.long(), labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {"loaded": loaded, "peak": _peak()}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT


def main() -> None:
    """Measure both sides."""
    if len(sys.argv) > 1:
        sys.stdout.write(json.dumps(train(sys.argv[1] == "engine")))
        return
    sides: dict[str, Any] = {}
    for side in ("stock", "engine"):
        output = subprocess.run([sys.executable, __file__, side], check=True, capture_output=True, text=True).stdout
        sides[side] = json.loads(output)
    above = {side: values["peak"] - values["loaded"] for side, values in sides.items()}
    result = {
        "megabytes": {side: {k: round(v / 2**20) for k, v in values.items()} for side, values in sides.items()},
        "megabytes_above_the_loaded_model": {side: round(value / 2**20) for side, value in above.items()},
        "share": round(above["engine"] / above["stock"], 3),
    }
    write_result("memory", result)


if __name__ == "__main__":
    main()
