"""Every fault, from its setting to the requests that the receiver gets: seeded, combinable, and recorded in the log."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime

import pytest
from raw import raw_headers
from simulator_receiver import START, courier_for, message, served

from receiver.errors import NotVerified
from receiver.verify.request import WebhookRequest
from simulator.clock import RunningClock
from simulator.fault_plan import TOO_LARGE, FaultPlan, Stranger, Trouble, damaged
from simulator.faults import Faults, names, parse
from simulator.systems import SYSTEMS
from simulator.systems.iimmpact.system import Iimmpact
from simulator.systems.indexed.system import Indexed
from simulator.systems.sigma.system import Sigma


def fates(faults, *, seed=1, count=200, events=0):
    fault_plan = FaultPlan(faults, seed=seed, source="sigma", events=events)
    due = [planned for number in range(1, count + 1) for planned in fault_plan.meet(message(number))]
    return [*due, *fault_plan.rest()]


def sent(faults, *statuses, retries=Sigma.retries, count=1, make=message):
    """Send this many messages with these faults, and return the log, the heads and the bodies."""
    bodies = []

    async def scene(url, requests):
        courier = courier_for(RunningClock(speed=10_000), retries=retries, faults=faults)
        for number in range(1, count + 1):
            await courier.send(make(number, url=url))
        await courier.finish()
        await courier.close()
        return courier.log, requests

    log, heads = served(scene, *statuses or (200,), bodies=bodies)
    return log, heads, bodies


# faults of the fault plan


def test_without_faults_every_message_is_sent_once_and_in_order():
    planned = fates(Faults())
    assert [each.message.number for each in planned] == [*range(1, 201)]
    assert all(each.trouble == Trouble(place=each.trouble.place) and not each.delay for each in planned)


def test_the_same_seed_makes_the_same_faults():
    bad = Faults(duplicate=0.2, reorder=10, delay=0.2, drop=0.1, corrupt=0.1, cut_before=0.1, outage=0.2)
    assert fates(bad) == fates(bad)
    assert fates(bad) != fates(bad, seed=2)


def test_one_fault_does_not_change_which_messages_another_hits():
    alone = [each.message.number for each in fates(Faults(drop=0.1)) if each.dropped]
    together = [each.message.number for each in fates(Faults(drop=0.1, corrupt=0.5, slow=0.5)) if each.dropped]
    assert alone == together


def test_reordering_loses_nothing():
    numbers = [planned.message.number for planned in fates(Faults(reorder=16))]
    assert numbers != sorted(numbers)
    assert sorted(numbers) == [*range(1, 201)]


def test_reordering_stays_in_its_window():
    numbers = [planned.message.number for planned in fates(Faults(reorder=5))]
    assert all(number <= place + 6 for place, number in enumerate(numbers))


def test_a_duplicate_is_the_same_message():
    planned = fates(Faults(duplicate=1))
    assert len(planned) == 400
    assert len({id(each.message) for each in planned}) == 200


def test_a_dropped_message_never_arrives():
    assert all(planned.dropped for planned in fates(Faults(drop=1)))


def test_an_outage_is_the_middle_part_of_the_run():
    failing = [each.message.number for each in fates(Faults(outage=0.5), events=200) if each.trouble.failures]
    assert failing == [*range(51, 151)]


# faults of the connection


def test_a_corrupt_body_differs_in_one_bit_and_its_retry_is_right():
    log, _, bodies = sent(Faults(corrupt=1), 401, 200)
    (wrong, right) = bodies
    assert right == b"{}"
    assert sum((one ^ other).bit_count() for one, other in zip(wrong, right, strict=True)) == 1
    assert (log.acked, log.spoiled, log.believed, dict(log.refusals)) == (1, 1, 0, {401: 1})


def test_of_a_truncated_body_only_half_arrives():
    assert sent(Faults(truncate=1), 401, 200)[2] == [b"{", b"{}"]


def test_a_receiver_that_acks_a_damaged_body_is_reported():
    assert sent(Faults(corrupt=1), 200)[0].believed == 1


def test_a_damaged_message_that_its_sender_does_not_repeat_counts_as_dropped():
    """IIMMPACT guide, "Retry Policy": a 401 is a permanent failure."""
    log, heads, _ = sent(Faults(corrupt=1), 401, retries=Iimmpact.retries)
    assert (log.dropped, log.given_up, len(heads), log.arrived) == (1, 0, 1, set())


def test_a_body_without_a_signature_is_not_damaged():
    def unsealed(number, *, url):
        return message(number, url=url, sealed=False)

    assert sent(Faults(corrupt=1, truncate=1), 200, make=unsealed)[2] == [b"{}"]


def test_a_cut_before_the_answer_is_retried():
    log, _, _ = sent(Faults(cut_before=1), 200)
    assert (log.acked, log.retries, log.statuses[200]) == (1, 1, 1)


def test_a_cut_before_the_answer_loses_the_event_of_a_system_that_does_not_retry():
    """Indexed docs, "Operational limitation to know"."""
    log, _, _ = sent(Faults(cut_before=1), 200, retries=Indexed.retries)
    assert (log.acked, log.dropped, log.given_up) == (0, 1, 0)


def test_a_cut_after_the_answer_counts_as_an_ack_and_the_next_message_arrives():
    log, heads, _ = sent(Faults(cut_after=1), 200, count=3)
    assert (log.acked, log.retries, len(heads)) == (3, 0, 3)


def test_a_message_of_a_slow_sender_arrives_whole():
    log, _, bodies = sent(Faults(slow=1, slow_seconds=500), 200)
    assert (log.acked, bodies, log.latencies) == (1, [b"{}"], [])


def test_an_outage_begins_with_refused_connections():
    log, heads, _ = sent(Faults(outage=1), 200, count=20)
    assert log.acked == len(heads) == 20
    assert log.retries >= 20


def test_any_bit_of_the_first_half_may_be_changed():
    body = bytes(range(200))
    for place in range(100):
        assert damaged(body, Trouble(damage="corrupt", place=place / 100)) != body
    assert damaged(b"", Trouble(damage="corrupt")) == b""


# requests of strangers


def system_of(name, **options):
    system = SYSTEMS[name](name, seed=1, clock=RunningClock(), **options)
    system.subscribe("http://127.0.0.1:1/")
    return system


def forgeries(name, faults, **options):
    system = system_of(name, **options)
    return system, [*Stranger(system, faults, seed=1).meet(system.create(START, **options_for(name))[0])]


def options_for(name):
    return {"kind": "product"} if name in ("indexed", "iimmpact") else {}


@pytest.mark.parametrize("fault", ["wrong_signature", "missing_signature"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_forgery_is_refused_by_the_system_s_own_verification(name, fault):
    system, forged = forgeries(name, Faults(**{fault: 1}))
    if not forged:  # IIMMPACT announces the group first.
        forged = [*Stranger(system, Faults(**{fault: 1}), seed=1).meet(system.create(START, kind="product")[-1])]
    (lie,) = forged
    hook = next(hook for hook in system.subscriptions if hook.id == lie.subscription)
    with pytest.raises(NotVerified):
        system.verifier.verify(WebhookRequest(lie.body, raw_headers(lie.headers)), system.credentials(hook))
    assert lie.event_type.endswith(".deleted")
    assert (lie.number, lie.forged) == (0, True)


def test_an_oversized_body_has_one_byte_too_many():
    _, (lie,) = forgeries("sigma", Faults(oversize=1))
    assert len(lie.body) == TOO_LARGE == 2**20 + 1


def test_only_signed_or_encrypted_bodies_are_forged():
    assert forgeries("sigma", Faults(wrong_signature=1, missing_signature=1, oversize=1), signed=False)[1] == []


def test_a_forgery_is_sent_once_and_its_ack_is_reported():
    def forged(number, *, url):
        return message(0, url=url, forged=True)

    refused, heads, _ = sent(Faults(duplicate=1), 500, make=forged)
    assert (refused.spoiled, refused.believed, refused.given_up, len(heads)) == (1, 0, 0, 1)
    assert sent(Faults(), 200, make=forged)[0].believed == 1


# faults of the system


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_tie_is_two_events_of_one_family_at_the_same_time(name):
    system = system_of(name)
    ties = 0
    for number in range(200):
        at = datetime(2026, 3, 8, 10, 0, number // 4, tzinfo=UTC)
        first, second = system.step(at), system.step(at, tie=True)
        if second:
            ties += (first[-1].family, first[-1].at) == (second[0].family, second[0].at)
    assert ties > 50
    assert any(row.tied for _, row in system.oracle)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_rotation_replaces_every_secret_and_the_settings_have_both_beforehand(name):
    system = system_of(name)
    old = [hook.secret for hook in system.subscriptions]
    system.prepare_rotation()
    both = str(system.settings(api_url=None))
    system.rotate()
    new = [hook.secret for hook in system.subscriptions]
    assert not set(old) & set(new)
    assert all(secret in both for secret in (*old, *new))
    assert not any(secret in str(system.settings(api_url=None)) for secret in old)


# settings of faults


def test_every_fault_is_explained_in_the_docs():
    from pathlib import Path

    text = (Path(__file__).parents[3] / "docs" / "simulator.md").read_text()
    assert [name for name in names() if f"`{name}`" not in text] == []


def test_every_fault_occurs_in_a_scenario_of_the_package():
    from simulator.scenario import load
    from simulator.scenario import names as scenarios

    used = [load(name).faults for name in scenarios()]
    unused = [f.name for f in fields(Faults) if all(getattr(faults, f.name) == f.default for faults in used)]
    assert unused == ["tie"]


def test_faults_can_be_given_as_text():
    assert parse(["drop=0.5", "reorder=3", "skew_seconds=-7"]) == {"drop": 0.5, "reorder": 3, "skew_seconds": -7}


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("drop", "'drop' is not NAME=VALUE: the names are duplicate, reorder"),
        ("drop=", "drop must be a number from 0 to 1"),
        ("drop=often", "drop must be a number from 0 to 1"),
        ("drop=nan", "drop must be a number from 0 to 1"),
        ("drop=-0.1", "drop must be a number from 0 to 1"),
        ("reorder=1.5", "reorder must be a whole number from 0 to 10000"),
        ("earthquake=1", "unknown fault 'earthquake': choose from duplicate, reorder"),
    ],
)
def test_an_invalid_fault_is_refused_with_what_is_allowed(option, told):
    with pytest.raises(ValueError, match="^" + told):
        parse([option])


def test_a_fault_out_of_bounds_is_refused():
    with pytest.raises(ValueError, match="duplicate must be a number from 0 to 1"):
        Faults(duplicate=2)
