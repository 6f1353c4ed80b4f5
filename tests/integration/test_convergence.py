"""The main property: any order, any duplicates and any crash end in the same mirror, the true catalog."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from histories import (
    STARTS,
    Api,
    FaultPlan,
    Workers,
    differences,
    endings,
    live,
    new_kit,
    new_system,
    post,
    silent,
    snapshot,
)
from hypothesis import given
from hypothesis import strategies as st

from examples import examples

#: The longest time that a source's API may lag behind, by default.
LAG = timedelta(minutes=1)


OPTIONS: dict[str, dict[str, Any]] = {"sigma": {"hydrated": False}, "indexed": {}, "iimmpact": {}, "sticky": {}}

#: Steps that workers live; a pass takes about twenty.
LIVES = st.lists(st.integers(1, 45), max_size=5)


@st.composite
def plans(draw, dialect):
    """Draw a history and the order of its delivery, with duplicates."""
    start = draw(st.sampled_from(STARTS))
    system = new_system(dialect, seed=draw(st.integers(0, 2**32)), start=start, **OPTIONS[dialect])
    step = draw(st.sampled_from([timedelta(milliseconds=1), timedelta(seconds=1), timedelta(minutes=2)]))
    messages = live(system, events=draw(st.integers(1, 40)), start=start, step=step)
    numbers = range(len(messages))
    order = list(draw(st.permutations(numbers)))
    for number in draw(st.lists(st.sampled_from(numbers), max_size=8)):
        order.insert(draw(st.integers(0, len(order))), number)
    return system, messages, order


@pytest.mark.parametrize("dialect", OPTIONS)
def test_any_order_any_duplication_and_any_crash_end_in_the_true_catalog(dialect, lend_database):
    @examples(3)
    @given(
        plan=plans(dialect),
        lives=LIVES,
        rounds=st.sets(st.integers(0, 35), max_size=6),
        batch_size=st.sampled_from([1, 3, 100]),
        wait_for_lease=st.booleans(),
    )
    def holds(plan, lives, rounds, batch_size, wait_for_lease):
        system, messages, order = plan
        with new_kit(lend_database) as kit:
            for name in ("ordered", "hostile"):
                kit.source(name, **system.settings(api_url=None))
            for message in messages:
                post(kit, "ordered", message)
            kit.drain()
            source = kit.source("hostile")
            with Workers(
                kit, source, batch_size=batch_size, fault_plan=FaultPlan(lives), wait_for_lease=wait_for_lease
            ) as workers:
                for position, number in enumerate(order):
                    post(kit, "hostile", messages[number])
                    if position in rounds:
                        workers.work()
                workers.drain()
            ordered, hostile = (snapshot(kit, name) for name in ("ordered", "hostile"))
            assert endings(kit) == {("processed", None)}
            assert silent(kit) == []
        assert hostile == ordered
        assert differences(system, hostile) == []
        assert not any(row["tie"] for row in hostile.values())

    holds()


@pytest.fixture(scope="module")
def api():
    with Api() as running:
        yield running


def test_hydrated_thin_events_end_in_the_true_catalog_although_it_changes_meanwhile(api, lend_database):
    @examples(3)
    @given(seed=st.integers(0, 2**32), rng=st.randoms(use_true_random=False), lives=LIVES)
    def holds(seed, rng, lives):
        start = STARTS[0]
        system = new_system("sigma", seed=seed, start=start)
        api.show(system)
        waiting: list[Any] = []
        with new_kit(lend_database) as kit:
            source = kit.source("sigma", **system.settings(api_url=api.url))
            with Workers(kit, source, batch_size=10, fault_plan=FaultPlan(lives), wait_for_lease=False) as workers:
                for events in range(3, 31, 3):
                    waiting += live(system, events=events, start=start, step=timedelta(seconds=1))
                    for _ in range(rng.randrange(len(waiting) + 1)):
                        message = waiting.pop(rng.randrange(len(waiting)))
                        post(kit, "sigma", message)
                        if rng.random() < 0.2:
                            waiting.append(message)
                    workers.work()
                for message in waiting:
                    post(kit, "sigma", message)
                workers.drain()
                # The API may be asked again for this long about a record that was deleted since.
                while any(state == "pending" for state, _ in endings(kit)):
                    kit.advance(seconds=LAG.total_seconds())
                    workers.drain()
            assert endings(kit) == {("processed", None)}
            assert silent(kit) == []
            assert differences(system, snapshot(kit, "sigma")) == []

    holds()
