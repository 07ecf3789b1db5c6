"""Artefacts: tokens without transformers, the gate, and what a network file may ask for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import tunesmith
from tests.tiny import WORDS, tokenizer
from tunesmith.artefact import onnx_file
from tunesmith.artefact.folder import Artefact, Source, listed
from tunesmith.artefact.tokens import TokenizerFacts, Tokens, save_tokenizer
from tunesmith.data.layout import Layout
from tunesmith.data.shapes import ONE_LABEL
from tunesmith.errors import ModelError, UsageError
from tunesmith.models.facts import Facts
from tunesmith.publishing import Parcel
from tunesmith.tasks.base import LabelSpace

LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
SPECIALS = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>"}


def byte_level() -> PreTrainedTokenizerFast:
    """As RoBERTa's."""
    vocabulary = {
        token: n for n, token in enumerate([*dict.fromkeys(SPECIALS.values()), "<mask>", *LETTERS, "th", "Ġt"])
    }
    made = Tokenizer(models.BPE(vocabulary, [("t", "h"), ("Ġ", "t")]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.post_processor = processors.RobertaProcessing(("</s>", vocabulary["</s>"]), ("<s>", vocabulary["<s>"]))
    names: Any = {**SPECIALS, "sep_token": "</s>", "mask_token": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_input_names=["input_ids", "attention_mask"], **names)


def unigram() -> PreTrainedTokenizerFast:
    """As XLM-RoBERTa's, which cuts from the left here."""
    pieces = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")]
    pieces += [(f"▁{word}", -3.0 - n / 50) for n, word in enumerate(WORDS.split())]
    pieces += [(letter, -9.0) for letter in "▁abcdefghijklmnopqrstuvwxyzäöü漢.,"]
    made = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names: Any = {**SPECIALS, "sep_token": "</s>", "mask_token": "<mask>", "truncation_side": "left"}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=made, model_input_names=inputs, padding_side="left", **names)


def literal() -> PreTrainedTokenizerFast:
    """For which special tokens in a text are text."""
    made = tokenizer("input_ids", "token_type_ids", "attention_mask")
    made.split_special_tokens = True
    return made


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "WordPiece": lambda: tokenizer("input_ids", "token_type_ids", "attention_mask"),
    "byte-level BPE": byte_level,
    "Unigram": unigram,
    "special tokens as text": literal,
}
MADE = {name: make() for name, make in TOKENIZERS.items()}
NASTY = ["[SEP]", "[CLS] the", "</s>", "<mask>", "\u200b", "e\u0301", "\U0001f3f3\ufe0f\u200d\U0001f308", "漢字", "ﬁ"]
NASTY += ["\x00", "\t\n", "   ", "ß", "İ", "a\u00adb"]
LETTER = st.characters(exclude_categories=["Cs"])
PIECES = st.one_of(st.sampled_from([*NASTY, *WORDS.split()]), st.text(LETTER, max_size=4))
TEXT = st.lists(PIECES, max_size=12).map(" ".join)
MODES: dict[str, tuple[bool, dict[str, Any]]] = {
    "whole": (False, {}),
    "cut": (False, {"truncation": True, "max_length": 8}),
    "pairs": (True, {}),
    "cut pairs": (True, {"truncation": True, "max_length": 9}),
    "windows": (False, {"truncation": True, "max_length": 8, "stride": 2, "windows": True}),
    "windows of the second": (True, {"truncation": "only_second", "max_length": 24, "stride": 3, "windows": True}),
    "pieces": (False, {"add_special_tokens": False, "return_offsets_mapping": True}),
}


@pytest.mark.parametrize("name", TOKENIZERS)
@given(texts=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4), mode=st.sampled_from(sorted(MODES)))
def test_tokens_are_those_of_transformers(name: str, texts: list[tuple[str, str]], mode: str) -> None:
    pair, options = MODES[mode]
    options = dict(options)
    if options.pop("windows", False):
        options |= {"return_overflowing_tokens": True, "return_offsets_mapping": True}
    first = [text[:6] if pair else text for text, _ in texts]
    second = [text for _, text in texts] if pair else None
    theirs = MADE[name]
    ours = Tokens(Tokenizer.from_str(theirs.backend_tokenizer.to_str()), TokenizerFacts.of(theirs), name)
    wanted, found = theirs(first, second, verbose=False, **options), ours(first, second, **options)
    for column in found:
        assert found[column] == wanted[column], column
    assert {*found} == {*wanted} - {"attention_mask"}
    if "return_overflowing_tokens" in options:
        rows = range(len(found["input_ids"]))
        assert [found.sequence_ids(row) for row in rows] == [wanted.sequence_ids(row) for row in rows]
    assert ours.num_special_tokens_to_add(pair) == theirs.num_special_tokens_to_add(pair)


def test_a_tokenizer_written_in_python_is_not_taken() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match=r"its tokenizer \(Slow\) is written in Python"):
        TokenizerFacts.of(Slow())


def network(location: str | None = None, domain: str = "", operator: str = "MatMul") -> onnx.ModelProto:
    """A network that adds up embeddings."""
    table = numpy_helper.from_array(np.random.default_rng(0).normal(size=(256, 2)).astype(np.float32), "table")
    if location:
        table.ClearField("raw_data")
        table.data_location = TensorProto.EXTERNAL
        table.external_data.add(key="location", value=location)
    axis = numpy_helper.from_array(np.array([1]), "axis")
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["found"]),
        helper.make_node("Cast", ["attention_mask"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["real", "axis"], ["row"]),
        helper.make_node(operator, ["row", "found"], ["sum"], domain=domain),
        helper.make_node("Squeeze", ["sum", "axis"], ["logits"]),
    ]
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "l"]) for name in ("input_ids", "attention_mask")
    ]
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])
    made = helper.make_graph(nodes, "made", ids, [out], [table, axis])
    opsets = [helper.make_opsetid("", 20), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def save(folder: Path, made: onnx.ModelProto) -> Path:
    """An artefact with a network."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    facts = save_tokenizer(tokenizer("input_ids", "attention_mask"), folder)
    layout = Layout(ONE_LABEL, "text", None, ("label",))
    Facts(task="classification", labels=LabelSpace(("no", "yes")), layout=layout, max_length=16).save(folder)
    vouch(folder, facts)
    return folder


def vouch(folder: Path, facts: TokenizerFacts) -> None:
    Artefact(
        precision="float32",
        opset=20,
        inputs=["input_ids", "attention_mask"],
        limit=16,
        tokenizer=facts,
        source=Source(task="classification", name="made", versions={}),
        files=listed(folder),
    ).save(folder)


def test_an_artefact_is_loaded_and_has_its_own_precision(tmp_path: Path) -> None:
    folder = save(tmp_path / "made", network())
    one, both = tunesmith.load(folder).predict(["good film"]), tunesmith.load(folder).predict(["good film", "a b c d"])
    assert one[0].scores == pytest.approx(both[0].scores)
    with pytest.raises(UsageError, match="is exported in float32; leave it out"):
        tunesmith.load(folder, precision="bfloat16")
    (folder / "NOTICE").write_text("may be added")
    tunesmith.load(folder)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"\x08" * 10), "model.onnx is not the file"),
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx is missing"),
        (lambda folder: (folder / "more.py").write_text(""), "more.py is no part of an artefact"),
        (lambda folder: (folder / "model.onnx.data").write_text(""), "model.onnx.data is not listed"),
        (lambda folder: os.symlink("/etc/hostname", folder / "README.md"), "README.md is a link"),
        (lambda folder: (folder / "artefact.json").write_text("{"), r"artefact.json: damaged"),
        (lambda folder: (folder / "artefact.json").write_text('{"version": 2}'), "artefact.json"),
    ],
)
def test_a_folder_that_is_not_what_was_written_is_refused(harm: Any, said: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "made", network())
    harm(folder)
    with pytest.raises(ModelError, match=said):
        tunesmith.load(folder)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (network("../secret"), "asks for weights in '../secret', expected model.onnx.data"),
        (network("/etc/passwd"), "asks for weights in '/etc/passwd'"),
        (network(domain="evil"), "asks for operators of 'evil'"),
        (network(operator="Loop"), "asks for the operator Loop"),
        (network(operator="NoSuch"), r"onnxruntime \S+ refuses it \(… .*NoSuch.*\); install the one that"),
    ],
)
def test_a_network_that_asks_for_more_is_refused(made: onnx.ModelProto, said: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "made", made)
    with pytest.raises(ModelError, match=said):
        tunesmith.load(folder)


def test_labels_that_are_not_the_networks_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "made", network())
    facts, artefact = Facts.load(folder), Artefact.load(folder)
    facts.model_copy(update={"labels": LabelSpace(("no",))}).save(folder)
    vouch(folder, artefact.tokenizer)
    with pytest.raises(ModelError, match=r"labels.names: expected 2, as many as the network's outputs, found 1"):
        tunesmith.load(folder)


def test_a_folder_of_links_is_refused_with_what_to_do(tmp_path: Path) -> None:
    whole, mounted = save(tmp_path / "whole", network()), tmp_path / "mounted"  # as Kubernetes mounts a ConfigMap
    mounted.mkdir()
    whole.rename(mounted / "..data")
    for file in (mounted / "..data").iterdir():
        (mounted / file.name).symlink_to(f"..data/{file.name}")
    said = "tunesmith.json is a link, expected the file itself; cp -rL makes a copy of a folder without links"
    with pytest.raises(ModelError, match=said):
        tunesmith.load(mounted)
    with pytest.raises(ModelError, match=said):
        Parcel.of(mounted)
    shutil.copytree(mounted, tmp_path / "copy")
    assert tunesmith.load(tmp_path / "copy").precision == "float32"


def test_a_network_that_fails_on_a_text_says_so(tmp_path: Path) -> None:
    folder = save(tmp_path / "made", network(operator="Add"))
    with pytest.raises(ModelError, match=r"the network failed .*export the model again"):
        tunesmith.load(folder).predict(["good bad film"])


@given(content=st.binary(max_size=200), at=st.integers(0, 500), cut=st.integers(0, 500))
def test_any_bytes_are_a_network_or_are_told_to_be_none(content: bytes, at: int, cut: int) -> None:
    whole = network().SerializeToString()
    for some in (content, whole[:at] + content + whole[at:], whole[:cut]):
        with suppress(ValueError):
            assert all(isinstance(problem, str) for problem in onnx_file.objections(some))
