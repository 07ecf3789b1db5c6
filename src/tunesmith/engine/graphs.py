"""Launching the layers at once: a step of a small model is hundreds of kernels, each shorter than its launch.

In training on a GPU the layers of a packed batch only note what they are called with, all but the last, which runs them
one after the other. From the second batch of a size on it has that recorded (`recording`) and launches the recording.
That a model's layers can be run so is seen on the first batch: each must be given what the one before it returned.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tunesmith.engine.attention import PackedMask, running
from tunesmith.engine.layout import PackedLayout
from tunesmith.engine.part import Part
from tunesmith.engine.recording import Gradients, Record, Recording, Scratch, Turn, recorder
from tunesmith.engine.stages import Call, Passage, Place, Stage, modules_in, shape_of, state_of, tensors_of
from tunesmith.errors import ModelError
from tunesmith.models.depth import layer_stack

MOST = 64
"""Recordings that are made; batches of other sizes run their layers singly."""
DROPS_LAYERS = ("layerdrop", "encoder_layerdrop", "decoder_layerdrop", "layer_drop")
NOT_YET = "no size of batch came twice"


class Graphs(Part):
    """Launches the layers of a packed batch at once, in training.

    Args:
        backbone: the part of a model that holds its layers.
        first: how many of the lowest layers are run by somebody else, asked in every call.
        record: makes recordings; those of the GPU by default.
    """

    name = "graphs"

    def __init__(self, backbone: nn.Module, first: Callable[[], int], record: Record | None = None) -> None:
        self.backbone, self.first = backbone, first
        self._given, self._record = record, record
        self._reason: str | None = None
        self._stages: list[Stage] = []
        self._state: Hashable = None
        self._turn: weakref.ref[Turn] | None = None
        self._watched: int | None = None
        self.launched = self.run_singly = 0
        self._passages: dict[PackedLayout, Passage] = {}
        self.free()

    def why_not(self) -> str | None:
        return self._reason or (None if self.launched else NOT_YET)

    def attach(self) -> None:
        config: Any = self.backbone.config
        try:
            layers = list(layer_stack(self.backbone)[1])
        except ModelError:
            self._reason = "the model has no stack of layers"
            return
        if len(layers) != getattr(config, "num_hidden_layers", len(layers)):
            self._reason = "the model runs its layers several times"
            return
        if any(getattr(config, name, 0) for name in DROPS_LAYERS):
            self._reason = "the model leaves layers out at random"
            return
        for index, layer in enumerate(layers):
            self._stages.append(Stage(layer, self, layer.forward, index, index == len(layers) - 1))
            layer.forward = self._stages[-1]

    def detach(self) -> None:
        for stage in self._stages:
            if vars(stage.module).get("forward") is stage:
                del stage.module.forward
        self.free()

    def save(self) -> dict[str, Any]:
        return {}

    def load(self, kept: dict[str, Any]) -> None:
        """A recording holds no values."""

    def figures(self) -> dict[str, Any]:
        return {"recordings": len(self._made), "batches_launched": self.launched, "batches_singly": self.run_singly}

    def batch(self) -> PackedLayout | None:
        """The packed batch that runs through the layers now, if it is for recordings."""
        now = running.get()
        if now is None or self._reason is not None or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return None
        several = getattr(torch.distributed, "is_initialized", bool)()  # not every build has it
        return None if several else now[0]  # wrappers of several processes wait for each gradient

    def through(self, layout: PackedLayout, call: Call) -> Any:
        """What a layer returns to the model."""
        if layout not in self._passages:
            self._passages[layout] = self._begin()
        passage = self._passages[layout]
        if passage.hooked:
            return call.stage.forward(*call.positional, **call.named)
        passage.calls.append(call)
        if not passage.noting:
            return self._watch(passage.calls)
        if not call.stage.last:
            return call.answer(call.states)
        passage.noting = False
        return call.answer(self._all(layout, passage.calls))

    @contextmanager
    def passing(self, layout: PackedLayout) -> Iterator[None]:
        """While a batch runs through the layers; afterwards nothing of it is kept.

        Raises:
            ModelError: the last layer was not called, so that nothing was computed.
        """
        try:
            yield
            passage = self._passages.get(layout)
            if passage is not None and passage.noting:
                words = "the model left out its last layer, which the engine does not know"
                raise ModelError(f"{words}; switch it off (engine.packing=off)")
        finally:
            self._passages.pop(layout, None)

    def _begin(self) -> Passage:
        """What is to be done with the layers that are called next."""
        stages = self._stages[self.first() :]
        state = state_of([module for stage in stages for module in modules_in(stage.module)])
        if state is not None and state != self._state:
            self.free()
            self._state = state
        known = self._watched is not None and self._watched <= stages[0].index
        return Passage(hooked=state is None, noting=known and state is not None)

    def _watch(self, calls: list[Call]) -> Any:
        """Run a layer, and see whether it belongs to a chain."""
        call = calls[-1]
        found = call.stage.forward(*call.positional, **call.named)
        several = isinstance(found, tuple)
        chained = len(calls) == 1 or call.states is calls[-2].returned
        if not chained or (several and any(one is not None for one in found[1:])):
            self._reason = "its layers do not follow one another"
        call.returned, call.stage.others = (found[0], len(found) - 1) if several else (found, None)
        if call.stage.last:
            self._watched = calls[0].stage.index
        return found

    def _all(self, layout: PackedLayout, calls: list[Call]) -> torch.Tensor:
        """The states after all these layers: by a recording, or one after the other."""
        states, shape = calls[0].states, shape_of(layout, calls)
        turn = None if self._turn is None else self._turn()
        if shape is not None and (turn is None or turn.over):
            recording = self._made.get(shape)
            if recording is None and shape in self._seen and len(self._made) < MOST:
                recording = self._recorded(shape, layout, calls)
            self._seen.add(shape)
            if recording is not None:
                self.launched += 1
                turn = Turn()
                self._turn = weakref.ref(turn)
                return recording(states, [layout.boundaries, *tensors_of(calls)], turn)
        self.run_singly += 1
        for call in calls:
            states = call.run(states)
        return states

    def _recorded(self, shape: Hashable, layout: PackedLayout, calls: list[Call]) -> Recording | None:
        """A new recording; None where it cannot be made, and none will be tried again."""
        try:
            made = self._make(layout, calls)
        except Exception as error:  # whatever the layers do that cannot be recorded, they can do as before
            self.free()
            self._reason = (
                f"its layers cannot be recorded ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
            )
            return None
        self._made[shape] = made
        return made

    def _make(self, layout: PackedLayout, calls: list[Call]) -> Recording:
        self._record = self._record or recorder()
        tensors = tensors_of(calls)
        place = Place(layout.boundaries.clone(), layout.longest)
        memory = {id(tensor): torch.empty_like(tensor) for tensor in tensors}

        def fixed(value: Any) -> Any:
            if isinstance(value, PackedMask):
                return value.at(place)
            return memory[id(value)] if isinstance(value, torch.Tensor) else value

        def compute(states: torch.Tensor) -> torch.Tensor:
            for call in calls:
                states = call.run(states, fixed)
            return states

        recording = Recording([place.boundaries, *(memory[id(tensor)] for tensor in tensors)], self._gradients)
        parameters = dict.fromkeys(p for call in calls for p in call.stage.module.parameters())
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        recording.record(compute, calls[0].states, trained, self._record, self._scratch)
        return recording

    def free(self) -> None:
        """Forget the recordings, and what they work in."""
        self._made: dict[Hashable, Recording] = {}
        self._seen: set[Hashable] = set()
        self._turn = None
        self._gradients, self._scratch, self._record = Gradients(), Scratch(), self._given
