"""A trained model, or an artefact, goes to the Hugging Face Hub: its listed files and its card, and nothing else.

The network is used because that is what was asked for; see `tunesmith.network` for how it is shut otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rich.filesize import decimal

from tunesmith import manifest, signals
from tunesmith.artefact.folder import Artefact
from tunesmith.catalogue.catalogue import select
from tunesmith.disk import read_plain
from tunesmith.errors import ModelError, ResourceError, TunesmithError, UsageError
from tunesmith.manifest import Manifest
from tunesmith.models.sealed import TRAINED_FILE, is_artefact, model_folder, require_intact
from tunesmith.models.seen import FILE as SEEN_FILE
from tunesmith.progress import Progress
from tunesmith.text import counted, name_list

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelCard

CARD = "README.md"
LICENSES = ("LICENSE", "NOTICE")
MOST_CARD_BYTES = 2**22
LICENSE, LANGUAGE = r"[a-z0-9][a-z0-9.+-]{0,63}", r"[a-z]{2,3}|multilingual"


@dataclass(frozen=True)
class Parcel:
    """What goes to the Hub.

    Attributes:
        folder: of the model or artefact.
        sizes: bytes of each file, by its name in the folder and there.
        card: the text of the model card, which may say more than the file in the folder.
        lacks: what others should know of the model and the card does not say.
    """

    folder: Path
    sizes: dict[str, int]
    card: str
    lacks: tuple[str, ...]

    @classmethod
    def of(cls, run: Path, license: str | None = None, language: str | None = None) -> Parcel:
        """Of a run, a model folder or an artefact, which must be whole.

        Raises:
            ModelError: it is none, is damaged, or its card cannot be read.
            UsageError: the licence or a language is no identifier.
        """
        folder = model_folder(run)
        names = _listed(folder)
        if CARD not in names:
            raise ModelError(f"{folder}: {CARD} is missing, and a model goes with its card; restore it")
        card = _card(folder / CARD)
        changed = _told(license, language)
        if changed:
            for key, value in changed.items():
                setattr(card.data, key, value)
        text = str(card) if changed else read_plain(folder / CARD, MOST_CARD_BYTES).decode()
        sizes = {name: (folder / name).stat().st_size for name in names} | {CARD: len(text.encode())}
        return cls(folder, sizes, text, tuple(_lacks(card)))

    @property
    def summary(self) -> str:
        return f"{counted(len(self.sizes), 'file')}, {decimal(sum(self.sizes.values()))}"


@dataclass(frozen=True)
class Pushed:
    """What `push` did.

    Attributes:
        repository: its name on the Hub.
        url: its page.
        private: whether others cannot see it; None where nothing was sent.
        commit: which holds the files; None where nothing was sent.
        files: bytes by name.
        lacks: what the card does not say.
    """

    repository: str
    url: str
    private: bool | None
    commit: str | None
    files: dict[str, int]
    lacks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        files = [{"name": name, "bytes": size} for name, size in self.files.items()]
        return {**vars(self), "files": files, "lacks": list(self.lacks)}

    def __str__(self) -> str:
        if self.commit is None:
            return f"{self.url}: nothing was sent (a dry run)"
        return f"{self.url}: {'private' if self.private else 'public'}, commit {self.commit[:7]}"


def push(
    run: Path, name: str, public: bool, license: str | None, language: str | None, dry_run: bool, progress: Progress
) -> Pushed:
    """See `tunesmith.push`."""
    from huggingface_hub import constants

    _require_name(name)
    parcel = Parcel.of(run, license, language)
    url = f"{constants.ENDPOINT}/{name}"
    progress.line(f"{'would send' if dry_run else 'sends'} to {url}: {parcel.summary}")
    for file, size in parcel.sizes.items():
        progress.line(f"  {file}  {decimal(size)}")
    for lack in parcel.lacks:
        progress.line(f"warning: {lack}")
    if dry_run:
        return Pushed(name, url, None, None, parcel.sizes, parcel.lacks)
    token = _token(constants.ENDPOINT, constants.is_offline_mode())
    with _explained(name, url, token):
        from huggingface_hub import HfApi

        hub = HfApi(token=token)
        private, parent = _place(hub, name, public, parcel, progress)
        commit = _send(hub, name, parcel, parent)
    return Pushed(name, url, private, commit, parcel.sizes, parcel.lacks)


def _listed(folder: Path) -> list[str]:
    """Names of what may be sent of a folder: files it vouches for, its cards and licences.

    The hashes of training texts stay here, as do records, notes and whatever else was laid beside.
    """
    if is_artefact(folder):
        vouched = {*Artefact.load(folder).files, Artefact.FILE}
    else:
        require_intact(folder)
        if not (folder / TRAINED_FILE).is_file():
            raise ModelError(
                f"{folder}: no trained model ({TRAINED_FILE} is missing); give a finished run, or an artefact"
            )
        vouched = {*Manifest.load(folder).files, manifest.FILE} - {SEEN_FILE}
    return sorted(name for name in manifest.file_names(folder) if name in vouched or _is_told(name))


def _is_told(name: str) -> bool:
    """Whether a file says what others should know of a model."""
    return PurePath(name).name == CARD or name.startswith(LICENSES)


def _card(file: Path) -> ModelCard:
    from huggingface_hub import ModelCard

    try:
        return ModelCard(read_plain(file, MOST_CARD_BYTES).decode())
    except Exception as error:  # of the reader of YAML, which has a tree of its own, and of keys that are misused
        said = getattr(error, "problem", None) or str(error) or type(error).__name__
        where = f", line {mark.line + 2}" if (mark := getattr(error, "problem_mark", None)) else ""
        remedy = "correct the lines between --- and ---"
        raise ModelError(f"{file}{where}: no model card that the Hub reads ({_harmless(said)}); {remedy}") from None


def _told(license: str | None, language: str | None) -> dict[str, Any]:
    """Keys of a card's head that were given."""
    languages = [part.strip() for part in (language or "").split(",") if part.strip()]
    if license is not None and not re.fullmatch(LICENSE, license):
        wanted = "expected an identifier of the Hub, such as apache-2.0, mit or other"
        raise UsageError(f"`license`: {wanted}, found {license!r}")
    if wrong := [one for one in languages if not re.fullmatch(LANGUAGE, one)]:
        raise UsageError(f"`language`: expected codes such as en,de, or multilingual, found {wrong[0]!r}")
    told: dict[str, Any] = {"license": license} if license else {}
    return told | ({"language": languages[0] if len(languages) == 1 else languages} if languages else {})


def _lacks(card: ModelCard) -> Iterator[str]:
    """What a card should say and does not, with what is known of the model it began with."""
    data: Any = card.data
    base = data.base_model if isinstance(data.base_model, str) else None
    known = next((entry for entry in select() if entry.id == base), None)
    if not data.license:
        hint = f" ({base}, which it began with, has {known.licence})" if known and known.licence else ""
        yield f"the card names no licence{hint}; name one with `license`"
    if not data.language:
        hint = f" ({base}, which it began with, reads {name_list(known.languages)})" if known else ""
        yield f"the card names no language{hint}; name it with `language`"
    if not data.eval_results:
        yield "the card holds no metrics (model-index); train the model again"


def _require_name(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    wanted = f"{name!r}: expected owner/name, where letters, digits, -, _ and . may stand"
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UsageError(f"{wanted} ({str(error).split(':')[0].rstrip('.')})") from None
    if name.count("/") != 1:
        raise UsageError(f"{wanted}; the owner is you, or an organization of yours")


def _token(endpoint: str, is_offline: bool) -> str:
    """The token that the Hub's own login left, or HF_TOKEN.

    Raises:
        UsageError: there is none, it may not go there, or the Hub is shut.
    """
    from huggingface_hub import get_token

    if is_offline:
        raise UsageError("HF_HUB_OFFLINE is set, and `push` needs the Hub; unset it, or look with `dry_run`")
    address = urlsplit(endpoint)
    if address.scheme != "https" and address.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise UsageError(f"HF_ENDPOINT={endpoint}: the token would go there unencrypted; give an https address")
    if not (token := get_token()):
        raise UsageError("no token for the Hub; run `hf auth login`, or set HF_TOKEN to one that may write")
    if not re.fullmatch(r"[!-~]+", token):
        raise UsageError("the token for the Hub holds a space, or a letter that no token has; set HF_TOKEN again")
    return token


def _place(hub: HfApi, name: str, public: bool, parcel: Parcel, progress: Progress) -> tuple[bool, str | None]:
    """Whether the repository, made where there is none, is private, and the commit that it is at.

    Raises:
        UsageError: one of this name is public, or holds something else.
    """
    from huggingface_hub.errors import HfHubHTTPError

    try:
        found = hub.model_info(name)
    except HfHubHTTPError as error:
        if error.response.status_code != 404:
            raise
        hub.create_repo(name, private=not public)
        return not public, None
    if not found.private and not public:
        raise UsageError(f"{name}: is public already; add `public` to send the model there, or give another name")
    strange = [one.rfilename for one in found.siblings or () if _is_foreign(one.rfilename, parcel)]
    if strange:
        held = f"holds {name_list(strange[:3])}, no part of this model"
        raise UsageError(f"{name}: {held}; remove that there, or give another name")
    if found.private and public:
        progress.line(f"note: {name} is private already and stays so; its settings page makes it public")
    return bool(found.private), found.sha


def _is_foreign(name: str, parcel: Parcel) -> bool:
    notes = name.endswith(".md") or name.startswith((*LICENSES, "."))
    return not notes and name not in parcel.sizes


def _send(hub: HfApi, name: str, parcel: Parcel, parent: str | None) -> str:
    """Send everything and then commit it, as one: the repository never holds half a model."""
    from huggingface_hub import CommitOperationAdd

    signals.current().saved = f"{name} has no new commit, and what arrived is kept; the same command goes on"
    operations = [
        CommitOperationAdd(file, parcel.card.encode() if file == CARD else parcel.folder / file)
        for file in parcel.sizes
    ]
    sent = hub.create_commit(name, operations, commit_message="Model sent by Tunesmith", parent_commit=parent)
    return str(sent.oid)


@contextmanager
def _explained(name: str, url: str, token: str) -> Iterator[None]:
    """What the Hub refuses, or the network, becomes one line with a remedy; the token is in none."""
    from httpx2 import HTTPError

    try:
        yield
    except TunesmithError:
        raise
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise _refusal(error, name, url, token) from error


def _refusal(error: BaseException, name: str, url: str, token: str) -> TunesmithError:
    status, said = _answer(error)
    said, owner = _harmless(said, token), name.split("/")[0]
    again = "run the same command again: what arrived is not sent twice"
    if status is None:
        return ResourceError(f"{url}: the Hub cannot be reached, or was lost on the way ({said}); {again}")
    if status >= 500 or status == 429:
        return ResourceError(f"{url}: the Hub answers {status} ({said}); wait, and {again}")
    remedy = {
        401: "the token is not valid, or has expired; run `hf auth login`, or set HF_TOKEN to one that may write",
        403: f"the token may not write for {owner}; set HF_TOKEN to one that may, or give another owner",
        404: f"there is no {name}, or the token does not see it; correct the name, or the token",
        409: "something of this name is being made or changed; wait a moment and run the same command again",
        412: "the repository changed meanwhile; run the same command again",
    }.get(status, "correct what it names")
    return UsageError(f"{url}: the Hub answers {status} ({said}); {remedy}")


def _answer(error: BaseException) -> tuple[int | None, str]:
    """The status with which the Hub, or its storage, refused something, and its words; None where it said nothing."""
    from huggingface_hub.errors import HfHubHTTPError

    *_, last = causes = list(_causes(error))
    for one in causes:
        if isinstance(one, HfHubHTTPError):
            return one.response.status_code, one.server_message or one.response.reason_phrase
    found = re.search(r"status client error \((\d{3})", str(last))  # Xet, which has no errors of its own for them
    return int(found[1]) if found else None, str(last) or type(last).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _harmless(text: str, token: str = "") -> str:
    return " ".join((text.replace(token, "…") if token else text).split())[:300]
