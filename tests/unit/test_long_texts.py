"""Texts longer than the model, for classification: what is read of them, and how windows become one answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from transformers import AutoTokenizer

import tunesmith
from tunesmith.data.records import Records, TextRecord, text_records
from tunesmith.errors import UsageError
from tunesmith.methods.features import STRENGTHS
from tunesmith.progress import Progress
from tunesmith.tasks.base import LabelSpace
from tunesmith.tasks.classification import Classification, Regression
from tunesmith.tasks.encoding import Encoder, Truncation, Window, choose_max_length

WORDS = ["film", "book", "card", "bank", "money", "late", "lost", "new", "old", "fast", "cat"]
SPACE = LabelSpace(("x", "y"))


def labelled(texts: list[str], labels: list[str]) -> Records:
    rows = range(1, len(texts) + 1)
    columns = {"id": [str(row) for row in rows], "text": texts, "label": labels, "row": pa.array(rows, pa.int64())}
    return Records(pa.table(columns), "made")


@pytest.mark.parametrize("words", [1, 14, 15, 200])
def test_the_ends_are_kept(words: int, tiny_model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder("bert"))
    text = " ".join(WORDS[i % 11] for i in range(words))
    records = text_records([text, "cat"], "made")
    features = Encoder(tokenizer, Truncation(16, "keep-ends"), tmp_path / "f.arrow").texts(records, None)
    ids, all_ids = features[0]["input_ids"].tolist(), tokenizer(text, verbose=False)["input_ids"]
    assert ids == (all_ids if words <= 14 else all_ids[:4] + all_ids[-12:])
    assert features[1]["input_ids"].tolist() == tokenizer("cat")["input_ids"]
    assert (features.truncated, features.lost_tokens) == ((0, 0) if words <= 14 else (1, len(all_ids) - 16))


def test_the_end_of_a_very_long_text_is_its_end(tiny_model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Characters between the ends are dropped before tokenising, which must not change what is kept."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder("bert"))
    text = " ".join(WORDS[i % 11] for i in range(5_000))
    features = Encoder(tokenizer, Truncation(16, "keep-ends"), tmp_path / "f.arrow").texts(
        text_records([text], "made"), None
    )
    all_ids = tokenizer(text, verbose=False)["input_ids"]
    assert features[0]["input_ids"].tolist() == all_ids[:4] + all_ids[-12:]


def test_the_length_is_that_of_the_texts_but_no_less_than_others_may_have(
    tiny_model_folder: Callable[[str], Path],
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder("bert"))
    short, long = (text_records([" ".join(WORDS * times)] * 3, "made") for times in (1, 20))
    assert [choose_max_length(short, tokenizer, limit, "auto") for limit in (64, 512)] == [64, 128]
    assert [choose_max_length(long, tokenizer, limit, "auto") for limit in (64, 512)] == [64, 222]
    assert choose_max_length(short, tokenizer, 512, 16) == 16


@pytest.mark.parametrize("pair", [False, True])
def test_what_a_very_long_text_loses_is_told_of_all_of_it(
    pair: bool, tiny_model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder("bert"))
    text = " ".join(WORDS[i % 11] for i in range(20_000))
    texts: list[Any] = [("cat", text), ("cat", "new")] if pair else [text, "cat"]
    encoder = Encoder(tokenizer, Truncation(16), tmp_path / "f.arrow")
    features = encoder.texts(text_records(texts, "made"), None)
    lost = len(tokenizer(*texts[0] if pair else [text], verbose=False)["input_ids"]) - 16
    assert features.truncated == 1 and features.lost_tokens == pytest.approx(lost, rel=0.05)
    assert f"1 of 2 training texts are cut and lose about {features.lost_tokens} of " in features.fit_text()


def test_windows_hold_every_token_once_and_learn_the_label(
    tiny_model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder("bert"))
    text = " ".join(WORDS[i % 11] for i in range(40))
    records = labelled([text, "cat", ""], ["y", "x", "y"])
    features = Classification().encode(
        records, SPACE, Encoder(tokenizer, Truncation(16, "windows"), tmp_path / "f.arrow"), True
    )
    assert features.record_of is not None and features.record_of.tolist() == [0, 0, 0, 1, 2]
    assert features.targets is not None and features.targets.tolist() == [1, 1, 1, 0, 1]
    assert features.gold.tolist() == [1, 0, 1]
    special = set(tokenizer.all_special_ids)
    read = [i for row in range(3) for i in features[row]["input_ids"].tolist() if i not in special]
    assert read == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_the_logits_of_a_text_are_the_mean_of_its_windows(
    tiny_model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder("bert"))
    records = text_records([" ".join(WORDS * 3), "cat"], "made")
    features = Regression().encode(
        records, LabelSpace(("value",)), Encoder(tokenizer, Truncation(16, "windows"), tmp_path / "f.arrow"), False
    )
    assert len(features) == 4
    logits = np.array([[3.0], [6.0], [0.0], [7.0]], dtype=np.float32)
    assert Regression().outputs(logits, features, LabelSpace(("value",))).tolist() == [[3.0], [7.0]]


@pytest.mark.parametrize(("long", "enough"), [("windows", True), ("keep-ends", True), ("keep-start", False)])
def test_what_stands_at_the_end_of_a_text_counts(
    long: str, enough: bool, tmp_path: Path, tiny_model_folder: Callable[[str], Path]
) -> None:
    draw = np.random.default_rng(0)
    rows = ["text,label"]
    for row in range(120):
        words = [str(word) for word in draw.choice(WORDS, 24)]
        rows.append(f"{' '.join(words)} {('good', 'bad')[row % 2]},{'xy'[row % 2]}")
    data = tmp_path / "a.csv"
    data.write_text("\n".join(rows), encoding="utf-8")
    run = tunesmith.train(
        data, model=str(tiny_model_folder("bert")), method="full", long=long, max_length=16, epochs=8, batch_size=8,
        lr=5e-3, head_lr=1e-2, precision="float32", out=str(tmp_path / "run"), progress=Progress(quiet=True),
    )  # fmt: skip
    score = run.metrics["test"]["accuracy"]
    assert score.n == 12
    assert (score.value > 0.8) is enough
    predictor = tunesmith.load(run)
    answers = predictor.predict([" ".join(WORDS * 2) + " good", " ".join(WORDS * 2) + " bad"])
    assert ([answer.label for answer in answers] == ["x", "y"]) is enough


def test_a_length_beyond_the_model_is_told(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data, model = tmp_path / "a.csv", str(tiny_model_folder("bert"))
    data.write_text("\n".join(["text,label", *(f"cat {i},{'xy'[i % 2]}" for i in range(40))]), encoding="utf-8")
    for length, told in ((99_999, True), (16, False)):
        out = str(tmp_path / f"{length}")
        run = tunesmith.train(data, model=model, method="features", max_length=length, out=out)
        read = run.content.config.training.max_length
        said = f"note: training.max_length={length}: model {model} reads {read} tokens"
        assert (said in capsys.readouterr().err) is told


def test_windows_of_one_text_do_not_vouch_for_each_other(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path]
) -> None:
    """Labels that follow from nothing want the strongest regularisation, however alike the windows of a text are."""
    draw = np.random.default_rng(0)
    rows = ["text,label"]
    for row in range(90):
        words = " ".join(str(word) for word in draw.choice(WORDS, 14))
        rows.append(f"{' '.join([words] * 6)},{'xy'[row % 2]}")
    data = tmp_path / "a.csv"
    data.write_text("\n".join(rows), encoding="utf-8")
    run = tunesmith.train(
        data, model=str(tiny_model_folder("bert")), method="features", long="windows", max_length=16,
        out=str(tmp_path / "run"), progress=Progress(quiet=True),
    )  # fmt: skip
    assert run.record["best"]["inverse_regularisation"] == min(STRENGTHS)


def test_what_cannot_be_is_refused(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    data = tmp_path / "a.csv"
    data.write_text(
        "\n".join(["text,text_pair,label", *(f"cat {i},dog,{'xy'[i % 2]}" for i in range(40))]), encoding="utf-8"
    )
    options = {"model": str(tiny_model_folder("bert")), "out": str(tmp_path / "run"), "progress": Progress(quiet=True)}
    with pytest.raises(UsageError, match=r"long='keep-ends': not defined for pairs of texts"):
        tunesmith.train(data, long="keep-ends", **options)
    with pytest.raises(UsageError, match=r"`long`: .*keep-start"):
        tunesmith.train(data, long="middle", **options)


@pytest.mark.parametrize("pairs", [False, True])
def test_any_length_is_read_or_refused(pairs: bool, tiny_model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    tokenizer, text = AutoTokenizer.from_pretrained(tiny_model_folder("bert")), "film book card bank money late"
    records = text_records([(text, text) if pairs else text], "made")
    special, read = tokenizer.num_special_tokens_to_add(pair=pairs), []
    for length in range(2, 20):
        first = length // 2 if pairs else 0
        if length - first - special < 1:
            with pytest.raises(UsageError, match=f"training.max_length={length}: .* no room"):
                Encoder(tokenizer, Truncation(length), tmp_path / "f.arrow").windows(records, _no_columns, None)
        else:
            read.append(
                Encoder(tokenizer, Truncation(length), tmp_path / "f.arrow").windows(records, _no_columns, None)
            )
            assert read[-1].lengths.max() <= length
    assert len(read) > 10


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_the_first_of_two_texts_is_cut_only_where_both_do_not_fit(
    family: str, tiny_model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder(family))
    long, short = " ".join(WORDS * 3), "late cat"
    records = text_records([(long, short), (short, long), (long, long)], "made")
    whole = [tokenizer(first, second, verbose=False)["input_ids"] for first, second in [(long, short), (short, long)]]
    length = len(whole[0])
    fits = Encoder(tokenizer, Truncation(length), tmp_path / "f.arrow").windows(records, None, None)
    assert fits.record_of is not None and fits.record_of[:3].tolist() == [0, 1, 2]
    assert [fits[row]["input_ids"].tolist() for row in (0, 1)] == whole
    tight = Encoder(tokenizer, Truncation(length - 2), tmp_path / "g.arrow").windows(records, None, None)
    assert tight.record_of is not None and tight.record_of[:2].tolist() == [0, 1] and tight.lengths[0] == length - 2
    assert tight[0]["input_ids"].tolist()[-4:] == whole[0][-4:], "the second text is whole"


def _no_columns(record: TextRecord, windows: list[Window]) -> list[dict[str, np.ndarray]]:
    return [{} for _ in windows]
