from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from tunesmith import registry
from tunesmith.errors import UsageError

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
