"""Content that the database refuses: only its own delivery is affected, and it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from trouble import refusing

from receiver.database.database import Database
from receiver.database.schema import Schema
from receiver.errors import Unavailable
from receiver.inbox.arrival import Accepted, Arrival
from receiver.inbox.inbox import Inbox
from receiver.inbox.tables import DELIVERIES
from receiver.ingest.group_commit import GroupCommit

#: Seconds that nothing takes unless it is broken.
BOUND = 30.0

#: Text that no column of PostgreSQL accepts, and that SQLite's driver accepts in part.
ODD: dict[str, dict[str, Any]] = {
    "NUL in the event type": {"event_type": "a\0b"},
    "a lone surrogate in the id": {"entity": ("product", "\ud800")},
    "NUL in the dedup key": {"dedup_key": "k\0"},
    "a lone surrogate in a header": {"headers": {"user-agent": "\udfff"}},
    "a number out of range": {"secret": 2**70},
    "a number of the wrong type": {"secret": "newest"},
    "an entity that is text": {"entity": "p"},
    "a time that is text": {"occurred_at": "2026-06-01T12:00:00Z"},
    "a state that is text": {"state": "pending"},
}


@pytest.fixture
def database(mirror_url) -> Iterator[Database]:
    with closing(Database(mirror_url)) as opened:
        Schema(opened).upgrade()
        yield opened


def arrival(name: str, **parts: Any) -> Arrival:
    usual = {
        "source": "shop",
        "body": name.encode(),
        "plain": None,
        "headers": {"user-agent": "x"},
        "received_at": datetime.now(UTC),
        "secret": 0,
        "dedup_key": name,
        "fingerprint": name.encode(),
        "event_type": "product.updated",
        "entity": ("product", name),
    }
    return Arrival(**usual | parts)


def accepted(inbox: Any, arrivals: Sequence[Arrival]) -> list[Accepted | BaseException]:
    """Return the answer to each sender, when all arrivals come in one batch."""

    async def play() -> list[Accepted | BaseException]:
        accepting = GroupCommit(inbox)
        accepting.start()
        waiting: list[asyncio.Future[Accepted]] = [asyncio.get_running_loop().create_future() for _ in arrivals]
        accepting.accept(list(zip(arrivals, waiting, strict=True)))
        try:
            return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), BOUND)
        finally:
            await asyncio.to_thread(accepting.stop)

    return asyncio.run(play())


def kept(database: Database) -> dict[str, Any]:
    """Return the deliveries by their bodies."""
    with database.read() as connection:
        rows = connection.execute(
            text("SELECT body, state, reason, event_type, entity_id FROM deliveries JOIN bodies ON id = delivery_id")
        ).all()
    return {bytes(row.body).decode(): row for row in rows}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_odd_content_stops_no_other_delivery_and_is_kept(database, odd):
    answers = accepted(Inbox(database), [arrival("a"), arrival("odd", **odd), arrival("b")])
    assert [answer.status for answer in answers] == ["accepted"] * 3
    found = kept(database)
    assert found.keys() == {"a", "odd", "b"}
    assert (found["a"].state, found["b"].state) == ("pending", "pending")
    assert found["odd"].state in ("dead", "pending")
    if found["odd"].state == "dead":
        assert found["odd"].reason.startswith("The database refused its content: ")
        assert (found["odd"].event_type, found["odd"].entity_id) == (None, None)


def test_a_delivery_whose_names_the_database_refuses_is_dead_with_the_reason(database):
    with refusing(database, "deliveries", "no such event here", row="NEW.event_type = 'product.odd'"):
        news = [arrival("a"), arrival("odd", event_type="product.odd"), arrival("b")]
        assert [answer.status for answer in accepted(Inbox(database), news)] == ["accepted"] * 3
    odd = kept(database)["odd"]
    assert (odd.state, odd.reason) == ("dead", "The database refused its content: no such event here")


def test_a_delivery_that_the_database_refuses_entirely_is_answered_with_503_alone(database):
    with refusing(database, "bodies", "not this body", row="length(NEW.body) = 3"):
        answers = accepted(Inbox(database), [arrival("a"), arrival("odd"), arrival("b")])
    assert [type(answer) for answer in answers] == [Accepted, Unavailable, Accepted]
    assert kept(database).keys() == {"a", "b"}


def test_the_same_odd_content_again_is_a_duplicate(database):
    odd = {"event_type": "product.odd"}
    with refusing(database, "deliveries", "no such event here", row="NEW.event_type = 'product.odd'"):
        first = accepted(Inbox(database), [arrival("odd", **odd)])
        again = accepted(Inbox(database), [arrival("a"), arrival("odd", **odd)])
    assert [answer.status for answer in (*first, *again)] == ["accepted", "accepted", "duplicate"]
    assert again[1].delivery_id == first[0].delivery_id


def test_after_an_infrastructure_error_the_remaining_arrivals_are_answered_with_503(database):
    """The arrivals are not tried one by one against a database that is away."""
    inbox, tried = Inbox(database), []

    class Going:
        def accept(self, batch: Sequence[Arrival]) -> list[Accepted]:
            if len(batch) > 1:
                raise ValueError("somebody's content")
            tried.append(batch[0].dedup_key)
            if batch[0].dedup_key == "b":
                raise OperationalError("", None, Exception("gone"))
            return inbox.accept(batch)

    answers = accepted(Going(), [arrival(name) for name in "abcd"])
    assert [type(answer) for answer in answers] == [Accepted, Unavailable, Unavailable, Unavailable]
    assert tried == ["a", "b"]
    with database.read() as connection:
        assert len(connection.execute(DELIVERIES.select()).all()) == 1
