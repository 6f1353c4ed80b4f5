"""A follower whose database fails once, at any transaction, and which is then stopped, loses no change."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from typing import Any

import pytest
from shopping import NOON
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from targets import OK, Endpoint, Posted, Reply, receiving
from waiting import TIMEOUT

from receiver.database.database import Database
from receiver.following.dead_changes import DEAD_CHANGES
from receiver.following.followers import FOLLOWERS
from receiver.following.following import Following
from receiver.following.lease import FollowOptions
from receiver.following.target import Target
from receiver.mirror.changes import RowChange, record

#: The ids of the rows that change, in order.
CHANGED = ["A", "BAD", "C", "BAD", "D"]


@pytest.fixture
def database(mirror_url: str) -> Iterator[Database]:
    with closing(Database(mirror_url)) as opened:
        rows = [RowChange("products", "shop", each, "update", {}, {"active": True}, None, NOON) for each in CHANGED]
        with opened.write() as connection:
            record(connection, rows, now=NOON)
        yield opened


class FailingOnce:
    """Makes one write transaction fail, by its number, and stops the process at once."""

    def __init__(self, database: Database, number: int, when: str, stopping: threading.Event) -> None:
        self._write, self._number, self._when, self._stopping = database.write, number, when, stopping
        self._begun = 0

    @property
    def has_failed(self) -> bool:
        return self._begun >= self._number

    @contextmanager
    def write(self) -> Iterator[Any]:
        self._begun += 1
        fails = self._when if self._begun == self._number else ""
        if fails == "begin":
            self._fail()
        with self._write() as connection:
            yield connection
            if fails == "commit":
                self._fail()
        if fails == "answer to the commit":
            self._fail()

    def _fail(self) -> None:
        self._stopping.set()
        raise OperationalError("COMMIT", None, Exception("the server closed the connection"))


def follow(database: Database, endpoint: Endpoint, stopping: threading.Event, name: str, **options: Any) -> None:
    """Follow from the beginning until the last change is accepted, or the process is stopped."""

    def reply(posted: Posted, _: int) -> Reply:
        if posted.change["external_id"] == CHANGED[-1]:
            stopping.set()
        return Reply(422) if posted.change["external_id"] == "BAD" else OK

    endpoint.reply = reply
    # Without this, a lost change would be waited for without end.
    end = threading.Timer(TIMEOUT, stopping.set)
    end.start()
    with closing(Target(endpoint.url, follower=name)) as target:
        usual = {"begin": "start", "poll": 0.01, "first_backoff": 0.01, "tries": 1}
        Following(database, target, FollowOptions(name=name, **{**usual, **options}), stopping=stopping).run()
    end.cancel()


def cursor(database: Database, name: str) -> int:
    with database.read() as connection:
        return int(connection.execute(select(FOLLOWERS.c.seq).where(FOLLOWERS.c.name == name)).scalar() or 0)


def states(database: Database, name: str) -> dict[int, str]:
    """Return the states of the listed changes by their numbers."""
    found = select(DEAD_CHANGES.c.seq, DEAD_CHANGES.c.state).where(DEAD_CHANGES.c.follower == name)
    with database.read() as connection:
        return {row.seq: row.state for row in connection.execute(found)}


@pytest.mark.parametrize("when", ["begin", "commit", "answer to the commit"])
def test_each_change_is_accepted_or_listed_whichever_transaction_fails_before_the_end(database, monkeypatch, when):
    # Each change is then saved by itself, so that the transactions can be numbered.
    monkeypatch.setattr("receiver.following.lease.SAVE_EVERY", 0.0)
    for number in count(1):
        name, stopping = f"erp{number}", threading.Event()
        failing = FailingOnce(database, number, when, stopping)
        with receiving() as endpoint:
            with monkeypatch.context() as patch:
                patch.setattr(database, "write", failing.write)
                follow(database, endpoint, stopping, name)
            accepted = {posted.change["seq"] for posted in endpoint.accepted}
            passed = set(range(1, cursor(database, name) + 1))
            assert passed <= accepted | states(database, name).keys(), f"transaction {number} failed"
            if cursor(database, name) < len(CHANGED):
                follow(database, endpoint, threading.Event(), name)
            accepted = {posted.change["seq"] for posted in endpoint.accepted}
        assert (accepted, states(database, name)) == ({1, 3, 5}, {2: "dead", 4: "waiting"})
        if not failing.has_failed:
            break


@pytest.mark.parametrize("when", ["begin", "commit"])
def test_a_move_of_the_cursor_is_made_although_the_database_fails_meanwhile(database, monkeypatch, when):
    with receiving() as endpoint:
        follow(database, endpoint, threading.Event(), "erp")
        failing = FailingOnce(database, 1, when, threading.Event())
        monkeypatch.setattr(database, "write", failing.write)
        follow(database, endpoint, threading.Event(), "erp", move=True)
    assert [posted.change["seq"] for posted in endpoint.accepted] == [1, 3, 5, 1, 3, 5]
