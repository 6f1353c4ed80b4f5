"""A process of its own learns from the inbox whether others store many deliveries."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count

import pytest
from waiting import wait_until

from receiver.database.database import Database
from receiver.envelope import Envelope
from receiver.inbox.arrival import Arrival
from receiver.inbox.inbox import Inbox
from receiver.server import arrival_watch
from receiver.server.arrival_watch import MANY_ARRIVALS, MOST_ARRIVALS, ArrivalWatch

numbers = count()


def arrive(database: Database, number: int) -> None:
    Inbox(database).accept([arrival(str(next(numbers))) for _ in range(number)])


def arrival(key: str) -> Arrival:
    now = datetime.now(UTC)
    arriving = Arrival(source="shop", body=b"{}", plain=None, headers={}, received_at=now, secret=0)
    arriving.know(Envelope(event_type="lamp.lit", entity=None, occurred_at=now, data=None, dedup_key=key))
    return arriving


def test_what_was_there_before_the_first_look_makes_no_process_busy(database: Database) -> None:
    arrive(database, 2 * MANY_ARRIVALS)
    watch = ArrivalWatch(database)
    watch.look()
    assert not watch.is_busy()


def test_many_arrivals_between_two_looks_are_busy_and_none_are_not(database: Database) -> None:
    watch = ArrivalWatch(database)
    watch.look()
    arrive(database, MANY_ARRIVALS)
    watch.look()
    assert watch.is_busy()
    watch.look()
    assert not watch.is_busy()


def test_the_utilisation_grows_with_the_arrivals_and_ends_with_them(database: Database) -> None:
    watch = ArrivalWatch(database)
    watch.look()
    assert watch.utilisation() == 0.0
    arrive(database, MOST_ARRIVALS // 10)
    watch.look()
    assert watch.utilisation() == 0.1
    watch.look()
    assert watch.utilisation() == 0.0


def test_more_arrivals_than_any_server_acks_are_counted_no_further(database: Database) -> None:
    watch = ArrivalWatch(database)
    watch.look()
    arrive(database, MOST_ARRIVALS + 1)
    watch.look()
    assert watch.utilisation() == 1.0


def test_a_webhook_now_and_then_slows_no_page(database: Database) -> None:
    watch = ArrivalWatch(database)
    watch.look()
    arrive(database, MANY_ARRIVALS - 1)
    watch.look()
    assert not watch.is_busy()


def test_a_database_that_does_not_answer_is_not_busy(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival_watch, "WATCH_INTERVAL", 0.01)
    watch = ArrivalWatch(database)
    watch.look()
    arrive(database, MANY_ARRIVALS)
    watch.look()
    assert watch.is_busy()
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE deliveries RENAME TO away")
    watch.start()
    try:
        wait_until(lambda: not watch.is_busy(), "a look that fails")
    finally:
        watch.stop()
        with database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO deliveries")
