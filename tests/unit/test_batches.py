"""Order, padding and cutting of batches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.engine.layout import cut_by_length
from tunesmith.tasks.batching import PaddingCollator, batches_by_tokens
from tunesmith.training.precision import choose_precision
from tunesmith.training.sampling import EpochSampler, split_by_length, trim_padding

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=9)


@given(LENGTHS, st.integers(0, 100))
def test_no_cut_of_a_batch_is_cheaper(lengths: list[int], part_tokens: int) -> None:
    found = cut_by_length(np.array(lengths), part_tokens)
    assert sorted(itertools.chain(*(part.tolist() for part in found))) == list(range(len(lengths)))
    cost = sum(len(part) * max(lengths[i] for i in part) + part_tokens for part in found)
    ordered = sorted(lengths, reverse=True)
    for borders in itertools.product([False, True], repeat=len(lengths) - 1):
        cuts = [0, *(i + 1 for i, border in enumerate(borders) if border), len(ordered)]
        parts = [ordered[a:b] for a, b in itertools.pairwise(cuts)]
        assert cost <= sum(len(part) * part[0] + part_tokens for part in parts)


@given(LENGTHS)
def test_parts_hold_every_row_once(lengths: list[int]) -> None:
    mask = torch.tensor([[1] * n + [0] * (60 - n) for n in lengths])
    ids = torch.arange(len(lengths)).unsqueeze(1) * mask
    parts = split_by_length({"input_ids": ids, "attention_mask": mask, "labels": torch.arange(len(lengths))})
    assert sorted(label for part in parts for label in part["labels"].tolist()) == list(range(len(lengths)))
    for part in parts:
        assert (part["input_ids"].amax(dim=1) == part["labels"]).all()


def test_a_batch_of_another_shape_stays_whole() -> None:
    batch = {"input_ids": torch.ones(3, 4), "attention_mask": torch.ones(3, 4), "table": torch.ones(7)}
    assert split_by_length(batch)[0] is batch
    assert split_by_length({"pixel_values": torch.ones(2, 3)})[0]["pixel_values"].shape == (2, 3)


@given(LENGTHS, st.integers(1, 200), st.integers(1, 5))
def test_token_budgets_hold_and_lose_nothing(lengths: list[int], tokens: int, rows: int) -> None:
    batches = batches_by_tokens(np.array(lengths), tokens, rows)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= rows
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= tokens


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(range(50), seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3) != order(2, 3)
    assert sorted(order(7, 0)) == list(range(50))


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_is_put_on_and_taken_off(side: str) -> None:
    items = [{"input_ids": [5, 6], "labels": 1}, {"input_ids": [7, 8, 9], "labels": 0}]
    batch = PaddingCollator(0, side)(items)
    assert batch["input_ids"].tolist()[0] == ([5, 6, 0] if side == "right" else [0, 5, 6])
    assert batch["labels"].tolist() == [1, 0]
    extra = torch.zeros(2, 4, dtype=torch.long)
    wide = {
        key: torch.cat([value, extra] if side == "right" else [extra, value], 1) if value.ndim == 2 else value
        for key, value in batch.items()
    }
    trimmed = trim_padding(wide, ["input_ids", "attention_mask"], left=side == "left")
    assert all(torch.equal(trimmed[key], batch[key]) for key in batch)


def test_an_empty_text_still_makes_a_batch() -> None:
    assert PaddingCollator(0)([{"input_ids": []}])["attention_mask"].tolist() == [[0]]


def test_precision_is_what_was_asked_for_or_has_a_reason() -> None:
    assert choose_precision("float32").state == "float32"
    chosen = choose_precision("auto")
    assert chosen.state in ("float32", "bfloat16", "float16") and chosen.reason


@pytest.mark.parametrize(("in_hardware", "state"), [(True, "bfloat16"), (False, "float16")])
def test_on_a_gpu_that_only_emulates_bfloat16_it_is_float16(
    in_hardware: bool, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.training.precision.choose_device", lambda: torch.device("cuda"))
    has = lambda including_emulation=True: in_hardware or including_emulation  # noqa: E731
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", has)
    assert choose_precision("auto").state == state
