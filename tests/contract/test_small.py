"""Small data: epochs that make enough steps, the last state where few rows would choose one, what `auto` keeps."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tunesmith.config.schema import Config, MethodSettings, TrainingSettings
from tunesmith.evaluation.intervals import Score
from tunesmith.methods import METHODS, base
from tunesmith.methods.base import ENOUGH_STEPS, MOST_EPOCHS, Defaults, methods_for
from tunesmith.pipeline import _Judge
from tunesmith.registry import lookup
from tunesmith.training import fitting

USUAL = Defaults(lr=1e-4, head_lr=1e-3, epochs=5, batch_size=8)


@pytest.mark.parametrize(
    ("rows", "given", "epochs"),
    [
        (1, {}, MOST_EPOCHS),
        (63, {}, MOST_EPOCHS),
        (144, {}, 12),  # 18 steps an epoch
        (320, {}, 5),
        (50_000, {}, 5),
        (144, {"batch_size": 32}, MOST_EPOCHS),  # 5 steps an epoch
        (144, {"accumulation": 3}, 13),  # 16 steps of 9 rows
        (0, {}, 5),  # the head is solved for
    ],
)
def test_few_rows_are_passed_over_until_there_are_enough_steps(rows: int, given: dict[str, Any], epochs: int) -> None:
    assert USUAL.missing_in(TrainingSettings(**given), rows)["epochs"] == epochs


def test_what_is_asked_for_stays(make_problem: Any) -> None:
    assert "epochs" not in USUAL.missing_in(TrainingSettings(epochs=2), 8)
    assert make_problem(method="full", epochs=2).by_method().settings.epochs == 2


@pytest.mark.parametrize(
    ("kind", "method", "epochs"),
    [
        ("classification", "features", 1),  # solved for
        ("classification", "gradual", MOST_EPOCHS),
        ("ner", "features", MOST_EPOCHS),
        ("ner", "full", MOST_EPOCHS),
    ],
)
def test_the_epochs_that_were_chosen_are_in_the_settings(
    make_problem: Any, kind: str, method: str, epochs: int
) -> None:
    begun = make_problem(kind, method=method).by_method()
    assert begun.settings.epochs == epochs
    assert begun.solves or begun.steps_per_epoch * epochs <= ENOUGH_STEPS


def scored(problem: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, values: list[float]) -> Any:
    """A fit whose evaluations give these scores; the first is asked for before training."""
    left = [0.0, *values]
    monkeypatch.setattr(type(problem.begun.task), "quick_score", lambda *a: {"accuracy": left.pop(0)})
    return problem.fit(folder)


def test_few_validation_rows_do_not_choose_the_state(
    make_problem: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = scored(make_problem(method="full", epochs=3, batch_size=12), tmp_path, monkeypatch, [0.5, 0.9, 0.8])
    assert found.best == {"step": 6, "metric": "accuracy", "value": 0.8} and found.curve == [0.5, 0.9, 0.8]
    assert not list((tmp_path / "checkpoints").iterdir())
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["eval_accuracy"] for line in lines if "eval_accuracy" in line] == found.curve


def test_enough_validation_rows_choose_it(make_problem: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "FEW_VALID_ROWS", 24)
    found = scored(make_problem(method="full", epochs=3, batch_size=12), tmp_path, monkeypatch, [0.5, 0.9, 0.8, 0.9])
    assert found.best == {"step": 4, "metric": "accuracy", "value": 0.9}


@pytest.mark.parametrize(
    ("curve", "noise", "said"),
    [
        ([0.2, 0.4, 0.6], 0.1, "(0.4000 → 0.6000"),
        ([0.1, 0.2, 0.3, 0.5, 0.6, 0.7], 0.1, "(0.5000 → 0.7000"),
        ([0.2, 0.4, 0.6], 0.3, None),  # by chance
        ([0.2, 0.6, 0.6], 0.1, None),  # no better than before
        ([0.2, 0.7, 0.6], 0.1, None),
        ([0.2, 0.6], 0.1, None),  # two evaluations are no trend
        ([], 0.1, None),  # solved for
    ],
)
def test_a_run_that_is_cut_short_says_so(make_problem: Any, curve: list[float], noise: float, said: str | None) -> None:
    begun = make_problem(method="full", epochs=6).by_method()
    begun.best, begun.curve = {"step": 1, "metric": "accuracy", "value": 0.6}, curve
    interval = Score(0.6, 0.6 - 1.96 * noise, 0.6 + 1.96 * noise, 24)
    warning = begun.unfinished({"accuracy": interval})
    if said is None:
        assert warning is None
    else:
        assert said in str(warning) and str(warning).endswith("try training.epochs=12")


def test_errors_improve_downwards(make_problem: Any) -> None:
    begun = make_problem("regression", method="full", epochs=3).by_method()
    begun.best, begun.curve = {"step": 1, "metric": "rmse", "value": 0.2}, [0.9, 0.6, 0.2]
    assert "0.6000 → 0.2000" in str(begun.unfinished({"rmse": Score(0.2, 0.1, 0.3, 24)}))
    begun.curve.reverse()
    assert begun.unfinished({"rmse": Score(0.9, 0.8, 1.0, 24)}) is None


@pytest.mark.parametrize(
    ("rows", "on_tokens", "names"),
    [
        (base.FEW_ROWS - 1, False, ["features", "freeze", "full"]),
        (base.FEW_ROWS - 1, True, ["freeze", "full"]),
        (base.FEW_ROWS, False, ["features", "full"]),
        (base.FEW_ROWS, True, ["features", "full"]),
    ],
)
def test_on_few_rows_more_methods_are_tried(make_problem: Any, rows: int, on_tokens: bool, names: list[str]) -> None:
    model = make_problem(method="auto").begun.model
    assert [method.name for method in methods_for(MethodSettings(), model, rows, on_tokens)] == names
    assert [method.name for method in methods_for(MethodSettings(name="lora"), model, rows, on_tokens)] == ["lora"]


@pytest.mark.parametrize(
    ("rows", "right", "kept"),
    [
        (24, (24, 8), "full"),  # better beyond chance
        (24, (20, 18), "freeze"),  # better, perhaps by chance
        (60, (46, 45), "full"),  # rows enough
        (24, (9, 9), "freeze"),
    ],
)
def test_few_validation_rows_choose_another_method_beyond_chance_alone(
    make_problem: Any, monkeypatch: pytest.MonkeyPatch, rows: int, right: tuple[int, int], kept: str
) -> None:
    """`full` comes first here and is right on more of the rows than the one that comes last."""
    problem = make_problem(method="full", rows=rows)
    space, fittings = problem.begun.space, []
    targets = problem.features.gold
    answered = {}
    for name, number in zip(("full", "freeze"), right, strict=True):
        begun = problem.begun.by(lookup(METHODS, "methods", name)(MethodSettings()), problem.features, problem.features)
        begun.best = {"step": 1, "metric": "accuracy", "value": number / rows}
        said = np.where(np.arange(rows) < number, targets, (targets + 1) % len(space.names))
        answered[name] = SimpleNamespace(answered=(np.eye(len(space.names))[said], space), targets=targets)
        fittings.append(begun)
    judge = _Judge(Config(), {"valid": targets}, {}, None)  # type: ignore[arg-type]
    scores = lambda self, fitting, name: (None, {name: answered[fitting.method.name]})  # noqa: E731
    monkeypatch.setattr(_Judge, "scores", scores)
    assert judge.best(fittings).method.name == kept


def test_methods_of_a_run_have_their_own_checkpoints(make_problem: Any) -> None:
    problem = make_problem(method="auto")
    methods = methods_for(MethodSettings(), problem.begun.model, base.FEW_ROWS - 1, False)
    phases = [one.phase for one in problem.begun.by_each(methods, problem.features, problem.features)]
    assert len(set(phases)) == len(methods) > 1
    (alone,) = problem.begun.by_each(methods[:1], problem.features, problem.features)
    assert alone.phase == "step"
