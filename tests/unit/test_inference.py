"""Rows as batches, and answers in the order of the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.tasks.base import Head
from tunesmith.tasks.batching import PREDICTED, PaddingCollator
from tunesmith.tasks.encoded import LEARNED, Encoded
from tunesmith.tasks.encoding import IGNORED, EncodedTexts
from tunesmith.training.inference import ON_THE_WAY, _Answers

LENGTHS = st.lists(st.integers(0, 7), min_size=1, max_size=9)


def encoded(lengths: list[int], chunk: int) -> EncodedTexts:
    """Rows of so many tokens in an Arrow table of chunks, each with labels for its tokens."""
    draw = np.random.default_rng(0)
    kind = pa.list_(pa.int32())

    def batch(part: list[int]) -> Any:
        return pa.record_batch({name: pa.array([draw.integers(1, 9, n) for n in part], kind) for name in LEARNED})

    parts = [batch(lengths[i : i + chunk]) for i in range(0, len(lengths), chunk)]
    return EncodedTexts(pa.Table.from_batches(parts), np.array(lengths, dtype=np.int32), None)


def padded(rows: list[np.ndarray], value: int, left: bool) -> list[list[int]]:
    """The plain loop."""
    longest = max(1, *map(len, rows))
    fill = [[value] * (longest - len(row)) for row in rows]
    return [f + row.tolist() if left else row.tolist() + f for f, row in zip(fill, rows, strict=True)]


@given(LENGTHS, st.integers(1, 4), st.sampled_from(["left", "right"]), st.randoms())
def test_rows_taken_together_are_padded_as_one_by_one(lengths: list[int], chunk: int, side: str, random: Any) -> None:
    data = encoded(lengths, chunk)
    rows = np.array(random.sample(range(len(lengths)), random.randint(1, len(lengths))))
    items = [data[int(row)] for row in rows]
    collate, left = PaddingCollator(3, side, "token"), side == "left"
    batch = collate(items)
    for name, value in {"input_ids": 3, "token_type_ids": 0, "labels": IGNORED}.items():
        assert [item[name].tolist() for item in items] == [data.table[name][int(row)].as_py() for row in rows]
        assert batch[name].tolist() == padded([item[name] for item in items], value, left)
    assert batch["attention_mask"].tolist() == padded([np.ones(len(i["input_ids"]), int) for i in items], 0, left)
    assert all(values.dtype == torch.long for values in batch.values())
    together = collate.rows(data, rows)
    assert together.keys() == batch.keys() - {"labels"}
    assert all(torch.equal(together[name], batch[name]) for name in together)
    assert {name: values.tolist() for name, values in data.joined(rows).items()} == {
        name: values.tolist() for name, values in Encoded.joined(data, rows).items()
    }


@pytest.mark.parametrize(
    ("head", "labels"), [("sequence", [1, 2]), ("sequence", [[0.5, 1.5]] * 2), ("question", [[1, 2]] * 2)]
)
def test_labels_of_texts_are_stacked(head: Head, labels: list[Any]) -> None:
    items = [{"input_ids": [5] * n, "labels": np.asarray(label)} for n, label in zip((2, 3), labels, strict=True)]
    found = PaddingCollator(0, "right", head)(items)["labels"]
    assert found.tolist() == labels and found.dtype == torch.from_numpy(np.asarray(labels)).dtype


def test_what_is_predicted_goes_with_masked_words() -> None:
    class Masked(Encoded):
        read, lengths = LEARNED, np.array([2, 1])

        def __getitem__(self, index: int) -> dict[str, Any]:
            return [
                {"input_ids": np.array([5, 6]), "labels": np.array([IGNORED, 7])},
                {"input_ids": np.array([8]), "labels": np.array([9])},
            ][index]

    batch = PaddingCollator(0, "right", "masked").rows(Masked(), np.array([1, 0]))
    assert batch["labels"].tolist() == [[9, IGNORED], [IGNORED, 7]]
    assert batch[PREDICTED].tolist() == [[True, False], [False, True]]


class Arrival:
    """A copy that arrives when it is waited for, as those from a GPU may."""

    def __init__(self, source: torch.Tensor) -> None:
        self.source, self.there = source, torch.full_like(source, torch.nan)

    def synchronize(self) -> None:
        self.there.copy_(self.source)


@pytest.mark.parametrize("on_tokens", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_answers_that_arrive_late_stand_in_the_order_of_the_data(on_tokens: bool, late: bool) -> None:
    lengths = np.array([2, 0, 4, 1, 3, 2, 1], dtype=np.int32)
    values = torch.rand(len(lengths), int(lengths.max()), 3)
    counted: list[int] = []
    answers = _Answers(lengths, on_tokens, counted.append)
    batches = np.array_split(np.argsort(-lengths, kind="stable"), 4)
    for number, rows in enumerate(batches):
        of_batch = values[rows, : max(1, lengths[rows].max())] if on_tokens else values[rows, 0]
        copy: Any = Arrival(of_batch)
        answers.add(rows, copy.there if late else of_batch, copy if late else None)
        assert len(counted) == (max(0, number + 1 - ON_THE_WAY) if late else number + 1)
    wanted = torch.cat([row[:n] for row, n in zip(values, lengths, strict=True)]) if on_tokens else values[:, 0]
    assert np.array_equal(answers.all(), wanted.numpy())
    assert sum(counted) == len(lengths)


def test_no_texts_have_no_answers() -> None:
    assert _Answers(np.empty(0, dtype=np.int32), False, None).all().shape == (0, 0)
