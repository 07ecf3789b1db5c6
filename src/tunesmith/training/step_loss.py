"""The loss of an optimizer step: a sum over its targets, divided once, however the step is cut into micro-batches.

Stock code divides by the number of micro-batches unless it believes that the model divides by the targets of the whole
step, and it believes so of every model that takes further keywords, though many ignore them: the gradient is then as
many times too large as there are micro-batches. Here the loss of transformers' own heads is computed from their logits,
and any other model is asked once, by two passes that are told different divisors, whether it does what is believed.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import transformers
from torch import nn

from tunesmith.engine.core import plain_model
from tunesmith.engine.packing import evaluating
from tunesmith.tasks.losses import BinaryCrossEntropy, CrossEntropy, Loss
from tunesmith.training import stock_defaults


class StepLoss(transformers.Trainer):
    """The part of `Trainer` that computes losses. Its names begin so that they meet none of a subclass."""

    args: Any
    model: Any
    _tunesmith_head: Loss | None = None
    _tunesmith_agreed = False
    _tunesmith_honours: bool | None = None
    _tunesmith_scaled: bool | None = None
    _tunesmith_told: bool | None = None

    @property
    def loss_is_scaled_for_ga(self) -> bool | None:
        """Whether `compute_loss` divided by the targets of the whole step: what was set, else what was seen."""
        return self._tunesmith_scaled if self._tunesmith_told is None else self._tunesmith_told

    @loss_is_scaled_for_ga.setter
    def loss_is_scaled_for_ga(self, value: bool | None) -> None:
        self._tunesmith_told = value

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        loss = self._tunesmith_head
        if loss is None or not batch_samples or "labels" not in batch_samples[0]:
            return super()._get_num_items_in_batch(batch_samples, device)
        if isinstance(loss, CrossEntropy) and batch_samples[0]["labels"].is_floating_point():
            # One 0/1 target a label: transformers' heads read the kind of problem off the labels, too.
            loss = self._tunesmith_head = BinaryCrossEntropy()
        return torch.stack([loss.weight(batch["labels"]) for batch in batch_samples]).sum().to(device)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """The loss of a micro-batch, as its share of the step's, after its backward pass."""
        self._tunesmith_scaled = None  # as stock code decides
        if stock_defaults.is_replaced(self, "compute_loss"):
            named = inspect.signature(self.compute_loss).parameters
            self._tunesmith_scaled = None if "num_items_in_batch" in named else False
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """See `transformers.Trainer.compute_loss`; a known head's loss is a sum divided by `num_items_in_batch`."""
        if self._tunesmith_head is not None and "labels" in inputs:
            loss, outputs = self._tunesmith_head_loss(self._tunesmith_head, model, dict(inputs), num_items_in_batch)
            return (loss, outputs) if return_outputs else loss
        if model.training and self.compute_loss_func is None:
            divided = num_items_in_batch is not None and self._tunesmith_divides(model, inputs)
            num_items_in_batch = num_items_in_batch if divided else None
            self._tunesmith_scaled = self.model_accepts_loss_kwargs and divided
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def _tunesmith_head_loss(self, loss: Loss, model: nn.Module, inputs: dict[str, Any], weight: Any) -> Any:
        labels = inputs["labels"]
        if self._tunesmith_agreed:
            del inputs["labels"]
        outputs = self._tunesmith_outputs(model, inputs)
        own = None if self._tunesmith_agreed else outputs.get("loss")
        total = loss.total(outputs["logits"], labels)
        if own is not None and not self.label_smoother:
            mean = (total / loss.weight(labels)).to(own)
            if not torch.allclose(own, mean, rtol=1e-3 if own.dtype.itemsize > 2 else 3e-2, equal_nan=True):
                self._tunesmith_head, self._tunesmith_scaled = None, False
                return own, outputs
        self._tunesmith_agreed = True
        found = total / (loss.weight(labels) if weight is None else weight)
        if model.training:
            self._tunesmith_scaled = True
            found = found * self.args.world_size  # gradients are averaged over processes; the weight counts all of them
        return found, outputs

    def _tunesmith_outputs(self, model: nn.Module, inputs: dict[str, Any]) -> Any:
        """The model's outputs, among them ``logits``; at the first call with its own loss, which ours must equal."""
        return model(**inputs)

    def _tunesmith_divides(self, model: nn.Module, inputs: dict[str, Any]) -> bool:
        """Whether the model's loss is divided by the number it is given; asked where it makes a difference."""
        one_part = self.args.gradient_accumulation_steps == 1 and self.args.world_size == 1
        declared = getattr(plain_model(model), "accepts_loss_kwargs", None) is True
        if one_part or declared or self.label_smoother is not None or not self.model_accepts_loss_kwargs:
            return True
        if self._tunesmith_honours is None:
            with torch.no_grad(), evaluating(model):
                found = [model(**inputs, num_items_in_batch=torch.tensor(n, device=self.args.device)) for n in (1, 2)]
            losses = [outputs["loss"] if isinstance(outputs, dict) else outputs[0] for outputs in found]
            self._tunesmith_honours = not torch.allclose(losses[0], losses[1], rtol=0.1, equal_nan=True)
        return self._tunesmith_honours
