"""The hardest scenario, played by the four systems against a receiver on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from converging import converge

from simulator.systems import SYSTEMS

SEEDS = (1, 2)

ACCOUNTS = [f"{dialect}-{seed}" for dialect in SYSTEMS for seed in SEEDS]


@pytest.fixture(scope="module")
def outcomes(databases, tmp_path_factory):
    with databases.lend(tmp_path_factory.mktemp("hostile")) as url:
        return asyncio.run(converge({"hostile": SEEDS}, database_url=url))["hostile"]


@pytest.mark.parametrize("account", ACCOUNTS)
def test_the_mirror_converges(outcomes, account):
    found = outcomes[account]
    assert [str(difference) for difference in found.report.comparison.differences] == []
    assert found.report.comparison.rows > 5


@pytest.mark.parametrize("account", ACCOUNTS)
def test_acked_deliveries_are_kept_once_and_processed(outcomes, account):
    found = outcomes[account]
    assert found.log.kept <= {delivery["id"] for delivery in found.deliveries}
    assert Counter(delivery["state"] for delivery in found.deliveries) == {"processed": len(found.deliveries)}
    assert max(Counter(delivery["dedup_key"] for delivery in found.deliveries).values()) == 1
