"""What all tests share: no network, one thread, and tiny pretrained models built in code."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before any import that reads it
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import functools
import gc
import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache, or another test's."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "tunesmith-cache"))


@pytest.fixture(autouse=True, scope="module")
def _libraries_are_no_garbage() -> None:
    """Each training begins by collecting garbage: most of the time of a tiny one, unless imports are left out of it."""
    gc.freeze()


# The same examples in every run, and none refused because the machine was busy.
hypothesis.settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = (
    "the a an and or not is was are in on of to for with my your it this that good bad great poor fine awful film book "
    "card bank money account payment late arrived lost stolen new old fast slow red green blue one two three cat dog "
    "bird tree house car road river match goal team player price market share minister vote law music song . , ! ?"
)
PIECES = [*"abcdefghijklmnopqrstuvwxyz0123456789", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789")]

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
# Family → what its configuration calls things differently, or needs besides; `model_type` where it is not the name.
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"max_position_embeddings": 130, "type_vocab_size": 1},
    "xlm-roberta": {"max_position_embeddings": 130, "type_vocab_size": 1},
    "camembert": {"max_position_embeddings": 130, "type_vocab_size": 1},
    "albert": {"embedding_size": 8},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "electra": {"embedding_size": 16},
    "llama": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 1},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 16},
    "mpnet": {"max_position_embeddings": 130},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "deberta-v3": {
        "model_type": "deberta-v2",
        "relative_attention": True,
        "position_biased_input": False,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
    },
}
# Those that need other care than most; see `tests/contract/test_families.py`.
UNUSUAL: dict[str, dict[str, Any]] = {
    "bros": {},
    "canine": {"local_transformer_stride": 16, "num_hash_buckets": 128},
    "deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "pooler_hidden_size": 16},
    "nomic_bert": {"head_dim": 8},
    "reformer": {"attn_layers": ["local"], "axial_pos_shape": [8, 16], "axial_pos_embds_dim": [8, 8], "num_buckets": 2},
    "t5": {"d_model": 16, "d_ff": 32, "d_kv": 8, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0},
    "xmod": {"languages": ["en_XX"]},
}


@pytest.fixture(scope="session")
def families() -> tuple[str, ...]:
    """The common ones among the names that `tiny_model_folder` knows."""
    return tuple(FAMILIES)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anything but this machine fails at once and says so."""
    connect = socket.socket.connect

    @functools.wraps(connect)
    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(str(address[0])):
            raise RuntimeError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _tokenizer(*inputs: str) -> PreTrainedTokenizerFast:
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*SPECIAL_TOKENS, *WORDS.split(), *PIECES]))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=128,
        model_input_names=list(inputs),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer: about a hundred words, and every other word letter by letter."""
    return _tokenizer("input_ids", "token_type_ids", "attention_mask")


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Factory: family (of `FAMILIES` or `UNUSUAL`) → folder with a two-layer model without head, and the tokenizer.

    The weights depend on the family alone. Folders are shared by all tests of a session and must not be changed.
    """

    @functools.cache
    def make(family: str) -> Path:
        segments = ["token_type_ids"] if family in ("bert", "electra") else []
        tokenizer = _tokenizer("input_ids", *segments, "attention_mask")
        settings = {"model_type": family, "max_position_embeddings": 128} | SIZES | (FAMILIES | UNUSUAL)[family]
        config = transformers.AutoConfig.for_model(
            vocab_size=len(tokenizer),
            **settings,
            **{f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "cls", "sep")},
            bos_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = transformers.AutoModel.from_config(config)
        folder = tmp_path_factory.mktemp(family)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make
