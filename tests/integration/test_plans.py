"""No verb of the inbox reads the whole history, as the query plans of the databases show.

`explaining` describes how the plans are obtained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from explaining import Plans, strict
from listed import listed_ids
from sqlalchemy import event, insert, text

from receiver.api.stats import Counts
from receiver.database.database import Database
from receiver.inbox.arrival import Arrival
from receiver.inbox.attempts import AttemptResult
from receiver.inbox.due import pending_sources
from receiver.inbox.ids import first_id_at
from receiver.inbox.inbox import Inbox
from receiver.inbox.leases import Claimed
from receiver.inbox.retention import Retention
from receiver.inbox.tables import BODIES, DEDUP_KEYS, DELIVERIES, SETTLEMENTS, State
from receiver.search.deliveries import delivery
from receiver.search.filters import DeliveryFilter

SOURCE = "shop"
NOW = datetime.now(UTC)

#: The beginning of the history, long before the time of the tests, at which nothing has expired.
BEGAN = NOW - timedelta(days=20)

#: Ended deliveries, one a minute.
HISTORY = 1_000

#: Tables that grow with the history, and the alias that a claim gives one of them.
GROWING = ("deliveries", "busy", "bodies", "dedup_keys", "attempts", "rounds", "settlements")

FINGERPRINT = b"f" * 32


@pytest.fixture(scope="module")
def history(lend_database, tmp_path_factory) -> Iterator[str]:
    """Make a database with a history and statistics, which no test changes."""
    with lend_database(tmp_path_factory.mktemp("history")) as url:
        with closing(Database(url)) as filled:
            _fill(filled)
        yield url


@pytest.fixture
def database(history, copy_database, tmp_path) -> Iterator[Database]:
    """Make a copy of the database with the history."""
    with copy_database(history, tmp_path) as url, closing(Database(strict(url))) as opened:
        yield opened


@pytest.fixture
def inbox(database) -> Inbox:
    return Inbox(database)


@pytest.fixture
def plans(database) -> Plans:
    return Plans(database, GROWING)


def _fill(database: Database) -> None:
    moments = [BEGAN + timedelta(minutes=number) for number in range(HISTORY)]
    ids = [first_id_at(moment) for moment in moments]
    deliveries = [
        {
            "id": delivery_id,
            "source": SOURCE,
            "event_type": "product.updated",
            "entity_kind": "product",
            "entity_id": f"P{number % 50}",
            "occurred_at": moment,
            "received_at": moment,
            "state": _state(number),
            "due_at": moment,
            "ended_at": moment,
            "dedup_key": f"old-{number}",
            "conflict": False,
        }
        for number, (delivery_id, moment) in enumerate(zip(ids, moments, strict=True))
    ]
    alike = {"worker": "worker", "release": "0.1", "settle_us": 1, "attempts": []}
    settlements = [{"ended_at": moment, "id": number, **alike} for number, moment in enumerate(moments)]
    keys = [
        {"source": SOURCE, "dedup_key": f"old-{number}", "fingerprint": FINGERPRINT, "delivery_id": delivery_id}
        for number, delivery_id in enumerate(ids)
    ]
    bodies = [{"delivery_id": delivery_id, "body": b"{}", "plain": None, "headers": {}} for delivery_id in ids]
    with database.write() as connection:
        connection.execute(insert(DELIVERIES), deliveries)
        connection.execute(insert(DEDUP_KEYS), keys)
        connection.execute(insert(BODIES), bodies)
        connection.execute(insert(SETTLEMENTS), settlements)
        if database.is_postgresql:
            # SQLite gets no statistics, because it has none in production.
            connection.execute(text("ANALYZE"))


def _state(number: int) -> str:
    return State.DEAD if number % 100 == 0 else State.IGNORED if number % 10 == 0 else State.PROCESSED


def arrival(key: str, *, fingerprint: bytes = FINGERPRINT) -> Arrival:
    arriving = Arrival(source=SOURCE, body=b"{}", plain=None, headers={}, received_at=NOW, secret=0)
    arriving.event_type, arriving.entity, arriving.occurred_at = "product.updated", ("product", key), NOW
    arriving.dedup_key, arriving.fingerprint = key, fingerprint
    return arriving


def accept_new(inbox: Inbox) -> None:
    inbox.accept([arrival(f"new-{number}") for number in range(20)])


def claim(inbox: Inbox) -> list[Claimed]:
    return inbox.claim("worker", [SOURCE], limit=10, now=datetime.now(UTC), lease=timedelta(minutes=1))


def look_for_work(inbox: Inbox) -> None:
    assert inbox.due([SOURCE], now=datetime.now(UTC)).ordinary


def settle(inbox: Inbox) -> None:
    ids = [delivery.id for delivery in claim(inbox)]
    inbox.extend("worker", ids, until=NOW + timedelta(hours=1))
    with inbox.database.write() as connection:
        held = inbox.held(connection, "worker", ids)
        endings = [AttemptResult(delivery_id, State.PROCESSED, outcome="applied") for delivery_id in sorted(held)]
        inbox.settle(connection, "worker", endings, now=NOW)
    assert len(held) == 10


def give_back(inbox: Inbox) -> None:
    claim(inbox)
    inbox.release("worker")


def reclaim(inbox: Inbox) -> None:
    claim(inbox)
    assert inbox.workers() == ["worker"]
    assert len(inbox.reclaim(now=NOW + timedelta(days=1), dead=[], max_attempts=10)) == 10


def replay(inbox: Inbox) -> None:
    assert inbox.replay([first_id_at(BEGAN)], now=NOW) == 1


def replay_again(inbox: Inbox) -> None:
    replay(inbox)
    with inbox.database.write() as connection:
        connection.execute(text("UPDATE deliveries SET state = 'dead' WHERE id = :id"), {"id": first_id_at(BEGAN)})
    replay(inbox)


def try_now(inbox: Inbox) -> None:
    ids = [delivery.id for delivery in claim(inbox)]
    inbox.release("worker")
    with inbox.database.write() as connection:
        assert inbox.try_now(connection, ids, now=NOW - timedelta(days=1)) == 10


def read_rounds(inbox: Inbox) -> None:
    replay(inbox)
    found = delivery(inbox.database, first_id_at(BEGAN))
    assert found is not None
    assert len(found.rounds) == 2


@pytest.mark.parametrize(
    "work",
    [accept_new, look_for_work, claim, settle, give_back, reclaim, replay, replay_again, try_now, read_rounds],
    ids=lambda work: work.__name__,
)
def test_a_worker_s_verbs_use_an_index(inbox, plans, work: Callable[[Inbox], object]):
    accept_new(inbox)
    plans.forget()
    work(inbox)
    assert plans.statements
    assert plans.scans == []


def test_duplicates_are_found_by_their_keys(inbox, plans):
    again = [arrival(f"old-{number}") for number in range(90, 110)]
    answers = inbox.accept([*again, arrival("fresh"), arrival("old-5", fingerprint=b"g" * 32)])
    assert [answer.status for answer in answers] == ["duplicate"] * 20 + ["accepted"] * 2
    assert plans.scans == []


def test_retention_begins_with_the_oldest(database, plans):
    retention = Retention(bodies=timedelta(days=30), dedup_keys=timedelta(days=400))
    assert retention.prune(database, now=BEGAN + timedelta(days=31)) == 500
    assert sum(iter(lambda: retention.prune(database, now=BEGAN + timedelta(days=32)), 0)) == 500
    assert retention.prune(database, now=BEGAN + timedelta(days=402)) == 500
    assert plans.scans == []


def test_open_deliveries_are_counted_and_listed_without_reading_ended_ones(inbox, database, plans):
    accept_new(inbox)
    claim(inbox)
    plans.forget()
    (told,) = Counts(database, [SOURCE]).per_source(now=NOW, brief=True)
    assert (told.states[State.PENDING], told.states[State.PROCESSING]) == (10, 10)
    assert pending_sources(database) == [SOURCE]
    assert [scan for scan in plans.scans if "'pending'" in scan or "'processing'" in scan] == []


@pytest.mark.parametrize("wanted", [DeliveryFilter(), DeliveryFilter(source=SOURCE), DeliveryFilter(state=State.DEAD)])
def test_the_api_reads_the_newest_page_from_the_end_of_an_index(database, wanted):
    sorts: list[str] = []

    def explain(connection, _cursor, sql, parameters, *_):
        prefix = "EXPLAIN " if database.is_postgresql else "EXPLAIN QUERY PLAN "
        lines = [row[-1] for row in connection.connection.driver_connection.execute(prefix + sql, parameters)]
        sorts.extend(line for line in lines if "Sort" in line or "TEMP B-TREE" in line)

    event.listen(database.engine, "before_cursor_execute", explain)
    assert len(listed_ids(database, wanted, limit=5)) == 5
    assert sorts == []


@pytest.mark.parametrize("entity", ["1", "product:1"])
def test_the_deliveries_about_one_entity_are_found_by_an_index(inbox, database, plans, entity):
    claim(inbox)
    plans.forget()
    listed_ids(database, DeliveryFilter(entity=entity), limit=5)
    assert (plans.statements > 0, plans.scans) == (True, [])


def test_a_later_page_is_found_by_its_cursor(database, plans):
    assert listed_ids(database, before=first_id_at(BEGAN), limit=5) == []
    assert plans.scans == []
