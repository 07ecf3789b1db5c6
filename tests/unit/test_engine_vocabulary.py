"""The compact vocabulary against plain training: the same weights, whole state dicts, and resumed runs bit for bit."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from transformers import AutoModelForSequenceClassification, BertForMaskedLM

from tunesmith.engine.vocabulary import Vocabulary, unsuitable_optimizer
from tunesmith.errors import ModelError, TunesmithError
from tunesmith.models.heads import PooledClassifier
from tunesmith.training.precision import choose_device

FAMILIES = ["bert", "roberta", "distilbert", "electra", "llama", "modernbert", "mpnet", "deberta-v2"]
KEPT = np.array([0, 2, 3, *range(5, 60, 3)])
UNUSED = 6  # the id of a token that is not kept
STEPS = 6

Folder = Callable[[str], Path]
Maker = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@pytest.fixture
def bert(tiny_model_folder: Folder) -> Path:
    return tiny_model_folder("bert")


def compact_vocabulary(model: nn.Module, token_ids: np.ndarray) -> Any:
    vocabulary = Vocabulary(model, token_ids)
    vocabulary.attach()
    return vocabulary


def unsuitable(model: nn.Module, token_ids: np.ndarray) -> str | None:
    return Vocabulary(model, token_ids).why_not()


def adamw(weight_decay: float, **options: Any) -> Maker:
    return lambda parameters: torch.optim.AdamW(parameters, lr=1e-2, weight_decay=weight_decay, **options)


def load(folder: Path, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3).train().to(choose_device())


def name_of_table(model: nn.Module) -> str:
    weight = model.get_input_embeddings().weight  # type: ignore[operator]
    return next(name for name, parameter in model.named_parameters() if parameter is weight)


def batch(step: int) -> dict[str, torch.Tensor]:
    """Six texts of kept tokens, one of them padded."""
    generator = torch.Generator().manual_seed(step)
    ids = torch.from_numpy(KEPT[2:])[torch.randint(0, len(KEPT) - 2, (6, 9), generator=generator)]
    ids[0, 5:] = 0
    made = {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": torch.tensor([0, 1, 2, 0, 1, 2])}
    return {name: values.to(choose_device()) for name, values in made.items()}


def identical(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(value, second[name]) for name, value in first.items())


class Run:
    """A training loop with schedule and clipping, plain or compact, that can be saved and continued."""

    def __init__(self, folder: Path, make: Maker, compact: bool = True, seed: int = 0) -> None:
        self.model = load(folder, seed)
        self.table = name_of_table(self.model)
        self.pretrained = self.weights()[self.table]
        self.vocabulary: Any = compact_vocabulary(self.model, KEPT) if compact else None
        self.optimizer = make(self.model.parameters())
        if compact:
            assert unsuitable_optimizer(self.optimizer) is None
            self.vocabulary.follow(self.optimizer)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1 - step / (2 * STEPS))
        self.grad_norms: list[float] = []

    def steps(self, start: int, end: int, parts: int = 1, clip: float = 1.0) -> Run:
        for step in range(start, end):
            torch.manual_seed(step)  # of the dropout
            for part in range(parts):
                inputs = {key: value[part::parts] for key, value in batch(step).items()}
                (self.model(**inputs).loss / parts).backward()
            self.grad_norms.append(float(nn.utils.clip_grad_norm_(self.model.parameters(), clip)))
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()
        return self

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}


def assert_same_training(plain: Run, compact: Run, decays: bool) -> None:
    """Everything that is trained to rounding, unused rows too, and these exactly as they were if nothing decays."""
    expected, found = plain.weights(), compact.weights()
    compact.vocabulary.detach()
    assert identical(compact.weights(), found)
    # The gradient of a key's bias is zero but for rounding, which a GPU does in another order for other tables.
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7 if choose_device().type == "cpu" else 1e-6)
    pretrained, learned, expected_table = plain.pretrained, found[plain.table], expected[plain.table]
    unused = np.setdiff1d(np.arange(len(pretrained)), KEPT)
    torch.testing.assert_close(learned[unused], expected_table[unused], rtol=1e-6, atol=0)
    assert torch.equal(learned[unused], pretrained[unused]) is not decays
    assert not torch.equal(learned[KEPT], pretrained[KEPT])
    np.testing.assert_allclose(compact.grad_norms, plain.grad_norms, rtol=1e-6)


def compare_with_plain(folder: Path, make: Maker, decays: bool, seed: int = 0, **options: Any) -> None:
    plain, compact = (Run(folder, make, compact, seed).steps(0, STEPS, **options) for compact in (False, True))
    assert_same_training(plain, compact, decays)


def test_steps_that_the_optimizer_skips_change_nothing(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under loss scaling, and where a step is not finite; they are asked about a few together."""
    monkeypatch.setattr("tunesmith.engine.vocabulary.STEPS_AT_ONCE", 2)

    def make(parameters: Any) -> torch.optim.Optimizer:
        optimizer, steps = adamw(0.1, fused=True)(parameters), itertools.count()

        def tell(told: Any, *given: Any) -> None:
            told.found_inf = torch.tensor(float(next(steps) % 3 == 0), device=choose_device())

        optimizer.register_step_pre_hook(tell)
        return optimizer

    compare_with_plain(bert, make, True)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_the_same_weights(tiny_model_folder: Folder, family: str) -> None:
    assert unsuitable(load(tiny_model_folder(family)), KEPT) is None
    compare_with_plain(tiny_model_folder(family), adamw(0.1, fused=True), decays=True)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("kernel", [{}, {"foreach": True}, {"fused": True}, {"amsgrad": True}], ids=str)
def test_every_kernel_of_adamw_learns_the_same_weights(
    bert: Path, kernel: dict[str, bool], weight_decay: float, seed: int
) -> None:
    clip = 0.3 if seed < 3 else 1e9
    compare_with_plain(bert, adamw(weight_decay, **kernel), weight_decay > 0, seed, clip=clip)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("Adam", {}), ("SGD", {"momentum": 0.9, "nesterov": True}), ("RMSprop", {"centered": True}), ("Adagrad", {})],
)
def test_other_elementwise_optimizers_learn_the_same_weights(bert: Path, kind: str, options: dict[str, Any]) -> None:
    compare_with_plain(bert, lambda p: getattr(torch.optim, kind)(p, lr=2e-3, **options), decays=False)


def test_gradient_accumulation_learns_the_same_weights(bert: Path) -> None:
    compare_with_plain(bert, adamw(0.1), decays=True, parts=3)


def test_autocast_learns_the_same_weights(bert: Path) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        compare_with_plain(bert, adamw(0.1, fused=True), decays=True)


def test_frozen_steps_are_skipped_with_their_decay(bert: Path) -> None:
    runs = []
    for compact in (False, True):
        run = Run(bert, adamw(0.1), compact)
        run.model.get_input_embeddings().requires_grad_(False)
        run.steps(0, 2)
        assert torch.equal(run.weights()[run.table], run.pretrained)
        run.model.get_input_embeddings().requires_grad_(True)
        runs.append(run.steps(2, STEPS))
    assert_same_training(*runs, decays=True)


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_skipped_for_an_overflow_does_not_decay(bert: Path, fused: bool) -> None:
    runs = []
    for compact in (False, True):
        run = Run(bert, adamw(0.1, fused=fused), compact)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        for step, factor in enumerate((1.0, float("inf"), 1.0)):
            torch.manual_seed(step)
            scaler.scale(run.model(**batch(step)).loss * factor).backward()
            scaler.step(run.optimizer)
            scaler.update()
            run.optimizer.zero_grad()
        runs.append(run)
    assert_same_training(*runs, decays=True)


def test_a_resumed_run_equals_the_straight_one_in_every_bit(bert: Path, tmp_path: Path) -> None:
    straight = Run(bert, adamw(0.1, fused=True)).steps(0, STEPS).weights()
    first = Run(bert, adamw(0.1, fused=True)).steps(0, 3)
    first.model.save_pretrained(tmp_path)
    saved = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).state_dict()

    second = Run(bert, adamw(0.1, fused=True))
    second.vocabulary.embedding.decay = first.vocabulary.embedding.decay
    second.model.load_state_dict(saved)
    assert second.vocabulary.embedding.decay == first.vocabulary.embedding.decay < 1
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.schedule.load_state_dict(first.schedule.state_dict())
    assert identical(second.steps(3, STEPS).weights(), straight)


@pytest.mark.parametrize("claimed_decay", [1.0, 0.9])
def test_any_checkpoint_is_loaded_as_it_is(bert: Path, claimed_decay: float) -> None:
    """An earlier one of the run, one of other pretrained weights; whatever decay it is said to have."""
    run = Run(bert, adamw(0.1)).steps(0, 2)
    earlier = run.weights()
    other = {name: value + 1 if name == run.table else value for name, value in earlier.items()}
    run.steps(2, STEPS)
    for checkpoint in (earlier, other, earlier):
        run.vocabulary.embedding.decay = claimed_decay
        run.model.load_state_dict(checkpoint)
        assert identical(run.weights(), checkpoint)
    run.vocabulary.detach()
    assert torch.equal(run.model.get_input_embeddings().weight, earlier[run.table])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_is_an_ordinary_folder(tiny_model_folder: Folder, tmp_path: Path, family: str) -> None:
    run = Run(tiny_model_folder(family), adamw(0.1)).steps(0, 2)
    run.model.save_pretrained(tmp_path)
    loaded, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert loaded.config.vocab_size == len(loaded.get_input_embeddings().weight)
    assert identical(run.weights(), loaded.state_dict())
    inputs = {"input_ids": torch.arange(3, 90)[None], "attention_mask": torch.ones(1, 87, dtype=torch.long)}
    with torch.no_grad():
        torch.testing.assert_close(run.model.eval()(**inputs).logits, loaded.eval()(**inputs).logits)


def test_a_state_dict_that_does_not_fit_is_refused(bert: Path) -> None:
    model = load(bert)
    vocabulary = compact_vocabulary(model, KEPT)
    whole, table = model.state_dict(), name_of_table(model)
    for rows in (len(KEPT), vocabulary.figures()["of"] - 1):
        with pytest.raises(RuntimeError, match=f"size mismatch for {table}"):
            model.load_state_dict({**whole, table: whole[table][:rows]})
    with pytest.raises(RuntimeError, match=f'Missing key.*"{table}"'):
        model.load_state_dict({name: value for name, value in whole.items() if name != table})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        model.load_state_dict({**whole, table + "s": whole[table]})


def test_a_token_that_is_not_trained_is_exact_in_evaluation_and_refused_in_training(bert: Path) -> None:
    run = Run(bert, adamw(0.1)).steps(0, 2)
    embedding = run.model.get_input_embeddings()
    ids = torch.tensor([[2, UNUSED, 5], [7, 0, 0]], device=choose_device())
    expected = run.weights()[run.table][ids]
    with pytest.raises(ModelError, match=r"found the token ids \[6, 7\]"):
        embedding(ids)
    with torch.no_grad():
        assert torch.equal(embedding(ids), expected)
    assert torch.equal(embedding.eval()(ids), expected)
    assert torch.equal(embedding.train().requires_grad_(False)(ids), expected)
    assert torch.equal(embedding(ids.int()), expected) and torch.equal(embedding(ids[0, 1]), expected[0, 1])


@pytest.mark.parametrize("token", [-1, 10_000])
def test_an_id_outside_the_table_is_an_error_as_ever(bert: Path, token: int) -> None:
    model = load(bert)
    compact_vocabulary(model, KEPT)
    with torch.no_grad(), pytest.raises(IndexError):
        model.get_input_embeddings()(torch.tensor([2, token]))
    with pytest.raises(ModelError, match=rf"expected token ids from 0 to .* found {min(token, 2)} to {max(token, 2)};"):
        compact_vocabulary(load(bert), np.array([2, token]))


def test_padding_gets_no_gradient(bert: Path) -> None:
    model = load(bert)
    embedding = compact_vocabulary(model, KEPT[1:]).embedding
    assert embedding.kept_ids.tolist() == KEPT.tolist()  # padding is met in every batch, so it is always kept
    embedding(torch.tensor([0, 2, 2, 0])).sum().backward()
    assert embedding.weight.grad is not None
    assert embedding.weight.grad.sum(dim=1).tolist() == [0, 2 * 16, *[0] * (len(KEPT) - 2)]


def test_restore_gives_back_the_same_objects(bert: Path) -> None:
    model = load(bert).eval()
    plain = model.get_input_embeddings()
    weight, names = plain.weight, [name for name, _ in model.named_parameters()]
    vocabulary = compact_vocabulary(model, KEPT)
    compact = model.get_input_embeddings()
    assert compact is vocabulary.embedding and not compact.training
    assert (compact.num_embeddings, compact.padding_idx) == (plain.num_embeddings, plain.padding_idx)
    assert [name for name, _ in model.named_parameters()] == names
    compact.train().requires_grad_(False).weight.add_(1)
    compact.decay = 0.5
    weights = copy.deepcopy(model.state_dict())
    for _ in range(2):
        vocabulary.detach()
        assert model.get_input_embeddings() is plain and plain.weight is weight and type(plain) is nn.Embedding
        assert not weight.requires_grad and plain.training
        assert identical(model.state_dict(), weights)


def test_follow_counts_a_step_once_and_wants_its_own_optimizer(bert: Path) -> None:
    model = load(bert)
    too_early = adamw(0.1)(model.parameters())
    vocabulary = compact_vocabulary(model, KEPT)
    with pytest.raises(TunesmithError, match="make the optimizer after"):
        vocabulary.follow(too_early)
    optimizer = adamw(0.1)(model.parameters())
    for _ in range(2):
        vocabulary.follow(optimizer)
    vocabulary.embedding.weight.grad = torch.zeros_like(vocabulary.embedding.weight)
    optimizer.step()
    assert vocabulary.embedding.decay == 1 - 1e-2 * 0.1
    vocabulary.detach()
    optimizer.step()
    assert vocabulary.embedding.decay == 1  # it is in the table now, and the optimizer is no longer followed


def test_a_copy_is_independent_and_conversions_reach_every_row(bert: Path) -> None:
    run = Run(bert, adamw(0.1)).steps(0, 2)
    weights = run.weights()
    twin = copy.deepcopy(run.model)
    run.steps(2, 3)
    assert identical(twin.state_dict(), weights)
    assert not torch.equal(run.weights()[run.table], weights[run.table])
    doubled = twin.double().state_dict()[run.table]
    assert doubled.dtype == torch.float64
    torch.testing.assert_close(doubled, weights[run.table].double(), rtol=1e-6, atol=0)


def test_the_bytes_saved_are_those_of_gradient_and_moments(bert: Path) -> None:
    used = []
    for compact in (False, True):
        run = Run(bert, adamw(0.1), compact)
        weight = run.model.get_input_embeddings().weight
        run.model(**batch(0)).loss.backward()
        run.optimizer.step()
        state = run.optimizer.state[weight]
        extra = [weight, *run.model.get_input_embeddings().buffers()] if compact else []
        used.append(sum(tensor.nbytes for tensor in [weight.grad, state["exp_avg"], state["exp_avg_sq"], *extra]))
    figures = run.vocabulary.figures()
    assert (figures["rows"], figures["of"]) == (len(KEPT), run.model.config.vocab_size)
    assert figures["bytes_saved"] == used[0] - used[1] > 0


def bare(embedding: nn.Module | None) -> Any:
    """The least that a model can be."""
    model: Any = nn.Module()
    model.words = embedding
    model.get_input_embeddings = lambda: embedding
    return model


def hooked() -> nn.Embedding:
    embedding = nn.Embedding(100, 8)
    embedding.register_forward_hook(lambda module, inputs, output: output * 2)
    return embedding


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Linear(2, 2), "no plain table"),
        (lambda: bare(None), "no plain table"),
        (lambda: bare(type("Scaled", (nn.Embedding,), {})(100, 8)), "no plain table"),
        (lambda: bare(nn.Embedding(100, 8).requires_grad_(False)), "frozen"),
        (lambda: bare(nn.Embedding(100, 8, max_norm=1.0)), "max_norm"),
        (lambda: bare(nn.Embedding(100, 8, scale_grad_by_freq=True)), "scale_grad_by_freq"),
        (lambda: bare(nn.Embedding(100, 8, sparse=True)), "sparse"),
        (lambda: bare(nn.Embedding(100, 8, device="meta")), "not in memory"),
        (lambda: bare(nn.Embedding(100, 8, _weight=torch.zeros(100, 8, dtype=torch.int8), _freeze=True)), "quantised"),
        (lambda: bare(hooked()), "hooks"),
        (lambda: bare(nn.Embedding(28, 8)), "use 22 of 28 tokens"),
    ],
)
def test_what_does_not_suit_is_named(make: Callable[[], nn.Module], reason: str) -> None:
    assert reason in (unsuitable(make(), np.arange(22)) or "")


def test_shared_embeddings_do_not_suit(bert: Path) -> None:
    tied = BertForMaskedLM.from_pretrained(bert)
    assert "cls.predictions.decoder.weight" in (unsuitable(tied, KEPT) or "")
    twice = bare(nn.Embedding(100, 8))
    twice.more = twice.words
    assert "words.weight, more.weight" in (unsuitable(twice, KEPT) or "")


def test_a_classifier_with_pooling_suits_until_it_is_compact(bert: Path) -> None:
    model = PooledClassifier(transformers.AutoModel.from_pretrained(bert), 3, "mean")
    assert unsuitable(model, KEPT) is None
    whole = copy.deepcopy(model.state_dict())
    vocabulary = compact_vocabulary(model, KEPT)
    assert model.backbone.get_input_embeddings() is vocabulary.embedding
    assert identical(model.state_dict(), whole)
    assert "no plain table" in (unsuitable(model, KEPT) or "")


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (torch.optim.Adam, "adds the weight decay to the gradient"),
        (torch.optim.SGD, "adds the weight decay to the gradient"),
        (transformers.Adafactor, "Adafactor is not known"),
        (torch.optim.Adafactor, "Adafactor is not known"),
        (torch.optim.Muon, "Muon is not known"),
    ],
)
def test_optimizers_that_move_unused_rows_in_other_ways_do_not_suit(optimizer: Any, reason: str) -> None:
    assert reason in (unsuitable_optimizer(optimizer([nn.Parameter(torch.zeros(4, 4))], weight_decay=0.1)) or "")
