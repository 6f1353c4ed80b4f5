"""Every scenario, with several seeds, played by the four systems against the real receiver over HTTP.

Each account must converge: the mirror holds what the system announced, nothing that was acked is missing, and nothing
was applied twice. Each scenario is played once, by its own accounts, and all play against one receiver. Each test
examines one account.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from converging import converge

from simulator.scenario import load, names
from simulator.systems import SYSTEMS

#: Five neighbouring seeds have five different ciphers.
SEEDS = range(1, 21)

#: Systems that send again after every failure. They lose only messages that are dropped before they are sent.
PERSISTENT = ("sigma", "sticky")

#: Scenarios that lose nothing.
HARMLESS = ("calm", "monday-import")

#: Scenarios whose outcome may depend on the cipher, because bodies are damaged or secrets are replaced.
OF_CIPHERS = ("hostile", "rotation")


def seeds_of(scenario: str) -> tuple[int, ...]:
    """Return the seeds of a scenario that `make test` plays; `make plug` plays all of them."""
    if scenario in OF_CIPHERS:
        return tuple(SEEDS[:5])
    number = names().index(scenario)
    return SEEDS[number % 5], SEEDS[(number + 1) % 5]


ACCOUNTS = [
    pytest.param(scenario, seed, f"{dialect}-{seed}", id=f"{scenario}-{dialect}-{seed}", marks=marks)
    for scenario in names()
    for seed in SEEDS
    for marks in [() if seed in seeds_of(scenario) else pytest.mark.long]
    for dialect in SYSTEMS
]


@pytest.fixture(scope="module")
def outcomes(request):
    """Return a function that gives a scenario's outcomes by account.

    All scenarios and seeds that the chosen tests need are played beforehand.
    """
    asked = [item.callspec.params for item in request.session.items if item.path == Path(__file__)]
    seeds: dict[str, set[int]] = {}
    for params in asked:
        seeds.setdefault(params["scenario"], set()).update([params["seed"]] if "seed" in params else [])
    played = {scenario: sorted(chosen) or seeds_of(scenario) for scenario, chosen in seeds.items()}
    return asyncio.run(converge(played)).__getitem__


@pytest.mark.parametrize(("scenario", "seed", "account"), ACCOUNTS)
def test_the_mirror_converges(outcomes, scenario, seed, account):
    found = outcomes(scenario)[account]
    assert [str(difference) for difference in found.report.comparison.differences] == []
    assert found.report.comparison.rows > 5
    assert found.log.acked > 0


@pytest.mark.parametrize(("scenario", "seed", "account"), ACCOUNTS)
def test_nothing_that_was_acked_is_missing(outcomes, scenario, seed, account):
    """Every delivery in an ack exists and is processed. Only requests that were cut off leave further ones."""
    found = outcomes(scenario)[account]
    kept = {delivery["id"] for delivery in found.deliveries}
    assert found.log.kept <= kept
    assert kept == found.log.kept or load(scenario).faults.cut_before
    assert Counter(delivery["state"] for delivery in found.deliveries) == {"processed": len(kept)}
    assert len(kept) == found.log.acked - found.log.duplicates or load(scenario).faults.cut_before
    assert (found.log.given_up, dict(found.log.reasons)) == (0, {})


@pytest.mark.parametrize(("scenario", "seed", "account"), ACCOUNTS)
def test_duplicates_are_applied_once(outcomes, scenario, seed, account):
    """There is one delivery for each key, with one outcome, and its duplicates are counted."""
    found = outcomes(scenario)[account]
    keys = Counter(delivery["dedup_key"] for delivery in found.deliveries)
    assert max(keys.values()) == 1
    assert sum(found.report.outcomes.values()) == len(found.deliveries)
    assert found.duplicates >= found.log.duplicates
    assert not any(delivery["conflict"] for delivery in found.deliveries)


@pytest.mark.parametrize(("scenario", "seed", "account"), ACCOUNTS)
def test_no_forged_or_damaged_request_is_accepted(outcomes, scenario, seed, account):
    found = outcomes(scenario)[account]
    assert found.log.believed == 0
    assert set(found.log.refusals) <= {0, 401, 413}


@pytest.mark.parametrize("scenario", HARMLESS)
def test_without_faults_everything_arrives(outcomes, scenario):
    for found in outcomes(scenario).values():
        assert found.log.arrived == set(range(1, found.report.events + 1))
        assert found.report.comparison.only_reconcile == []


@pytest.mark.parametrize("scenario", ["hostile", "rotation"])
@pytest.mark.parametrize("dialect", PERSISTENT)
def test_a_system_that_sends_again_loses_nothing(outcomes, scenario, dialect):
    for account, found in outcomes(scenario).items():
        if account.startswith(dialect):
            assert found.log.arrived == set(range(1, found.report.events + 1))


@pytest.mark.parametrize("scenario", names())
def test_the_faults_of_the_scenario_happened(outcomes, scenario):
    """Otherwise the tests above would prove little."""
    faults = load(scenario).faults
    logs = [found.log for found in outcomes(scenario).values()]
    assert (sum(log.duplicates for log in logs) > 0) or not faults.duplicate
    assert (sum(log.spoiled for log in logs) > 0) == bool(faults.corrupt + faults.wrong_signature)
    assert (sum(log.retries for log in logs) > 0) == bool(faults.outage + faults.cut_before + faults.corrupt)
    assert (sum(log.dropped for log in logs) > 0) == bool(faults.drop + faults.outage + faults.cut_before)
    used = {delivery["secret"] for found in outcomes(scenario).values() for delivery in found.deliveries}
    assert {0, 1} <= used or not faults.rotate
