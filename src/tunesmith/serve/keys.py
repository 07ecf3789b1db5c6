"""Who may ask: keys of a file that is its owner's alone, compared in constant time."""

from __future__ import annotations

import hmac
import os
import re
import stat
from hashlib import sha256
from pathlib import Path

from tunesmith.disk import read_plain
from tunesmith.errors import UsageError
from tunesmith.serve.replies import Refused

SHORTEST = 16
"""Characters of a key."""
_KEY = re.compile(f"[!-~]{{{SHORTEST},512}}")


class Keys:
    """The keys of a server; what is kept of them is their SHA-256.

    Args:
        hashes: one of each key; where there is none, everybody may ask.
    """

    def __init__(self, hashes: list[bytes]) -> None:
        self._hashes = hashes

    def __bool__(self) -> bool:
        return bool(self._hashes)

    @classmethod
    def load(cls, name: str | None) -> Keys:
        """The keys of a file: one a line; blank lines, and those that begin with ``#``, are none.

        Raises:
            UsageError: it cannot be read, others than its owner may read it, or a line is no key; none is repeated.
        """
        if name is None:
            return cls([])
        path = Path(name)
        try:
            content = read_plain(path)
            facts = os.lstat(path)
        except OSError as error:
            raise UsageError(f"`keys`: {name}: cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise UsageError(f"`keys`: {name}: {error}; give a text file with one key a line") from None
        if not _is_safe(facts):
            raise UsageError(f"`keys`: {name}: others can read or change it; run `chmod 600 {name}` as its owner")
        hashes = []
        for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), 1):
            key = line.strip()
            if not key or key.startswith("#"):
                continue
            if not _KEY.fullmatch(key):
                wanted = f"expected {SHORTEST} characters or more, printable ASCII without spaces"
                raise UsageError(f"`keys`: {name}: line {number}: {wanted}; `openssl rand -hex 32` makes one")
            hashes.append(sha256(key.encode()).digest())
        if not hashes:
            raise UsageError(f"`keys`: {name}: there is no key in it; write one a line")
        return cls(hashes)

    def know(self, authorization: str | None) -> bool:
        """Whether a header ``Authorization: Bearer KEY`` has one of the keys; always where there are none."""
        if not self._hashes:
            return True
        scheme, _, key = (authorization or "").partition(" ")
        found = sha256(key.strip().encode("utf-8", errors="replace")).digest()
        same = [hmac.compare_digest(found, known) for known in self._hashes]  # all of them, whichever it is
        return any(same) and scheme.lower() == "bearer"

    def require(self, authorization: str | None) -> None:
        """
        Raises:
            Refused: it has none.
        """
        if not self.know(authorization):
            raise Refused(401, "expected Authorization: Bearer KEY", headers={"www-authenticate": "Bearer"})


def _is_safe(facts: os.stat_result) -> bool:
    """Whether others can neither read nor change a file.

    It is its owner's alone; or root's, and the reader's group may read it (or an access list, which shows as a group):
    so systemd and orchestrators hand out secrets.
    """
    mode = stat.S_IMODE(facts.st_mode)
    if facts.st_uid == os.geteuid():
        return not mode & 0o077
    return facts.st_uid == 0 and not mode & 0o037
