"""What the Trainer saves of a model: the files of transformers' own, less the pickle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from tests import tiny
from tests.unit.test_trainer import arguments, bert, rows, trained, with_regulariser
from tunesmith import Trainer


class Bare(nn.Module):
    """A model that does not save itself."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = bert()

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any) -> Any:
        return self.inner(input_ids=input_ids, attention_mask=attention_mask, labels=labels)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("make", [bert, with_regulariser, Bare])
def test_what_is_saved_is_the_stock_trainers_without_a_pickle(
    make: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def saved(kind: Any) -> dict[str, bytes]:
        folder = tmp_path / kind.__module__
        torch.manual_seed(1)
        trainer = kind(make(), arguments(folder, kind), train_dataset=rows(), processing_class=tiny.tokenizer())
        trainer.save_model(str(folder / "saved"))
        return {path.name: path.read_bytes() for path in (folder / "saved").iterdir()}

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a pickle is written")

    stock = saved(transformers.Trainer)
    assert stock.pop("training_args.bin") and "tokenizer.json" in stock
    monkeypatch.setattr(torch, "save", never)
    assert saved(Trainer) == stock
    trained(Trainer, make(), rows(), tmp_path / "run", save_strategy="steps", save_steps=1)
    (weights,) = (name for name in stock if name.endswith(".safetensors"))
    assert (tmp_path / "run" / "checkpoint-2" / weights).is_file()
