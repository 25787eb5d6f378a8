"""A short run of every campaign."""

from __future__ import annotations

import pytest

pytest.importorskip("resource", reason="Windows has no limits on processes, and no SIGKILL")

from tests.faults import native
from tests.faults.attempts import run_campaign
from tests.faults.campaigns import CAMPAIGNS


@pytest.mark.slow
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_nothing_is_lost_in_a_short_campaign(name: str) -> None:
    if name == "native" and not native.can_be_built():
        pytest.skip(f"{native.COMPILER} is not installed")
    campaign, said = CAMPAIGNS[name], []
    outcome = run_campaign(campaign, count=campaign.short, seed=0, say=said.append)
    assert said == []
    assert outcome.attempted >= campaign.short
