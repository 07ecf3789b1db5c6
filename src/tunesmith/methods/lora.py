"""Low-rank adaptation (Hu et al. 2021) through PEFT; the head is always trained and saved with the adapter."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from tunesmith.config.schema import TrainingSettings
from tunesmith.errors import ModelError, UsageError
from tunesmith.methods.base import Method, optimizer_groups
from tunesmith.models.heads import PooledClassifier, base_model, head_modules
from tunesmith.registry import did_you_mean

# Query and value projections by what architectures call them, as in the paper; fused ones where they are not apart.
TARGETS = (
    ("query", "value"),
    ("q_proj", "v_proj"),
    ("query_proj", "value_proj"),
    ("q_lin", "v_lin"),
    ("attn.q", "attn.v"),
    ("SelfAttention.q", "SelfAttention.v"),
    ("query_key_value",),
    ("Wqkv", "Wo"),
    ("qkv_proj",),
    ("c_attn",),
    ("in_proj",),
)


TASK_TYPES = {"sequence": "SEQ_CLS", "token": "TOKEN_CLS"}
"""What PEFT calls the heads of transformers; its class for questions would drop ``token_type_ids`` without a word."""


def save_adapter(model: PeftModel, folder: Path, base: str | None, head: str) -> None:
    """Write an adapter for PEFT on the model that it began with: with the head, or for the backbone below a pooled one.

    Args:
        base: what others know the model by that it began with.
        head: of the task.
    """
    config: Any = copy.deepcopy(model.peft_config["default"])
    weights, task_type = get_peft_model_state_dict(model, save_embedding_layers=False), TASK_TYPES.get(head)
    if isinstance(model.get_base_model(), PooledClassifier):
        body = "base_model.model.backbone."
        weights = {f"base_model.model.{n.removeprefix(body)}": w for n, w in weights.items() if n.startswith(body)}
        config.modules_to_save, task_type = None, "FEATURE_EXTRACTION"
    config.task_type, config.base_model_name_or_path, config.inference_mode = task_type, base, True
    config.target_modules = sorted(config.target_modules)  # a set, which PEFT would write in the order of this process
    folder.mkdir(parents=True)
    config.save_pretrained(str(folder))
    weights = {name: weight.detach().clone().contiguous() for name, weight in weights.items()}
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})


class Lora(Method):
    """Train low-rank updates of the target layers, and the head."""

    name = "lora"
    title = "low-rank adaptation (LoRA)"
    own = ("lora_r", "lora_alpha", "lora_dropout", "lora_targets")
    lr_factor = 20  # few parameters must make the same move

    def apply(self, model: nn.Module) -> nn.Module:
        config = LoraConfig(
            r=self.settings.lora_r,
            lora_alpha=self.settings.lora_alpha,
            lora_dropout=self.settings.lora_dropout,
            target_modules=self._targets(model),
            modules_to_save=head_modules(model),
        )
        with warnings.catch_warnings():
            # PEFT 0.21 still reads a name that transformers 5.23 has renamed.
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
            return get_peft_model(model, config)

    def parameter_groups(self, model: nn.Module, training: TrainingSettings) -> list[dict[str, Any]]:
        assert training.lr is not None and training.head_lr is not None
        trained = (name for name, parameter in model.named_parameters() if parameter.requires_grad)
        rates = {name: training.lr if "lora_" in name else training.head_lr for name in trained}
        return optimizer_groups(model, rates, training.weight_decay)

    def finish(self, model: nn.Module) -> nn.Module:
        return model.merge_and_unload() if isinstance(model, PeftModel) else model

    def _targets(self, model: nn.Module) -> list[str]:
        linear = (nn.Linear, Conv1D)  # GPT-2 keeps its projections in the second, which PEFT knows
        names = [name for name, module in base_model(model).named_modules() if isinstance(module, linear)]
        known = sorted({name.rpartition(".")[2] for name in names})
        wanted = self.settings.lora_targets

        def there(target: str) -> bool:
            return any(f".{name}".endswith(f".{target}") for name in names)

        if wanted is None:
            targets = list(next((known for known in TARGETS if all(map(there, known))), ()))
        else:
            targets = [name.strip() for name in wanted.split(",") if name.strip()]
        missing = [target for target in targets if not there(target)]
        if not targets and wanted is None:
            remedy = f"name the layers to adapt with method.lora_targets=NAMES ({', '.join(known)})"
            raise ModelError(f"method.name=lora: no default targets for this architecture; {remedy}")
        if missing or not targets:
            hints = "; ".join(f"{name!r}: {did_you_mean(name, known)}" for name in missing) or "none given"
            raise UsageError(f"method.lora_targets: no linear layer of the model has this name: {hints}")
        return targets
