"""Open connections: counted in total and by address, and closed in the order of their importance."""

from __future__ import annotations

import asyncio
import resource

import pytest
from waiting import TIMEOUT

from receiver.ingest import connections as module
from receiver.ingest.connections import (
    RESERVED_FILES,
    Awaited,
    Connections,
    Wait,
    allow_open_files,
    network_of,
    room_for_connections,
)
from receiver.ingest.incoming import Incoming
from receiver.settings.limits import Limits


class Stub:
    """A connection that has waited since the given time, or whose request is being answered."""

    def __init__(self, since: float | None, awaited: Awaited = Awaited.HEAD_OR_READING, *, fails: bool = False) -> None:
        self.since, self.awaited, self.fails = since, awaited, fails
        self.is_cut, self.looks = False, 0

    def wait(self) -> Wait | None:
        return None if self.since is None else Wait(self.awaited, self.since)

    def check_limits(self, now: float) -> None:
        self.looks += 1
        if self.fails:
            raise RuntimeError("can't start new thread")

    def cut(self) -> None:
        self.is_cut = True


def new(**limits) -> Connections:
    # Smaller than a setting may be.
    bounds = Limits.model_construct(**{"max_connections": 4, "max_connections_per_address": 4} | limits)
    return Connections(bounds, Incoming(bounds))


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_up_to_the_bound_every_connection_stays(loop):
    connections, stubs = new(), [Stub(0.0) for _ in range(4)]
    assert [connections.enter(stub, "a", loop) for stub in stubs] == [None] * 4
    assert not any(stub.is_cut for stub in stubs)


def cut_for_one_more(loop, *stubs: Stub) -> list[bool]:
    """Return which of these connections are closed for a new one, if there is no room for more."""
    connections = new(max_connections=len(stubs), max_connections_per_address=len(stubs))
    for stub in stubs:
        connections.enter(stub, "a", loop)
    assert connections.enter(Stub(loop.time()), "b", loop) is None
    return [stub.is_cut for stub in stubs]


def test_past_the_bound_the_longest_waiting_head_is_closed_before_idle_connections_and_bodies(loop):
    stubs = [Stub(1.0, Awaited.REQUEST), Stub(3.0), Stub(2.0), Stub(1.0, Awaited.BODY), Stub(None)]
    assert cut_for_one_more(loop, *stubs) == [False, False, True, False, False]


@pytest.mark.parametrize("awaited", [Awaited.HEAD_OR_READING, Awaited.BODY])
def test_an_idle_connection_is_closed_before_one_whose_request_has_just_begun(loop, awaited, monkeypatch):
    monkeypatch.setattr(module, "SENDING_GRACE", 2 * TIMEOUT)
    now = loop.time()
    new_one, idle = Stub(now - TIMEOUT, awaited), Stub(now, Awaited.REQUEST)
    assert cut_for_one_more(loop, new_one, idle) == [False, True]


def test_an_idle_connection_is_closed_before_an_incomplete_body(loop):
    assert cut_for_one_more(loop, Stub(1.0, Awaited.BODY), Stub(2.0, Awaited.REQUEST)) == [False, True]


def test_among_new_connections_the_first_is_closed(loop):
    now = loop.time()
    assert cut_for_one_more(loop, Stub(now - 0.1), Stub(now - 0.2), Stub(now)) == [False, True, False]


def test_if_every_request_is_being_answered_a_new_connection_is_refused(loop):
    connections, stubs = new(), [Stub(None) for _ in range(4)]
    for stub in stubs:
        connections.enter(stub, "a", loop)
    assert connections.enter(Stub(0.0), "b", loop) == "max_connections"
    assert not any(stub.is_cut for stub in stubs)


def test_an_address_past_its_own_bound_loses_one_of_its_own_connections(loop):
    connections, other = new(max_connections=10, max_connections_per_address=2), Stub(0.0)
    connections.enter(other, "other", loop)
    stubs = [Stub(float(number)) for number in range(3)]
    assert [connections.enter(stub, "a", loop) for stub in stubs] == [None] * 3
    assert ([stub.is_cut for stub in stubs], other.is_cut) == ([True, False, False], False)


def test_one_address_may_hold_half_of_all_connections_by_default(loop):
    connections = new(max_connections=8, max_connections_per_address=None)
    stubs = [Stub(None) for _ in range(5)]
    assert [connections.enter(stub, "a", loop) for stub in stubs] == [None] * 4 + ["max_connections_per_address"]


def test_a_connection_that_leaves_makes_room_and_may_leave_twice(loop):
    connections, stubs = new(), [Stub(None) for _ in range(4)]
    for stub in stubs:
        connections.enter(stub, "a", loop)
    connections.leave(stubs[0])
    connections.leave(stubs[0])
    assert connections.enter(Stub(None), "a", loop) is None


def test_each_connection_is_checked_as_long_as_it_is_open(loop):
    connections, stub = new(keep_alive_timeout=0.04), Stub(0.0)
    connections.enter(stub, "a", loop)
    loop.run_until_complete(asyncio.sleep(0.06))
    assert stub.looks >= 1
    connections.leave(stub)
    seen = stub.looks
    loop.run_until_complete(asyncio.sleep(0.04))
    assert stub.looks == seen


def test_a_connection_that_fails_does_not_keep_others_from_being_checked(loop):
    connections, failing, other = new(keep_alive_timeout=0.04), Stub(0.0, fails=True), Stub(0.0)
    connections.enter(failing, "a", loop)
    connections.enter(other, "b", loop)
    loop.run_until_complete(looked_at(other, times=3))
    assert failing.looks >= other.looks


async def looked_at(stub: Stub, *, times: int) -> None:
    async with asyncio.timeout(TIMEOUT):
        while stub.looks < times:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("no address: at all", "another: one", False),
        ("", "", True),
    ],
)
def test_equal_parts_of_an_address_count_as_one_address(one, other, alike):
    assert (network_of(one) == network_of(other)) is alike


@pytest.fixture
def limit(monkeypatch):
    """Simulate the limit on open files."""
    kept = {"now": (1_024, 4_096)}
    monkeypatch.setattr(module.resource, "getrlimit", lambda _: kept["now"])
    monkeypatch.setattr(module.resource, "setrlimit", lambda _, value: kept.update(now=value))
    return kept


def test_the_limit_on_open_files_leaves_room_for_our_own_files(limit):
    assert room_for_connections() == 1_024 - RESERVED_FILES
    limit["now"] = (100, 100)
    assert room_for_connections() == 50
    limit["now"] = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert room_for_connections() >= 16_384


@pytest.mark.parametrize(("connections", "then"), [(16_384, 4_096), (2_000, 2_128), (10, 1_024)])
def test_the_limit_on_open_files_is_raised_for_the_connections_as_far_as_the_system_permits(limit, connections, then):
    allow_open_files(connections)
    assert limit["now"] == (then, 4_096)


def test_connections_are_checked_again_after_the_event_loop_had_no_memory_for_the_next_check(loop, monkeypatch):
    def fail(*_):
        raise MemoryError

    connections, first, second = new(), Stub(0.0), Stub(0.0)
    connections.enter(first, "a", loop)
    with monkeypatch.context() as broken:
        broken.setattr(loop, "call_later", fail)
        with pytest.raises(MemoryError):
            connections._poll(loop)
    connections._pause = 0.01
    connections.enter(second, "a", loop)
    loop.run_until_complete(asyncio.sleep(0.1))
    assert first.looks > 0
