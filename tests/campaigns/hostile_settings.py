"""Settings that mean harm, of models and of what stands beside them; see `tests.campaigns.hostile_folders`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.campaigns.hostile_folders import HUGE, Change, all_of, edit, gone, weights, write

CODE = "open({mark!r}, 'w').close()\nclass Owned:\n    pass\n"
MAP = {"AutoConfig": "owned.Owned", "AutoModel": "owned.Owned", "AutoModelForSequenceClassification": "owned.Owned"}


def keys(mark: str, outside: Path) -> Iterator[tuple[str, Change]]:
    """Keys by which a library would load something else."""
    owned = write("owned.py", CODE.format(mark=mark))
    values: dict[str, Any] = {
        "auto_map": MAP,
        "text_config": {"auto_map": MAP},
        "backbone": "timm/resnet18",
        "use_timm_backbone": True,
        "backbone_config": {"model_type": "dpt"},
        "use_pretrained_backbone": True,
        "vision_config": {"backbone": "x/y"},
        "attn_implementation": "stranger/kernel",
        "_attn_implementation": "stranger/kernel",
        "_attn_implementation_internal": "stranger/kernel",
        "experts_implementation": "stranger/kernel",
        "_experts_implementation_internal": {"": "stranger/kernel"},
        "transformers_weights": "../w.safetensors",
        "configuration_files": ["config.9.json"],
        "fusion_config": {"x": "y"},
        "gguf_file": str(outside / "w.gguf"),
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
        "kernel_config": {"a": "b/c"},
        "distributed_config": {"tp_plan": "auto"},
        "adapter_kwargs": {"_adapter_model_path": str(outside)},
        "custom_generate": "stranger/code",
        "extra_files": ["../w.safetensors"],
        "trust_remote_code": True,
        "to_dict": "x",
        "get_text_config": {"a": 1},
        "__class__": "x",
        "validate": 1,
        "from_pretrained": [1],
        "tokenizer_class": "RagTokenizer",
    }
    for key, value in values.items():
        yield f"config.json: {key}={value}", all_of(owned, edit("config.json", **{key: value}))
    for quantized in ("gptq", "awq", "hqq", "quark", "compressed-tensors", "fp8"):
        change = edit("config.json", quantization_config={"quant_method": quantized, "bits": 4})
        yield f"config.json: quantized, {quantized}", change
    for kind in (
        "rag",
        "encoder-decoder",
        "vision-encoder-decoder",
        "speech-encoder-decoder",
        "dpt",
        "timm_wrapper",
        "musicgen",
        "owned",
        "",
        None,
        ["bert"],
        7,
        "vit",
        "../x",
        "omdet-turbo",
        "upernet",
    ):
        part = {"model_type": "bert", "auto_map": MAP}
        change = edit("config.json", model_type=kind, encoder=part, decoder=part, question_encoder=part, generator=part)
        yield f"config.json: model_type={kind!r}", all_of(owned, change)
    tokenizer: dict[str, Any] = {
        "auto_map": {"AutoTokenizer": ["owned.Owned", "owned.Owned"]},
        "tokenizer_class": "RagTokenizer",
        "merges_file": str(outside / "merges.txt"),
        "spm_file": str(outside / "s.model"),
        "vocab": str(outside / "v.txt"),
        "merges": str(outside / "m.txt"),
        "init_inputs": [str(outside / "vocab.txt")],
        "gguf_file": str(outside / "x"),
        "fast_tokenizer_files": ["tokenizer.9.json"],
        "sp_model_kwargs": {"model_file": str(outside / "s.model")},
        "mecab_kwargs": {"mecab_option": f"-r {outside}"},
        "tokenizer_object": "x",
        "cache_dir": str(outside),
        "token": "x",
        "post_processor": {},
        "model_max_length": -5,
        "added_tokens_decoder": {str(HUGE): {"content": "x"}},
        "extra_special_tokens": [f"<{i}>" for i in range(200_000)],
        "pad_token": "x" * 10**6,
        "max_length": 10**12,
        "source_spm": "/etc/passwd",
        "emoji_file": "/etc/passwd",
        "chat_template_file": "/etc/passwd",
        "tokenizer_padding": {"length": HUGE},
        "trust_remote_code": True,
    }
    for key, value in tokenizer.items():
        value = value or {"x": 1}
        yield (
            f"tokenizer_config.json: {key}={str(value)[:60]}",
            all_of(owned, edit("tokenizer_config.json", **{key: value})),
        )
    for key in ("tokenizer_file", "vocab_file", "merges_file", "init_inputs", "vocab", "auto_map", "name_or_path"):
        yield f"special_tokens_map.json: {key}", edit("special_tokens_map.json", **{key: str(outside / "vocab.txt")})
    yield "special_tokens_map.json: many", edit("special_tokens_map.json", extra_special_tokens=["x"] * 10**6)
    for base in ("stranger/model", str(outside), None):
        change = edit(
            "adapter_config.json", peft_type="LORA", base_model_name_or_path=base, r=8, target_modules=["query"]
        )
        yield f"an adapter at the top, of {base}", change


def bombs() -> Iterator[tuple[str, str, Change]]:
    """Family, words, and a size that would exhaust memory or time."""
    sizes = {
        "bert": (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
            "num_attention_heads",
            "num_labels",
            "text_config__num_hidden_layers",
            "n_layer",
            "pad_token_id",
            "chunk_size_feed_forward",
            "a__b__c__d_model",
            "encoder_layers",
        ),
        "distilbert": ("n_layers", "dim", "hidden_dim", "max_position_embeddings"),
        "t5": ("num_layers", "num_decoder_layers", "d_ff", "d_kv", "relative_attention_num_buckets"),
        "llama": ("num_hidden_layers", "head_dim", "num_key_value_heads", "intermediate_size"),
        "canine": ("num_hash_buckets", "num_hash_functions", "max_position_embeddings"),
        "albert": ("num_hidden_groups", "inner_group_num", "embedding_size"),
        "deberta-v2": ("position_buckets", "max_relative_positions", "pooler_hidden_size", "conv_kernel_size"),
        "modernbert": ("num_hidden_layers", "intermediate_size"),
        "mpnet": ("relative_attention_num_buckets",),
    }
    values = {
        "vocab_size": 33 * 10**6,
        "hidden_size": 524_288,
        "max_position_embeddings": 33 * 10**6,
        "intermediate_size": 524_288,
        "num_hidden_layers": 1_024,
        "dim": 524_288,
        "d_ff": 524_288,
        "n_layers": 1_000,
        "num_layers": 1_024,
        "num_hash_buckets": 33 * 10**6,
        "embedding_size": 524_288,
    }
    for family, names in sizes.items():
        for name in names:
            yield family, f"config.json: {name}={HUGE}", edit("config.json", **{name: HUGE})
            if name in values:
                yield family, f"config.json: {name}={values[name]}", edit("config.json", **{name: values[name]})
    for name in ("vocab_size", "num_hidden_layers", "hidden_size", "num_labels"):
        yield "bert", f"config.json: {name}=-{HUGE}", edit("config.json", **{name: -HUGE})
        yield "bert", f"config.json: {name}=10**400", edit("config.json", **{name: 10**400})
    labels = {str(i): f"LABEL_{i}" for i in range(10)} | {str(10**15): "far"}
    yield "bert", "left alone: a label with a far number", edit("config.json", id2label=labels)
    yield (
        "bert",
        "config.json: a million and more labels",
        edit("config.json", id2label={str(i): "" for i in range(1_000_001)}),
    )
    yield "bert", "config.json: lists of sizes", edit("config.json", hidden_sizes=[HUGE] * 10)
    yield (
        "distilbert",
        "config.json: waves",
        edit("config.json", sinusoidal_pos_embds=True, max_position_embeddings=10**7),
    )
    yield "reformer", "config.json: axes", edit("config.json", axial_pos_shape=[2**24, 2**24])
    yield "xmod", "config.json: languages", edit("config.json", languages=[f"l{i}" for i in range(50_000)])


def pooled() -> Iterator[tuple[str, Change]]:
    """What stands beside the backbone of a classifier with pooling."""
    modules: dict[str, Any] = {
        "above": [{"path": "../x"}],
        "absolute": [{"path": "/etc"}],
        "text": "x",
        "deep": [[[[]]]],
        "none": [],
        "a million": [{"path": ""}] * 10**5,
        "a number": [{"path": 7}],
        "down": [{"path": "a/../../b"}],
    }
    for what, value in modules.items():
        yield f"modules.json: {what}", write("modules.json", json.dumps(value))
    dense = "2_Dense/model.safetensors"
    yield "head: pickled", all_of(gone(dense), write("2_Dense/pytorch_model.bin", b"\x80"))
    yield "head: not finite", weights(lambda w: w["linear.weight"].fill_(float("nan")), dense)
    yield "head: of another width", weights(lambda w: w.update({"linear.weight": w["linear.weight"][:, :3]}), dense)
    yield "head: of other names", weights(lambda w: w.update({"x": w.pop("linear.bias")}), dense)
    yield "head: no file of weights", write(dense, b"x" * 100)
    yield "pooling: no JSON", write("1_Pooling/config.json", "[" * 10**5)
    yield "pooling: none", edit("1_Pooling/config.json", pooling_mode_mean_tokens=False)
    yield "backbone: code", edit("0_Transformer/config.json", auto_map=MAP)
    yield "backbone: rag", edit("0_Transformer/config.json", model_type="rag")
    yield "backbone: an adapter", write("0_Transformer/adapter_config.json", "{}")
    yield "seen.txt: no keys", write("seen.txt", "0" * 999)


def honest() -> Iterator[tuple[str, Callable[[Path], Any]]]:
    """What an honest folder may hold besides."""
    yield "as it is", lambda folder: None
    yield (
        "a card, code and pickles beside it",
        all_of(
            write("README.md", "# A model"),
            write("modeling_x.py", "raise SystemExit"),
            write("pytorch_model.bin", b"x"),
            write("tf_model.h5", b"x"),
            write("onnx/model.onnx", b"x"),
            write("pytorch_model.bin.index.json", "{}"),
        ),
    )
    yield (
        "names of the machine where it was saved",
        all_of(
            edit("config.json", _name_or_path="stranger/model", torch_dtype="float16", architectures=["BertModel"]),
            edit(
                "tokenizer_config.json",
                name_or_path="/home/x",
                special_tokens_map_file="/home/x/special.json",
                tokenizer_file="/home/x/tokenizer.json",
                vocab_file="/home/x/vocab.txt",
                model_max_length=10**30,
                sp_model_kwargs={},
                added_tokens_decoder={"0": {"content": "[PAD]", "special": True}},
            ),
        ),
    )
    yield (
        "labels called like keys",
        edit("config.json", id2label={"0": "auto_map", "1": "backbone"}, label2id={"auto_map": 0, "backbone": 1}),
    )
    yield "nothing set", edit("config.json", quantization_config=None, backbone=None, pruned_heads={})
