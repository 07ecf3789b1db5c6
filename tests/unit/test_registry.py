from __future__ import annotations

import re
from importlib.metadata import EntryPoint

import pytest

from tunesmith import registry
from tunesmith.config.loading import resolve
from tunesmith.errors import UsageError
from tunesmith.methods import METHODS
from tunesmith.methods.base import Defaults, Method, unused_settings
from tunesmith.tasks import shape_of
from tunesmith.tasks.base import Task
from tunesmith.tasks.classification import Classification

TABLE = {"counter": "collections:Counter", "order": "collections:OrderedDict"}


@pytest.fixture
def extensions(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("deque", "collections:deque", "tunesmith.kinds"),
        EntryPoint("counter", "collections:deque", "tunesmith.kinds"),
    ]
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [point for point in points if point.group == group], raising=True
    )


def test_lookup_imports_what_the_string_names() -> None:
    from collections import Counter

    assert registry.lookup(TABLE, "kinds", "counter") is Counter


def test_listing_imports_nothing() -> None:
    assert registry.names({"absent": "no_such_module:Thing"}, "kinds") == ["absent"]


@pytest.mark.usefixtures("extensions")
def test_extensions_add_names_but_replace_none() -> None:
    from collections import Counter, deque

    assert registry.names(TABLE, "kinds") == ["counter", "order", "deque"]
    assert registry.names(TABLE, "others") == ["counter", "order"]
    assert registry.lookup(TABLE, "kinds", "deque") is deque
    assert registry.lookup(TABLE, "kinds", "counter") is Counter


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown kind 'conter'; did you mean 'counter'\?"):
        registry.lookup(TABLE, "kinds", "conter")


def test_far_from_everything_all_names_are_listed() -> None:
    assert registry.did_you_mean("xyz", ["b", "a"]) == "known: a, b"


class Half(Classification):
    name = "half"
    decode = Task.decode  # abstract again


class Bare(Task):
    name = "bare"


class Other(Classification):
    pass


class Untitled(Method):
    name = "untitled"


@pytest.mark.parametrize(
    ("group", "name", "value", "wrong"),
    [
        ("tasks", "gone", "no_such_module:Thing", "cannot be loaded (ModuleNotFoundError: No module named 'no_such"),
        ("tasks", "gone", "collections:Thing", "cannot be loaded (AttributeError: module 'collections' has no"),
        ("tasks", "list", "collections:deque", "no subclass of tunesmith.tasks.base.Task"),
        ("tasks", "call", "collections:namedtuple", "no subclass of tunesmith.tasks.base.Task"),
        ("tasks", "bare", f"{__name__}:Bare", "title, shape, head, metrics, primary_metric, arrays, "),
        ("tasks", "half", f"{__name__}:Half", "decode missing"),
        ("tasks", "other", f"{__name__}:Other", "its name is 'classification'"),
        ("methods", "untitled", f"{__name__}:Untitled", "title, apply"),
    ],
)  # fmt: skip
def test_a_foreign_part_that_is_not_whole_is_told_as_it_is_looked_up(
    monkeypatch: pytest.MonkeyPatch, group: str, name: str, value: str, wrong: str
) -> None:
    point = EntryPoint(name, value, f"tunesmith.{group}")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if point.group == group else [])
    with pytest.raises(UsageError) as refused:
        registry.lookup(registry.table_of(group), group, name)
    where = f"{group.removesuffix('s')} {name!r} of package ? ({value}): "
    assert str(refused.value).startswith(where + wrong) and "\n" not in str(refused.value)
    if group == "tasks":
        with pytest.raises(UsageError, match=re.escape(where)):
            shape_of(name)


def test_settings_that_no_chosen_method_uses_are_named() -> None:
    usual = Defaults(1e-4, 1e-3, epochs=1, batch_size=8)
    config = resolve(options={"lora_r": 4, "trainable_layers": 3, "epochs": 3, "lr": 1e-4, "head_lr": 1.0, "seed": 7})

    def unused(*names: str, steps: bool) -> list[str]:
        methods = [registry.lookup(METHODS, "methods", name)(config.method) for name in names]
        return unused_settings(config.method, config.training, methods, None if steps else usual)

    of_steps = ["training.epochs", "training.head_lr"]
    assert unused("features", steps=False) == ["method.trainable_layers", "method.lora_r", *of_steps]
    assert unused("features", "lora", steps=True) == ["method.trainable_layers"]
    assert unused("freeze", steps=True) == ["method.lora_r"] and unused("freeze", "lora", steps=True) == []
