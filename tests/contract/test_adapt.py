"""Adapting to a domain: masks, blocks, losses at the predicted tokens, perplexity, resumed runs, the model folder."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

import tunesmith
from tunesmith import adapting
from tunesmith.adapting import AdaptedModel
from tunesmith.config.loading import resolve
from tunesmith.config.schema import AdaptConfig, SourceSettings
from tunesmith.errors import DataError, Interrupted, ModelError, UsageError
from tunesmith.models.heads import head_parameter_names
from tunesmith.models.loading import load_tokenizer
from tunesmith.models.masked import head_at_predicted, load_masked
from tunesmith.models.source import find_source
from tunesmith.progress import Progress
from tunesmith.tasks.batching import PREDICTED
from tunesmith.tasks.encoding import IGNORED
from tunesmith.tasks.losses import MaskedCrossEntropy
from tunesmith.training.task_trainer import TaskTrainer

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
    return tunesmith.adapt(texts, progress=Progress(quiet=True), **given)


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
    options = {"method": "features", "out": str(tmp_path / "run"), "progress": Progress(quiet=True)}
    run = tunesmith.train(data, model=str(adapted.folder), **options)
    assert run.record["status"] == "done"


def test_a_fresh_head_is_warmed_up_before_the_body_moves(
    corpus: Path, tmp_path: Path, tiny_model_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_model_folder("bert")
    before = load_file(source / "model.safetensors")
    seen: list[dict[str, torch.Tensor]] = []
    measure = adapting.perplexity

    def watched(fitting: Any, *rest: Any) -> Any:
        seen.append({name: value.clone() for name, value in fitting.model.state_dict().items()})
        return measure(fitting, *rest)

    monkeypatch.setattr(adapting, "perplexity", watched)
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
    step = TaskTrainer.training_step
    stop_at = 3

    def stopping(self: TaskTrainer, *rest: Any) -> torch.Tensor:
        if self.fitting.phase == phase and self.state.global_step == stop_at:
            self.fitting.stop.signum = 2
        return step(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(TaskTrainer, "training_step", stopping)
        with pytest.raises(Interrupted, match="the same command goes on"):
            adapt(corpus, tmp_path / "broken", tiny_model_folder(family))
    assert json.loads((tmp_path / "broken" / "adapt.json").read_text())["status"] == "stopped"
    resumed = adapt(corpus, tmp_path / "broken", tiny_model_folder(family), resume=True)
    a, b = (load_file(run.folder / "model.safetensors") for run in (straight, resumed))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert straight.perplexity == resumed.perplexity


def test_a_run_that_is_killed_at_its_very_end_is_not_trained_again(
    corpus: Path, tmp_path: Path, trained_head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = adapt(corpus, tmp_path / "straight", trained_head)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(adapting, "_finish", killed)
        with pytest.raises(KeyboardInterrupt):
            adapt(corpus, tmp_path / "broken", trained_head)
    monkeypatch.setattr(TaskTrainer, "training_step", killed)
    resumed = adapt(corpus, tmp_path / "broken", trained_head, resume=True)
    assert straight.perplexity == resumed.perplexity and resumed.record["status"] == "done"


def test_a_sentence_encoder_keeps_its_pooling(corpus: Path, tmp_path: Path, trained_head: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(trained_head, source)
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (source / "1_Pooling" / "code.py").write_text("raise SystemExit")
    modules = [{"path": ""}, {"path": "1_Pooling"}]
    (source / "modules.json").write_text(json.dumps([*modules, {"path": "../elsewhere"}]))
    with pytest.raises(ModelError, match=r"modules\.json: expected a list of modules, each with the plain name"):
        adapt(corpus, tmp_path / "refused", source, epochs=1)
    (source / "modules.json").write_text(json.dumps(modules))
    adapted = adapt(corpus, tmp_path / "out", source, epochs=1)
    assert (adapted.folder / "1_Pooling" / "config.json").read_text() == '{"pooling_mode_mean_tokens": true}'
    assert (adapted.folder / "modules.json").is_file() and not (adapted.folder / "1_Pooling" / "code.py").exists()


def test_what_is_in_the_folder_is_kept_unless_asked(corpus: Path, tmp_path: Path, trained_head: Path) -> None:
    adapted = adapt(corpus, tmp_path / "out", trained_head, epochs=1)
    with pytest.raises(UsageError, match="overwrite=True"):
        adapt(corpus, tmp_path / "out", trained_head)
    with pytest.raises(UsageError, match="holds no run"):
        adapt(corpus, trained_head, trained_head, overwrite=True)
    with pytest.raises(UsageError, match="which it reads"):
        adapt(corpus, adapted.folder, adapted.folder, overwrite=True)
    with pytest.raises(UsageError, match="`out` is missing"):
        tunesmith.adapt(corpus, progress=Progress(quiet=True))


def test_a_model_that_is_replaced_is_kept_until_the_new_one_is_done(
    corpus: Path, tmp_path: Path, trained_head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapt(corpus, tmp_path / "out", trained_head, epochs=1)
    before = (tmp_path / "out" / "model.safetensors").read_bytes()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(adapting, "_finish", killed)
        with pytest.raises(KeyboardInterrupt):
            adapt(corpus, tmp_path / "out", trained_head, overwrite=True)
    with pytest.raises(ModelError, match=r"continue it by its command, or give .*out/\.previous, the finished run"):
        adapt(corpus, tmp_path / "other", tmp_path / "out", epochs=1)
    kept = tmp_path / "out" / ".previous"
    assert (kept / "model.safetensors").read_bytes() == before
    assert adapt(corpus, tmp_path / "other", kept, epochs=1).record["status"] == "done"
    monkeypatch.setattr(TaskTrainer, "training_step", killed)
    assert adapt(corpus, tmp_path / "out", trained_head, overwrite=True).record["status"] == "done"
    assert not kept.exists()


def test_what_cannot_be_adapted_is_refused_and_an_earlier_model_kept(
    corpus: Path, tmp_path: Path, trained_head: Path
) -> None:
    adapted = adapt(corpus, tmp_path / "out", trained_head, epochs=1)
    before = (adapted.folder / "adapt.json").read_text()
    with pytest.raises(UsageError, match=r"training\.accumulation: should divide training\.batch_size=4, found 3"):
        resolve(None, {"batch_size": 4}, ("training.accumulation=3",), AdaptConfig)
    with pytest.raises(UsageError, match="lies in"):
        adapt(corpus.parent, tmp_path / "out", trained_head, overwrite=True)
    assert (adapted.folder / "adapt.json").read_text() == before


def test_texts_that_the_tokenizer_does_not_know(tmp_path: Path, trained_head: Path) -> None:
    texts = tmp_path / "greek.txt"
    texts.write_text("\n".join("Ω" * (1 + n) for n in range(40)), encoding="utf-8")
    with pytest.raises(DataError, match="knows no word of the texts to learn from; `tunesmith models --data"):
        adapt(texts, tmp_path / "out", trained_head)
    said: list[str] = []
    progress = Progress(quiet=True)
    progress.line = said.append  # type: ignore[method-assign]
    texts.write_text("\n".join(f"good film {'Ω' * (1 + n)}" for n in range(40)), encoding="utf-8")
    tunesmith.adapt(texts, progress=progress, model=str(trained_head), out=str(tmp_path / "other"), **QUICK)
    assert any("does not know 33% of the pieces" in line for line in said)
