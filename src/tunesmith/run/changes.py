"""What a run that goes on must share with its beginning, and how the two differ, each difference by its name.

A difference is refused: the result would not be that of the run that was never interrupted. Knows no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tunesmith.config.schema import AdaptConfig, Config
from tunesmith.run.record import AdaptRecord, RunRecord

HARMLESS = (
    "output.",
    "data.expansion",
    "model.local",
    "training.save_minutes",
    "training.threads",
    "training.tracker",
)
"""Settings that decide nothing; of threads it is the number used that counts."""
ANEW = "or start anew with output.overwrite"
REMEDIES = {
    "code": "use the Tunesmith that began the run",
    "machine": "go on where the run began",
    "environment": "set it as it was",
    "number": "leave it out",
    "library": "install the version that began the run",
    "extension": "install the version that began the run",
}
"""By what stands before the colon in the names of an identity; all others are files."""
FOLLOWS = {
    "data file: ": ("data.valid", "data.test"),
    "model file: ": ("model.",),
    "masked model file: ": ("model.", "augmentation."),
    "lexicon: ": ("augmentation.",),
}
"""Parts of an identity that are other ones where a setting names other files."""
PLACES = {
    "data.valid": "data file: ",
    "data.test": "data file: ",
    "model.name": "model file: ",
    "augmentation.lexicon": "lexicon: ",
    "augmentation.masked_model": "masked model file: ",
}
"""Settings that name files, which count by their content: they may have been moved, or be named from another folder."""
NAMED_BY_PLACE = ("data file: ", "lexicon: ")
"""Parts of an identity whose names say where a file lies; their order says what it is used for."""


def deciding(config: Config | AdaptConfig) -> dict[str, Any]:
    """The settings that decide a result, by their keys."""
    tree: dict[str, dict[str, Any]] = config.model_dump(mode="json")
    found = {f"{section}.{name}": value for section, values in tree.items() for name, value in values.items()}
    return {key: value for key, value in found.items() if not key.startswith(HARMLESS)}


def digest(config: Config | AdaptConfig, identity: Mapping[str, str]) -> str:
    """One hash of all that decides a result, which checkpoints are known by."""
    settings = {key: value if key not in PLACES else value is not None for key, value in deciding(config).items()}
    content = json.dumps([settings, _without_places(identity)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def changed_settings(before: Config | AdaptConfig, after: Config | AdaptConfig) -> dict[str, str]:
    """What is to be said of each setting that decides and differs, by its key."""
    old, new = deciding(before), deciding(after)
    keys = [key for key in old if old[key] != new.get(key)]

    def shown(value: Any) -> str:
        return "not given" if value is None else repr(value)

    return {key: f"{key} was {shown(old[key])} and is now {shown(new.get(key))}; use the old value" for key in keys}


def differences(old: RunRecord | AdaptRecord, new: RunRecord | AdaptRecord) -> list[str]:
    """What a run that goes on does not share with its beginning, each with a remedy."""
    if "code: Tunesmith" not in old.identity:
        return [f"output.resume: the run was begun by another version of Tunesmith; use that one, {ANEW}"]
    if old.seed != (seed := old.requested.training.seed):
        changed = f"{old.FILE} says seed {old.seed}, and {seed} in requested.training; it was edited, so restore it"
        return [f"output.resume: {changed}, {ANEW}"]
    was, now = old.identity, new.identity
    moved = [kind for kind in FOLLOWS if _of_kind(was, kind) == _of_kind(now, kind)]
    before, after = deciding(old.requested), deciding(new.requested)
    elsewhere = [key for key, kind in PLACES.items() if kind in moved and before.get(key) and after.get(key)]
    settings = changed_settings(old.requested, new.requested)
    settings = {key: said for key, said in settings.items() if key not in elsewhere}
    explained = tuple(kind for kind, keys in FOLLOWS.items() if any(key.startswith(keys) for key in settings))
    names = [name for name in {**was, **now} if was.get(name) != now.get(name) and not name.startswith(tuple(moved))]
    causes = [name for name in names if not name.startswith((*explained, "rows:"))]
    if not settings and not causes:
        causes = names  # rows follow from the rest, and are told where nothing explains them
    found = [*settings.values(), *(_difference(name, was.get(name), now.get(name)) for name in causes)]
    return [f"output.resume: {problem}, {ANEW}" for problem in found]


def _of_kind(identity: Mapping[str, str], kind: str) -> Any:
    """What an identity says of one kind of file, in a form that is the same where the files were only moved."""
    found = {name: value for name, value in identity.items() if name.startswith(kind)}
    return list(found.values()) if kind in NAMED_BY_PLACE else found


def _without_places(identity: Mapping[str, str]) -> dict[str, Any]:
    rest = {name: value for name, value in identity.items() if not name.startswith(NAMED_BY_PLACE)}
    return rest | {kind: _of_kind(identity, kind) for kind in NAMED_BY_PLACE}


def _difference(name: str, before: str | None, after: str | None) -> str:
    kind, _, what = name.partition(": ")
    if kind == "rows" and before and after:
        return f"the rows of {what} changed; restore the data, or the record if it was edited"
    names = {"library": what, "number": what, "machine": f"the {what}", "code": "the code of Tunesmith"}
    called, remedy = names.get(kind, name), REMEDIES.get(kind, "restore it")
    if before is None or after is None:
        return f"{called} is {'new' if before is None else 'gone'}; {remedy}"
    changed = "changed" if len(before) == len(after) == 64 else f"was {before} and is now {after}"
    return f"{called} {changed}; {remedy}"
