"""The layout of sentence-transformers: a list of modules, each with a folder, the backbone among them.

A classifier with pooling is saved in it, with nothing at the top that plain transformers could take for a classifier::

    modules.json                 Transformer, Pooling, Dense
    0_Transformer/               the backbone and its tokenizer, for `AutoModel`
    1_Pooling/config.json
    2_Dense/                     the head, whose outputs are the logits

Many sentence encoders have the backbone at the top instead; both are read.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from tunesmith.disk import read_json

MODULES = "modules.json"
BACKBONE, POOLING, DENSE = "0_Transformer", "1_Pooling", "2_Dense"
MAX_TOKENS = "sentence_bert_config.json"
# Our names of poolings → the key that says so (until release 5 of sentence-transformers), and its value since then.
POOLING_KEYS = {"mean": "pooling_mode_mean_tokens", "first": "pooling_mode_cls_token"}
POOLING_VALUES = {"mean": "mean", "first": "cls"}


def backbone_folder(folder: Path) -> str:
    """Where in a model's folder its backbone lies: the folder that ``modules.json`` gives its first module, or ""."""
    try:
        inside = read_json(folder / MODULES)[0]["path"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    is_name = isinstance(inside, str) and PurePosixPath(inside).parts == (inside,) and inside != ".."
    return inside if is_name and (folder / inside).is_dir() and not (folder / inside).is_symlink() else ""


def sentence_pooling(folder: Path | None) -> str | None:
    """``"mean"`` or ``"first"`` where the folder says that it is a sentence encoder with that pooling, else None."""
    if folder is None or not (folder / MODULES).is_file():
        return None
    try:
        pooling = read_json(folder / POOLING / "config.json")
        said = pooling.get("pooling_mode")
        by_value = {value: name for name, value in POOLING_VALUES.items()}
        by_key = next((name for name, key in POOLING_KEYS.items() if pooling.get(key) is True), None)
        return by_value.get(said) if isinstance(said, str) else by_key
    except (OSError, ValueError, AttributeError):
        return None


def write_modules(folder: Path, pooling: str, head: dict[str, Tensor], about: dict[str, str], max_length: int) -> None:
    """Everything of a classifier with pooling but its backbone, for which a folder is made.

    Args:
        head: ``weight`` (labels, hidden) and ``bias`` (labels,).
        about: what the file of these weights says of them besides.
        max_length: tokens that are read of a text.
    """
    labels, hidden = head["weight"].shape
    kinds = zip((BACKBONE, POOLING, DENSE), ("Transformer", "Pooling", "Dense"), strict=True)
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    files: dict[str, Any] = {
        MODULES: modules,
        f"{BACKBONE}/{MAX_TOKENS}": {"max_seq_length": max_length, "do_lower_case": False},
        f"{POOLING}/config.json": {"word_embedding_dimension": hidden}
        | {key: name == pooling for name, key in POOLING_KEYS.items()},
        f"{DENSE}/config.json": {
            "in_features": hidden,
            "out_features": labels,
            "bias": True,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    weights = {f"linear.{key}": value.contiguous() for key, value in head.items()}
    save_file(weights, folder / DENSE / "model.safetensors", metadata=about)
