"""A run: every event at its time, bursts, a rotation in the middle, and registrations over an API."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from simulator_receiver import served, until

from simulator.clock import RunningClock, SteppedClock
from simulator.faults import Faults
from simulator.run import Pace, build, couriers, hook_url, live, play, prepare, split
from simulator.scenario import Scenario, load
from simulator.systems import SYSTEMS

START = datetime(2026, 3, 8, 10, tzinfo=UTC)
SCENARIO = Scenario(name="mine", title="Mine", events=80, rate=0, speed=10_000)


def run(scenario, *, names=tuple(SYSTEMS), seed=1, clock=None, bodies=None):
    """Run this scenario, and return the systems and their logs."""
    clock = clock or RunningClock(speed=scenario.speed)

    async def scene(url, requests):
        systems = build(names, seed=seed, clock=clock)
        for system in systems:
            system.subscribe(url)
        prepare(systems, scenario)
        async with couriers(systems, scenario=scenario, seed=seed, clock=clock) as sending:
            await play(systems, scenario=scenario, seed=seed, couriers=sending, clock=clock)
            return systems, {source: courier.log for source, courier in sending.items()}

    return served(scene, 200, bodies=bodies)


def test_every_event_is_sent_to_every_subscriber():
    systems, logs = run(SCENARIO)
    for system in systems:
        assert system.events >= 20
        assert logs[system.source].arrived == set(range(1, system.events + 1))


@pytest.mark.parametrize("name", ["duplicate", "cut_before", "outage", "delay"])
def test_temporary_faults_lose_nothing_if_the_system_retries(name):
    systems, logs = run(SCENARIO.changed(faults={name: 0.5}), names=("sigma", "iimmpact", "sticky"))
    for system in systems:
        assert logs[system.source].arrived == set(range(1, system.events + 1))


def test_the_pace_is_even_and_depends_only_on_its_beginning():
    pace = Pace(begin=START, events=10, step=0.5, burst=0)
    moments = [pace.moment(number) for number in range(10)]
    assert moments[0] == START
    assert {later - sooner for sooner, later in pairwise(moments)} == {timedelta(seconds=0.5)}


def test_a_burst_is_sent_at_once_in_the_middle():
    pace = Pace(begin=START, events=100, step=1.0, burst=40)
    gaps = [(later - sooner).total_seconds() for sooner, later in pairwise(map(pace.moment, range(100)))]
    assert gaps[:30] == [1.0] * 30
    assert gaps[30:70] == [0.001] * 40
    assert gaps[70:] == [1.0] * 29


def test_a_run_at_full_speed_has_no_schedule():
    assert Pace(begin=START, events=10, step=None, burst=0).moment(3) is None


def test_a_number_is_split_as_evenly_as_possible():
    assert split(10, 4) == [3, 3, 2, 2]


def test_secrets_are_rotated_in_the_middle_of_the_run():
    systems, _ = run(SCENARIO.changed(faults={"rotate": 0.5, "reorder": 8}))
    fresh = build(tuple(SYSTEMS), seed=1, clock=SteppedClock(START))
    for system, other in zip(systems, fresh, strict=True):
        other.subscribe("http://127.0.0.1:1/")
        assert {hook.secret for hook in system.subscriptions}.isdisjoint(hook.secret for hook in other.subscriptions)
        assert system.upcoming == []


def test_a_skewed_clock_is_off_by_the_given_time():
    for skew in (-600, 0, 45):
        systems, _ = run(replace(SCENARIO, faults=Faults(skew_seconds=skew)), clock=SteppedClock(START))
        moments = {row.changed_at for system in systems for _, row in system.oracle}
        assert moments == {START + timedelta(seconds=skew)}


def test_the_same_seed_and_times_give_the_same_bytes_whatever_is_lost():
    whole, again, less = [], [], []
    run(SCENARIO, clock=SteppedClock(START), bodies=whole)
    run(SCENARIO, clock=SteppedClock(START), bodies=again)
    run(SCENARIO.changed(faults={"drop": 0.5}), clock=SteppedClock(START), bodies=less)
    assert sorted(whole) == sorted(again)
    assert set(less) < set(whole)


def test_a_registration_over_the_api_gets_the_events_after_it():
    async def scene(url, requests):
        clock = RunningClock()
        systems = build(["sigma", "sticky"], seed=1, clock=clock)
        scenario = load("calm").changed(rate=500)
        async with couriers(systems, scenario=scenario, seed=1, clock=clock, endless=True) as sending:
            living = asyncio.create_task(live(systems, scenario=scenario, seed=1, couriers=sending, clock=clock))
            await until(lambda: systems[0].events > 5)
            before = len(requests)
            systems[0].subscribe(url)
            await until(lambda: len(requests) > 5)
            living.cancel()
            return before

    assert served(scene, 200) == 0


@pytest.mark.parametrize(
    ("to", "url"),
    [
        ("http://a/hooks", "http://a/hooks/sigma"),
        ("http://a/hooks/", "http://a/hooks/sigma"),
        ("http://a/{source}/in", "http://a/sigma/in"),
        ("http://127.0.0.1:8000/hooks/?token=x", "http://127.0.0.1:8000/hooks/sigma?token=x"),
    ],
)
def test_the_source_is_appended_to_the_url_or_put_in_its_place(to, url):
    assert hook_url(to, "sigma") == url
