"""Folders that vouch for their files: ``manifest.json`` lists each with its size and hash, and no others may lie there.

Used for checkpoints and for models. What a library would read is thereby what was written, or the folder is refused.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunesmith.disk import LINK, file_sha256, read_json, sync, write_text

FILE = "manifest.json"
MOST_FILES, MOST_LEVELS = 10_000, 6
PICKLES = (".bin", ".bin.index.json", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
"""Endings of what libraries unpickle, or find such files by."""

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
PlainName = Annotated[str, Field(pattern=r"^[^./\\\x00-\x1f][^/\\\x00-\x1f]*(/[^./\\\x00-\x1f][^/\\\x00-\x1f]*){0,3}$")]
"""Of a file below a folder: no way out of it, and nothing hidden."""


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class FileFacts(Part):
    """What is known of a file."""

    bytes: int = Field(ge=0)
    sha256: Sha256

    @classmethod
    def of(cls, path: Path) -> Self:
        return cls(bytes=path.stat().st_size, sha256=file_sha256(path))


class Manifest(Part):
    """The content of ``manifest.json``."""

    version: Literal[1] = 1
    identity: dict[str, str | int] = {}
    """What the folder belongs to."""
    files: dict[PlainName, FileFacts] = Field(min_length=1)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises ValueError, which says what is wrong with the file."""
        try:
            found = cls.model_validate(read_json(folder / FILE))
        except ValidationError as error:
            item = error.errors()[0]
            where = ".".join(map(str, item["loc"]))[:200]
            said = f"{where}: {item['msg']}" if where else "it holds no JSON object"
            raise ValueError(f"{FILE} is damaged ({said})") from None
        except FileNotFoundError:
            raise ValueError(f"{FILE} is missing") from None
        except (OSError, ValueError) as error:
            raise ValueError(f"{FILE} cannot be read ({getattr(error, 'strerror', None) or error})") from None
        if pickle := next((name for name in found.files if name.endswith(PICKLES)), None):
            raise ValueError(f"{FILE} lists {pickle}, which may hold a pickle; those are never read")
        return found


def write(folder: Path, identity: Mapping[str, str | int], listed: Callable[[str], bool] = lambda _: True) -> Manifest:
    """List the files of a folder, and see to it that they, and the list, are on disk.

    Args:
        identity: what the folder belongs to.
        listed: whether a name is listed; what is not may be changed later.
    """
    names = sorted(name for name in file_names(folder) if name != FILE and listed(name))
    for name in names:
        sync(folder / name)
    found = Manifest(identity=dict(identity), files={name: FileFacts.of(folder / name) for name in names})
    write_text(folder / FILE, json.dumps(found.model_dump(), indent=1, ensure_ascii=False) + "\n")
    return found


def refusal(
    folder: Path,
    manifest: Manifest,
    optional: Callable[[str], bool] = lambda _: False,
    besides: Callable[[str], bool] = lambda _: False,
) -> str | None:
    """Why the files of a folder are not those of its manifest, naming the first; None where they are.

    Args:
        optional: whether a listed file may have been removed.
        besides: whether a file may be there that is not listed.
    """
    try:
        there = set(file_names(folder)) - {FILE}
        for name in sorted(manifest.files):
            if name not in there and not optional(name):
                what = "a folder" if (folder / name).is_dir() else "missing"
                return f"{name} is {what}, and {FILE} lists it as a file"
        for name in sorted(there):
            if name in manifest.files:
                if problem := damage(folder / name, manifest.files[name]):
                    return f"{name} {problem}"
            elif not besides(name):
                return f"{name} is not in {FILE}; remove it"
    except ValueError as error:
        return str(error)
    except OSError as error:
        return f"{Path(error.filename or folder).name} cannot be read ({error.strerror})"
    return None


def damage(path: Path, facts: FileFacts) -> str | None:
    """What is wrong with a regular file, or None."""
    if path.stat().st_size != facts.bytes:
        return f"has the wrong size (by {FILE})"
    return None if file_sha256(path) == facts.sha256 else f"is damaged (its hash differs from {FILE})"


def require_outside(path: Path) -> None:
    """Refuse to write below a folder that vouches for its files, which would no longer be what it lists.

    Raises:
        ValueError: there is one above.
    """
    for above in Path(os.path.abspath(path)).parents:
        if (above / FILE).is_file():
            raise ValueError(f"{above} is a model, whose files are listed, and no others may lie there")


def file_names(folder: Path) -> Iterator[str]:
    """Names of the files below a folder, as seen from it, links not followed.

    Raises:
        ValueError: there is a link, or something that is neither file nor folder; there are too many files or levels.
    """
    return (str(path.relative_to(folder)) for path, facts in members(folder) if stat.S_ISREG(facts.st_mode))


def members(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything below a folder, and facts of each; raises as `file_names` does."""
    count, level = 0, [folder]
    for _ in range(MOST_LEVELS):
        below = []
        for path in level:
            with os.scandir(path) as entries:
                for entry in entries:
                    count, facts = count + 1, entry.stat(follow_symlinks=False)
                    where = str(Path(entry.path).relative_to(folder))
                    if count > MOST_FILES:
                        raise ValueError(f"it holds more than {MOST_FILES:,} files; remove those that are not its own")
                    if stat.S_ISLNK(facts.st_mode):
                        raise ValueError(f"{where} is {LINK}")
                    if stat.S_ISDIR(facts.st_mode):
                        below.append(Path(entry.path))
                    elif not stat.S_ISREG(facts.st_mode):
                        raise ValueError(f"{where} is neither a file nor a folder; remove it")
                    yield Path(entry.path), facts
        if not (level := below):
            return
    raise ValueError(f"{level[0].relative_to(folder)} lies more than {MOST_LEVELS} folders deep; remove it")
