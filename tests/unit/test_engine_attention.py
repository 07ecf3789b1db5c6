"""Packed attention, its layout and its dropout, on batches of random shape against torch's own attention."""

from __future__ import annotations

import types
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.masking_utils import padding_mask_function, sliding_window_bidirectional_mask_function

from tunesmith.engine import kernel
from tunesmith.engine.attention import PackedMask, Rule, attend
from tunesmith.engine.dropout import Noise
from tunesmith.engine.layout import BLOCK, PackedLayout, cut_by_length, recurring
from tunesmith.training.sampling import split_by_length

HEADS, SIZE, CPU = 2, 4, torch.device("cpu")
LENGTHS = st.lists(st.integers(0, 70), min_size=1, max_size=9).filter(any)
"""Tokens of each text of a batch; a text may be empty, but not all of them."""

RULES: dict[str, Rule] = {
    "everything": lambda batch, head, query, key: torch.ones_like(query + key, dtype=torch.bool),
    "causal": lambda batch, head, query, key: key <= query,
    "window": lambda batch, head, query, key: (key - query).abs() <= 5,
}


def mask_of(lengths: list[int], side: str = "right") -> torch.Tensor:
    longest, positions = max(lengths), torch.arange(max(lengths))
    count = torch.tensor(lengths)[:, None]
    return positions < count if side == "right" else positions >= longest - count


def reference(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rule: Rule) -> torch.Tensor:
    """Attention of one text: (heads, length, size)."""
    index = torch.arange(query.shape[1])
    seen = rule(index.new_zeros(()), index.new_zeros(()), index[:, None], index[None, :])
    return scaled_dot_product_attention(query, key, value, seen.expand(len(index), len(index)))


@pytest.mark.parametrize("rule", RULES)
@given(lengths=LENGTHS, seed=st.integers(0, 99))
@example(lengths=[1], seed=0)
@example(lengths=[1, 1, 1, 1], seed=0)
@example(lengths=[16, 16, 16], seed=0)
@example(lengths=[700, 2, 0, 3, 1], seed=0)
@settings(max_examples=40)
def test_each_text_attends_to_itself_alone(rule: str, lengths: list[int], seed: int) -> None:
    layout = PackedLayout(mask_of(lengths))
    draw = torch.Generator().manual_seed(seed)
    shape = (1, HEADS, layout.tokens, SIZE)
    inputs = [torch.randn(shape, generator=draw, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    mask = PackedMask(layout, RULES[rule], None)
    found, _ = attend(nn.Module(), *inputs, mask)
    ends = np.cumsum(layout.lengths)
    pieces = [
        reference(*(x[0, :, end - length : end] for x in inputs), RULES[rule])
        for end, length in zip(ends, layout.lengths, strict=True)
    ]
    wanted = torch.cat(pieces, dim=1).transpose(0, 1)[None]
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    weights = torch.randn(found.shape, generator=draw, dtype=torch.float64)
    gradients = torch.autograd.grad((found * weights).sum(), inputs)
    for one, other in zip(gradients, torch.autograd.grad((wanted * weights).sum(), inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rule", RULES)
@given(lengths=LENGTHS, seed=st.integers(0, 99))
@example(lengths=[1], seed=0)
@example(lengths=[30] * 9, seed=0)
@settings(max_examples=40)
def test_filler_takes_no_part(rule: str, lengths: list[int], seed: int) -> None:
    """The same outputs and gradients for real tokens, and none for filler, whatever stands there."""
    exact, filled = PackedLayout(mask_of(lengths)), PackedLayout(mask_of(lengths), filled=True)
    tokens, draw = exact.tokens, torch.Generator().manual_seed(seed)
    shape = (1, HEADS, tokens + filled.filler, SIZE)
    assert shape[2] == recurring(tokens, 16, 8) and torch.equal(filled.positions[:, :tokens], exact.positions)
    inputs = [torch.randn(shape, generator=draw, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    weights = torch.randn(1, tokens, HEADS, SIZE, generator=draw, dtype=torch.float64)
    outputs, gradients = [], []
    for layout, given_to in ((exact, [x[:, :, :tokens] for x in inputs]), (filled, inputs)):
        out, _ = attend(nn.Module(), *given_to, PackedMask(layout, RULES[rule], None))
        outputs.append(out[:, :tokens])
        gradients.append(torch.autograd.grad((out[:, :tokens] * weights).sum(), inputs))
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
        assert not other[:, :, tokens:].any()


@given(size=st.integers(1, 10**6), an_octave=st.sampled_from([1, 4, 16]), at_least=st.sampled_from([1, 8]))
def test_sizes_recur(size: int, an_octave: int, at_least: int) -> None:
    found = recurring(size, an_octave, at_least)
    assert found % at_least == 0 and 0 <= found - size < max(at_least, size / an_octave)
    assert recurring(found, an_octave, at_least) == found
    octave = {recurring(n, an_octave, at_least) for n in range(512, 1024)}
    assert len(octave) <= an_octave + 1


@pytest.mark.parametrize("filled", [False, True])
@given(lengths=LENGTHS, side=st.sampled_from(["left", "right"]), hole=st.integers(0, 200))
def test_unpacking_undoes_packing(filled: bool, lengths: list[int], side: str, hole: int) -> None:
    mask = mask_of(lengths, side)
    real = np.flatnonzero(mask.reshape(-1))
    if len(real) > 1:  # a mask may have holes, too
        mask.view(-1)[real[hole % len(real)]] = False
    padded = torch.randn(*mask.shape, 3).masked_fill(~mask[..., None], 0)
    layout = PackedLayout(mask, filled)
    packed = layout.pack(padded)
    assert packed.shape == (1, int(mask.sum()) + layout.filler, 3)
    assert torch.equal(packed[0, layout.tokens :], packed[0, :1].expand(layout.filler, 3))
    assert torch.equal(layout.unpack(packed), padded)
    assert layout.lengths.tolist() == sorted((n for n in mask.sum(dim=1).tolist() if n), reverse=True)
    columns = torch.arange(mask.shape[1]).expand(mask.shape)
    assert torch.equal(layout.unpack(layout.positions[..., None])[..., 0], columns.masked_fill(~mask, 0))
    assert layout.contiguous == all("01" not in "".join(map(str, row)).lstrip("0") for row in mask.int().tolist())


@given(lengths=LENGTHS, tokens=st.lists(st.integers(1, 9), min_size=70, max_size=70))
def test_a_texts_key_depends_on_its_own_tokens_alone(lengths: list[int], tokens: list[int]) -> None:
    mask = mask_of(lengths)
    ids = torch.tensor(tokens)[: mask.shape[1]].expand(mask.shape).masked_fill(~mask, 0)
    keys = PackedLayout(mask, filled=True).keys(ids, None)
    alone = {n: PackedLayout(torch.ones(1, n)).keys(ids[[lengths.index(n)], :n])[0] for n in lengths if n}
    assert keys == [alone[n] for n in sorted(alone, reverse=True) for _ in range(lengths.count(n))]
    assert len(set(keys)) == len(alone)
    if len(alone) > 1:
        shifted = PackedLayout(mask.flip(1)).keys(ids.flip(1), None)
        assert shifted[-1] not in keys, "padding on the left moves positions"


def test_a_hole_in_a_text_makes_another_key() -> None:
    ids, mask = torch.tensor([[5, 6, 7]]), torch.tensor([[1, 0, 1]])
    assert PackedLayout(mask).keys(ids) != PackedLayout(torch.ones(1, 2)).keys(ids[:, [0, 2]])


@given(lengths=LENGTHS, part=st.integers(1, 200))
def test_batches_cut_by_length_lose_no_row_and_cost_no_more_than_whole_ones(lengths: list[int], part: int) -> None:
    counts = np.array(lengths)
    parts = cut_by_length(counts, part)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(lengths)))
    cost = sum(len(rows) * counts[rows].max() + part for rows in parts)
    assert cost <= min(len(lengths) * counts.max() + part, counts.sum() + part * len(lengths))
    batch = {"attention_mask": mask_of(lengths), "labels": torch.arange(len(lengths))}
    pieces = split_by_length(batch)
    assert sorted(torch.cat([piece["labels"] for piece in pieces]).tolist()) == list(range(len(lengths)))


@given(
    p=st.sampled_from([0.1, 0.25, 0.5, 0.9]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 9),
)
def test_dropout_keeps_the_right_share_and_the_mean(p: float, dtype: torch.dtype, seed: int) -> None:
    torch.manual_seed(seed)
    mask = Noise().mask(torch.Size((40_000,)), p, dtype)
    values = sorted(set(mask.tolist()))
    assert values == [0.0, torch.tensor(1 / (1 - p), dtype=dtype).item()]
    spread = 6 * (p * (1 - p) / len(mask)) ** 0.5
    assert abs(float((mask == 0).double().mean()) - p) < spread
    torch.manual_seed(seed)
    assert torch.equal(Noise().mask(torch.Size((40_000,)), p, dtype), mask), "the seed decides"


@pytest.mark.parametrize(
    ("seen", "window"),
    [
        (torch.ones(6, 6), (-1, -1)),
        (torch.ones(6, 6).tril(), (-1, 0)),
        (torch.ones(6, 6).tril(2).triu(-2), (2, 2)),
        (torch.ones(6, 6).tril().triu(-3), (3, 0)),
        (torch.eye(6), (0, 0)),
        (torch.ones(1, 1), (-1, -1)),
        (torch.ones(6, 6).tril().index_fill(0, torch.tensor([4]), 0), None),  # a rule of its own
        (torch.ones(6, 6).tril(-1), None),
        (torch.zeros(6, 6), None),
    ],
)
def test_a_rule_is_recognised_as_a_window(seen: torch.Tensor, window: tuple[int, int] | None) -> None:
    assert kernel.window_of(seen.bool()) == window


def documented(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    boundaries: torch.Tensor,
    longest: int,
    scale: float,
    window: tuple[int, int],
    dropout: float,
) -> torch.Tensor:
    """What the kernels, which need a GPU, are told to compute."""
    assert boundaries.dtype == torch.int32 and not longest % BLOCK and longest >= int(boundaries.diff().max())
    parts = []
    for start, end in zip(boundaries[:-1].tolist(), boundaries[1:].tolist(), strict=True):
        index = torch.arange(end - start)
        distance = index[:, None] - index[None, :]
        left, right = (longest if side < 0 else side for side in window)
        rows = (x[None, start:end].transpose(1, 2) for x in (q, k, v))
        seen = (distance <= left) & (distance >= -right)
        parts.append(scaled_dot_product_attention(*rows, seen, scale=scale, enable_gqa=True)[0].transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shared", [1, 2])
@pytest.mark.parametrize("filled", [False, True])
def test_a_kernel_gets_what_the_products_get(
    rule: str, shared: int, filled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = PackedLayout(mask_of([9, 33, 0, 1, 9]), filled)
    tokens = layout.tokens + layout.filler
    draw = torch.Generator().manual_seed(0)
    query, *others = (torch.randn(1, heads, tokens, SIZE, generator=draw).double() for heads in (2, 2, 2))
    key, value = (x[:, ::shared] for x in others)
    mask = PackedMask(layout, RULES[rule], None)
    wanted, _ = attend(nn.Module(), query, key, value, mask, scaling=0.3)
    monkeypatch.setattr(kernel, "choose", lambda *_: documented)
    found, _ = attend(nn.Module(), query, key, value, mask, scaling=0.3)
    real = slice(layout.tokens)
    torch.testing.assert_close(found[:, real], wanted[:, real], rtol=1e-9, atol=1e-9)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize(
    ("dtype", "size", "capability", "window", "wanted"),
    [
        (torch.bfloat16, 64, (8, 0), (-1, -1), kernel.flash),
        (torch.float16, 64, (9, 0), (64, 64), kernel.flash),
        (torch.float32, 64, (9, 0), (-1, 0), kernel.efficient),
        (torch.float16, 64, (7, 5), (-1, 0), kernel.efficient),
        (torch.bfloat16, 256, (8, 0), (-1, -1), kernel.efficient),
        (torch.bfloat16, 64, (7, 5), (-1, -1), None),
        (torch.float32, 64, (9, 0), (64, 64), None),
        (torch.float32, 64, (9, 0), None, None),
        (torch.float64, 64, (6, 0), (-1, -1), None),
        (torch.bfloat16, 12, (8, 0), (-1, -1), None),
    ],
)
def test_the_kernel_is_one_that_the_card_has(
    monkeypatch: pytest.MonkeyPatch, dtype: Any, size: int, capability: Any, window: Any, wanted: Any
) -> None:
    there: Any = SimpleNamespace(device=torch.device("cuda"), dtype=dtype, shape=(1, 2, 3, size))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    mask = SimpleNamespace(window=window)
    assert kernel.choose(there, there, mask) is wanted
    assert kernel.choose(torch.zeros(1, 2, 3, 64), torch.zeros(1, 2, 3, 64), mask) is None


def test_a_rule_of_numbers_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    table = kernel.table_of
    monkeypatch.setattr(kernel, "table_of", lambda *given: looked.append(1) or table(*given))
    monkeypatch.setattr(kernel, "_windows", {})
    window, of = partial(kernel.window_of_rule, width=128, device=CPU), sliding_window_bidirectional_mask_function
    assert [window(of(n)) for n in (3, 3, 4, 3)] == [(3, 3), (3, 3), (4, 4), (3, 3)]
    assert len(looked) == 2
    near = lambda batch, head, query, key, far=3: (query - key).abs() <= far  # noqa: E731
    wider = types.FunctionType(near.__code__, globals(), argdefs=(5,))
    assert [window(near), window(wider)] == [(3, 3), (5, 5)], "what it is called with by default counts"
    held = torch.ones(1, 128, dtype=torch.bool)
    rule = padding_mask_function(held)
    assert window(rule) == (-1, -1)
    held[0, 3] = False
    assert window(rule) is None, "what a rule of tensors says may change"
