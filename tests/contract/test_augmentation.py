"""Augmentation on the whole path of every task, with tiny models; masked words and mix-up by themselves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

import tunesmith
from tunesmith import pipeline
from tunesmith.data.augmentation.edits import Passage, apply
from tunesmith.data.augmentation.techniques import Materials
from tunesmith.data.records import Span, text_records
from tunesmith.errors import ModelError, UsageError
from tunesmith.methods.features import Features
from tunesmith.models.loading import file_sha256
from tunesmith.resolving import resolve
from tunesmith.run import Run
from tunesmith.training.mixup import mix
from tunesmith.training.progress import Stages
from tunesmith.training.proposals import PROPOSALS, Masked

QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 8, "precision": "float32", "stages": Stages(quiet=True)}
WORDS = ["film", "book", "card", "bank", "money", "late", "lost", "new", "old", "fast", "cat"]
TASKS = ("classification", "multilabel", "regression", "ner", "qa")


def write(path: Path, kind: str, rows: int = 60) -> Path:
    """Examples of a task whose first word is the entity, the answer, or decides the label."""
    draw, lines = np.random.default_rng(0), []
    for row in range(rows):
        name = ("good", "bad")[row % 2]
        text = " ".join([name, *map(str, draw.choice(WORDS, 7)), str(row)])
        labels: dict[str, Any] = {
            "classification": {"text": text, "label": name},
            "multilabel": {"text": text, "label": [name, "all"]},
            "regression": {"text": text, "label": f"{row % 2 + row / 1000}"},
            "ner": {"text": text, "spans": [{"start": 0, "end": len(name), "label": name}]},
            "qa": {"context": text, "question": "good or bad ?", "answers": [{"text": name, "answer_start": 0}]},
        }
        lines.append(json.dumps(labels[kind]))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def augmented(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.folder / "augmented.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("kind", TASKS)
def test_every_task_learns_from_more_rows(kind: str, tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    data = write(tmp_path / "a.jsonl", kind)
    names = "delete,swap,insert,punctuation,typo" + (",entity" if kind == "ner" else "")
    options = QUICK | {"model": str(tiny_model_folder("bert")), "method": "full", "task": kind, "max_length": 128}
    run = tunesmith.train(data, out=str(tmp_path / "run"), augment=names, augment_factor=2, **options)
    plain = tunesmith.train(data, out=str(tmp_path / "plain"), **options)
    facts, lines = run.record["data"]["augmentation"], augmented(run)
    assert facts["names"] == names.split(",") and facts["factor"] == 2.0
    assert facts["rows"] == len(lines) > 60 and facts["rows"] + facts["dropped"] == 2 * 48
    assert sum(facts["by_technique"].values()) == len(lines) and set(facts["by_technique"]) <= set(names.split(","))
    # What is held out, counted and compared knows nothing of the new rows.
    for key in ("splits", "files", "labels"):
        assert run.record["data"][key] == plain.record["data"][key]
    assert run.record["identity"]["data"] == plain.record["identity"]["data"]
    assert run.record["baselines"][0]["metrics"] == plain.record["baselines"][0]["metrics"]
    assert run.record["best"]["steps"] == -(-(48 + len(lines)) // 8)
    sentence = f"{len(lines)} more training rows by delete, swap"
    assert all(sentence in (run.folder / name).read_text(encoding="utf-8") for name in ("report.html", "README.md"))
    assert "augmentation" not in plain.record["data"] and not (plain.folder / "augmented.jsonl").exists()
    for line in lines:
        if kind == "ner":
            (span,) = line["label"]
            assert line["text"][span["start"] : span["end"]] == span["label"]
        elif kind == "qa":
            (answer,) = line["label"]
            assert line["text_pair"][answer["start"] :].startswith(answer["text"])
        assert "~" in line["id"] and line["of"] == line["id"].split("~")[0]


def interrupted(monkeypatch: pytest.MonkeyPatch, data: Path, **options: Any) -> None:
    """A run that is stopped once its rows are made."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(pipeline, "try_method", stop)
        tunesmith.train(data, **options)


def test_an_interrupted_run_goes_on_with_the_same_rows(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, folder = write(tmp_path / "a.jsonl", "classification"), tmp_path / "run"
    options = QUICK | {"model": str(tiny_model_folder("bert")), "method": "full", "out": str(folder)}
    interrupted(monkeypatch, data, augment="typo", **options)
    before = (folder / "augmented.jsonl").read_bytes()
    (folder / "augmented.jsonl").unlink()
    with pytest.raises(UsageError, match=r"augmentation\.names was 'typo' and is now 'swap'"):
        tunesmith.train(data, augment="swap", resume=True, **options)
    run = tunesmith.train(data, augment="typo", resume=True, **options)
    assert (folder / "augmented.jsonl").read_bytes() == before
    assert run.record["status"] == "done" and run.record["data"]["augmentation"]["rows"] == len(augmented(run))


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_mix_up_of_features(
    kind: str, tmp_path: Path, tiny_model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, solve, seen = write(tmp_path / "a.jsonl", kind), Features.solve, list[tuple[int, int]]()

    def watched(self: Features, model: Any, vectors: np.ndarray, *others: Any) -> dict[str, float]:
        seen.append((len(vectors), others[-1]))  # what was not made from others comes last
        return solve(self, model, vectors, *others)

    monkeypatch.setattr(Features, "solve", watched)
    options = QUICK | {"model": str(tiny_model_folder("bert")), "task": kind, "out": str(tmp_path / "run")}
    run = tunesmith.train(data, method="features", augment="mixup,typo", augment_factor=2, **options)
    facts = run.record["data"]["augmentation"]
    assert facts["by_technique"]["mixup"] == 48 and len(augmented(run)) == facts["by_technique"]["typo"] <= 48
    mixed = 48 if kind == "regression" else 2 * 48  # a mixture of two labels is two rows
    assert seen == [(48 + facts["by_technique"]["typo"] + mixed, 48)]


def test_what_does_not_suit_is_refused_before_anything_is_written(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path]
) -> None:
    data, folder = write(tmp_path / "a.jsonl", "classification"), tmp_path / "run"
    options = QUICK | {"model": str(tiny_model_folder("bert")), "out": str(folder)}
    with pytest.raises(UsageError, match=r"(?s)entity: replaces.*mixup: mixes pooled features"):
        tunesmith.train(data, augment="entity,mixup", method="full", task="classification", **options)
    with pytest.raises(UsageError) as caught:
        tunesmith.train(tmp_path / "not-read.csv", augment="eta,mixup,synonym", **options)
    assert [problem.split(";")[0] for problem in caught.value.problems] == [
        "--augment: unknown augmentation 'eta'",
        "--augment mixup: mixes pooled features",
        "--augment synonym: needs synonyms",
    ]
    assert "did you mean 'eda'?" in caught.value.problems[0]
    with pytest.raises(UsageError, match="entity: replaces"):
        tunesmith.train(data, augment="entity", **options)
    with pytest.raises(ModelError, match="no masked-language head; make one with `tunesmith adapt"):
        tunesmith.train(data, augment="masked", **options)
    assert not folder.exists()


@pytest.mark.parametrize("key", ["lexicon", "masked_model"])
def test_what_new_rows_are_made_with_is_not_overwritten(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tmp_path / "config.yaml"
    for path in (tmp_path / "run" / "inside", "~/run/inside"):
        config.write_text(f"augmentation:\n  {key}: {path}\n", encoding="utf-8")
        with pytest.raises(UsageError, match="run/inside, which it reads"):
            tunesmith.train("a.csv", config, augment="typo", out=str(tmp_path / "run"), overwrite=True)


def test_a_run_without_any_new_row_says_so(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    data = write(tmp_path / "a.jsonl", "classification")
    options = QUICK | {"model": str(tiny_model_folder("bert")), "method": "features", "out": str(tmp_path / "run")}
    run = tunesmith.train(data, augment="typo", augment_factor=0.01, **options)
    assert run.record["warnings"][-1].startswith("augmentation: no row could be added to 48; choose other techniques")


def test_mixed_targets_are_weighted_rows() -> None:
    """With one unit vector a row, a mixed vector shows which rows were mixed, and in which shares."""
    rows, pairs = 12, 50
    targets = np.arange(rows) % 3
    mixed = mix(np.eye(rows, dtype=np.float32), targets, pairs, seed=3)
    assert mixed.weights is not None and len(mixed.vectors) == rows + 2 * pairs
    first, second = slice(rows, rows + pairs), slice(rows + pairs, None)
    np.testing.assert_array_equal(mixed.vectors[first], mixed.vectors[second])
    np.testing.assert_allclose(mixed.weights[first] + mixed.weights[second], 1, rtol=1e-6)
    classes = np.eye(3)
    soft = mixed.weights[first, None] * classes[mixed.targets[first]]
    soft += mixed.weights[second, None] * classes[mixed.targets[second]]
    np.testing.assert_allclose(mixed.vectors[first] @ classes[targets], soft, atol=1e-6)
    assert (mixed.weights[:rows] == 1).all() and (mixed.targets[:rows] == targets).all()


def test_mixed_numbers_and_labels() -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    numbers = vectors @ np.array([1, -2, 3, 0.5], dtype=np.float32)  # linear, so mixtures lie on it too
    mixed = mix(vectors, numbers, 30, seed=1)
    assert mixed.weights is not None and len(mixed.targets) == 50 and (mixed.weights == 1).all()
    np.testing.assert_allclose(mixed.targets, mixed.vectors @ np.array([1, -2, 3, 0.5]), atol=1e-5)
    labels = np.tile(np.array([[1, 0], [1, 1]], dtype=np.float32), (10, 1))
    assert mix(vectors, labels, 30, seed=1).targets.shape == (80, 2)


@pytest.fixture(scope="module")
def masked_model(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Callable[[str], Path]) -> Path:
    """A masked-language model whose words depend on the text, after a piece, the end and a number that never fit."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder("bert"))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    sizes |= {"vocab_size": len(tokenizer), "max_position_embeddings": 128}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertForMaskedLM(BertConfig(initializer_range=1.0, **sizes))
    with torch.no_grad():
        model.cls.predictions.bias[tokenizer.convert_tokens_to_ids(["##s", "[SEP]", "7"])] = 600.0
    folder = tmp_path_factory.mktemp("masked")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_run_goes_on_with_the_same_lexicon_and_masked_model_only(
    tmp_path: Path, masked_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, words, model = write(tmp_path / "a.jsonl", "classification"), tmp_path / "words.txt", tmp_path / "masked"
    words.write_text("bank, lender\n", encoding="utf-8")
    shutil.copytree(masked_model, model)
    config = tmp_path / "config.yaml"
    config.write_text(f"augmentation:\n  lexicon: {words}\n  masked_model: {model}\n", encoding="utf-8")
    folder = tmp_path / "run"
    options = QUICK | {"config": config, "augment": "insert,masked", "model": str(masked_model), "out": str(folder)}
    interrupted(monkeypatch, data, method="features", **options)
    facts = Run.load(folder).record["data"]["augmentation"]
    assert facts["lexicon"]["sha256"] == file_sha256(words)
    assert facts["masked_model"] == {"name": str(model), "sha256": file_sha256(model / "model.safetensors")}
    for file in (words, model / "model.safetensors"):
        before = file.read_bytes()
        if file == words:
            words.write_text("bank, lender\ncard, plastic\n", encoding="utf-8")
        else:
            save_file({name: weight * 2 for name, weight in load_file(file).items()}, file, {"format": "pt"})
        with pytest.raises(UsageError, match="the lexicon or the masked model changed since the run began"):
            tunesmith.train(data, method="features", resume=True, **options)
        file.write_bytes(before)
    run = tunesmith.train(data, method="features", resume=True, **options)
    assert run.record["data"]["augmentation"]["lexicon"] == facts["lexicon"]
    assert run.record["data"]["augmentation"]["rows"] == len(augmented(run)) > 0


def masked(folder: Path) -> Masked:
    config = resolve(sets=(f"augmentation.masked_model={folder}", "augmentation.share=0.5"))
    return Masked(Materials(config, text_records(["a"], "made")))


def passage(text: str, *spans: Span, seed: int = 0) -> Passage:
    return Passage(text, spans, (), np.random.default_rng(seed))


def test_the_model_proposes_whole_words_that_differ(masked_model: Path) -> None:
    texts = ["the Card unknownword was LOST , [MASK] money", "money money", "", "12 , 3.5 !", "good zzz " * 200]
    passages = [passage(text, *([Span(0, 8, "a")] if number == 0 else [])) for number, text in enumerate(texts)]
    technique = masked(masked_model)
    found = [apply(each.text, edits) for each, edits in zip(passages, technique.edits(passages), strict=True)]
    assert found[0].startswith("the Card ") and found[0] != texts[0]
    changed = {new.strip("[]") for old, new in zip(texts[0].split(), found[0].split(), strict=True) if old != new}
    assert {word.lower() for word in changed} <= set(technique.vocabulary[1])
    assert all(word.isalpha() for word in changed) and sorted(found[1].split()) != ["money", "money"]
    assert found[2:4] == texts[2:4]
    assert found[4] != texts[4] and found[4].endswith(" zzz good zzz ")  # what the model cannot see stays


def test_pieces_inside_words_are_no_proposals() -> None:
    """In byte-level vocabularies nothing but the missing space marks a piece that goes on a word."""
    pieces = ["<s>", "<mask>", "Ġ", *"cardig", "n", "ca", "rd", "card", "Ġcard", "in", "ing"]
    merges = [("c", "a"), ("r", "d"), ("ca", "rd"), ("Ġ", "card"), ("i", "n"), ("in", "g")]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    technique = Masked.__new__(Masked)
    technique.tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", mask_token="<mask>")
    ids, words = technique.vocabulary
    assert words == ["card"] and ids.tolist() == [pieces.index("Ġcard")]


def test_words_give_way_to_what_the_model_reads_in_their_place(masked_model: Path) -> None:
    technique, model = masked(masked_model), BertForMaskedLM.from_pretrained(masked_model).eval()
    texts = [" ".join(np.random.default_rng(row).permutation(WORDS)[: 2 + row % 9].tolist()) for row in range(20)]
    tokens = list[int]()  # that the head works on
    technique.model.cls.register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0].shape[:2].numel()))
    together = list(technique.edits([passage(text, seed=row) for row, text in enumerate(texts)]))
    assert sum(tokens[2:]) == sum(map(len, together))  # two more calls compare it with the whole head
    alone = [next(iter(technique.edits([passage(text, seed=row)]))) for row, text in enumerate(texts)]
    assert together == alone and len({edit.replacement for edits in together for edit in edits}) > 10
    ids, words = technique.vocabulary
    for text, edits in zip(texts, together, strict=True):
        row, places = technique.tokenizer(text)["input_ids"], [text[: edit.start].count(" ") + 1 for edit in edits]
        for place in places:
            row[place] = technique.tokenizer.mask_token_id
        with torch.no_grad():
            logits = model(torch.tensor([row])).logits[0, places][:, ids]
        for edit, best in zip(edits, logits.topk(PROPOSALS + 1).indices.tolist(), strict=True):
            assert edit.replacement in {words[i] for i in best} - {text[edit.start : edit.end]}


def test_masked_words_on_the_whole_path(tmp_path: Path, masked_model: Path) -> None:
    data = write(tmp_path / "a.jsonl", "ner")
    options = QUICK | {"model": str(masked_model), "method": "full", "out": str(tmp_path / "run")}
    lines = augmented(tunesmith.train(data, augment="masked", **options))
    read = {word for line in lines for word in line["text"].split() if word.isalpha()}
    assert len(lines) > 20 and read > {*WORDS, "good", "bad"}
    assert {line["technique"] for line in lines} == {"masked"}
