"""Windows: which deliveries arrived before a question to the source, and which before its answer.

A row is not written from an answer if a delivery about it arrived in between, because the delivery may be newer than
the answer, whatever the clocks show (docs/decisions/0028).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import BigInteger, Connection, Text, bindparam, func, select

from receiver.database.columns import Many, among
from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.inbox.ids import first_id_at
from receiver.inbox.tables import DELIVERIES, OF_SOURCES, State, in_state
from receiver.mirror.changes import CHANGES
from receiver.mirror.rows import Key, table_name
from receiver.mirror.versions import Rank, Version, microseconds


class Window(NamedTuple):
    """The newest delivery and change when a question was asked, independent of clocks."""

    #: The newest delivery of the source.
    low: int
    #: The newest change of the mirror.
    seq: int

    def version(self, rank: Rank, as_of: datetime) -> Version:
        """The version of news from the answer: newer than every delivery that arrived before the question."""
        return Version(microseconds(as_of), int(rank), max(self.low + 1, first_id_at(as_of)))


def open_window(database: Database, source: str) -> Window:
    """Open a window at the present newest delivery and change."""

    def read() -> Window:
        with database.read() as connection:
            low = connection.execute(_NEWEST_DELIVERY, {"source": source}).scalar()
            return Window(low or 0, connection.execute(_NEWEST_CHANGE).scalar() or 0)

    return retry_transaction(read)


def told_since(connection: Connection, source: str, window: Window, keys: Collection[Key], ids: set[str]) -> set[str]:
    """The entity ids with a delivery since the window opened, and the keys that a delivery has changed since.

    Ignored and dead deliveries do not count. Other machines may draw delivery ids below `low`, and some deliveries
    concern more than their entity, so the changes that deliveries made count, too.
    """
    given = {"source": source, "low": window.low, "ids": sorted(ids)}
    told = set(connection.execute(_TOLD, given).scalars())
    for name in {table_name(key.table) for key in keys}:
        of_table = sorted(key.external_id for key in keys if table_name(key.table) == name)
        changed = {"table": name, "source": source, "seq": window.seq, "ids": of_table}
        told.update(connection.execute(_CHANGED, changed).scalars())
    return told


def pending_among(connection: Connection, source: str, ids: Iterable[str]) -> set[str]:
    """Those of the entity ids with pending or processing deliveries."""
    given = {"sources": [source], "ids": sorted(ids)}
    return {each for waiting in _WAITING for each in connection.execute(waiting, given).scalars()}


_IDS = bindparam("ids", type_=Many(Text))

_NEWEST_DELIVERY = select(func.max(DELIVERIES.c.id)).where(DELIVERIES.c.source == bindparam("source"))

_NEWEST_CHANGE = select(func.max(CHANGES.c.seq))

_TOLD = (
    select(DELIVERIES.c.entity_id)
    .where(
        DELIVERIES.c.source == bindparam("source"),
        DELIVERIES.c.id > bindparam("low", type_=BigInteger),
        DELIVERIES.c.state.not_in([State.IGNORED.value, State.DEAD.value]),
        among(DELIVERIES.c.entity_id, _IDS),
    )
    .distinct()
)

_CHANGED = (
    select(CHANGES.c.external_id)
    .where(
        CHANGES.c.table == bindparam("table"),
        CHANGES.c.source == bindparam("source"),
        CHANGES.c.seq > bindparam("seq", type_=BigInteger),
        CHANGES.c.delivery_id.is_not(None),
        among(CHANGES.c.external_id, _IDS),
    )
    .distinct()
)

# One query per state, because each has a partial index of its few rows.
_WAITING = [
    select(DELIVERIES.c.entity_id).where(in_state(state), OF_SOURCES, among(DELIVERIES.c.entity_id, _IDS)).distinct()
    for state in (State.PENDING, State.PROCESSING)
]
