"""A few cases of every campaign, and the page that is made from the results of all cases."""

from __future__ import annotations

import re

import pytest

from tests.campaigns import audit, common, report


@pytest.mark.parametrize("name", common.campaigns())
def test_a_sample_is_good(name: str) -> None:
    campaign = common.load(name)
    if reason := campaign.unavailable():
        pytest.skip(reason)
    outcomes = campaign.run(campaign.sample)
    assert outcomes and [outcome for outcome in outcomes if not outcome.good] == []


def test_the_page_is_what_the_results_give() -> None:
    wanted = "run `python -m tests.campaigns.report`"
    assert report.PAGE.read_text(encoding="utf-8") == report.page(), wanted


def test_every_campaign_stands_behind_a_promise() -> None:
    table = re.findall(r"^\|.*\|$", (common.ROOT / "SECURITY.md").read_text(encoding="utf-8"), re.MULTILINE)
    named = {name for row in table for name in re.findall(r"`([a-z_/.]+)`", row.split("|")[2])}
    assert set(common.campaigns()) <= named
    assert [name for name in named if "/" in name and not (common.ROOT / name).is_file()] == []


def test_advisories_and_their_absence_are_told_apart() -> None:
    clean, bad = {"name": "a", "version": "1", "vulns": []}, {"name": "b", "version": "2", "vulns": [{"id": "CVE-1"}]}
    unknown, when = {"name": "c", "skip_reason": "not found"}, {"date": "today", "commit": "0"}
    assert "no advisories could be asked for" in audit.sentence(audit.summary([unknown]) | when)
    assert "2 of 3 pinned packages are known to the index; with advisories: b 2: CVE-1" in audit.sentence(
        audit.summary([clean, bad, unknown]) | when
    )
    assert "with advisories: none" in audit.sentence(audit.summary([clean]) | when)


def test_a_child_that_hangs_dies_or_raises_is_not_good() -> None:
    ends = {"hang": "hung", "die": "died", "raise": "failed", "leave": "failed", "return nothing": "failed"}
    outcomes = common.Campaign(_Misbehaving()).run(0)
    assert {outcome.name: (outcome.good, outcome.verdict) for outcome in outcomes} == {
        repr(case): (False, verdict) for case, verdict in ends.items()
    }


class _Misbehaving:
    """A campaign whose cases do not return."""

    __name__, TITLE, GOAL, SECONDS = "misbehaving", "cases that do not return", "none is good", 3.0

    def cases(self, count: int, seed: int) -> list[str]:
        return ["hang", "die", "raise", "leave", "return nothing"]

    def run(self, case: str, folder: object) -> common.Outcome | None:
        import os
        import signal
        import time

        if case == "hang":
            time.sleep(60)
        elif case == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif case == "raise":
            raise KeyError("nothing")
        elif case == "leave":
            raise SystemExit(3)
        return None
