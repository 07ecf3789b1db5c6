"""Layers that are launched at once. Recordings need a GPU; here a stand-in for each does the same work again."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from tests.contract.test_engine_methods import assert_close, make_batch, make_model, train
from tests.unit.test_engine_attention import documented
from tunesmith.engine import Engine, core, kernel
from tunesmith.engine.graphs import Graphs
from tunesmith.errors import ModelError

Folder = Callable[[str], Path]


class Again:
    """What was recorded, done again. To be recorded it has to be done, but that leaves no trace in any ``grad``."""

    made = 0
    trained: list[torch.nn.Parameter]

    def __init__(self, work: Callable[[], None]) -> None:
        type(self).made += 1
        self.replay = work
        before = [None if p.grad is None else p.grad.clone() for p in self.trained]
        with torch.random.fork_rng():
            work()
        for parameter, grad in zip(self.trained, before, strict=True):
            if grad is not None:
                parameter.grad.copy_(grad)


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "repeats_shapes", lambda device: True)
    monkeypatch.setattr(kernel, "choose", lambda query, value, mask: documented if mask.window else None)
    monkeypatch.setattr(Again, "made", 0)


@contextmanager
def with_graphs(model: Any, **options: Any) -> Iterator[Graphs]:
    """The engine on a model as it is on a GPU."""
    Again.trained = list(model.parameters())
    engine = Engine(model, **options)
    # Below the other parts, as on a GPU.
    for name in ("prefix", "vocabulary"):
        engine.parts[name].detach()
    graphs = engine.graphs = Graphs(engine.backbone, lambda: engine.prefix.skipped, Again)
    graphs.attach()
    for name in ("vocabulary", "prefix"):
        engine.parts[name].attach()
    try:
        yield graphs
    finally:
        engine.detach()
        graphs.detach()
    assert not any("forward" in vars(layer) for layer in (stage.module for stage in graphs._stages))


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # in peft
@pytest.mark.parametrize("prefix_bytes", [0, 10**8])
@pytest.mark.parametrize("method", ["full", "freeze", "lora"])
@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "distilbert", "electra", "modernbert", "llama", "qwen2"])
def test_training_is_the_same(tiny_model_folder: Folder, family: str, method: str, prefix_bytes: int) -> None:
    batch = make_batch("token")
    plain, model = (make_model(tiny_model_folder(family), "token", method) for _ in range(2))
    wanted_losses, wanted = train(plain, batch, None)
    with with_graphs(model, prefix_bytes=prefix_bytes) as graphs:
        losses, gradients = train(model, batch, None)
    assert losses == pytest.approx(wanted_losses, rel=1e-5)
    assert set(gradients) == set(wanted)
    for name, gradient in gradients.items():
        assert_close(gradient, wanted[name], name)
    for (name, weight), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert_close(weight, other, name)
    assert graphs.why_not() is None and graphs.launched == 2 and Again.made == 2


def steps(model: Any, batches: list[dict[str, torch.Tensor]], parts: int = 1) -> list[torch.Tensor]:
    """Gradients of each step, which sums so many batches."""
    found = []
    for first in range(0, len(batches), parts):
        model.zero_grad()
        for batch in batches[first : first + parts]:
            model(**batch).loss.backward()
        found.append(torch.cat([p.grad.reshape(-1).clone() for p in model.parameters() if p.grad is not None]))
    return found


def test_steps_of_several_batches_add_up(tiny_model_folder: Folder) -> None:
    batch = make_batch("sequence")
    smaller = {name: values[:4] for name, values in batch.items()}
    batches = [batch, smaller, smaller, batch] * 3
    plain, model = (make_model(tiny_model_folder("bert"), "sequence", "full") for _ in range(2))
    wanted = steps(plain, batches, 2)
    with with_graphs(model) as graphs:
        found = steps(model, batches, 2)
        assert graphs.launched == 9
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other, "gradients")


def test_a_second_forward_pass_before_the_backward_pass_is_not_launched(tiny_model_folder: Folder) -> None:
    batch = make_batch("sequence")
    plain, model = (make_model(tiny_model_folder("bert"), "sequence", "full") for _ in range(2))

    def two(one: Any) -> torch.Tensor:
        one.zero_grad()
        (one(**batch).loss + 2 * one(**batch).loss).backward()
        return torch.cat([p.grad.reshape(-1) for p in one.parameters() if p.grad is not None])

    with with_graphs(model) as graphs:
        steps(model, [batch] * 3)
        before = graphs.launched
        assert_close(two(model), two(plain), "gradients")
        assert graphs.launched == before + 1
        loss = model(**batch).loss
        del loss  # never taken: the next one is launched again
        steps(model, [batch])
        assert graphs.launched == before + 3


def test_a_change_of_the_model_is_seen(tiny_model_folder: Folder) -> None:
    batch = make_batch("sequence")
    plain, model = (make_model(tiny_model_folder("bert"), "sequence", "full") for _ in range(2))

    def freeze(one: Any) -> None:
        one.bert.encoder.layer[0].requires_grad_(False)

    def exchange(one: Any) -> None:
        weight = one.bert.encoder.layer[1].output.dense
        weight.weight = torch.nn.Parameter(weight.weight.detach() * 2)

    def replace(one: Any) -> None:
        torch.manual_seed(1)
        inner = one.bert.encoder.layer[1].intermediate
        inner.dense = torch.nn.Linear(inner.dense.in_features, inner.dense.out_features).to(batch["labels"].device)

    with with_graphs(model) as graphs:
        for change in (lambda one: None, freeze, exchange, replace):
            before = graphs.launched
            for one in (plain, model):
                change(one)
            for one, other in zip(steps(model, [batch] * 4), steps(plain, [batch] * 4), strict=True):
                assert_close(one, other, "gradients")
            assert graphs.launched > before


def test_sizes_beyond_the_most_run_singly(tiny_model_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.engine.graphs.MOST", 2)
    batch = make_batch("sequence")
    batches = [{name: values[: 3 + i] for name, values in batch.items()} for i in range(4)] * 4
    plain, model = (make_model(tiny_model_folder("bert"), "sequence", "full") for _ in range(2))
    with with_graphs(model) as graphs:
        for one, other in zip(steps(model, batches), steps(plain, batches), strict=True):
            assert_close(one, other, "gradients")
        assert graphs.figures()["recordings"] == 2 and 0 < graphs.launched < len(batches) / 2


def test_hooks_see_each_call(tiny_model_folder: Folder) -> None:
    batch = make_batch("sequence")
    model = make_model(tiny_model_folder("bert"), "sequence", "full")
    seen: list[torch.Tensor] = []
    with with_graphs(model) as graphs:
        steps(model, [batch] * 3)
        before = graphs.launched
        layer = model.bert.encoder.layer[0]
        hook = layer.output.dense.register_forward_hook(lambda *given: seen.append(given[-1]))
        steps(model, [batch] * 3)
        assert len(seen) == 3 and graphs.launched == before
        hook.remove()
        hook = layer.register_forward_hook(lambda module, inputs, output: output / 2)
        plain = make_model(tiny_model_folder("bert"), "sequence", "full")
        plain.bert.encoder.layer[0].register_forward_hook(lambda module, inputs, output: output / 2)
        assert_close(steps(model, [batch])[0], steps(plain, [batch])[0], "gradients")
        hook.remove()
        counted = layer.output.dense.weight.register_hook(lambda grad: seen.append(grad))
        steps(model, [batch] * 2)
        assert len(seen) == 5
        counted.remove()
        steps(model, [batch] * 3)
        assert graphs.launched > before and len(seen) == 5


def test_a_second_backward_pass_is_refused(tiny_model_folder: Folder) -> None:
    batch = make_batch("sequence")
    model = make_model(tiny_model_folder("bert"), "sequence", "full")
    with with_graphs(model):
        steps(model, [batch] * 3)
        loss = model(**batch).loss
        loss.backward(retain_graph=True)
        with pytest.raises(RuntimeError, match="a second time"):
            loss.backward()


@pytest.mark.parametrize("chosen", ["grad", "inputs"])
def test_gradients_of_chosen_tensors_are_refused(tiny_model_folder: Folder, chosen: str) -> None:
    """They would be added to every ``grad``, and not be returned."""
    batch = make_batch("sequence")
    model = make_model(tiny_model_folder("bert"), "sequence", "full")
    weight = model.bert.embeddings.word_embeddings.weight
    with with_graphs(model):
        steps(model, [batch] * 3)
        model.zero_grad()
        loss = model(**batch).loss
        with pytest.raises(RuntimeError, match="leave packing off"):
            if chosen == "grad":
                torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
            else:
                loss.backward(inputs=[weight])
        assert all(parameter.grad is None for parameter in model.parameters())


def fast_gradient(one: Any, batch: Any, _: int) -> None:
    """Adversarial training (FGM): a second pass with embeddings moved along their gradient."""
    one(**batch).loss.backward()
    weight = one.get_input_embeddings().weight
    with torch.no_grad():
        step = 0.1 * weight.grad / weight.grad.norm()
        weight.add_(step)
    one(**batch).loss.backward()
    with torch.no_grad():
        weight.sub_(step)


def two_views(one: Any, batch: Any, _: int) -> None:
    """R-Drop: two passes, and their divergence."""
    first, second = one(**batch), one(**batch)
    apart = torch.nn.functional.kl_div(first.logits.log_softmax(-1), second.logits.softmax(-1), reduction="batchmean")
    (first.loss + second.loss + apart).backward()


def averaged(one: Any, batch: Any, step: int) -> None:
    """Evaluation in between with averaged weights, swapped through ``.data`` and back."""
    one(**batch).loss.backward()
    own = [parameter.data for parameter in one.parameters()]
    for parameter in one.parameters():
        parameter.data = parameter.data * 0.5
    with torch.no_grad():
        one(**batch)
    for parameter, data in zip(one.parameters(), own, strict=True):
        parameter.data = data


def thawing(one: Any, batch: Any, step: int) -> None:
    """The lower layer is trained from the third step on."""
    one.bert.encoder.layer[0].requires_grad_(step >= 3)
    one(**batch).loss.backward()


def noisy_later(one: Any, batch: Any, step: int) -> None:
    """Dropout that is switched on and off between steps."""
    one.train(step % 2 == 0)
    one(**batch).loss.backward()
    one.train()


def kept_graph(one: Any, batch: Any, _: int) -> None:
    """Two losses of one pass, each with a backward pass through the head alone."""
    outputs = one(**batch)
    torch.autograd.grad(outputs.loss, [outputs.logits], retain_graph=True)
    outputs.loss.backward()


@pytest.mark.parametrize("way", [fast_gradient, two_views, averaged, thawing, noisy_later, kept_graph])
def test_loops_of_users_give_the_same(tiny_model_folder: Folder, way: Callable[..., None]) -> None:
    batch = make_batch("sequence")
    plain, model = (make_model(tiny_model_folder("bert"), "sequence", "full") for _ in range(2))
    with with_graphs(model) as graphs:
        for one in (plain, model):
            trained = torch.optim.AdamW(one.parameters(), lr=1e-2, eps=0.1)
            for step in range(6):
                one.zero_grad()
                way(one, batch, step)
                torch.nn.utils.clip_grad_norm_(one.parameters(), 1.0)
                trained.step()
        assert graphs.launched or way is noisy_later, "each change of the mode begins anew"
    for (name, weight), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert_close(weight, other, name)


def test_layers_that_cannot_be_recorded_run_as_before(
    tiny_model_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_batch("sequence")
    plain, model = (make_model(tiny_model_folder("bert"), "sequence", "full") for _ in range(2))
    with with_graphs(model) as graphs:
        graphs._record = graphs._given = lambda work: (_ for _ in ()).throw(RuntimeError("operation not permitted"))
        for one, other in zip(steps(model, [batch] * 4), steps(plain, [batch] * 4), strict=True):
            assert_close(one, other, "gradients")
        assert graphs.why_not() == "its layers cannot be recorded (RuntimeError: operation not permitted)"


def test_layers_that_are_no_chain_are_left_alone(tiny_model_folder: Folder) -> None:
    batch = make_batch("sequence")
    plain, model = (make_model(tiny_model_folder("bert"), "sequence", "full") for _ in range(2))

    def forward(self: Any, states: torch.Tensor, *given: Any, **named: Any) -> Any:
        states = self.layer[0](states, *given, **named) * 3
        return BaseModelOutputWithPastAndCrossAttentions(self.layer[1](states, *given, **named))

    for one in (plain, model):
        one.bert.encoder.forward = forward.__get__(one.bert.encoder)
    with with_graphs(model) as graphs:
        for one, other in zip(steps(model, [batch] * 4), steps(plain, [batch] * 4), strict=True):
            assert_close(one, other, "gradients")
    assert graphs.why_not() == "its layers do not follow one another"


def test_a_batch_that_fails_is_forgotten(tiny_model_folder: Folder) -> None:
    """Whatever it kept is memory that the next, smaller one needs."""
    batch = make_batch("sequence")
    model = make_model(tiny_model_folder("bert"), "sequence", "full")
    dense = model.bert.encoder.layer[1].output.dense
    own = dense.forward
    with with_graphs(model) as graphs:
        for _ in range(3):  # watched, one after the other, launched
            kept: list[weakref.ref[torch.Tensor]] = []

            def full(states: torch.Tensor, kept: Any = kept) -> torch.Tensor:
                kept.append(weakref.ref(states))
                raise torch.OutOfMemoryError("out of memory")

            dense.forward = full
            with suppress(torch.OutOfMemoryError):
                model(**batch)
            gc.collect()
            assert not graphs._passages and all(one() is None for one in kept)
            dense.forward = own
            steps(model, [batch])


def test_a_model_that_leaves_its_last_layer_out_is_refused(tiny_model_folder: Folder) -> None:
    batch = make_batch("sequence")
    model = make_model(tiny_model_folder("bert"), "sequence", "full")
    with with_graphs(model):
        steps(model, [batch] * 3)
        encoder = model.bert.encoder
        layers = encoder.layer
        encoder.layer = layers[:1]
        with pytest.raises(ModelError, match="left out its last layer"):
            model(**batch)
        encoder.layer = layers
        steps(model, [batch])
