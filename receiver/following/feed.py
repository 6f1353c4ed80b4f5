"""Reads the change feed for followers: each change as the API shows it, with a unique key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import BigInteger, Connection, RowMapping, literal, select

from receiver.codec import encode
from receiver.database.columns import Many, among, raw_columns
from receiver.database.database import Database
from receiver.database.identity import identity_of
from receiver.following.followers import FeedPlace
from receiver.mirror.changes import CHANGES, feed_end
from receiver.search.changes import follow_changes, mark, mark_of, show_change
from receiver.search.filters import ChangeFilter
from receiver.search.pages import PageBounds

#: Most changes and most bytes of one read.
MOST_ITEMS, MOST_ITEM_BYTES = 200, 1 << 20


class MirrorKey(NamedTuple):
    """The key of a mirror row."""

    table: str
    source: str
    external_id: str


class FeedItem(NamedTuple):
    """One change to be posted."""

    seq: int
    row: MirrorKey
    mark: str
    #: `<identity of the database>:<seq>:<mark>`: the same at every attempt, and unique to this change.
    key: str
    #: The JSON body: `key`, and the members that the API shows.
    body: bytes


class FeedPart(NamedTuple):
    """The changes after a place in the feed."""

    items: list[FeedItem]
    #: The number of the last change examined, matching or not.
    next: int
    #: The number of the newest change.
    end: int


class Feed:
    """Reads the changes that match a follower's filter."""

    def __init__(self, database: Database, wanted: ChangeFilter) -> None:
        self._database = database
        self._wanted = wanted
        self._identity = ""

    def after(self, seq: int) -> FeedPart:
        """Read the changes after the number `seq`, in commit order."""
        found: list[FeedItem] = []
        bounds = PageBounds(behind=(seq,), limit=MOST_ITEMS, most_bytes=MOST_ITEM_BYTES)
        identity = self._database_identity()

        def keep(row: RowMapping) -> int:
            found.append(_item(row, identity))
            return len(found[-1].body)

        page = follow_changes(self._database, self._wanted, keep, bounds)
        return FeedPart(found, page.next, page.end)

    def of_numbers(self, numbers: Sequence[int]) -> list[FeedItem]:
        """Read the changes with these numbers, in commit order."""
        identity = self._database_identity()
        asked = among(CHANGES.c.seq, literal(list(numbers), Many(BigInteger)))
        with self._database.read() as connection:
            found = connection.execute(select(*raw_columns(CHANGES)).where(asked).order_by(CHANGES.c.seq))
            return [_item(row, identity) for row in found.mappings()]

    def place(self, seq: int) -> FeedPlace:
        """The place after the change with this number."""
        with self._database.read() as connection:
            return FeedPlace(seq, mark_of(connection, seq))

    def end(self) -> FeedPlace:
        """The place behind the newest change."""
        with self._database.read() as connection:
            return end_of(connection)

    def _database_identity(self) -> str:
        if not self._identity:
            with self._database.read() as connection:
                self._identity = identity_of(connection)
        return self._identity


def end_of(connection: Connection) -> FeedPlace:
    """The place behind the newest change."""
    seq = feed_end(connection)
    return FeedPlace(seq, mark_of(connection, seq))


def _item(row: RowMapping, identity: str) -> FeedItem:
    marked = mark(row)
    key = f"{identity}:{row['seq']}:{marked}"
    shown = encode(show_change(row))
    body = b'{"key":' + encode(key) + b"," + shown[1:]
    return FeedItem(row["seq"], MirrorKey(row["table"], row["source"], row["external_id"]), marked, key, body)
