"""Asks an index of advisories about the pinned versions, with pip-audit in an environment of its own.

No campaign: what is found, or that no index could be asked, stands below the table of the campaigns.
``python -m tests.campaigns.audit`` asks.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.campaigns.common import ROOT, commit, write_result

PINNED = ROOT / "constraints.txt"
PIP_AUDIT = "pip-audit==2.10.1"
SECONDS = 600


def audit(pinned: Path = PINNED) -> dict[str, Any]:
    """How many of the pinned packages an index knows, which of them have advisories, or why it could not be asked."""
    with tempfile.TemporaryDirectory() as name:
        venv.create(name, with_pip=True)
        python = Path(name) / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        try:
            _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PIP_AUDIT)
            asking = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json")
            found = json.loads(_run(python, "-m", "pip_audit", *asking, "--requirement", str(pinned)))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return {
                "packages": 0,
                "known": 0,
                "vulnerable": {},
                "problem": f"pip-audit failed ({type(error).__name__})",
            }
    return summary(found["dependencies"])


def summary(packages: list[dict[str, Any]]) -> dict[str, Any]:
    """What pip-audit found, in short."""
    known = [package for package in packages if "skip_reason" not in package]
    vulnerable = {
        f"{package['name']} {package['version']}": [vulnerability["id"] for vulnerability in package["vulns"]]
        for package in known
        if package["vulns"]
    }
    problem = "" if known else "the index of packages here has no advisories"
    return {"packages": len(packages), "known": len(known), "vulnerable": vulnerable, "problem": problem}


def _run(python: Path, *arguments: str) -> str:
    done = subprocess.run([str(python), *arguments], capture_output=True, text=True, timeout=SECONDS)
    if done.returncode not in (0, 1):  # 1: there are advisories
        raise subprocess.SubprocessError(done.stderr[-500:])
    return done.stdout


def sentence(found: dict[str, Any]) -> str:
    """What the page says of it."""
    when = f"({found['date']}, {found['commit']})"
    if found["problem"]:
        return f"`pip-audit` on `constraints.txt`: no advisories could be asked for: {found['problem']} {when}."
    names = "; ".join(f"{name}: {', '.join(ids)}" for name, ids in found["vulnerable"].items())
    asked = f"{found['known']} of {found['packages']} pinned packages are known to the index"
    return f"`pip-audit` on `constraints.txt`: {asked}; with advisories: {names or 'none'} {when}."


def main() -> None:
    found = audit() | {"date": datetime.now(UTC).date().isoformat(), "commit": commit()}
    write_result("audit", found)
    sys.stdout.write(f"{sentence(found)}\n")
    sys.exit(bool(found["vulnerable"]))


if __name__ == "__main__":
    main()
