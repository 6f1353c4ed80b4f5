"""Pages and operations beside a long backlog: what they read of it is bounded, or shared by all requests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, update

from handlers.catalog import Product
from receiver.api import newest_deliveries, stats
from receiver.api.stats import Counts
from receiver.database import shared_results
from receiver.database.database import Database
from receiver.findings import tallies
from receiver.findings.counting import KindCount, TallyKey
from receiver.inbox import due
from receiver.inbox.due import pending_sources
from receiver.inbox.ids import first_id_at
from receiver.inbox.inbox import Inbox
from receiver.inbox.tables import BODIES, DELIVERIES, State
from receiver.mirror.rows import sql_table
from receiver.search import hits, windows
from receiver.search.hits import search

NOW = datetime.now(UTC).replace(microsecond=0)
SECOND = timedelta(seconds=1)

#: The setting for processes that help with one statement.
WORKERS = "max_parallel_workers_per_gather"


def accept(database: Database, at: datetime, state: State = State.PENDING, **columns: Any) -> None:
    """Insert a delivery that arrived then."""
    ended = None if state in (State.PENDING, State.PROCESSING) else at + 3 * SECOND
    row = {"id": first_id_at(at), "source": "shop", "state": state.value, "received_at": at, "due_at": at}
    row |= {"occurred_at": at, "ended_at": ended, "dedup_key": f"{at}", "conflict": False}
    with database.write() as connection:
        connection.execute(insert(DELIVERIES).values(**(row | columns)))


def pending(counts: Counts, now: datetime) -> tuple[int, datetime]:
    (shop,) = counts.per_source(now=now, brief=True)
    return shop.states[State.PENDING], shop.counted_at


def test_a_delivery_that_ends_during_a_count_is_counted_once(database):
    counts, end = Counts(database, ["shop"]), update(DELIVERIES).values(state=State.PROCESSED.value, ended_at=NOW)
    accept(database, NOW)

    ended = []

    def end_it(connection: Connection, cursor: object, statement: str, *_: object) -> None:
        if "deliveries" in statement and not ended:
            ended.append(statement)
            with database.write() as writing:
                writing.execute(end)

    event.listen(database.engine, "after_cursor_execute", end_it)
    (shop,) = counts.per_source(now=NOW)
    assert (sum(shop.states.values()), len(ended)) == (1, 1)


def test_pending_deliveries_are_counted_beside_a_shared_count_of_the_others(database, monkeypatch):
    monkeypatch.setattr(stats, "MANY", 2)
    monkeypatch.setattr(shared_results, "LEAST_REUSE", 60.0)
    counts = Counts(database, ["shop"])
    for number in range(2):
        accept(database, NOW + number * SECOND, State.PROCESSED)
    counts.per_source(now=NOW)
    accept(database, NOW + 2 * SECOND)
    accept(database, NOW + 3 * SECOND, State.PROCESSED)
    (shop,) = counts.per_source(now=NOW + 4 * SECOND)
    assert (shop.states[State.PENDING], shop.states[State.PROCESSED], shop.counted_at) == (1, 2, NOW)


def test_a_large_count_is_shared_for_a_while_and_says_when_it_was_counted(database, monkeypatch):
    monkeypatch.setattr(stats, "MANY", 2)
    monkeypatch.setattr(shared_results, "LEAST_REUSE", 60.0)
    counts = Counts(database, ["shop"])
    for number in range(2):
        accept(database, NOW + number * SECOND)
    assert pending(counts, NOW) == (2, NOW)
    accept(database, NOW + 2 * SECOND)
    assert pending(counts, NOW + SECOND) == (2, NOW)


def test_a_small_count_is_made_anew_for_each_request(database):
    counts = Counts(database, ["shop"])
    for number in range(3):
        accept(database, NOW + number * SECOND)
        assert pending(counts, NOW + number * SECOND) == (number + 1, NOW + number * SECOND)


def test_the_freshness_is_that_of_the_last_processed_delivery_before_the_backlog(database, monkeypatch):
    monkeypatch.setattr(newest_deliveries, "NEWEST_LOOKED_AT", 2)
    accept(database, NOW - 2 * SECOND, State.PROCESSED, occurred_at=NOW - 7 * SECOND)
    accept(database, NOW - SECOND, State.IGNORED)
    for number in range(3):
        accept(database, NOW + number * SECOND)
    (shop,) = Counts(database, ["shop"]).per_source(now=NOW, brief=True)
    assert shop.freshness_seconds == 8.0


@pytest.mark.parametrize(("first", "freshness"), [(State.PROCESSED, 8.0), (State.DEAD, 65.0)])
def test_the_freshness_is_that_of_the_first_round_that_processed_the_delivery(database, first, freshness):
    arrived = NOW - 60 * SECOND
    accept(database, arrived, first, occurred_at=NOW - 65 * SECOND)
    ids, end = [first_id_at(arrived)], {"state": State.PROCESSED.value, "ended_at": NOW}
    with database.write() as connection:
        connection.execute(insert(BODIES).values(delivery_id=ids[0], body=b"{}", headers={}))
    for _ in range(2):
        Inbox(database).replay(ids, now=NOW)
        with database.write() as connection:
            connection.execute(update(DELIVERIES).values(**end))
    (shop,) = Counts(database, ["shop"]).per_source(now=NOW, brief=True)
    assert shop.freshness_seconds == freshness


def test_a_source_that_no_worker_knows_is_found_among_the_deliveries_that_have_been_due_for_longest(
    database, monkeypatch
):
    monkeypatch.setattr(due, "LONGEST_DUE", 2)
    accept(database, NOW, source="gone")
    for number in range(1, 4):
        accept(database, NOW + number * SECOND)
    assert pending_sources(database) == ["gone", "shop"]


def test_the_last_arrivals_of_all_sources_are_read_in_one_statement(database):
    counted = {
        TallyKey("shop", "accepted", ""): KindCount(1),
        TallyKey("mall", "duplicate", ""): KindCount(1),
        TallyKey("kiosk", "refused", ""): KindCount(1),
    }
    minute = tallies.beginning(NOW, tallies.MINUTE)
    with database.write() as connection:
        for back in (5, 1):
            tallies.add(connection, "aaaaaa", counted, at=minute - back * tallies.MINUTE)
        tallies.add(connection, "aaaaaa", {TallyKey("shop", "duplicate", ""): KindCount(1)}, at=minute)
    with database.read() as connection:
        found = tallies.last_arrivals(connection, ["shop", "mall", "kiosk", "it's"], NOW)
        assert found == {"shop": minute, "mall": minute - tallies.MINUTE}
        assert tallies.last_arrivals(connection, [], NOW) == {}
        assert tallies.last_arrivals(connection, ["shop"], minute - SECOND) == {"shop": minute - tallies.MINUTE}


def test_a_reader_s_statement_takes_one_process_of_the_server_and_compiles_nothing(database):
    if not database.is_postgresql:
        pytest.skip("SQLite runs a statement in the process that asks")
    with database.beside(connections=1, seconds=5.0).read() as connection:
        shown = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in ("jit", WORKERS, "statement_timeout")]
    assert shown == ["off", "0", "5s"]
    with database.read() as connection:
        assert connection.exec_driver_sql(f"SHOW {WORKERS}").scalar() != "0"


@pytest.fixture
def long_backlog(database, monkeypatch) -> Database:
    """Two pending deliveries are many, and a search has no time to examine more than the newest one."""
    monkeypatch.setattr("receiver.search.deliveries.MOST_SORTED_PENDING", 1)
    monkeypatch.setattr(windows, "FIRST_WINDOW", 1)
    monkeypatch.setattr(hits, "SECONDS", 0.0)
    monkeypatch.setattr(hits, "KEY_SECONDS", 0.0)
    for seconds in range(2):
        accept(database, NOW + seconds * SECOND, entity_kind="product", entity_id="B1")
    return database


def test_a_search_beside_a_long_backlog_finds_the_ended_deliveries_about_an_entity(long_backlog):
    accept(long_backlog, NOW - SECOND, State.PROCESSED, entity_kind="product", entity_id="A1")
    found = search(long_backlog, {}, "A1")
    assert found.says == "Not in the mirror; at least 1 delivery names it."
    assert [each.row["entity_id"] for each in found.deliveries] == ["A1"]


def test_a_search_that_cannot_examine_a_long_backlog_in_time_says_so(long_backlog):
    accept(long_backlog, NOW - SECOND, entity_kind="product", entity_id="A1")
    says = search(long_backlog, {}, "A1").says
    assert "Not all deliveries could be examined for such an entity in time" in says
    assert "filter the list of deliveries by `entity` to continue" in says
    assert search(long_backlog, {}, "A1").about.horizon is not None


def test_a_row_is_not_said_to_have_no_delivery_if_not_all_could_be_examined_in_time(long_backlog):
    accept(long_backlog, NOW - SECOND, entity_kind="product", entity_id="A1")
    row = {"source": "shop", "external_id": "A1", "active": True, "changed_at": NOW, "tie": False, "versions": "{}"}
    with long_backlog.write() as connection:
        connection.execute(insert(sql_table(Product)), row)
    says = search(long_backlog, {"products": Product}, "A1").says
    assert says.endswith("; no delivery of those that could be examined in time names it.")
