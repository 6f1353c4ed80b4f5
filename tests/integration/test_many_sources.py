"""An installation with many sources: the work for all of them does not grow by the square of their number."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from shopping import NOON
from sqlalchemy import event, insert

from receiver.api import newest_deliveries
from receiver.api.stats import Counts
from receiver.inbox.ids import first_id_at
from receiver.inbox.tables import DELIVERIES, State
from receiver.runs.comparisons import latest_comparisons
from receiver.runs.schedule import _of_sources, latest_reconciles
from receiver.runs.tables import RUNS, RunState


class ReadCounts(list[Any]):
    """Counts that count how often all of them are read."""

    reads = 0

    def __iter__(self) -> Iterator[Any]:
        self.reads += 1
        return super().__iter__()


def reads_for(kit, monkeypatch, number: int) -> int:
    """How often the counts of this number of sources are read for their statistics."""
    names = [f"shop-{each:03}" for each in range(number)]
    known = {"state": "dead", "outcome": None, "deliveries": 2, "duplicates": 1, "oldest": NOON, "first": 1}
    rows = ReadCounts({"source": name, **known} for name in names)
    counts = Counts(kit.database, names)
    monkeypatch.setattr(counts._backlog, "counted", lambda *, now: (rows, now))
    found = counts.per_source(now=NOON, brief=True)
    assert [(each.source, each.states["dead"], each.duplicates) for each in found] == [(name, 2, 1) for name in names]
    return rows.reads


def test_statistics_read_the_counts_as_often_for_many_sources_as_for_two(kit, monkeypatch: pytest.MonkeyPatch):
    assert reads_for(kit, monkeypatch, 40) == reads_for(kit, monkeypatch, 2)


def statements_for(database, number: int) -> int:
    """The number of statements that the comparisons and the statuses of this many sources take."""
    sent: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    names = [f"shop-{each:03}" for each in range(number)]
    with database.read() as connection:
        assert list(latest_comparisons(connection, names, NOON)) == []
        assert {*_of_sources(connection, names).values()} == {(None, None)}
    return len(sent)


def test_the_reconciles_of_many_sources_are_read_in_as_many_statements_as_those_of_two(kit):
    assert statements_for(kit.database, 2) == statements_for(kit.database, 40)


def test_each_source_has_its_own_latest_reconciles(kit):
    begun = [("a", "done"), ("b", "done"), ("a", "done"), ("ab", "done"), ("a", "running"), ("b", "cancelled")]
    run = {"kind": "reconcile", "arguments": {}, "total": 0, "done": 0, "tally": {}, "release": "1", "wiring": "x"}
    run |= {"planned_by": "somebody", "planned_at": NOON, "started_at": NOON, "ended_at": NOON}
    with kit.database.write() as connection:
        ids = [
            connection.execute(insert(RUNS).values(sources=[name], state=state, **run).returning(RUNS.c.id)).scalar()
            for name, state in begun
        ]
        two = latest_reconciles(connection, ["a", "b", "c"], [RUNS.c.id], number=2)
        done = latest_reconciles(connection, ["a", "b", "c"], [RUNS.c.id], state=RunState.DONE, number=2)
    places = {name: [ids.index(each["id"]) for each in found] for name, found in two.items()}
    assert places == {"a": [4, 2], "b": [5, 1], "c": []}
    assert {name: [ids.index(each["id"]) for each in found] for name, found in done.items()} == {
        "a": [2, 0],
        "b": [1],
        "c": [],
    }


def test_the_statistics_of_one_source_take_as_many_statements_among_many_sources_as_among_two(kit):
    sent: list[str] = []
    event.listen(kit.database.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    numbers = []
    for number in (2, 40):
        counts = Counts(kit.database, [f"shop-{each:03}" for each in range(number)])
        sent.clear()
        (found,) = counts.per_source(now=NOON, brief=True, only="shop-001")
        numbers.append((found.source, len(sent)))
    assert numbers[0] == numbers[1]


def test_the_statistics_of_many_sources_with_backlogs_take_as_many_statements_as_those_of_two(kit, monkeypatch):
    monkeypatch.setattr(newest_deliveries, "NEWEST_LOOKED_AT", 2)
    names = [f"shop-{each:03}" for each in range(40)]
    states = [State.PROCESSED, State.PENDING, State.PENDING]
    with kit.database.write() as connection:
        for place, (state, name) in enumerate(product(states, names)):
            at = NOON + place * timedelta(seconds=1)
            row = {"id": first_id_at(at), "source": name, "state": state.value, "received_at": at, "due_at": at}
            row |= {"occurred_at": at, "ended_at": at + timedelta(seconds=place), "dedup_key": str(place)}
            connection.execute(insert(DELIVERIES).values(conflict=False, **row))
    sent: list[str] = []
    event.listen(kit.database.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    numbers = []
    for some in (names[:2], names):
        sent.clear()
        found = [each for each in Counts(kit.database, some).per_source(now=NOON, brief=True) if each.source in some]
        # Each behind a backlog of its own, in which the newest processed one is not among the newest.
        assert [(each.source, each.freshness_seconds) for each in found] == [(some[n], n) for n in range(len(some))]
        last = [NOON + (80 + place) * timedelta(seconds=1) for place in range(len(some))]
        assert [each.last_delivery_at for each in found] == last
        numbers.append(len(sent))
    assert numbers[0] == numbers[1]
