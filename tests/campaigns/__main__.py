"""Runs every campaign at full count, then the audit, then makes the page: ``python -m tests.campaigns``."""

from __future__ import annotations

import subprocess
import sys

from tests.campaigns import common, report


def main() -> int:
    """How many campaigns had cases that were not good, or failed."""
    commands = [[sys.executable, "-m", f"tests.campaigns.{name}"] for name in (*common.campaigns(), "audit")]
    failed = sum(subprocess.run(command, cwd=common.ROOT).returncode != 0 for command in commands)
    report.PAGE.write_text(report.page(), encoding="utf-8")
    return failed


if __name__ == "__main__":
    sys.exit(min(main(), 1))
