"""The rules of the model gate, one by one, and honest folders that they leave alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, model_type_to_module_name

from tunesmith.config.schema import ModelSettings
from tunesmith.errors import ModelError
from tunesmith.models import gate, source
from tunesmith.models.gate import adapters, files, settings, tokens, weights
from tunesmith.models.gate.patterns import objection
from tunesmith.models.loading import load_classifier, load_config, load_tokenizer
from tunesmith.models.seen import seen_keys
from tunesmith.models.source import find_source
from tunesmith.network import offline

Folder = Callable[[str], Path]


@pytest.fixture
def folder(tmp_path: Path, tiny_model_folder: Folder) -> Path:
    return Path(shutil.copytree(tiny_model_folder("bert"), tmp_path / "model"))


def edit(file: Path, **changes: Any) -> None:
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(known | changes))


def refusal(folder: Path) -> list[str]:
    """The problems of a folder, without its name."""
    with pytest.raises(ModelError) as caught:
        gate.check_folder("m", folder)
    return [problem.removeprefix("model m: ") for problem in caught.value.problems]


def test_every_problem_is_told_at_once_with_its_file(folder: Path) -> None:
    edit(folder / "config.json", auto_map={"AutoModel": "x.Y"}, n_layer=10**9, text_config={"num_layers": -(10**6)})
    edit(folder / "tokenizer_config.json", merges_file="/etc/passwd")
    (folder / "adapter_config.json").write_text("{}")
    (folder / "generation_config.json").write_text("[" * 10**5)
    os.mkfifo(folder / "chat_template.jinja")
    found = refusal(folder)
    assert len(found) == 7
    for number, start in enumerate((
        "chat_template.jinja: a pipe, expected a regular file",
        "adapter_config.json: an adapter in the folder of a model",
        "config.json: auto_map names code, which is never run",
        "config.json: n_layer is 1000000000, expected an integer from -1,000 to 1,024",
        "config.json: text_config.num_layers is -1000000",
        "tokenizer_config.json: merges_file names a part or a file",
        "generation_config.json: nested too deeply",
    )):  # fmt: skip
        assert found[number].startswith(start)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors", "seen.txt", "modules.json"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_opened(folder: Path, file: str, make: Callable[[Path], None]) -> None:
    (folder / file).unlink(missing_ok=True)
    make(folder / file)
    with pytest.raises(ModelError, match=re.escape(file)):
        load_tokenizer(find_source(ModelSettings(name=str(folder)))) if file != "seen.txt" else seen_keys(folder)
        gate.check_folder("m", folder)


def test_a_snapshot_of_the_hub_consists_of_links_into_its_own_folder(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "models--x--y"
    snapshot = place / "snapshots" / "0a"
    (place / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(folder.iterdir()):
        shutil.copy(file, place / "blobs" / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    gate.check_folder("m", snapshot)
    (tmp_path / "vocab.txt").touch()
    for target in ("../../../vocab.txt", "/dev/zero", "../../blobs", "nowhere"):
        (snapshot / "vocab.txt").unlink(missing_ok=True)
        (snapshot / "vocab.txt").symlink_to(target)
        assert refusal(snapshot) == [
            "vocab.txt: a link, expected the file itself; cp -rL makes a copy of a folder without links"
        ]
    (snapshot / "vocab.txt").unlink()
    (place / "blobs").rename(tmp_path / "elsewhere")
    (place / "blobs").symlink_to(tmp_path / "elsewhere")
    assert "config.json: a link, expected the file itself; cp -rL makes a copy of a folder without links" in refusal(
        snapshot
    )


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
def test_a_folder_in_the_place_of_a_file_is_told(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    assert refusal(folder)[0] == f"{name}: a folder, expected a regular file; put the file itself there"


def test_a_hub_model_is_fetched_without_what_is_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def fetch(name: str, **how: Any) -> str:
        asked.append((how["revision"], how["allow_patterns"], how["ignore_patterns"], how["local_files_only"]))
        return str(folder)

    monkeypatch.setattr(source, "snapshot_download", fetch)
    found = find_source(ModelSettings(name="x/y", revision="v1"))
    load_tokenizer(found)
    small, large = asked
    assert small == ("v1", [*source.HUB_FILES], "*/*", False) and large == (
        folder.name,
        "model.safetensors",
        "*/*",
        False,
    )
    assert not any(name.endswith((".bin", ".py", ".pt", "*")) for name in source.HUB_FILES)
    edit(folder / "config.json", model_type="rag")
    with pytest.raises(ModelError, match=r"model x/y: config\.json: names the model type 'rag'"):
        load_config(found)
    source.snapshot.cache_clear()


def test_an_index_names_files_beside_it(folder: Path) -> None:
    whole = load_file(folder / "model.safetensors")
    names = sorted(whole)
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: whole[name] for name in part}, folder / f"model-{number}.safetensors", {"format": "pt"})
    (folder / "model.safetensors").unlink()
    listed = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(names)}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    here = find_source(ModelSettings(name=str(folder)))
    load_classifier(here, load_tokenizer(here), ("a", "b"), "single_label_classification", "head", 1)
    assert gate.shapes_in(folder) == {name: tuple(tensor.shape) for name, tensor in whole.items()}
    for name in ("../w.safetensors", "/w.safetensors", "pytorch_model.bin", "a/b.safetensors", 7, ["x"]):
        index.write_text(json.dumps({"weight_map": listed | {"x": name}}))
        assert "expected the plain name of a .safetensors file" in refusal(folder)[0]
    index.write_text(json.dumps({"weight_map": listed | {"x": "missing.safetensors"}}))
    assert "which is not in the folder" in refusal(folder)[0]
    index.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80")
    assert "model.safetensors: is missing; weights that are stored as code are never read" in refusal(folder)[0]


def test_a_header_describes_its_file_to_the_last_byte(tmp_path: Path) -> None:
    def made(entries: Any, size: int = 8, length: int | None = None) -> Path:
        text = json.dumps(entries).encode()
        file = tmp_path / "w.safetensors"
        file.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + bytes(size))
        return file

    good = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    assert weights.read_shapes(made({"a": good, "__metadata__": {"format": "pt"}})) == {"a": (2,)}
    for change, why in (
        ({"shape": [3]}, "another size"), ({"shape": [-2]}, "a shape or place"), ({"shape": [True, 2]}, "a shape"),
        ({"shape": [2**40] * 2}, "another size"), ({"dtype": "X"}, "of type"), ({"data_offsets": [8, 0]}, "another"),
        ({"data_offsets": [8, 16]}, "a gap"), ({"file": "x"}, "alone"), ({"shape": [1] * 9 + [2]}, "a shape"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            weights.read_shapes(made({"a": good | change}))
    for entries, size, length, why in (
        ({"a": good, "b": good}, 8, None, "overlap"), ({"a": good}, 9, None, "it holds 9"), ({}, 0, 2**62, "no file"),
        ([], 0, None, "no object"), ({"__metadata__": {"a": 1}}, 0, None, "be texts"), ({"a": good}, 8, 0, "no file"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            weights.read_shapes(made(entries, size, length))
    with pytest.raises(ValueError, match="are not on the disk"):
        os.truncate(made({"a": {"dtype": "U8", "shape": [2**27], "data_offsets": [0, 2**27]}}, 0), 2**27 + 70)
        weights.read_shapes(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("bert", {"vocab_size": 30_000_000}),
        ("bert", {"num_hidden_layers": 1_000}),
        ("bert", {"intermediate_size": 500_000}),
        ("canine", {"max_position_embeddings": 30_000_000}),
        ("xmod", {"languages": [f"l{number}" for number in range(20_000)]}),
    ],
)
def test_a_model_is_not_built_far_larger_than_its_files(
    family: str, change: dict[str, Any], tmp_path: Path, tiny_model_folder: Folder
) -> None:
    folder = shutil.copytree(tiny_model_folder(family), tmp_path / "model")
    here = find_source(ModelSettings(name=str(folder)))
    tokenizer = load_tokenizer(here)
    edit(folder / "config.json", **change)
    with pytest.raises(
        ModelError, match=r"config\.json describes .* far more than the [\d,]+ values that its files hold"
    ):
        load_classifier(here, tokenizer, ("a", "b"), "single_label_classification", "head", 1)


def test_a_large_new_head_is_no_reason(folder: Path) -> None:
    here = find_source(ModelSettings(name=str(folder)))
    labels = [f"label {number}" for number in range(100_000)]
    model: Any = load_classifier(here, load_tokenizer(here), labels, "single_label_classification", "head", 1)
    assert model.classifier.weight.shape == (100_000, 16)


def test_configurations_of_the_library_pass() -> None:
    for kind in ("bert", "mpt", "gpt2", "t5", "gemma3_text", "longformer", "xlnet", "nomic_bert", "luke", "reformer"):
        content = json.loads(CONFIG_MAPPING[kind]().to_json_string(use_diff=False)) | {"model_type": kind}
        assert list(settings.check_config("config.json", content, ())) == []


def test_types_that_fetch_parts_by_their_names_are_not_on_the_list() -> None:
    models = Path(transformers.__file__).parent / "models"
    fetching = {path.parent.name for path in models.glob("*/modeling_*.py") if b"load_backbone(" in path.read_bytes()}
    on_the_list = {kind for kind in gate.model_types() if model_type_to_module_name(kind) in fetching}
    assert fetching and on_the_list == set()


def test_a_setting_adds_a_type(folder: Path) -> None:
    edit(folder / "config.json", model_type="rag", text_config={"model_type": "dpt"})
    assert len(refusal(folder)) == 2
    assert ModelSettings(allow=" rag, dpt").allowed == {"rag", "dpt"}
    gate.check_folder("m", folder, allowed={"rag", "dpt"})


@pytest.mark.parametrize(
    "pattern",
    [
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{M}]*[\p{Ll}\p{M}]+(?i:'s|'t)?|\s*[\r\n/]*",
        r"[\p{Han}]+|[\p{Ll}&&[^\p{Han}]]+",
        r"\d{1,3}(?=(?:\d{3})*\b)",
        r" {2,}",
        r"^▁+$",
        "[一-龥ࠀ-一가-퟿]+",
    ],
)
def test_expressions_of_published_tokenizers_pass(pattern: str) -> None:
    assert objection(pattern) is None


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$", "(a|aa)*b", "(a?){40}a{40}", "(?:a?a?)*b", "a*a*a*b", r"(a)\1", r"\g<0>", "(?R)", "((a+b)+c)+d",
        "(a{500}){500}", "a{2}{3}", "[a", "(", ")", "", "a" * 10_000, None, "(?=(a+))*b", "(?<=a+)b", "(" * 30,
    ],
)  # fmt: skip
def test_expressions_that_take_without_end_do_not(pattern: Any) -> None:
    assert objection(pattern)


def test_a_tokenizer_makes_no_more_of_a_text_than_a_few_times_as_much() -> None:
    def found(normalizer: Any) -> list[str]:
        return list(tokens.check_tokenizer("t", {"model": {"type": "BPE", "vocab": {}}, "normalizer": normalizer}))

    def replace(text: str, content: str) -> dict[str, Any]:
        return {"type": "Replace", "pattern": {"String": text}, "content": content}

    honest = [{"type": "Prepend", "prepend": "▁"}, replace(" ", "▁"), replace("``", '"'), {"type": "NFKC"}]
    assert found({"type": "Sequence", "normalizers": honest}) == [] == found(None)
    for bad in (
        replace("a", "a" * 17), replace("", "a" * 16), {"type": "Sequence", "normalizers": [replace("a", "aa")] * 5},
        {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 100}, {"type": "Python"}, [], {"type": "Replace"},
        {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, {"type": "Sequence", "normalizers": "x"},
    ):  # fmt: skip
        assert found(bad)


def test_an_adapter_names_layers_plainly(tmp_path: Path) -> None:
    good = {
        "peft_type": "LORA",
        "target_modules": ["query", "SelfAttention.q"],
        "r": 8,
        "lora_alpha": 16,
        "rank_pattern": {},
    }
    save_file({"x": torch.ones(2)}, tmp_path / adapters.WEIGHTS)

    def check(**changes: Any) -> None:
        (tmp_path / adapters.CONFIG).write_text(json.dumps(good | changes))
        gate.check_adapter(tmp_path)

    check()
    check(target_modules="all-linear", modules_to_save=["classifier"], auto_mapping=None)
    for key, value in (
        ("target_modules", "(a+)+$"), ("exclude_modules", ".*"), ("layers_pattern", ["a|b"]), ("r", 10**7), ("r", True),
        ("lora_alpha", "8"), ("rank_pattern", {"a+": 8}), ("auto_mapping", {"library": "os"}), ("peft_type", ["x"]),
    ):  # fmt: skip
        with pytest.raises(
            ModelError, match=rf"adapter .*adapter_config\.json: .*{key if key != 'peft_type' else 'kind'}"
        ):
            check(**{key: value})


def test_a_folder_is_read_again_when_a_file_of_it_changes(folder: Path) -> None:
    gate.check_folder("m", folder)
    edit(folder / "config.json", backbone="x/y")
    assert "config.json: backbone names parts that are not in this folder" in refusal(folder)[0]


def test_files_that_no_library_reads_are_no_harm(folder: Path) -> None:
    for name in ("README.md", "modeling_x.py", "pytorch_model.bin", "model.onnx", "optimizer.pt", "training_args.bin"):
        (folder / name).write_bytes(b"\x80")
    gate.check_folder("m", folder)
    assert files.is_plain("a.json") and not any(map(files.is_plain, ("a/b", "..", "/", "", ".", "a\\b", None, 7)))


def test_offline_reaches_libraries_that_are_there_already(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with offline(False):
        assert not constants.HF_HUB_OFFLINE
    with offline(True):
        assert constants.is_offline_mode() and os.environ["HF_HUB_OFFLINE"] == "1"
    assert not constants.HF_HUB_OFFLINE and "HF_HUB_OFFLINE" not in os.environ
    with gate.walled(local=True):
        assert constants.is_offline_mode() and sys.stdin.read() == ""
    with gate.walled():
        assert not constants.is_offline_mode()
