"""The whole path on every form of text classification, with tiny models, from Python."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

import tunesmith
from tunesmith import pipeline, registry
from tunesmith.config.schema import SourceSettings
from tunesmith.errors import DataError, ModelError, UsageError
from tunesmith.models.gate import settings
from tunesmith.models.heads import PooledClassifier
from tunesmith.models.loading import load_classifier, load_tokenizer
from tunesmith.models.masked import load_masked, save_masked
from tunesmith.models.sealed import seal
from tunesmith.models.seen import seen_keys
from tunesmith.models.sentence import sentence_pooling
from tunesmith.models.source import find_source
from tunesmith.progress import Progress
from tunesmith.run.record import Run
from tunesmith.tasks.classification import Classification

WORDS = ["good", "bad", "great", "film", "book", "card", "bank", "money", "late", "lost", "new", "old"]
QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 8, "precision": "float32", "progress": Progress(quiet=True)}


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def texts(rows: int, seed: int = 0) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join([WORDS[i % 3], *(str(w) for w in draw.choice(WORDS[3:], 6)), str(i)]) for i in range(rows)]


def train(data: Path, folder: Path, model: Path, **options: Any) -> Run:
    return tunesmith.train(data, model=str(model), out=str(folder), **QUICK | options)


def test_labels_that_look_like_other_types_stay_what_they_are(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path]
) -> None:
    names = ["NA", "007", "true"]
    data = write(tmp_path / "a.csv", ["text", "label"], [(t, names[i % 3]) for i, t in enumerate(texts(60))])
    run = train(data, tmp_path / "run", tiny_model_folder("bert"), method="features")
    assert run.record["data"]["labels"] == ["007", "NA", "true"]
    answers = tunesmith.load(run).predict(texts(6, seed=9))
    assert {answer.label for answer in answers} <= set(names)
    assert run.metrics["test"]["accuracy"].n == 6


def test_pairs_of_texts(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    rows = [(a, b, "same" if i % 2 else "other") for i, (a, b) in enumerate(zip(texts(60), texts(60, 1), strict=True))]
    data = write(tmp_path / "pairs.csv", ["sentence1", "sentence2", "label"], rows)
    run = train(data, tmp_path / "run", tiny_model_folder("bert"), method="full")
    predictor = tunesmith.load(run)
    first, second = predictor.predict([("good film", "bad book"), ("good film", "lost card money")])
    assert first.scores != second.scores
    with pytest.raises(DataError, match="trained on pairs of texts, found single texts"):
        predictor.predict(["good film"])
    line = json.loads((run.folder / "predictions" / "test.jsonl").read_text().splitlines()[0])
    assert line["text_pair"] and set(line) == {"id", "text", "text_pair", "gold", "prediction", "score", "scores"}


def test_the_weights_are_read_once_and_each_split_is_tokenised_once(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one method pools the states of a checkpoint otherwise than the other, as below the head of RoBERTa."""
    read, encoded = [], []
    from_pretrained, encode = PreTrainedModel.from_pretrained.__func__, Classification.encode

    def counted_read(cls: Any, *args: Any, **kwargs: Any) -> Any:
        read.append(cls)
        return from_pretrained(cls, *args, **kwargs)

    def counted_encode(self: Any, records: Any, *args: Any) -> Any:
        encoded.append(len(records))
        return encode(self, records, *args)

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(counted_read))
    monkeypatch.setattr(Classification, "encode", counted_encode)
    data = write(tmp_path / "a.csv", ["text", "label"], [(t, WORDS[i % 3]) for i, t in enumerate(texts(60))])
    run = train(data, tmp_path / "run", tiny_model_folder("roberta"), method="auto")
    assert {"features", "freeze"} <= {run.record["method"], *(row["name"] for row in run.record["baselines"])}
    assert len(read) == 1 and encoded == [2, 48, 6, 6]  # the two texts of the trial, and the splits


def test_one_place_chooses_where_models_run(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "a.csv", ["text", "label"], [(t, WORDS[i % 3]) for i, t in enumerate(texts(60))])
    run = train(data, tmp_path / "run", tiny_model_folder("bert"), method="features")
    moved = []
    to = torch.nn.Module.to
    monkeypatch.setattr(torch.nn.Module, "to", lambda model, where: (moved.append(where), to(model, "cpu"))[1])
    monkeypatch.setattr("tunesmith.training.backend.choose_device", lambda: torch.device("meta"))
    tunesmith.load(run)
    assert moved == [torch.device("meta")]
    asking = [file.name for file in Path(tunesmith.__file__).parent.rglob("*.py") if "is_available" in file.read_text()]
    assert asking == ["precision.py"]


def test_a_folder_that_transformers_saved_is_told_how_it_can_answer(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path]
) -> None:
    folder = tiny_model_folder("bert")
    with pytest.raises(ModelError, match=f"transformers saved it.*tunesmith export {folder} --to ARTEFACT"):
        tunesmith.load(folder)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "run.json").write_text("{}")
    with pytest.raises(ModelError, match="the run is not finished"):
        tunesmith.load(tmp_path / "begun")
    with pytest.raises(ModelError, match=r"tunesmith.json is missing\); give a finished run, or an artefact$"):
        tunesmith.load(tmp_path)


def test_several_labels_a_text(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    cells = ["red|green", "red", "green|blue"]
    data = write(tmp_path / "many.csv", ["text", "labels"], [(t, cells[i % 3]) for i, t in enumerate(texts(90))])
    run = train(data, tmp_path / "run", tiny_model_folder("bert"), method="features", label="labels")
    assert run.record["task"] == "multilabel" and run.record["data"]["labels"] == ["blue", "green", "red"]
    assert {"micro_f1", "macro_f1", "accuracy"} <= set(run.metrics["test"])
    assert all(isinstance(answer.label, tuple) for answer in tunesmith.load(run).predict(texts(4)))


def test_numbers_as_labels_come_back_in_their_own_units(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path]
) -> None:
    rows = [(t, f"{100 + 50 * (i % 3)}.5") for i, t in enumerate(texts(90))]
    data = write(tmp_path / "numbers.csv", ["text", "score"], rows)
    run = train(data, tmp_path / "run", tiny_model_folder("bert"), method="features", label="score")
    assert run.record["task"] == "regression"
    values = [answer.score for answer in tunesmith.load(run).predict(texts(30))]
    assert min(values) > 50 and max(values) < 260
    assert run.metrics["test"]["mae"].value < 60


def test_a_decoder_without_padding_token_gets_one(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    folder = tmp_path / "decoder"
    source = tiny_model_folder("llama")
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config["pad_token_id"] = None
    (folder / "config.json").write_text(json.dumps(config))
    facts = json.loads((folder / "tokenizer_config.json").read_text())
    facts.pop("pad_token", None)
    facts["eos_token"] = "[SEP]"
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))
    assert AutoTokenizer.from_pretrained(folder).pad_token is None
    data = write(tmp_path / "a.csv", ["text", "label"], [(t, "xyz"[i % 3]) for i, t in enumerate(texts(60))])
    run = train(data, tmp_path / "run", folder, method="full")
    together = tunesmith.load(run).predict(["good", "bad book and lost card money late"])
    alone = tunesmith.load(run).predict(["good"])
    assert together[0].score == pytest.approx(alone[0].score, abs=1e-5)


@pytest.mark.parametrize("method", ["full", "lora", "features"])
def test_plain_transformers_answers_the_same(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], method: str
) -> None:
    data = write(tmp_path / "a.csv", ["text", "label"], [(t, "xyz"[i % 3]) for i, t in enumerate(texts(60))])
    run = train(data, tmp_path / "run", tiny_model_folder("bert"), method=method, pooling="head")
    model = AutoModelForSequenceClassification.from_pretrained(run.folder / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(run.folder / "model")
    lines = [json.loads(line) for line in (run.folder / "predictions" / "test.jsonl").read_text().splitlines()]
    for line in lines:
        with torch.inference_mode():
            logits = model(**tokenizer(line["text"], truncation=True, return_tensors="pt")).logits[0]
        assert model.config.id2label[int(logits.argmax())] == line["prediction"]
        assert float(logits.softmax(0).max()) == pytest.approx(line["score"], abs=1e-4)
    adapter = run.folder / "model" / "adapter" / "adapter_model.safetensors"
    assert adapter.exists() == (method == "lora")
    cards = [folder / "README.md" for folder in (run.folder, run.folder / "model")]
    assert all('model="' in card.read_text() for card in cards)
    if method == "lora":
        written = "".join((adapter.parent / name).read_text() for name in ("README.md", "adapter_config.json"))
        assert str(tmp_path) not in written and str(tiny_model_folder("bert")) not in written
        assert any("lora_A" in name for name in load_file(adapter))


def test_given_files_are_used_as_they_are(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    files = {}
    for seed, name in enumerate(("train", "valid", "test")):
        rows = [(t, "xyz"[i % 3]) for i, t in enumerate(texts(30, seed))]
        files[name] = str(write(tmp_path / f"{name}.csv", ["body", "topic"], rows))
    columns = {"text": "body", "label": "topic", "valid": files["valid"], "test": files["test"]}
    run = train(Path(files["train"]), tmp_path / "run", tiny_model_folder("bert"), method="features", **columns)
    assert [split["rows"] for split in run.record["data"]["splits"]] == [30, 30, 30]
    assert len(run.record["data"]["files"]) == 3


def test_a_test_label_that_train_lacks_is_refused_before_training(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path]
) -> None:
    data = write(tmp_path / "a.csv", ["text", "label"], [(t, "xy"[i % 2]) for i, t in enumerate(texts(40))])
    test = write(tmp_path / "b.csv", ["text", "label"], [("good new text", "z")])
    with pytest.raises(DataError, match="z"):
        train(data, tmp_path / "run", tiny_model_folder("bert"), method="features", test=str(test))


def test_untrusted_models_are_refused(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    data = write(tmp_path / "a.csv", ["text", "label"], [(t, "xy"[i % 2]) for i, t in enumerate(texts(40))])
    source, canary = tiny_model_folder("bert"), tmp_path / "canary"

    def hostile(name: str, **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file in source.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        config = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    code = hostile("code", model_type="evil", auto_map={"AutoConfig": "evil.Config"})
    (code / "evil.py").write_text(f"open({str(canary)!r}, 'w').close()\nclass Config: pass\n")
    huge = hostile("huge", num_hidden_layers=200_000)
    pickled = hostile("pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    cut = hostile("cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-100])
    for folder in (code, huge, pickled, cut):
        with pytest.raises(ModelError, match=folder.name):
            train(data, tmp_path / "run", folder, method="features", overwrite=True)
    assert not canary.exists()


def test_a_model_with_weights_that_are_not_finite_is_refused(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path]
) -> None:
    data = write(tmp_path / "a.csv", ["text", "label"], [(t, "xy"[i % 2]) for i, t in enumerate(texts(40))])
    run = train(data, tmp_path / "run", tiny_model_folder("bert"), method="features")
    assert {"model/tunesmith.json", "model/0_Transformer/model.safetensors"} < set(run.content.files or {})
    model = shutil.copytree(run.folder / "model", tmp_path / "model")
    file = model / "0_Transformer" / "model.safetensors"
    weights = load_file(file)
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    seal(model)
    with pytest.raises(ModelError, match="not finite"):
        tunesmith.load(model)


def test_local_refuses_names_that_would_need_the_network(tmp_path: Path) -> None:
    data = write(tmp_path / "a.csv", ["text", "label"], [(t, "xy"[i % 2]) for i, t in enumerate(texts(40))])
    with pytest.raises(ModelError, match="local=True refuses the Hub"):
        tunesmith.train(data, model="some/model", local=True, out=str(tmp_path / "run"))
    with pytest.raises(UsageError, match="local=True refuses the Hub"):
        tunesmith.train("hub:some/data", local=True, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_bad_file_leaves_an_earlier_run_alone(tmp_path: Path, tiny_model_folder: Callable[[str], Path]) -> None:
    data = write(tmp_path / "a.csv", ["text", "label"], [(t, "xy"[i % 2]) for i, t in enumerate(texts(40))])
    run = train(data, tmp_path / "run", tiny_model_folder("bert"), method="features")
    bad = write(tmp_path / "bad.csv", ["text", "label"], [("only", "one"), ("class", "one")])
    with pytest.raises(DataError):
        train(bad, run.folder, tiny_model_folder("bert"), method="features", overwrite=True)
    other = write(tmp_path / "other.csv", ["text", "label"], [("good new text", "z")])
    with pytest.raises(DataError, match="'z'"):
        train(data, run.folder, tiny_model_folder("bert"), method="features", test=str(other), overwrite=True)
    words, settings = tmp_path / "words.txt", tmp_path / "settings.yaml"
    words.write_bytes(b"caf\xe9, bar\n")
    settings.write_text(f"augmentation:\n  lexicon: {words}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"words\.txt"):
        train(data, run.folder, tiny_model_folder("bert"), config=settings, augment="insert", overwrite=True)
    assert tunesmith.load(run.folder).predict(["good"])


def test_a_run_that_is_replaced_answers_until_the_new_one_is_done(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "a.csv", ["text", "label"], [(t, "xy"[i % 2]) for i, t in enumerate(texts(40))])
    run = train(data, tmp_path / "run", tiny_model_folder("bert"), method="features")
    before = tunesmith.load(run.folder).predict(["good"])
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "fit", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(data, run.folder, tiny_model_folder("bert"), method="features", seed=7, overwrite=True)
    with pytest.raises(ModelError, match=r"or give .*\.previous, the finished run that it replaces"):
        tunesmith.load(run.folder)
    assert tunesmith.load(run.folder / ".previous").predict(["good"]) == before
    assert tunesmith.evaluate(run.folder / ".previous", data).rows == 40
    train(data, run.folder, tiny_model_folder("bert"), method="features", seed=7, overwrite=True)
    assert tunesmith.load(run.folder).predict(["good"]) != before and not (run.folder / ".previous").exists()


def test_a_model_type_that_was_allowed_for_training_is_allowed_again_for_use(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "a.csv", ["text", "label"], [(t, "xy"[i % 2]) for i, t in enumerate(texts(40))])
    base = shutil.copytree(tiny_model_folder("bert"), tmp_path / "base")  # which the gate has not seen
    settings.tokenizer_classes()  # from the list as it is
    monkeypatch.setattr(settings, "model_types", lambda: frozenset({"roberta"}))
    with pytest.raises(ModelError, match=r"the model type 'bert', .*, or allow='bert' where you trust it"):
        train(data, tmp_path / "run", base, method="features")
    run = train(data, tmp_path / "run", base, method="features", allow="bert")
    assert run.record["config"]["model"]["allow"] == "bert"
    for use in (tunesmith.load, lambda run: tunesmith.evaluate(run, data), lambda run: [*tunesmith.predict(run, data)]):
        with pytest.raises(ModelError, match=r"or allow='bert' where you trust it"):
            use(run.folder)
    assert tunesmith.load(run, allow="bert").predict(["good"])
    assert tunesmith.evaluate(run, data, run, allow="bert").rows == 40
    assert len([*tunesmith.predict(run, data, allow="bert, other")]) == 40
    again = train(data, tmp_path / "two", run.folder, method="features", allow="bert")
    assert again.record["status"] == "done"


def test_lower_precision_is_asked_for_by_name_and_answers_nearly_the_same(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path]
) -> None:
    data = write(tmp_path / "a.csv", ["text", "label"], [(t, WORDS[i % 3]) for i, t in enumerate(texts(60))])
    run = train(data, tmp_path / "run", tiny_model_folder("bert"), method="full")
    exact, rounded = (tunesmith.load(run, precision).predict(texts(20)) for precision in ("float32", "bfloat16"))
    differences = [abs(a.scores["good"] - b.scores["good"]) for a, b in zip(exact, rounded, strict=True)]
    assert 0 < max(differences) < 0.02
    with pytest.raises(UsageError, match="should be 'auto', 'float32', 'bfloat16' or 'float16', found 'half'"):
        tunesmith.load(run, "half")


def test_a_package_adds_a_task_and_a_method(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere.py").write_text(
        "from tunesmith.methods.full import Full\n"
        "from tunesmith.tasks.classification import Classification\n"
        "class Topics(Classification):\n    name = 'topics'\n"
        "class Everything(Full):\n    name = 'everything'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    points = EntryPoints(
        [
            EntryPoint("topics", "elsewhere:Topics", "tunesmith.tasks"),
            EntryPoint("everything", "elsewhere:Everything", "tunesmith.methods"),
        ]
    )
    monkeypatch.setattr(registry, "entry_points", points.select)
    data = write(tmp_path / "a.csv", ["text", "label"], [(t, "xyz"[i % 3]) for i, t in enumerate(texts(60))])
    run = train(data, tmp_path / "run", tiny_model_folder("bert"), task="topics", method="everything")
    assert (run.record["task"], run.record["method"]) == ("topics", "everything")
    answers = tunesmith.load(run.folder).predict(["good", "bad"])
    assert {answer.label for answer in answers} <= set("xyz")
    assert tunesmith.evaluate(run, data).rows == 60


def test_a_run_is_the_model_of_another_and_what_it_has_seen_is_handed_on(
    tmp_path: Path, tiny_model_folder: Callable[[str], Path]
) -> None:
    files = {}
    for name, seed in (("first", 1), ("second", 2)):
        rows = [(t, "xyz"[i % 3]) for i, t in enumerate(texts(40, seed))]
        files[name] = write(tmp_path / f"{name}.csv", ["text", "label"], rows)
    options: dict[str, Any] = {"method": "features"}
    first = train(files["first"], tmp_path / "first", tiny_model_folder("bert"), pooling="mean", **options)
    assert first.content.model.run is None
    shutil.copytree(first.folder / "model", tmp_path / "copied")
    second = train(files["second"], tmp_path / "second", first.folder, **options)
    assert (second.content.model.run, second.record["config"]["model"]["pooling"]) == (str(first.folder), "mean")
    backbones = (load_file(run.folder / "model" / "0_Transformer" / "model.safetensors") for run in (first, second))
    assert all(map(torch.equal, *(list(weights.values()) for weights in backbones)))
    own, both = (set(seen_keys(run.folder / "model").tolist()) for run in (first, second))
    assert (len(own), len(both - own)) == (32, 32) and own < both
    source = find_source(SourceSettings(name=str(tmp_path / "copied")))
    assert source.run is None and set(seen_keys(source.root).tolist()) == own
    tokenizer = load_tokenizer(source)
    adapted = find_source(SourceSettings(name=str(first.folder)))
    save_masked(load_masked(adapted, tokenizer, 1)[0], tokenizer, adapted, tmp_path / "adapted")
    assert sentence_pooling(tmp_path / "adapted") == "mean" and not (tmp_path / "adapted" / "2_Dense").exists()
    assert '"x"' not in (tmp_path / "adapted" / "config.json").read_text()
    again = find_source(SourceSettings(name=str(tmp_path / "adapted")))
    assert (again.folder, again.trained) == (tmp_path / "adapted", False)
    assert isinstance(load_classifier(again, tokenizer, ("a", "b"), None, "auto", 1), PooledClassifier)
