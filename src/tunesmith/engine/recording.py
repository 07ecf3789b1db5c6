"""Some layers on batches of one shape, recorded once and launched as a whole: forward and backward pass (CUDA graphs).

A recording reads and writes fixed memory. What enters it is copied there first; its gradients are added to tensors that
stay, which become the ``grad`` of the parameters. All recordings share the memory of what lies between the two passes,
so that a forward pass must be followed by its backward pass before the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import get_gradient_edge


class Graph(Protocol):
    """Work that was recorded, as `torch.cuda.CUDAGraph` is."""

    def replay(self) -> None:
        """Do it again."""


Record = Callable[[Callable[[], None]], Graph]
"""Records what a function launches, which does not run meanwhile."""


def recorder() -> Record:
    """Records on the current GPU, all in one pool of memory."""
    pool = torch.cuda.graph_pool_handle()

    def record(work: Callable[[], None]) -> Graph:
        made = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(made, pool=pool, capture_error_mode="thread_local"):
                work()
        except BaseException:
            noise = torch.cuda.default_generators[torch.cuda.current_device()]
            noise.graphsafe_set_state(noise.clone_state())  # which else would go on as if it were recorded
            raise
        return made

    return record


class Gradients:
    """Where recordings add gradients up: for each parameter a tensor like it."""

    def __init__(self) -> None:
        self._of: dict[nn.Parameter, torch.Tensor] = {}

    def of(self, parameter: nn.Parameter) -> torch.Tensor:
        if parameter not in self._of:
            self._of[parameter] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return self._of[parameter]

    @contextmanager
    def in_place(self, parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
        """Meanwhile they are the ``grad`` of `parameters`; gives a list of those that a backward pass reaches."""
        own, reached = [parameter.grad for parameter in parameters], list[nn.Parameter]()
        anything: Any = parameters
        hooks = [parameter.register_post_accumulate_grad_hook(reached.append) for parameter in anything]
        try:
            for parameter in parameters:
                parameter.grad = self.of(parameter)
            yield reached
        finally:
            for parameter, grad, hook in zip(parameters, own, hooks, strict=True):
                parameter.grad = grad
                hook.remove()

    def take_over(self, parameters: Sequence[nn.Parameter]) -> None:
        """Make them the ``grad`` of `parameters`, with what is there already: what a recording adds is then added."""
        empty = []
        for parameter in parameters:
            mine, grad = self._of[parameter], parameter.grad
            if grad is mine:
                continue
            if grad is None:
                empty.append(mine)
            else:
                mine.copy_(grad)
            parameter.grad = mine
        if empty:
            torch._foreach_zero_(empty)


class Scratch:
    """Fixed memory for the largest tensor of each use and kind that was asked for."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype, torch.device], torch.Tensor] = {}

    def like(self, use: str, tensor: torch.Tensor) -> torch.Tensor:
        """Uninitialised memory of the shape of `tensor`; another call for this use may give the same."""
        key, size = (use, tensor.dtype, tensor.device), tensor.numel()
        if key not in self._buffers or self._buffers[key].numel() < size:
            self._buffers[key] = torch.empty(size, dtype=tensor.dtype, device=tensor.device)
        return self._buffers[key][:size].view(tensor.shape)


@dataclass(eq=False)
class Turn:
    """A forward pass by a recording: until its backward pass is taken, or never will be, no other may begin."""

    over: bool = False


@dataclass(eq=False)
class Recording:
    """A function of states, recorded with its backward pass.

    Attributes:
        inputs: what it reads besides the states: for each tensor the memory that it is read from.
        parameters: those that get gradients.
    """

    inputs: list[torch.Tensor]
    gradients: Gradients
    parameters: list[nn.Parameter] = field(default_factory=list)
    entry: torch.Tensor = field(init=False)
    exit: torch.Tensor = field(init=False)
    upstream: torch.Tensor = field(init=False)
    downstream: torch.Tensor | None = None
    forward: Graph = field(init=False)
    backward: Graph = field(init=False)

    def record(
        self,
        compute: Callable[[torch.Tensor], torch.Tensor],
        states: torch.Tensor,
        parameters: Sequence[nn.Parameter],
        record: Record,
        scratch: Scratch,
    ) -> None:
        """Record `compute` and its backward pass.

        Args:
            compute: on states like `states`; it reads `inputs`, and gives states of the same shape.
            parameters: those that may get gradients.
        """
        self.entry, self.exit, self.upstream = (scratch.like(use, states) for use in ("entry", "exit", "upstream"))
        start = self.entry.detach().requires_grad_(states.requires_grad)
        ends: list[torch.Tensor] = []

        def forwards() -> None:
            with torch.enable_grad(), uncached_autocast(states.device.type):
                ends.append(compute(start))
            self.exit.copy_(ends[-1].detach())

        def backwards() -> None:
            start.grad = None
            torch.autograd.backward(ends[-1], self.upstream)
            if self.downstream is not None:
                assert start.grad is not None
                self.downstream.copy_(start.grad)

        if states.requires_grad:
            self.downstream = scratch.like("downstream", states)
        self.forward = record(forwards)
        with self.gradients.in_place(parameters) as reached:
            self.backward = record(backwards)
        self.parameters, start.grad = list(reached), None

    def __call__(self, states: torch.Tensor, inputs: Sequence[torch.Tensor], turn: Turn) -> torch.Tensor:
        """The function of these states and inputs."""
        for memory, given in zip(self.inputs, inputs, strict=True):
            memory.copy_(given, non_blocking=True)
        anchor = torch.zeros((), requires_grad=True)  # so that there is a backward pass
        found: torch.Tensor = _Replay.apply(states, anchor, self, turn)  # type: ignore[no-untyped-call]
        return found


class _Replay(torch.autograd.Function):
    """One use of a recording."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, anchor: torch.Tensor, recording: Recording, turn: Turn) -> torch.Tensor:
        ctx.recording, ctx.turn, ctx.anchor = recording, turn, anchor
        recording.entry.copy_(states)
        recording.forward.replay()
        return recording.exit.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        recording, turn = ctx.recording, ctx.turn
        if turn.over:
            raise RuntimeError("trying to go backward through the layers a second time; what they kept is gone")
        if not torch._C._will_engine_execute_node(get_gradient_edge(ctx.anchor).node):
            raise RuntimeError(
                "gradients of chosen tensors (torch.autograd.grad, backward(inputs=...)) cannot go through layers that "
                "are launched at once; leave packing off: Engine(model, packing=False), or engine='off' of a Trainer"
            )
        turn.over = True
        recording.upstream.copy_(grad)
        recording.gradients.take_over(recording.parameters)
        recording.backward.replay()
        return (None if recording.downstream is None else recording.downstream.clone()), None, None, None


def uncached_autocast(device: str) -> AbstractContextManager[Any]:
    """The precision of now; casts of weights are recorded, too, for the weights will have changed."""
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=False)
