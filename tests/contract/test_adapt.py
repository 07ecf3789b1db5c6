"""Adapting to a domain: masks, blocks, losses at the predicted tokens, perplexity, resumed runs, the model folder."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

import tunesmith
from tunesmith.adapting import AdaptedModel
from tunesmith.config import DataSettings, SourceSettings
from tunesmith.data.texts import read_texts
from tunesmith.errors import DataError, Interrupted, ModelError, UsageError
from tunesmith.models.heads import head_parameter_names
from tunesmith.models.loading import find_source, load_tokenizer
from tunesmith.models.masked import PREDICTED, head_at_predicted, load_masked
from tunesmith.tasks.losses import IGNORED, MaskedCrossEntropy
from tunesmith.tasks.masking import Blocks, Vocabulary, mask_words, tokenise
from tunesmith.training import masked
from tunesmith.training.progress import Stages
from tunesmith.training.trainer import Trainer

Folder = Callable[[str], Path]
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 4, "precision": "float32", "max_length": 32, "lr": 5e-3}
WORDS = ["good", "bad", "great", "film", "book", "card", "bank", "money", "late", "lost", "new", "old"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Texts in which each word is followed by the one after it in `WORDS`, with a number of their own."""
    draw = np.random.default_rng(0)
    starts = draw.integers(len(WORDS), size=60)
    lines = [" ".join([*(WORDS[(s + i) % len(WORDS)] for i in range(10)), str(n)]) for n, s in enumerate(starts)]
    (tmp_path / "corpus.txt").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "corpus.txt"


def adapt(texts: Path, out: Path, model: Path, **options: Any) -> AdaptedModel:
    given = QUICK | {"model": str(model), "out": str(out)} | options
    return tunesmith.adapt(texts, stages=Stages(quiet=True), **given)


@pytest.fixture(scope="module")
def trained_head(tiny_model_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a masked-language head."""
    source = find_source(SourceSettings(name=str(tiny_model_folder("bert"))))
    tokenizer = load_tokenizer(source)
    model, _ = load_masked(source, tokenizer, 0)
    folder = tmp_path_factory.mktemp("with-head")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    yield folder


# ---- masks and blocks -----------------------------------------------------------------------------------------------

VOCABULARY = Vocabulary(4, np.arange(5), np.arange(5, 100), np.array([2]), np.array([3]))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=60), st.integers(0, 2**32 - 1))
def test_words_are_masked_whole_and_in_the_wanted_share(sizes: list[int], seed: int) -> None:
    begins = np.concatenate([np.arange(size) == 0 for size in sizes])
    ids = np.random.default_rng(seed).integers(5, 100, len(begins))
    inputs, labels = mask_words(ids, begins, VOCABULARY, 0.15, np.random.default_rng(seed))
    word = np.cumsum(begins)
    chosen = labels != IGNORED
    assert all(len(set(chosen[word == w])) == 1 for w in np.unique(word))
    assert (labels[chosen] == ids[chosen]).all() and (inputs[~chosen] == ids[~chosen]).all()
    assert chosen.any() and abs(chosen.sum() - 0.15 * len(ids)) <= max(sizes)


def test_of_the_predicted_tokens_80_percent_are_masked_and_10_are_random() -> None:
    ids = np.full(100_000, 50)
    inputs, labels = mask_words(ids, np.ones(len(ids), dtype=bool), VOCABULARY, 0.15, np.random.default_rng(0))
    chosen = labels != IGNORED
    assert chosen.mean() == pytest.approx(0.15, abs=1e-4)
    assert (inputs[chosen] == 4).mean() == pytest.approx(0.8, abs=0.02)
    assert (inputs[chosen] == 50).mean() == pytest.approx(0.1, abs=0.02)
    assert not np.isin(inputs[chosen], [0, 1, 2, 3]).any()


def test_special_tokens_are_never_predicted() -> None:
    ids = np.array([1, 3, 3, 1, 4])
    inputs, labels = mask_words(ids, np.ones(5, dtype=bool), VOCABULARY, 0.9, np.random.default_rng(0))
    assert (labels == IGNORED).all() and (inputs == ids).all()


def blocks_of(texts: list[str], tokenizer: Any, folder: Path, length: int, share: float = 0.15) -> Blocks:
    vocabulary = Vocabulary.of(tokenizer, "tiny")
    stream = tokenise(pa.array(texts, pa.large_string()), tokenizer, vocabulary, folder / "s", lambda done: None)
    return Blocks(stream, vocabulary, length, share, 7)


def test_blocks_hold_every_token_once_and_in_order(tiny_tokenizer: Any, tmp_path: Path) -> None:
    texts = ["my card is lost", "good", "unknownword and more", "the bank was late again"]
    blocks = blocks_of(texts, tiny_tokenizer, tmp_path, 8)
    rows = [blocks[i] for i in range(len(blocks))]
    found = np.concatenate([np.where(r["labels"] == IGNORED, r["input_ids"], r["labels"])[1:-1] for r in rows])
    separator = [tiny_tokenizer.sep_token_id]
    expected: list[int] = []
    for i, text in enumerate(texts):
        expected += (separator if i else []) + tiny_tokenizer(text, add_special_tokens=False)["input_ids"]
    assert found.tolist() == expected
    assert [len(r["input_ids"]) for r in rows[:-1]] == [8] * (len(rows) - 1) and len(rows) > 2
    assert {(int(r["input_ids"][0]), int(r["input_ids"][-1])) for r in rows} == {
        (tiny_tokenizer.cls_token_id, tiny_tokenizer.sep_token_id)
    }


def test_pieces_of_a_word_belong_together(tiny_tokenizer: Any, tmp_path: Path) -> None:
    stream = blocks_of(["my zebra card", "zebra"], tiny_tokenizer, tmp_path, 32).stream
    tokens = tiny_tokenizer.convert_ids_to_tokens(stream.ids.tolist())
    assert [t.startswith("##") for t in tokens] == [not begin for begin in stream.begins]


def test_masks_depend_on_seed_phase_epoch_and_row_alone(tiny_tokenizer: Any, tmp_path: Path) -> None:
    blocks = blocks_of([" ".join(WORDS * 4)], tiny_tokenizer, tmp_path, 64)

    def labels(phase: str, epoch: int) -> list[int]:
        blocks.begin(phase, epoch)
        return blocks[0]["labels"].tolist()  # type: ignore[no-any-return]

    first = labels("step", 0)
    assert labels("step", 1) != first and labels("head", 0) != first
    assert labels("step", 0) == first


# ---- the head at the predicted tokens --------------------------------------------------------------------------------

ENCODERS = ["bert", "roberta", "distilbert", "electra", "albert", "modernbert", "mpnet", "deberta-v2", "deberta-v3"]


@pytest.mark.parametrize("family", ENCODERS)
def test_the_loss_at_the_predicted_tokens_is_the_models_own(family: str, tiny_model_folder: Folder) -> None:
    source = find_source(SourceSettings(name=str(tiny_model_folder(family))))
    model, fresh = load_masked(source, load_tokenizer(source), 0)
    model.eval()
    ids = torch.arange(5, 45).reshape(2, 20)
    labels = torch.where(ids % 7 == 0, ids, IGNORED)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    own = model(**inputs, labels=labels)
    own.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    with head_at_predicted(model) as spared:
        logits = model(**inputs, **{PREDICTED: labels != IGNORED}).logits
        loss = MaskedCrossEntropy()
        ours = loss.total(logits, labels) / loss.weight(labels)
        ours.backward()
    assert fresh and spared and logits.shape[:2] == (1, int((labels != IGNORED).sum()))
    assert ours.item() == pytest.approx(own.loss.item(), abs=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(dict(model.named_parameters())[name].grad, gradient, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model(**inputs).logits, own.logits)  # the hooks are gone


def test_a_head_that_mixes_tokens_is_computed_whole(tiny_model_folder: Folder) -> None:
    source = find_source(SourceSettings(name=str(tiny_model_folder("bert"))))
    model, _ = load_masked(source, load_tokenizer(source), 0)
    model.cls.register_forward_pre_hook(lambda module, args: (args[0] - args[0].mean(dim=1, keepdim=True),))
    model.eval()
    ids = torch.arange(5, 25).reshape(1, 20)
    labels = torch.where(ids % 7 == 0, ids, IGNORED)
    expected = model(input_ids=ids, labels=labels).loss.item()
    with head_at_predicted(model) as spared:
        logits = model(input_ids=ids, **{PREDICTED: labels != IGNORED}).logits
    loss = MaskedCrossEntropy()
    assert not spared and logits.shape[:2] == ids.shape
    assert (loss.total(logits, labels) / loss.weight(labels)).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_decoders_are_refused(family: str, corpus: Path, tmp_path: Path, tiny_model_folder: Folder) -> None:
    with pytest.raises(ModelError, match="no masked-language head"):
        adapt(corpus, tmp_path / "out", tiny_model_folder(family))
    assert not (tmp_path / "out").exists()


# ---- the whole path --------------------------------------------------------------------------------------------------


def test_perplexity_falls_and_the_folder_loads_and_trains(corpus: Path, tmp_path: Path, trained_head: Path) -> None:
    adapted = adapt(corpus, tmp_path / "out", trained_head, epochs=12)
    record = json.loads((adapted.folder / "adapt.json").read_text())
    assert record["status"] == "done" and not record["model"]["fresh_head"] and set(record["steps"]) == {"step"}
    assert adapted.perplexity["after"].high < adapted.perplexity["before"].low
    assert record["perplexity_after_warmup"] is None
    assert not (adapted.folder / "checkpoints").exists() and not (adapted.folder / ".work").exists()
    for kind in (AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification):
        kind.from_pretrained(adapted.folder)
    _, info = AutoModelForMaskedLM.from_pretrained(adapted.folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert AutoTokenizer.from_pretrained(adapted.folder).mask_token
    data = tmp_path / "data.csv"
    with data.open("w", newline="", encoding="utf-8") as file:
        rows = [(f"{WORDS[i % 2]} film {i}", WORDS[i % 2]) for i in range(40)]
        csv.writer(file).writerows([("text", "label"), *rows])
    options = {"method": "features", "out": str(tmp_path / "run"), "stages": Stages(quiet=True)}
    run = tunesmith.train(data, model=str(adapted.folder), **options)
    assert run.record["status"] == "done"


def test_a_fresh_head_is_warmed_up_before_the_body_moves(
    corpus: Path, tmp_path: Path, tiny_model_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_model_folder("bert")
    before = load_file(source / "model.safetensors")
    seen: list[dict[str, torch.Tensor]] = []
    measure = masked.perplexity

    def watched(model: Any, *rest: Any) -> Any:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return measure(model, *rest)

    monkeypatch.setattr(masked, "perplexity", watched)
    adapted = adapt(corpus, tmp_path / "out", source, head_lr=1e-2)
    assert adapted.record["model"]["fresh_head"] and set(adapted.perplexity) == {"before", "after_warmup", "after"}
    assert adapted.perplexity["after_warmup"].value < adapted.perplexity["before"].value
    assert len(seen) == 3
    moved = [{name for name in a if not torch.equal(a[name], b[name])} for a, b in pairwise(seen)]
    model = AutoModelForMaskedLM.from_pretrained(source)
    assert moved[0] and moved[0] <= {*head_parameter_names(model), "cls.predictions.decoder.bias"}
    assert any(name.startswith("bert.encoder") for name in moved[1])
    pooler = load_file(adapted.folder / "model.safetensors")
    assert torch.equal(pooler["bert.pooler.dense.weight"], before["pooler.dense.weight"])


@pytest.mark.parametrize("family", ["bert", "deberta-v3"])
@pytest.mark.parametrize("phase", ["head", "step"])
def test_a_resumed_run_equals_the_straight_one_bit_for_bit(
    phase: str, family: str, corpus: Path, tmp_path: Path, tiny_model_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = adapt(corpus, tmp_path / "straight", tiny_model_folder(family))
    step = Trainer.training_step
    stop_at = 3

    def stopping(self: Trainer, *rest: Any) -> torch.Tensor:
        if self.plan.prefix == phase and self.state.global_step == stop_at:
            self.plan.stop.signum = 2
        return step(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", stopping)
        with pytest.raises(Interrupted, match="--resume"):
            adapt(corpus, tmp_path / "broken", tiny_model_folder(family))
    assert json.loads((tmp_path / "broken" / "adapt.json").read_text())["status"] == "stopped"
    resumed = adapt(corpus, tmp_path / "broken", tiny_model_folder(family), resume=True)
    a, b = (load_file(run.folder / "model.safetensors") for run in (straight, resumed))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert straight.perplexity == resumed.perplexity


def test_a_sentence_encoder_keeps_its_pooling(corpus: Path, tmp_path: Path, trained_head: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(trained_head, source)
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (source / "1_Pooling" / "code.py").write_text("raise SystemExit")
    modules = [{"path": ""}, {"path": "1_Pooling"}, {"path": "../elsewhere"}]
    (source / "modules.json").write_text(json.dumps(modules))
    adapted = adapt(corpus, tmp_path / "out", source, epochs=1)
    assert (adapted.folder / "1_Pooling" / "config.json").read_text() == '{"pooling_mode_mean_tokens": true}'
    assert (adapted.folder / "modules.json").is_file() and not (adapted.folder / "1_Pooling" / "code.py").exists()


def test_what_is_in_the_folder_is_kept_unless_asked(corpus: Path, tmp_path: Path, trained_head: Path) -> None:
    adapted = adapt(corpus, tmp_path / "out", trained_head, epochs=1)
    with pytest.raises(UsageError, match="--overwrite"):
        adapt(corpus, tmp_path / "out", trained_head)
    with pytest.raises(UsageError, match="holds no run"):
        adapt(corpus, trained_head, trained_head, overwrite=True)
    with pytest.raises(UsageError, match="which it reads"):
        adapt(corpus, adapted.folder, adapted.folder, overwrite=True)
    with pytest.raises(UsageError, match="--out is missing"):
        tunesmith.adapt(corpus, stages=Stages(quiet=True))


# ---- texts -----------------------------------------------------------------------------------------------------------


def read(path: Path, **settings: Any) -> Any:
    return read_texts(str(path), DataSettings(**settings), "auto", 1, True)


def test_folders_paragraphs_and_lines(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("one\n\ntwo")
    (folder / "deep" / "b.txt.gz").write_bytes(gzip.compress(b"three"))
    (folder / "picture.png").write_bytes(b"x")
    found = read(folder)
    assert sorted([*found.train.to_pylist(), *found.held_out.to_pylist()]) == ["one\n\ntwo", "three"]
    (tmp_path / "p.txt").write_text("one\nmore\n\n\ntwo\n\n")
    found = read(tmp_path / "p.txt")
    assert sorted([*found.train.to_pylist(), *found.held_out.to_pylist()]) == ["one\nmore", "two"]
    (tmp_path / "l.txt").write_text("one\ntwo\nthree\n")
    found = read(tmp_path / "l.txt")
    assert sorted([*found.train.to_pylist(), *found.held_out.to_pylist()]) == ["one", "three", "two"]
    (tmp_path / "same.txt").write_text("one\none\none\n")
    with pytest.raises(DataError, match="1 different text cannot be split"):
        read(tmp_path / "same.txt")


def test_duplicates_are_never_on_both_sides(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"text {i % 30}"}) for i in range(120)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = read(tmp_path / "a.jsonl")
    train, held_out = set(found.train.to_pylist()), set(found.held_out.to_pylist())
    assert len(train) + len(held_out) == 30 and not train & held_out and held_out


def test_a_labelled_file_is_split_as_train_splits_it(tmp_path: Path, tiny_model_folder: Folder) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"{WORDS[i % 2]} film {i},{WORDS[i % 2]}\n" for i in range(60)))
    out = str(tmp_path / "run")
    options = {"method": "features", "seed": 1, "stages": Stages(quiet=True)}
    tunesmith.train(path, model=str(tiny_model_folder("bert")), out=out, **options)
    parts = {}
    for name in ("valid", "test"):
        lines = (tmp_path / "run" / "predictions" / f"{name}.jsonl").read_text().splitlines()
        parts[name] = {json.loads(line)["text"] for line in lines}
    found = read(path)
    assert set(found.held_out.to_pylist()) == parts["valid"]
    assert len(found.train) == 48 and not set(found.train.to_pylist()) & (parts["valid"] | parts["test"])


def test_texts_of_the_test_file_are_not_learned_from(tmp_path: Path) -> None:
    for name, numbers in (("train", range(40)), ("test", range(30, 50)), ("valid", range(25, 31))):
        rows = [json.dumps({"text": f"text {i}", "label": WORDS[i % 2]}) for i in numbers]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    found = read(tmp_path / "train.jsonl", test=str(tmp_path / "test.jsonl"), valid=str(tmp_path / "valid.jsonl"))
    assert set(found.train.to_pylist()) == {f"text {i}" for i in range(25)}
    assert set(found.held_out.to_pylist()) == {f"text {i}" for i in range(25, 31)}
    assert any("left out 15 texts" in note for note in found.notes)
