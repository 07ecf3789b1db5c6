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


def deciding(config: Config | AdaptConfig) -> dict[str, Any]:
    """The settings that decide a result, by their keys."""
    tree: dict[str, dict[str, Any]] = config.model_dump(mode="json")
    found = {f"{section}.{name}": value for section, values in tree.items() for name, value in values.items()}
    return {key: value for key, value in found.items() if not key.startswith(HARMLESS)}


def digest(config: Config | AdaptConfig, identity: Mapping[str, str]) -> str:
    """One hash of all that decides a result, which checkpoints are known by."""
    content = json.dumps([deciding(config), dict(identity)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def changed_settings(before: Config | AdaptConfig, after: Config | AdaptConfig) -> dict[str, str]:
    """What is to be said of each setting that decides and differs, by its key."""
    old, new = deciding(before), deciding(after)
    keys = [key for key in old if old[key] != new.get(key)]
    return {key: f"{key} was {old[key]!r} and is now {new.get(key)!r}; use the old value" for key in keys}


def differences(old: RunRecord | AdaptRecord, new: RunRecord | AdaptRecord) -> list[str]:
    """What a run that goes on does not share with its beginning, each with a remedy."""
    if "code: Tunesmith" not in old.identity:
        return [f"output.resume: the run was begun by another version of Tunesmith; use that one, {ANEW}"]
    settings, was, now = changed_settings(old.requested, new.requested), old.identity, new.identity
    explained = tuple(kind for kind, keys in FOLLOWS.items() if any(key.startswith(keys) for key in settings))
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    causes = [name for name in names if not name.startswith((*explained, "rows:"))]
    if not settings and not causes:
        causes = names  # rows follow from the rest, and are told where nothing explains them
    found = [*settings.values(), *(_difference(name, was.get(name), now.get(name)) for name in causes)]
    return [f"output.resume: {problem}, {ANEW}" for problem in found]


def _difference(name: str, before: str | None, after: str | None) -> str:
    kind, _, what = name.partition(": ")
    names = {"library": what, "number": what, "machine": f"the {what}", "code": "the code of Tunesmith"}
    called, remedy = names.get(kind, name), REMEDIES.get(kind, "restore it")
    if before is None or after is None:
        return f"{called} is {'new' if before is None else 'gone'}; {remedy}"
    changed = "changed" if len(before) == len(after) == 64 else f"was {before} and is now {after}"
    return f"{called} {changed}; {remedy}"
