"""Tiny pretrained models and small problems of every task, built in code: for tests and campaigns alike."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tunesmith.data.layout.answers import ANSWER_LISTS
from tunesmith.data.layout.spans import SPAN_LISTS
from tunesmith.data.records import Records

LEARNED = ["good", "bad", "great", "film", "book", "card", "bank", "money", "late", "lost", "new", "old", "fast", "cat"]
LABELS = ("alpha", "beta", "gamma")

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
    "qwen2": {"num_key_value_heads": 1, "vocab_size": 160},  # its tokenizer brings a token of its own
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


def tokenizer(*inputs: str) -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer: about a hundred words, and every other word letter by letter."""
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*SPECIAL_TOKENS, *WORDS.split(), *PIECES]))}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    build: Any = PreTrainedTokenizerFast
    finished: PreTrainedTokenizerFast = build(
        tokenizer_object=made,
        model_max_length=128,
        model_input_names=list(inputs),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    return finished


def save_model(family: str, folder: Path) -> Path:
    """Write a two-layer model of a family (of `FAMILIES` or `UNUSUAL`) without head, and the tokenizer.

    The weights depend on the family alone.
    """
    segments = ["token_type_ids"] if family in ("bert", "electra") else []
    made = tokenizer("input_ids", *segments, "attention_mask")
    settings: dict[str, Any] = (
        {"model_type": family, "max_position_embeddings": 128, "vocab_size": len(made)}
        | SIZES
        | (FAMILIES | UNUSUAL)[family]
    )
    library: Any = transformers
    config = library.AutoConfig.for_model(
        **settings,
        **{f"{name}_token_id": getattr(made, f"{name}_token_id") for name in ("pad", "cls", "sep")},
        bos_token_id=made.cls_token_id,
        eos_token_id=made.sep_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = library.AutoModel.from_config(config)
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def make_records(kind: str, rows: int = 24, seed: int = 0) -> Records:
    """Texts of 2 to 12 words whose labels follow from a word, so that they can be learned.

    Entities are the first word of each text (its type follows from it) and every "cat"; the answer to every question
    is the first word of its context, but every fourth question has none.
    """
    generator = np.random.default_rng(seed)
    texts: list[str] = []
    labels: list[Any] = []
    for row in range(rows):
        words = [str(w) for w in generator.choice(LEARNED[3:], generator.integers(1, 12))]
        text = " ".join([LEARNED[row % 3], *words])
        texts.append(text)
        if kind == "multilabel":
            labels.append(list(LABELS[: row % 3 + 1]))  # one to three labels; every row has the first
        elif kind == "ner":
            cats = [{"start": found.start(), "end": found.end(), "label": "cat"} for found in re.finditer("cat", text)]
            labels.append([{"start": 0, "end": len(LEARNED[row % 3]), "label": LABELS[row % 3]}, *cats])
        elif kind == "qa":
            texts[-1] = text if row % 4 else text.partition(" ")[2]
            labels.append([{"start": 0, "text": LEARNED[row % 3]}] if row % 4 else [])
        else:
            labels.append(f"{row % 3 + row / 100:.2f}" if kind == "regression" else LABELS[row % 3])
    types = {"ner": SPAN_LISTS, "qa": ANSWER_LISTS}
    columns = {
        "id": [str(row) for row in range(rows)],
        "text": texts,
        "label": pa.array(labels, types.get(kind)),
        "row": pa.array(range(1, rows + 1), pa.int64()),
    }
    if kind == "qa":
        columns |= {"text": ["the good one ?"] * rows, "text_pair": texts}
    return Records(pa.table(columns), "made.csv")


def write_rows(kind: str, file: Path, rows: int = 60, seed: int = 0) -> Path:
    """The texts of `make_records` as JSON lines in the usual names; ``"adapt"``: a text a line, without labels."""
    found = make_records("classification" if kind == "adapt" else kind, rows, seed).table.to_pylist()
    names = {"multilabel": "labels", "regression": "score", "ner": "spans"}
    lines = []
    for row in found:
        text = f"{row['text_pair' if kind == 'qa' else 'text']} {row['id']}"  # so that no two are alike
        if kind == "adapt":
            lines.append(f"{text} {text}")
            continue
        if kind == "qa":
            answers = [{"text": one["text"], "answer_start": one["start"]} for one in row["label"]]
            shown = {"question": row["text"], "context": text, "answers": answers}
        else:
            label = float(row["label"]) if kind == "regression" else row["label"]
            shown = {"text": text, names.get(kind, "label"): label}
        lines.append(json.dumps({"id": row["id"], **shown}))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file
