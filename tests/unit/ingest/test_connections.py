"""Open connections: counted in all and by address, and ended in the order in which they can be spared."""

from __future__ import annotations

import asyncio
import resource

import pytest

from receiver.ingest import connections as module
from receiver.ingest.connections import RESERVED_FILES, Connections, allow_open_files, network_of, room_for_connections
from receiver.ingest.incoming import Incoming
from receiver.settings.limits import Limits


class Stub:
    """A connection that waits since then, or whose request is being answered."""

    def __init__(self, since: float | None, *, answered: bool = False) -> None:
        self.since, self.answered = since, answered
        self.is_cut, self.looks = False, 0

    def waits_since(self) -> float | None:
        return self.since

    def look(self, now: float) -> None:
        self.looks += 1

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


def test_up_to_the_bound_everybody_stays(loop):
    connections, stubs = new(), [Stub(0.0) for _ in range(4)]
    assert [connections.enter(stub, "a", loop) for stub in stubs] == [None] * 4
    assert not any(stub.is_cut for stub in stubs)


def test_past_the_bound_the_one_that_waited_longest_without_an_answer_gives_way(loop):
    stubs = [Stub(1.0, answered=True), Stub(3.0), Stub(2.0), Stub(None)]
    connections = new()
    for stub in stubs:
        connections.enter(stub, "a", loop)
    assert connections.enter(Stub(9.0), "b", loop) is None
    assert [stub.is_cut for stub in stubs] == [False, False, True, False]


def test_where_every_request_is_being_answered_a_new_one_finds_no_room(loop):
    connections, stubs = new(), [Stub(None) for _ in range(4)]
    for stub in stubs:
        connections.enter(stub, "a", loop)
    assert connections.enter(Stub(0.0), "b", loop) == "max_connections"
    assert not any(stub.is_cut for stub in stubs)


def test_one_address_past_its_own_bound_pushes_out_its_own(loop):
    connections, other = new(max_connections=10, max_connections_per_address=2), Stub(0.0)
    connections.enter(other, "other", loop)
    stubs = [Stub(float(number)) for number in range(3)]
    assert [connections.enter(stub, "a", loop) for stub in stubs] == [None] * 3
    assert ([stub.is_cut for stub in stubs], other.is_cut) == ([True, False, False], False)


def test_one_address_may_hold_half_of_all_by_default(loop):
    connections = new(max_connections=8, max_connections_per_address=None)
    stubs = [Stub(None) for _ in range(5)]
    assert [connections.enter(stub, "a", loop) for stub in stubs] == [None] * 4 + ["max_connections_per_address"]


def test_whoever_leaves_makes_room_and_may_leave_twice(loop):
    connections, stubs = new(), [Stub(None) for _ in range(4)]
    for stub in stubs:
        connections.enter(stub, "a", loop)
    connections.leave(stubs[0])
    connections.leave(stubs[0])
    assert connections.enter(Stub(None), "a", loop) is None


def test_each_is_looked_at_for_as_long_as_it_is_there(loop):
    connections, stub = new(keep_alive_timeout=0.04), Stub(0.0)
    connections.enter(stub, "a", loop)
    loop.run_until_complete(asyncio.sleep(0.06))
    assert stub.looks >= 1
    connections.leave(stub)
    seen = stub.looks
    loop.run_until_complete(asyncio.sleep(0.04))
    assert stub.looks == seen


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
def test_what_counts_as_one_address(one, other, alike):
    assert (network_of(one) == network_of(other)) is alike


@pytest.fixture
def limit(monkeypatch):
    """The limit on open files, without the real one being touched."""
    kept = {"now": (1_024, 4_096)}
    monkeypatch.setattr(module.resource, "getrlimit", lambda _: kept["now"])
    monkeypatch.setattr(module.resource, "setrlimit", lambda _, value: kept.update(now=value))
    return kept


def test_the_limit_on_open_files_leaves_room_for_the_files_of_our_own(limit):
    assert room_for_connections() == 1_024 - RESERVED_FILES
    limit["now"] = (100, 100)
    assert room_for_connections() == 50
    limit["now"] = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert room_for_connections() >= 16_384


@pytest.mark.parametrize(("connections", "then"), [(16_384, 4_096), (2_000, 2_128), (10, 1_024)])
def test_as_many_files_are_asked_for_as_connections_take_and_the_system_gives(limit, connections, then):
    allow_open_files(connections)
    assert limit["now"] == (then, 4_096)
